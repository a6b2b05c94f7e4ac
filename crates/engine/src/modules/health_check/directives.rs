//! The parameters of `health_check`.
//!
//! Owns their forms and what they need of each other. Must never know the groups.

use crate::config::{Builder, invalid_parameter, number};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::upstream;
use crate::probe::{Scheme, grpc_status, is_grpc_service};
use ::upstream::health::{CheckRules, Mandatory};
use conf::{Diagnostic, Span, Word};

/// Where a `health_check` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckPlace {
    /// In an `upstream {}`.
    Group(usize),
    /// In a location: the number of its scope.
    Location(usize),
}

/// A `health_check` as it is written.
#[derive(Clone, Debug)]
pub struct CheckDraft {
    pub(super) place: CheckPlace,
    pub(super) span: Span,
    pub(super) rules: CheckRules,
    /// The URI of a GET; without one, a connection is enough.
    pub(super) uri: Option<Box<str>>,
    pub(super) host: Option<Box<str>>,
    pub(super) scheme: Option<Scheme>,
    pub(super) port: Option<u16>,
    /// The name of a `match` block.
    pub(super) matches: Option<(Box<str>, Span)>,
    /// A call of gRPC's health service is asked instead: about which service, and with which status as the answer.
    pub(super) grpc: Option<(Box<str>, u8)>,
    pub(super) interval_ms: u64,
    pub(super) jitter_ms: u64,
    pub(super) timeout_ms: Option<u64>,
    pub(super) keepalive_ms: u64,
}

impl CheckDraft {
    /// Returns what it asks, as it is shown.
    pub(super) fn text(&self, over_tls: bool, over_http2: bool) -> String {
        let mut text = match (&self.grpc, &self.uri) {
            (Some((service, 0)), _) => format!("gRPC {service}"),
            (Some((service, status)), _) => format!("gRPC {service} grpc_status={status}"),
            (None, Some(uri)) => format!("GET {uri}"),
            (None, None) => "connect".to_owned(),
        };
        text.truncate(text.trim_end().len());
        if over_http2 && self.grpc.is_none() {
            text.push_str(" http2");
        }
        if over_tls {
            text.push_str(" https");
        }
        if let Some(port) = self.port {
            text.push_str(&format!(" port={port}"));
        }
        if let Some(host) = &self.host {
            text.push_str(&format!(" host={host}"));
        }
        if let Some((name, _)) = &self.matches {
            text.push_str(&format!(" match={name}"));
        }
        text
    }
}

pub(super) const DIRECTIVES: &[Directive] = &[Directive::new(
    "health_check",
    Contexts::LOCATION.or(Contexts::UPSTREAM),
    Args::AtLeast(0),
    "[interval=time] [jitter=time] [fails=number] [passes=number] [timeout=time] [uri=uri] \
     [host=name] [scheme=http|https] [port=number] [match=name] [mandatory [persistent]] \
     [keepalive_time=time] [type=http|tcp|grpc [grpc_service=name] [grpc_status=status]]",
    health_check,
)
.doc(
    "Checks the servers of a group while they serve: the group that the location leads to (all targets, if that is a \
     switch), or the group of the block. Every interval= (by default 5s, plus a random delay of up to jitter=) each \
     server is sent a GET for uri= (by default /); with type=tcp, a connection is enough; with type=grpc, gRPC's \
     health service must report SERVING, for grpc_service= or the whole server, or with grpc_status= the call must \
     end with this status (unimplemented: a server without that service). \
     fails= failed checks in a row (by default 1) make a server unhealthy: it gets no new requests until it has \
     passed passes= checks in a row (by default 1). A check passes if the response arrives within timeout= (by \
     default interval=, or proxy_connect_timeout and proxy_read_timeout if they are shorter) and has a status from \
     200 to 399, or meets the conditions of match=. With mandatory, a server gets no requests until its first check \
     has passed; with persistent, this does not apply to a server that was healthy before the check was changed. \
     port= is another port of the server, host= the Host field, keepalive_time= how long one connection is reused.",
)
.example("health_check interval=2s jitter=500ms fails=3 passes=2 uri=/health match=ready;")];

/// The names of all parameters with a value.
const PARAMETERS: [&str; 14] = [
    "interval",
    "jitter",
    "fails",
    "passes",
    "timeout",
    "uri",
    "host",
    "scheme",
    "port",
    "match",
    "keepalive_time",
    "type",
    "grpc_service",
    "grpc_status",
];

fn health_check(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let place = match upstream::being_read(b) {
        Some(group) => CheckPlace::Group(group),
        None => CheckPlace::Location(b.scope_index()),
    };
    let mut reading = Reading {
        check: CheckDraft {
            place,
            span: d.words_span(),
            rules: CheckRules::default(),
            uri: Some("/".into()),
            host: None,
            scheme: None,
            port: None,
            matches: None,
            grpc: None,
            interval_ms: 5000,
            jitter_ms: 0,
            timeout_ms: None,
            keepalive_ms: 0,
        },
        of_request: None,
        persistent: None,
        timeout: None,
        kind: Kind::Http,
        of_grpc: None,
    };
    b.each(&d.args, |word| reading.read(word))?;
    let check = reading.complete()?;
    b.draft.http.health.checks.push(check);
    Ok(())
}

struct Reading {
    check: CheckDraft,
    /// The first parameter that has no meaning without a request.
    of_request: Option<(String, Span)>,
    persistent: Option<Span>,
    timeout: Option<Span>,
    kind: Kind,
    /// The first parameter that has no meaning without gRPC.
    of_grpc: Option<(String, Span)>,
}

/// `type=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
    Grpc,
}

