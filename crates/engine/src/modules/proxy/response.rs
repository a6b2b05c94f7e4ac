//! Turning an upstream's head into the client's (ngx_http_upstream_process_headers).
//!
//! Owns which fields go to the client and which are meant for us. Must never see a body.

use super::cache::Caching;
use super::names::bit;
use super::{Plan, Protocol, ProxySettings, cache, cookies, request, rewrite};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use http::{BodyFraming, FramingError, Headers, Known, Method, ResponseHead, Version, line_end, masking};
use upstream::retry::TryFailure;

/// The next step after an upstream's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It is the client's answer: write the head, then pass the body on.
    Forward,
    /// It is the client's answer, and from then on bytes go both ways as they come.
    Upgrade,
    /// `X-Accel-Redirect`: [`crate::phase::redirect_internally`]; the upstream's body goes nowhere.
    InternalRedirect {
        /// The target: a decoded path, or `@name`.
        uri: Vec<u8>,
        /// The query.
        args: Vec<u8>,
    },
    /// [`crate::phase::refuse`] with this status; the upstream's body goes nowhere.
    Error(u16),
}

/// The framing of a response's body, and whether the connection may be used again after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerFraming {
    /// The end of the body.
    pub body: BodyFraming,
    /// Nothing in the head forbids another request on this connection. nginx never uses one of HTTP/1.0 again.
    pub keep_alive: bool,
}

/// Fields that may come once; nginx ignores a second one with a warning.
const SINGLE: u128 = bit(Known::Status)
    | bit(Known::ContentType)
    | bit(Known::Date)
    | bit(Known::LastModified)
    | bit(Known::ETag)
    | bit(Known::Server)
    | bit(Known::Location)
    | bit(Known::Refresh)
    | bit(Known::Expires)
    | bit(Known::XAccelExpires)
    | bit(Known::XAccelRedirect)
    | bit(Known::XAccelLimitRate);

/// Fields about the upstream's connection, and the length, which is kept beside the fields.
const DROPPED: u128 =
    bit(Known::Connection) | bit(Known::KeepAlive) | bit(Known::TransferEncoding) | bit(Known::ContentLength);

/// Fields that are looked at while they are copied.
const SPECIAL: u128 = bit(Known::ContentType)
    | bit(Known::Location)
    | bit(Known::Refresh)
    | bit(Known::SetCookie)
    | bit(Known::AcceptRanges);

/// Fields of an answer with `X-Accel-Redirect` that go to the client with what is served instead.
const KEPT_BY_REDIRECT: u128 = bit(Known::ContentType)
    | bit(Known::SetCookie)
    | bit(Known::ContentDisposition)
    | bit(Known::CacheControl)
    | bit(Known::Expires)
    | bit(Known::AcceptRanges);

/// nginx has what it was doing behind the message.
const READING: &str = " while reading response header from upstream";

/// Judges where the body ends. A head that leaves room for two opinions is no valid one, and neither is a `101` that
/// the client did not ask for.
///
/// # Errors
/// [`TryFailure::InvalidHeader`], logged in nginx's words.
pub fn framing(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    head: &ResponseHead,
) -> Result<AnswerFraming, TryFailure> {
    if head.version == Version::Http2 {
        // The stream's end is the body's, and the codec has compared the two.
        return Ok(AnswerFraming { body: BodyFraming::None, keep_alive: true });
    }
    let method = if request::sends_head(exchange, env) { Method::Head } else { Method::Get };
    let body = http::framing::response_body(head, method).map_err(|error| {
        let line = [b"upstream sent ", &*quoted(error, &head.headers), READING.as_bytes()].concat();
        log_line::error(exchange, env, Level::Error, &line);
        TryFailure::InvalidHeader
    })?;
    let proxy = &exchange.settings(env.config).proxy;
    let protocol = proxy.protocol();
    // FastCGI has no way to pass bytes both ways.
    if head.status == 101 && (protocol == Protocol::FastCgi || !asked_for(exchange, &head.headers)) {
        let line = [b"upstream switched protocols unasked", READING.as_bytes()].concat();
        log_line::error(exchange, env, Level::Error, &line);
        return Err(TryFailure::InvalidHeader);
    }
    if proxy.kind.gateway().is_some() {
        // Nothing in a CGI response is about the connection.
        let body = if body == BodyFraming::Chunked { BodyFraming::UntilClose } else { body };
        return Ok(AnswerFraming { body, keep_alive: *proxy.cgi.keep_conn });
    }
    let says_close = |value: &[u8]| {
        value.windows(5).any(|word| matches!(word[0], b'c' | b'C') && word.eq_ignore_ascii_case(b"close"))
    };
    let keep_alive = head.version >= Version::Http11
        && head.status != 101
        && !head.headers.get_all(Known::Connection).any(says_close);
    Ok(AnswerFraming { body, keep_alive })
}

