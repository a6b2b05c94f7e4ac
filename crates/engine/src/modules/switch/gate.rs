//! The `gate` of a switch: what a target must show before keys are switched to it.
//!
//! Owns its parameters. Must never ask a server: that is the control plane's.

use crate::config::{invalid_parameter, number};
use crate::regex::Regex;
use conf::{Diagnostic, Word};
use std::ops::RangeInclusive;

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
}

/// A probe that shows whether a server is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// To take a connection.
    Connect,
    /// To answer a GET.
    Http(HttpProbe),
}

/// A GET and the answer that is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// The target of the request, which begins with `/`.
    pub uri: Box<str>,
    /// The statuses that are well.
    pub statuses: Box<[RangeInclusive<u16>]>,
    /// The `Host`.
    pub host: ProbeHost,
    /// More fields.
    pub headers: Box<[(Box<str>, Box<str>)]>,
    /// What the body must hold.
    pub body: Option<BodyMatch>,
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

/// What a body must hold.
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
            BodyMatch::Text(text) => body.windows(text.len()).any(|part| part == text.as_bytes()),
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

impl GateSpec {
    /// Asks for a connection to one server: for where a switch without a gate must know whether a target is there.
    pub const CONNECT: GateSpec = GateSpec {
        healthy: 1,
        percent: 0,
        passes: 1,
        interval_ms: 200,
        timeout_ms: 3000,
        probe: Probe::Connect,
    };

    /// Returns how many of a target's servers must be well.
    pub fn required(&self, servers: usize) -> usize {
        self.healthy.max((servers * self.percent).div_ceil(100))
    }
}

/// The names of all parameters.
const PARAMETERS: [&str; 10] =
    ["healthy", "fraction", "passes", "interval", "timeout", "uri", "status", "host", "header", "match"];

/// Parses the parameters.
pub(super) fn parse(d: &conf::Directive) -> Result<GateSpec, Diagnostic> {
    let mut gate = GateSpec::CONNECT;
    let mut http = HttpProbe {
        uri: Box::default(),
        statuses: [200..=399].into(),
        host: ProbeHost::Target,
        headers: Box::default(),
        body: None,
    };
    // The first parameter that has no meaning without a request.
    let mut of_request: Option<&Word> = None;
    for word in &d.args {
        let (name, value) = word.str()?.split_once('=').ok_or_else(|| unknown(word))?;
        match name {
            "healthy" => {
                let what = format!("invalid number of healthy servers \"{value}\"");
                let help = "a number from 1 up: so many servers of the target must be well";
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

fn request_parameter(http: &mut HttpProbe, word: &Word, name: &str, value: &str) -> Result<(), Diagnostic> {
    let wrong = |what: &str, help: &str| {
        Err(Diagnostic::error(word.span, format!("invalid {what} \"{value}\" of the gate"))
            .help(help.to_owned()))
    };
    let is_value =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    match name {
        "status" => match statuses(value) {
            Some(statuses) => http.statuses = statuses,
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
            http.body = Some(match value.strip_prefix('~') {
                Some(pattern) if !pattern.is_empty() => {
                    let regex = Regex::new(pattern, false);
                    BodyMatch::Regex(regex.map_err(|fault| Diagnostic::error(word.span, fault))?)
                }
                None if !value.is_empty() => BodyMatch::Text(value.into()),
                _ => return wrong("match", "a text, or a pattern after ~: match=ready, match=~^ok"),
            });
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
    let status =
        |digits: &str| number(digits.as_bytes()).filter(|n| (100..=599).contains(n)).map(|n| n as u16);
    text.split(',')
        .map(|item| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let range = status(first)?..=status(last)?;
            (!range.is_empty()).then_some(range)
        })
        .collect()
}
