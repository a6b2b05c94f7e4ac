//! `Set-Cookie` of an upstream, changed by `proxy_cookie_domain`, `proxy_cookie_path` and `proxy_cookie_flags`.
//!
//! Owns how such a field is taken apart and put together again (ngx_http_proxy_rewrite_cookie). A field in which
//! nothing changes is passed on byte by byte.

use super::rewrite::{self, Rule, with_value};
use super::{ProxySettings, ResponseSettings};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::regex::Regex;
use crate::template::Template;
use std::borrow::Cow;

/// Which cookies a `proxy_cookie_flags` is for.
#[derive(Clone, Debug)]
pub enum CookieName {
    /// The one of this name, in any case.
    Is(Template),
    /// Those whose names match.
    Matches(Regex),
}

/// One `proxy_cookie_flags`.
#[derive(Clone, Debug)]
pub struct CookieFlags {
    /// Which cookies it is for.
    pub name: CookieName,
    /// The flags; an empty value means nothing.
    pub flags: Vec<Template>,
}

/// The flags that are set or removed; `None` leaves a flag as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    secure: Option<bool>,
    http_only: Option<bool>,
    same_site: Option<Option<&'static str>>,
}

impl Wanted {
    /// Takes in one flag. nginx ignores what it does not know.
    fn take(&mut self, flag: &[u8]) -> bool {
        match flag.to_ascii_lowercase().as_slice() {
            b"secure" => self.secure = Some(true),
            // Where both are said, the flag is set.
            b"nosecure" => self.secure = self.secure.or(Some(false)),
            b"httponly" => self.http_only = Some(true),
            b"nohttponly" => self.http_only = self.http_only.or(Some(false)),
            b"samesite=strict" => self.same_site = Some(Some("Strict")),
            b"samesite=lax" if self.same_site != Some(Some("Strict")) => self.same_site = Some(Some("Lax")),
            b"samesite=none" if !matches!(self.same_site, Some(Some(_))) => {
                self.same_site = Some(Some("None"))
            }
            b"nosamesite" => self.same_site = self.same_site.or(Some(None)),
            b"samesite=lax" | b"samesite=none" => {}
            _ => return false,
        }
        true
    }
}

/// Returns whether `proxy_cookie_flags` knows this word.
pub(super) fn is_flag(word: &[u8]) -> bool {
    Wanted::default().take(word)
}

/// `name=value` or `name` between two semicolons.
#[derive(Debug)]
struct Attribute<'a> {
    name: &'a [u8],
    value: Option<Cow<'a, [u8]>>,
}

impl Attribute<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Returns whether the location changes cookies at all.
pub(super) fn wanted(settings: &ProxySettings) -> bool {
    let ResponseSettings { cookie_domains, cookie_paths, cookie_flags, .. } = &settings.response;
    !(cookie_domains.is_empty() && cookie_paths.is_empty() && cookie_flags.is_empty())
}

/// Returns the field as it is to be sent, if something in it changes.
pub(super) fn rewrite(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    settings: &ResponseSettings,
    field: &[u8],
) -> Option<Vec<u8>> {
    let mut attributes: Vec<Attribute<'_>> = field.split(|byte| *byte == b';').map(attribute).collect();
    attributes.first()?.value.as_ref()?;
    let mut changed = false;
    for attribute in attributes.iter_mut().skip(1) {
        let rules: &[Rule] = if attribute.is("domain") {
            &settings.cookie_domains
        } else if attribute.is("path") {
            &settings.cookie_paths
        } else {
            continue;
        };
        if let (false, Some(value)) = (rules.is_empty(), &mut attribute.value) {
            changed |= rewrite::apply(rules, exchange, env, value.to_mut(), 0);
        }
    }
    if let Some(wanted) = flags_for(exchange, env, &settings.cookie_flags, attributes[0].name) {
        set_flags(&mut attributes, wanted);
        changed = true;
    }
    changed.then(|| join(&attributes))
}

fn attribute(text: &[u8]) -> Attribute<'_> {
    match memchr::memchr(b'=', text) {
        Some(at) => {
            let value = Some(Cow::Borrowed(without_spaces(&text[at + 1..])));
            Attribute { name: without_spaces(&text[..at]), value }
        }
        None => Attribute { name: without_spaces(text), value: None },
    }
}

