//! Who is told of the newest commit of each history: `notify`.
//!
//! Owns the grammar. What is sent is the control plane's to know.

use crate::config::{Builder, invalid_parameter};
use crate::modules::upstream::{Url, UrlDirective, UrlPlace, url_place};
use conf::{Diagnostic, Word};
use upstream::Address;

/// A place that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyPlace {
    /// A URL, by POST. Its interval says nothing.
    Url(UrlPlace),
    /// A syslog server.
    Syslog(SyslogPlace),
}

/// A syslog server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogPlace {
    /// As written.
    pub text: Box<str>,
    /// Its addresses: the first one gets all.
    pub addresses: Vec<Address>,
    /// The facility, by its number (RFC 5424, section 6.2.1).
    pub facility: u8,
    /// The name of the application.
    pub tag: Box<str>,
}

impl NotifyPlace {
    /// Returns it as written.
    pub fn text(&self) -> &str {
        match self {
            NotifyPlace::Url(place) => &place.url,
            NotifyPlace::Syslog(place) => &place.text,
        }
    }
}

/// The port of a syslog server (RFC 5426).
const SYSLOG_PORT: u16 = 514;
/// How long an answer may take.
const TIMEOUTS_MS: std::ops::RangeInclusive<u64> = 100..=60_000;
/// What a URL is told.
const NOTIFY: UrlDirective = UrlDirective {
    name: "notify",
    without_https: "send it to a program on this machine that passes it on, or over a UNIX-domain socket: notify http://unix:/run/heads.sock:/;",
    example: "notify http://127.0.0.1:8500/heads; or notify syslog:server=10.0.0.9;",
};
/// The facilities in the order of their numbers, as nginx names them.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "intern", "lpr", "news", "uucp", "clock", "authpriv", "ftp",
    "ntp", "audit", "alert", "cron", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

pub(super) fn read(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let text = word.str()?;
    let place = match text.strip_prefix("syslog:") {
        Some(rest) => {
            if let Some(more) = d.args.get(1) {
                return Err(invalid_parameter(more)
                    .help("syslog takes facility= and tag= behind a comma, and nothing else"));
            }
            NotifyPlace::Syslog(syslog(b, word, rest)?)
        }
        None => {
            let mut place = url_place(b, word, text, &NOTIFY)?;
            if let Some(more) = d.args.get(1) {
                let said = more.str()?.strip_prefix("timeout=");
                let ms = said.and_then(|time| conf::value::parse_time_ms(time.as_bytes()));
                let ms = ms.filter(|ms| TIMEOUTS_MS.contains(ms));
                place.timeout_ms =
                    ms.ok_or_else(|| invalid_parameter(more).help("timeout= takes a time of 100ms to 1m"))?;
            }
            NotifyPlace::Url(place)
        }
    };
    let known = &mut b.draft.control.notify;
    if known.contains(&place) {
        return Err(Diagnostic::error(word.span, format!("duplicate \"{text}\" in \"notify\" directive")));
    }
    known.push(place);
    Ok(())
}

/// Parses `server=ADDRESS[,facility=NAME][,tag=NAME]`, as the logs of nginx have it.
fn syslog(b: &Builder<'_>, word: &Word, rest: &str) -> Result<SyslogPlace, Diagnostic> {
    let invalid = |why: String| {
        Diagnostic::error(word.span, why)
            .help("notify syslog:server=10.0.0.9:514,facility=local7,tag=pointsman;")
    };
    let (mut server, mut facility, mut tag) = (None, 23, "pointsman");
    for part in rest.split(',') {
        match part.split_once('=') {
            Some(("server", address)) if server.is_none() && !address.is_empty() => server = Some(address),
            Some(("facility", name)) => {
                let number = FACILITIES.iter().position(|known| *known == name);
                facility = number.ok_or_else(|| invalid(format!("unknown syslog facility \"{name}\"")))?;
            }
            // RFC 5424, section 6: APP-NAME.
            Some(("tag", name))
                if (1..=48).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                tag = name;
            }
            _ => return Err(invalid(format!("invalid syslog parameter \"{part}\""))),
        }
    }
    let server = server.ok_or_else(|| invalid("no syslog server specified".to_owned()))?;
    let addresses = match server.strip_prefix("unix:") {
        Some(path) => vec![Address::Unix(b.inputs.prefix.join(path))],
        None => {
            let url = Url::parse(server.as_bytes(), SYSLOG_PORT, false);
            let url = url.map_err(|why| invalid(format!("{why} in syslog server \"{server}\"")))?;
            match url.address() {
                Some(address) => vec![address],
                None => {
                    let host = String::from_utf8_lossy(url.host).into_owned();
                    let found = b.inputs.names.lookup(&host, url.port);
                    let found = found.and_then(|all| match all.is_empty() {
                        true => Err("it has no address".to_owned()),
                        false => Ok(all),
                    });
                    let found = found.map_err(|why| {
                        invalid(format!("host not found in syslog server \"{server}\": {why}"))
                    })?;
                    found.into_iter().map(Address::Inet).collect()
                }
            }
        }
    };
    Ok(SyslogPlace { text: word.str()?.into(), addresses, facility: facility as u8, tag: tag.into() })
}
