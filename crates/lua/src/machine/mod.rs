//! One Lua machine: a LuaJIT state that is opened, given the API, run and closed.
//!
//! A thread has one; it is neither shared nor moved between threads while open. Scripts are loaded once and run many
//! times: handlers that may wait run in coroutines ([`Machine::start`], [`Machine::resume`]), the others in one go
//! ([`Machine::call`]). Nothing here knows what a request is; the number of the request that runs only keeps the
//! globals of one apart from those of another.

mod area;
pub(crate) mod bridge;
mod budget;
mod c_stack;
mod chunk;
mod coroutine;
mod interrupt;
mod library;
mod options;
pub(crate) mod stack;
mod traceback;
mod watch;

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

use mlua_sys as ffi;
use mlua_sys::lua_State;

use crate::phase::Phase;
pub use area::{Area, Function};
pub(crate) use area::{FunctionTable, field};
use bridge::Bridge;
pub(crate) use bridge::World;
use budget::Budget;
pub(crate) use budget::NO_ROOM;
pub(crate) use chunk::{Chunk, LoadError, chunk_name};
pub(crate) use coroutine::{Around, Coroutine, Resumed};
pub use interrupt::Watchdog;
pub(crate) use interrupt::{Interrupter, Watched};
use library::Anchors;
pub(crate) use options::{MachineOptions, WorkerIdentity};
pub(crate) use traceback::MOST_COROUTINES;
use watch::Watch;

/// A machine could not be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OpenError {
    /// The reason, for the log.
    pub(crate) text: Vec<u8>,
}

/// A script failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ScriptError {
    /// ngx_lua's message with its traceback, for the log.
    pub(crate) text: Vec<u8>,
}

/// The run that another began inside of.
struct OuterRun {
    phase: u32,
    request: u32,
}

/// One Lua machine.
pub(crate) struct Machine {
    state: *mut lua_State,
    bridge: *mut Bridge,
    budget: *mut Budget,
    watch: Arc<Watch>,
    idle: RefCell<Vec<Coroutine>>,
    anchors: Anchors,
    /// The number of nested runs: a script that writes its answer may run filters.
    depth: Cell<u32>,
    /// Garbage is to be collected before the next run.
    collect_first: Cell<bool>,
}

impl Machine {
    /// Opens a machine with Lua's and the `ngx` libraries. Reads no file.
    pub(crate) fn open(options: MachineOptions) -> Result<Machine, OpenError> {
        let watch = Arc::new(Watch::new());
        let budget = Box::into_raw(Box::new(Budget::new(options.memory_limit_bytes, watch.clone())));
        let bridge = Bridge::new(options.world.clone(), options.zones.clone(), options.regex_match_limit);
        let bridge = Box::into_raw(Box::new(bridge));
        // SAFETY: the callback keeps LuaJIT's allocation contract, and the budget lives until after lua_close.
        let state = unsafe { ffi::lua_newstate(budget::allocate, budget.cast::<c_void>()) };
        let mut machine = Machine {
            state,
            bridge,
            budget,
            watch,
            idle: RefCell::default(),
            anchors: Anchors::NONE,
            depth: Cell::new(0),
            collect_first: Cell::new(false),
        };
        if state.is_null() {
            return Err(OpenError { text: b"no memory for a Lua machine".to_vec() });
        }
        // SAFETY: the machine is new and this thread's own; library::open raises errors only inside a protected call.
        let opened = unsafe { library::open(state, bridge, &options) };
        match opened {
            Ok(anchors) => machine.anchors = anchors,
            Err(text) => return Err(OpenError { text }),
        }
        machine.watch.opened(state);
        Ok(machine)
    }

    /// Returns a handle for a watchdog, which any thread may hold and which may outlive the machine.
    pub(crate) fn interrupter(&self) -> Interrupter {
        Interrupter(self.watch.clone())
    }

    /// Returns the number of bytes that the machine holds.
    pub(crate) fn used_bytes(&self) -> usize {
        // SAFETY: the budget lives as long as self, and no allocation is under way.
        unsafe { (*self.budget).used_bytes() }
    }

    /// Counts what the server holds for scripts outside of the machine: `now` bytes in place of `before`.
    pub(crate) fn count_outside(&self, before: usize, now: usize) {
        // SAFETY: as in used_bytes.
        unsafe { (*self.budget).count_outside(before, now) }
    }

    /// Returns how many bytes more the server may hold for scripts.
    pub(crate) fn room_outside(&self) -> usize {
        // SAFETY: as in used_bytes.
        unsafe { (*self.budget).room_outside() }
    }

    /// Loads inline code under the name that [`chunk_name`] makes.
    pub(crate) fn load_inline(&self, code: &[u8], name: &[u8]) -> Result<Chunk, LoadError> {
        // SAFETY: the machine is open and this thread's own.
        unsafe {
            chunk::load_inline(self.state, code, name)?;
            Ok(self.keep())
        }
    }

    /// Loads the code of a file that was read already; tracebacks show `path`.
    pub(crate) fn load_file(&self, path: &[u8], code: &[u8]) -> Result<Chunk, LoadError> {
        // SAFETY: as in load_inline.
        unsafe {
            chunk::load_file(self.state, path, code)?;
            Ok(self.keep())
        }
    }

