//! The state of one request, from its head to its log line.
//!
//! It is reused for the next request of the same connection: [`Exchange::reset`] (in `start_request.rs`) keeps every
//! buffer's capacity, so that a proxied request allocates nothing once the connection is warm. It holds what is so, never
//! how to do anything, and no handle on the configuration: that comes with [`crate::Env`].

use crate::clock::Now;
use crate::config::ids::{LocationId, ServerId};
pub use crate::connection::{Connection, ProxyProtocol};
use crate::modules::access::record::AccessRecord;
use crate::modules::limit_zone::record::LimitsRecord;
use crate::modules::lua::balancer::Balancing;
use crate::modules::lua::handshake::HandshakeScript;
use crate::modules::lua::script::ScriptPhase;
pub use crate::modules::proxy::record::{Try, UpstreamRecord};
use crate::modules::realip::record::RealIpRecord;
use crate::modules::slice::record::SliceRecord;
use crate::modules::ssi::record::SsiRecord;
use crate::modules::switch::record::SwitchRecord;
use crate::modules::userid::record::UserIdRecord;
use crate::network::BodyTap;
use crate::output::wire::Output;
use crate::phase::verdict::{Cursor, FilePart, Wake};
pub use crate::regex::Captures;
pub use crate::slots::{Slot, SlotState, Slots};
use http::{BodyFraming, Headers, RequestHead};
use std::any::Any;
use std::cell::Cell;
use std::fs::File;
use std::rc::Rc;

/// One request and its answer.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The connection it came on.
    pub connection: Connection,
    /// The client's request.
    pub request: Request,
    /// The response.
    pub response: Response,
    /// Its place in the configuration.
    pub route: Route,
    /// Which upstream peers were tried, and how that went.
    pub upstream: UpstreamRecord,
    /// Values of the variables that live in the request (`set`, captures, cached maps).
    pub slots: Slots,
    /// `$1`, `$2`, … of the last regular expression that matched.
    pub captures: Captures,
    /// The script that runs or waits for this request.
    pub script: ScriptState,
    /// The client of the connection itself, while the request has another one.
    pub realip: RealIpRecord,
    /// The outcomes of `limit_req` and `limit_conn`.
    pub limits: LimitsRecord,
    /// The tables of switches it has pinned, and what was chosen for it.
    pub switches: SwitchRecord,
    /// The requests inside it, and whether it is inside another one.
    pub subrequests: SubrequestRecord,
    /// The cookie that names its user.
    pub userid: UserIdRecord,
    /// Bytes on their way to the client.
    pub output: Output,
    /// The times of events.
    pub timing: Timing,
    /// A buffer for texts that are put together and handed on at once: take it, use it, put it back.
    pub scratch: Vec<u8>,
}

/// The client's request.
#[derive(Debug, Default)]
pub struct Request {
    /// The head as it came.
    pub head: RequestHead,
    /// `$uri`: decoded, normalised, changed by rewrites.
    pub uri: Vec<u8>,
    /// `$args`: as it came or as it was set.
    pub args: Vec<u8>,
    /// `$host`: validated, lower case, without a port.
    pub host: Vec<u8>,
    /// The framing of the body, as the client announces it.
    pub framing: BodyFraming,
    /// The body, as far as it was read.
    pub body: Body,
    /// The request's length on the wire so far: line, head and body (`$request_length`).
    pub length: u64,
    /// The method, when a script or an error page changed it.
    pub method_override: Option<Vec<u8>>,
    /// The URI was changed while it was normalised: `proxy_pass` without URI passes the original on only while it is untouched.
    pub uri_changed: bool,
    /// The body is to be read and discarded before the response is sent.
    pub discard_wanted: bool,
    /// The request was in the connection's buffer before the answer to the one before it was sent (`$pipe`).
    pub pipelined: bool,
    /// It came before the end of its client's handshake of TLS: anyone may have sent it again (RFC 8470).
    pub is_early: bool,
    /// `$request_id`, once it has been used.
    pub id: Option<[u64; 2]>,
}

