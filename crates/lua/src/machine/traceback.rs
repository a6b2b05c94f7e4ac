//! The tracebacks of failed scripts, in ngx_lua's format.

use std::mem::MaybeUninit;

use mlua_sys as ffi;
use mlua_sys::{lua_Debug, lua_State};

use super::bridge::Bridge;
use super::stack;

/// The largest number of frames shown.
const DEPTH: usize = 22;
/// The largest number of coroutines shown (NGX_HTTP_LUA_BT_MAX_COROS).
pub(crate) const MOST_COROUTINES: usize = 5;

/// Takes the coroutines that the error value at the top has left by `coroutine.wrap`, from the innermost.
///
/// # Safety
/// `state` must be a stack with an error value on it and three free slots, `trail` the registry's reference to the table.
pub(super) unsafe fn take_trail(state: *mut lua_State, trail: i32) -> Vec<*mut lua_State> {
    let mut found = Vec::new();
    // SAFETY: the caller vouches for both; raw accesses to a table raise no errors, and setting nil allocates nothing.
    unsafe {
        ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, trail);
        ffi::lua_rawgeti_(state, -1, 1);
        let is_this = ffi::lua_rawequal(state, -1, -3) != 0;
        ffi::lua_pop(state, 1);
        for at in (1..=ffi::lua_objlen(state, -1) as i32).rev() {
            ffi::lua_rawgeti_(state, -1, at);
            let coroutine = ffi::lua_tothread(state, -1);
            ffi::lua_pop(state, 1);
            if is_this && at > 1 && !coroutine.is_null() {
                found.push(coroutine);
            }
            ffi::lua_pushnil(state);
            ffi::lua_rawseti_(state, -2, at);
        }
        ffi::lua_pop(state, 1);
    }
    found.reverse();
    found
}

/// Returns the traceback of coroutines, the one that failed first:
/// `stack traceback:\ncoroutine 0:\n\t[C]: in function 'error'\n\t…: in main chunk`. `entry` is the one that a script began
/// in.
///
/// # Safety
/// All must be coroutines whose frames are intact.
pub(super) unsafe fn of_coroutines(all: &[*mut lua_State], entry: Option<*mut lua_State>) -> Vec<u8> {
    let mut text = b"stack traceback:".to_vec();
    for (number, state) in all.iter().take(MOST_COROUTINES).enumerate() {
        text.extend_from_slice(format!("\ncoroutine {number}:").as_bytes());
        // SAFETY: the caller vouches for the frames.
        unsafe { write_frames(*state, entry == Some(*state), &mut text) };
    }
    let mut tidied = Vec::with_capacity(text.len());
    tidy(&text, &mut tidied);
    tidied
}

/// Appends the frames of a coroutine, a line each.
///
/// # Safety
/// Its frames must be intact.
unsafe fn write_frames(state: *mut lua_State, is_entry: bool, text: &mut Vec<u8>) {
    for level in 0.. {
        let mut frame = MaybeUninit::<lua_Debug>::zeroed();
        // SAFETY: the caller vouches for the frames; lua_getstack and lua_getinfo fill in the struct.
        let frame = unsafe {
            if ffi::lua_getstack(state, level, frame.as_mut_ptr()) == 0 {
                break;
            }
            if level as usize >= DEPTH {
                text.extend_from_slice(b"\n\t...");
                break;
            }
            ffi::lua_getinfo(state, c"Snl".as_ptr(), frame.as_mut_ptr());
            frame.assume_init()
        };
        // SAFETY: LuaJIT owns these strings while the frame exists.
        unsafe { write_frame(&frame, is_entry, text) };
    }
}

/// The beginning of lines about our own Lua sources.
const OWN: &[u8] = b"\t(ngx.";

