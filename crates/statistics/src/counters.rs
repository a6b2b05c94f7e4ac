//! The counters of a group, server or key: how its requests ended, bytes, and times.
//!
//! Owns: what counts as an error, and the names of kinds and classes. Must never: know whose counters they are.

use crate::histogram::Histogram;

/// The end of a request to a group, or under a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestEnd {
    /// The status that the client was answered with; 0 if it got none.
    pub status: u16,
    /// Time spent with the group's servers, all tries together; none if no server was tried.
    pub response_us: Option<u64>,
    /// Bytes that came from the upstream.
    pub received: u64,
    /// Bytes that went to the upstream.
    pub sent: u64,
}

/// The end of one try of a request with one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TryEnd {
    /// The server's status; 0 if it sent none.
    pub status: u16,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// Time to connect; none on a reused connection or when it failed.
    pub connect_us: Option<u64>,
    /// Time from the beginning of the try to the first byte of the answer (`$upstream_header_time`).
    pub first_byte_us: Option<u64>,
    /// Time from the beginning of the try to its end (`$upstream_response_time`).
    pub response_us: Option<u64>,
    /// Bytes that went to the server.
    pub sent: u64,
    /// Bytes that came from it.
    pub received: u64,
}

/// Why a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, unreachable, TLS.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// Connected, and then sending or receiving took too long.
    Timeout,
    /// Reset, or closed before the answer was whole.
    Closed,
    /// The answer was not HTTP.
    InvalidHeader,
    /// A status that `proxy_next_upstream` names.
    HttpStatus,
    /// The client disconnected first; not counted as an error of the server.
    ClientGone,
    /// Cut off by us, because a switch routes elsewhere now; not counted as an error of the server either.
    Cut,
}

impl Failure {
    /// All kinds, in the order of [`Counters::failures`].
    pub const ALL: [Failure; 8] = [
        Failure::Connect,
        Failure::ConnectTimeout,
        Failure::Timeout,
        Failure::Closed,
        Failure::InvalidHeader,
        Failure::HttpStatus,
        Failure::ClientGone,
        Failure::Cut,
    ];

    /// Returns a stable name, as in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::ConnectTimeout => "connect_timeout",
            Failure::Timeout => "timeout",
            Failure::Closed => "closed",
            Failure::InvalidHeader => "invalid_header",
            Failure::HttpStatus => "http_status",
            Failure::ClientGone => "client_gone",
            Failure::Cut => "cut",
        }
    }

    /// Returns true if the server is to blame.
    pub fn is_error(self) -> bool {
        !matches!(self, Failure::ClientGone | Failure::Cut)
    }
}

/// The classes of statuses, in the order of [`Counters::statuses`]. `none` is no status, or one outside 100 to 599.
pub const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// The counters of a group's or key's requests, or of a server's tries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests, or tries, that have ended.
    pub ended: u64,
    /// Those of them that went wrong: a failure that [is an error](Failure::is_error), or a status of 500 and more.
    pub errors: u64,
    /// By class of the status, as [`CLASSES`] names them. They add up to `ended`.
    pub statuses: [u64; CLASSES.len()],
    /// By kind of failure, as [`Failure::ALL`] names them. Always zero for requests.
    pub failures: [u64; Failure::ALL.len()],
    /// Bytes that came from the upstream.
    pub received: u64,
    /// Bytes that went to the upstream.
    pub sent: u64,
    /// Times to connect. Always empty for requests.
    pub connect: Histogram,
    /// Times to the first byte of the answer. Always empty for requests.
    pub first_byte: Histogram,
    /// Times to the end of the answer.
    pub response: Histogram,
}

impl Counters {
    /// Counts a request that has ended.
    pub fn request_ended(&mut self, end: &RequestEnd) {
        self.ended += 1;
        self.errors += u64::from(end.status >= 500);
        self.statuses[class(end.status)] += 1;
        self.received += end.received;
        self.sent += end.sent;
        if let Some(us) = end.response_us {
            self.response.record(us);
        }
    }

    /// Counts a try that has ended.
    pub fn try_ended(&mut self, end: &TryEnd) {
        self.ended += 1;
        let failed = end.failure.is_some_and(Failure::is_error);
        self.errors += u64::from(failed || end.status >= 500);
        self.statuses[class(end.status)] += 1;
        if let Some(failure) = end.failure {
            self.failures[failure as usize] += 1;
        }
        self.received += end.received;
        self.sent += end.sent;
        let times = [
            (&mut self.connect, end.connect_us),
            (&mut self.first_byte, end.first_byte_us),
            (&mut self.response, end.response_us),
        ];
        for (histogram, time) in times {
            if let Some(us) = time {
                histogram.record(us);
            }
        }
    }

    /// Adds everything in `other`.
    pub fn merge(&mut self, other: &Counters) {
        if other.ended == 0 {
            return;
        }
        self.ended += other.ended;
        self.errors += other.errors;
        self.statuses.iter_mut().zip(other.statuses).for_each(|(to, from)| *to += from);
        self.failures.iter_mut().zip(other.failures).for_each(|(to, from)| *to += from);
        self.received += other.received;
        self.sent += other.sent;
        self.connect.merge(&other.connect);
        self.first_byte.merge(&other.first_byte);
        self.response.merge(&other.response);
    }

    /// Resets everything to zero; keeps its memory.
    pub fn clear(&mut self) {
        (self.ended, self.errors, self.received, self.sent) = (0, 0, 0, 0);
        self.statuses = Default::default();
        self.failures = Default::default();
        self.connect.clear();
        self.first_byte.clear();
        self.response.clear();
    }

    /// Returns the part of what ended that went wrong; `None` if nothing ended.
    pub fn error_rate(&self) -> Option<f64> {
        (self.ended > 0).then(|| self.errors as f64 / self.ended as f64)
    }

    /// Returns the bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.connect.heap_bytes() + self.first_byte.heap_bytes() + self.response.heap_bytes()
    }
}

fn class(status: u16) -> usize {
    match status {
        100..600 => usize::from(status / 100 - 1),
        _ => CLASSES.len() - 1,
    }
}