/// The request's body as the server has it.
#[derive(Debug, Default)]
pub enum Body {
    /// Not read yet; `framing` says what comes.
    #[default]
    Unread,
    /// Completely read, in memory.
    Memory(Vec<u8>),
    /// Completely read, in a temporary file.
    File(BodyFile),
    /// Being passed on while it arrives; it must not be looked at.
    Streaming,
    /// Read and discarded.
    Discarded,
}

/// A request body in a temporary file.
#[derive(Clone, Debug)]
pub struct BodyFile {
    /// The file.
    pub file: Rc<File>,
    /// Its length in bytes.
    pub len: u64,
    /// Its name (`$request_body_file`).
    pub path: Rc<std::path::Path>,
    /// The server's: dropping the last one removes the file.
    pub guard: Rc<dyn Any>,
}

/// The response to the client.
#[derive(Debug, Default)]
pub struct Response {
    /// The status; 0 while none is chosen.
    pub status: u16,
    /// A status line of a peer's or a script's own wording, without the version.
    pub status_line: Option<Vec<u8>>,
    /// Content-Type without charset.
    pub content_type: Option<Vec<u8>>,
    /// Content-Length, if the length is known.
    pub content_length: Option<u64>,
    /// Last-Modified in seconds since the epoch, if the server made it.
    pub last_modified_s: Option<u64>,
    /// Location, still relative perhaps.
    pub location: Option<Vec<u8>>,
    /// All other fields, in order.
    pub headers: Headers,
    /// Fields sent after a chunked body.
    pub trailers: Headers,
    /// Ranges may be answered from this body (`Accept-Ranges`); only for [`crate::phase::Content::File`].
    pub allow_ranges: bool,
    /// The parts of the file that are sent instead of all of it, if a filter chose ranges: known once the head is
    /// written.
    pub parts: Vec<FilePart>,
    /// The head is an upstream's, or the control plane's: the request's conditions and ranges were theirs to judge.
    pub from_upstream: bool,
    /// The error that led here, while its error page is made; the status the client sees.
    pub error_status: u16,
    /// The status an error page is sent with, whatever served the page (`error_page 404 =200 …`).
    pub forced_status: Option<u16>,
    /// `expires`, `add_header` and the like were applied: header filters ran.
    pub filtered: bool,
    /// The answer must not be followed by another request.
    pub close: bool,
    /// The memory of the last Content-Type, for the next.
    spare: Vec<u8>,
}

/// A request's place in the configuration.
#[derive(Debug, Default)]
pub struct Route {
    /// The server.
    pub server: ServerId,
    /// The location, or the server's own scope before one is found.
    pub location: LocationId,
    /// Its position in the phases.
    pub cursor: Cursor,
    /// The number of changes of the URI by `rewrite … last` or internal redirects; ten are allowed.
    pub uri_changes: u8,
    /// The URI was changed by a rewrite and the location must be searched anew.
    pub search_again: bool,
    /// The request was redirected internally: `internal` locations are open to it.
    pub internal: bool,
    /// An error page is being made: `error_page` is not applied a second time unless `recursive_error_pages` is on.
    pub error_page: bool,
    /// `index` or `try_files` work: which of the names is next.
    pub candidate: usize,
    /// `break` left the request in a location whose name the URI no longer begins with (the opposite of `valid_location`).
    pub rewritten: bool,
    /// `try_files` found a file under the `alias` of a regular expression's location: the URI comes after the alias.
    pub uri_after_alias: bool,
    /// `break` was met: the rewrite module does nothing more in this location.
    pub rewrite_stopped: bool,
    /// The result of an effect, for the handler that asked for it.
    pub wake: Option<Wake>,
    /// Limits set by variables or scripts: bytes a second to the client, 0 none.
    pub limit_rate: Option<u64>,
    /// Bytes before that begins, where variables say it.
    pub limit_rate_after: Option<u64>,
    /// The state of the access phase.
    pub access: AccessRecord,
}

/// Whether a script is told that its client has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AbortNotice {
    /// No: the request ends.
    #[default]
    Unwanted,
    /// It is to be told, by a wake that has failed with 499.
    Wanted,
    /// It was told, and goes on.
    Given,
}

