//! What a server is asked to find out whether it is well, and which answers are: for gates and health checks.
//!
//! Owns the question and the judgement of an answer. Must never ask: that is the prober's.

use crate::config::{LocationId, number};
use crate::regex::Regex;
use std::ops::RangeInclusive;
use std::sync::Arc;
use upstream::health::CheckRules;

/// A probe that shows whether a server is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// To take a connection.
    Connect,
    /// To answer a GET.
    Http(HttpProbe),
    /// To answer a call of gRPC's health service.
    Grpc(GrpcProbe),
}

impl Probe {
    /// Returns true if it is asked over HTTP/2.
    pub fn is_over_http2(&self) -> bool {
        match self {
            Probe::Connect => false,
            Probe::Http(http) => http.over_http2,
            Probe::Grpc(_) => true,
        }
    }

    /// Returns its `Host`, if it has one.
    pub fn host(&self) -> Option<&ProbeHost> {
        match self {
            Probe::Connect => None,
            Probe::Http(http) => Some(&http.host),
            Probe::Grpc(grpc) => Some(&grpc.host),
        }
    }
}

/// A call of `grpc.health.v1.Health/Check`, and the status that is well
/// (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcProbe {
    /// The service that is asked about; empty is the server.
    pub service: Box<str>,
    /// The status of the call that is well: with 0 the answer must be SERVING, with any other one the call must end with it.
    pub status: u8,
    /// The `:authority`.
    pub host: ProbeHost,
}

/// The names of gRPC's statuses, by their numbers (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).
pub const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Parses `12`, `unimplemented` or `ok`.
pub(crate) fn grpc_status(text: &str) -> Option<u8> {
    let named = GRPC_STATUSES.iter().position(|name| name.eq_ignore_ascii_case(text));
    let status = named.or_else(|| number(text.as_bytes()).map(|status| status as usize))?;
    (status < GRPC_STATUSES.len()).then_some(status as u8)
}

/// Returns true if a text may be the name of a gRPC service.
pub(crate) fn is_grpc_service(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'$')
}

/// A GET and the answer that is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// The target of the request, which begins with `/`.
    pub uri: Box<str>,
    /// The answer that is well.
    pub expected: AnswerTest,
    /// The `Host`.
    pub host: ProbeHost,
    /// More fields.
    pub headers: Box<[(Box<str>, Box<str>)]>,
    /// It is asked over HTTP/2; of a gate, that is known with the group.
    pub over_http2: bool,
}

/// The `Host` of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeHost {
    /// The name of the target.
    Target,
    /// The key that is switched; of several keys or a wildcard, the name of the target.
    Key,
    /// This one.
    Name(Box<str>),
}

/// The TLS of a probe: that of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTls {
    /// The location whose `proxy_ssl_…` apply; http's own level without one.
    pub location: LocationId,
    /// `proxy_ssl_name`, if it has no variables; else the `Host` of the probe.
    pub name: Option<Box<str>>,
}

impl ProbeTls {
    /// That of http's own level.
    pub const AT_HTTP: ProbeTls = ProbeTls { location: LocationId(0), name: None };
}

/// An answer that is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerTest {
    /// Its status.
    pub statuses: Statuses,
    /// Its fields: all of these.
    pub fields: Box<[FieldTest]>,
    /// Its body.
    pub body: Option<BodyTest>,
}

impl Default for AnswerTest {
    /// Any status from 200 to 399.
    fn default() -> AnswerTest {
        let statuses = Statuses { ranges: [200..=399].into(), are_refused: false };
        AnswerTest { statuses, fields: Box::default(), body: None }
    }
}

/// Statuses that are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses {
    /// These.
    pub ranges: Box<[RangeInclusive<u16>]>,
    /// All but these.
    pub are_refused: bool,
}

impl Statuses {
    /// Returns true if a status is well.
    pub fn allow(&self, status: u16) -> bool {
        self.ranges.iter().any(|range| range.contains(&status)) != self.are_refused
    }
}

/// Parses `200` or `200-299`.
pub fn status_range(text: &str) -> Option<RangeInclusive<u16>> {
    let status =
        |digits: &str| number(digits.as_bytes()).filter(|n| (100..=599).contains(n)).map(|n| n as u16);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = status(first)?..=status(last)?;
    (!range.is_empty()).then_some(range)
}

