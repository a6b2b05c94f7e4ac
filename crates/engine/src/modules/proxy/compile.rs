//! The settings of one level, compiled once the whole text is read.
//!
//! Owns everything about a proxied request that can be settled at load: the head's constant lines, the sets of names
//! that are suppressed or hidden, the rules for redirects, the sizes that depend on one another. Levels that say
//! nothing of their own share what the level around them has.

use super::{BufferSettings, Destination, NameSet, ProxySettings, Redirects, Rule};
use crate::config::Builder;
use crate::directive::Contexts;
use crate::modules::proxy::rewrite::Pattern;
use crate::template::Template;
use conf::{Diagnostic, Span};
use http::Known;
use std::sync::Arc;

/// A piece of the head that is sent to upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Complete lines that are the same for every request.
    Constant(Vec<u8>),
    /// A line that is left out if its value is empty.
    Evaluated {
        /// The name with its colon and space.
        name: Vec<u8>,
        /// The value.
        value: Template,
    },
    /// `Content-Length` of what is sent.
    BodyLength,
    /// `Transfer-Encoding`, if what is sent is chunked.
    Chunked,
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

/// Fields that are the upstream's own affair, or addressed to us.
const HIDDEN: [Known; 8] = [
    Known::Date,
    Known::Server,
    Known::XPad,
    Known::XAccelExpires,
    Known::XAccelRedirect,
    Known::XAccelLimitRate,
    Known::XAccelBuffering,
    Known::XAccelCharset,
];

/// nginx's limit on one temporary file.
const MAX_TEMP_FILE_BYTES: u64 = 1 << 30;

/// Works out every level's settings, the outer ones first. Inheritance is done here for that; that it is done again
/// for all modules changes nothing.
pub(super) fn finish(b: &mut Builder<'_>) {
    let mut reported: Vec<Option<Span>> = Vec::new();
    for index in 0..b.draft.scopes.len() {
        let (outer, rest) = b.draft.scopes.split_at_mut(index);
        let scope = &mut rest[0];
        let settings = &mut scope.settings.proxy;
        let own = says_something(settings);
        let Some(parent) = scope.parent.map(|parent| &outer[parent].settings.proxy) else {
            settings.compiled = Arc::new(compile(settings, None, false));
            continue;
        };
        let own_pass = settings.pass.is_some();
        settings.inherit(parent);
        settings.buffers.written_at.0 = settings.buffers.written_at.0.or(parent.buffers.written_at.0);
        if scope.context.meets(Contexts::LOCATION_IF.or(Contexts::LIMIT_EXCEPT)) {
            settings.inherit_target(parent);
        }
        settings.compiled = match own || own_pass {
            true => Arc::new(compile(settings, Some(&parent.compiled), own_pass)),
            false => parent.compiled.clone(),
        };
        if own_pass && settings.pass.as_ref().is_some_and(|pass| pass.over_tls) {
            b.diagnostics.extend(super::ssl::check(settings, scope.span));
        }
        let at = settings.buffers.written_at.0;
        if at.is_some()
            && !reported.contains(&at)
            && let Err(fault) = check_sizes(&settings.buffers, &settings.compiled)
        {
            reported.push(at);
            b.diagnostics.push(fault);
        }
    }
}

/// Returns whether this level writes a setting that is compiled.
fn says_something(settings: &ProxySettings) -> bool {
    let (response, buffers) = (&settings.response, &settings.buffers);
    settings.request.set_headers.written()
        || response.hide.written()
        || response.pass.written()
        || response.redirects.written()
        || buffers.written_at.0.is_some()
}

fn compile(settings: &ProxySettings, outer: Option<&Compiled>, own_pass: bool) -> Compiled {
    let mut compiled = Compiled { redirects: redirects(settings, outer, own_pass), ..Compiled::default() };
    for (name, value) in settings.request.set_headers.iter() {
        if name.eq_ignore_ascii_case(b"host") {
            compiled.host = Some(value.clone());
            continue;
        }
        compiled.suppressed.insert(name);
        push_line(&mut compiled.lines, name, value);
    }
    for known in NOT_PASSED {
        if !compiled.suppressed.has(known) {
            match known {
                Known::ContentLength => compiled.lines.push(Line::BodyLength),
                Known::TransferEncoding => compiled.lines.push(Line::Chunked),
                _ => {}
            }
        }
        compiled.suppressed.insert(known.name().as_bytes());
    }
    compiled.hidden = NameSet::of(HIDDEN.iter().map(|known| known.name().as_bytes()));
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
    let (pattern, replacement) = if pass.uri.is_empty() {
        ([&*pass.url, b"/"].concat(), &b"/"[..])
    } else {
        (pass.url.to_vec(), &*pass.location)
    };
    let pattern = Pattern::Prefix(Template::text(&pattern));
    Some(Rule { pattern, replacement: Template::text(replacement) })
}

/// nginx's rules for sizes that depend on one another.
fn check_sizes(buffers: &BufferSettings, compiled: &Compiled) -> Result<(), Diagnostic> {
    let (count, size) = *buffers.buffers;
    let larger = size.max(*buffers.head_size);
    let fault = |text: &str| Err(Diagnostic::error(buffers.written_at.0, text.to_owned()));
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
                .label(format!("\"proxy_busy_buffers_size\" is {busy} bytes here, all buffers but one {all_but_one}"))
                .help("give \"proxy_buffers\" more or larger buffers, or write a smaller \"proxy_busy_buffers_size\"")
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
