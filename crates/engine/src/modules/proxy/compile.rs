//! The settings of one level, compiled once the whole text is read.
//!
//! Owns everything about a proxied request that can be settled at load: the head's constant lines, the sets of names
//! that are suppressed or hidden, the rules for redirects, the sizes that depend on one another. Levels that say
//! nothing of their own share what the level around them has.

use super::cgi::CgiParams;
use super::{BufferSettings, Destination, NameSet, PassKind, ProxySettings, Redirects, Rule, inherit_pass};
use crate::config::Builder;
use crate::directive::Contexts;
use crate::modules::proxy::rewrite::Pattern;
use crate::template::Template;
use conf::{Diagnostic, Span};
use http::h2::hpack;
use http::{Known, Version};
use std::sync::Arc;

/// A piece of the head that is sent to upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Complete lines that are the same for every request; for HTTP/2 the same fields in a header block.
    Constant(Vec<u8>),
    /// A line that is left out if its value is empty.
    Evaluated {
        /// The name with its colon and space; for HTTP/2 without them.
        name: Vec<u8>,
        /// The value.
        value: Template,
    },
    /// A line of the configuration that says how long a body is: it counts where none is sent.
    OwnFraming {
        /// The name with its colon and space.
        name: Vec<u8>,
        /// The value.
        value: Template,
    },
    /// `Content-Length` of what is sent.
    BodyLength {
        /// The configuration has a line for it.
        has_own: bool,
    },
    /// `Transfer-Encoding`, if what is sent is chunked.
    Chunked,
    /// `TE`, of which only `trailers` is passed on.
    Trailers,
}

/// The compiled settings of one level.
#[derive(Debug, Default)]
pub struct Compiled {
    /// `proxy_set_header Host`.
    pub(super) host: Option<Template>,
    /// The lines after `Host`, in order.
    pub(super) lines: Vec<Line>,
    /// Fields of the client that are not passed on: they are set here, or for one connection only.
    pub(super) suppressed: NameSet,
    /// Fields of the upstream that are not passed on.
    pub(super) hidden: NameSet,
    /// Fields of the client that are not passed on either where the whole response is wanted, to be kept.
    pub(super) conditions: NameSet,
    /// `fastcgi_param` and its like.
    pub(super) params: CgiParams,
    /// `proxy_redirect`; none if it is `off`.
    pub(super) redirects: Vec<Rule>,
    /// `proxy_busy_buffers_size`, in bytes.
    pub(super) busy_size: u64,
    /// `proxy_max_temp_file_size`, in bytes.
    pub(super) max_temp_file_size: u64,
    /// `proxy_temp_file_write_size`, in bytes.
    pub(super) temp_file_write_size: u64,
}

/// Fields that say something about one connection, and those that are made anew. `Upgrade` and `Connection` are
/// passed on by those who set them. (nginx ≥ 1.29.7 says nothing in `Connection`, so that HTTP/1.1 keeps it open.)
const NOT_PASSED: [Known; 9] = [
    Known::Host,
    Known::Connection,
    Known::ProxyConnection,
    Known::ContentLength,
    Known::TransferEncoding,
    Known::Te,
    Known::KeepAlive,
    Known::Expect,
    Known::Upgrade,
];

/// Fields of a client that ask for a part, or for nothing if nothing has changed.
const CONDITIONS: [Known; 6] = [
    Known::IfModifiedSince,
    Known::IfUnmodifiedSince,
    Known::IfNoneMatch,
    Known::IfMatch,
    Known::Range,
    Known::IfRange,
];

/// nginx's limit on one temporary file.
const MAX_TEMP_FILE_BYTES: u64 = 1 << 30;

/// Works out every level's settings, the outer ones first. Inheritance is done here for that; that it is done again
/// for all modules changes nothing.
pub(super) fn finish(b: &mut Builder<'_>) {
    super::cache::check_zones(b);
    let mut reported: Vec<Option<Span>> = Vec::new();
    for index in 0..b.draft.scopes.len() {
        let (outer, rest) = b.draft.scopes.split_at_mut(index);
        let scope = &mut rest[0];
        let outer = scope.parent.map(|parent| &outer[parent].settings);
        let own_pass = PassKind::ALL.map(|kind| kind.of(&scope.settings).pass.is_some());
        if let Some(outer) = outer
            && scope.context.meets(Contexts::LOCATION_IF.or(Contexts::LIMIT_EXCEPT))
        {
            inherit_pass(&mut scope.settings, outer);
        }
        for (kind, own_pass) in PassKind::ALL.into_iter().zip(own_pass) {
            if kind != PassKind::Proxy {
                let families = &mut scope.settings.families;
                let is_shared = match outer {
                    Some(outer) => families.share(&outer.families, kind),
                    None => families.is_default(kind),
                };
                if is_shared {
                    continue;
                }
            }
            let settings = kind.settings(&mut scope.settings);
            finish_level(settings, outer.map(|outer| kind.of(outer)), own_pass);
            if own_pass && settings.pass.as_ref().is_some_and(|pass| pass.over_tls) {
                b.diagnostics.extend(super::ssl::check(settings, kind, scope.span));
            }
            if own_pass && kind.gateway().is_some() && settings.cache.is_on() && settings.cache.key.is_none()
            {
                let prefix = kind.row().prefix;
                let text = format!("\"{prefix}_cache\" needs a \"{prefix}_cache_key\"");
                let help = format!("{prefix}_cache_key $scheme$request_method$host$request_uri;");
                b.diagnostics.push(Diagnostic::error(scope.span, text).help(help));
            }
            let at = settings.buffers.written_at.0;
            if at.is_some()
                && !reported.contains(&at)
                && let Err(fault) = check_sizes(&settings.buffers, &settings.compiled, kind.row().prefix)
            {
                reported.push(at);
                b.diagnostics.push(fault);
            }
        }
    }
}

