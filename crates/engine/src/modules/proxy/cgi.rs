//! What application servers are told: `fastcgi_param` and its like, and the script's name.
//!
//! Owns the settings of FastCGI, uwsgi and SCGI that no other upstream has, and how parameters are prepared at load.

use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::regex::{Captures, Regex};
use crate::setting::settings;
use crate::template::Template;
use http::cgi::{FIELD_PREFIX, Gateway};

/// A parameter as it is written.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: Box<[u8]>,
    /// Its value.
    pub value: Template,
    /// It is left out if its value is empty (`if_not_empty`).
    pub if_not_empty: bool,
}

settings! {
    /// Settings of one level for application servers.
    pub struct CgiSettings {
        /// `fastcgi_param`, `uwsgi_param`, `scgi_param`.
        pub params: Vec<Param> = Vec::new(),
        /// `fastcgi_index`: added to a script's name that ends in a slash.
        pub index: Box<[u8]> = Box::default(),
        /// `fastcgi_split_path_info`: the script's name and what follows it.
        pub split: Option<Regex> = None,
        /// `fastcgi_keep_conn`: connections may be used again.
        pub keep_conn: bool = false,
        /// `fastcgi_catch_stderr`: a complaint with one of these texts makes the response invalid.
        pub catch_stderr: Vec<Box<[u8]>> = Vec::new(),
        /// `uwsgi_modifier1`.
        pub modifier1: u64 = 0,
        /// `uwsgi_modifier2`.
        pub modifier2: u64 = 0,
        /// `uwsgi_string`: follows the parameters.
        pub string: Box<[u8]> = Box::default(),
    }
}

impl CgiSettings {
    /// Returns true if a complaint of the program makes its response invalid (`fastcgi_catch_stderr`).
    pub fn catches(&self, complaint: &[u8]) -> bool {
        self.catch_stderr.iter().any(|text| memchr::memmem::find(complaint, text).is_some())
    }
}

/// A piece of the parameters.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// Coded, the same for every request.
    Constant(Vec<u8>),
    /// One that is evaluated.
    Evaluated(Param),
}

/// The parameters of a level, prepared.
#[derive(Clone, Debug, Default)]
pub(super) struct CgiParams {
    /// In order.
    pub(super) pieces: Vec<Piece>,
    /// The names of parameters that stand for a client's field, without `HTTP_`.
    pub(super) fields: Vec<Box<[u8]>>,
}

impl CgiParams {
    /// Prepares the parameters of a level.
    pub(super) fn new(params: &[Param], gateway: Gateway) -> CgiParams {
        let mut prepared = CgiParams::default();
        for param in params {
            let field = param.name.strip_prefix(FIELD_PREFIX).filter(|field| !field.is_empty());
            if let Some(field) = field {
                prepared.fields.push(field.into());
            }
            match param.value.constant() {
                // Written to keep the client's field away.
                Some([]) if field.is_some() || param.if_not_empty => {}
                Some(value) => {
                    if !matches!(prepared.pieces.last(), Some(Piece::Constant(_))) {
                        prepared.pieces.push(Piece::Constant(Vec::new()));
                    }
                    if let Some(Piece::Constant(coded)) = prepared.pieces.last_mut() {
                        gateway.append_param(&param.name, value, coded);
                    }
                }
                None => prepared.pieces.push(Piece::Evaluated(param.clone())),
            }
        }
        prepared
    }
}

/// Appends the name of the script that the URI is of, as `fastcgi_split_path_info` and `fastcgi_index` say; returns false if
/// that cannot be said.
pub(crate) fn append_script_name(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    let Some(split) = split(exchange, env) else { return false };
    let start = out.len();
    out.extend_from_slice(split.as_ref().and_then(|parts| parts.group(1)).unwrap_or(&exchange.request.uri));
    if out[start..].ends_with(b"/") {
        out.extend_from_slice(&settings(exchange, env).index);
    }
    true
}

/// Appends what follows the script's name in the URI. Returns false as [`append_script_name`] does.
pub(crate) fn append_path_info(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    let Some(split) = split(exchange, env) else { return false };
    out.extend_from_slice(split.as_ref().and_then(|parts| parts.group(2)).unwrap_or_default());
    true
}

fn settings<'c>(exchange: &Exchange, env: &Env<'c>) -> &'c CgiSettings {
    &super::PassKind::FastCgi.of(exchange.settings(env.config)).cgi
}

/// Returns the parts of the URI; `Some(None)` if it is not split, `None` if the expression gives up.
fn split(exchange: &mut Exchange, env: &mut Env<'_>) -> Option<Option<Captures>> {
    let Some(regex) = settings(exchange, env).split.get() else { return Some(None) };
    let mut parts = Captures::default();
    match regex.captures(&exchange.request.uri, &mut parts) {
        Ok(found) => Some(found.then_some(parts)),
        Err(_) => {
            let line = b"the regular expression of fastcgi_split_path_info gave up";
            log_line::error(exchange, env, Level::Alert, line);
            None
        }
    }
}
