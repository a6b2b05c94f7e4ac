//! The directives.

use super::{Lifetime, Mode};
use crate::config::{invalid_choice, number};
use crate::directive::{Args, Contexts, Directive};
use conf::Diagnostic;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("userid", Contexts::HSL, Args::Exactly(1), "on | v1 | log | off", |b, d| {
        let mode = match d.args[0].str()? {
            "on" => Mode::On,
            "v1" => Mode::V1,
            "log" => Mode::Log,
            "off" => Mode::Off,
            _ => return Err(invalid_choice(&d.args[0])),
        };
        b.write(d, |s| &mut s.filters.userid.mode, mode)
    })
    .default("off")
    .doc("Sets a cookie that identifies the client, and makes the received one available ($uid_set, $uid_got); with \
         log, no cookie is set.")
    .example("userid on;"),
    Directive::new("userid_service", Contexts::HSL, Args::Exactly(1), "number", |b, d| {
        let service = number(d.args[0].text()).and_then(|number| u32::try_from(number).ok());
        let service = service.ok_or_else(|| b.invalid_setting(&d.args[0]).help("a whole number below 4294967296"))?;
        b.write(d, |s| &mut s.filters.userid.service, Some(service))
    })
    .doc("The first of the four numbers in a cookie; by default the server's address (v1: 0).")
    .example("userid_service 7;"),
    Directive::new("userid_name", Contexts::HSL, Args::Exactly(1), "name", |b, d| {
        let name = d.args[0].text().to_vec().into();
        b.write(d, |s| &mut s.filters.userid.name, name)
    })
    .default("uid")
    .doc("The cookie's name.")
    .example("userid_name visitor;"),
    Directive::new("userid_domain", Contexts::HSL, Args::Exactly(1), "name | none", |b, d| {
        let domain = match &**d.args[0].text() {
            b"none" => Vec::new(),
            name => [b"; domain=", name].concat(),
        };
        b.write(d, |s| &mut s.filters.userid.domain, domain.into())
    })
    .default("none")
    .doc("The domain that the cookie is for.")
    .example("userid_domain example.com;"),
    Directive::new("userid_path", Contexts::HSL, Args::Exactly(1), "path", |b, d| {
        let path = [b"; path=", &**d.args[0].text()].concat();
        b.write(d, |s| &mut s.filters.userid.path, path.into())
    })
    .default("/")
    .doc("The path that the cookie is for.")
    .example("userid_path /shop;"),
    Directive::new("userid_expires", Contexts::HSL, Args::Exactly(1), "time | max | off", |b, d| {
        let lifetime = match &**d.args[0].text() {
            b"max" => Lifetime::Max,
            b"off" => Lifetime::Session,
            text => match conf::value::parse_time_s(text) {
                Some(0) => Lifetime::Session,
                Some(seconds) => Lifetime::Seconds(seconds),
                None => return Err(b.invalid_setting(&d.args[0])),
            },
        };
        b.write(d, |s| &mut s.filters.userid.lifetime, lifetime)
    })
    .default("off")
    .doc("How long the browser keeps the cookie: a time, until 2037 (max), or until the browser is closed (off).")
    .example("userid_expires 365d;"),
    Directive::new("userid_flags", Contexts::HSL, Args::Between(1, 3), "off | flag ...", |b, d| {
        let mut flags = Vec::new();
        for word in &d.args {
            match word.str()? {
                "off" if d.args.len() == 1 => {}
                flag @ ("secure" | "httponly" | "samesite=strict" | "samesite=lax" | "samesite=none") => {
                    flags.push(flag);
                }
                _ => return Err(invalid_choice(word).help("off, or secure, httponly, samesite=strict|lax|none")),
            }
        }
        // In nginx's order, whatever theirs.
        let order = ["secure", "httponly", "samesite=strict", "samesite=lax", "samesite=none"];
        let text: String =
            order.iter().filter(|flag| flags.contains(flag)).map(|flag| format!("; {flag}")).collect();
        b.write(d, |s| &mut s.filters.userid.flags, text.into_bytes().into())
    })
    .default("off")
    .doc("Attributes of the cookie: secure, httponly, samesite=strict, samesite=lax, samesite=none.")
    .example("userid_flags secure httponly samesite=lax;"),
    Directive::new("userid_p3p", Contexts::HSL, Args::Exactly(1), "string | none", |b, d| {
        let value = match &**d.args[0].text() {
            b"none" => Vec::new(),
            text => text.to_vec(),
        };
        b.write(d, |s| &mut s.filters.userid.p3p, value.into())
    })
    .default("none")
    .doc("A P3P field that is sent with the cookie.")
    .example("userid_p3p 'policyref=\"/w3c/p3p.xml\", CP=\"CUR ADM OUR NOR STA NID\"';"),
    Directive::new("userid_mark", Contexts::HSL, Args::Exactly(1), "letter | digit | = | off", |b, d| {
        let mark = match &**d.args[0].text() {
            b"off" => None,
            [mark] if mark.is_ascii_alphanumeric() || *mark == b'=' => Some(*mark),
            _ => {
                let text = "\"userid_mark\" directive value must be \"off\" or a single letter, digit or \"=\"";
                return Err(Diagnostic::error(d.args[0].span, text));
            }
        };
        b.write(d, |s| &mut s.filters.userid.mark, mark)
    })
    .default("off")
    .doc("A character in the cookie: clients whose cookie has a different one get a new cookie.")
    .example("userid_mark a;"),
];