impl Reading {
    fn read(&mut self, word: &Word) -> Result<(), Diagnostic> {
        let check = &mut self.check;
        let (name, value) = match word.str()?.split_once('=') {
            Some((name, value)) => (name, value),
            None => {
                match word.str()? {
                    "mandatory" if check.rules.mandatory == Mandatory::No => {
                        check.rules.mandatory = Mandatory::Yes;
                    }
                    "mandatory" => {}
                    "persistent" => self.persistent = Some(word.span),
                    _ => return Err(unknown(word)),
                }
                return Ok(());
            }
        };
        match name {
            "interval" => check.interval_ms = time(word, value, 1)?,
            "jitter" => check.jitter_ms = time(word, value, 0)?,
            "timeout" => {
                check.timeout_ms = Some(time(word, value, 1)?);
                self.timeout = Some(word.span);
            }
            "keepalive_time" => check.keepalive_ms = time(word, value, 0)?,
            "fails" => check.rules.fails = count(word, value)?,
            "passes" => check.rules.passes = count(word, value)?,
            "port" => {
                let port = number(value.as_bytes()).filter(|port| (1..=65535).contains(port));
                let port = port.ok_or_else(|| invalid_parameter(word).help("a port from 1 to 65535"))?;
                check.port = Some(port as u16);
            }
            "scheme" => {
                let scheme = Scheme::parse(value);
                check.scheme = Some(scheme.ok_or_else(|| invalid_parameter(word).help("http or https"))?);
            }
            "type" => match value {
                "http" => self.kind = Kind::Http,
                "tcp" => self.kind = Kind::Tcp,
                "grpc" => self.kind = Kind::Grpc,
                _ => return Err(invalid_parameter(word).help("http, tcp or grpc")),
            },
            "grpc_service" | "grpc_status" => {
                self.of_grpc.get_or_insert((name.to_owned(), word.span));
                let (service, status) = check.grpc.get_or_insert_default();
                match (name, grpc_status(value)) {
                    ("grpc_status", Some(known)) => *status = known,
                    ("grpc_status", None) => {
                        return Err(invalid_parameter(word).help("a status of gRPC: 0 to 16, or its name"));
                    }
                    _ if is_grpc_service(value) => *service = value.into(),
                    _ => return Err(invalid_parameter(word).help("a service: helloworld.Greeter")),
                }
            }
            "uri" | "host" | "match" => {
                if name != "host" || self.of_request.is_none() {
                    self.of_request = Some((name.to_owned(), word.span));
                }
                match name {
                    "uri" if value.starts_with('/') && value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                        check.uri = Some(value.into());
                    }
                    "uri" => {
                        return Err(invalid_parameter(word).help("a path, escaped as in a request: /health"));
                    }
                    "host" if is_host(value) => check.host = Some(value.into()),
                    "host" => return Err(invalid_parameter(word).help("a host name, without variables")),
                    _ => check.matches = Some((value.into(), word.span)),
                }
            }
            _ => return Err(unknown(word)),
        }
        Ok(())
    }

    fn complete(self) -> Result<CheckDraft, Diagnostic> {
        let mut check = self.check;
        if self.kind != Kind::Http {
            let is_grpc = self.kind == Kind::Grpc;
            // gRPC has a Host too.
            if let Some((name, span)) = self.of_request.filter(|(name, _)| !is_grpc || name != "host") {
                let text = match is_grpc {
                    true => format!("{name}= has no meaning with type=grpc: its health service is asked"),
                    false => format!("{name}= has no meaning with type=tcp: nothing is asked"),
                };
                return Err(Diagnostic::error(span, text).help("leave out type=, or the parameter"));
            }
            check.uri = None;
        }
        match (self.kind, self.of_grpc) {
            (Kind::Grpc, _) => drop(check.grpc.get_or_insert_default()),
            (_, None) => {}
            (_, Some((name, span))) => {
                let text = format!("{name}= has no meaning without type=grpc");
                return Err(Diagnostic::error(span, text).help("write type=grpc, or leave it out"));
            }
        }
        if let Some(span) = self.persistent {
            if check.rules.mandatory == Mandatory::No {
                return Err(Diagnostic::error(span, "persistent has no meaning without mandatory")
                    .help("a server without mandatory is healthy until it fails: leave out persistent"));
            }
            check.rules.mandatory = Mandatory::Persistent;
        }
        if let (Some(span), Some(timeout_ms)) = (self.timeout, check.timeout_ms)
            && timeout_ms > check.interval_ms
        {
            let text =
                "timeout= of health_check is longer than its interval: checks of a server follow one another";
            return Err(Diagnostic::error(span, text).help("raise interval=, or lower timeout="));
        }
        Ok(check)
    }
}

fn is_host(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'$')
}

fn time(word: &Word, value: &str, least: u64) -> Result<u64, Diagnostic> {
    let ms = conf::value::parse_time_ms(value.as_bytes()).filter(|ms| *ms >= least);
    ms.ok_or_else(|| invalid_parameter(word).help("a time: 500ms, 2s"))
}

fn count(word: &Word, value: &str) -> Result<u32, Diagnostic> {
    let count = number(value.as_bytes()).filter(|count| (1..=1000).contains(count));
    count.map(|count| count as u32).ok_or_else(|| invalid_parameter(word).help("a number from 1 to 1000"))
}

fn unknown(word: &Word) -> Diagnostic {
    let text = word.text().to_string();
    let name = text.split('=').next().unwrap_or_default();
    let fault = invalid_parameter(word);
    match conf::nearest(name, PARAMETERS.into_iter().chain(["mandatory", "persistent"])) {
        Some(near) => fault.help(format!("did you mean \"{near}\"?")),
        None => {
            let known = PARAMETERS.map(|name| format!("{name}=")).join(", ");
            fault.help(format!("one of {known}, mandatory and persistent"))
        }
    }
}