/// The script of a request.
#[derive(Debug, Default)]
pub struct ScriptState {
    /// The script host's own state: a coroutine that waits, and `ngx.ctx`. Dropping it frees what it holds.
    pub handle: Option<Box<dyn Any>>,
    /// A coroutine of this request waits to be resumed.
    pub waiting: bool,
    /// The chunk that a body filter works on.
    pub chunk: Vec<u8>,
    /// The chunk is the last one.
    pub chunk_last: bool,
    /// The arguments of the `set_by_lua` that runs have their numbered captures escaped.
    pub escapes_captures: bool,
    /// The result of `set_by_lua`.
    pub value: Vec<u8>,
    /// The result of the script's order to a switch ([`crate::phase::Effect::Switch`]): the new revision, or why it
    /// was refused.
    pub switched: Option<Result<u64, String>>,
    /// Whether a script is told that the client has left (`ngx.on_abort`).
    pub abort: AbortNotice,
    /// The body, if a script reads it as it comes.
    pub tap: Option<Rc<BodyTap>>,
    /// Which phase the script that runs is in, for `ngx.get_phase` and the phase checks.
    pub phase: ScriptPhase,
    /// The state of the script that chooses peers, while a request is with a group that has one.
    pub balancing: Option<Box<Balancing>>,
    /// The state of the scripts of a handshake, while there is one.
    pub handshake: Option<Box<HandshakeScript>>,
}

/// A subrequest that has ended.
#[derive(Debug)]
pub struct Subresponse {
    /// The request and its answer's head.
    pub exchange: Box<Exchange>,
    /// The answer's body, as far as it was kept.
    pub body: Vec<u8>,
    /// The answer came to its end.
    pub is_whole: bool,
}

/// A request's part in subrequests.
#[derive(Debug, Default)]
pub struct SubrequestRecord {
    /// How many requests are around it.
    pub(crate) depth: u8,
    /// The number of the table that a script has given it as its context; 0 for none.
    pub(crate) ctx: u64,
    /// The method of the client's request, which `$request_method` has in those inside it too.
    pub(crate) method: Vec<u8>,
    /// Its refusals have no page.
    pub(crate) bare: bool,
    /// Its answer is a script's, as it is before filters of the body.
    pub(crate) captured: bool,
    /// How many requests were made inside the client's request by those that are inside it themselves.
    pub(crate) nested: Option<Rc<Cell<u32>>>,
    /// The body, with its type, to use if its answer has none.
    pub(crate) stub: Option<(Option<Vec<u8>>, Vec<u8>)>,
    /// The charset of the answer around it, if there are maps.
    pub(crate) charset: Box<[u8]>,
    /// It was refused without a page.
    pub(crate) refused: bool,
    /// It was copied by `mirror`.
    pub(crate) mirrored: bool,
    /// The state of SSI commands.
    pub(crate) ssi: SsiRecord,
    /// How far a response has come that is fetched in pieces: it is with the request that fetches one.
    pub(crate) slice: Option<Box<SliceRecord>>,
    /// The subrequests of the last effect, in the order in which they were asked for, until the handler takes them.
    pub ended: Vec<Subresponse>,
}

impl SubrequestRecord {
    /// Returns true for a request that is inside another one.
    #[inline]
    pub fn is_inner(&self) -> bool {
        self.depth > 0
    }

    /// Returns the number of the table that a script has given it as its context; 0 for none.
    pub fn ctx(&self) -> u64 {
        self.ctx
    }

    /// Returns true if it was refused without a page: its answer is not what its location would have given.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Returns the method of the client's request for a request inside it.
    pub(crate) fn outermost_method(&self) -> Option<&[u8]> {
        self.is_inner().then_some(&*self.method)
    }

    /// Forgets it.
    pub fn reset(&mut self) {
        self.depth = 0;
        self.ctx = 0;
        (self.bare, self.captured, self.refused, self.mirrored) = (false, false, false, false);
        self.nested = None;
        self.stub = None;
        self.ssi.reset();
        self.slice = None;
        self.charset = Box::default();
        self.ended.clear();
    }
}

