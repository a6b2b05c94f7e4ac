//! Moving bytes to and from a Lua stack.
//!
//! Nothing here checks phases or decides anything. Functions that can raise a Lua error say so: while they run, no
//! Rust value that needs dropping may be alive in the frames above, because LuaJIT unwinds past them.

use std::ffi::{CStr, c_int};

use mlua_sys as ffi;
use mlua_sys::lua_State;

/// Returns the bytes of the string or number at `index`; a number becomes a string in place (`lua_tolstring`).
///
/// # Safety
/// `state` must be a live stack; the slice is valid only as long as the value stays on it.
pub(crate) unsafe fn bytes<'a>(state: *mut lua_State, index: c_int) -> Option<&'a [u8]> {
    let mut len = 0;
    // SAFETY: the caller vouches for the stack; LuaJIT returns null or `len` readable bytes.
    unsafe {
        let start = ffi::lua_tolstring(state, index, &mut len);
        if start.is_null() { None } else { Some(std::slice::from_raw_parts(start.cast(), len)) }
    }
}

/// Pushes a string. Raises an error when memory runs out.
///
/// # Safety
/// `state` must be a live stack with a free slot.
pub(crate) unsafe fn push(state: *mut lua_State, bytes: &[u8]) {
    // SAFETY: the caller vouches for the stack; LuaJIT copies the bytes.
    unsafe { ffi::lua_pushlstring_(state, bytes.as_ptr().cast(), bytes.len()) }
}

/// Pops the error value at the top and returns it as text; ngx_lua logs "unknown reason" if it is no string.
///
/// # Safety
/// `state` must be a live stack with a value on it.
pub(crate) unsafe fn pop_error(state: *mut lua_State) -> Vec<u8> {
    // SAFETY: the caller vouches for the stack; the text is copied before it is popped.
    unsafe {
        let text = error_text(state);
        ffi::lua_pop(state, 1);
        text
    }
}

/// Returns the error value at the top as [`pop_error`] does, and leaves it there.
///
/// # Safety
/// As for [`pop_error`].
pub(crate) unsafe fn error_text(state: *mut lua_State) -> Vec<u8> {
    // SAFETY: the caller vouches for the stack; a number is made a string of a copy.
    unsafe {
        let text = match ffi::lua_type(state, -1) {
            ffi::LUA_TSTRING => bytes(state, -1).map(<[u8]>::to_vec),
            ffi::LUA_TNUMBER => {
                ffi::lua_pushvalue(state, -1);
                let text = bytes(state, -1).map(<[u8]>::to_vec);
                ffi::lua_pop(state, 1);
                text
            }
            _ => None,
        };
        text.unwrap_or_else(|| b"unknown reason".to_vec())
    }
}

/// Returns the text of a C string that LuaJIT owns.
///
/// # Safety
/// `text` must be null or point to a NUL-terminated string that outlives the use of the result.
pub(crate) unsafe fn c_bytes<'a>(text: *const std::ffi::c_char) -> &'a [u8] {
    if text.is_null() {
        return b"";
    }
    // SAFETY: the caller vouches for the string.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// Raises `text` as an error, with the position of the code at `level` of the stack before it: 0 in a hook, 1 in a C
/// function for the code that called it.
///
/// # Safety
/// `state` must be the stack that runs, and nothing that needs dropping may be alive above.
pub(crate) unsafe fn raise_at(state: *mut lua_State, level: c_int, text: &[u8]) -> ! {
    // SAFETY: two slots are always free here; the text is copied before the unwinding starts.
    unsafe {
        ffi::luaL_where(state, level);
        push(state, text);
        ffi::lua_concat(state, 2);
        ffi::lua_error(state)
    }
}
