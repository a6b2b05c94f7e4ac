//! The output of scripts: the last changes to the head, the body, and the answer that HTTP/1.0 clients get in one
//! piece.
//!
//! The functions here call into the engine, which may run header and body filters in Lua. So they take the frame's
//! parts anew for every call, and hold none of them across it.

use std::rc::Rc;

use engine::host::{Level, ScriptOutcome};
use engine::log_line;
use engine::modules::static_files;
use engine::output::{write_body, write_head};

use super::frame::{self, Frame};
use super::state::RequestState;
use crate::machine::bridge::Bridge;
use crate::phase::Phase;

/// The answer cannot be continued.
#[derive(Debug)]
pub(crate) struct OutputFailed;

/// Writes a piece of the body, and before it the head if that is not written; `None` ends the body.
///
/// # Safety
/// `bridge` must be a machine's during a call from its Lua, with a request.
pub(crate) unsafe fn send(bridge: *mut Bridge, data: Option<&[u8]>) -> Result<(), OutputFailed> {
    // SAFETY: the caller vouches for the bridge; the parts are not used after calls that may run Lua.
    unsafe {
        let Some(request) = frame::request(bridge) else { return Err(OutputFailed) };
        let state: *const RequestState = request.state;
        if (*state).eof.get() {
            return Ok(());
        }
        if request.exchange.is_head() {
            (*state).header_only.set(true);
        }
        let settings = &request.exchange.settings(request.env.config).lua;
        let holds = *settings.http10_buffering
            && (*state).held.borrow().is_none()
            && !request.exchange.output.head_written()
            && request.exchange.request.head.version < http::Version::Http11
            && request.exchange.response.content_length.is_none();
        if holds {
            *(*state).held.borrow_mut() = Some(Vec::new());
        }
        prepare_head(request);
        if (*state).header_only.get() {
            (*state).eof.set(true);
            return release(bridge, state, true);
        }
        if let Some(data) = data {
            if !data.is_empty() {
                (*state).seen_body.set(true);
            }
            if let Some(held) = &mut *(*state).held.borrow_mut() {
                held.extend_from_slice(data);
                log_debug(bridge, "lua buffering output bufs for the HTTP 1.0 request");
                return Ok(());
            }
            return write(bridge, data, false);
        }
        (*state).eof.set(true);
        release(bridge, state, true)
    }
}

/// Writes the head, if it is not written.
///
/// # Safety
/// As for [`send`].
pub(crate) unsafe fn send_head(bridge: *mut Bridge) -> Result<(), OutputFailed> {
    // SAFETY: as in `send`.
    unsafe {
        let Some(request) = frame::request(bridge) else { return Err(OutputFailed) };
        let is_held = request.state.held.borrow().is_some();
        prepare_head(request);
        if is_held {
            return Ok(());
        }
        head(bridge)
    }
}

/// Writes the head; when a filter refuses it, remembers what is to be answered.
///
/// # Safety
/// As for [`send`].
unsafe fn head(bridge: *mut Bridge) -> Result<(), OutputFailed> {
    // SAFETY: the parts are taken anew after the call that may run Lua.
    unsafe {
        let Some(mut request) = frame::request(bridge) else { return Err(OutputFailed) };
        let state: *const RequestState = request.state;
        if (*state).refused.get().is_some() {
            return Err(OutputFailed);
        }
        write_head(request.exchange, &mut request.env).map_err(|refused| {
            (*state).refused.set(Some(refused));
            OutputFailed
        })
    }
}

