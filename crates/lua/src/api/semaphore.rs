//! The module `ngx.semaphore`.

use std::ffi::{c_int, c_void};
use std::rc::Rc;

use engine::Effect;

use crate::machine::bridge::Bridge;
use crate::machine::{Area, FunctionTable, field};
use crate::phase::Phases;
use crate::semaphore::Semaphore;
use crate::vm::frame::{self, Want};

pub(super) static AREA: Area = Area {
    name: "semaphore",
    functions: &[],
    fields: &[
        field(
            "SEMAPHORE:wait",
            Phases::EVENTS,
            "Takes a resource, waiting for one up to the given number of seconds; returns true, or nil or false and \
             `timeout`.",
        ),
        field(
            "ngx.semaphore.new",
            Phases::ALL,
            "Returns a semaphore with the given number of resources, by default none; `require \"ngx.semaphore\"`. \
             All requests and timers of a thread may use it.",
        ),
        field(
            "SEMAPHORE:post",
            Phases::ALL,
            "Adds resources, by default one; those that have waited longest get them.",
        ),
        field("SEMAPHORE:count", Phases::ALL, "Returns the number of resources minus the number of waiters."),
    ],
    source: include_str!("../lua/semaphore.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[],
};

#[repr(C)]
struct Functions {
    make: unsafe extern "C" fn(c_int) -> *mut c_void,
    forget: unsafe extern "C" fn(*mut c_void),
    post: unsafe extern "C" fn(*mut c_void, c_int),
    count: unsafe extern "C" fn(*mut c_void) -> c_int,
    wait: unsafe extern "C" fn(*mut Bridge, *mut c_void, f64) -> c_int,
    granted: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
}

static FUNCTIONS: Functions = Functions { make, forget, post, count, wait, granted };

/// Returns the semaphore behind a handle.
///
/// # Safety
/// The handle must be one of Lua's, which keeps it during the call.
unsafe fn semaphore(handle: *mut c_void) -> Rc<Semaphore> {
    let handle = handle.cast::<Semaphore>().cast_const();
    // SAFETY: handles are made by `make` alone, of an Rc that `forget` gets back.
    unsafe {
        Rc::increment_strong_count(handle);
        Rc::from_raw(handle)
    }
}

unsafe extern "C" fn make(resources: c_int) -> *mut c_void {
    Rc::into_raw(Semaphore::new(resources)).cast_mut().cast()
}

unsafe extern "C" fn forget(handle: *mut c_void) {
    // SAFETY: the handle is an Rc that `make` has leaked, and Lua gives it back once.
    drop(unsafe { Rc::from_raw(handle.cast::<Semaphore>()) });
}

unsafe extern "C" fn post(handle: *mut c_void, count: c_int) {
    // SAFETY: see `semaphore`.
    unsafe { semaphore(handle) }.post(count);
}

unsafe extern "C" fn count(handle: *mut c_void) -> c_int {
    // SAFETY: see `semaphore`.
    unsafe { semaphore(handle) }.count()
}

/// Returns 1 if a resource was taken; 0 if the script is to wait, with the number of its wait in the bridge; 2 if there is
/// no time for that.
unsafe extern "C" fn wait(bridge: *mut Bridge, handle: *mut c_void, ms: f64) -> c_int {
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; for the handle see `semaphore`.
    unsafe {
        let semaphore = semaphore(handle);
        if semaphore.take() {
            return 1;
        }
        let ms = ms as u64;
        if ms == 0 {
            return 2;
        }
        let Some(script) = frame::script(bridge) else { return 2 };
        let (number, waiting) = semaphore.wait(script.env.host.alarm(ms));
        *script.want = Some(Want::Effect(Effect::Await(waiting)));
        (*bridge).number = f64::from(number);
        0
    }
}

/// Returns 1 if a wait has ended with a resource.
unsafe extern "C" fn granted(handle: *mut c_void, number: u32) -> c_int {
    // SAFETY: see `semaphore`.
    c_int::from(unsafe { semaphore(handle) }.take_granted(number))
}
