//! `sticky`: what a client is known by when its key is split between targets, and the cookie that makes it known.
//!
//! Owns the directive, and that a client's place among all clients depends on nothing else but the salt. Must never remember
//! a client: the cookie is its memory.

use super::record::ClientPoint;
use crate::config::{Builder, invalid_parameter};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::output::HeadRefused;
use crate::template::Template;
use crate::variables::write;
use conf::{Diagnostic, Word};
use http::Known;
use std::net::SocketAddr;

/// The way a client is recognised, and what else its place depends on.
#[derive(Clone, Debug)]
pub struct Sticky {
    /// A client without a value there is known by its address.
    pub(crate) source: StickySource,
    /// The salt of its place.
    pub(crate) salt: Salt,
}

/// Where a client's name comes from.
#[derive(Clone, Debug)]
pub(crate) enum StickySource {
    /// The client's address.
    Address,
    /// A text with variables.
    Text(Template),
    /// A cookie.
    Cookie(StickyCookie),
}

/// A cookie of clients.
#[derive(Clone, Debug)]
pub(crate) struct StickyCookie {
    pub(crate) name: Box<str>,
    /// `issue`: a client without the cookie gets one, with these attributes.
    pub(crate) attributes: Option<Box<str>>,
}

/// The salt of a client's place beside its name. With a salt, other clients come first in each split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Salt {
    /// Nothing: the same clients come first everywhere.
    #[default]
    None,
    /// The name of the switch.
    Switch,
    /// The name of the switch and the key.
    Key,
}

/// Returns the point of this request's client. `text` is a room for its name.
pub(super) fn point(
    number: usize,
    key: &[u8],
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    text: &mut Vec<u8>,
) -> u64 {
    let spec = &env.config.switches[number];
    text.clear();
    match &spec.sticky.source {
        StickySource::Address => {}
        StickySource::Text(template) => template.append(exchange, env, text),
        StickySource::Cookie(cookie) => append_cookie(number, cookie, exchange, env, text),
    }
    if text.is_empty() {
        write::client(&exchange.connection, text);
    }
    let salt = match spec.sticky.salt {
        Salt::None => return switch::point_of(text),
        Salt::Switch => switch::point_of(spec.rules.name.as_bytes()),
        Salt::Key => switch::salted_point_of(key, switch::point_of(spec.rules.name.as_bytes())),
    };
    switch::salted_point_of(text, salt)
}

/// Returns the place that a split would give this request's client, without issuing a cookie. That of an address alone
/// is not worked out before something is split.
pub(super) fn client(
    number: usize,
    key: &[u8],
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    text: &mut Vec<u8>,
) -> ClientPoint {
    let Sticky { source, salt } = &env.config.switches[number].sticky;
    match source {
        StickySource::Address if *salt == Salt::None => ClientPoint::Address,
        StickySource::Cookie(cookie) if cookie.attributes.is_some() && !has_cookie(exchange, cookie) => {
            ClientPoint::Open
        }
        _ => ClientPoint::Known(point(number, key, exchange, env, text)),
    }
}

fn has_cookie(exchange: &Exchange, cookie: &StickyCookie) -> bool {
    let fields = exchange.request.head.headers.get_all(Known::Cookie);
    http::cookie::find(fields, cookie.name.as_bytes()).is_some_and(|value| !value.is_empty())
}

/// Returns the point of a client that is known by its address alone; `None` is on a unix socket.
pub fn point_of_address(remote: Option<SocketAddr>) -> u64 {
    let mut text = Vec::new();
    write::peer(remote, &mut text);
    switch::point_of(&text)
}

fn append_cookie(
    number: usize,
    cookie: &StickyCookie,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    text: &mut Vec<u8>,
) {
    let fields = exchange.request.head.headers.get_all(Known::Cookie);
    if let Some(value) = http::cookie::find(fields, cookie.name.as_bytes()).filter(|value| !value.is_empty())
    {
        text.extend_from_slice(value);
    } else if cookie.attributes.is_some() {
        // Switches that share a cookie give a client one name.
        let issued = exchange.switches.issued().iter().find(|issued| {
            let other = &env.config.switches[usize::from(issued.switch)].sticky.source;
            matches!(other, StickySource::Cookie(other) if other.name == cookie.name)
        });
        let id = match issued {
            Some(issued) => issued.id,
            None => {
                let id = [env.host.random(), env.host.random()];
                exchange.switches.issue(number, id);
                id
            }
        };
        append_id(id, text);
    }
}

