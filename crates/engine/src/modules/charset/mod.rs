//! The charset in `Content-Type` (ngx_http_charset_module). Bodies are not converted from one charset to another.

mod directives;
#[cfg(test)]
mod tests;

use super::{Module, media_types};
use crate::config::Builder;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::output::HeadRefused;
use crate::setting::settings;
use crate::template::Template;
use bstr::ByteSlice;
use conf::{Diagnostic, Span};

/// The module.
pub static MODULE: Module = Module {
    header_filter: Some(filter),
    filters_subrequests: true,
    finish: Some(finish),
    is_needed: Some(|_, settings| settings.filters.charset.charset.is_some()),
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

/// Refuses to convert: there are no tables for it.
fn finish(b: &mut Builder<'_>) {
    let mut faults: Vec<Diagnostic> = Vec::new();
    for at in 0..b.draft.scopes.len() {
        let scope = &b.draft.scopes[at];
        // Inheritance is done later for all modules alike.
        let settings = std::iter::successors(Some(scope), |scope| scope.parent.map(|at| &b.draft.scopes[at]))
            .map(|scope| &scope.settings.filters.charset);
        let (mut charset, mut source) = (None, None);
        for level in settings {
            charset = charset.or(level.charset.written().then(|| level.charset.get()));
            source = source.or(level.source.written().then(|| level.source.get()));
        }
        let (Some(Some(charset)), Some(Some(source))) = (charset, source) else { continue };
        let names = [&charset.name, &source.name].map(|name| name.constant().unwrap_or_default());
        if names[0].eq_ignore_ascii_case(names[1]) && !names[0].is_empty() {
            continue;
        }
        let text = String::from_utf8_lossy(&no_map(names[1], names[0])).into_owned();
        if !faults.iter().any(|fault| fault.message == text) {
            let help = "bodies are not converted here: convert the files, or remove `source_charset`";
            faults.push(Diagnostic::error(source.span, text).help(help));
        }
    }
    b.diagnostics.extend(faults);
}

/// Adds the charset to the type.
fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let settings = &env.config.location(exchange.route.location).settings.filters.charset;
    let Some(charset) = settings.charset.get() else { return Ok(()) };
    let Some(kind) = exchange.response.content_type.as_deref().filter(|kind| !kind.is_empty()) else {
        return Ok(());
    };
    let own = own_charset(kind).map(<[u8]>::to_vec);
    let is_wanted = match &own {
        Some(_) => *settings.override_own,
        // As in nginx a redirect's charset is not said.
        None => {
            !matches!(exchange.response.status, 301 | 302)
                && media_types::contains(settings.types.get(), kind)
        }
    };
    if !is_wanted {
        return Ok(());
    }
    let mut value = Vec::new();
    charset.name.append(exchange, env, &mut value);
    if value.is_empty() || value == b"off" {
        return Ok(());
    }
    match own {
        Some(own) if own.eq_ignore_ascii_case(&value) => {}
        Some(own) => log_line::error(exchange, env, Level::Error, &no_map(&own, &value)),
        None => {
            let kind = exchange.response.content_type.get_or_insert_default();
            kind.extend_from_slice(b"; charset=");
            kind.extend_from_slice(&value);
        }
    }
    Ok(())
}

/// Returns nginx's words for a conversion that there is no table for.
fn no_map(from: &[u8], to: &[u8]) -> Vec<u8> {
    [b"no \"charset_map\" between the charsets \"", from, b"\" and \"", to, b"\""].concat()
}

/// Returns the charset that a type names.
fn own_charset(kind: &[u8]) -> Option<&[u8]> {
    let (_, parameters) = kind.split_once_str(b";")?;
    let at = parameters.to_ascii_lowercase().find("charset=")? + "charset=".len();
    let value = parameters[at..].split(|byte| *byte == b';').next()?;
    Some(value.trim_ascii().trim_with(|c| c == '"'))
}
