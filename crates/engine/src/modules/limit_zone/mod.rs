//! The zones of `limit_req` and `limit_conn`: what is counted, by key, for all threads of the process.
//!
//! Owns the declaration (`zone=name:size`), the names, the space a zone may take, and how its state is carried over to
//! the
//! next generation. What is counted is the two modules' own; a zone's lock must never be held across anything but a
//! look-up.

pub(crate) mod capacity;
pub(crate) mod record;

pub use capacity::State;
pub use record::{LimitsRecord, Outcome};

use super::limit_conn::counts::Counts;
use super::limit_req::buckets::{Buckets, Rate};
use crate::config::{Builder, invalid_choice};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::phase::Verdict;
use crate::template::Template;
use capacity::PAGE_BYTES;
use conf::{Diagnostic, Span, Word};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One zone; `Terms` is what else its declaration says.
#[derive(Debug)]
pub struct Zone<S, Terms> {
    /// Its name.
    pub name: Box<str>,
    /// The key.
    pub key: Template,
    /// The key as it is written.
    pub key_text: Box<str>,
    /// The rest of the declaration.
    pub terms: Terms,
    size: u64,
    named_at: Span,
    state: Arc<Mutex<S>>,
}

impl<S, Terms> Zone<S, Terms> {
    /// Returns the state for a lookup.
    pub fn lock(&self) -> MutexGuard<'_, S> {
        // A thread that ended within a look-up left at worst one count that is off.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state itself, for callers that come back to it later.
    pub fn state(&self) -> Arc<Mutex<S>> {
        Arc::clone(&self.state)
    }

    /// Puts the key of a request into `key`. Returns whether the request is counted by it: not without a value, and not
    /// with one of more than `max` bytes, which is logged.
    pub(super) fn key_of(
        &self,
        exchange: &mut Exchange,
        env: &mut Env<'_>,
        max: usize,
        key: &mut Vec<u8>,
    ) -> bool {
        key.clear();
        self.key.append(exchange, env, key);
        if key.len() > max {
            let start = format!("the value of the \"{}\" key is more than {max} bytes: \"", self.key_text);
            log_line::error(exchange, env, Level::Error, &[start.as_bytes(), key, b"\""].concat());
            return false;
        }
        !key.is_empty()
    }
}

/// Refuses a request with the status of its limits, or lets it pass in a dry run; notes which in `outcome`.
pub(super) fn refuse(dry_run: bool, status: u16, outcome: &mut Option<Outcome>) -> Verdict {
    if dry_run {
        *outcome = Some(Outcome::RejectedDryRun);
        return Verdict::Next;
    }
    *outcome = Some(Outcome::Rejected);
    Verdict::Refuse(status)
}

/// All zones of one kind.
#[derive(Debug)]
pub struct Zones<S, Terms>(Vec<Zone<S, Terms>>);

impl<S, Terms> Default for Zones<S, Terms> {
    fn default() -> Self {
        Zones(Vec::new())
    }
}

impl<S: State, Terms: Default> Zones<S, Terms> {
    /// Returns a zone by its number.
    pub fn get(&self, number: usize) -> &Zone<S, Terms> {
        &self.0[number]
    }

    /// Returns a zone's number by its name: it may be named before it is declared.
    pub fn number(&mut self, name: &str, named_at: Span) -> usize {
        let known = self.0.iter().position(|zone| &*zone.name == name);
        known.unwrap_or_else(|| {
            self.0.push(Zone {
                name: name.into(),
                key: Template::default(),
                key_text: Box::default(),
                terms: Terms::default(),
                size: 0,
                named_at,
                state: Arc::new(Mutex::new(S::new(0))),
            });
            self.0.len() - 1
        })
    }

    /// Declares a zone.
    ///
    /// # Errors
    /// It is declared already.
    pub fn declare(
        &mut self,
        declaration: Declaration<'_>,
        key: Template,
        terms: Terms,
    ) -> Result<(), Diagnostic> {
        let Declaration { name, size, span, key_text } = declaration;
        let number = self.number(name, span);
        let zone = &mut self.0[number];
        if zone.size > 0 && zone.size != size {
            let known = zone.size;
            let text = format!(
                "the size {size} of shared memory zone \"{name}\" conflicts with already declared size {known}"
            );
            return Err(Diagnostic::error(span, text).also(zone.named_at, "here"));
        }
        if zone.size > 0 {
            let (what, bound) = (S::DIRECTIVE, &zone.key_text);
            let text = format!("{what} \"{name}\" is already bound to key \"{bound}\"");
            return Err(Diagnostic::error(span, text).also(zone.named_at, "here"));
        }
        let state = Arc::new(Mutex::new(S::new(size)));
        *zone =
            Zone { name: name.into(), key, key_text: key_text.into(), terms, size, named_at: span, state };
        Ok(())
    }

    /// Returns the zones that are named and not declared.
    fn undeclared(&self) -> impl Iterator<Item = Diagnostic> {
        self.0.iter().filter(|zone| zone.size == 0).map(|zone| {
            Diagnostic::error(zone.named_at, format!("zero size shared memory zone \"{}\"", zone.name)).help(
                format!("declare it in http: {} $binary_remote_addr zone={}:10m …;", S::DIRECTIVE, zone.name),
            )
        })
    }

