//! `valid_referers`: from which pages a request may come, as the field Referer has it (ngx_http_referer_module).
//!
//! Owns the list and its look-up; what is done about others is the configuration's: `if ($invalid_referer)`. The
//! field is the client's word and nothing to build protection on.

#[cfg(test)]
mod tests;

use super::Module;
use super::map::hostnames::{HostnameFault, Keys};
use crate::config::Builder;
use crate::directive::{Apply, Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::regex::Regex;
use crate::setting::settings;
use conf::{Diagnostic, Span};
use http::Known;
use std::sync::Arc;

/// The referrers that `valid_referers` names at one level.
#[derive(Clone, Debug, Default)]
pub struct Referers {
    hosts: Arc<Keys>,
    /// For each host the beginning that the path must have; empty for any.
    paths: Arc<Vec<Box<[u8]>>>,
    /// They fit a host, or host and path (`server_names` with regular expressions; `~…`).
    server_names: Vec<Regex>,
    regexes: Vec<Regex>,
    /// `none`: no field at all is valid.
    none: bool,
    /// `blocked`: a field without http:// or https:// is valid.
    blocked: bool,
    /// The span of `server_names` in the list, if it is there.
    own_names: Option<Span>,
}

settings! {
    /// Settings of one level.
    pub struct RefererSettings {
    }
    not inherited {
        /// `valid_referers`.
        pub referers: Option<Referers> = None,
    }
}

impl RefererSettings {
    /// Takes what this level does not say from the one around it: the list, or just its regular expressions.
    pub fn inherit_lists(&mut self, outer: &RefererSettings) {
        if let (true, Some(own), Some(outer)) =
            (self.referers.written(), self.referers.get(), outer.referers.get())
        {
            // nginx inherits the two kinds of regular expression each for itself.
            let mut own = own.clone();
            if own.regexes.is_empty() {
                own.regexes.clone_from(&outer.regexes);
            }
            if own.server_names.is_empty() {
                own.server_names.clone_from(&outer.server_names);
            }
            self.referers.replace(Some(own));
        }
        self.referers.inherit(&outer.referers);
    }
}

/// The module.
pub static MODULE: Module = Module { finish: Some(finish), ..Module::new("referer", &[DIRECTIVES]) };

const PLACES: Contexts = Contexts::SERVER.or(Contexts::LOCATION);

const DIRECTIVES: &[Directive] = &[
    Directive::new(
        "valid_referers",
        PLACES,
        Args::AtLeast(1),
        "none | blocked | server_names | string ...",
        valid_referers,
    )
    .doc(
        "The referers that are accepted: hosts with wildcards and paths, regular expressions, server_names, none, \
         blocked. For others $invalid_referer is 1.",
    )
    .example(
        "valid_referers none blocked server_names *.example.com www.example.org/galleries/ \
         ~\\.google\\.;",
    ),
    Directive::ignored("referer_hash_max_size", PLACES, Apply::IgnoredNumber)
        .default("2048")
        .doc("Has no effect: the table of names grows as needed.")
        .example("referer_hash_max_size 2048;"),
    Directive::ignored("referer_hash_bucket_size", PLACES, Apply::IgnoredNumber)
        .default("64")
        .doc("Has no effect: the table of names grows as needed.")
        .example("referer_hash_bucket_size 64;"),
];

fn valid_referers(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let mut referers = b.settings().referer.referers.get().clone().unwrap_or_default();
    for word in &d.args {
        match &**word.text() {
            b"" => return Err(Diagnostic::error(word.span, "invalid referer \"\"")),
            b"none" => referers.none = true,
            b"blocked" => referers.blocked = true,
            b"server_names" => referers.own_names = Some(word.span),
            b"~" => return Err(Diagnostic::error(word.span, "empty regex in \"~\"")),
            [b'~', pattern @ ..] => {
                let pattern =
                    std::str::from_utf8(pattern).map_err(|_| crate::config::invalid_parameter(word))?;
                let regex = Regex::new(pattern, true).map_err(|fault| Diagnostic::error(word.span, fault))?;
                referers.regexes.push(regex);
            }
            text => {
                let (host, path) = text.split_at(memchr::memchr(b'/', text).unwrap_or(text.len()));
                referers.add(host, path, word.span)?;
            }
        }
    }
    b.settings().referer.referers.replace(Some(referers));
    Ok(())
}

impl Referers {
    fn add(&mut self, host: &[u8], path: &[u8], span: Span) -> Result<(), Diagnostic> {
        let number = self.paths.len() as u32;
        let shown = String::from_utf8_lossy(host);
        match Arc::make_mut(&mut self.hosts).add_host(&host.to_ascii_lowercase(), number) {
            Ok(()) => {
                Arc::make_mut(&mut self.paths).push(path.into());
                Ok(())
            }
            Err(HostnameFault::Invalid) => {
                Err(Diagnostic::error(span, format!("invalid hostname or wildcard \"{shown}\"")))
            }
            Err(HostnameFault::Conflict) => {
                Err(Diagnostic::error(span, format!("conflicting parameter \"{shown}\"")))
            }
        }
    }

    /// Returns whether the list is empty, which makes every referrer valid.
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.regexes.is_empty() && self.server_names.is_empty()
    }
}