/// Returns whether the client asked for the protocol that this `101` switches to (RFC 9110 §7.8). HTTP/1.0 cannot ask,
/// and no client is let through to
/// HTTP/2 this way: what it would carry is hidden from every rule in front of it, and RFC 9113 §3.1 has done away
/// with it.
fn asked_for(exchange: &Exchange, answer: &Headers) -> bool {
    let head = &exchange.request.head;
    let is_h2c = |protocol: &[u8]| protocol.eq_ignore_ascii_case(b"h2c");
    head.version == Version::Http11
        && head.headers.has(Known::Upgrade)
        && !http::framing::list(answer.get_all(Known::Upgrade)).any(is_h2c)
}

/// Returns nginx's words for a fault in the framing, with the fields it quotes.
fn quoted(error: FramingError, headers: &Headers) -> Vec<u8> {
    let all = |known: Known| headers.iter().filter(move |(number, ..)| *number == Some(known));
    let mut line = error.words().as_bytes().to_vec();
    match error {
        FramingError::InvalidLength => {
            if let Some((_, name, value)) = all(Known::ContentLength).next() {
                line.extend_from_slice(b": \"");
                masking::append_field(name, value, &mut line);
                line.push(b'"');
            }
        }
        FramingError::DuplicateLength | FramingError::DuplicateTransferEncoding => {
            let known = match error {
                FramingError::DuplicateLength => Known::ContentLength,
                _ => Known::TransferEncoding,
            };
            if let (Some(first), Some(second)) = (all(known).next(), all(known).nth(1)) {
                line = duplicate(second, first);
            }
        }
        FramingError::UnknownTransferEncoding => {
            let value = headers.get(Known::TransferEncoding).unwrap_or_default();
            line.extend_from_slice(&[b": \"", value, b"\""].concat());
        }
        _ => {}
    }
    line
}

type Field<'a> = (Option<Known>, &'a [u8], &'a [u8]);

fn duplicate((_, name, value): Field<'_>, (_, before, previous): Field<'_>) -> Vec<u8> {
    let mut line = b"duplicate header line: \"".to_vec();
    masking::append_field(name, value, &mut line);
    line.extend_from_slice(b"\", previous value: \"");
    masking::append_field(before, previous, &mut line);
    line.push(b'"');
    line
}

/// Makes an upstream's head the client's answer, or says what else follows. The head's fields move to
/// `exchange.upstream.headers`; what [`framing`] and [`super::wanted_retry`] are to say must be asked before.
pub fn accept_head(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    _plan: &Plan,
    head: &mut ResponseHead,
) -> Disposition {
    let config = env.config;
    let settings = exchange.settings(config);
    let proxy = &settings.proxy;
    // No copy: the head has the last answer's memory for its next fields.
    std::mem::swap(&mut exchange.upstream.headers, &mut head.headers);
    head.headers.clear();
    heed_limits(exchange, proxy);
    let caching = cache::heed(exchange, env, proxy, head);
    if head.status >= 300
        && *proxy.response.intercept_errors
        && settings.error_page.page_for(head.status).is_some()
    {
        keep_challenge(exchange, head.status);
        return Disposition::Error(head.status);
    }
    if exchange.upstream.headers.has(Known::XAccelRedirect)
        && !proxy.response.ignore.has(Known::XAccelRedirect)
    {
        copy_fields(exchange, env, proxy, true);
        return redirect(exchange, env);
    }
    copy_fields(exchange, env, proxy, false);
    keep_absent_server_and_date(exchange, proxy);
    let Exchange { upstream, response, .. } = exchange;
    response.status = head.status;
    response.status_line = (!is_usual(head) && is_clean(head)).then(|| head.status_line().to_vec());
    response.content_length = match upstream.headers.has(Known::TransferEncoding) {
        true => None,
        false => http::framing::content_length(&upstream.headers).ok().flatten(),
    };
    if caching != Caching::None {
        // What is kept is whole: conditions and ranges are ours to judge.
        let has_ranges = exchange.upstream.headers.has(Known::AcceptRanges);
        exchange.response.headers.remove_known(Known::AcceptRanges);
        exchange.response.allow_ranges = has_ranges || *proxy.response.force_ranges;
    } else if *proxy.response.force_ranges {
        exchange.response.headers.remove_known(Known::AcceptRanges);
        exchange.response.allow_ranges = true;
    }
    exchange.response.from_upstream = caching == Caching::None;
    heed_charset(exchange, env, proxy);
    if !exchange.upstream.buffering.unwrap_or(*proxy.buffers.buffering) {
        // nginx passes unbuffered answers on at the upstream's own speed.
        exchange.route.limit_rate = Some(0);
    }
    if head.status == 101 && exchange.request.head.headers.has(Known::Upgrade) {
        return Disposition::Upgrade;
    }
    Disposition::Forward
}

