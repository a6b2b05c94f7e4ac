//! One call of the engine into Lua, as the API functions reach it: what the engine lent, and what the script wants.
//!
//! A script that writes its answer makes the engine call in again (header and body filters); the inner call puts its
//! own frame in front. Functions get at the request only through [`request`], which hands out references for one API
//! call, and must never keep one across a call into the engine that may run Lua.

use std::rc::Rc;

use engine::host::Level;
use engine::{Effect, Env, Exchange, LocationId};

use super::engine_call::EngineCall;
use super::scripts::Scripts;
use super::state::RequestState;
use super::threads::Spawned;
use super::timers::{TimerOrigin, Timers};
use crate::machine::bridge::Bridge;

/// A script's request that only the engine or the server can carry out. The script yields after asking, or, in filters,
/// continues.
#[derive(Debug)]
pub(crate) enum Want {
    /// Wait for this.
    Effect(Effect),
    /// `ngx.exit(code)`.
    Exit(i32),
    /// `ngx.exec(uri, args)`.
    Exec {
        /// Where to.
        uri: Vec<u8>,
        /// The query.
        args: Vec<u8>,
    },
    /// `ngx.req.set_uri(uri, true)`: search for the location again.
    Jump,
    /// Run this light thread.
    Spawn(Spawned),
    /// Wait for the end of a light thread.
    Join,
}

/// One call; see the module.
pub(crate) struct Frame {
    call: EngineCall,
    state: Option<Rc<RequestState>>,
    /// The timers of the machine.
    timers: *const Timers,
    /// The script's latest request.
    pub(crate) want: Option<Want>,
    /// `ngx.arg` of `set_by_lua`.
    pub(crate) args: Vec<Vec<u8>>,
}

/// The parts of a frame that has a request, for one API call.
pub(crate) struct CurrentRequest<'a> {
    pub(crate) exchange: &'a mut Exchange,
    pub(crate) env: Env<'a>,
    pub(crate) state: &'a RequestState,
    pub(crate) want: &'a mut Option<Want>,
    pub(crate) args: &'a [Vec<u8>],
}

/// Why a request gives no order that may have been sent again by anyone (RFC 8470).
pub(crate) const EARLY: &str = "the request came before the end of its client's handshake";

impl CurrentRequest<'_> {
    /// Returns true if another answer may take the place of the script's.
    pub(crate) fn can_end(&self) -> bool {
        !self.exchange.output.head_written() && !self.state.progress.has_requests()
    }
}

/// The parts of a frame that has a request or a timer's function, for one API call.
pub(crate) struct CurrentScript<'a> {
    /// The location whose settings count.
    pub(crate) location: LocationId,
    pub(crate) env: Env<'a>,
    pub(crate) state: &'a RequestState,
    pub(crate) want: &'a mut Option<Want>,
}

impl CurrentScript<'_> {
    /// Returns the number of the request or timer's function.
    pub(crate) fn number(&self) -> u32 {
        self.state.number
    }
}

impl Frame {
    /// Makes a frame for a request or a timer's function, or, without a state, for `init_by_lua` and `init_worker_by_lua`.
    pub(super) fn new(call: EngineCall, state: Option<Rc<RequestState>>, timers: &Timers) -> Frame {
        Frame { call, state, timers, want: None, args: Vec::new() }
    }

    /// Makes this frame the innermost one for the length of `run`; the machine sees the request and the host through it.
    pub(super) fn within<R>(&mut self, scripts: &Scripts, run: impl FnOnce(*mut Frame) -> R) -> R {
        let frame: *mut Frame = self;
        let bridge = scripts.machine.bridge();
        // SAFETY: the frame is alive for as long as this runs.
        let before = scripts.serve(unsafe { &raw mut (*frame).call });
        // SAFETY: the bridge lives as long as the machine; no script of it looks at it now.
        let outer = unsafe { std::mem::replace(&mut (*bridge).frame, frame.cast()) };
        let result = run(frame);
        scripts.serve(before);
        // SAFETY: as above.
        unsafe { (*bridge).frame = outer };
        result
    }
}

/// Returns the innermost frame of a machine; null outside of calls.
///
/// # Safety
/// `bridge` must be a machine's.
#[inline]
pub(crate) unsafe fn innermost(bridge: *mut Bridge) -> *mut Frame {
    // SAFETY: the caller vouches for the bridge; only `within` puts anything there.
    unsafe { (*bridge).frame.cast() }
}

/// Returns what the engine lent for a frame.
///
/// # Safety
/// `frame` must be the innermost frame of a call that is going on.
pub(super) unsafe fn engine_call(frame: *mut Frame) -> *mut EngineCall {
    // SAFETY: the caller vouches for it.
    unsafe { &raw mut (*frame).call }
}

