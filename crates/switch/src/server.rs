//! A server of a group, as orders name and change it.
//!
//! Owns the parameters that an order may set, and their text, which is on disk as the value of a subject. What a group does
//! with them is for those who serve it. Must never resolve a name.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use crate::SubjectChange;

/// The subject of a server of a group. Its name is that of the group in lower case, a space, and the server's.
pub const SERVER_SUBJECT: &str = "server";
/// The subject of a group that was made at run time. Its name is that of the group in lower case.
pub const GROUP_SUBJECT: &str = "group";
/// The subject that a commit has beside a removed group, and under its name, if the servers that were said of it went with it. It
/// never has a value.
pub(crate) const FORGOTTEN_SUBJECT: &str = "forgotten";

/// The name, among the servers of a group, under which it is pinned: no server is called so.
pub(crate) const PIN: &str = "*";

/// The longest path of a socket, bytes: what the system takes.
const MAX_PATH: usize = 107;

/// Parameters of a `server` line, each of which may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerParams {
    /// Its share of the requests; at least 1.
    pub weight: Option<u32>,
    /// Most connections at a time; 0 is no limit.
    pub max_conns: Option<u32>,
    /// Failures that make it unavailable; 0 counts none.
    pub max_fails: Option<u32>,
    /// The time in which they count, and for which it is left alone then.
    pub fail_timeout_ms: Option<u64>,
    /// The time in which a server that has recovered gets its full weight.
    pub slow_start_ms: Option<u64>,
    /// Used only if no other is available.
    pub backup: Option<bool>,
    /// It gets no new clients.
    pub drain: Option<bool>,
    /// It gets no request.
    pub down: Option<bool>,
}

impl ServerParams {
    /// Returns these parameters, and those of `base` where there are none.
    #[must_use]
    pub fn over(&self, base: &ServerParams) -> ServerParams {
        ServerParams {
            weight: self.weight.or(base.weight),
            max_conns: self.max_conns.or(base.max_conns),
            max_fails: self.max_fails.or(base.max_fails),
            fail_timeout_ms: self.fail_timeout_ms.or(base.fail_timeout_ms),
            slow_start_ms: self.slow_start_ms.or(base.slow_start_ms),
            backup: self.backup.or(base.backup),
            drain: self.drain.or(base.drain),
            down: self.down.or(base.down),
        }
    }

    /// Returns true if none is given.
    pub fn is_empty(&self) -> bool {
        *self == ServerParams::default()
    }

    /// Returns true if the server gets requests of new clients.
    pub fn is_in_use(&self) -> bool {
        self.down != Some(true) && self.drain != Some(true)
    }

