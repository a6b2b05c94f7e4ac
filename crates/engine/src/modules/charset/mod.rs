//! The charset of bodies: named in `Content-Type`, and converted into another one by a `charset_map`
//! (ngx_http_charset_module).
//!
//! Owns which charset a body has, which one it is to have, and whether that takes a conversion. The bytes are
//! [`Recoder`]'s.

mod directives;
pub(crate) mod map;
pub(crate) mod recoder;
#[cfg(test)]
mod tests;

pub use map::{CharsetMap, Charsets, Conversion, InvalidValue};
pub use recoder::Recoder;

use super::{Module, media_types, validators};
use crate::config::Builder;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::output::ENOUGH;
use crate::output::HeadRefused;
use crate::output::chain::{BodyFilter, Flow};
use crate::setting::settings;
use crate::template::Template;
use bstr::ByteSlice;
use conf::{Diagnostic, Span};
use std::sync::Arc;

/// The module.
pub static MODULE: Module = Module {
    header_filter: Some(filter),
    filters_subrequests: true,
    finish: Some(finish),
    is_needed: Some(|config, settings| {
        settings.filters.charset.charset.is_some() || config.http.charsets.has_names()
    }),
    ..Module::new("charset", &[directives::DIRECTIVES])
};

/// A charset as it is written.
#[derive(Clone, Debug)]
pub struct Charset {
    /// Its name.
    pub name: Template,
    /// Where it is written.
    pub span: Span,
}

settings! {
    /// Settings of one level.
    pub struct CharsetSettings {
        /// `charset`; `None` is off.
        pub charset: Option<Charset> = None,
        /// `source_charset`.
        pub source: Option<Charset> = None,
        /// `override_charset`: an upstream's answer must have the charset that is set.
        pub override_own: bool = false,
        /// `charset_types`, in lower case; text/html is always among them, and `*` is all.
        pub types: Vec<Box<[u8]>> = DEFAULT_TYPES.iter().map(|kind| kind.as_bytes().into()).collect(),
    }
}

const DEFAULT_TYPES: [&str; 6] = [
    "text/html",
    "text/xml",
    "text/plain",
    "text/vnd.wap.wml",
    "application/javascript",
    "application/rss+xml",
];

/// Takes note of the charsets that are named, and refuses conversions that there is no map for.
fn finish(b: &mut Builder<'_>) {
    let mut faults: Vec<Diagnostic> = Vec::new();
    for at in 0..b.draft.scopes.len() {
        let scope = &b.draft.scopes[at];
        let own = &scope.settings.filters.charset;
        for named in [own.charset.get(), own.source.get()].into_iter().flatten() {
            b.draft.http.charsets.name(named.name.constant().unwrap_or_default());
        }
        // Inheritance is done later for all modules alike.
        let settings = std::iter::successors(Some(scope), |scope| scope.parent.map(|at| &b.draft.scopes[at]))
            .map(|scope| &scope.settings.filters.charset);
        let (mut charset, mut source) = (None, None);
        for level in settings {
            charset = charset.or(level.charset.written().then(|| level.charset.get()));
            source = source.or(level.source.written().then(|| level.source.get()));
        }
        let (Some(Some(charset)), Some(Some(source))) = (charset, source) else { continue };
        // What a variable comes to is known with the request.
        let (Some(to), Some(from)) = (charset.name.constant(), source.name.constant()) else { continue };
        if to.eq_ignore_ascii_case(from) || b.draft.http.charsets.find(from, to).is_some() {
            continue;
        }
        let text = String::from_utf8_lossy(&no_map(from, to)).into_owned();
        if !faults.iter().any(|fault| fault.message == text) {
            let help = "define one in http: charset_map FROM TO { 80 E282AC; }, or remove `source_charset`";
            faults.push(Diagnostic::error(source.span, text).help(help));
        }
    }
    b.diagnostics.extend(faults);
}

