//! Handlers that may wait: each runs in a coroutine of its own, if possible one that ran before.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use mlua_sys as ffi;
use mlua_sys::{lua_Debug, lua_State};

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
    /// Whether it can run another script: it ended without an error, and no thread that goes on refers to it.
    clean: bool,
    is_light_thread: bool,
}

impl Coroutine {
    /// Takes the coroutine at `index` of a stack as a light thread. Raises an error when memory runs out.
    ///
    /// # Safety
    /// `state` must be a live stack with a coroutine at `index` and a free slot, and nothing that needs dropping may be
    /// alive above.
    pub(crate) unsafe fn light_thread(state: *mut lua_State, index: c_int) -> Coroutine {
        // SAFETY: the caller vouches for the stack.
        unsafe {
            ffi::lua_pushvalue(state, index);
            let anchor = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
            let thread = ffi::lua_tothread(state, index);
            Coroutine { state: thread, anchor, clean: false, is_light_thread: true }
        }
    }

    /// Keeps it from being reused when it ends: light threads that go on without it have it as their parent.
    pub(crate) fn retire(&mut self) {
        self.clean = false;
    }

    /// Returns true if it has frames: it runs or waits.
    pub(crate) fn has_frames(state: *mut lua_State) -> bool {
        let mut frame = MaybeUninit::<lua_Debug>::zeroed();
        // SAFETY: who calls keeps the coroutine alive; lua_getstack fills in the struct.
        unsafe { ffi::lua_getstack(state, 0, frame.as_mut_ptr()) != 0 }
    }
}

/// The coroutines around a light thread: its parent, that one's, and so on.
#[derive(Debug, Default)]
pub(crate) struct Around {
    pub(crate) coroutines: Vec<*mut lua_State>,
    /// The one that the script began in, if it is among them.
    pub(crate) entry: Option<*mut lua_State>,
}

/// Why a resumed coroutine came back.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Resumed {
    /// It ended.
    Done,
    /// It waits for the host.
    Waiting,
    /// It failed; the text begins with `lua entry thread aborted: `, or `lua user thread` for a light thread. The value of
    /// the error is at the top of its stack.
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
                self.note_entry();
                let anchor = ffi::luaL_ref(self.state, ffi::LUA_REGISTRYINDEX);
                Coroutine { state, anchor, clean: false, is_light_thread: false }
            },
        };
        // SAFETY: the stack is empty and has room for one value.
        unsafe { ffi::lua_rawgeti_(coroutine.state, ffi::LUA_REGISTRYINDEX, chunk.function) };
        coroutine
    }

    /// Notes the coroutine at the top of the machine's own stack as one that scripts begin in: no script may resume it,
    /// its own or another request's.
    ///
    /// # Safety
    /// The machine must be open, with a coroutine at the top of its stack.
    unsafe fn note_entry(&self) {
        // SAFETY: the caller vouches for the stack; there is room for three values, and without memory Lua panics, as in `start`.
        unsafe {
            ffi::lua_rawgeti_(self.state, ffi::LUA_REGISTRYINDEX, self.anchors().entries.function);
            ffi::lua_pushvalue(self.state, -2);
            ffi::lua_pushboolean(self.state, 1);
            ffi::lua_rawset(self.state, -3);
            ffi::lua_pop(self.state, 1);
        }
    }

    /// Resumes a coroutine until it ends, waits or fails. Its function, or the call that waited, gets the `given` values at
    /// the top of its stack. If a light thread fails, `around` says which coroutines its traceback shows behind its own.
    pub(crate) fn resume_with(
        &self,
        coroutine: &mut Coroutine,
        phase: Phase,
        request: u32,
        given: c_int,
        around: impl FnOnce() -> Around,
    ) -> Resumed {
        let state = coroutine.state;
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
                    let mut all = inner;
                    all.push(state);
                    let entry = if coroutine.is_light_thread {
                        let around = around();
                        all.extend(around.coroutines);
                        around.entry
                    } else {
                        Some(state)
                    };
                    (stack::error_text(state), traceback::of_coroutines(&all, entry))
                };
                let whose: &[u8] =
                    if coroutine.is_light_thread { b"lua user thread " } else { b"lua entry thread " };
                let kind: &[u8] = match status {
                    ffi::LUA_ERRRUN => b"runtime error: ",
                    ffi::LUA_ERRMEM => b"memory allocation error: ",
                    _ => b"error handler error: ",
                };
                let text = [whose, b"aborted: ", kind, &message, b"\n", &trace].concat();
                Resumed::Failed(ScriptError { text })
            }
        };
        self.leave(before, status);
        step
    }

    /// Resumes a coroutine; the call that waited returns nothing.
    #[cfg(test)]
    pub(crate) fn resume(&self, coroutine: &mut Coroutine, phase: Phase, request: u32) -> Resumed {
        self.resume_with(coroutine, phase, request, 0, Around::default)
    }

    /// Tells Lua that a light thread, or the coroutine around all, has come to its end: with its results on its stack, or
    /// the value of its error. Returns the number of the thread that waits for it, if one does.
    pub(crate) fn thread_ended(
        &self,
        coroutine: &Coroutine,
        succeeded: bool,
        phase: Phase,
        request: u32,
    ) -> Option<u32> {
        let thread = coroutine.state;
        let push = |main| {
            // SAFETY: both stacks are of this machine; the coroutine does not run, and what moves is at its top.
            unsafe {
                // As in ngx_lua, the arguments of what has failed come before its error.
                let count = ffi::lua_gettop(thread);
                let count = if ffi::lua_checkstack(main, count + 3) != 0 { count } else { 0 };
                ffi::lua_rawgeti_(main, ffi::LUA_REGISTRYINDEX, coroutine.anchor);
                ffi::lua_pushboolean(main, c_int::from(succeeded));
                ffi::lua_xmove(thread, main, count);
                count + 2
            }
        };
        let ended = self.call_with(self.anchors().thread_ended, phase, request, push, |waiting| {
            u32::try_from(waiting.integer()).ok()
        });
        // The function raises errors only for want of memory: the results are lost then, and no one waits for them.
        ended.ok().flatten()
    }

    /// Takes a coroutine back in any state: one that waits is never resumed. A light thread is not used again, as its script may
    /// still have it.
    pub(crate) fn finish(&self, mut coroutine: Coroutine) {
        // SAFETY: the machine is open and the coroutine is one of its own that does not run.
        unsafe {
            if coroutine.clean && !coroutine.is_light_thread && self.idle.borrow().len() < KEPT {
                ffi::lua_settop(coroutine.state, 0);
                coroutine.clean = false;
                self.idle.borrow_mut().push(coroutine);
            } else {
                ffi::luaL_unref(self.state, ffi::LUA_REGISTRYINDEX, coroutine.anchor);
            }
        }
    }
}
