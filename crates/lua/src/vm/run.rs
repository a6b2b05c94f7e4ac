//! One run of one script for one request: from the frame it runs in to the outcome that the engine gets.
//!
//! Owns how a script is started and gone on with, and what the error log says of its failures. Must never decide
//! which script runs.

use std::cell::Cell;
use std::rc::Rc;

use engine::exchange::Exchange;
use engine::host::{Host, Level, ScriptCall, ScriptOutcome};
use engine::modules::lua::{ScriptId, ScriptPhase};
use engine::phase::Wake;
use engine::{Config, Env, log_line};

use super::frame::{self, Frame, Want};
use super::output;
use super::schedule::{self, Flow};
use super::state::RequestState;
use super::threads::Running;
use crate::machine::{Chunk, ScriptError};
use crate::phase::{Phase, Phases};

/// Writes to the debug log which handler runs, in ngx_lua's words, which its own tests look for.
pub(super) fn log_handler(
    host: &mut dyn Host,
    config: &Config,
    exchange: &mut Exchange,
    state: &RequestState,
    call: ScriptCall,
) {
    if !log_line::enabled(exchange, config, Level::Debug) {
        return;
    }
    let uri = String::from_utf8_lossy(&exchange.request.uri);
    let line = match (call, exchange.script.phase) {
        (ScriptCall::Resume, _) if state.progress.slept.get() => schedule::slept_line(exchange),
        (ScriptCall::Resume, _) => return,
        (_, ScriptPhase::ServerRewrite) => format!("lua server rewrite handler, uri:\"{uri}\" c:1"),
        (_, ScriptPhase::Rewrite) => format!("lua rewrite handler, uri:\"{uri}\" c:1"),
        (_, ScriptPhase::Access) => format!("lua access handler, uri:\"{uri}\" c:1"),
        (_, ScriptPhase::Content) => format!("lua content handler, uri:\"{uri}\" c:1"),
        (_, ScriptPhase::Log) => format!("lua log handler, uri:\"{uri}\" c:0"),
        (_, ScriptPhase::HeaderFilter) => format!("lua header filter for user lua code, uri \"{uri}\""),
        (_, ScriptPhase::BodyFilter) => format!("lua body filter for user lua code, uri \"{uri}\""),
        (_, ScriptPhase::Balancer) => {
            let tries = exchange.script.balancing.as_ref().map_or(0, |balancing| balancing.left);
            format!("lua balancer peer, tries: {tries}")
        }
        _ => return,
    };
    log_line::error(exchange, &mut Env { config, host }, Level::Debug, line.as_bytes());
}

/// Notes if Lua keeps something for the request whose script ran last.
pub(super) fn note_touched(state: &RequestState) {
    let bridge = state.scripts.machine.bridge();
    // SAFETY: the bridge lives as long as the machine; no script runs now that would look at it.
    unsafe {
        if (*bridge).touched != 0 {
            (*bridge).touched = 0;
            state.touched.set(true);
        }
    }
}

/// The settings of one run.
#[derive(Clone, Copy)]
pub(super) struct RunSettings {
    pub(super) phase: Phase,
    /// `lua_code_cache`: whether a file's code is kept.
    pub(super) keep: bool,
}

/// # Safety
/// `frame` must be the innermost frame.
pub(super) unsafe fn run_in(
    frame: *mut Frame,
    state: &Rc<RequestState>,
    place: RunSettings,
    call: ScriptCall,
    wake: Option<Wake>,
) -> ScriptOutcome {
    let machine = &state.scripts.machine;
    let flow = match call {
        // SAFETY: the caller vouches for the frame.
        ScriptCall::Resume => match unsafe { schedule::resume(frame, state, place.phase, wake) } {
            Ok(flow) => flow,
            Err(Some(status)) => return ScriptOutcome::Exit(i32::from(status)),
            Err(None) => return ScriptOutcome::Failed,
        },
        ScriptCall::Start(id) | ScriptCall::BodyFilter(id) => {
            // SAFETY: the caller vouches for the frame.
            let chunk = match unsafe { state.scripts.chunk(frame::engine_call(frame), id, place.keep) } {
                Ok(chunk) => chunk,
                Err(fault) => {
                    // SAFETY: as above.
                    unsafe { frame::log(frame, &fault.line) };
                    return match fault.status {
                        500 => ScriptOutcome::Failed,
                        status => ScriptOutcome::Exit(i32::from(status)),
                    };
                }
            };
            if !Phases::WAITING.has(place.phase) {
                // SAFETY: as above.
                return unsafe { run_at_once(frame, state, place.phase, chunk, id) };
            }
            let entry = Running::entry(machine.start(chunk), 0);
            // SAFETY: as above.
            unsafe { schedule::run(frame, state, place.phase, entry) }
        }
    };
    let outcome = match flow {
        Flow::Wait(effect) => return ScriptOutcome::Wait(effect),
        Flow::Done => ScriptOutcome::Finished,
        Flow::Failed => ScriptOutcome::Failed,
        Flow::Exit(code) => ScriptOutcome::Exit(code),
        Flow::Exec { uri, args } => ScriptOutcome::Exec { uri, args },
        Flow::Jump => {
            machine.forget_request(state.number);
            ScriptOutcome::Finished
        }
    };
    if Phases::HANDSHAKE.has(place.phase) {
        return outcome;
    }
    // SAFETY: as above.
    unsafe { output::settle(frame, state, place.phase, outcome) }
}