/// Appends a traceback in which the frames of our own Lua sources are one C function, as most of these functions are in
/// ngx_lua; where inside of them the error was raised is of no use to the script's author.
fn tidy(text: &[u8], out: &mut Vec<u8>) {
    let mut lines = text.split(|&byte| byte == b'\n').peekable();
    let mut is_first = true;
    while let Some(line) = lines.next() {
        if !std::mem::take(&mut is_first) {
            out.push(b'\n');
        }
        let is_ours = line.starts_with(OWN);
        let leads_to_ours =
            line.starts_with(b"\t[C]:") && lines.peek().is_some_and(|next| next.starts_with(OWN));
        if !is_ours && !leads_to_ours {
            out.extend_from_slice(line);
            continue;
        }
        let mut last = line;
        while let Some(next) = lines.next_if(|next| next.starts_with(OWN)) {
            last = next;
        }
        out.extend_from_slice(b"\t[C]:");
        match last.windows(IN_FUNCTION.len()).position(|part| part == IN_FUNCTION) {
            Some(name) => out.extend_from_slice(&last[name..]),
            None => out.extend_from_slice(b" ?"),
        }
    }
}

const IN_FUNCTION: &[u8] = b" in function '";

/// The C function `tidy(text)`, for `debug.traceback`.
///
/// # Safety
/// Only Lua calls it, as a C function whose upvalue is the machine's bridge.
pub(crate) unsafe extern "C-unwind" fn tidied(state: *mut lua_State) -> i32 {
    // SAFETY: the text stays on the stack; the buffer is the bridge's, which an error does not free.
    unsafe {
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        let text = stack::bytes(state, 1).unwrap_or_default();
        let buffer = &mut (*bridge).buffer;
        buffer.clear();
        tidy(text, buffer);
        stack::push(state, buffer);
    }
    1
}

unsafe fn write_frame(frame: &lua_Debug, is_entry: bool, text: &mut Vec<u8>) {
    // SAFETY: the caller vouches for the strings in the frame.
    let (source, name_kind, name, kind) = unsafe {
        (
            stack::c_bytes(frame.short_src.as_ptr()),
            stack::c_bytes(frame.namewhat),
            stack::c_bytes(frame.name),
            stack::c_bytes(frame.what),
        )
    };
    text.extend_from_slice(b"\n\t");
    text.extend_from_slice(source);
    text.push(b':');
    if frame.currentline > 0 {
        text.extend_from_slice(frame.currentline.to_string().as_bytes());
        text.push(b':');
    }
    if !name_kind.is_empty() {
        text.extend_from_slice(b" in function '");
        text.extend_from_slice(name);
        text.push(b'\'');
    } else if kind == b"main" || (is_entry && is_script_body(source, frame.linedefined)) {
        text.extend_from_slice(b" in main chunk");
    } else if kind == b"C" || kind == b"tail" {
        text.extend_from_slice(b" ?");
    } else {
        text.extend_from_slice(b" in function <");
        text.extend_from_slice(source);
        text.push(b':');
        text.extend_from_slice(frame.linedefined.to_string().as_bytes());
        text.push(b'>');
    }
}

/// Inline scripts are bodies of functions here (see `chunk`), but main chunks to their authors.
fn is_script_body(source: &[u8], line: i32) -> bool {
    line == 1 && source.windows(8).any(|part| part == b"_by_lua(")
}

/// Pushes the message handler of calls that cannot wait: it appends `debug.traceback` to messages that are strings.
///
/// # Safety
/// `state` must be a live stack with a free slot.
pub(super) unsafe fn push_handler(state: *mut lua_State) {
    // SAFETY: the caller vouches for the stack.
    unsafe { ffi::lua_pushcfunction(state, add_traceback) }
}

unsafe extern "C-unwind" fn add_traceback(state: *mut lua_State) -> i32 {
    // SAFETY: LuaJIT calls this with the error value as its only argument; nothing here needs dropping.
    unsafe {
        if ffi::lua_isstring(state, 1) == 0 {
            return 1;
        }
        ffi::lua_getglobal_(state, c"debug".as_ptr());
        if ffi::lua_istable(state, -1) == 0 {
            ffi::lua_settop(state, 1);
            return 1;
        }
        ffi::lua_getfield_(state, -1, c"traceback".as_ptr());
        if ffi::lua_isfunction(state, -1) == 0 {
            ffi::lua_settop(state, 1);
            return 1;
        }
        ffi::lua_pushvalue(state, 1);
        // Leaves this function out of the traceback.
        ffi::lua_pushinteger(state, 2);
        ffi::lua_call(state, 2, 1);
        1
    }
}
