//! Stopping scripts that run for too long.
//!
//! A watchdog, usually on another thread, sees through an [`Interrupter`] that a script has been running for too long,
//! and stops that run and no other: an error is raised at the script's next instruction. LuaJIT is built with
//! `LUAJIT_ENABLE_CHECKHOOK`, so compiled loops notice too. A C function that never returns cannot be stopped.

use std::ffi::c_int;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use mlua_sys as ffi;
use mlua_sys::{lua_Debug, lua_State};

use super::budget::Budget;
use super::stack;
use super::watch::{StatePointer, Watch};

/// The text of the error that stops a script.
pub(crate) const STOPPED: &str = "the script ran for too long and was stopped";

/// One run of a script, as a watchdog saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RunId(pub(super) u64);

/// A watchdog's view of one machine; any thread may hold it, and it may outlive the machine.
#[derive(Clone)]
pub(crate) struct Interrupter(pub(super) Arc<Watch>);

impl Interrupter {
    /// Returns the current run, if any. Two equal values mean the same run without a break.
    pub(crate) fn running(&self) -> Option<RunId> {
        let run = self.0.run.load(Ordering::Acquire);
        (run % 2 == 1).then_some(RunId(run))
    }

    /// Stops `run` and no other: a script that started since is left alone.
    pub(crate) fn stop(&self, run: RunId) {
        let machine = self.0.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(StatePointer(state)) = *machine else { return };
        if self.0.run.load(Ordering::Acquire) != run.0 {
            return;
        }
        let again = self.0.unwanted.swap(run.0, Ordering::AcqRel) == run.0;
        // SAFETY: the machine is open while the lock is held; see `StatePointer`.
        unsafe {
            if again {
                // The first attempt had no effect: the machine's thread may have switched its dispatch at the same
                // moment. LuaJIT ignores a hook that it takes to be set, so it is removed first.
                ffi::lua_sethook(state, None, 0, 0);
            }
            ffi::lua_sethook(state, Some(stop_here), ffi::LUA_MASKCOUNT, 1);
        }
    }
}

/// Stops what runs for longer than a limit, when asked to look from another thread every now and then.
pub struct Watchdog {
    interrupter: Interrupter,
    limit_ms: u64,
    /// The run seen last, and when it was seen first.
    seen: Option<(RunId, u64)>,
}

impl Watchdog {
    /// Makes a watchdog of a machine; a limit of 0 is none.
    pub(crate) fn new(interrupter: Interrupter, limit_ms: u64) -> Watchdog {
        Watchdog { interrupter, limit_ms, seen: None }
    }

    /// Looks at the current run, and returns whether it stopped it; `now_ms` is of a monotonic clock.
    pub fn look(&mut self, now_ms: u64) -> bool {
        let running = self.interrupter.running();
        let since_ms = match (self.seen, running) {
            (Some((seen, since_ms)), Some(run)) if seen == run => since_ms,
            _ => now_ms,
        };
        self.seen = running.map(|run| (run, since_ms));
        let Some(run) = running else { return false };
        let is_over = self.limit_ms > 0 && now_ms.saturating_sub(since_ms) >= self.limit_ms;
        if is_over {
            self.interrupter.stop(run);
        }
        is_over
    }
}

/// The hook, called before the next instruction.
unsafe extern "C-unwind" fn stop_here(state: *mut lua_State, _activation: *mut lua_Debug) {
    let mut budget = std::ptr::null_mut();
    // SAFETY: `state` is the running stack; the allocator's argument is the machine's Budget, see `StatePointer::new`.
    let unwanted: c_int = unsafe {
        ffi::lua_getallocf(state, &mut budget);
        c_int::from((*budget.cast::<Budget>()).watch.is_unwanted())
    };
    if unwanted == 0 {
        // SAFETY: as above. The run it was meant for is over.
        unsafe { ffi::lua_sethook(state, None, 0, 0) };
        return;
    }
    // SAFETY: nothing that needs dropping is alive here.
    unsafe { stack::raise_at(state, 0, STOPPED.as_bytes()) }
}
