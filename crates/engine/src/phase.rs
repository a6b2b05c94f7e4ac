//! The walk of a request through nginx's phases, and what a handler may answer.
//!
//! [`advance`] runs handlers until one wants something that only the server can do. It never waits.

use crate::config::LocationId;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::modules::{self, access, error_page};
use std::fs::File;
use std::rc::Rc;

/// nginx's phases that modules may put handlers in, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Right after the head is read.
    #[default]
    PostRead,
    /// `rewrite`, `set`, `if`, `return` of the server.
    ServerRewrite,
    /// The search for the location; no handlers.
    FindLocation,
    /// `rewrite`, `set`, `if`, `return`, `rewrite_by_lua` of the location.
    Rewrite,
    /// Limits on connections and requests.
    PreAccess,
    /// May this client have it?
    Access,
    /// `try_files`.
    PreContent,
    /// The answer.
    Content,
}

/// All phases, in order.
pub const PHASES: [Phase; 8] = [
    Phase::PostRead,
    Phase::ServerRewrite,
    Phase::FindLocation,
    Phase::Rewrite,
    Phase::PreAccess,
    Phase::Access,
    Phase::PreContent,
    Phase::Content,
];

/// Where in the phases a request is: the phase, and the handler in it that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The phase.
    pub phase: Phase,
    /// The handler's place in [`modules::MODULES`]' order.
    pub handler: usize,
}

/// A module's part in a phase.
pub type Handler = fn(&mut Exchange, &mut Env<'_>) -> Verdict;

/// What a handler answers.
#[derive(Debug)]
pub enum Verdict {
    /// Go on with the next handler.
    Next,
    /// Go on with the next phase: the rest of this one is settled.
    NextPhase,
    /// In the access phase: this client may have it. Whether that is enough is for `satisfy` to say.
    Allow,
    /// The URI or the location changed: go on from this phase.
    Restart(Phase),
    /// Serve this.
    Serve(Content),
    /// Answer with this status: `error_page` may have a word, then nginx's built-in page.
    Refuse(u16),
    /// The same, with no field of the answer that was to go out: a header filter has refused it.
    Replace(u16),
    /// Do this, then call the same handler again: it finds the result in `route.wake`.
    Wait(Effect),
    /// The answer has been written to the exchange's output already (by a script).
    Written,
    /// Close the connection without an answer (nginx's 444).
    Drop,
}

/// A body to serve.
#[derive(Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These parts of a file, in order.
    File {
        /// The file.
        file: Rc<File>,
        /// What to send of it, with what stands between (multipart heads).
        parts: Vec<FilePart>,
    },
    /// What an upstream says to it, as the location's `proxy_pass` has it.
    Proxy,
    /// What the control API says to it (`control_api`). The request's body, if it has one, is read.
    Control,
    /// What the statistics say.
    Report(Report),
    /// Nothing after the head.
    Empty,
}

/// A report that is made from the statistics. Status and type of the answer are set; its length is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Groups and peers with their response times (`upstream_status`).
    UpstreamStatus(ReportForm),
    /// Everything in OpenMetrics' text format (`metrics`).
    Metrics,
}

/// What an `upstream_status` report looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportForm {
    /// Plain text.
    Text,
    /// A page for a browser.
    Html,
    /// JSON.
    Json,
}

/// A piece of a body that comes from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilePart {
    /// Bytes of the file.
    Range {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// Bytes in between.
    Text(Vec<u8>),
}

/// Something only the server can do. The handler that asked is called again with the [`Wake`].
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the whole request body into memory or a temporary file.
    ReadBody,
    /// Read the request body and throw it away.
    DiscardBody,
    /// Wait so many milliseconds.
    Sleep(u64),
    /// Hold the request back for so many milliseconds, or until its client goes away.
    Hold(u64),
    /// Send what stands in the output to the client.
    Flush,
    /// Keep the request until a hold of the tables it has pinned lets it go, or until its client goes away. The wake
    /// is `Done` when the newest tables are pinned in their place, `Failed(503)` when it waited for too long or too
    /// many wait already.
    AwaitRelease {
        /// Which: an index into the pinned tables' holds.
        hold: usize,
    },
    /// Carry out a script's order to a switch, put the outcome into `script.switched` and pin the newest tables, so that
    /// the script sees what it has done. The wake is `Done` whatever the outcome.
    Switch(SwitchOrder),
}

/// What a script wants of a switch (`ngx.shared.DICT:set` of a dict that is a switch's face).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchOrder {
    /// Which switch: an index into [`crate::Config::switches`].
    pub switch: usize,
    /// The key as the script has it.
    pub key: Vec<u8>,
    /// The target, or what a split is written as; `None` is back to the default.
    pub target: Option<Vec<u8>>,
    /// Who does it: `lua:FILE:LINE`.
    pub actor: String,
}

