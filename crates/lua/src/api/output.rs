//! `ngx.say`, `ngx.print`, `ngx.flush`, `ngx.eof`: writing the body.

use std::ffi::c_int;

use engine::Exchange;
use mlua_sys as ffi;
use mlua_sys::lua_State;

use super::console;
use crate::machine::bridge::Bridge;
use crate::machine::{Area, Function, FunctionTable, stack};
use crate::phase::{PHASES, Phase, Phases};
use crate::vm::output::{self, OutputFailed};
use crate::vm::{charge, frame};

pub(super) static AREA: Area = Area {
    name: "output",
    functions: &[
        Function {
            name: "ngx.print",
            phases: Phases::OUTPUT,
            doc: "Writes its arguments to the response body, lists element by element.",
        },
        Function { name: "ngx.say", phases: Phases::OUTPUT, doc: "As `ngx.print`, with a newline after it." },
        Function {
            name: "ngx.flush",
            phases: Phases::OUTPUT,
            doc: "Sends what was written once the script waits or ends; with `true`, waits until it has been sent.",
        },
        Function {
            name: "ngx.eof",
            phases: Phases::OUTPUT,
            doc: "Ends the response; the script may continue.",
        },
    ],
    fields: &[],
    source: include_str!("../lua/output.lua"),
    table: FunctionTable::NONE,
    natives: &[(c"print", print), (c"say", say), (c"eof", eof), (c"flush", flush), (c"has_sent", has_sent)],
};

unsafe extern "C-unwind" fn print(state: *mut lua_State) -> c_int {
    // SAFETY: a C function of Lua's; see `write`.
    unsafe { write(state, false) }
}

unsafe extern "C-unwind" fn say(state: *mut lua_State) -> c_int {
    // SAFETY: as above.
    unsafe { write(state, true) }
}

/// Writes the arguments on the stack.
///
/// # Safety
/// `state` must be the stack of a C function whose upvalue is the machine's bridge.
unsafe fn write(state: *mut lua_State, newline: bool) -> c_int {
    // SAFETY: the caller vouches for the stack. Until the arguments are text the buffer is the bridge's, so that an
    // error frees nothing; then it is ours, and only protected Lua (filters) runs.
    unsafe {
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        if let Some(refused) = refuse(state, bridge) {
            return refused;
        }
        let given = ffi::lua_gettop(state);
        let room = charge::output_room_after_collecting(bridge);
        let buffer: *mut Vec<u8> = &mut (*bridge).buffer;
        (*buffer).clear();
        for index in 1..=given {
            console::write_for_body(state, index, room, &mut *buffer);
        }
        if newline {
            (*buffer).push(b'\n');
        }
        let body = std::mem::take(&mut *buffer);
        let sent =
            if body.is_empty() { output::send_head(bridge) } else { output::send(bridge, Some(&body)) };
        (*bridge).buffer = body;
        answer(state, sent)
    }
}

/// Raises an error, or pushes nil and a reason, if nothing may be written now.
///
/// # Safety
/// As for [`write`].
unsafe fn refuse(state: *mut lua_State, bridge: *mut Bridge) -> Option<c_int> {
    // SAFETY: the caller vouches for both; nothing that needs dropping is alive when an error is raised.
    unsafe {
        check_phase(state, bridge);
        let Some(request) = frame::request(bridge) else {
            stack::raise_at(state, 1, b"no request object found");
        };
        if has_raw_socket(request.exchange) {
            return Some(nil_and(state, c"raw request socket acquired"));
        }
        if request.state.header_only.get() {
            return Some(nil_and(state, c"header only"));
        }
        request.state.eof.get().then(|| nil_and(state, c"seen eof"))
    }
}

/// Returns true if a script has the client's connection (`ngx.req.socket(true)`).
fn has_raw_socket(exchange: &Exchange) -> bool {
    exchange.script.tap.as_ref().is_some_and(|tap| tap.is_raw())
}