fn append_id(id: [u64; 2], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{:016x}{:016x}", id[0], id[1]).as_bytes());
}

/// Gives the client the cookies that were made for it.
pub(super) fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    for at in 0..exchange.switches.issued().len() {
        let issued = &exchange.switches.issued()[at];
        let source = &env.config.switches[usize::from(issued.switch)].sticky.source;
        if let StickySource::Cookie(StickyCookie { name, attributes: Some(attributes) }) = source {
            let mut value = format!("{name}=").into_bytes();
            append_id(issued.id, &mut value);
            value.extend_from_slice(attributes.as_bytes());
            exchange.response.headers.push(b"Set-Cookie", &value);
        }
    }
    Ok(())
}

/// The parameters of a cookie that is issued.
#[derive(Default)]
struct Attributes {
    issue: bool,
    ttl_s: Option<u64>,
    path: Option<String>,
    domain: Option<String>,
    same_site: Option<&'static str>,
    secure: bool,
}

const NAMES: [&str; 8] = ["cookie=", "issue", "ttl=", "path=", "domain=", "samesite=", "secure", "salt="];

fn parse_salt(text: &str, word: &Word) -> Result<Salt, Diagnostic> {
    match text {
        "none" => Ok(Salt::None),
        "switch" => Ok(Salt::Switch),
        "key" => Ok(Salt::Key),
        _ => Err(invalid_parameter(word).help("salt=key, salt=switch or salt=none")),
    }
}

/// Reads the directive.
pub(super) fn parse(b: &mut Builder<'_>, d: &conf::Directive) -> Result<Sticky, Diagnostic> {
    let first = &d.args[0];
    let mut salt = Salt::None;
    let mut attributes = Attributes::default();
    let (source, rest) = match first.text().strip_prefix(b"cookie=") {
        Some(_) => (None, &d.args[1..]),
        None if first.text().starts_with(b"salt=") => (Some(StickySource::Address), &d.args[..]),
        None => (Some(StickySource::Text(b.template(first)?)), &d.args[1..]),
    };
    b.each(rest, |word| match word.str()?.strip_prefix("salt=") {
        Some(text) => {
            salt = parse_salt(text, word)?;
            Ok(())
        }
        None if source.is_none() => attributes.read(word),
        None => {
            Err(invalid_parameter(word)
                .help("only salt= may follow; `sticky cookie=NAME issue` sets a cookie"))
        }
    })?;
    let source = match source {
        Some(source) => source,
        None => StickySource::Cookie(cookie(first, d, attributes)?),
    };
    Ok(Sticky { source, salt })
}

impl Attributes {
    fn read(&mut self, word: &Word) -> Result<(), Diagnostic> {
        let text = word.str()?;
        let wrong = |help: &str| Err(invalid_parameter(word).help(help));
        match text.split_once('=') {
            None if text == "issue" => self.issue = true,
            None if text == "secure" => self.secure = true,
            Some(("ttl", value)) => match conf::value::parse_time_s(value.as_bytes()).filter(|s| *s > 0) {
                Some(seconds) => self.ttl_s = Some(seconds),
                None => return wrong("how long a browser keeps the cookie, in whole seconds: ttl=30d"),
            },
            Some(("path", value)) if value.starts_with('/') && is_value(value) => {
                self.path = Some(value.to_owned());
            }
            Some(("path", _)) => return wrong("the path below which the cookie is sent: path=/shop"),
            Some(("domain", value)) if !value.is_empty() && is_value(value) => {
                self.domain = Some(value.to_owned());
            }
            Some(("samesite", value)) => {
                let known =
                    ["Strict", "Lax", "None"].into_iter().find(|known| known.eq_ignore_ascii_case(value));
                match known {
                    Some(known) => self.same_site = Some(known),
                    None => return wrong("samesite=strict, samesite=lax or samesite=none"),
                }
            }
            _ => {
                return Err(match conf::nearest(text, NAMES.into_iter()) {
                    Some(near) => invalid_parameter(word).help(format!("did you mean \"{near}\"?")),
                    None => invalid_parameter(word).help(format!("one of {}", NAMES.join(", "))),
                });
            }
        }
        Ok(())
    }