/// Runs a script of a phase that cannot wait.
///
/// # Safety
/// `frame` must be the innermost frame.
pub(super) unsafe fn run_at_once(
    frame: *mut Frame,
    state: &Rc<RequestState>,
    phase: Phase,
    chunk: Chunk,
    id: ScriptId,
) -> ScriptOutcome {
    let machine = &state.scripts.machine;
    if phase == Phase::Set {
        // SAFETY: the caller vouches for the frame; templates run no Lua.
        unsafe {
            let (exchange, mut env) = frame::world(frame);
            if let (Some(exchange), Some(script)) = (exchange, env.config.lua.scripts.get(id.0 as usize)) {
                let quote = exchange.script.escapes_captures;
                let args = script.args.iter();
                (*frame).args = args.map(|arg| arg.value_in_rewrite(exchange, &mut env, quote)).collect();
            }
        }
    }
    let value: Cell<Option<Vec<u8>>> = Cell::new(None);
    let mut has_failed = false;
    let result = machine.call(chunk, phase, state.number, |returned| match phase {
        Phase::Set => value.set(returned.text().map(<[u8]>::to_vec)),
        Phase::BodyFilter => has_failed = is_failure(returned.integer()),
        _ => {}
    });
    match result {
        Ok(()) if has_failed => ScriptOutcome::Failed,
        Ok(()) => {
            // SAFETY: as above; the script does not run now.
            unsafe {
                if let (Some(exchange), _) = frame::world(frame)
                    && phase == Phase::Set
                {
                    exchange.script.value = value.take().unwrap_or_default();
                }
                match (*frame).want.take() {
                    // The answer that a header filter has chosen passes it too.
                    Some(Want::Exit(code))
                        if phase == Phase::HeaderFilter && state.filter_exit.replace(code) == code =>
                    {
                        ScriptOutcome::Finished
                    }
                    Some(Want::Exit(code)) => ScriptOutcome::Exit(code),
                    _ => ScriptOutcome::Finished,
                }
            }
        }
        Err(ScriptError { text }) => {
            let line = [b"failed to run ", phase.directive().as_bytes(), b": ", &text].concat();
            // SAFETY: as above.
            unsafe { frame::log(frame, &line) };
            ScriptOutcome::Failed
        }
    }
}

/// Returns whether a body filter that returns this number ends the answer (ngx_http_lua_body_filter_by_chunk).
fn is_failure(returned: i64) -> bool {
    const SPECIAL_RESPONSE: i64 = 300;
    returned == i64::from(output::NGX_ERROR) || returned >= SPECIAL_RESPONSE
}

pub(super) fn phase_of(phase: ScriptPhase) -> Phase {
    match phase {
        ScriptPhase::Init => Phase::Init,
        ScriptPhase::InitWorker => Phase::InitWorker,
        ScriptPhase::ExitWorker => Phase::ExitWorker,
        ScriptPhase::SslClientHello => Phase::SslClientHello,
        ScriptPhase::SslCertificate => Phase::SslCertificate,
        ScriptPhase::ServerRewrite => Phase::ServerRewrite,
        ScriptPhase::Set => Phase::Set,
        ScriptPhase::Rewrite => Phase::Rewrite,
        ScriptPhase::Access => Phase::Access,
        ScriptPhase::Content => Phase::Content,
        ScriptPhase::HeaderFilter => Phase::HeaderFilter,
        ScriptPhase::BodyFilter => Phase::BodyFilter,
        ScriptPhase::Log => Phase::Log,
        ScriptPhase::Balancer => Phase::Balancer,
        ScriptPhase::Timer => Phase::Timer,
    }
}
