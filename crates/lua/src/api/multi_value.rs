//! Arguments and headers as Lua tables, in which a name that comes several times has a list of values.

use std::ffi::c_int;

use mlua_sys as ffi;
use mlua_sys::lua_State;

use crate::codec::args::Args;
use crate::codec::uri;
use crate::machine::bridge::Bridge;
use crate::machine::stack;

/// Puts the arguments of `query` into the table at the top of the stack, and returns whether there are more than `max`.
///
/// # Safety
/// `state` must be a live stack with a table at the top and four free slots; `scratch` must not be freed by an unwind.
pub(super) unsafe fn push_args(state: *mut lua_State, query: &[u8], max: u32, scratch: &mut Vec<u8>) -> bool {
    let mut args = Args::new(query, max);
    for argument in args.by_ref() {
        scratch.clear();
        uri::unescape(argument.name, scratch);
        // SAFETY: the caller vouches for the stack; strings are copied.
        unsafe {
            stack::push(state, scratch);
            match argument.value {
                Some(value) => {
                    scratch.clear();
                    uri::unescape(value, scratch);
                    stack::push(state, scratch);
                }
                None => ffi::lua_pushboolean(state, 1),
            }
            add_to_multi_value(state);
        }
    }
    args.is_truncated()
}

/// Writes to the debug log that the limit of arguments was reached.
///
/// # Safety
/// `bridge` must be a machine's.
pub(super) unsafe fn log_args_limit(bridge: *mut Bridge, max: u32) {
    const DEBUG: u8 = 8;
    // SAFETY: the caller vouches for the bridge; nothing else of it is in use.
    let world = unsafe { &(*bridge).world };
    if world.logs(DEBUG) {
        world.log(DEBUG, format!("lua hit query args limit {max}").as_bytes());
    }
}

/// Writes to the debug log that a limit was exceeded.
///
/// # Safety
/// `bridge` must be a machine's.
pub(super) unsafe fn log_limit(bridge: *mut Bridge, what: &str, found: usize, max: usize) {
    const DEBUG: u8 = 8;
    // SAFETY: the caller vouches for the bridge; nothing else of it is in use.
    let world = unsafe { &(*bridge).world };
    if world.logs(DEBUG) {
        world.log(DEBUG, format!("lua exceeding {what} limit {found} > {max}").as_bytes());
    }
}

/// Adds headers to the table at the top, which has `count` and may have `max`. Returns the number of results: 2 with
/// "truncated", else 1.
///
/// # Safety
/// `state` must be a live stack with a table at the top and five free slots; `buffer` must not be freed by an unwind.
pub(super) unsafe fn push_headers(
    state: *mut lua_State,
    headers: &http::Headers,
    raw: bool,
    max: usize,
    mut count: usize,
    buffer: &mut Vec<u8>,
) -> c_int {
    for (_, name, value) in headers.iter() {
        // SAFETY: the caller vouches for the stack; strings are copied.
        unsafe {
            if max > 0 && count >= max {
                ffi::lua_pushliteral(state, c"truncated");
                return 2;
            }
            count += 1;
            buffer.clear();
            buffer.extend_from_slice(name);
            if !raw {
                buffer.make_ascii_lowercase();
            }
            stack::push(state, buffer);
            stack::push(state, value);
            add_to_multi_value(state);
        }
    }
    1
}

/// Takes the name and value at the top and sets them in the table below; a name that is there gets a list.
///
/// # Safety
/// `state` must be a live stack that looks so, with two free slots.
unsafe fn add_to_multi_value(state: *mut lua_State) {
    // SAFETY: the caller vouches for the stack.
    unsafe {
        ffi::lua_pushvalue(state, -2);
        ffi::lua_rawget_(state, -4);
        match ffi::lua_type(state, -1) {
            ffi::LUA_TNIL => {
                ffi::lua_pop(state, 1);
                ffi::lua_rawset(state, -3);
            }
            ffi::LUA_TTABLE => {
                ffi::lua_insert(state, -2);
                ffi::lua_rawseti_(state, -2, ffi::lua_objlen(state, -2) as c_int + 1);
                ffi::lua_pop(state, 2);
            }
            _ => {
                ffi::lua_createtable(state, 4, 0);
                ffi::lua_insert(state, -2);
                ffi::lua_rawseti_(state, -2, 1);
                ffi::lua_insert(state, -2);
                ffi::lua_rawseti_(state, -2, 2);
                ffi::lua_rawset(state, -3);
            }
        }
    }
}
