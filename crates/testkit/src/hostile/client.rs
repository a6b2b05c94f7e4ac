//! The client: sends hostile bytes, takes in whatever comes back, and finds out what became of the connection.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::PROBE;
use super::reader::{self, Read, Response};

/// No wait is longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Stands for the status of an answer that has none.
pub(super) const HTTP_09: u16 = 9;
/// How often a wait looks at its deadline.
const GLANCE: Duration = Duration::from_millis(20);

/// What became of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is open: a request behind all this is answered as itself.
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

/// An answer that the client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What could be read of it; the body is what there is.
    pub response: Response,
    /// It came to its end.
    pub whole: bool,
}

/// What passed between the client and the server.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The answers, without those before the final ones (1xx) and without the probe's.
    pub answers: Vec<Answer>,
    /// What became of the connection.
    pub end: End,
    /// The answer to the probe, where one was sent and it came.
    pub probe: Option<Response>,
    /// All bytes that came.
    pub bytes: Vec<u8>,
    /// Bytes that are no answer.
    pub fault: Option<String>,
}

/// How long the client waits for what may never come.
#[derive(Clone, Copy, Debug)]
pub enum Haste {
    /// So many answers and this end are expected: what is expected is waited for, in full patience.
    Expecting(usize, End),
    /// Nothing is known: a server that is silent for this long has said all.
    Quiet(Duration),
}

/// Sends `bytes` and takes in the answers to requests of these methods; of more, to GET.
pub(super) fn exchange(
    path: &Path,
    bytes: &[u8],
    methods: &[String],
    haste: Haste,
) -> Result<Exchange, String> {
    let stream = UnixStream::connect(path).map_err(|e| format!("cannot connect: {e}"))?;
    stream.set_read_timeout(Some(GLANCE)).map_err(|e| e.to_string())?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    let mut talk = Talk { stream, methods, bytes: Vec::new(), ended: false };
    talk.send(bytes);
    let (wanted, end) = match haste {
        Haste::Expecting(_, End::Waits) => (usize::MAX, Some(End::Waits)),
        Haste::Expecting(_, end @ (End::Closed | End::Cut)) => (usize::MAX, Some(end)),
        Haste::Expecting(wanted, end) => (wanted, Some(end)),
        Haste::Quiet(_) => (usize::MAX, None),
    };
    let quiet = if let Haste::Quiet(quiet) = haste { quiet } else { PATIENCE };
    if end == Some(End::Waits) {
        let _ = talk.stream.shutdown(Shutdown::Write);
    }
    talk.read_until(quiet, |talk| wanted < usize::MAX && talk.parsed().whole() >= wanted);
    let before = talk.parsed();
    let is_tunnel = before.answers.last().is_some_and(|answer| answer.response.status == 101);
    if talk.ended || end == Some(End::Closed) || end == Some(End::Cut) {
        let end = match (end, talk.ended, before.answers.last()) {
            (Some(End::Waits), ..) => End::Waits,
            (_, false, _) => End::Open,
            (_, _, Some(answer)) if !answer.whole => End::Cut,
            _ => End::Closed,
        };
        return Ok(talk.told(before, end, None));
    }
    if is_tunnel {
        let _ = talk.stream.shutdown(Shutdown::Write);
        talk.read_until(quiet.max(Duration::from_secs(2)), |_| false);
        return Ok(talk.told(before, End::Tunnel, None));
    }
    // Is it open, or does it want more bytes?
    talk.send(PROBE);
    let known = before.answers.len();
    talk.read_until(quiet, |talk| talk.parsed().whole() > known);
    let mut after = talk.parsed();
    let is_answered = after.answers.get(known).is_some_and(|answer| answer.whole);
    if is_answered && !talk.ended {
        let probe = after.answers.pop().map(|answer| answer.response);
        return Ok(talk.told(after, End::Open, probe));
    }
    let _ = talk.stream.shutdown(Shutdown::Write);
    talk.read_until(quiet.max(Duration::from_secs(2)), |_| false);
    let after = talk.parsed();
    let end = if known == 0 || after.answers.len() > known { End::Waits } else { End::Closed };
    Ok(talk.told(after, end, None))
}

struct Talk<'a> {
    stream: UnixStream,
    methods: &'a [String],
    bytes: Vec<u8>,
    ended: bool,
}

/// The answers in what came, and what is no answer.
struct Parsed {
    answers: Vec<Answer>,
    fault: Option<String>,
}

impl Parsed {
    fn whole(&self) -> usize {
        self.answers.iter().filter(|answer| answer.whole).count()
    }
}

impl Talk<'_> {
    /// A server that takes no more has said why, or will not.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads until a condition holds, the end, or silence for so long.
    fn read_until(&mut self, silence: Duration, done: impl Fn(&Self) -> bool) {
        let mut chunk = [0; 16384];
        let mut deadline = Instant::now() + silence;
        while !self.ended && !done(self) && Instant::now() < deadline {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.bytes.extend_from_slice(&chunk[..count]);
                    deadline = Instant::now() + silence;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => self.ended = true,
            }
        }
    }

    fn parsed(&self) -> Parsed {
        let mut answers: Vec<Answer> = Vec::new();
        let mut at = 0;
        let begins = self.bytes.len().min(5);
        if begins > 0 && self.bytes[..begins] != b"HTTP/"[..begins] {
            let response = Response { status: HTTP_09, fields: Vec::new(), body: self.bytes.clone() };
            return Parsed { answers: vec![Answer { response, whole: self.ended }], fault: None };
        }
        while at < self.bytes.len() {
            if answers.last().is_some_and(|answer| answer.response.status == 101) {
                break;
            }
            let method = self.methods.get(answers.len()).map_or("GET", String::as_str);
            match reader::response(&self.bytes[at..], method, self.ended) {
                Read::Whole(response, len) => {
                    at += len;
                    if !(100..200).contains(&response.status) || response.status == 101 {
                        answers.push(Answer { response, whole: true });
                    }
                }
                Read::Partial => {
                    // As much as there is of one that was begun.
                    let head = begun(&self.bytes[at..]);
                    answers.extend(head.map(|response| Answer { response, whole: false }));
                    break;
                }
                Read::Bad(why) => return Parsed { answers, fault: Some(why) },
            }
        }
        Parsed { answers, fault: None }
    }

    fn told(self, parsed: Parsed, end: End, probe: Option<Response>) -> Exchange {
        Exchange { answers: parsed.answers, end, probe, bytes: self.bytes, fault: parsed.fault }
    }
}

/// The head of an answer whose body is not whole, if the head is.
fn begun(input: &[u8]) -> Option<Response> {
    match reader::response(input, "HEAD", false) {
        Read::Whole(mut response, len) => {
            response.body = input[len..].to_vec();
            Some(response)
        }
        _ => None,
    }
}
