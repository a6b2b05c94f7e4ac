//! Answers compressed with gzip (ngx_http_gzip_filter_module, ngx_http_gzip_static_module).
//!
//! Owns the settings, and whose answers may be compressed so.

pub(crate) mod accept;
mod directives;

use super::{Module, static_files};
use crate::config::invalid_choice;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::regex::Regex;
use crate::setting::settings;
use bstr::ByteSlice;
use conf::{Diagnostic, Word};
use http::date::parse_http_date;
use http::{Known, Version};

/// The module. Which answers are compressed is for [`super::compression`] to say.
pub static MODULE: Module = Module::new("gzip", &[directives::DIRECTIVES]);

/// The conditions for compressing the response to a request that came through a proxy (`gzip_proxied`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proxied {
    any: bool,
    auth: bool,
    expired: bool,
    no_cache: bool,
    no_store: bool,
    private: bool,
    no_last_modified: bool,
    no_etag: bool,
}

/// `gzip_static` and its like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precompressed {
    /// Files are sent as they are.
    #[default]
    Off,
    /// A file with `.gz` (`.br`, `.zst`) behind its name is sent to those who accept it.
    On,
    /// It is sent to all.
    Always,
}

impl Precompressed {
    /// Reads a word.
    pub(super) fn read(word: &Word) -> Result<Precompressed, Diagnostic> {
        match word.str()? {
            "on" => Ok(Precompressed::On),
            "off" => Ok(Precompressed::Off),
            "always" => Ok(Precompressed::Always),
            _ => Err(invalid_choice(word)),
        }
    }
}

settings! {
    /// Settings of one level.
    pub struct GzipSettings {
        /// `gzip`.
        pub on: bool = false,
        /// `gzip_comp_level`, from 1 to 9.
        pub level: u32 = 1,
        /// `gzip_min_length`, in bytes.
        pub min_length: u64 = 20,
        /// `gzip_types`, in lower case; text/html is always among them, and `*` is all.
        pub types: Vec<Box<[u8]>> = vec![b"text/html"[..].into()],
        /// `gzip_window`, as the power of two.
        pub window_bits: u8 = 15,
        /// `gzip_vary`: answers that may be compressed say `Vary: Accept-Encoding`.
        pub vary: bool = false,
        /// `gzip_http_version`: the lowest version of requests.
        pub version: Version = Version::Http11,
        /// `gzip_proxied`.
        pub proxied: Proxied = Proxied::default(),
        /// `gzip_disable`: browsers that get nothing compressed.
        pub disable: Vec<Regex> = Vec::new(),
        /// `gzip_static`.
        pub precompressed: Precompressed = Precompressed::Off,
    }
}

/// Returns true if the request's answer may be compressed with gzip (ngx_http_gzip_ok).
pub fn accepts(exchange: &Exchange, env: &Env<'_>) -> bool {
    let settings = &exchange.settings(env.config).filters.gzip;
    let head = &exchange.request.head;
    let fields = &head.headers;
    if exchange.subrequests.is_inner() {
        return false;
    }
    if fields.get(Known::AcceptEncoding).and_then(|accepted| accept::weight(accepted, b"gzip")).is_none()
        || head.version < *settings.version
    {
        return false;
    }
    if let Some(agent) = fields.get(Known::UserAgent)
        && settings.disable.iter().any(|regex| regex.is_match(agent).unwrap_or(false))
    {
        return false;
    }
    fields.get(Known::Via).is_none() || accepts_proxied(exchange, env, *settings.proxied)
}

/// Returns the same for a request that came through a proxy.
fn accepts_proxied(exchange: &Exchange, env: &Env<'_>, rule: Proxied) -> bool {
    if rule.any || rule.auth && exchange.request.head.headers.has(Known::Authorization) {
        return true;
    }
    if rule == Proxied::default() {
        return false;
    }
    let response = &exchange.response;
    let fields = &response.headers;
    if let Some(expires) = fields.get(Known::Expires) {
        let date_s = fields.get(Known::Date).and_then(parse_http_date);
        let date_s = date_s.unwrap_or_else(|| env.host.now().epoch_s());
        return rule.expired && parse_http_date(expires).is_some_and(|expires_s| expires_s < date_s);
    }
    if let Some(control) = fields.get(Known::CacheControl) {
        let has = |word: &[u8]| control.to_ascii_lowercase().find(word).is_some();
        return rule.no_cache && has(b"no-cache")
            || rule.no_store && has(b"no-store")
            || rule.private && has(b"private");
    }
    let has_date = static_files::last_modified_s(response).is_some();
    !(rule.no_last_modified && has_date || rule.no_etag && fields.has(Known::ETag))
}