    /// Checks values that were not read from words.
    ///
    /// # Errors
    /// The fault, for people.
    pub fn check(&self) -> Result<(), String> {
        match self {
            ServerParams { weight: Some(0), .. } => Err("its weight is 0, and must be at least 1".to_owned()),
            ServerParams { fail_timeout_ms: Some(ms), .. } if ms % 1000 != 0 => {
                Err("its fail_timeout is not in whole seconds".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Reads one word, such as `weight=3` or `backup`. A flag may be taken back: `backup=off`.
    ///
    /// # Errors
    /// The fault, for people.
    pub fn read(&mut self, word: &str) -> Result<(), String> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let wrong = |expected: &str| format!("invalid {name} in \"{word}\": expected {expected}");
        let number = || {
            let value = value.unwrap_or_default();
            let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let number = if is_number { value.parse::<u32>().ok() } else { None };
            number.ok_or_else(|| wrong("a whole number"))
        };
        let time = || parse_ms(value.unwrap_or_default()).ok_or_else(|| wrong("a time, such as 30s"));
        let flag = || match value {
            None | Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(_) => Err(wrong("no value, or off")),
        };
        match name {
            "weight" => match number()? {
                0 => return Err(wrong("a weight of at least 1")),
                weight => self.weight = Some(weight),
            },
            "max_conns" => self.max_conns = Some(number()?),
            "max_fails" => self.max_fails = Some(number()?),
            "fail_timeout" => match time()? {
                ms if ms % 1000 == 0 => self.fail_timeout_ms = Some(ms),
                _ => return Err(wrong("a time in whole seconds")),
            },
            "slow_start" => self.slow_start_ms = Some(time()?),
            "backup" => self.backup = Some(flag()?),
            "drain" => self.drain = Some(flag()?),
            "down" => self.down = Some(flag()?),
            _ => {
                return Err(format!(
                    "\"{word}\" is no parameter of a server: there are weight=, max_conns=, max_fails=, fail_timeout=, \
                     slow_start= and backup"
                ));
            }
        }
        Ok(())
    }
}

/// As words of a `server` line, in one order.
impl fmt::Display for ServerParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |name: &str, value: Option<u32>| value.map(|value| format!("{name}={value}"));
        let time = |name: &str, value: Option<u64>| value.map(|ms| format!("{name}={}", time_text(ms)));
        let flag = |name: &str, value: Option<bool>| {
            value.map(|value| if value { name.to_owned() } else { format!("{name}=off") })
        };
        let words = [
            number("weight", self.weight),
            number("max_conns", self.max_conns),
            number("max_fails", self.max_fails),
            time("fail_timeout", self.fail_timeout_ms),
            time("slow_start", self.slow_start_ms),
            flag("backup", self.backup),
            flag("drain", self.drain),
            flag("down", self.down),
        ];
        for (number, word) in words.iter().flatten().enumerate() {
            if number > 0 {
                f.write_char(' ')?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

/// The effect of orders on a server: the value of its subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerEntry {
    /// An order has added it: it is there whether the configuration has it or not.
    pub is_added: bool,
    /// An order has removed it, whatever the configuration has.
    pub is_removed: bool,
    /// Of a group, not of a server: what is looked up does not count.
    pub is_pin: bool,
    /// The parameters that lie over the configuration's.
    pub params: ServerParams,
    /// Words that this version does not know. They are kept.
    unknown: Vec<String>,
}

impl ServerEntry {
    /// Returns the entry of a server that an order has removed although the configuration has it.
    pub fn removed() -> ServerEntry {
        ServerEntry { is_removed: true, ..ServerEntry::default() }
    }

    /// Returns the entry of a server that an order has added.
    pub fn added(params: ServerParams) -> ServerEntry {
        ServerEntry { is_added: true, params, ..ServerEntry::default() }
    }

    /// Returns the entry of a group in which what is looked up does not count.
    pub(crate) fn pin() -> ServerEntry {
        ServerEntry { is_pin: true, ..ServerEntry::default() }
    }

    /// Reads the value of a subject.
    pub fn parse(text: &str) -> ServerEntry {
        let mut entry = ServerEntry::default();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            match word {
                "added" => entry.is_added = true,
                "removed" => entry.is_removed = true,
                "pinned" => entry.is_pin = true,
                word => {
                    if entry.params.read(word).is_err() {
                        entry.unknown.push(word.to_owned());
                    }
                }
            }
        }
        entry
    }

    /// Returns true if it says nothing: the server is as in the configuration.
    pub fn is_empty(&self) -> bool {
        *self == ServerEntry::default()
    }
}

impl fmt::Display for ServerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.is_added.then(|| "added".to_owned()));
        words.extend(self.is_removed.then(|| "removed".to_owned()));
        words.extend(self.is_pin.then(|| "pinned".to_owned()));
        words.extend((!self.params.is_empty()).then(|| self.params.to_string()));
        words.extend(self.unknown.iter().cloned());
        f.write_str(&words.join(" "))
    }
}

/// A change of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOrder {
    /// Its group.
    pub group: String,
    /// The server, as the configuration has it written, or by its address. Empty for all of a group ([`ServerVerb::Reset`],
    /// [`ServerVerb::Pin`]).
    pub server: String,
    /// The change.
    pub verb: ServerVerb,
}

/// An action on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerVerb {
    /// It joins the group, with these parameters.
    Add(ServerParams),
    /// These parameters are set, the others stay.
    Set(ServerParams),
    /// It gets no new clients.
    Drain,
    /// It gets no request.
    Down,
    /// It gets requests again.
    Up,
    /// It leaves the group.
    Remove,
    /// It is as in the configuration again.
    Reset,
    /// The servers that were looked up are those of the group from now on, whatever is found later.
    Pin,
}

impl fmt::Display for ServerVerb {
    /// Writes the command's word, and the parameters behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerVerb::Add(params) => write!(f, "add {params}"),
            ServerVerb::Set(params) => write!(f, "set {params}"),
            ServerVerb::Drain => f.write_str("drain"),
            ServerVerb::Down => f.write_str("down"),
            ServerVerb::Up => f.write_str("up"),
            ServerVerb::Remove => f.write_str("remove"),
            ServerVerb::Reset => f.write_str("reset"),
            ServerVerb::Pin => f.write_str("pin"),
        }
    }
}

impl ServerOrder {
    /// Returns true if this order may have made this change.
    pub(crate) fn may_have_made(&self, change: &SubjectChange) -> bool {
        let Some((group, server)) = named_server(&change.name) else { return false };
        let after = change.after.as_deref().map(ServerEntry::parse).unwrap_or_default();
        let is_named = self.server.is_empty()
            || self.server == server
            || server_address(&self.server).is_ok_and(|address| address == server)
            // The configuration has it written otherwise.
            || server_address(server).is_err();
        let fits = match &self.verb {
            ServerVerb::Add(params) => after.is_added && after.params == *params,
            ServerVerb::Set(params) => params.over(&after.params) == after.params,
            ServerVerb::Drain => after.params.drain == Some(true),
            ServerVerb::Down => after.params.down == Some(true),
            ServerVerb::Up => after.params.is_in_use(),
            ServerVerb::Remove => after.is_removed || after.is_empty(),
            ServerVerb::Reset => after.is_empty(),
            ServerVerb::Pin => after.is_pin || after.is_added,
        };
        change.subject == SERVER_SUBJECT && self.group.eq_ignore_ascii_case(group) && is_named && fits
    }
}

