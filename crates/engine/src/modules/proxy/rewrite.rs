//! Rules that change a text an upstream sent: `proxy_redirect`, `proxy_cookie_domain`, `proxy_cookie_path`.
//!
//! Owns how a rule is read and how it is applied. Which field it is applied to is [`super::response`]'s to say.

use crate::config::Builder;
use crate::exchange::{Captures, Exchange};
use crate::host::{Env, Level};
use crate::log_line;
use crate::modules::core::keep_named_captures;
use crate::regex::Regex;
use crate::template::Template;
use conf::{Diagnostic, Word};

/// The pattern of a rule.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// A beginning; that alone is replaced.
    Prefix(Template),
    /// A whole domain in any case, a dot before it apart, which stays.
    Domain(Template),
    /// A regular expression; if it matches anywhere, all is replaced.
    Regex(Regex),
}

/// A pattern and what takes its place.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The pattern.
    pub pattern: Pattern,
    /// The replacement.
    pub replacement: Template,
}

/// `proxy_redirect`.
#[derive(Clone, Debug)]
pub enum Redirects {
    /// Nothing is written: the rule that `proxy_pass` implies, or what the location around this one has.
    Default,
    /// `off`.
    Off,
    /// These, tried in order.
    Rules(Vec<Rule>),
}

impl Rule {
    /// Reads `pattern replacement`, where a pattern that begins with `~` is a regular expression, and one with `~*`
    /// one that ignores case.
    pub(super) fn read(b: &mut Builder<'_>, pattern: &Word, replacement: &Word) -> Result<Rule, Diagnostic> {
        let text: &[u8] = pattern.text();
        let pattern = match text {
            [b'~', b'*', rest @ ..] => Pattern::Regex(b.regex(pattern, rest, true)?),
            [b'~', rest @ ..] => Pattern::Regex(b.regex(pattern, rest, false)?),
            _ => Pattern::Prefix(b.template(pattern)?),
        };
        Ok(Rule { pattern, replacement: b.template(replacement)? })
    }

    /// Reads `domain replacement`: a dot at their beginning means nothing, and a regular expression ignores case.
    pub(super) fn read_domain(
        b: &mut Builder<'_>,
        pattern: &Word,
        replacement: &Word,
    ) -> Result<Rule, Diagnostic> {
        let text: &[u8] = pattern.text();
        if let [b'~', rest @ ..] = text {
            let regex = b.regex(pattern, rest, true)?;
            return Ok(Rule { pattern: Pattern::Regex(regex), replacement: b.template(replacement)? });
        }
        let dotless = |word: &Word| word.text().strip_prefix(b".").unwrap_or(word.text()).to_vec();
        Ok(Rule {
            pattern: Pattern::Domain(b.template_of(&dotless(pattern), pattern.span)?),
            replacement: b.template_of(&dotless(replacement), replacement.span)?,
        })
    }

    /// Applies the rule to `value` from `from` on. Returns whether it matched.
    fn apply(&self, exchange: &mut Exchange, env: &mut Env<'_>, value: &mut Vec<u8>, from: usize) -> bool {
        let place = match &self.pattern {
            Pattern::Prefix(prefix) => with_value(prefix, exchange, env, |prefix| {
                value[from..].starts_with(prefix).then(|| from..from + prefix.len())
            }),
            Pattern::Domain(domain) => {
                let start = from + usize::from(value.get(from) == Some(&b'.'));
                with_value(domain, exchange, env, |domain| {
                    value[start..].eq_ignore_ascii_case(domain).then_some(start..value.len())
                })
            }
            Pattern::Regex(regex) => {
                matches(regex, exchange, env, &value[from..]).then_some(from..value.len())
            }
        };
        let Some(place) = place else { return false };
        with_value(&self.replacement, exchange, env, |text| {
            value.splice(place, text.iter().copied());
        });
        true
    }
}

/// Applies the first rule that matches `value` from `from` on. Returns whether one did.
pub(super) fn apply(
    rules: &[Rule],
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    value: &mut Vec<u8>,
    from: usize,
) -> bool {
    rules.iter().any(|rule| rule.apply(exchange, env, value, from))
}

/// Hands a template's value on; a constant one is not copied.
pub(super) fn with_value<T>(
    template: &Template,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    then: impl FnOnce(&[u8]) -> T,
) -> T {
    match template.constant() {
        Some(text) => then(text),
        None => then(&template.value(exchange, env)),
    }
}

/// Returns whether the text matches, and leaves the captures in the request. A match that is given up counts as none.
pub(super) fn matches(regex: &Regex, exchange: &mut Exchange, env: &mut Env<'_>, text: &[u8]) -> bool {
    let mut captures: Captures = std::mem::take(&mut exchange.captures);
    let found = regex.captures(text, &mut captures);
    exchange.captures = captures;
    match found {
        Ok(found) => {
            if found {
                keep_named_captures(exchange, env.config, regex);
            }
            found
        }
        Err(_) => {
            let text =
                b"a regular expression of a proxy rule gave up while reading response header from upstream";
            log_line::error(exchange, env, Level::Alert, text);
            false
        }
    }
}
