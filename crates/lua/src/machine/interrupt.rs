//! Stopping a script that does not stop by itself.
//!
//! A watchdog, which lives elsewhere and may be another thread, sees through an [`Interrupter`] that a script has been
//! running for too long and stops that very run: an error is raised at the script's next instruction. LuaJIT is built
//! with `LUAJIT_ENABLE_CHECKHOOK`, so compiled loops notice too. A C function that never returns cannot be stopped.

use std::ffi::c_int;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use mlua_sys as ffi;
use mlua_sys::{lua_Debug, lua_State};

use super::budget::Budget;
use super::stack;
use super::watch::{StatePointer, Watch};

/// What the script's error says.
pub(crate) const STOPPED: &str = "the script ran for too long and was stopped";

/// One run of a script, as a watchdog saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RunId(pub(super) u64);

/// A watchdog's view of one machine; any thread may hold it, and it may outlive the machine.
#[derive(Clone)]
pub(crate) struct Interrupter(pub(super) Arc<Watch>);

impl Interrupter {
    /// The run going on, if any. The same value twice means the same script without a break.
    pub(crate) fn running(&self) -> Option<RunId> {
        let run = self.0.run.load(Ordering::Acquire);
        (run % 2 == 1).then_some(RunId(run))
    }

    /// Stops `run`, and nothing else: a script that started since goes on.
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
                // It did not hear: its own thread may have turned to another way of running at the same moment. LuaJIT
                // changes nothing for a hook that it believes to be set.
                ffi::lua_sethook(state, None, 0, 0);
            }
            ffi::lua_sethook(state, Some(stop_here), ffi::LUA_MASKCOUNT, 1);
        }
    }
}

/// Stops what runs for longer than a limit; to be asked to look every now and then, from a thread of its own.
pub struct Watchdog {
    interrupter: Interrupter,
    limit_ms: u64,
    /// The run seen last, and since when.
    seen: Option<(RunId, u64)>,
}

impl Watchdog {
    /// Watches a machine; a limit of 0 is none.
    pub(crate) fn new(interrupter: Interrupter, limit_ms: u64) -> Watchdog {
        Watchdog { interrupter, limit_ms, seen: None }
    }

    /// Looks; `now_ms` is of a clock that never goes back. Whether it stopped something.
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

/// The hook itself, called before the next instruction of whatever runs.
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
