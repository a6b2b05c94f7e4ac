//! `ngx.timer`: running functions later.

use std::ffi::c_int;

use crate::machine::bridge::Bridge;
use crate::machine::{Area, Function, FunctionTable};
use crate::phase::{Phase, Phases};
use crate::vm::frame;

const fn everywhere(name: &'static str, doc: &'static str) -> Function {
    Function { name, phases: Phases::ALL, doc }
}

/// Returns a function that makes a timer: none would run once the worker ends.
const fn making(name: &'static str, doc: &'static str) -> Function {
    Function { name, phases: Phases::ALL.without(Phase::ExitWorker), doc }
}

pub(super) static AREA: Area = Area {
    name: "timer",
    functions: &[
        making(
            "ngx.timer.at",
            "Calls a function once, after the given number of seconds, outside of any request.",
        ),
        making(
            "ngx.timer.every",
            "Calls a function every time the given number of seconds has passed, outside of any request.",
        ),
        everywhere("ngx.timer.pending_count", "Returns the number of pending timers."),
        everywhere("ngx.timer.running_count", "Returns the number of running timer functions."),
    ],
    fields: &[],
    source: include_str!("../lua/timer.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[],
};

#[repr(C)]
struct Functions {
    add: unsafe extern "C" fn(*mut Bridge, f64, c_int) -> c_int,
    pending: unsafe extern "C" fn(*mut Bridge) -> c_int,
    running: unsafe extern "C" fn(*mut Bridge) -> c_int,
}

static FUNCTIONS: Functions = Functions { add, pending, running };

/// Returns the timer's number; 0 if there are too many, -1 if the worker is about to end.
unsafe extern "C" fn add(bridge: *mut Bridge, delay_ms: f64, every: c_int) -> c_int {
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; so for all functions here.
    unsafe {
        let origin = frame::origin(bridge);
        frame::timers(bridge).map_or(0, |timers| timers.add(delay_ms.max(0.0) as u64, every != 0, origin))
    }
}

unsafe extern "C" fn pending(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `add`.
    unsafe { frame::timers(bridge) }.map_or(0, |timers| timers.pending() as c_int)
}

unsafe extern "C" fn running(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `add`.
    unsafe { frame::timers(bridge) }.map_or(0, |timers| timers.running() as c_int)
}