/// Returns whether the status line is the one that we would write.
fn is_usual(head: &ResponseHead) -> bool {
    let reason = http::encode::reason(head.status).as_bytes();
    matches!(head.status_line(), [_, _, _, b' ', phrase @ ..] if phrase == reason)
}

/// Returns whether the phrase may be sent on. With a control byte in it, or without the space before it (`403.1`, as
/// IIS sends), no
/// client needs to understand the line (RFC 9112 §4): it is written as ours.
fn is_clean(head: &ResponseHead) -> bool {
    let line = head.status_line();
    matches!(line.get(3), None | Some(b' '))
        && !line.iter().any(|byte| *byte != b'\t' && byte.is_ascii_control())
}

/// Applies the upstream's instructions for relaying: `X-Accel-Buffering`, `X-Accel-Limit-Rate`.
fn heed_limits(exchange: &mut Exchange, settings: &ProxySettings) {
    let Exchange { upstream, route, .. } = exchange;
    let ignore = &*settings.response.ignore;
    upstream.buffering = None;
    if !ignore.has(Known::XAccelBuffering) {
        for value in upstream.headers.get_all(Known::XAccelBuffering) {
            if value.eq_ignore_ascii_case(b"no") {
                upstream.buffering = Some(false);
            } else if value.eq_ignore_ascii_case(b"yes") {
                upstream.buffering = Some(true);
            }
        }
    }
    if let Some(value) = upstream.headers.get(Known::XAccelLimitRate)
        && !ignore.has(Known::XAccelLimitRate)
        && let Some(rate) = conf::value::parse_number(value)
    {
        route.limit_rate = Some(rate);
    }
}

/// An intercepted 401 is of no use without its challenge.
fn keep_challenge(exchange: &mut Exchange, status: u16) {
    let Exchange { upstream, response, .. } = exchange;
    if status == 401 {
        for (known, name, value) in upstream.headers.iter() {
            if known == Some(Known::WwwAuthenticate) {
                response.headers.push(name, value);
            }
        }
    }
}

/// `X-Accel-Redirect`: the answer is served from elsewhere, with GET unless the request is a HEAD.
fn redirect(exchange: &mut Exchange, env: &mut Env<'_>) -> Disposition {
    let target = exchange.upstream.headers.get(Known::XAccelRedirect).unwrap_or_default();
    if target.starts_with(b"@") {
        return Disposition::InternalRedirect { uri: target.to_vec(), args: exchange.request.args.clone() };
    }
    let mut uri = Vec::new();
    match http::uri::decode_internal(target, &mut uri) {
        Ok(args) => {
            let args = args.to_vec();
            if exchange.method() != b"HEAD" {
                exchange.request.method_override = Some(b"GET".to_vec());
            }
            Disposition::InternalRedirect { uri, args }
        }
        Err(_) => {
            let line = [b"unsafe URI \"", target, b"\" was detected", READING.as_bytes()].concat();
            log_line::error(exchange, env, Level::Error, &line);
            Disposition::Error(404)
        }
    }
}

/// Copies the fields that go to the client; for a redirect only the few that describe what is served instead.
fn copy_fields(exchange: &mut Exchange, env: &mut Env<'_>, settings: &ProxySettings, redirected: bool) {
    let hidden = &settings.compiled.hidden;
    let adopted = exchange.response.headers.adopt(&exchange.upstream.headers);
    // Where no name occurs twice, there is nothing to look for.
    let single = if exchange.upstream.headers.may_repeat() { SINGLE } else { 0 };
    let plain = if redirected { 0 } else { !(hidden.known() | DROPPED | SPECIAL | single) };
    let mut seen = 0u128;
    let is_h2 = exchange.request.head.version == Version::Http2;
    for place in 0..exchange.upstream.headers.len() {
        let Exchange { upstream, response, .. } = exchange;
        let known = upstream.headers.known_at(place);
        let flag = known.map_or(0, bit);
        if flag & plain != 0 {
            response.headers.push_adopted(adopted, &upstream.headers, place);
            continue;
        }
        let Some(known) = known else {
            let name = upstream.headers.at(place).map_or(&b""[..], |(_, name, _)| name);
            let stays = is_h2 && http::framing::is_of_connection(&upstream.headers, None, name);
            if !redirected && !stays && !hidden.contains(None, name) {
                response.headers.push_adopted(adopted, &upstream.headers, place);
            }
            continue;
        };
        if flag & SINGLE != 0 {
            if seen & flag != 0 {
                warn_of_duplicate(exchange, env, known, place);
                continue;
            }
            seen |= flag;
        }
        let goes = if redirected { flag & KEPT_BY_REDIRECT != 0 } else { flag & hidden.known() == 0 };
        if !goes || flag & DROPPED != 0 {
            continue;
        }
        match flag & SPECIAL {
            0 => response.headers.push_adopted(adopted, &upstream.headers, place),
            _ => copy_special(exchange, env, settings, known, place),
        }
    }
}

