//! `proxy_pass`, `fastcgi_pass` and their like: what their argument says.
//!
//! Owns the URL as it is known at load. What it comes to for one request is [`super::plan`]'s.

use super::{PassKind, content};
use crate::config::{Builder, Modifier, once};
use crate::directive::{Args, Contexts, Directive};
use crate::modules::upstream::{self, Url};
use crate::setting::Duplicate;
use crate::template::Template;
use conf::Diagnostic;
use std::sync::Arc;

/// The destination of a `proxy_pass`.
#[derive(Clone, Debug)]
pub enum Destination {
    /// To this group, with the URI and the names that were read at load.
    Group(usize),
    /// The value of this template.
    Evaluated(Template),
}

/// A `proxy_pass`, or one of another family.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Which it is.
    pub kind: PassKind,
    /// The destination.
    pub to: Destination,
    /// The whole argument as written.
    pub url: Box<[u8]>,
    /// The URI that takes the place of the location's name; empty if there is none.
    pub uri: Box<[u8]>,
    /// The location's name, if it is a prefix of the URI.
    pub location: Box<[u8]>,
    /// The default of the `Host` field.
    pub host_header: Box<[u8]>,
    /// The value of `$proxy_port`.
    pub port: Box<[u8]>,
    /// Whether the upstream is spoken to over TLS; of one with variables, whether it may be.
    pub over_tls: bool,
}

pub(super) const DIRECTIVES: &[Directive] = &[Directive::new(
    "proxy_pass",
    Contexts::LOCATION.or(Contexts::LOCATION_IF).or(Contexts::LIMIT_EXCEPT),
    Args::Exactly(1),
    "URL",
    |b, d| read_pass(b, d, PassKind::Proxy),
)
.doc(
    "Where requests are passed to: http:// or https:// with a group, a host or unix:/path:, optionally with a URI \
     that replaces the location's prefix; may contain variables.",
)
.example("proxy_pass http://blue;")];

/// Reads a `proxy_pass`, or one of another family.
pub(in crate::modules) fn read_pass(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    if kind.settings(b.settings()).pass.is_some() {
        return once(Err(Duplicate), d);
    }
    let word = &d.args[0];
    let text: &[u8] = word.text();
    let template = b.template(word)?;
    let pass = if template.constant().is_some() {
        constant(b, d, kind)?
    } else {
        let over_tls = kind.may_mean_tls(text);
        Pass {
            kind,
            to: Destination::Evaluated(template),
            url: text.into(),
            uri: Box::default(),
            location: Box::default(),
            host_header: Box::default(),
            port: Box::default(),
            over_tls,
        }
    };
    let scope = &b.draft.scopes[b.scope_index()];
    let ends_in_slash = scope.name.ends_with(b"/");
    let settings = b.settings();
    // What serves a location is what was written last.
    PassKind::ALL.into_iter().for_each(|kind| kind.settings(settings).pass = None);
    kind.settings(settings).pass = Some(Arc::new(pass));
    settings.core.content.replace(Some(content));
    if ends_in_slash {
        settings.core.auto_redirect.replace(true);
    }
    Ok(())
}

fn constant(b: &mut Builder<'_>, d: &conf::Directive, kind: PassKind) -> Result<Pass, Diagnostic> {
    let word = &d.args[0];
    let text: &[u8] = word.text();
    let Some((rest, over_tls, default_port)) = kind.without_scheme(text) else {
        return Err(Diagnostic::error(word.span, "invalid URL prefix")
            .label(format!("\"{}\" does not begin with http:// or https://", word.text()))
            .help("for example: proxy_pass http://127.0.0.1:8081;"));
    };
    // A gRPC request's path is its method.
    let url = Url::parse(rest, default_port, kind == PassKind::Proxy).map_err(|fault| {
        let shown = String::from_utf8_lossy(rest);
        Diagnostic::error(word.span, format!("{fault} in upstream \"{shown}\""))
    })?;
    let scope = &b.draft.scopes[b.scope_index()];
    let has_prefix = matches!(scope.modifier, Modifier::Prefix | Modifier::PrefixNoRegex | Modifier::Exact);
    if !has_prefix && !url.uri.is_empty() {
        let fault = "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside named \
                     location, or inside \"if\" statement, or inside \"limit_except\" block";
        return Err(Diagnostic::error(word.span, fault).help(
            "there is no location name that the URI could take the place of: remove it, or use variables",
        ));
    }
    let location = if has_prefix { scope.name.as_slice().into() } else { Box::default() };
    let mut host_header = Vec::new();
    url.append_host_header(&mut host_header);
    let group = upstream::refer(b, &url, word)?;
    Ok(Pass {
        kind,
        to: Destination::Group(group),
        url: text.into(),
        uri: url.uri.into(),
        location,
        host_header: host_header.into(),
        port: url.shown_port().into(),
        over_tls,
    })
}
