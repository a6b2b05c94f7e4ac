//! `ngx.log` and `print`: the error log; and values as text, for `ngx.say` and `ngx.print` too.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use mlua_sys as ffi;
use mlua_sys::{lua_Debug, lua_State};

use crate::machine::bridge::Bridge;
use crate::machine::{Area, Function, FunctionTable, NO_ROOM, stack};
use crate::phase::Phases;

pub(super) static AREA: Area = Area {
    name: "console",
    functions: &[
        Function {
            name: "ngx.log",
            phases: Phases::ALL,
            doc: "Writes to the error log at a level from `ngx.STDERR` to `ngx.DEBUG`.",
        },
        Function {
            name: "print",
            phases: Phases::ALL,
            doc: "Writes to the error log at the level `ngx.NOTICE`.",
        },
    ],
    fields: &[],
    source: "local support, table, natives = ... ngx.log, print = natives.log, natives.print",
    table: FunctionTable::NONE,
    natives: &[(c"log", log), (c"print", print)],
};

/// More than a line of the error log ever holds.
const LONGEST_LINE: usize = 64 << 10;

const NOTICE: u8 = 6;
const DEBUG: i64 = 8;

unsafe extern "C-unwind" fn log(state: *mut lua_State) -> c_int {
    // SAFETY: a C function of Lua's; nothing that needs dropping is alive when an error is raised.
    unsafe {
        let level = ffi::luaL_checkinteger(state, 1) as i64;
        if !(0..=DEBUG).contains(&level) {
            let text = ffi::lua_pushfstring(state, c"bad log level: %d".as_ptr(), level as c_int);
            return ffi::luaL_argerror(state, 1, text);
        }
        ffi::lua_remove(state, 1);
        write(state, level as u8)
    }
}

unsafe extern "C-unwind" fn print(state: *mut lua_State) -> c_int {
    // SAFETY: a C function of Lua's.
    unsafe { write(state, NOTICE) }
}

/// Logs the arguments on the stack after the caller's position.
unsafe fn write(state: *mut lua_State, level: u8) -> c_int {
    // SAFETY: the bridge is the upvalue and outlives the machine. Errors are raised only while the one thing that
    // would need dropping, the buffer, belongs to the bridge.
    unsafe {
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        if !(*bridge).world.logs(level) {
            return 0;
        }
        let given = ffi::lua_gettop(state);
        let buffer: *mut Vec<u8> = &mut (*bridge).buffer;
        (*buffer).clear();
        (*buffer).extend_from_slice(b"[lua] ");
        write_position(state, &mut *buffer);
        for index in 1..=given {
            write_for_log(state, index, &mut *buffer);
            (*buffer).truncate(LONGEST_LINE);
        }
        (*bridge).world.log(level, &*buffer);
    }
    0
}

/// Appends the caller's position: `file.lua:12: name(): `.
unsafe fn write_position(state: *mut lua_State, out: &mut Vec<u8>) {
    let mut frame = MaybeUninit::<lua_Debug>::zeroed();
    // SAFETY: a zeroed lua_Debug is valid, and stays so without a caller; else the two calls fill it in.
    let frame = unsafe {
        if ffi::lua_getstack(state, 1, frame.as_mut_ptr()) != 0 {
            ffi::lua_getinfo(state, c"Snl".as_ptr(), frame.as_mut_ptr());
        }
        frame.assume_init()
    };
    // SAFETY: the source lies in the struct; LuaJIT owns the others while the caller's frame exists.
    let (source, name_kind, kind, name) = unsafe {
        (
            stack::c_bytes(frame.short_src.as_ptr()),
            stack::c_bytes(frame.namewhat),
            stack::c_bytes(frame.what),
            stack::c_bytes(frame.name),
        )
    };
    let base = source.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    out.extend_from_slice(&source[base..]);
    out.push(b':');
    push_integer(i64::from(if frame.currentline > 0 { frame.currentline } else { frame.linedefined }), out);
    out.extend_from_slice(b": ");
    if !name_kind.is_empty() && kind.first() == Some(&b'L') {
        out.extend_from_slice(name);
        out.extend_from_slice(b"(): ");
    }
}

/// Appends one argument of `ngx.log`.
unsafe fn write_for_log(state: *mut lua_State, index: c_int, out: &mut Vec<u8>) {
    // SAFETY: the caller vouches for the stack; `out` belongs to the bridge when an error is raised.
    unsafe {
        match ffi::lua_type(state, index) {
            ffi::LUA_TTABLE => {
                if ffi::luaL_callmeta(state, index, c"__tostring".as_ptr()) == 0 {
                    let text = c"expected table to have __tostring metamethod";
                    ffi::luaL_argerror(state, index, text.as_ptr());
                }
                out.extend_from_slice(stack::bytes(state, -1).unwrap_or_default());
                ffi::lua_pop(state, 1);
            }
            kind => {
                if !write_plain(state, index, out) {
                    let text = ffi::lua_pushfstring(
                        state,
                        c"string, number, boolean, or nil expected, got %s".as_ptr(),
                        ffi::lua_typename(state, kind),
                    );
                    ffi::luaL_argerror(state, index, text);
                }
            }
        }
    }
}