fn copy_special(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    settings: &ProxySettings,
    known: Known,
    place: usize,
) {
    let Exchange { upstream, response, .. } = &mut *exchange;
    let Some((_, name, value)) = upstream.headers.at(place) else { return };
    let redirects = &settings.compiled.redirects;
    let mut changed = match known {
        Known::ContentType => {
            response.set_content_type(value);
            return;
        }
        Known::AcceptRanges if *settings.response.force_ranges => return,
        Known::Location if !redirects.is_empty() => {
            let mut text = value.to_vec();
            let changed = rewrite::apply(redirects, exchange, env, &mut text, 0);
            let absolute = *exchange.settings(env.config).core.absolute_redirect;
            if changed && absolute && text.starts_with(b"/") {
                // It takes its place, made absolute, where redirects of our own have it.
                exchange.response.location = Some(text);
                return;
            }
            Some(text)
        }
        Known::Refresh if !redirects.is_empty() => {
            let mut text = value.to_vec();
            if let Some(at) = text.windows(4).position(|word| word.eq_ignore_ascii_case(b"url=")) {
                rewrite::apply(redirects, exchange, env, &mut text, at + 4);
            }
            Some(text)
        }
        Known::SetCookie if cookies::wanted(settings) => {
            let text = value.to_vec();
            cookies::rewrite(exchange, env, &settings.response, &text)
        }
        _ => {
            response.headers.push(name, value);
            return;
        }
    };
    // What it was changed to may come from variables.
    match &mut changed {
        Some(text) if known == Known::SetCookie => line_end::blank(text),
        Some(text) => line_end::escape_from(text, 0),
        None => {}
    }
    let Exchange { upstream, response, .. } = exchange;
    if let Some((_, name, value)) = upstream.headers.at(place) {
        response.headers.push(name, changed.as_deref().unwrap_or(value));
    }
}

fn warn_of_duplicate(exchange: &Exchange, env: &mut Env<'_>, known: Known, place: usize) {
    if !log_line::enabled(exchange, env.config, Level::Warn) {
        return;
    }
    let headers = &exchange.upstream.headers;
    let first = headers.iter().find(|(number, ..)| *number == Some(known));
    if let (Some(first), Some(second)) = (first, headers.at(place)) {
        let line = [b"upstream sent ", &*duplicate(second, first), b", ignored", READING.as_bytes()].concat();
        log_line::error(exchange, env, Level::Warn, &line);
    }
}

/// `proxy_pass_header Server` passes on that the upstream names none: an empty field says to send none of ours.
fn keep_absent_server_and_date(exchange: &mut Exchange, settings: &ProxySettings) {
    if !settings.kind.row().keeps_absent_server {
        return;
    }
    let Exchange { upstream, response, .. } = exchange;
    for known in [Known::Server, Known::Date] {
        if !settings.compiled.hidden.has(known) && !upstream.headers.has(known) {
            response.headers.push_known(known, b"");
        }
    }
}

/// Takes note of the charset that a peer wants its response to have.
fn heed_charset(exchange: &mut Exchange, env: &mut Env<'_>, settings: &ProxySettings) {
    let Exchange { upstream, response, .. } = &mut *exchange;
    upstream.charset.clear();
    let Some(charset) = upstream.headers.get(Known::XAccelCharset) else { return };
    if charset.is_empty()
        || settings.response.ignore.has(Known::XAccelCharset)
        || response.content_type.is_none()
    {
        return;
    }
    if env.config.http.charsets.is_known(charset) {
        upstream.charset.extend_from_slice(charset);
        return;
    }
    let line = [b"unknown charset \"", charset, b"\" to override", READING.as_bytes()].concat();
    log_line::error(exchange, env, Level::Error, &line);
}

/// Takes the trailers that came after a chunked body, and passes them on if `proxy_pass_trailers` says so.
pub fn accept_trailers(exchange: &mut Exchange, env: &mut Env<'_>, trailers: &Headers) {
    let settings = &exchange.settings(env.config).proxy;
    let Exchange { upstream, response, .. } = exchange;
    upstream.trailers.clear();
    for (known, name, value) in trailers.iter() {
        upstream.trailers.push(name, value);
        if *settings.response.pass_trailers && !settings.compiled.hidden.contains(known, name) {
            response.trailers.push(name, value);
        }
    }
}
