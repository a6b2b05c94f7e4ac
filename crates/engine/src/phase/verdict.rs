//! Verdicts of handlers, and a request's position in the phases. Data alone: [`super::advance`] carries it out.

use crate::network::Waiting;
use crate::subrequest::wanted::Subrequest;
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
    /// Access control.
    Access,
    /// `try_files`.
    PreContent,
    /// The answer.
    Content,
    /// Log lines about the request, once its response is sent or has failed: run by [`super::log`].
    Log,
}

/// All phases, in order.
pub const PHASES: [Phase; 9] = [
    Phase::PostRead,
    Phase::ServerRewrite,
    Phase::FindLocation,
    Phase::Rewrite,
    Phase::PreAccess,
    Phase::Access,
    Phase::PreContent,
    Phase::Content,
    Phase::Log,
];

/// A request's position in the phases: the phase, and the handler in it that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The phase.
    pub phase: Phase,
    /// The handler's place in the order of [`crate::modules::MODULES`].
    pub handler: usize,
}

/// The result of a handler.
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
        /// The parts to send, with the text between them (multipart heads).
        parts: Vec<FilePart>,
    },
    /// An upstream's response, as the location's `proxy_pass` has it.
    Proxy,
    /// The control plane's response. The request's body, if it has one, is read.
    Control(ControlFace),
    /// A report of the statistics.
    Report(Report),
    /// Nothing after the head.
    Empty,
}

/// The part of the control plane that a location shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlFace {
    /// The API, for programs (`control_api`).
    Api,
    /// The dashboard, for people (`control_ui`), with the API for its page.
    Dashboard,
}

/// A report that is made from the statistics. Status and type of the answer are set; its length is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Groups and peers with their response times (`upstream_status`).
    UpstreamStatus(ReportForm),
    /// Everything in OpenMetrics' text format (`metrics`).
    Metrics,
}

/// The format of an `upstream_status` report.
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
        /// The number.
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
    /// Read the body, or wait for this, whichever is over first: what was read of the body is kept for the next time. The wake
    /// is `Done` in both cases.
    ReadBodyOr(Waiting),
    /// Read the request body and throw it away.
    DiscardBody,
    /// Wait so many milliseconds.
    Sleep(u64),
    /// Hold the request back for so many milliseconds, or until its client goes away.
    Hold(u64),
    /// Send the output to the client.
    Flush,
    /// Keep the request until the hold that it awaits ([`crate::modules::switch::SwitchRecord::awaited`]) lets it go, or
    /// until its client goes away. The wake is `Done` when it may go on, `Failed(503)` when it waited for too long or
    /// too many wait already.
    AwaitRelease,
    /// Carry out a script's order to a switch, put the outcome into `script.switched`, and let the script read what it has
    /// done ([`crate::modules::switch::SwitchRecord::read_anew`]). The wake is `Done` whatever the outcome.
    Switch(SwitchOrder),
    /// Make these requests inside this one, and put them into `subrequests.ended` when they have all ended. The wake is
    /// `Done`, or `Failed(500)` if they are too deep inside each other.
    Subrequests(Vec<Subrequest>),
    /// Make these requests and do not wait for them: their answers are read and dropped. They share no variables. The wake
    /// is as for [`Effect::Subrequests`].
    Background(Vec<Subrequest>),
    /// Wait for this; what comes of it is with the script. The wake is `Done`.
    Await(Waiting),
}

/// A script's order to a switch (`ngx.shared.DICT:set` of a dict that is a switch's face).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchOrder {
    /// Which switch: an index into [`crate::Config::switches`].
    pub switch: usize,
    /// The key as the script has it.
    pub key: Vec<u8>,
    /// The target, or what a split is written as; `None` is back to the default.
    pub target: Option<Vec<u8>>,
    /// The actor: `lua:FILE:LINE`.
    pub actor: String,
}

/// The result of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// It is done.
    Done,
    /// It failed: answer with this status (400, 408, 413, 500), or 499 if the client is gone.
    Failed(u16),
}

/// The server's next step for a request.
#[derive(Debug)]
pub enum Step {
    /// Do this, put the result into `route.wake`, and call [`super::advance`] again.
    Wait(Effect),
    /// Send this, then finish the request.
    Serve(Content),
    /// The whole response is in the output: send it, then finish the request.
    Written,
    /// Close the connection at once.
    Drop,
}