/// A test of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTest {
    /// Its name.
    pub name: Box<str>,
    /// The test of the value; without one, the field must be present.
    pub value: Option<TextTest>,
    /// It must not be so.
    pub is_refused: bool,
}

impl FieldTest {
    /// Returns true if an answer with these values of the field passes.
    pub fn passes<'v>(&self, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        let holds = match &self.value {
            None => values.next().is_some(),
            Some(TextTest::Equal(text)) => values.any(|value| value == text.as_bytes()),
            Some(TextTest::Holds(body)) => values.any(|value| body.is_in(value)),
        };
        holds != self.is_refused
    }
}

/// A test of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextTest {
    /// It is this one.
    Equal(Box<str>),
    /// It holds this.
    Holds(BodyMatch),
}

/// A test of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyTest {
    /// The condition on the body.
    pub wanted: BodyMatch,
    /// It must not hold it.
    pub is_refused: bool,
    /// So many bytes of it are looked at.
    pub most_bytes: usize,
}

impl BodyTest {
    /// Returns true if a body passes.
    pub fn passes(&self, body: &[u8]) -> bool {
        self.wanted.is_in(body) != self.is_refused
    }
}

/// The condition on a body.
#[derive(Clone, Debug)]
pub enum BodyMatch {
    /// This text somewhere.
    Text(Box<str>),
    /// A match of this pattern.
    Regex(Regex),
}

impl BodyMatch {
    /// Returns the text or the pattern.
    pub fn pattern(&self) -> &str {
        match self {
            BodyMatch::Text(text) => text,
            BodyMatch::Regex(regex) => regex.pattern(),
        }
    }

    /// Returns true if a body holds it. A pattern that backtracks too much does not match.
    pub fn is_in(&self, body: &[u8]) -> bool {
        match self {
            BodyMatch::Text(text) => memchr::memmem::find(body, text.as_bytes()).is_some(),
            BodyMatch::Regex(regex) => regex.is_match(body).unwrap_or(false),
        }
    }
}

impl PartialEq for BodyMatch {
    fn eq(&self, other: &BodyMatch) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.pattern() == other.pattern()
    }
}

impl Eq for BodyMatch {}

/// A check of a group's servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSpec {
    /// The probe as it is shown: `GET /health`. It is the check's identity in its group, over reloads.
    pub text: Arc<str>,
    /// When a server is unhealthy, and when healthy again.
    pub rules: CheckRules,
    /// The question.
    pub probe: Probe,
    /// The `Host` of the question, and the name of its TLS.
    pub host: Box<str>,
    /// The TLS, if it has any.
    pub tls: Option<ProbeTls>,
    /// The port, if it is not the server's.
    pub port: Option<u16>,
    /// The times.
    pub times: CheckTimes,
}

/// The times of a check, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckTimes {
    /// From the beginning of one to that of the next.
    pub interval: u64,
    /// A random delay of each, at most.
    pub jitter: u64,
    /// The longest time for a connection.
    pub connect: u64,
    /// The longest time for the whole check.
    pub total: u64,
    /// How long a connection is used again; 0 is not at all.
    pub keepalive: u64,
}

/// Whether a question is asked over TLS, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `scheme=http`
    Http,
    /// `scheme=https`
    Https,
}

impl Scheme {
    /// Parses a value of `scheme=`.
    pub fn parse(value: &str) -> Option<Scheme> {
        match value {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            _ => None,
        }
    }
}

/// How locations speak to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupTls {
    /// The first that does over TLS.
    pub first: Option<ProbeTls>,
    /// One does without.
    pub in_clear: bool,
    /// All of them, and there are some, speak HTTP/2.
    pub http2: bool,
}

impl GroupTls {
    /// Returns the TLS of a question to the group's servers: what is written; else TLS if all locations that lead there have
    /// it.
    pub fn of(&self, scheme: Option<Scheme>) -> Option<ProbeTls> {
        match scheme {
            Some(Scheme::Http) => None,
            Some(Scheme::Https) => Some(self.first.clone().unwrap_or(ProbeTls::AT_HTTP)),
            None if self.in_clear => None,
            None => self.first.clone(),
        }
    }
}