/// What became of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// It is done.
    Done,
    /// It failed: answer with this status (400, 408, 413, 500), or 499 if the client is gone.
    Failed(u16),
}

/// What the server is to do next for a request.
#[derive(Debug)]
pub enum Step {
    /// Do this, put the result into `route.wake`, and call [`advance`] again.
    Wait(Effect),
    /// Send this, then finish the request.
    Serve(Content),
    /// The whole answer stands in the output: send it, then finish the request.
    Written,
    /// Close the connection at once.
    Drop,
}

/// Walks on until the server is needed.
pub fn advance(exchange: &mut Exchange, env: &mut Env<'_>) -> Step {
    loop {
        let verdict = match exchange.route.cursor {
            Cursor { phase: Phase::FindLocation, .. } => modules::core::find_location(exchange, env),
            cursor => run(exchange, env, cursor),
        };
        if let Some(step) = obey(exchange, env, verdict) {
            return step;
        }
    }
}

/// Runs a phase's handlers from the cursor on, up to one that has something to say; that one the cursor is left at.
fn run(exchange: &mut Exchange, env: &mut Env<'_>, cursor: Cursor) -> Verdict {
    let handlers = modules::handlers(cursor.phase);
    for (place, handler) in handlers.iter().enumerate().skip(cursor.handler) {
        let verdict = match cursor.phase {
            Phase::Access => access::satisfy::run(*handler, exchange, env),
            _ => handler(exchange, env),
        };
        if !matches!(verdict, Verdict::Next) {
            exchange.route.cursor.handler = place;
            return verdict;
        }
        // There is nothing in it to drop, which the compiler would find out by a call for each handler.
        std::mem::forget(verdict);
    }
    exchange.route.cursor.handler = handlers.len();
    end_of_phase(exchange, env, cursor.phase)
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
    if let Some(name) = uri.strip_prefix(b"@") {
        let Some(location) = env.config.server(exchange.route.server).named(name) else {
            let mut text = b"could not find named location \"@".to_vec();
            text.extend_from_slice(name);
            text.push(b'"');
            log_line::error(exchange, env, Level::Error, &text);
            return Err(500);
        };
        enter(exchange, location);
        access::limit_except::apply(exchange, env);
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
    // ngx.ctx does not outlive an internal redirect.
    exchange.script.handle = None;
    Ok(())
}

/// nginx's NGX_HTTP_MAX_URI_CHANGES.
pub const MAX_URI_CHANGES: u8 = 10;

/// Puts a request into a location.
pub fn enter(exchange: &mut Exchange, location: LocationId) {
    exchange.route.location = location;
    exchange.route.candidate = 0;
}

fn end_of_phase(exchange: &mut Exchange, env: &mut Env<'_>, phase: Phase) -> Verdict {
    match phase {
        // nginx's post-rewrite checker: a changed URI sends the request back to the search for a location.
        Phase::Rewrite if exchange.route.search_again => {
            exchange.route.search_again = false;
            exchange.route.uri_changes += 1;
            if exchange.route.uri_changes > MAX_URI_CHANGES {
                let mut text = b"rewrite or internal redirection cycle while processing \"".to_vec();
                text.extend_from_slice(&exchange.request.uri);
                text.push(b'"');
                log_line::error(exchange, env, Level::Error, &text);
                return Verdict::Refuse(500);
            }
            exchange.route.location = env.config.server(exchange.route.server).scope;
            Verdict::Restart(Phase::FindLocation)
        }
        Phase::Access => access::satisfy::conclude(exchange, env),
        // Nothing served it: nginx logs a directory index that is forbidden, and answers 404 otherwise.
        Phase::Content => modules::static_files::nothing_served(exchange, env),
        _ => Verdict::NextPhase,
    }
}

/// Carries out what is the walk's own part of a verdict; `None` means walk on.
fn obey(exchange: &mut Exchange, env: &mut Env<'_>, verdict: Verdict) -> Option<Step> {
    let cursor = &mut exchange.route.cursor;
    match verdict {
        Verdict::Next | Verdict::Allow => cursor.handler += 1,
        Verdict::NextPhase => *cursor = Cursor { phase: PHASES[cursor.phase as usize + 1], handler: 0 },
        Verdict::Restart(phase) => *cursor = Cursor { phase, handler: 0 },
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
    match error_page::choose(exchange, env, status) {
        error_page::Answer::Redirected => None,
        error_page::Answer::Serve(content) => Some(Step::Serve(content)),
    }
}