/// Works out the settings of one level.
fn finish_level(settings: &mut ProxySettings, outer: Option<&ProxySettings>, own_pass: bool) {
    let own = says_something(settings);
    let Some(outer) = outer else {
        settings.compiled = Arc::new(compile(settings, None, false));
        return;
    };
    settings.inherit(outer);
    settings.buffers.written_at.0 = settings.buffers.written_at.0.or(outer.buffers.written_at.0);
    settings.compiled = match own || own_pass {
        true => Arc::new(compile(settings, Some(&outer.compiled), own_pass)),
        false => outer.compiled.clone(),
    };
}

/// Works out settings that nothing has written.
pub(super) fn compile_defaults(settings: &mut ProxySettings) {
    settings.compiled = Arc::new(compile(settings, None, false));
}

/// Returns whether this level writes a setting that is compiled.
fn says_something(settings: &ProxySettings) -> bool {
    let (response, buffers) = (&settings.response, &settings.buffers);
    settings.request.set_headers.written()
        || settings.request.version.written()
        || settings.cgi.params.written()
        || response.hide.written()
        || response.pass.written()
        || response.redirects.written()
        || buffers.written_at.0.is_some()
}

fn compile(settings: &ProxySettings, outer: Option<&Compiled>, own_pass: bool) -> Compiled {
    let mut compiled = Compiled { redirects: redirects(settings, outer, own_pass), ..Compiled::default() };
    let is_h2 = *settings.request.version == Version::Http2;
    let is_grpc = settings.kind == PassKind::Grpc;
    if let Some(gateway) = settings.kind.gateway() {
        compiled.params = CgiParams::new(&settings.cgi.params, gateway);
    }
    for (name, value) in settings.request.set_headers.iter() {
        if name.eq_ignore_ascii_case(b"host") {
            compiled.host = Some(value.clone());
            continue;
        }
        compiled.suppressed.insert(name);
        let known = Known::from_bytes(name);
        if !is_h2 && matches!(known, Some(Known::ContentLength | Known::TransferEncoding)) {
            let name = [&**name, b": "].concat();
            compiled.lines.push(Line::OwnFraming { name, value: value.clone() });
            continue;
        }
        match is_h2 {
            true => push_field(&mut compiled.lines, name, value),
            false => push_line(&mut compiled.lines, name, value),
        }
    }
    for known in NOT_PASSED {
        // How long a body is that is sent is said in any case, and truly: what lies behind it is the next request.
        let has_own = compiled.suppressed.has(known);
        if !has_own || !is_h2 && matches!(known, Known::ContentLength | Known::TransferEncoding) {
            match known {
                Known::ContentLength => compiled.lines.push(Line::BodyLength { has_own }),
                Known::TransferEncoding if !is_h2 => compiled.lines.push(Line::Chunked),
                Known::Te if is_grpc => compiled.lines.push(Line::Trailers),
                _ => {}
            }
        }
        compiled.suppressed.insert(known.name().as_bytes());
    }
    for known in CONDITIONS {
        let name = known.name().as_bytes();
        let is_own = match settings.kind.gateway() {
            Some(_) => compiled.params.fields.iter().any(|field| http::cgi::is_field_name(field, name)),
            None => compiled.suppressed.has(known),
        };
        if !is_own {
            compiled.conditions.insert(name);
        }
    }
    compiled.hidden = NameSet::of(settings.kind.row().hidden.iter().map(|known| known.name().as_bytes()));
    settings.response.hide.iter().for_each(|name| compiled.hidden.insert(name));
    settings.response.pass.iter().for_each(|name| compiled.hidden.remove(name));
    let buffers = &settings.buffers;
    let larger = buffers.head_size.max(buffers.buffers.1);
    compiled.busy_size = buffers.busy_size.unwrap_or(2 * larger);
    compiled.temp_file_write_size = buffers.temp_file_write_size.unwrap_or(2 * larger);
    compiled.max_temp_file_size = buffers.max_temp_file_size.unwrap_or(MAX_TEMP_FILE_BYTES);
    compiled
}