/// Returns the name of a server's subject.
pub(crate) fn subject_name(group: &str, server: &str) -> String {
    format!("{} {server}", group.to_ascii_lowercase())
}

/// Returns the group and the server that a subject is named after.
pub fn named_server(name: &str) -> Option<(&str, &str)> {
    name.split_once(' ')
}

/// Returns the one way in which an address is written: `127.0.0.1:8081`, `[::1]:80`, `unix:/run/app.sock`. Without a port it
/// is that of HTTP.
///
/// # Errors
/// The fault, for people: a host name, too, which only the configuration may have.
///
/// ```
/// use pointsman_switch::server_address;
///
/// assert_eq!(server_address("[0:0::1]").unwrap(), "[::1]:80");
/// assert_eq!(server_address("10.0.0.1:8081").unwrap(), "10.0.0.1:8081");
/// assert!(server_address("backend:80").unwrap_err().contains("a host name"));
/// ```
pub fn server_address(text: &str) -> Result<String, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            _ if !path.starts_with('/') => Err("the path of a socket begins with /".to_owned()),
            _ if path.len() > MAX_PATH => Err(format!("the path of a socket has at most {MAX_PATH} bytes")),
            _ if path.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                Err("the path has a blank or a control character".to_owned())
            }
            path => Ok(format!("unix:{path}")),
        };
    }
    let parsed = text.parse::<SocketAddr>().or_else(|_| format!("{text}:80").parse::<SocketAddr>());
    match parsed {
        Ok(address) if address.port() == 0 => Err("its port is 0".to_owned()),
        Ok(address) if address.ip().is_unspecified() => Err("it is the address of no server".to_owned()),
        Ok(address) => Ok(address.to_string()),
        Err(_) if text.is_empty() => Err("it is empty".to_owned()),
        Err(_) if text.contains("://") => Err("an address has no scheme".to_owned()),
        Err(_) if text.bytes().any(|byte| byte.is_ascii_alphabetic()) && !text.starts_with('[') => {
            Err("a host name is resolved only in the configuration".to_owned())
        }
        Err(_) => Err("it is no address".to_owned()),
    }
}

/// Parses a time as nginx writes it: `30s`, `1m30s`, `500ms`; without a unit in seconds.
fn parse_ms(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let (unit, ms) = match units.iter().find(|(unit, _)| rest.starts_with(unit)) {
            Some(found) => *found,
            None if rest.is_empty() => ("", 1000),
            None => return None,
        };
        rest = &rest[unit.len()..];
        total = total.checked_add(number.checked_mul(ms)?)?;
    }
    Some(total)
}

/// Returns a time as it is written in a `server` line.
pub fn time_text(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_back_as_it_was_written() {
        for text in [
            "added weight=3 max_conns=10 drain",
            "removed",
            "down",
            "backup=off drain=off down=off",
            "added",
            "pinned",
            "max_fails=0 fail_timeout=15s slow_start=1500ms backup",
            "",
        ] {
            assert_eq!(ServerEntry::parse(text).to_string(), text);
        }
        // A word of a newer version stays.
        assert_eq!(ServerEntry::parse("weight=2 zone=a").to_string(), "weight=2 zone=a");
    }

    #[test]
    fn parameters_are_read_as_nginx_writes_them() {
        let read = |word: &str| {
            let mut params = ServerParams::default();
            params.read(word).map(|()| params.to_string())
        };
        for (word, text) in [
            ("weight=3", "weight=3"),
            ("fail_timeout=30", "fail_timeout=30s"),
            ("fail_timeout=1m30s", "fail_timeout=90s"),
            ("slow_start=500ms", "slow_start=500ms"),
            ("backup", "backup"),
            ("backup=off", "backup=off"),
        ] {
            assert_eq!(read(word).as_deref(), Ok(text));
        }
        for word in [
            "weight=0",
            "weight=-1",
            "weight=",
            "weight",
            "weight=4294967296",
            "fail_timeout=",
            "fail_timeout=1x",
            "fail_timeout=1500ms",
            "backup=1",
            "resolve",
        ] {
            assert!(read(word).is_err(), "{word}");
        }
    }

    #[test]
    fn an_address_is_written_in_one_way() {
        for (text, written) in [
            ("127.0.0.1:8081", "127.0.0.1:8081"),
            ("127.0.0.1", "127.0.0.1:80"),
            ("[::1]", "[::1]:80"),
            ("[::1]:8081", "[::1]:8081"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
        ] {
            assert_eq!(server_address(text).as_deref(), Ok(written));
        }
        for text in [
            "",
            "backend",
            "backend:80",
            "http://10.0.0.1",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "0.0.0.0:80",
            "10.0.0",
            "10.0.0.1 :80",
            "unix:run",
            "unix:/a b",
        ] {
            assert!(server_address(text).is_err(), "{text}");
        }
    }
}