/// Puts the servers' own names in the place of `server_names`, now that they are known.
fn finish(b: &mut Builder<'_>) {
    let mut faults = Vec::new();
    for index in 0..b.draft.scopes.len() {
        let scope = &mut b.draft.scopes[index];
        let (server, span) = (scope.server, scope.span);
        let Some(mut referers) = scope.settings.referer.referers.get().clone() else { continue };
        if let (Some(server), Some(named_at)) = (server, referers.own_names) {
            let names = b.draft.servers[server].names.iter().map(|(name, _)| name.as_slice());
            // A server without a name has the empty one.
            let nameless = b.draft.servers[server].names.is_empty().then_some(&b""[..]);
            for name in names.chain(nameless) {
                let added = match name.strip_prefix(b"~") {
                    None => referers.add(name, b"", named_at),
                    // A fault of a pattern is reported at the pattern.
                    Some(pattern) => {
                        let pattern = String::from_utf8_lossy(pattern);
                        referers.server_names.extend(Regex::new(&pattern, true));
                        Ok(())
                    }
                };
                faults.extend(added.err());
            }
        }
        if (referers.none || referers.blocked) && referers.paths.is_empty() {
            faults.push(Diagnostic::error(
                span,
                "the \"none\" or \"blocked\" referers are specified in the \"valid_referers\" directive \
         without any valid referer",
            ));
        }
        b.draft.scopes[index].settings.referer.referers.replace(Some(referers));
    }
    b.diagnostics.extend(faults);
}

/// Appends `$invalid_referer`.
pub(crate) fn append_invalid(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    let config = env.config;
    let Some(referers) = exchange.settings(config).referer.referers.get() else {
        return true;
    };
    let Some(valid) = is_valid(referers, exchange.request.head.headers.get(Known::Referer)) else {
        log_line::error(exchange, env, Level::Alert, b"a referer's regular expression gave up");
        return false;
    };
    if !valid {
        out.push(b'1');
    }
    true
}

/// The shortest field that nginx takes for a URL.
const SHORTEST: usize = "http://i.ru".len();
/// Longer hosts are invalid.
const MAX_HOST_BYTES: usize = 256;

/// `None` if a regular expression gave up.
fn is_valid(referers: &Referers, field: Option<&[u8]>) -> Option<bool> {
    if referers.is_empty() {
        return Some(true);
    }
    let Some(field) = field else { return Some(referers.none) };
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| field.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let Some(scheme) = scheme.filter(|_| field.len() >= SHORTEST) else { return Some(referers.blocked) };
    let rest = &field[scheme.len()..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b':')).unwrap_or(rest.len());
    if end > MAX_HOST_BYTES {
        return Some(false);
    }
    let mut buffer = [0; MAX_HOST_BYTES];
    let host = &mut buffer[..end];
    host.copy_from_slice(&rest[..end]);
    host.make_ascii_lowercase();
    if let Some(number) = referers.hosts.find(host) {
        let path = memchr::memchr(b'/', &rest[end..]).map_or(&b""[..], |slash| &rest[end + slash..]);
        return Some(path.starts_with(&referers.paths[number as usize]));
    }
    for (regexes, text) in [(&referers.server_names, &*host), (&referers.regexes, rest)] {
        for regex in regexes {
            if regex.is_match(text).ok()? {
                return Some(true);
            }
        }
    }
    Some(false)
}