    fn carry_over(&mut self, old: &Zones<S, Terms>) -> Result<(), String> {
        for zone in &mut self.0 {
            let same = |known: &&Zone<S, Terms>| known.name == zone.name && known.size == zone.size;
            let Some(known) = old.0.iter().find(same) else { continue };
            if known.key_text != zone.key_text {
                return Err(format!(
                    "{} \"{}\" uses the \"{}\" key while previously it used the \"{}\" key",
                    S::WORD,
                    zone.name,
                    zone.key_text,
                    known.key_text
                ));
            }
            zone.state = known.state();
        }
        Ok(())
    }
}

/// The zones of a configuration.
#[derive(Debug, Default)]
pub struct Limits {
    /// `limit_req_zone`.
    pub requests: Zones<Buckets, Rate>,
    /// `limit_conn_zone`.
    pub connections: Zones<Counts, ()>,
}

impl Limits {
    /// Goes on with what was counted under the configuration before this one, in zones of the same name and size.
    ///
    /// # Errors
    /// nginx's words, if such a zone counts by another key now: the old configuration has to stay.
    pub fn carry_over(&mut self, old: &Limits) -> Result<(), String> {
        self.requests.carry_over(&old.requests)?;
        self.connections.carry_over(&old.connections)
    }
}

/// Names the zones that are used and declared nowhere, and those that two kinds of limits lay claim to.
pub(super) fn check(b: &mut Builder<'_>) {
    let Limits { requests, connections } = &b.draft.limits;
    let mut faults: Vec<_> = requests.undeclared().chain(connections.undeclared()).collect();
    for zone in &connections.0 {
        if let Some(other) = requests.0.iter().find(|other| other.name == zone.name) {
            let text =
                format!("the shared memory zone \"{}\" is already declared for a different use", zone.name);
            faults.push(Diagnostic::error(zone.named_at, text).also(other.named_at, "here, for limit_req"));
        }
    }
    b.diagnostics.extend(faults);
}

/// A zone's declaration without its key, which is compiled apart.
#[derive(Clone, Copy, Debug)]
pub struct Declaration<'a> {
    name: &'a str,
    size: u64,
    span: Span,
    key_text: &'a str,
}

/// nginx wants eight pages of four kilobytes.
const MIN_ZONE_BYTES: u64 = 8 * PAGE_BYTES;

/// Reads `KEY zone=NAME:SIZE …`; every other argument is `other`'s.
pub(super) fn declaration<'a>(
    d: &'a conf::Directive,
    mut other: impl FnMut(&Word) -> Result<(), Diagnostic>,
) -> Result<Declaration<'a>, Diagnostic> {
    let mut declared = Declaration { name: "", size: 0, span: d.span, key_text: d.args[0].str()? };
    for word in &d.args[1..] {
        let text = word.str()?;
        let Some(zone) = text.strip_prefix("zone=") else {
            other(word)?;
            continue;
        };
        let parts = zone.split_once(':');
        let parts = parts.and_then(|(name, size)| Some((name, conf::value::parse_size(size.as_bytes())?)));
        let Some((name, size)) = parts else {
            return Err(Diagnostic::error(word.span, format!("invalid zone size \"{text}\""))
                .help("a zone is written with its size: zone=one:10m"));
        };
        if size < MIN_ZONE_BYTES {
            return Err(Diagnostic::error(word.span, format!("zone \"{text}\" is too small"))
                .help("a zone has 32k or more"));
        }
        declared = Declaration { name, size, span: word.span, ..declared };
    }
    if declared.name.is_empty() {
        return Err(without_zone(d));
    }
    Ok(declared)
}

/// Returns the diagnostic for a directive that lacks `zone=`.
pub(super) fn without_zone(d: &conf::Directive) -> Diagnostic {
    Diagnostic::error(d.span, format!("\"{}\" must have \"zone\" parameter", d.name.text()))
}

/// Reads `limit_…_log_level`.
pub(super) fn log_level(d: &conf::Directive) -> Result<Level, Diagnostic> {
    let word = &d.args[0];
    match Level::from_name(word.text()) {
        Some(level @ (Level::Info | Level::Notice | Level::Warn | Level::Error)) => Ok(level),
        _ => Err(invalid_choice(word).help("one of info, notice, warn and error")),
    }
}

/// Reads `limit_…_status`.
pub(super) fn status(b: &Builder<'_>, d: &conf::Directive) -> Result<u16, Diagnostic> {
    match b.number(&d.args[0])? {
        status @ 400..=599 => Ok(status as u16),
        _ => Err(Diagnostic::error(d.args[0].span, "value must be between 400 and 599")),
    }
}

/// Reads a parameter that must be a positive number.
pub(super) fn positive(word: &Word, digits: &str, what: &str) -> Result<u64, Diagnostic> {
    match conf::value::parse_number(digits.as_bytes()) {
        Some(number @ 1..) => Ok(number),
        _ => Err(Diagnostic::error(word.span, format!("invalid {what} \"{}\"", word.text()))),
    }
}