/// Appends one argument of `ngx.say` or `ngx.print`: a plain value (see [`write_plain`]) or a nested list of them.
/// Raises an error when there are more than `room` bytes.
///
/// # Safety
/// `state` must be the stack of a C function of Lua's with four free slots. An error may be raised: nothing that needs
/// dropping may be alive above, and `out` must belong to something that outlives the call.
pub(crate) unsafe fn write_for_body(state: *mut lua_State, index: c_int, room: usize, out: &mut Vec<u8>) {
    // SAFETY: the caller vouches for it.
    unsafe {
        match ffi::lua_type(state, index) {
            ffi::LUA_TTABLE => write_list(state, index, index, room, out),
            kind => {
                if !write_plain(state, index, out) {
                    let text = ffi::lua_pushfstring(
                        state,
                        c"string, number, boolean, nil, ngx.null, or array table expected, but got %s"
                            .as_ptr(),
                        ffi::lua_typename(state, kind),
                    );
                    ffi::luaL_argerror(state, index, text);
                }
                check_room(state, room, out);
            }
        }
    }
}

/// Appends a list that is, or is nested in, argument number `argument`.
unsafe fn write_list(state: *mut lua_State, index: c_int, argument: c_int, room: usize, out: &mut Vec<u8>) {
    // SAFETY: see `write_for_body`.
    unsafe {
        ffi::luaL_checkstack_(state, 4, c"too many nested tables".as_ptr());
        let mut last = 0;
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, index) != 0 {
            let key = match ffi::lua_type(state, -2) {
                ffi::LUA_TNUMBER => ffi::lua_tonumber(state, -2),
                _ => 0.0,
            };
            if key < 1.0 || key.floor() != key || key > f64::from(c_int::MAX) {
                ffi::luaL_argerror(state, argument, c"non-array table found".as_ptr());
            }
            last = last.max(key as c_int);
            ffi::lua_pop(state, 1);
        }
        for number in 1..=last {
            ffi::lua_rawgeti_(state, index, number);
            let top = ffi::lua_gettop(state);
            match ffi::lua_type(state, top) {
                ffi::LUA_TTABLE => write_list(state, top, argument, room, out),
                kind => {
                    if !write_plain(state, top, out) {
                        let name = ffi::lua_typename(state, kind);
                        let text = ffi::lua_pushfstring(state, c"bad data type %s found".as_ptr(), name);
                        ffi::luaL_argerror(state, argument, text);
                    }
                    check_room(state, room, out);
                }
            }
            ffi::lua_pop(state, 1);
        }
    }
}

/// Raises an error if more was written than there is room for.
unsafe fn check_room(state: *mut lua_State, room: usize, out: &mut Vec<u8>) {
    if out.len() > room {
        *out = Vec::new();
        // SAFETY: see `write_for_body`.
        unsafe { stack::raise_at(state, 1, NO_ROOM.as_bytes()) }
    }
}

/// Appends a string, number, boolean, nil or `ngx.null`; returns false for anything else.
unsafe fn write_plain(state: *mut lua_State, index: c_int, out: &mut Vec<u8>) -> bool {
    // SAFETY: see `write_for_body`.
    unsafe {
        match ffi::lua_type(state, index) {
            ffi::LUA_TSTRING => out.extend_from_slice(stack::bytes(state, index).unwrap_or_default()),
            ffi::LUA_TNUMBER => write_number(state, index, out),
            ffi::LUA_TNIL => out.extend_from_slice(b"nil"),
            ffi::LUA_TBOOLEAN if ffi::lua_toboolean(state, index) != 0 => out.extend_from_slice(b"true"),
            ffi::LUA_TBOOLEAN => out.extend_from_slice(b"false"),
            // Other light userdata is skipped silently, as in ngx_lua.
            ffi::LUA_TLIGHTUSERDATA if ffi::lua_touserdata(state, index).is_null() => {
                out.extend_from_slice(b"null")
            }
            ffi::LUA_TLIGHTUSERDATA => {}
            _ => return false,
        }
    }
    true
}

/// Appends a number as ngx_lua writes it: an integer in full, any other as C's `%.14g`.
unsafe fn write_number(state: *mut lua_State, index: c_int, out: &mut Vec<u8>) {
    /// Below this `%.14g` writes every integer out.
    const FULL: f64 = 1e14;
    // SAFETY: see `write_for_body`; the copy is turned into a string, not the argument.
    unsafe {
        let number = ffi::lua_tonumber(state, index);
        if number.floor() == number && number.abs() < FULL {
            push_integer(number as i64, out);
            return;
        }
        if number.is_nan() {
            // LuaJIT drops the sign, C does not.
            out.extend_from_slice(if number.is_sign_negative() { b"-nan" } else { b"nan" });
            return;
        }
        ffi::lua_pushvalue(state, index);
        out.extend_from_slice(stack::bytes(state, -1).unwrap_or_default());
        ffi::lua_pop(state, 1);
    }
}

fn push_integer(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}
