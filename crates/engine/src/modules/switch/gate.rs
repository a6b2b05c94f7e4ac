//! The `gate` of a switch: what a target must show before keys are switched to it.
//!
//! Owns its parameters. Must never ask a server: that is the control plane's.

use crate::config::{invalid_parameter, number};
use crate::probe::{
    AnswerTest, BodyMatch, BodyTest, GrpcProbe, HttpProbe, Probe, ProbeHost, Scheme, Statuses, grpc_status,
    is_grpc_service, status_range,
};
use crate::regex::Regex;
use conf::{Diagnostic, Word};
use std::ops::RangeInclusive;

/// The number of bytes of a body in which a match is looked for.
const MAX_BODY: usize = 64 << 10;

/// The check that a target's servers must pass before keys are switched to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateSpec {
    /// So many of them must be well; at least 1, and no more than any of the targets has.
    pub healthy: usize,
    /// And so many of a hundred; 0 asks for no more.
    pub percent: usize,
    /// How often in a row each must pass.
    pub passes: u32,
    /// The pause between two probes of a server, in ms.
    pub interval_ms: u64,
    /// The longest time for one probe, in ms.
    pub timeout_ms: u64,
    /// The probe.
    pub probe: Probe,
    /// Whether it is asked over TLS; without it, as the locations that lead there do.
    pub scheme: Option<Scheme>,
}

impl GateSpec {
    /// Asks for a connection to one server: for where a switch without a gate must know whether a target is there.
    pub const CONNECT: GateSpec = GateSpec {
        healthy: 1,
        percent: 0,
        passes: 1,
        interval_ms: 200,
        timeout_ms: 3000,
        probe: Probe::Connect,
        scheme: None,
    };

    /// Returns how many of a target's servers must be well.
    pub fn required(&self, servers: usize) -> usize {
        self.healthy.max((servers * self.percent).div_ceil(100))
    }
}

/// The names of all parameters.
const PARAMETERS: [&str; 14] = [
    "healthy",
    "fraction",
    "passes",
    "interval",
    "timeout",
    "uri",
    "status",
    "host",
    "header",
    "match",
    "scheme",
    "type",
    "grpc_service",
    "grpc_status",
];

/// Parses the parameters.
pub(super) fn parse(d: &conf::Directive) -> Result<GateSpec, Diagnostic> {
    let mut gate = GateSpec::CONNECT;
    let mut http = HttpProbe {
        uri: Box::default(),
        expected: AnswerTest::default(),
        host: ProbeHost::Target,
        headers: Box::default(),
        over_http2: false,
    };
    let mut grpc: Option<GrpcProbe> = None;
    let mut of_grpc: Option<&Word> = None;
    // The first parameter that has no meaning without a request.
    let mut of_request: Option<&Word> = None;
    for word in &d.args {
        let (name, value) = word.str()?.split_once('=').ok_or_else(|| unknown(word))?;
        match name {
            "healthy" => {
                let what = format!("invalid number of healthy servers \"{value}\"");
                let help = "a number of at least 1: how many servers of the target must be healthy";
                gate.healthy = bounded(word, value, 1000, what, help)? as usize;
            }
            "fraction" => {
                let digits = value.strip_suffix('%').unwrap_or_default();
                let what = format!("invalid fraction of healthy servers \"{value}\"");
                gate.percent =
                    bounded(word, digits, 100, what, "a share of the target's servers: 50%")? as usize;
            }
            "passes" => {
                let what = format!("invalid number of passes \"{value}\"");
                gate.passes = bounded(word, value, 100, what, "a number from 1 to 100")? as u32;
            }
            "interval" => gate.interval_ms = time(word, value)?,
            "timeout" => gate.timeout_ms = time(word, value)?,
            "scheme" => {
                let scheme = Scheme::parse(value);
                gate.scheme = Some(scheme.ok_or_else(|| invalid_parameter(word).help("http or https"))?);
            }
            "type" if value == "grpc" => {
                grpc = Some(GrpcProbe { service: "".into(), status: 0, host: ProbeHost::Target });
            }
            "type" => {
                let help = "type=grpc; without it a connection is asked for, or uri= for an answer";
                return Err(invalid_parameter(word).help(help));
            }
            "grpc_service" | "grpc_status" => {
                of_grpc.get_or_insert(word);
            }
            "uri" if value.starts_with('/') && value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                http.uri = value.into();
            }
            "uri" => {
                return Err(Diagnostic::error(word.span, format!("invalid URI \"{value}\" of the gate"))
                    .help("a path, escaped as in a request: uri=/health"));
            }
            "status" | "host" | "header" | "match" => {
                of_request.get_or_insert(word);
                request_parameter(&mut http, word, name, value)?;
            }
            _ => return Err(unknown(word)),
        }
    }
    if let Some(probe) = grpc {
        gate.probe = Probe::Grpc(grpc_parameters(d, probe, http.host)?);
        return Ok(gate);
    }
    if let Some(word) = of_grpc {
        let fault = Diagnostic::error(word.span, format!("{} of a gate needs type=grpc", word.text()));
        return Err(fault.help("say that gRPC's health service is asked: gate type=grpc;"));
    }
    match of_request {
        Some(word) if http.uri.is_empty() => {
            let name = word.text().to_string();
            let name = name.split('=').next().unwrap_or_default();
            return Err(Diagnostic::error(word.span, format!("{name}= of a gate needs uri="))
                .help("say what the servers are asked: gate uri=/health status=200;"));
        }
        _ if !http.uri.is_empty() => gate.probe = Probe::Http(http),
        _ => {}
    }
    Ok(gate)
}