/// Decides which charset the answer has and gets, and changes its head for that.
fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let kind = exchange.response.content_type.as_deref().unwrap_or_default();
    let own = own_charset(kind).map(<[u8]>::to_vec);
    let is_inner = exchange.subrequests.is_inner();
    let to = match is_inner {
        // A part of the body around it has that one's charset.
        true => exchange.subrequests.charset.to_vec(),
        false => wanted(exchange, env, own.is_some()),
    };
    if to.is_empty() {
        return Ok(());
    }
    let from = match own {
        Some(own) => own,
        None => {
            let source = exchange.settings(env.config).filters.charset.source.get();
            let Some(source) = source else {
                name_charset(exchange, &to);
                return Ok(());
            };
            source.name.value(exchange, env)
        }
    };
    if from.eq_ignore_ascii_case(&to) {
        name_charset(exchange, &to);
        return Ok(());
    }
    let known = &env.config.http.charsets;
    let is_coded =
        exchange.response.headers.get(http::Known::ContentEncoding).is_some_and(|coding| !coding.is_empty());
    if is_coded && known.is_known(&from) && known.is_known(&to) {
        return Ok(());
    }
    let Some(conversion) = known.find(&from, &to) else {
        let line = [&*no_map(&from, &to), log_line::while_reading_head(exchange)].concat();
        log_line::error(exchange, env, Level::Error, &line);
        return Ok(());
    };
    name_charset(exchange, &to);
    exchange.output.chain.push(BodyFilter::Recode(Recoder::new(Arc::clone(conversion))));
    if !is_inner && !matches!(**conversion, Conversion::Bytes(_)) {
        validators::forget_length(&mut exchange.response);
    }
    Ok(())
}

/// Returns the charset that the answer is to have; empty if it stays as it is.
fn wanted(exchange: &mut Exchange, env: &mut Env<'_>, has_own: bool) -> Vec<u8> {
    let Some(kind) = exchange.response.content_type.as_deref().filter(|kind| !kind.is_empty()) else {
        return Vec::new();
    };
    let said = &exchange.upstream.charset;
    if !said.is_empty() && exchange.response.error_status == 0 {
        return said.clone();
    }
    let settings = &exchange.settings(env.config).filters.charset;
    let Some(charset) = settings.charset.get() else { return Vec::new() };
    let is_wanted = match has_own {
        true => *settings.override_own,
        false => media_types::contains(settings.types.get(), kind),
    };
    if !is_wanted {
        return Vec::new();
    }
    let mut value = Vec::new();
    charset.name.append(exchange, env, &mut value);
    if value == b"off" { Vec::new() } else { value }
}

/// Says the charset in the type, and nothing else beside that. As in nginx a redirect's is not said.
fn name_charset(exchange: &mut Exchange, name: &[u8]) {
    if exchange.subrequests.is_inner() {
        return;
    }
    let is_redirect = matches!(exchange.response.status, 301 | 302);
    let Some(kind) = &mut exchange.response.content_type else { return };
    if let Some(at) = charset_at(kind) {
        let end = kind[..at].rfind_byte(b';').unwrap_or(at);
        kind.truncate(end);
    }
    if !is_redirect {
        kind.extend_from_slice(b"; charset=");
        kind.extend_from_slice(name);
    }
}

/// Returns nginx's words for a conversion that there is no table for.
fn no_map(from: &[u8], to: &[u8]) -> Vec<u8> {
    [b"no \"charset_map\" between the charsets \"", from, b"\" and \"", to, b"\""].concat()
}

/// Returns where the value of a type's charset begins.
fn charset_at(kind: &[u8]) -> Option<usize> {
    let parameters = kind.find_byte(b';')?;
    Some(parameters + kind[parameters..].to_ascii_lowercase().find("charset=")? + "charset=".len())
}

/// Returns the charset that a type names.
pub(crate) fn own_charset(kind: &[u8]) -> Option<&[u8]> {
    let value = kind[charset_at(kind)?..].split(|byte| *byte == b';').next()?;
    Some(value.trim_ascii().trim_with(|c| c == '"'))
}

/// Converts what has come of the body.
pub(super) fn run(recoder: &mut Recoder, input: &mut &[u8], out: &mut Vec<u8>) -> Flow {
    match recoder.run(input, out, ENOUGH) {
        true => Flow::Dry,
        false => Flow::Full,
    }
}