/// Writes to the error log about what runs in a frame.
///
/// # Safety
/// As for [`world`].
pub(super) unsafe fn log(frame: *mut Frame, line: &[u8]) {
    // SAFETY: the caller vouches for the frame.
    unsafe { (*frame).call.log(Level::Error, line) }
}

/// Returns the timers of the machine.
///
/// # Safety
/// As for [`request`].
pub(crate) unsafe fn timers<'a>(bridge: *mut Bridge) -> Option<&'a Timers> {
    // SAFETY: the caller vouches for the bridge; the timers outlive the frame.
    unsafe { innermost(bridge).as_ref().map(|frame| &*frame.timers) }
}

/// Returns where the running script, of a request or a timer, puts what it wants.
///
/// # Safety
/// As for [`request`].
pub(crate) unsafe fn want<'a>(bridge: *mut Bridge) -> Option<&'a mut Option<Want>> {
    // SAFETY: the caller vouches for the bridge.
    unsafe { innermost(bridge).as_mut().map(|frame| &mut frame.want) }
}

/// Takes the outcome of the order to a switch that the running script, of a request or a timer, has waited for.
///
/// # Safety
/// As for [`request`].
pub(crate) unsafe fn switched(bridge: *mut Bridge) -> Option<Result<u64, String>> {
    // SAFETY: the caller vouches for the bridge; the exchange is lent for the call.
    unsafe {
        let frame = innermost(bridge).as_mut()?;
        match frame.call.exchange() {
            Some(exchange) => exchange.script.switched.take(),
            None => frame.state.as_ref()?.switched.take(),
        }
    }
}

/// Returns the origin of a timer that is made now, for the log with `, client: …, server: …`.
///
/// # Safety
/// As for [`request`].
pub(crate) unsafe fn origin(bridge: *mut Bridge) -> Rc<TimerOrigin> {
    // SAFETY: the caller vouches for the bridge; the parts are used up here.
    unsafe {
        let frame = innermost(bridge);
        let mut text = b", context: ngx.timer".to_vec();
        let made = |location, text: Vec<u8>| Rc::new(TimerOrigin { location, text: text.into() });
        if frame.is_null() {
            return made(0, text);
        }
        if let Some(origin) = (*frame).call.origin() {
            return origin;
        }
        let (Some(exchange), env) = world(frame) else { return made(0, text) };
        if let Some(remote) = exchange.connection.remote {
            text.extend_from_slice(format!(", client: {}", remote.ip()).as_bytes());
        }
        if let Some(listener) = env.config.listeners.get(exchange.connection.listener) {
            text.extend_from_slice(format!(", server: {}", listener.address).as_bytes());
        }
        made(exchange.route.location.0, text)
    }
}

/// Returns the parts of a frame, with or without a request.
///
/// # Safety
/// `frame` must be the innermost frame of a call that is going on, and nothing else may refer to what it was lent while
/// the result is in use.
pub(crate) unsafe fn world<'a>(frame: *mut Frame) -> (Option<&'a mut Exchange>, Env<'a>) {
    // SAFETY: the caller vouches for it.
    unsafe { ((*frame).call.exchange(), (*frame).call.env()) }
}

/// Returns the request that runs; `None` outside of requests.
///
/// # Safety
/// `bridge` must be a machine's, during a call from its Lua; the parts must not be used after a call into the engine
/// that may run Lua.
pub(crate) unsafe fn request<'a>(bridge: *mut Bridge) -> Option<CurrentRequest<'a>> {
    // SAFETY: the caller vouches for it; the frame outlives the call from Lua.
    unsafe {
        let frame = innermost(bridge).as_mut()?;
        let state = frame.state.as_deref()?;
        Some(CurrentRequest {
            exchange: frame.call.exchange()?,
            env: frame.call.env(),
            state,
            want: &mut frame.want,
            args: &frame.args,
        })
    }
}

/// Returns the request or timer's function that runs; `None` outside of both.
///
/// # Safety
/// As for [`request`].
pub(crate) unsafe fn script<'a>(bridge: *mut Bridge) -> Option<CurrentScript<'a>> {
    // SAFETY: the caller vouches for it; the frame outlives the call from Lua.
    unsafe {
        let frame = innermost(bridge).as_mut()?;
        let state = frame.state.as_deref()?;
        Some(CurrentScript {
            location: frame.call.location(),
            env: frame.call.env(),
            state,
            want: &mut frame.want,
        })
    }
}
