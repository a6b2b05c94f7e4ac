//! Files: where they are, what serves for a directory, their types, and which parts of them are sent.
//!
//! Owns `root`, `alias`, `index`, `types` and the conditions of a request. It decides what of which file is sent and
//! never reads a byte of it: files are opened by [`crate::Host::open`] and sent by the server.

mod autoindex;
mod conditional;
pub mod confine;
mod directives;
mod index;
pub mod open_cache;
pub mod path;
mod path_errors;
mod random_index;
pub mod ranges;
mod serve;
mod types;

pub use autoindex::{ListingFormat, ListingSettings};
pub(crate) use conditional::last_modified_s;
pub use path::{Join, Root, SymlinkRule, append_path, append_root};
pub use types::{Types, extension};

use super::{Module, PhaseRun};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::phase::{self, Phase, Verdict};
use crate::setting::settings;
use crate::template::Template;
use std::sync::Arc;

/// The rule by which `If-Modified-Since` finds a file unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfModifiedSince {
    /// Never: the field is not looked at.
    Off,
    /// If the dates are equal.
    #[default]
    Exact,
    /// If the file is not newer.
    Before,
}

settings! {
    /// Settings of one level.
    pub struct FileSettings {
        /// `root` or `alias`; without either, `html` under the prefix.
        pub root: Option<Root> = None,
        /// `index`: what is looked for in a directory, in order.
        pub index: Vec<Template> = vec![Template::text(b"index.html")],
        /// `types`.
        pub types: Arc<Types> = Arc::new(Types::default()),
        /// `default_type`.
        pub default_type: Box<[u8]> = b"text/plain"[..].into(),
        /// `etag`: files have entity tags.
        pub etag: bool = true,
        /// `if_modified_since`.
        pub if_modified_since: IfModifiedSince = IfModifiedSince::Exact,
        /// `max_ranges`; `None` is nginx's default, without a limit.
        pub max_ranges: Option<u32> = None,
        /// `disable_symlinks`.
        pub disable_symlinks: SymlinkRule = SymlinkRule::default(),
        /// `sendfile`: the system copies files to the connection, past the process.
        pub sendfile: bool = false,
        /// `log_not_found`: missing files are logged.
        pub log_not_found: bool = true,
    }
    nested {
        /// Listings of directories.
        pub listing: ListingSettings,
        /// `open_file_cache`.
        pub open_cache: open_cache::OpenCacheSettings,
    }
}

/// The module. Its handlers are the last of the content phase: index files, listings, then files.
pub static MODULE: Module = Module {
    handlers: &[
        (Phase::Content, random_index::handle),
        (Phase::Content, index::handle),
        (Phase::Content, autoindex::handle),
        (Phase::Content, serve::handle),
    ],
    checkers: &[(Phase::Content, answer)],
    header_filter: Some(conditional::filter),
    ..Module::new("static_files", &[directives::DIRECTIVES, autoindex::DIRECTIVES, open_cache::DIRECTIVES])
};

/// Runs the content phase; nothing but files is left to serve the request at its end.
fn answer(exchange: &mut Exchange, env: &mut Env<'_>, phase: &PhaseRun) -> Verdict {
    phase::in_order(exchange, env, phase, phase::call, nothing_served)
}

/// No handler served the request: a directory without an index file is forbidden (ngx_http_core_content_phase).
fn nothing_served(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    if exchange.request.uri.last() != Some(&b'/') {
        log_line::error(exchange, env, Level::Error, b"no handler found");
        return Verdict::Refuse(404);
    }
    let mut directory = Vec::new();
    if append_path(exchange, env, &mut directory).is_ok() {
        let words = ("directory index of \"", directory.as_slice(), "\" is forbidden");
        path::log_path(exchange, env, Level::Error, words, None);
    }
    Verdict::Refuse(403)
}

/// Gives the answer the type that `types` and `default_type` have for the URI, unless it has one.
pub fn set_content_type(exchange: &mut Exchange, env: &mut Env<'_>) {
    if exchange.response.content_type.as_ref().is_some_and(|kind| !kind.is_empty()) {
        return;
    }
    let settings = &exchange.settings(env.config).static_files;
    let kind = match extension(&exchange.request.uri) {
        b"" => None,
        extension => settings.types.get().get(extension),
    };
    let kind = kind.unwrap_or(settings.default_type.get());
    if kind.is_empty() {
        exchange.response.content_type = None;
    } else {
        exchange.response.set_content_type(kind);
    }
}

#[cfg(test)]
mod tests;
