//! Handlers that may wait: each runs in a coroutine of its own, if possible one that ran before.

use std::ffi::c_int;

use mlua_sys as ffi;
use mlua_sys::lua_State;

use super::stack;
use super::{Chunk, Machine, Phase, ScriptError, traceback};

/// How many ended coroutines are kept for the next requests.
const KEPT: usize = 256;

/// A coroutine of one machine. It must be given back with [`Machine::finish`].
#[derive(Debug)]
pub(crate) struct Coroutine {
    pub(crate) state: *mut lua_State,
    /// The registry's reference, which keeps it alive.
    anchor: c_int,
    /// Whether it ended without an error, so that it can run another script.
    clean: bool,
}

/// Why a resumed coroutine came back.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Resumed {
    /// It ended.
    Done,
    /// It waits for the host.
    Waiting,
    /// It failed; the text begins with `lua entry thread aborted: `.
    Failed(ScriptError),
}

impl Machine {
    /// Prepares to run a script; [`Machine::resume`] runs it.
    pub(crate) fn start(&self, chunk: Chunk) -> Coroutine {
        let coroutine = match self.idle.borrow_mut().pop() {
            Some(idle) => idle,
            // SAFETY: the machine is open. Running out of memory here is a panic of LuaJIT's, as in ngx_lua.
            None => unsafe {
                let state = ffi::lua_newthread(self.state);
                let anchor = ffi::luaL_ref(self.state, ffi::LUA_REGISTRYINDEX);
                Coroutine { state, anchor, clean: false }
            },
        };
        // SAFETY: the stack is empty and has room for one value.
        unsafe { ffi::lua_rawgeti_(coroutine.state, ffi::LUA_REGISTRYINDEX, chunk.function) };
        coroutine
    }

    /// Resumes a coroutine until it ends, waits or fails. The call that waited returns the values that `push` puts on
    /// the stack; `push` returns their number.
    pub(crate) fn resume_with(
        &self,
        coroutine: &mut Coroutine,
        phase: Phase,
        request: u32,
        push: impl FnOnce(*mut lua_State) -> c_int,
    ) -> Resumed {
        let state = coroutine.state;
        let given = push(state);
        let before = self.enter(phase, request);
        // SAFETY: the coroutine is new or waits, and its arguments are on its stack.
        let status = unsafe { ffi::lua_resume_(state, given) };
        let step = match status {
            ffi::LUA_OK => {
                coroutine.clean = true;
                Resumed::Done
            }
            ffi::LUA_YIELD => {
                // SAFETY: a coroutine that yielded is live; what it yielded was for the scheduler, who has it already.
                unsafe { ffi::lua_settop(state, 0) };
                Resumed::Waiting
            }
            status => {
                // SAFETY: the error value is at the top; the frames below are intact until the next use, and so are those
                // of the coroutines that it has left, as nothing is collected here.
                let (message, trace) = unsafe {
                    let inner = traceback::take_trail(state, self.anchors().trail.function);
                    (stack::pop_error(state), traceback::of_entry(&inner, state))
                };
                let kind: &[u8] = match status {
                    ffi::LUA_ERRRUN => b"runtime error: ",
                    ffi::LUA_ERRMEM => b"memory allocation error: ",
                    _ => b"error handler error: ",
                };
                let text = [b"lua entry thread aborted: ", kind, &message, b"\n", &trace].concat();
                Resumed::Failed(ScriptError { text })
            }
        };
        self.leave(before, status);
        step
    }

    /// Resumes a coroutine; the call that waited returns nothing.
    pub(crate) fn resume(&self, coroutine: &mut Coroutine, phase: Phase, request: u32) -> Resumed {
        self.resume_with(coroutine, phase, request, |_| 0)
    }

    /// Takes a coroutine back in any state: one that waits is never resumed.
    pub(crate) fn finish(&self, mut coroutine: Coroutine) {
        // SAFETY: the machine is open and the coroutine is one of its own that does not run.
        unsafe {
            if coroutine.clean && self.idle.borrow().len() < KEPT {
                ffi::lua_settop(coroutine.state, 0);
                coroutine.clean = false;
                self.idle.borrow_mut().push(coroutine);
            } else {
                ffi::luaL_unref(self.state, ffi::LUA_REGISTRYINDEX, coroutine.anchor);
            }
        }
    }
}
