//! The walk of a request through nginx's phases.
//!
//! [`advance`] runs handlers until one wants something that only the server can do. It never waits, and it knows no
//! module: what is peculiar to a phase is its checker's, in the module's entry in [`modules::MODULES`].

pub mod verdict;

pub use verdict::{
    Content, ControlFace, Cursor, Effect, FilePart, PHASES, Phase, Report, ReportForm, Step, SwitchOrder,
    Verdict, Wake,
};

use crate::config::LocationId;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::modules::{self, Handler, PhaseRun};

/// Walks on until the server is needed.
pub fn advance(exchange: &mut Exchange, env: &mut Env<'_>) -> Step {
    let phases = modules::phases();
    loop {
        let phase = &phases[exchange.route.cursor.phase as usize];
        let verdict = match phase.checker {
            Some(checker) => checker(exchange, env, phase),
            None => in_order(exchange, env, phase, call, |_, _| Verdict::NextPhase),
        };
        if let Some(step) = obey(exchange, env, verdict) {
            return step;
        }
    }
}

/// Runs the handlers of a phase that the location needs, from the cursor on, each through `run`, up to one that has
/// something to say, at which the cursor is left. If none has, the verdict is that of `end`. A verdict is large, so it is
/// returned as it is and not in an option.
#[inline]
pub fn in_order(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    phase: &PhaseRun,
    run: impl Fn(Handler, &mut Exchange, &mut Env<'_>) -> Verdict,
    end: impl FnOnce(&mut Exchange, &mut Env<'_>) -> Verdict,
) -> Verdict {
    let mut from = exchange.route.cursor.handler;
    // A handler may put the request into another location.
    while let Some((place, handler)) = phase.next(exchange.location(env.config).modules, from) {
        let verdict = run(handler, exchange, env);
        if !matches!(verdict, Verdict::Next) {
            exchange.route.cursor.handler = place;
            return verdict;
        }
        // There is nothing in it to drop, which the compiler would find out by a call for each handler.
        std::mem::forget(verdict);
        from = place + 1;
    }
    exchange.route.cursor.handler = phase.end();
    end(exchange, env)
}

/// Calls a handler, and leaves its verdict as it is.
#[inline]
pub fn call(handler: Handler, exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    handler(exchange, env)
}

/// Runs the log phase. The request is over, so that nothing follows from what its handlers answer, as in nginx.
pub fn log(exchange: &mut Exchange, env: &mut Env<'_>) {
    exchange.switches.begin_answer();
    let phase = &modules::phases()[Phase::Log as usize];
    let mut from = 0;
    while let Some((place, handler)) = phase.next(exchange.location(env.config).modules, from) {
        handler(exchange, env);
        from = place + 1;
    }
}

/// Answers a request that failed outside the phases: a broken head, a dead upstream, a body that is too large.
pub fn refuse(exchange: &mut Exchange, env: &mut Env<'_>, status: u16) -> Step {
    match obey(exchange, env, Verdict::Refuse(status)) {
        Some(step) => step,
        None => advance(exchange, env),
    }
}

/// Answers instead of a head that a header filter has refused ([`crate::output::HeadRefused::Replace`]).
pub fn replace(exchange: &mut Exchange, env: &mut Env<'_>, status: u16) -> Step {
    match obey(exchange, env, Verdict::Replace(status)) {
        Some(step) => step,
        None => advance(exchange, env),
    }
}

/// Redirects internally, as `error_page`, `try_files`, `X-Accel-Redirect` and `ngx.exec` do.
pub fn redirect_internally(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    uri: &[u8],
    args: &[u8],
) -> Result<(), u16> {
    if exchange.route.uri_changes >= MAX_URI_CHANGES {
        let mut text = b"rewrite or internal redirection cycle while internally redirecting to \"".to_vec();
        text.extend_from_slice(uri);
        text.push(b'"');
        log_line::error(exchange, env, Level::Error, &text);
        return Err(500);
    }
    exchange.route.uri_changes += 1;
    exchange.subrequests.slice = None;
    if let Some(name) = uri.strip_prefix(b"@") {
        let Some(location) = env.config.server(exchange.route.server).named(name) else {
            let mut text = b"could not find named location \"@".to_vec();
            text.extend_from_slice(name);
            text.push(b'"');
            log_line::error(exchange, env, Level::Error, &text);
            return Err(500);
        };
        enter(exchange, location);
        modules::settle(exchange, env);
        exchange.route.cursor = Cursor { phase: Phase::Rewrite, handler: 0 };
    } else {
        exchange.request.uri.clear();
        exchange.request.uri.extend_from_slice(uri);
        exchange.request.args.clear();
        exchange.request.args.extend_from_slice(args);
        exchange.request.uri_changed = true;
        exchange.route.rewritten = false;
        exchange.route.location = env.config.server(exchange.route.server).scope;
        exchange.route.cursor = Cursor { phase: Phase::ServerRewrite, handler: 0 };
    }
    exchange.route.internal = true;
    exchange.route.candidate = 0;
    exchange.route.uri_after_alias = false;
    exchange.route.rewrite_stopped = false;
    // A rewrite that was under way has no say in where the request goes on.
    exchange.route.search_again = false;
    exchange.upstream.redirected = true;
    exchange.script.waiting = false;
    exchange.subrequests.mirrored = false;
    // ngx.ctx does not outlive an internal redirect.
    exchange.script.handle = None;
    exchange.script.tap = None;
    Ok(())
}

/// nginx's NGX_HTTP_MAX_URI_CHANGES.
pub const MAX_URI_CHANGES: u8 = 10;

/// Puts a request into a location. What modules do about it is [`modules::settle`]'s.
pub fn enter(exchange: &mut Exchange, location: LocationId) {
    exchange.route.location = location;
    exchange.route.candidate = 0;
}

/// Carries out what is the walk's own part of a verdict; `None` means walk on.
fn obey(exchange: &mut Exchange, env: &mut Env<'_>, verdict: Verdict) -> Option<Step> {
    let cursor = &mut exchange.route.cursor;
    match verdict {
        Verdict::Next | Verdict::Allow => cursor.handler += 1,
        Verdict::NextPhase => *cursor = Cursor { phase: PHASES[cursor.phase as usize + 1], handler: 0 },
        Verdict::Restart(phase) => *cursor = Cursor { phase, handler: 0 },
        // It has asked a switch that has no answer.
        Verdict::Serve(_) if exchange.switches.take_refusal() => {
            return refuse_with_page(exchange, env, 503);
        }
        Verdict::Serve(content) => return Some(Step::Serve(content)),
        Verdict::Wait(effect) => return Some(Step::Wait(effect)),
        Verdict::Written => return Some(Step::Written),
        Verdict::Drop | Verdict::Refuse(444) => return Some(Step::Drop),
        Verdict::Refuse(status) => return refuse_with_page(exchange, env, status),
        // ngx_http_filter_finalize_request and ngx_http_clean_header.
        Verdict::Replace(status) => {
            exchange.response.headers.clear();
            exchange.response.trailers.clear();
            exchange.response.forget_content();
            return refuse_with_page(exchange, env, status);
        }
    }
    None
}

fn refuse_with_page(exchange: &mut Exchange, env: &mut Env<'_>, status: u16) -> Option<Step> {
    if exchange.output.head_written() {
        // The head is out with another status: all that is left is to cut the answer short.
        return Some(Step::Drop);
    }
    if exchange.subrequests.bare {
        exchange.response.forget_content();
        exchange.response.status = status;
        exchange.subrequests.refused = true;
        if let Some((kind, text)) = exchange.subrequests.stub.take() {
            exchange.response.content_type = kind;
            return Some(Step::Serve(Content::Bytes(text)));
        }
        return Some(Step::Serve(Content::Empty));
    }
    modules::page(exchange, env, status).map(Step::Serve)
}
