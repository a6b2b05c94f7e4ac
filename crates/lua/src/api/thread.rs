//! Light threads: `ngx.thread` and `ngx.on_abort`. Who may wait for whom is in the Lua source; here they are begun and ended.

use std::ffi::c_int;

use engine::exchange::AbortNotice;
use engine::host::Level;
use mlua_sys as ffi;
use mlua_sys::lua_State;

use crate::machine::bridge::Bridge;
use crate::machine::{Area, Coroutine, Function, FunctionTable};
use crate::phase::{Phase, Phases};
use crate::vm::frame::{self, Want};
use crate::vm::threads::Spawned;

const DEBUG: u8 = Level::Debug as u8;

const WAITING: Phases = Phases::EVENTS;

pub(super) static AREA: Area = Area {
    name: "thread",
    functions: &[
        Function {
            name: "ngx.thread.spawn",
            phases: WAITING,
            doc: "Runs a function with these arguments as a light thread of this request, and returns the thread; at \
                 most 10,000 at a time.",
        },
        Function {
            name: "ngx.thread.wait",
            phases: WAITING,
            doc: "Waits until one of these light threads, which its caller has spawned, has ended; returns true and its results, or false and its error.",
        },
        Function {
            name: "ngx.thread.kill",
            phases: WAITING,
            doc: "Ends a light thread that its caller has spawned, unless that waits for a subrequest.",
        },
        Function {
            name: "ngx.on_abort",
            phases: Phases::of(&[Phase::ServerRewrite, Phase::Rewrite, Phase::Access, Phase::Content]),
            doc: "Registers a function that is called as a light thread when the client closes the connection; needs \
                 `lua_check_client_abort on`.",
        },
    ],
    fields: &[],
    source: include_str!("../lua/thread.lua"),
    table: FunctionTable::NONE,
    natives: &[
        (c"spawn", spawn),
        (c"join", join),
        (c"kill", kill),
        (c"on_abort", on_abort),
        (c"watches_client", watches_client),
    ],
};

unsafe fn bridge_of(state: *mut lua_State) -> *mut Bridge {
    // SAFETY: the upvalue of every native is the machine's bridge.
    unsafe { ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast() }
}

/// Moves the arguments from the second on to the coroutine that is the first one.
///
/// # Safety
/// As for a C function of Lua's with these arguments. Raises an error when memory runs out.
unsafe fn prepared(state: *mut lua_State, id: Option<u32>) -> Option<Spawned> {
    // SAFETY: the caller vouches for the stack; nothing that needs dropping is alive when an error is raised.
    unsafe {
        let given = ffi::lua_gettop(state) - 1;
        let thread = ffi::lua_tothread(state, 1);
        if ffi::lua_checkstack(thread, given + 1) == 0 {
            return None;
        }
        let coroutine = Coroutine::light_thread(state, 1);
        ffi::lua_xmove(state, thread, given);
        Some(Spawned { id, coroutine, given, parent: state })
    }
}

/// `spawn(coroutine, …)`: has it run with these arguments when the script yields. Returns its number, and whether the
/// caller is no coroutine inside of another one; or nothing if there are too many.
unsafe extern "C-unwind" fn spawn(state: *mut lua_State) -> c_int {
    // SAFETY: called from our own source with a coroutine that has a function on its stack; the bridge is the machine's.
    unsafe {
        let bridge = bridge_of(state);
        let Some(script) = frame::script(bridge) else { return 0 };
        let Some(id) = script.state.progress.new_thread() else { return 0 };
        let is_top = script.state.progress.is_top(state);
        let Some(spawned) = prepared(state, Some(id)) else { return 0 };
        if let Some(want) = frame::want(bridge) {
            *want = Some(Want::Spawn(spawned));
        }
        ffi::lua_pushnumber(state, f64::from(id));
        ffi::lua_pushboolean(state, c_int::from(is_top));
    }
    2
}

/// `join()`: has the script wait for the end of a thread. Returns the number of the thread that runs.
unsafe extern "C-unwind" fn join(state: *mut lua_State) -> c_int {
    // SAFETY: as in `spawn`; a C function has a slot.
    unsafe {
        let bridge = bridge_of(state);
        let Some(script) = frame::script(bridge) else { return 0 };
        *script.want = Some(Want::Join);
        ffi::lua_pushnumber(state, f64::from(script.state.progress.running()));
    }
    1
}

/// `kill(number)`: ends a thread; returns false if it waits for requests inside this one.
unsafe extern "C-unwind" fn kill(state: *mut lua_State) -> c_int {
    // SAFETY: as in `spawn`.
    unsafe {
        let id = ffi::lua_tonumber(state, 1) as u32;
        let bridge = bridge_of(state);
        let Some(script) = frame::script(bridge) else { return 0 };
        if script.state.progress.sleeps(id) && (*bridge).world.logs(DEBUG) {
            (*bridge).world.log(DEBUG, b"lua clean up the timer for pending ngx.sleep");
        }
        let is_killed = script.state.progress.kill(id, &script.state.scripts().machine);
        ffi::lua_pushboolean(state, c_int::from(is_killed));
    }
    1
}

/// `on_abort(coroutine)`: has it run when the client leaves; returns false if one was given before.
unsafe extern "C-unwind" fn on_abort(state: *mut lua_State) -> c_int {
    // SAFETY: as in `spawn`.
    unsafe {
        let bridge = bridge_of(state);
        let is_known = frame::request(bridge).is_none_or(|request| request.state.progress.knows_abort());
        if is_known {
            ffi::lua_pushboolean(state, 0);
            return 1;
        }
        let Some(callback) = prepared(state, None) else { return 0 };
        if let Some(request) = frame::request(bridge) {
            request.exchange.script.abort = AbortNotice::Wanted;
            request.state.progress.set_on_abort(callback);
        }
        ffi::lua_pushboolean(state, 1);
    }
    1
}

/// Returns true if the end of the client's connection is looked for (`lua_check_client_abort`).
unsafe extern "C-unwind" fn watches_client(state: *mut lua_State) -> c_int {
    // SAFETY: as in `spawn`.
    unsafe {
        let watches = frame::request(bridge_of(state))
            .is_some_and(|request| *request.exchange.settings(request.env.config).lua.check_client_abort);
        ffi::lua_pushboolean(state, c_int::from(watches));
    }
    1
}
