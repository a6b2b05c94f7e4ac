//! From a URI to a path: `root`, `alias`, `disable_symlinks`.
//!
//! Follows ngx_http_map_uri_to_path. It never looks at a file itself: that is [`crate::Host::open`]'s.

use super::confine::{self, Climbs};
pub use super::path_errors::{log_failure, log_path};
use crate::config::{Config, Modifier};
use crate::exchange::Exchange;
use crate::host::{Env, FileError, Level, OpenRequest, Opened, Symlinks};
use crate::template::Template;
use std::os::unix::ffi::OsStrExt;

/// The way in which the URI is appended to the directory of `root` or `alias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// `root`: the whole URI comes after the directory.
    Whole,
    /// `alias`: the URI comes after it without so many bytes, the length of the location's name.
    Without(usize),
    /// `alias` in a regular expression's location: the text is the path, and the URI plays no part in it.
    Nothing,
}

/// `root` or `alias`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The directory, absolute unless it begins with a variable.
    pub text: Template,
    /// The treatment of the URI.
    pub join: Join,
}

impl Root {
    /// Returns whether it was written as `alias`.
    pub fn is_alias(&self) -> bool {
        self.join != Join::Whole
    }
}

/// Returns how `alias` cuts the URI in a location.
pub(super) fn alias_join(modifier: Modifier, name: &[u8]) -> Join {
    match modifier {
        Modifier::Regex => Join::Nothing,
        _ => Join::Without(name.len()),
    }
}

/// `disable_symlinks`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymlinkRule {
    /// The treatment of symlinks.
    pub treatment: Symlinks,
    /// `from=`: the beginning of a path that is trusted.
    pub from: Option<Template>,
}

/// Returns how the URI is appended to the directory in the request's location.
pub fn join_of(exchange: &Exchange, config: &Config) -> Join {
    let root = &exchange.settings(config).static_files.root;
    root.get().as_ref().map_or(Join::Whole, |root| root.join)
}

/// Appends the directory of `root` or the path of `alias`, absolute: `$document_root`.
///
/// # Errors
/// A variable in it would lead out of the directory.
pub fn append_root(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> Result<(), Climbs> {
    let config = env.config;
    let start = out.len();
    match exchange.settings(config).static_files.root.get() {
        None => out.extend_from_slice(b"html"),
        Some(root) => match root.text.constant() {
            // Made absolute when the configuration was read; `root /;` is the empty text.
            Some(text) => {
                out.extend_from_slice(text);
                return Ok(());
            }
            None => confine::append(&root.text, exchange, env, out)?,
        },
    }
    if out.get(start) != Some(&b'/') {
        let prefix = config.prefix.as_os_str().as_bytes();
        let slash = (!prefix.ends_with(b"/")).then_some(b'/');
        out.splice(start..start, prefix.iter().copied().chain(slash));
    }
    Ok(())
}

/// Returns whether the URI can be mapped to a path here. It cannot if `alias` replaces a location's name that a rewrite
/// has removed
/// from the URI, that is said in the error log, and the answer is 500.
pub fn can_map(exchange: &Exchange, env: &mut Env<'_>) -> bool {
    if !exchange.route.rewritten || join_of(exchange, env.config) == Join::Whole {
        return true;
    }
    let location = &exchange.location(env.config).name;
    let words =
        ("\"alias\" cannot be used in location \"", location.as_slice(), "\" where URI was rewritten");
    log_path(exchange, env, Level::Alert, words, None);
    false
}

/// Appends the path of the request's URI: `$request_filename`.
///
/// # Errors
/// The status to answer, already logged: 500 if [`can_map`] says no, 403 if the path would leave its directory.
pub fn append_path(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> Result<(), u16> {
    if !can_map(exchange, env) {
        return Err(500);
    }
    append_root(exchange, env, out).map_err(|Climbs| 403u16)?;
    let (uri, rest) = (exchange.request.uri.as_slice(), out.len());
    let join = join_of(exchange, env.config);
    out.extend_from_slice(match join {
        Join::Whole => uri,
        Join::Without(len) => uri.get(len..).unwrap_or_default(),
        Join::Nothing if exchange.route.uri_after_alias => uri,
        Join::Nothing => b"",
    });
    // The whole URI as the client sent it was normalised.
    if join != Join::Whole || exchange.request.uri_changed {
        confine::check_rest(exchange, env, out, rest).map_err(|Climbs| 403u16)?;
    }
    Ok(())
}

/// Opens or looks at a path under the location's `disable_symlinks` (ngx_http_set_disable_symlinks).
pub fn open(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    path: &[u8],
    stat_only: bool,
) -> Result<Opened, FileError> {
    let config = env.config;
    let settings = &exchange.settings(config).static_files;
    let (rule, kept) = (settings.disable_symlinks.get(), settings.open_cache.kept());
    let mut request = OpenRequest { path, stat_only, symlinks: rule.treatment, trusted_prefix: 0, kept };
    if let Some(from) = &rule.from {
        let from = from.value(exchange, env);
        if !from.is_empty() && path.starts_with(&from) {
            match path.get(from.len()) {
                None => request.symlinks = Symlinks::Follow,
                Some(b'/') => request.trusted_prefix = from.len(),
                Some(_) if from.ends_with(b"/") => request.trusted_prefix = from.len() - 1,
                Some(_) => {}
            }
        }
    }
    env.host.open(request)
}
