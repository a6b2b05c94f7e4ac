//! Directives about the answer's head that `proxy_pass` alone has, and how those of all families are read.

use super::{duplicate_value, one_of};
use crate::config::{Builder, Settings, invalid_parameter, once};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::proxy::cookies::{self, CookieFlags, CookieName};
use crate::modules::proxy::rewrite::{Redirects, Rule};
use crate::modules::proxy::{NameSet, PassKind, compile};
use crate::setting::{Duplicate, Setting};
use conf::{Diagnostic, Word};

/// The answer's head.
pub(in crate::modules::proxy) const RESPONSE: &[Directive] = &[
    Directive::flag("proxy_pass_trailers", Contexts::HSL, |b| &mut b.settings().proxy.response.pass_trailers)
        .default("off")
        .doc("Whether the upstream's trailers are passed on.")
        .example("proxy_pass_trailers on;"),
    Directive::flag("proxy_cache_convert_head", Contexts::HSL, |b| &mut b.settings().proxy.cache.convert_head)
        .default("on")
        .doc("Whether HEAD is sent as GET, so that the response can be cached; without this, the key should contain \
             the method.")
        .example("proxy_cache_convert_head off;"),
    Directive::new(
        "proxy_redirect",
        Contexts::HSL,
        Args::Between(1, 2),
        "default | off | redirect replacement",
        redirect,
    )
    .default("default")
    .doc(
        "How the upstream's Location and Refresh fields are changed: a prefix or a regular expression with its \
         replacement; default; or off.",
    )
    .example("proxy_redirect http://backend:8080/ /;"),
    Directive::new(
        "proxy_cookie_domain",
        Contexts::HSL,
        Args::Between(1, 2),
        "off | domain replacement",
        |b, d| cookie_rule(b, d, Rule::read_domain, |s| &mut s.proxy.response.cookie_domains),
    )
    .default("off")
    .doc("How the domain in Set-Cookie is changed; off changes nothing.")
    .example("proxy_cookie_domain backend.local shop.example.com;"),
    Directive::new(
        "proxy_cookie_path",
        Contexts::HSL,
        Args::Between(1, 2),
        "off | path replacement",
        |b, d| cookie_rule(b, d, Rule::read, |s| &mut s.proxy.response.cookie_paths),
    )
    .default("off")
    .doc("How the path in Set-Cookie is changed; off changes nothing.")
    .example("proxy_cookie_path /app/ /;"),
    Directive::new(
        "proxy_cookie_flags",
        Contexts::HSL,
        Args::Between(1, 4),
        "off | cookie [flag ...]",
        cookie_flags,
    )
    .default("off")
    .doc(
        "Attributes added to or removed from cookies in Set-Cookie: secure, httponly, samesite=strict|lax|none, \
         nosecure, nohttponly, nosamesite; or off.",
    )
    .example("proxy_cookie_flags session secure httponly;"),
];

/// The fields that `proxy_ignore_headers` knows.
const IGNORABLE: [&str; 9] = [
    "X-Accel-Redirect",
    "X-Accel-Expires",
    "X-Accel-Limit-Rate",
    "X-Accel-Buffering",
    "X-Accel-Charset",
    "Expires",
    "Cache-Control",
    "Set-Cookie",
    "Vary",
];

/// Reads the name of a field that is hidden, or not.
pub(in crate::modules) fn hide_header(
    d: &conf::Directive,
    setting: &mut Setting<Vec<Box<[u8]>>>,
) -> Result<(), Diagnostic> {
    setting.push(d.args[0].text().to_vec().into_boxed_slice());
    Ok(())
}

pub(in crate::modules) fn ignore_headers(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let setting = &kind.settings(b.settings()).response.ignore;
    let mut set = if setting.written() { setting.get().clone() } else { NameSet::default() };
    for word in &d.args {
        let name: &[u8] = word.text();
        if !IGNORABLE.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name)) {
            return Err(one_of(word, &IGNORABLE));
        }
        if set.contains(http::Known::from_bytes(name), name) {
            b.diagnostics.push(duplicate_value(word));
        }
        set.insert(name);
    }
    kind.settings(b.settings()).response.ignore.replace(set);
    Ok(())
}

fn redirect(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let written = b.settings().proxy.response.redirects.written();
    let mut rules = match &*b.settings().proxy.response.redirects {
        Redirects::Rules(rules) if written => rules.clone(),
        Redirects::Off if written => return once(Err(Duplicate), d),
        _ => Vec::new(),
    };
    match d.args.as_slice() {
        [word] if word.text() == "off" => {
            return b.write(d, |s| &mut s.proxy.response.redirects, Redirects::Off);
        }
        [word] if word.text() == "default" => rules.push(default_redirect(b, word)?),
        [pattern, replacement] => rules.push(Rule::read(b, pattern, replacement)?),
        words => {
            let word = words.first().unwrap_or(&d.name);
            return Err(
                invalid_parameter(word).help("off, default, or what is replaced and what takes its place")
            );
        }
    }
    b.settings().proxy.response.redirects.replace(Redirects::Rules(rules));
    Ok(())
}

fn default_redirect(b: &mut Builder<'_>, word: &Word) -> Result<Rule, Diagnostic> {
    let settings = &b.settings().proxy;
    if settings.pass.is_none() {
        return Err(Diagnostic::error(
            word.span,
            "\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive",
        ));
    }
    compile::implied_redirect(settings).ok_or_else(|| {
        Diagnostic::error(
            word.span,
            "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables",
        )
    })
}

/// `off` alone, as the one entry of a level; otherwise `false`.
fn is_off<T>(d: &conf::Directive, setting: &mut Setting<Vec<T>>) -> Result<bool, Diagnostic> {
    if setting.written() && setting.is_empty() {
        return once(Err(Duplicate), d).map(|()| true);
    }
    match d.args.as_slice() {
        [word] if word.text() == "off" => once(setting.write(Vec::new()), d).map(|()| true),
        [word] => Err(invalid_parameter(word)),
        _ => Ok(false),
    }
}

fn cookie_rule(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    read: fn(&mut Builder<'_>, &Word, &Word) -> Result<Rule, Diagnostic>,
    setting: fn(&mut Settings) -> &mut Setting<Vec<Rule>>,
) -> Result<(), Diagnostic> {
    if !is_off(d, setting(b.settings()))? {
        let rule = read(b, &d.args[0], &d.args[1])?;
        setting(b.settings()).push(rule);
    }
    Ok(())
}

fn cookie_flags(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    if is_off(d, &mut b.settings().proxy.response.cookie_flags)? {
        return Ok(());
    }
    let word = &d.args[0];
    let text: &[u8] = word.text();
    let name = match text {
        [b'~', rest @ ..] => CookieName::Matches(b.regex(word, rest, true)?),
        _ => CookieName::Is(b.template(word)?),
    };
    let mut flags = Vec::new();
    for word in &d.args[1..] {
        let flag = b.template(word)?;
        if flag.constant().is_some_and(|flag| !cookies::is_flag(flag)) {
            // nginx says nothing and sets nothing.
            let warning =
                Diagnostic::warn(word.span, format!("invalid proxy_cookie_flags flag \"{}\"", word.text()));
            b.diagnostics.push(warning.label("without effect"));
        }
        flags.push(flag);
    }
    b.settings().proxy.response.cookie_flags.push(CookieFlags { name, flags });
    Ok(())
}