/// Ends the answer of a script that has ended, where ngx_lua does (`ngx_http_lua_handle_exit` and the ends of the phase
/// handlers), and returns the outcome for the engine.
///
/// # Safety
/// `frame` must be the innermost frame, and no script may run.
pub(super) unsafe fn settle(
    frame: *mut Frame,
    state: &Rc<RequestState>,
    phase: Phase,
    outcome: ScriptOutcome,
) -> ScriptOutcome {
    let bridge = state.scripts.machine.bridge();
    // SAFETY: the caller vouches for the frame, which is the bridge's; the parts are not used after `send`.
    unsafe {
        debug_assert!(std::ptr::eq(frame::innermost(bridge), frame));
        let Some(request) = frame::request(bridge) else { return outcome };
        let head_written = request.exchange.output.head_written();
        let status = &mut request.exchange.response.status;
        let (ends, left) = match outcome {
            ScriptOutcome::Finished => (phase == Phase::Content || head_written, outcome),
            ScriptOutcome::Exit(code) => {
                if !head_written && *status == 0 && (200..1000).contains(&code) {
                    *status = code as u16;
                }
                let is_abort = matches!(code, NGX_ERROR | 408 | 444 | 499);
                if state.held.borrow().is_some() && *status != 0 && !is_abort {
                    (true, if code >= 200 { ScriptOutcome::Exit(200) } else { outcome })
                } else {
                    let is_success = (200..300).contains(&code) && code != NO_CONTENT;
                    (is_success || (code == 0 && phase == Phase::Content), outcome)
                }
            }
            _ => (false, outcome),
        };
        let failed = ends && send(bridge, None).is_err();
        match state.refused.take() {
            Some(refused) => ScriptOutcome::HeadRefused(refused),
            None if failed => ScriptOutcome::Failed,
            None => left,
        }
    }
}

pub(super) const NGX_ERROR: i32 = -1;
const NO_CONTENT: i32 = 204;

/// Completes the head as ngx_lua does: a status, a type, and no length that a script has not set.
fn prepare_head(request: frame::CurrentRequest<'_>) {
    let frame::CurrentRequest { exchange, mut env, state, .. } = request;
    if exchange.output.head_written() {
        return;
    }
    if exchange.response.status == 0 {
        exchange.response.status = 200;
    }
    if !state.type_set.replace(true) {
        let settings = &exchange.settings(env.config).lua;
        if *settings.use_default_type && exchange.response.content_type.is_none() {
            static_files::set_content_type(exchange, &mut env);
        }
    }
    if !state.headers_set.get() {
        exchange.response.content_length = None;
    }
    exchange.response.allow_ranges = false;
}

/// Writes what was held back, now that its length is known; with `end` the body ends with it.
///
/// # Safety
/// As for [`send`]; `state` must be the request's.
unsafe fn release(bridge: *mut Bridge, state: *const RequestState, end: bool) -> Result<(), OutputFailed> {
    // SAFETY: the caller vouches for both; the request's state outlives the call.
    unsafe {
        let held = (*state).held.take();
        match held {
            Some(held) => {
                if let Some(request) = frame::request(bridge) {
                    let response = &mut request.exchange.response;
                    response.content_length.get_or_insert(held.len() as u64);
                }
                write(bridge, &held, end)
            }
            None if end => write(bridge, b"", true),
            None => Ok(()),
        }
    }
}

/// # Safety
/// As for [`send`].
unsafe fn write(bridge: *mut Bridge, data: &[u8], last: bool) -> Result<(), OutputFailed> {
    // SAFETY: the parts are handed on and not used afterwards.
    unsafe {
        head(bridge)?;
        let Some(mut request) = frame::request(bridge) else { return Err(OutputFailed) };
        write_body(request.exchange, &mut request.env, data, last).map_err(|_| OutputFailed)
    }
}

/// Writes a line to the debug log, in ngx_lua's words, which its own tests look for.
///
/// # Safety
/// As for [`send`].
pub(crate) unsafe fn log_debug(bridge: *mut Bridge, line: &str) {
    // SAFETY: the caller vouches for the bridge; the parts are used up here.
    if let Some(mut request) = unsafe { frame::request(bridge) } {
        log_line::error(request.exchange, &mut request.env, Level::Debug, line.as_bytes());
    }
}