    /// Returns the text behind the cookie's value. Scripts of a page never see the cookie.
    fn text(&self) -> Box<str> {
        let mut text = format!("; Path={}", self.path.as_deref().unwrap_or("/"));
        if let Some(domain) = &self.domain {
            text.push_str("; Domain=");
            text.push_str(domain);
        }
        if let Some(seconds) = self.ttl_s {
            text.push_str(&format!("; Max-Age={seconds}"));
        }
        text.push_str("; HttpOnly; SameSite=");
        text.push_str(self.same_site.unwrap_or("Lax"));
        if self.secure {
            text.push_str("; Secure");
        }
        text.into()
    }
}

/// Returns true for the characters of an attribute's value (RFC 6265, section 4.1.1).
fn is_value(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')
}

fn cookie(word: &Word, d: &conf::Directive, attributes: Attributes) -> Result<StickyCookie, Diagnostic> {
    let name = word.str()?.strip_prefix("cookie=").unwrap_or_default();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.starts_with('$') || !name.bytes().all(is_token) {
        let fault = format!("invalid name of a cookie \"{name}\"");
        return Err(
            Diagnostic::error(word.span, fault).help("letters, digits, - and _: sticky cookie=side issue;")
        );
    }
    let fault = |text: String, help: &str| Err(Diagnostic::error(d.span, text).help(help));
    if !attributes.issue && d.args.iter().skip(1).any(|word| !word.text().starts_with(b"salt=")) {
        return fault(
            format!("the cookie \"{name}\" has attributes and is not issued"),
            "add `issue`, so that clients without the cookie get one",
        );
    }
    if attributes.same_site == Some("None") && !attributes.secure {
        return fault(
            format!("the cookie \"{name}\" has samesite=none without secure: browsers do not keep it"),
            "add `secure`",
        );
    }
    let host = name.starts_with("__Host-");
    let is_bound = attributes.secure && (!host || attributes.path.is_none() && attributes.domain.is_none());
    if attributes.issue && (host || name.starts_with("__Secure-")) && !is_bound {
        return fault(
            format!("browsers do not keep the cookie \"{name}\" with these attributes"),
            "__Secure- demands `secure`; __Host- demands it without path= and domain=",
        );
    }
    Ok(StickyCookie { name: name.into(), attributes: attributes.issue.then(|| attributes.text()) })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::testing::{TestHost, answer, config_of, faults_of};
    use std::rc::Rc;
    use std::sync::Arc;
    use switch::{Key, Route, Table, Tables};

    fn text(switches: &str) -> String {
        format!(
            "http {{ upstream blue {{ server 127.0.0.1:1; }} upstream green {{ server 127.0.0.1:2; }} {switches}
             server {{ listen 80; location / {{ return 200 \"$a $b\"; }} location /one {{ return 200 \"$a\"; }} }} }}"
        )
    }

    fn switches(sticky: &str) -> Config {
        let block = |name: &str| format!("switch $host ${name} {{ default blue; sticky {sticky}; }}");
        config_of(&text(&format!("{} {}", block("a"), block("b"))))
    }

    fn host(keys: &[&str], route: &str) -> TestHost {
        let table = || {
            let entry = |key: &&str| {
                (
                    Key::parse(switch::KeyKind::Host, key.as_bytes(), 255).unwrap(),
                    Route::parse(route).unwrap(),
                    1,
                )
            };
            Arc::new(Table::from_entries(1, keys.iter().map(entry)))
        };
        let tables = Tables { tables: [table(), table()].into(), holds: Box::default(), number: 1 };
        let mut host = TestHost::new();
        host.routing = Some(Rc::new(tables.into()));
        host
    }

    fn get(config: &Config, host: &mut TestHost, name: &str, path: &str, cookie: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nCookie: {cookie}\r\n\r\n");
        let sent = answer(config, host, &request);
        let set = sent.lines().filter_map(|line| line.strip_prefix("Set-Cookie: "));
        let set = set.collect::<Vec<_>>().join("|");
        (sent.split_once("\r\n\r\n").unwrap().1.to_owned(), set)
    }

    #[test]
    fn promise_16_a_client_gets_a_cookie_once_and_stays_where_it_is() {
        let config = switches("cookie=side issue ttl=1h");
        let mut host = host(&["x"], "green=50 blue=50");
        let mut sides = [0, 0];
        for _ in 0..200 {
            let (served, set) = get(&config, &mut host, "x", "/", "other=1; side=");
            let (cookie, attributes) = set.split_once("; ").unwrap();
            assert_eq!(attributes, "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
            assert_eq!(cookie.len(), "side=".len() + 32, "{cookie}");
            let again = get(&config, &mut host, "x", "/", &format!("a=b; {cookie}; c=d"));
            assert_eq!(again, (served.clone(), String::new()), "both switches share the name");
            sides[usize::from(served == "green green")] += 1;
        }
        // Five standard deviations.
        assert!(sides.iter().all(|count| (65..=135).contains(count)), "{sides:?}");
    }

    #[test]
    fn promise_16_no_cookie_is_set_where_nothing_is_split() {
        let config = switches("cookie=side issue");
        let mut whole = host(&["x"], "green");
        assert_eq!(get(&config, &mut whole, "x", "/", ""), ("green green".to_owned(), String::new()));
        let mut split = host(&["x"], "green=50 blue=50");
        assert_eq!(get(&config, &mut split, "elsewhere", "/", ""), ("blue blue".to_owned(), String::new()));
        let only_read = switches("cookie=side");
        assert_eq!(get(&only_read, &mut split, "x", "/", "").1, "");
    }

    #[test]
    fn promise_16_a_salt_gives_each_switch_or_key_an_order_of_its_own() {
        let keys = ["x", "y"];
        let mut host = host(&keys, "green=50 blue=50");
        // How many of 400 clients are on the same side in both switches, and of both keys.
        let mut alike = |sticky: &str| {
            let config = switches(sticky);
            let mut counts = [0, 0];
            for client in 0..400 {
                let mut of = |name: &str| get(&config, &mut host, name, "/", &format!("uid={client}")).0;
                let (x, y) = (of("x"), of("y"));
                counts[0] += u32::from(x == "blue blue" || x == "green green");
                counts[1] += u32::from(x == y);
            }
            counts
        };
        let by_chance = |count: u32| (150..=250).contains(&count);
        assert_eq!(alike("$cookie_uid"), [400, 400]);
        assert_eq!(alike("cookie=uid salt=none"), [400, 400]);
        let [switches, keys] = alike("$cookie_uid salt=switch");
        assert!(by_chance(switches) && keys == 400, "{switches} {keys}");
        let [switches, keys] = alike("cookie=uid salt=key");
        // Two switches with two sides each: a fourth of the clients is alike in both.
        assert!(by_chance(switches) && (60..=140).contains(&keys), "{switches} {keys}");
    }

    #[test]
    fn cookie_attributes_are_set_and_checked() {
        for (sticky, attributes) in [
            ("cookie=a issue", "Path=/; HttpOnly; SameSite=Lax"),
            ("cookie=__Host-a issue secure", "Path=/; HttpOnly; SameSite=Lax; Secure"),
            (
                "cookie=a issue path=/shop domain=example.com ttl=30d samesite=none secure salt=key",
                "Path=/shop; Domain=example.com; Max-Age=2592000; HttpOnly; SameSite=None; Secure",
            ),
        ] {
            let (_, set) = get(&switches(sticky), &mut host(&["x"], "green=1 blue=1"), "x", "/one", "");
            assert_eq!(set.split_once("; ").unwrap().1, attributes, "{sticky}");
        }
        for (sticky, fault) in [
            ("cookie= issue", "invalid name of a cookie \"\""),
            ("cookie=$a issue", "invalid name of a cookie \"$a\""),
            ("cookie=a ttl=1h", "the cookie \"a\" has attributes and is not issued"),
            ("cookie=a issue ttl=0", "invalid parameter \"ttl=0\""),
            ("cookie=a issue path=x", "invalid parameter \"path=x\""),
            ("cookie=a issue \"domain=a;b\"", "invalid parameter \"domain=a;b\""),
            ("cookie=a issue samesite=some", "invalid parameter \"samesite=some\""),
            ("cookie=a issue samesite=none", "the cookie \"a\" has samesite=none without secure"),
            ("cookie=__Host-a issue secure path=/x", "browsers do not keep the cookie \"__Host-a\""),
            ("cookie=a issu", "invalid parameter \"issu\""),
            ("$host issue", "invalid parameter \"issue\""),
            ("$host salt=pepper", "invalid parameter \"salt=pepper\""),
        ] {
            let block = format!("switch $host $a {{ default blue; sticky {sticky}; }} map $host $b {{ }}");
            let faults = faults_of(&text(&block));
            assert!(faults.iter().any(|known| known.contains(fault)), "{sticky}: {faults:?}");
        }
    }
}
