//! One exchange: hostile bytes are sent, the answers read, and it is found out how the connection ends.

use std::path::Path;
use std::time::Duration;

use socket2::SockAddr;

use super::PROBE;
use crate::answers::{Answer, Answers};
use crate::connection::{Connection, PATIENCE};
use crate::message::Response;

/// The status of an answer in HTTP/0.9, which has none.
pub(super) const HTTP_09: u16 = 9;

/// The end of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is open: another request on it gets its own answer.
    Open,
    /// The server closed it after the last answer.
    Closed,
    /// The server closed it inside an answer.
    Cut,
    /// The server wants more bytes; it ends when the client does.
    Waits,
    /// It is a tunnel.
    Tunnel,
}

/// The exchange between the client and the server.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The answers, without those before the final ones (1xx) and without the probe's.
    pub answers: Vec<Answer>,
    /// The end of the connection.
    pub end: End,
    /// The answer to the probe, where one was sent and it came.
    pub probe: Option<Response>,
    /// All bytes that came.
    pub bytes: Vec<u8>,
    /// Bytes that are no answer.
    pub fault: Option<String>,
}

/// How long the client waits for answers.
#[derive(Clone, Copy, Debug)]
pub enum Haste {
    /// For so many answers and this end, up to the full timeout.
    Expecting(usize, End),
    /// For a silence of this length: the answers are not known.
    Quiet(Duration),
}

/// Sends `bytes` and takes in the answers to requests of these methods; of more, to GET.
pub(super) fn exchange(
    path: &Path,
    bytes: &[u8],
    methods: &[String],
    haste: Haste,
) -> Result<Exchange, String> {
    let wire = SockAddr::unix(path).and_then(|address| Connection::connect(&address));
    let mut talk = Talk { wire: wire.map_err(|e| format!("cannot connect: {e}"))?, methods };
    talk.send(bytes);
    let (wanted, end) = match haste {
        Haste::Expecting(_, End::Waits) => (usize::MAX, Some(End::Waits)),
        Haste::Expecting(_, end @ (End::Closed | End::Cut)) => (usize::MAX, Some(end)),
        Haste::Expecting(wanted, end) => (wanted, Some(end)),
        Haste::Quiet(_) => (usize::MAX, None),
    };
    let quiet = if let Haste::Quiet(quiet) = haste { quiet } else { PATIENCE };
    if end == Some(End::Waits) {
        talk.wire.half_close();
    }
    talk.read_until(quiet, wanted);
    let before = talk.parsed();
    let is_tunnel = before.switches();
    if talk.wire.has_ended() || end == Some(End::Closed) || end == Some(End::Cut) {
        let end = match (end, talk.wire.has_ended(), before.answers.last()) {
            (Some(End::Waits), ..) => End::Waits,
            (_, false, _) => End::Open,
            (_, _, Some(answer)) if !answer.whole => End::Cut,
            _ => End::Closed,
        };
        return Ok(talk.finish(before, end, None));
    }
    if is_tunnel {
        talk.wire.half_close();
        talk.read_until(quiet.max(Duration::from_secs(2)), usize::MAX);
        return Ok(talk.finish(before, End::Tunnel, None));
    }
    // It is open, or waits for more bytes.
    talk.send(PROBE);
    let known = before.answers.len();
    talk.read_until(quiet, known + 1);
    let mut after = talk.parsed();
    let is_answered = after.answers.get(known).is_some_and(|answer| answer.whole);
    if is_answered && !talk.wire.has_ended() {
        let probe = after.answers.pop().map(|answer| answer.response);
        return Ok(talk.finish(after, End::Open, probe));
    }
    talk.wire.half_close();
    talk.read_until(quiet.max(Duration::from_secs(2)), usize::MAX);
    let after = talk.parsed();
    let end = if known == 0 || after.answers.len() > known { End::Waits } else { End::Closed };
    Ok(talk.finish(after, end, None))
}

struct Talk<'a> {
    wire: Connection,
    methods: &'a [String],
}

impl Talk<'_> {
    /// Sends; a server that takes no more has answered why, or will not answer.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.wire.send(bytes);
    }

    /// Reads until so many answers are whole, the end, or silence for so long.
    fn read_until(&mut self, silence: Duration, wanted: usize) {
        let methods = self.methods;
        let is_enough = |wire: &Connection| wanted < usize::MAX && parsed(wire, methods).whole() >= wanted;
        self.wire.read_until(silence, is_enough);
    }

    fn parsed(&self) -> Answers {
        parsed(&self.wire, self.methods)
    }

    fn finish(self, parsed: Answers, end: End, probe: Option<Response>) -> Exchange {
        Exchange { answers: parsed.answers, end, probe, bytes: self.wire.buffer, fault: parsed.fault }
    }
}

fn parsed(wire: &Connection, methods: &[String]) -> Answers {
    let (bytes, ended) = (&wire.buffer, wire.has_ended());
    let begins = bytes.len().min(5);
    if begins > 0 && bytes[..begins] != b"HTTP/"[..begins] {
        let response =
            Response { status: HTTP_09, fields: Vec::new(), body: bytes.clone(), has_trailers: false };
        return Answers { answers: vec![Answer { response, whole: ended }], used: bytes.len(), fault: None };
    }
    Answers::read(bytes, methods, ended, usize::MAX)
}
