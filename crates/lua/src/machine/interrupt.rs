//! Stopping scripts that run for too long.
//!
//! A watchdog, usually on another thread, sees through an [`Interrupter`] that a script has been running for too long,
//! and stops that run and no other: an error is raised at the script's next instruction. LuaJIT is built with
//! `LUAJIT_ENABLE_CHECKHOOK`, so compiled loops notice too. A C function that never returns cannot be stopped.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

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
        if self.0.run.load(Ordering::Acquire) != run.0 {
            return;
        }
        let again = self.0.unwanted.swap(run.0, Ordering::AcqRel) == run.0;
        // A machine that is being closed has a hook already.
        let Some(StatePointer(state)) = *machine else { return };
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

/// The machines of one thread that a watchdog looks at.
#[derive(Clone, Default)]
pub(crate) struct Watched(Arc<Mutex<Vec<Weak<Watch>>>>);

impl Watched {
    /// Adds a machine, until it is closed.
    pub(crate) fn add(&self, interrupter: &Interrupter) {
        let mut machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        machines.retain(|machine| machine.strong_count() > 0);
        machines.push(Arc::downgrade(&interrupter.0));
    }

    fn open(&self) -> Vec<Interrupter> {
        let machines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        machines.iter().filter_map(Weak::upgrade).map(Interrupter).collect()
    }
}

/// Stops what runs for longer than a limit, when asked to look from another thread every now and then.
pub struct Watchdog {
    watched: Watched,
    limit_ms: u64,
    /// The runs seen last, by the machine, and when each was seen first.
    seen: Vec<(Weak<Watch>, RunId, u64)>,
}

impl Watchdog {
    /// Makes a watchdog of machines; a limit of 0 is none.
    pub(crate) fn new(watched: Watched, limit_ms: u64) -> Watchdog {
        Watchdog { watched, limit_ms, seen: Vec::new() }
    }

    /// Looks at the current runs, and returns whether it stopped one; `now_ms` is of a monotonic clock.
    pub fn look(&mut self, now_ms: u64) -> bool {
        let before = std::mem::take(&mut self.seen);
        let mut has_stopped = false;
        for interrupter in self.watched.open() {
            let Some(run) = interrupter.running() else { continue };
            let machine = Arc::downgrade(&interrupter.0);
            let known = before.iter().find(|(seen, id, _)| seen.ptr_eq(&machine) && *id == run);
            let since_ms = known.map_or(now_ms, |(_, _, since_ms)| *since_ms);
            if self.limit_ms > 0 && now_ms.saturating_sub(since_ms) >= self.limit_ms {
                interrupter.stop(run);
                has_stopped = true;
            }
            self.seen.push((machine, run, since_ms));
        }
        has_stopped
    }
}

/// Makes a machine that is about to be closed check, in its finalizers, whether it is to stop.
///
/// # Safety
/// `state` must be an open machine of this thread whose hook no other thread sets.
pub(super) unsafe fn look_while_closing(state: *mut lua_State) {
    // SAFETY: the caller vouches for it.
    unsafe { ffi::lua_sethook(state, Some(stop_if_unwanted), ffi::LUA_MASKCOUNT, 1000) };
}

/// Returns whether the run is to stop.
///
/// # Safety
/// `state` must be a running stack of a machine.
unsafe fn is_unwanted(state: *mut lua_State) -> bool {
    let mut budget = std::ptr::null_mut();
    // SAFETY: the allocator's argument is the machine's Budget.
    unsafe {
        ffi::lua_getallocf(state, &mut budget);
        (*budget.cast::<Budget>()).watch.is_unwanted()
    }
}

/// The hook of a machine that is being closed.
unsafe extern "C-unwind" fn stop_if_unwanted(state: *mut lua_State, _activation: *mut lua_Debug) {
    // SAFETY: `state` is the running stack; nothing that needs dropping is alive here.
    unsafe {
        if is_unwanted(state) {
            stack::raise_at(state, 0, STOPPED.as_bytes())
        }
    }
}

/// The hook, called before the next instruction.
unsafe extern "C-unwind" fn stop_here(state: *mut lua_State, _activation: *mut lua_Debug) {
    // SAFETY: `state` is the running stack.
    if !unsafe { is_unwanted(state) } {
        // SAFETY: as above. The run it was meant for is over.
        unsafe { ffi::lua_sethook(state, None, 0, 0) };
        return;
    }
    // SAFETY: nothing that needs dropping is alive here.
    unsafe { stack::raise_at(state, 0, STOPPED.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::machine::Machine;
    use crate::machine::tests::{machine, run};

    /// A value whose finalizer never returns.
    const ENDLESS: &str = "local p = newproxy(true) getmetatable(p).__gc = function() while true do end end ";

    /// Does something while a watchdog with a limit of 200 ms looks on, and returns how long it took.
    fn watched(vm: Machine, act: impl FnOnce(Machine)) -> Duration {
        let (machines, is_over) = (Watched::default(), AtomicBool::new(false));
        machines.add(&vm.interrupter());
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut watchdog = Watchdog::new(machines, 200);
                while !is_over.load(Ordering::Acquire) {
                    watchdog.look(began.elapsed().as_millis() as u64);
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            act(vm);
            is_over.store(true, Ordering::Release);
        });
        began.elapsed()
    }

    #[test]
    fn a_finalizer_without_end_is_stopped_with_its_script() {
        let (vm, _) = machine(|_| ());
        let took = watched(vm, |vm| {
            let error = run(&vm, &format!("do {ENDLESS} end collectgarbage() return 'came to its end'"));
            assert!(error.unwrap_err().contains(STOPPED));
            assert_eq!(run(&vm, "return 1 + 1").unwrap(), "2");
        });
        assert!(took >= Duration::from_millis(200), "{took:?}");
    }

    #[test]
    fn a_finalizer_without_end_is_stopped_when_its_machine_is_closed() {
        for compiled in ["", "jit.off() ", "local function spin() for i = 1, 1e5 do end end spin() "] {
            let (vm, _) = machine(|_| ());
            let took = watched(vm, |vm| {
                // Kept alive by a global, and one more by each that is finalized.
                let code = format!(
                    "{compiled}{ENDLESS} _G.kept = p local q = newproxy(true) _G.more = q \
                    getmetatable(q).__gc = function() _G.again = newproxy(q) while true do end end"
                );
                run(&vm, &code).unwrap();
                drop(vm);
            });
            assert!(took >= Duration::from_millis(200), "{took:?}");
        }
    }

    #[test]
    fn a_finalizer_of_a_c_value_is_stopped_too() {
        let (vm, _) = machine(|_| ());
        let took = watched(vm, |vm| {
            run(&vm, "local ffi = require 'ffi' do ffi.gc(ffi.new('int[1]'), function() while true do end end) end").unwrap();
            drop(vm);
        });
        assert!(took >= Duration::from_millis(200), "{took:?}");
    }
}
