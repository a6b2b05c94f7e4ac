//! Loading scripts: their names in tracebacks, and how inline code becomes a function.

use std::ffi::{CString, c_int};

use mlua_sys as ffi;
use mlua_sys::lua_State;

use super::stack;

/// A script loaded into one machine, valid for that machine's lifetime only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chunk {
    /// The registry's reference to its function.
    pub(crate) function: c_int,
}

impl Chunk {
    /// No script.
    pub(crate) const NONE: Chunk = Chunk { function: ffi::LUA_NOREF };
}

/// Why a script could not be loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LoadError {
    /// The compiler's or the system's message, without a prefix.
    pub(crate) text: Vec<u8>,
    /// The status of requests that need it: 404 if there is no such file, 503 if it cannot be read, 500 if the code does
    /// not compile.
    pub(crate) status: u16,
}

/// The longest name that fits LuaJIT's `LUA_IDSIZE` of 60 beside `=(:)`.
const LONGEST: usize = 56;

/// Returns the name of an inline script: `content_by_lua(nginx.conf:54)`.
///
/// `directive` is the name without `_block`; `line` the line on which the code starts; `file` the configuration file
/// as given, `conf_prefix` the directory of the main one with its slash. A file in that directory is named relative
/// to it, any `nginx.conf` by that alone, and a name that would be too long keeps its end behind `...`.
pub(crate) fn chunk_name(directive: &[u8], file: &[u8], conf_prefix: &[u8], line: usize) -> Vec<u8> {
    let line = line.to_string();
    let taken = directive.len() + line.len();
    let cut = |from: usize| -> (&[u8], &[u8]) {
        if file.len() - from + taken > LONGEST {
            let keep = LONGEST.saturating_sub(taken + 3);
            (b"...", &file[file.len() - keep.min(file.len())..])
        } else {
            (b"", &file[from..])
        }
    };
    let (dots, shown): (&[u8], &[u8]) = if file.ends_with(b"/nginx.conf") {
        (b"", b"nginx.conf")
    } else if file.starts_with(conf_prefix) && file.len() > conf_prefix.len() {
        cut(conf_prefix.len())
    } else {
        cut(0)
    };
    [directive, b"(", dots, shown, b":", line.as_bytes(), b")"].concat()
}

/// Loads inline code; leaves its function on the stack.
///
/// The code becomes the body of a function, because LuaJIT compiles those and not main chunks, which take varargs.
/// It is compiled as it is first, so that an error has the author's line and words, and code that uses `...` stays so.
///
/// # Safety
/// `state` must be a live stack of the machine's own thread.
pub(super) unsafe fn load_inline(state: *mut lua_State, code: &[u8], name: &[u8]) -> Result<(), LoadError> {
    let name = named(b"=", name)?;
    let wrapped = [b"return function() ", code, b"\nend"].concat();
    // SAFETY: the caller vouches for the stack; loading raises no error, it returns it.
    unsafe {
        load(state, code, &name)?;
        if load(state, &wrapped, &name).is_err() {
            return Ok(());
        }
        if ffi::lua_pcall(state, 0, 1, 0) != ffi::LUA_OK || ffi::lua_isfunction(state, -1) == 0 {
            ffi::lua_pop(state, 1);
            return Ok(());
        }
        ffi::lua_remove(state, -2);
        Ok(())
    }
}

/// Loads a file's code; leaves its function on the stack. `path` is what tracebacks show.
///
/// # Safety
/// As for [`load_inline`].
pub(super) unsafe fn load_file(state: *mut lua_State, path: &[u8], code: &[u8]) -> Result<(), LoadError> {
    let name = named(b"@", path)?;
    // A first line that starts with `#` is for the shell; its line end stays, so that line numbers do.
    let code = match code.first() {
        Some(b'#') => &code[code.iter().position(|&byte| byte == b'\n').unwrap_or(code.len())..],
        _ => code,
    };
    // SAFETY: the caller vouches for the stack.
    unsafe { load(state, code, &name) }
}

fn named(kind: &[u8], name: &[u8]) -> Result<CString, LoadError> {
    CString::new([kind, name].concat())
        .map_err(|_| LoadError { text: b"the name of the script has a NUL in it".to_vec(), status: 500 })
}

unsafe fn load(state: *mut lua_State, code: &[u8], name: &CString) -> Result<(), LoadError> {
    // SAFETY: the code is `len` readable bytes and the name is NUL-terminated.
    let status = unsafe { ffi::luaL_loadbuffer(state, code.as_ptr().cast(), code.len(), name.as_ptr()) };
    match status {
        ffi::LUA_OK => Ok(()),
        ffi::LUA_ERRMEM => {
            // SAFETY: luaL_loadbuffer left its message.
            unsafe { ffi::lua_pop(state, 1) };
            Err(LoadError { text: b"memory allocation error".to_vec(), status: 500 })
        }
        // SAFETY: as above.
        _ => Err(LoadError { text: unsafe { stack::pop_error(state) }, status: 500 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(file: &str, prefix: &str) -> String {
        String::from_utf8(chunk_name(b"content_by_lua", file.as_bytes(), prefix.as_bytes(), 54)).unwrap()
    }

    #[test]
    fn names_are_those_of_ngx_lua() {
        assert_eq!(name("/p/conf/nginx.conf", "/p/conf/"), "content_by_lua(nginx.conf:54)");
        assert_eq!(name("/elsewhere/nginx.conf", "/p/conf/"), "content_by_lua(nginx.conf:54)");
        assert_eq!(name("/p/conf/sites/a.conf", "/p/conf/"), "content_by_lua(sites/a.conf:54)");
        assert_eq!(name("/q/a.conf", "/p/conf/"), "content_by_lua(/q/a.conf:54)");
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        let long = format!("/p/conf/{}/end.conf", "d".repeat(60));
        let shown = name(&long, "/p/conf/");
        assert!(shown.starts_with("content_by_lua(...ddd"), "{shown}");
        assert!(shown.ends_with("d/end.conf:54)"), "{shown}");
        assert!(shown.len() <= 60, "{shown}");
    }
}