/// Only spaces are white here, as in nginx.
fn without_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// Returns the flags of the first `proxy_cookie_flags` for this cookie; none if there is none.
fn flags_for(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    all: &[CookieFlags],
    cookie: &[u8],
) -> Option<Wanted> {
    let found = all.iter().find(|flags| match &flags.name {
        CookieName::Is(name) => with_value(name, exchange, env, |name| name.eq_ignore_ascii_case(cookie)),
        CookieName::Matches(regex) => rewrite::matches(regex, exchange, env, cookie),
    })?;
    let mut wanted = Wanted::default();
    for flag in &found.flags {
        with_value(flag, exchange, env, |flag| wanted.take(flag));
    }
    (wanted != Wanted::default()).then_some(wanted)
}

fn set_flags(attributes: &mut Vec<Attribute<'_>>, wanted: Wanted) {
    let set_plain = |attributes: &mut Vec<Attribute<'_>>, name: &'static str, want: Option<bool>| match want {
        Some(true) if !attributes[1..].iter().any(|attribute| attribute.is(name)) => {
            attributes.push(Attribute { name: name.as_bytes(), value: None });
        }
        Some(false) => remove(attributes, name),
        _ => {}
    };
    set_plain(attributes, "Secure", wanted.secure);
    set_plain(attributes, "HttpOnly", wanted.http_only);
    match wanted.same_site {
        Some(Some(value)) => {
            let want = || Some(Cow::Borrowed(value.as_bytes()));
            match attributes[1..].iter_mut().find(|attribute| attribute.is("SameSite")) {
                Some(there) => {
                    let same =
                        there.value.as_ref().is_some_and(|now| now.eq_ignore_ascii_case(value.as_bytes()));
                    if !same {
                        *there = Attribute { name: b"SameSite", value: want() };
                    }
                }
                None => attributes.push(Attribute { name: b"SameSite", value: want() }),
            }
        }
        Some(None) => remove(attributes, "SameSite"),
        None => {}
    }
}

fn remove(attributes: &mut Vec<Attribute<'_>>, name: &str) {
    let mut first = true;
    attributes.retain(|attribute| std::mem::take(&mut first) || !attribute.is(name));
}

fn join(attributes: &[Attribute<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (place, Attribute { name, value }) in attributes.iter().enumerate() {
        if place > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_flags(field: &str, flags: &[&str]) -> String {
        let mut attributes: Vec<Attribute<'_>> =
            field.as_bytes().split(|b| *b == b';').map(attribute).collect();
        let mut wanted = Wanted::default();
        flags.iter().for_each(|flag| assert!(wanted.take(flag.as_bytes())));
        set_flags(&mut attributes, wanted);
        String::from_utf8(join(&attributes)).unwrap()
    }

    #[test]
    fn cookie_flags_are_set_and_removed() {
        let cases: &[(&str, &[&str], &str)] = &[
            ("a=b", &["secure", "HttpOnly", "samesite=lax"], "a=b; Secure; HttpOnly; SameSite=Lax"),
            ("a=b; secure;path=/", &["secure"], "a=b; secure; path=/"),
            ("a=b; Secure; HttpOnly", &["nosecure", "nohttponly"], "a=b"),
            ("a=b; samesite=strict", &["samesite=strict"], "a=b; samesite=strict"),
            ("a=b; samesite=strict; x", &["samesite=none"], "a=b; SameSite=None; x"),
            ("a=b; SameSite=Lax", &["nosamesite"], "a=b"),
            ("secure=1; x", &["nosecure"], "secure=1; x"),
            (" a = b c ;  d ", &["httponly"], "a=b c; d; HttpOnly"),
            ("a=b", &["samesite=none", "samesite=strict", "samesite=lax"], "a=b; SameSite=Strict"),
            ("a=b", &["nosecure", "secure"], "a=b; Secure"),
        ];
        for (field, flags, expected) in cases {
            assert_eq!(with_flags(field, flags), *expected, "{field:?} {flags:?}");
        }
        assert!(!is_flag(b"secured") && is_flag(b"NoSecure"));
    }
}