/// Reads what is said about a call of gRPC's health service.
fn grpc_parameters(
    d: &conf::Directive,
    mut probe: GrpcProbe,
    host: ProbeHost,
) -> Result<GrpcProbe, Diagnostic> {
    probe.host = host;
    for word in &d.args {
        match word.str()?.split_once('=').unwrap_or_default() {
            ("grpc_service", value) if is_grpc_service(value) => probe.service = value.into(),
            ("grpc_service", _) => return Err(invalid_parameter(word).help("a service: helloworld.Greeter")),
            ("grpc_status", value) => {
                let status = grpc_status(value);
                let help = "a status of gRPC: 0 to 16, or its name";
                probe.status = status.ok_or_else(|| invalid_parameter(word).help(help))?;
            }
            (name @ ("uri" | "status" | "header" | "match"), _) => {
                let text =
                    format!("{name}= of a gate has no meaning with type=grpc: its health service is asked");
                return Err(Diagnostic::error(word.span, text).help("leave out type=, or the parameter"));
            }
            _ => {}
        }
    }
    Ok(probe)
}

fn request_parameter(http: &mut HttpProbe, word: &Word, name: &str, value: &str) -> Result<(), Diagnostic> {
    let wrong = |what: &str, help: &str| {
        Err(Diagnostic::error(word.span, format!("invalid {what} \"{value}\" of the gate"))
            .help(help.to_owned()))
    };
    let is_value =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    match name {
        "status" => match statuses(value) {
            Some(ranges) => http.expected.statuses = Statuses { ranges, are_refused: false },
            None => {
                let help = "statuses and ranges of them: status=200 or status=200-299,304";
                return wrong("status", help);
            }
        },
        "host" if value == "$key" => http.host = ProbeHost::Key,
        "host" if is_value(value) && !value.contains([' ', '$']) => http.host = ProbeHost::Name(value.into()),
        "host" => return wrong("host", "a host name, or $key for the key that is switched"),
        "header" => {
            let (field, text) = value.split_once(':').unwrap_or_default();
            let text = text.trim();
            let is_name = !field.is_empty()
                && field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            if !is_name || !is_value(text) {
                return wrong("header", "a field and its value: \"header=X-Probe: gate\"");
            }
            let more = (Box::from(field), Box::from(text));
            http.headers = http.headers.iter().cloned().chain([more]).collect();
        }
        _ => {
            let wanted = match value.strip_prefix('~') {
                Some(pattern) if !pattern.is_empty() => {
                    let regex = Regex::new(pattern, false);
                    BodyMatch::Regex(regex.map_err(|fault| Diagnostic::error(word.span, fault))?)
                }
                None if !value.is_empty() => BodyMatch::Text(value.into()),
                _ => return wrong("match", "a text, or a pattern after ~: match=ready, match=~^ok"),
            };
            http.expected.body = Some(BodyTest { wanted, is_refused: false, most_bytes: MAX_BODY });
        }
    }
    Ok(())
}

fn bounded(word: &Word, digits: &str, most: u64, what: String, help: &str) -> Result<u64, Diagnostic> {
    let count = number(digits.as_bytes()).filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| Diagnostic::error(word.span, what).help(help.to_owned()))
}

fn time(word: &Word, value: &str) -> Result<u64, Diagnostic> {
    let ms = conf::value::parse_time_ms(value.as_bytes()).filter(|ms| *ms > 0);
    let name = word.text().to_string();
    let name = name.split('=').next().unwrap_or_default();
    ms.ok_or_else(|| {
        Diagnostic::error(word.span, format!("invalid {name} \"{value}\"")).help("a time: 500ms, 2s")
    })
}

fn unknown(word: &Word) -> Diagnostic {
    let name = word.text().to_string();
    let fault = invalid_parameter(word);
    match conf::nearest(name.split('=').next().unwrap_or_default(), PARAMETERS.into_iter()) {
        Some(near) => fault.help(format!("did you mean \"{near}=\"?")),
        None => fault.help(format!("one of {}", PARAMETERS.map(|name| format!("{name}=")).join(", "))),
    }
}

/// `200`, `200-299`, `200,204`.
fn statuses(text: &str) -> Option<Box<[RangeInclusive<u16>]>> {
    text.split(',').map(status_range).collect()
}