fn push_line(lines: &mut Vec<Line>, name: &[u8], value: &Template) {
    let start = [name, b": "].concat();
    match value.constant() {
        Some([]) => {}
        Some(text) => {
            let line = [&start, text, b"\r\n"].concat();
            match lines.last_mut() {
                Some(Line::Constant(before)) => before.extend_from_slice(&line),
                _ => lines.push(Line::Constant(line)),
            }
        }
        None => lines.push(Line::Evaluated { name: start, value: value.clone() }),
    }
}

/// The same for HTTP/2: a field of a header block, which is as it is wherever it comes, since no table is used.
fn push_field(lines: &mut Vec<Line>, name: &[u8], value: &Template) {
    let known = Known::from_bytes(name);
    // What a configuration for HTTP/1 sets of its connection would make the request malformed (RFC 9113 §8.2.2).
    if let Some(
        Known::Connection
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::TransferEncoding
        | Known::Upgrade,
    ) = known
    {
        return;
    }
    match value.constant() {
        Some([]) => {}
        Some(text) => {
            let mut field = Vec::new();
            hpack::encode_valid_field(&mut field, known, name, text.trim_ascii());
            match lines.last_mut() {
                Some(Line::Constant(before)) => before.extend_from_slice(&field),
                _ => lines.push(Line::Constant(field)),
            }
        }
        None => lines.push(Line::Evaluated { name: name.to_ascii_lowercase(), value: value.clone() }),
    }
}

/// Returns the rules of a level. Without its own it has those of the level around it before the one its `proxy_pass`
/// implies:
/// nginx does so too, also where that rule was implied by another `proxy_pass`.
fn redirects(settings: &ProxySettings, outer: Option<&Compiled>, own_pass: bool) -> Vec<Rule> {
    match &*settings.response.redirects {
        Redirects::Off => Vec::new(),
        Redirects::Rules(rules) => rules.clone(),
        Redirects::Default => match outer {
            Some(outer) if !outer.redirects.is_empty() => outer.redirects.clone(),
            _ if own_pass => implied_redirect(settings).into_iter().collect(),
            _ => Vec::new(),
        },
    }
}

/// Returns the rule of `proxy_redirect default`: the upstream's URL becomes the location's name.
pub(super) fn implied_redirect(settings: &ProxySettings) -> Option<Rule> {
    let pass = settings.pass.as_ref().filter(|pass| matches!(pass.to, Destination::Group(_)))?;
    if settings.kind.gateway().is_some() {
        return None;
    }
    let (pattern, replacement) = if pass.uri.is_empty() {
        ([&*pass.url, b"/"].concat(), &b"/"[..])
    } else {
        (pass.url.to_vec(), &*pass.location)
    };
    let pattern = Pattern::Prefix(Template::text(&pattern));
    Some(Rule { pattern, replacement: Template::text(replacement) })
}

/// Returns nginx's rules for sizes that depend on one another.
fn check_sizes(buffers: &BufferSettings, compiled: &Compiled, prefix: &str) -> Result<(), Diagnostic> {
    let (count, size) = *buffers.buffers;
    let larger = size.max(*buffers.head_size);
    // nginx's words, with the names of the family.
    let named = |text: &str| text.replace("\"proxy_", &format!("\"{prefix}_"));
    let fault = |text: &str| Err(Diagnostic::error(buffers.written_at.0, named(text)));
    let all_but_one = count.saturating_sub(1).saturating_mul(size);
    let sizes = format!("the larger of the two is {larger} bytes here");
    if count < 2 {
        return fault("there must be at least 2 \"proxy_buffers\"");
    }
    if compiled.busy_size < larger {
        return fault(
            "\"proxy_busy_buffers_size\" must be equal to or greater than the maximum of the value of \
             \"proxy_buffer_size\" and one of the \"proxy_buffers\"",
        )
        .map_err(|fault| fault.label(sizes));
    }
    if compiled.busy_size > all_but_one {
        let busy = compiled.busy_size;
        return fault(
            "\"proxy_busy_buffers_size\" must be less than the size of all \"proxy_buffers\" minus one buffer",
        )
        .map_err(|fault| {
            fault
                .label(named(&format!("\"proxy_busy_buffers_size\" is {busy} bytes here, all buffers but one {all_but_one}")))
                .help(named("give \"proxy_buffers\" more or larger buffers, or write a smaller \"proxy_busy_buffers_size\""))
        });
    }
    if compiled.temp_file_write_size < larger {
        return fault(
            "\"proxy_temp_file_write_size\" must be equal to or greater than the maximum of the value of \
             \"proxy_buffer_size\" and one of the \"proxy_buffers\"",
        )
        .map_err(|fault| fault.label(sizes));
    }
    if compiled.max_temp_file_size != 0 && compiled.max_temp_file_size < larger {
        return fault(
            "\"proxy_max_temp_file_size\" must be equal to zero to disable temporary files usage or must be equal \
             to or greater than the maximum of the value of \"proxy_buffer_size\" and one of the \"proxy_buffers\"",
        )
        .map_err(|fault| fault.label(sizes));
    }
    Ok(())
}
