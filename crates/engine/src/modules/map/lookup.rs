//! `map`: texts, patterns and host names, each with a value (ngx_http_map_module).

use super::hostnames::{HostnameFault, Keys};
use super::{Computed, define, entry};
use crate::config::Builder;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::modules::core::keep_named_captures;
use crate::regex::Regex;
use crate::template::Template;
use conf::{Diagnostic, Span, Word};
use std::collections::HashMap;

/// A `map`.
#[derive(Clone, Debug)]
pub struct Map {
    /// The value is worked out anew each time.
    pub(super) volatile: bool,
    source: Template,
    keys: Keys,
    regexes: Vec<(Regex, u32)>,
    hostnames: bool,
    default: u32,
    /// All values, each once; the first is the empty one.
    values: Vec<Template>,
}

/// Texts up to this length are put into lower case without allocating.
const SHORT: usize = 256;

impl Map {
    /// Returns all values that it may have, each once.
    pub(crate) fn values(&self) -> &[Template] {
        &self.values
    }

    pub(super) fn append(&self, exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.source.append(exchange, env, out);
        if self.hostnames && out.len() > start && out.ends_with(b".") {
            out.pop();
        }
        let number = self.find(exchange, env, &out[start..]);
        out.truncate(start);
        self.values[number as usize].append(exchange, env, out);
    }

    fn find(&self, exchange: &mut Exchange, env: &mut Env<'_>, text: &[u8]) -> u32 {
        let known = if !text.iter().any(u8::is_ascii_uppercase) {
            self.keys.find(text)
        } else if let Some(lower) = [0; SHORT].get_mut(..text.len()) {
            lower.copy_from_slice(text);
            lower.make_ascii_lowercase();
            self.keys.find(lower)
        } else {
            self.keys.find(&text.to_ascii_lowercase())
        };
        if let Some(number) = known {
            return number;
        }
        if text.is_empty() {
            return self.default;
        }
        for (regex, number) in &self.regexes {
            match regex.captures(text, &mut exchange.captures) {
                Ok(true) => {
                    keep_named_captures(exchange, env.config, regex);
                    return *number;
                }
                Ok(false) => {}
                Err(_) => {
                    let mut line = b"the match of map's \"".to_vec();
                    line.extend_from_slice(regex.pattern().as_bytes());
                    line.extend_from_slice(b"\" was given up: it backtracks too much");
                    log_line::error(exchange, env, Level::Alert, &line);
                    return self.default;
                }
            }
        }
        self.default
    }
}

/// A map while its block is read.
struct Draft {
    map: Map,
    numbers: HashMap<Vec<u8>, u32>,
    default: Option<Span>,
}

pub(super) fn apply(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let source = b.template(&d.args[0])?;
    define(b, &d.args[1])?;
    let map = Map {
        volatile: false,
        source,
        keys: Keys::default(),
        regexes: Vec::new(),
        hostnames: false,
        default: 0,
        values: vec![Template::default()],
    };
    let mut draft = Draft { map, numbers: HashMap::from([(Vec::new(), 0)]), default: None };
    for inner in d.children() {
        if let Err(fault) = draft.entry(b, inner) {
            b.diagnostics.push(fault);
        }
    }
    b.draft.computed.push(Computed::Map(draft.map));
    Ok(())
}

impl Draft {
    fn entry(&mut self, b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
        let (key, value) = match *entry(d) {
            [word] if word.text() == "hostnames" => {
                self.map.hostnames = true;
                return Ok(());
            }
            [word] if word.text() == "volatile" => {
                self.map.volatile = true;
                return Ok(());
            }
            [key, value] => (key, value),
            _ => {
                return Err(Diagnostic::error(d.words_span(), "invalid number of the map parameters")
                    .help("an entry is a text and a value: `/old /new;`; quote what has spaces in it"));
            }
        };
        let number = self.value(b, value)?;
        let text: &[u8] = key.text();
        if text == b"default" {
            if let Some(first) = self.default.replace(key.span) {
                return Err(Diagnostic::error(key.span, "duplicate default map parameter")
                    .also(first, "the first one"));
            }
            self.map.default = number;
            return Ok(());
        }
        if let Some(pattern) = text.strip_prefix(b"~") {
            let (pattern, ignore_case) = match pattern.strip_prefix(b"*") {
                Some(pattern) => (pattern, true),
                None => (pattern, false),
            };
            let regex = b.regex(key, pattern, ignore_case)?;
            self.map.regexes.push((regex, number));
            return Ok(());
        }
        let text = text.strip_prefix(b"\\").unwrap_or(text).to_ascii_lowercase();
        let keys = &mut self.map.keys;
        let added = if self.map.hostnames { keys.add_host(&text, number) } else { keys.add(&text, number) };
        added.map_err(|fault| {
            let shown = String::from_utf8_lossy(&text);
            match fault {
                HostnameFault::Conflict => {
                    Diagnostic::error(key.span, format!("conflicting parameter \"{shown}\""))
                        .label("this text has a value already; case makes no difference")
                }
                HostnameFault::Invalid => {
                    Diagnostic::error(key.span, format!("invalid hostname or wildcard \"{shown}\""))
                        .help("put the * at the beginning (*.example.com) or at the end (www.example.*)")
                }
            }
        })
    }

    /// Returns the number of a value; the same text has the same number.
    fn value(&mut self, b: &mut Builder<'_>, word: &Word) -> Result<u32, Diagnostic> {
        let text: &[u8] = word.text();
        if let Some(number) = self.numbers.get(text) {
            return Ok(*number);
        }
        let number = self.map.values.len() as u32;
        self.map.values.push(b.template(word)?);
        self.numbers.insert(text.to_vec(), number);
        Ok(number)
    }
}
