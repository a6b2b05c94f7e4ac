//! One call of the engine into Lua, as the API functions reach it: the request, its configuration and the host.
//!
//! The engine lends these for the length of the call. A frame holds them as raw pointers, because a script that
//! writes its answer makes the engine call in again (header and body filters); the inner call lends what the outer
//! one lent it, and puts its own frame in front. Functions get at the request only through [`request`], which hands
//! out references for one API call, and must never keep one across a call into the engine that may run Lua.

use std::rc::Rc;

use engine::host::Host;
use engine::{Config, Effect, Env, Exchange};

use super::state::RequestState;
use super::timers::Timers;
use crate::machine::bridge::Bridge;

/// What a script wants that only the engine or the server can do. The script yields after asking, or, in filters,
/// just goes on.
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
}

/// See the module.
pub(crate) struct Frame {
    exchange: *mut Exchange,
    config: *const Config,
    host: *mut (dyn Host + 'static),
    state: Option<Rc<RequestState>>,
    /// Whose timers these are.
    timers: *const Timers,
    /// What stands behind the log lines of a timer's function: where it came from.
    context: Option<Rc<[u8]>>,
    /// What the script asked for last.
    pub(crate) want: Option<Want>,
    /// `ngx.arg` of `set_by_lua`.
    pub(crate) args: Vec<Vec<u8>>,
}

/// The parts of a frame, for one API call.
pub(crate) struct CurrentRequest<'a> {
    pub(crate) exchange: &'a mut Exchange,
    pub(crate) env: Env<'a>,
    pub(crate) state: &'a RequestState,
    pub(crate) want: &'a mut Option<Want>,
    pub(crate) args: &'a [Vec<u8>],
}

impl Frame {
    /// A frame for a request, or, without one, for `init_by_lua` and its like. It must be given up before what it was
    /// lent is.
    pub(super) fn new(
        host: &mut dyn Host,
        config: &Config,
        exchange: Option<&mut Exchange>,
        state: Option<Rc<RequestState>>,
        timers: &Timers,
    ) -> Frame {
        let host: *mut (dyn Host + '_) = host;
        Frame {
            exchange: exchange.map_or(std::ptr::null_mut(), std::ptr::from_mut),
            config,
            // SAFETY: only the lifetime changes; `Frame`'s users see to it that the frame goes first (see above).
            host: unsafe { std::mem::transmute::<*mut (dyn Host + '_), *mut (dyn Host + 'static)>(host) },
            state,
            timers,
            context: None,
            want: None,
            args: Vec::new(),
        }
    }
}

impl Frame {
    /// The same for the function of a timer.
    pub(super) fn of_timer(mut self, origin: Rc<[u8]>) -> Frame {
        self.context = Some(origin);
        self
    }
}

/// What stands behind the log lines of a frame without a request.
///
/// # Safety
/// `frame` must be the innermost frame of a call that is going on.
pub(crate) unsafe fn context(frame: *mut Frame) -> Option<Rc<[u8]>> {
    // SAFETY: the caller vouches for it.
    unsafe { (*frame).context.clone() }
}

/// The timers of the machine.
///
/// # Safety
/// As for [`request`].
pub(crate) unsafe fn timers<'a>(bridge: *mut Bridge) -> Option<&'a Timers> {
    // SAFETY: the caller vouches for the bridge; the timers outlive the frame.
    unsafe { (*bridge).frame.as_ref().map(|frame| &*frame.timers) }
}

/// What the function that runs asks for: of a request or of a timer.
///
/// # Safety
/// As for [`request`].
pub(crate) unsafe fn want<'a>(bridge: *mut Bridge) -> Option<&'a mut Option<Want>> {
    // SAFETY: the caller vouches for the bridge.
    unsafe { (*bridge).frame.as_mut().map(|frame| &mut frame.want) }
}

/// What became of the order to a switch that the function that runs has waited for: a request's or a timer's.
///
/// # Safety
/// As for [`request`].
pub(crate) unsafe fn switched(bridge: *mut Bridge) -> Option<Result<u64, String>> {
    // SAFETY: the caller vouches for the bridge; the exchange is lent for the call.
    unsafe {
        let frame = (*bridge).frame.as_mut()?;
        match frame.exchange.as_mut() {
            Some(exchange) => exchange.script.switched.take(),
            None => frame.state.as_ref()?.switched.take(),
        }
    }
}

/// Who makes a timer now, for the log: `, client: …, server: …`.
///
/// # Safety
/// As for [`request`].
pub(crate) unsafe fn origin(bridge: *mut Bridge) -> Rc<[u8]> {
    // SAFETY: the caller vouches for the bridge; the parts are used up here.
    unsafe {
        if (*bridge).frame.is_null() {
            return Rc::from(&b", context: ngx.timer"[..]);
        }
        if let Some(context) = context((*bridge).frame) {
            return context;
        }
        let mut text = b", context: ngx.timer".to_vec();
        let (Some(exchange), env) = world((*bridge).frame) else { return text.into() };
        if let Some(remote) = exchange.connection.remote {
            text.extend_from_slice(format!(", client: {}", remote.ip()).as_bytes());
        }
        if let Some(listener) = env.config.listeners.get(exchange.connection.listener) {
            text.extend_from_slice(format!(", server: {}", listener.address).as_bytes());
        }
        text.into()
    }
}

/// The world of a frame, with or without a request.
///
/// # Safety
/// `frame` must be the innermost frame of a call that is going on, and nothing else may refer to what it was lent while
/// the result is in use.
pub(crate) unsafe fn world<'a>(frame: *mut Frame) -> (Option<&'a mut Exchange>, Env<'a>) {
    // SAFETY: the caller vouches for it.
    unsafe { ((*frame).exchange.as_mut(), Env { config: &*(*frame).config, host: &mut *(*frame).host }) }
}

/// The request that runs; `None` outside of requests.
///
/// # Safety
/// `bridge` must be a machine's, during a call from its Lua; the parts must not be used after a call into the engine
/// that may run Lua.
pub(crate) unsafe fn request<'a>(bridge: *mut Bridge) -> Option<CurrentRequest<'a>> {
    // SAFETY: the caller vouches for it; the frame outlives the call from Lua.
    unsafe {
        let frame = (*bridge).frame.as_mut()?;
        let state = frame.state.as_deref()?;
        Some(CurrentRequest {
            exchange: frame.exchange.as_mut()?,
            env: Env { config: &*frame.config, host: &mut *frame.host },
            state,
            want: &mut frame.want,
            args: &frame.args,
        })
    }
}
