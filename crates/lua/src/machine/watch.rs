//! The state that a machine and its watchdogs share: the current run, and the run to stop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mlua_sys as ffi;
use mlua_sys::lua_State;

/// Shared between a machine and its watchdogs.
pub(super) struct Watch {
    /// Odd while a script runs; every run has its own number.
    pub(super) run: AtomicU64,
    /// The run that is to stop.
    pub(super) unwanted: AtomicU64,
    /// The machine, until it is closed.
    pub(super) machine: Mutex<Option<StatePointer>>,
}

pub(super) struct StatePointer(pub(super) *mut lua_State);

// SAFETY: the pointer is only handed to lua_sethook, which LuaJIT allows from another thread, and only under the lock
// that closing the machine takes too.
unsafe impl Send for StatePointer {}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch { run: AtomicU64::new(0), unwanted: AtomicU64::new(0), machine: Mutex::new(None) }
    }

    pub(super) fn opened(&self, state: *mut lua_State) {
        *self.machine.lock().unwrap_or_else(PoisonError::into_inner) = Some(StatePointer(state));
    }

    pub(super) fn closed(&self) {
        *self.machine.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn enter(&self) {
        self.run.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends the run; removes the hook of a stop, which may also have come too late.
    pub(super) fn leave(&self, state: *mut lua_State) {
        let ended = self.run.fetch_add(1, Ordering::AcqRel);
        if self.unwanted.load(Ordering::Acquire) == ended {
            let _until_set = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: `state` is the open machine of this thread; the lock keeps a stop from setting it again.
            unsafe { ffi::lua_sethook(state, None, 0, 0) };
        }
    }

    /// Ends the run in which the machine was closed.
    pub(super) fn ended(&self) {
        self.run.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::Acquire) == self.run.load(Ordering::Acquire)
    }
}