/// The times of events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// The first byte of the request.
    pub start: Now,
}

/// The most that the output's buffer of an idle exchange may take.
const IDLE_WIRE_BYTES: usize = 32 << 10;

impl Exchange {
    /// Lets go of what belongs to the request alone (its body, its script, its places in counts), so that the exchange
    /// can lie idle.
    pub fn release(&mut self) {
        self.request.body = Body::Unread;
        self.script.handle = None;
        self.script.tap = None;
        self.script.abort = AbortNotice::Unwanted;
        self.script.balancing = None;
        self.script.handshake = None;
        self.upstream.cache = None;
        self.upstream.tries.clear();
        self.limits.reset();
        self.switches.reset();
        self.subrequests.reset();
        self.userid.reset();
        self.output.wire.shrink_to(IDLE_WIRE_BYTES);
        for text in [&mut self.script.chunk, &mut self.script.value, &mut self.scratch] {
            text.clear();
            text.shrink_to(IDLE_WIRE_BYTES);
        }
    }

    /// Returns the method as the modules see it.
    pub fn method(&self) -> &[u8] {
        self.request.method_override.as_deref().unwrap_or_else(|| self.request.head.method_bytes())
    }

    /// Returns whether the response's body is withheld because the method is HEAD.
    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }
}

impl Request {
    /// Returns whether nothing of the body is left to read.
    pub fn body_settled(&self) -> bool {
        self.framing == BodyFraming::None || !matches!(self.body, Body::Unread)
    }

    /// Returns whether the path as sent has escapes (nginx's `quoted_uri`).
    pub fn is_quoted(&self) -> bool {
        memchr::memchr(b'%', self.path_as_sent()).is_some()
    }

    /// Returns whether decoding the path may have produced bytes that are special in a query: then numbered captures are escaped
    /// again where they go into a query, a redirect or a variable (nginx's `quoted_uri` or `plus_in_uri`).
    pub fn escapes_captures(&self) -> bool {
        memchr::memchr2(b'%', b'+', self.path_as_sent()).is_some()
    }

    fn path_as_sent(&self) -> &[u8] {
        let target = self.head.target();
        &target[..memchr::memchr2(b'?', b'#', target).unwrap_or(target.len())]
    }

    pub(crate) fn reset(&mut self) {
        self.uri.clear();
        self.args.clear();
        self.host.clear();
        self.framing = BodyFraming::None;
        self.body = Body::Unread;
        self.length = 0;
        self.method_override = None;
        self.uri_changed = false;
        self.discard_wanted = false;
        self.pipelined = false;
        self.is_early = false;
        self.id = None;
    }
}

impl Response {
    /// Returns true if `Content-Length` among the fields says the length that the response has. What a configuration or a script
    /// adds beside it, or where no length is known, would let two readers see its end in different places.
    pub(crate) fn keeps_length(&self) -> bool {
        self.content_length.is_some()
            && http::framing::content_length(&self.headers) == Ok(self.content_length)
    }

    /// Forgets everything that was to be answered.
    pub fn reset(&mut self) {
        self.status = 0;
        self.headers.clear();
        self.trailers.clear();
        self.error_status = 0;
        self.forced_status = None;
        self.filtered = false;
        self.close = false;
        self.forget_content();
    }

    /// Says what the body is, in the memory of the last answer's.
    pub fn set_content_type(&mut self, kind: &[u8]) {
        let mut text = self.content_type.take().unwrap_or_else(|| std::mem::take(&mut self.spare));
        text.clear();
        text.extend_from_slice(kind);
        self.content_type = Some(text);
    }

    /// Forgets what described the body, before another body takes its place.
    pub fn forget_content(&mut self) {
        self.status_line = None;
        if let Some(text) = self.content_type.take() {
            self.spare = text;
        }
        self.content_length = None;
        self.last_modified_s = None;
        self.location = None;
        self.allow_ranges = false;
        self.parts.clear();
        self.from_upstream = false;
    }
}