    /// Runs a script of a phase that cannot wait to its end, and passes its first result to `see`.
    pub(crate) fn call<R>(
        &self,
        chunk: Chunk,
        phase: Phase,
        request: u32,
        see: impl FnOnce(Returned<'_>) -> R,
    ) -> Result<R, ScriptError> {
        self.call_with(chunk, phase, request, |_| 0, see)
    }

    /// Does the same with the arguments that `push` puts on the stack, which has room for three; `push` returns their
    /// number.
    pub(crate) fn call_with<R>(
        &self,
        chunk: Chunk,
        phase: Phase,
        request: u32,
        push: impl FnOnce(*mut lua_State) -> i32,
        see: impl FnOnce(Returned<'_>) -> R,
    ) -> Result<R, ScriptError> {
        let before = self.enter(phase, request);
        let state = self.state;
        // SAFETY: the machine is open and this thread's own; the call is protected, and its stack is left as it was.
        let (result, status) = unsafe {
            let top = ffi::lua_gettop(state);
            traceback::push_handler(state);
            ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, chunk.function);
            let given = push(state);
            let status = ffi::lua_pcall(state, given, 1, top + 1);
            let result = match status {
                ffi::LUA_OK => Ok(see(Returned { state, machine: PhantomData })),
                _ => Err(ScriptError { text: stack::pop_error(state) }),
            };
            ffi::lua_settop(state, top);
            (result, status)
        };
        self.leave(before, status);
        result
    }

    /// Forgets what a request kept in Lua. To be called when the request ends.
    pub(crate) fn forget_request(&self, request: u32) {
        let given = |state| {
            // SAFETY: `call_with` leaves room for arguments.
            unsafe { ffi::lua_pushnumber(state, f64::from(request)) };
            1
        };
        // The function clears two slots of tables and cannot fail.
        let _ = self.call_with(self.anchors.forget, Phase::Init, 0, given, |_| ());
    }

    /// Returns the functions of our own Lua sources.
    pub(crate) fn anchors(&self) -> Anchors {
        self.anchors
    }

    /// Collects all garbage, as part of a run: finalizers can be stopped. Those that fail are logged by LuaJIT itself.
    pub(crate) fn collect_garbage(&self) {
        // SAFETY: the machine is open and this thread's own.
        unsafe { ffi::lua_gc(self.state, ffi::LUA_GCCOLLECT, 0) };
    }

    /// Passes the main stack to `act`, for tests.
    #[cfg(test)]
    pub(crate) fn with_state(&self, act: impl FnOnce(*mut lua_State)) {
        act(self.state);
    }

    /// Begins a run. Returns the run that this one is inside of, for [`Machine::leave`].
    fn enter(&self, phase: Phase, request: u32) -> OuterRun {
        if self.depth.replace(self.depth.get() + 1) == 0 {
            self.watch.enter();
            // The coroutine that ran out of memory was still there when its run ended.
            if self.collect_first.take() {
                self.collect_garbage();
            }
        }
        // SAFETY: the bridge and the budget live as long as self, and nothing else refers to them between calls.
        unsafe {
            let before = OuterRun { phase: (*self.bridge).phase, request: (*self.bridge).request };
            (*self.bridge).phase = phase as u32;
            (*self.bridge).request = request;
            (*self.budget).set_limited(true);
            before
        }
    }

    /// Ends a run that LuaJIT ended with `status`.
    fn leave(&self, before: OuterRun, status: i32) {
        self.depth.set(self.depth.get() - 1);
        let is_outermost = self.depth.get() == 0;
        // SAFETY: as in enter.
        let is_tight = unsafe {
            (*self.bridge).phase = before.phase;
            (*self.bridge).request = before.request;
            (*self.budget).set_limited(!is_outermost);
            (*self.budget).is_tight()
        };
        if is_outermost {
            self.collect_first.set(status == ffi::LUA_ERRMEM);
            if is_tight || status == ffi::LUA_ERRMEM {
                self.collect_garbage();
            }
            // SAFETY: as in enter.
            unsafe { (*self.bridge).shrink() };
            self.watch.leave(self.state);
        }
    }

    /// Returns the address of the bridge.
    pub(crate) fn bridge(&self) -> *mut Bridge {
        self.bridge
    }

    /// Moves the function at the top of the stack to the registry.
    fn keep(&self) -> Chunk {
        // SAFETY: the caller left a value on the stack.
        Chunk { function: unsafe { ffi::luaL_ref(self.state, ffi::LUA_REGISTRYINDEX) } }
    }
}

/// The first result of a script that has run to its end.
pub(crate) struct Returned<'a> {
    state: *mut lua_State,
    machine: PhantomData<&'a Machine>,
}

impl Returned<'_> {
    /// Returns the result as text, if it is a string or a number.
    pub(crate) fn text(&self) -> Option<&[u8]> {
        // SAFETY: the value is at the top of the machine's stack for as long as `self` lives.
        unsafe {
            match ffi::lua_type(self.state, -1) {
                ffi::LUA_TSTRING | ffi::LUA_TNUMBER => stack::bytes(self.state, -1),
                _ => None,
            }
        }
    }

    /// Returns the result as an integer, its fraction cut off; 0 if it is no number.
    pub(crate) fn integer(&self) -> i64 {
        // SAFETY: as in `text`.
        unsafe { ffi::lua_tointeger_(self.state, -1) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Finalizers run now: this is a run that can be stopped, by a hook that is set before it begins.
        self.watch.enter();
        self.watch.closed();
        // SAFETY: both boxes were made in `open` and are freed here only, after the last use by the machine; no other
        // thread sets hooks any more.
        unsafe {
            if !self.state.is_null() {
                interrupt::look_while_closing(self.state);
                ffi::lua_close(self.state);
            }
            self.watch.ended();
            drop(Box::from_raw(self.bridge));
            drop(Box::from_raw(self.budget));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
