//! What each line of a configuration means here: it works, it has no effect, or it is refused.
//!
//! Owns the three classes and which directive is of which. Says nothing of values: whether those are right is
//! [`super::build`]'s to say.

use super::builder::entries;
use crate::directive::{Contexts, Directive};
use crate::modules::no_effect;
use conf::known_directives::{self, Block};
use conf::{Parsed, Span};

/// The meaning of a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It does what the text says.
    Works(&'static str),
    /// It is read, and nothing that can be seen depends on it; the text says why.
    NoEffect(&'static str),
    /// It is refused, with these words and this way out.
    Refused(String, Option<String>),
}

/// One directive of a configuration.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Its words, up to `;` or `{`.
    pub span: Span,
    /// Its meaning.
    pub meaning: Meaning,
}

/// What a directive without effect has before the reason in its documentation.
const NO_EFFECT: &str = "Has no effect: ";

/// Returns the reason of a directive of the table that has no effect.
pub fn no_effect_reason(entry: &Directive) -> Option<&'static str> {
    entry.doc.strip_prefix(NO_EFFECT)
}

/// Explains all directives, in the order of the text. Lines of tables (`map`, `types`) are none.
pub fn explain(parsed: &Parsed) -> Vec<Explained> {
    let mut out = Vec::new();
    look(&parsed.tree.directives, Contexts::MAIN, &mut out);
    out
}

fn look(directives: &[conf::Directive], context: Contexts, out: &mut Vec<Explained>) {
    for directive in directives {
        let name = directive.name.text().to_string();
        let entry = entries(&name).iter().find(|entry| entry.contexts.meets(context)).copied();
        let meaning = match entry {
            Some(entry) => match no_effect_reason(entry) {
                Some(reason) => Meaning::NoEffect(reason),
                None => Meaning::Works(entry.doc),
            },
            None => without_entry(directive, &name),
        };
        out.push(Explained { span: directive.words_span(), meaning });
        let known = known_directives::find(&name);
        if !known.is_some_and(|known| matches!(known.block, Block::Pairs | Block::Words)) {
            look(directive.children(), inside(&name, context), out);
        }
    }
}

fn without_entry(directive: &conf::Directive, name: &str) -> Meaning {
    if let Some(reason) = known_directives::find_all(name).iter().find_map(no_effect::reason) {
        return Meaning::NoEffect(reason);
    }
    if entries(name).is_empty() {
        let fault = conf::explain_unknown(&directive.name, super::builder::names());
        return Meaning::Refused(fault.message, fault.help);
    }
    Meaning::Refused(format!("\"{name}\" directive is not allowed here"), None)
}

/// Returns what may stand inside of a block.
fn inside(name: &str, around: Contexts) -> Contexts {
    match name {
        "events" => Contexts::EVENTS,
        "http" => Contexts::HTTP,
        "server" => Contexts::SERVER,
        "location" => Contexts::LOCATION,
        "if" if around == Contexts::SERVER => Contexts::SERVER_IF,
        "if" => Contexts::LOCATION_IF,
        "upstream" => Contexts::UPSTREAM,
        "limit_except" => Contexts::LIMIT_EXCEPT,
        "switch" => Contexts::SWITCH,
        "acme_issuer" => Contexts::ACME_ISSUER,
        "match" => Contexts::MATCH,
        _ => around,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::directives;
    use crate::directive::Apply;

    #[test]
    fn each_line_has_its_meaning() {
        let text = "worker_processes 1; events { } http {
            map $uri $x { default 1; a 2; }
            types { text/html html; }
            gzip_buffers 4 8k; aio threads;
            upstream a { server 127.0.0.1:1; }
            server { location / { if ($x) { return 204; } xslt_stylesheet x; listen 80; } } }";
        let parsed = conf::parse_text("/n.conf", text.to_owned(), &conf::NoFiles);
        let explained = explain(&parsed);
        let shown: Vec<(String, char)> = explained
            .iter()
            .map(|one| {
                let text = &text[one.span.start as usize..one.span.end as usize];
                let class = match &one.meaning {
                    Meaning::Works(doc) => {
                        assert!(!doc.is_empty());
                        '+'
                    }
                    Meaning::NoEffect(reason) => {
                        assert!(!reason.is_empty());
                        '0'
                    }
                    Meaning::Refused(..) => '-',
                };
                (text.split(' ').next().unwrap().to_owned(), class)
            })
            .collect();
        let expected = [
            ("worker_processes", '+'),
            ("events", '+'),
            ("http", '+'),
            ("map", '+'),
            ("types", '+'),
            ("gzip_buffers", '0'),
            ("aio", '0'),
            ("upstream", '+'),
            ("server", '+'),
            ("server", '+'),
            ("location", '+'),
            ("if", '+'),
            ("return", '+'),
            ("xslt_stylesheet", '-'),
            ("listen", '-'),
        ];
        assert_eq!(shown, expected.map(|(name, class)| (name.to_owned(), class)));
    }

    /// A directive that is read without effect says why, and is none whose writer counts on what it does: on what is kept,
    /// limited, verified, hidden or stored.
    #[test]
    fn no_directive_is_without_effect_and_without_reason() {
        const NEVER: [&str; 8] =
            ["_cache", "_store", "limit_", "_verify", "_hide_header", "disable_symlinks", "auth_", "deny"];
        let mut count = 0;
        for (_, entry) in directives() {
            let reason = no_effect_reason(entry);
            let is_ignored = matches!(entry.apply, Apply::IgnoredNumber | Apply::IgnoredSize);
            assert!(!is_ignored || reason.is_some(), "{} has no effect and no reason", entry.name);
            assert!(reason.is_none_or(|reason| reason.len() > 10), "{}", entry.name);
            count += usize::from(reason.is_some());
            let is_barred =
                NEVER.iter().any(|part| entry.name.contains(part)) && entry.name != "ssl_stapling_verify";
            assert!(reason.is_none() || !is_barred, "{} must work or be refused", entry.name);
        }
        assert!(count > 10);
        for known in known_directives::all() {
            let reason = no_effect::reason(known);
            assert!(reason.is_none_or(|reason| reason.len() > 10), "{}", known.name);
        }
    }
}