/// Raises ngx_lua's error unless the running phase may write a body.
///
/// # Safety
/// As for [`write`]; nothing that needs dropping may be alive.
unsafe fn check_phase(state: *mut lua_State, bridge: *mut Bridge) {
    // SAFETY: the caller vouches for the stack; a C function has the slots.
    unsafe {
        let phase = (*bridge).phase;
        if phase & Phases::OUTPUT.0 != 0 {
            return;
        }
        if phase == Phase::Init as u32 {
            stack::raise_at(state, 1, b"no request object found");
        }
        let known = PHASES.iter().find(|(known, _, _)| *known as u32 == phase);
        ffi::luaL_where(state, 1);
        stack::push(state, b"API disabled in the context of ");
        stack::push(state, known.map_or("(unknown)", |known| known.2).as_bytes());
        ffi::lua_concat(state, 3);
        ffi::lua_error(state)
    }
}

/// # Safety
/// `state` must be a live stack with two free slots.
unsafe fn nil_and(state: *mut lua_State, text: &'static std::ffi::CStr) -> c_int {
    // SAFETY: the caller vouches for the stack.
    unsafe {
        ffi::lua_pushnil(state);
        ffi::lua_pushliteral(state, text);
    }
    2
}

/// Pushes the results of a call that wrote something.
///
/// # Safety
/// `state` must be a live stack with two free slots.
pub(super) unsafe fn answer(state: *mut lua_State, sent: Result<(), OutputFailed>) -> c_int {
    // SAFETY: the caller vouches for the stack.
    unsafe {
        match sent {
            Ok(()) => {
                ffi::lua_pushinteger(state, 1);
                1
            }
            Err(OutputFailed) => nil_and(state, c"nginx output filter error"),
        }
    }
}

unsafe extern "C-unwind" fn eof(state: *mut lua_State) -> c_int {
    // SAFETY: as in `write`.
    unsafe {
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        if ffi::lua_gettop(state) != 0 {
            stack::raise_at(state, 1, b"no argument is expected");
        }
        check_phase(state, bridge);
        let Some(request) = frame::request(bridge) else {
            stack::raise_at(state, 1, b"no request object found");
        };
        if has_raw_socket(request.exchange) {
            return nil_and(state, c"raw request socket acquired");
        }
        if request.state.eof.get() {
            return nil_and(state, c"seen eof");
        }
        answer(state, output::send(bridge, None))
    }
}

/// `flush(wait)`: returns 2 if the caller is to wait, else the results for Lua.
unsafe extern "C-unwind" fn flush(state: *mut lua_State) -> c_int {
    // SAFETY: as in `write`.
    unsafe {
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        let wait = ffi::lua_toboolean(state, 1) != 0;
        if let Some(refused) = refuse(state, bridge) {
            return refused;
        }
        let Some(request) = frame::request(bridge) else { return 0 };
        if request.exchange.output.failed() {
            return nil_and(state, c"client aborted");
        }
        if request.state.held.borrow().is_some() {
            output::log_debug(bridge, "lua http 1.0 buffering makes ngx.flush() a no-op");
            return nil_and(state, c"buffering");
        }
        if !request.exchange.output.head_written() || (!request.state.seen_body.get() && !wait) {
            return nil_and(state, c"nothing to flush");
        }
        if wait {
            *request.want = Some(frame::Want::Effect(engine::Effect::Flush));
        } else {
            request.exchange.output.flush_wanted = true;
        }
        ffi::lua_pushinteger(state, if wait { 2 } else { 1 });
        1
    }
}

/// `has_sent()`: the results of a `flush` that has waited.
unsafe extern "C-unwind" fn has_sent(state: *mut lua_State) -> c_int {
    // SAFETY: as in `write`.
    unsafe {
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        if frame::request(bridge).is_some_and(|request| request.exchange.output.failed()) {
            return nil_and(state, c"client aborted");
        }
        ffi::lua_pushinteger(state, 1);
        1
    }
}

// Where a body may be written, a script may wait until it is sent.
const _: () = assert!(Phases::OUTPUT.has(Phase::Content));
