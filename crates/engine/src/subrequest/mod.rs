//! A request inside a request: an exchange whose answer another one takes (ngx_http_subrequest).
//!
//! Owns how such an exchange begins and what it gives back at its end. Who serves it, and where its body goes, is the
//! server's: [`crate::phase::Effect::Subrequests`].

pub mod wanted;

pub use wanted::{Subrequest, SubrequestBody, Variables};

use crate::exchange::{Body, Exchange};
use crate::host::{Env, Level};
use crate::log_line;
use crate::modules::charset::own_charset;
use crate::phase::{Cursor, Phase};
use crate::variables;
use http::{BodyFraming, Known};
use std::rc::Rc;

/// The fault of requests that are too deep inside each other, or too many. It is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep;

/// How deep requests may be inside each other (nginx's NGX_HTTP_MAX_SUBREQUESTS).
pub const MAX_DEPTH: u8 = 50;

/// How many requests may be made inside one of a client's by those that are inside it themselves: two that ask for each
/// other, and each more than once, come to no other end. nginx bounds those that are under way at a time (64,534).
pub const MAX_NESTED: u32 = 10_000;

/// Makes an exchange the subrequest of another one, at the beginning of its phases. It belongs to the same server, sees the
/// same fields, and asks a switch in the table in which the other one has asked it. With the values of variables go the choices that
/// they come from, there and back: what a switch has led somewhere is counted there as long as it may go there.
///
/// # Errors
/// See [`TooDeep`].
pub fn begin(
    inner: &mut Exchange,
    outer: &mut Exchange,
    env: &mut Env<'_>,
    wanted: Subrequest,
) -> Result<(), TooDeep> {
    if outer.subrequests.depth >= MAX_DEPTH {
        let text = [b"subrequests cycle while processing \"", &wanted.uri[..], b"\""].concat();
        log_line::error(outer, env, Level::Error, &text);
        return Err(TooDeep);
    }
    let nested = Rc::clone(outer.subrequests.nested.get_or_insert_default());
    if outer.subrequests.is_inner() {
        if nested.get() >= MAX_NESTED {
            let text = [b"too many subrequests while processing \"", &wanted.uri[..], b"\""].concat();
            log_line::error(outer, env, Level::Error, &text);
            return Err(TooDeep);
        }
        nested.set(nested.get() + 1);
    }
    inner.reset(env.config, env.host.now());
    inner.subrequests.depth = outer.subrequests.depth + 1;
    inner.subrequests.nested = Some(nested);
    inner.subrequests.method.clear();
    let method = outer.subrequests.outermost_method().unwrap_or_else(|| outer.method());
    inner.subrequests.method.extend_from_slice(method);
    inner.connection = outer.connection.clone();
    inner.realip = outer.realip;
    inner.switches.ask_as(&outer.switches);
    // A request is limited once, together with what is inside it.
    inner.limits.requests = outer.limits.requests;
    inner.limits.connections = outer.limits.connections;
    match wanted.variables {
        Variables::Shared => {
            std::mem::swap(&mut inner.slots, &mut outer.slots);
            std::mem::swap(&mut inner.subrequests.ssi.shared, &mut outer.subrequests.ssi.shared);
            inner.switches.inherit(&outer.switches);
        }
        Variables::Copied => {
            inner.slots.clone_from(&outer.slots);
            inner.switches.inherit(&outer.switches);
        }
        Variables::Own => {}
    }
    if env.config.http.charsets.has_maps() {
        inner.subrequests.charset = match outer.subrequests.is_inner() {
            true => outer.subrequests.charset.clone(),
            false => outer.response.content_type.as_deref().and_then(own_charset).unwrap_or_default().into(),
        };
    }
    inner.subrequests.ctx = wanted.ctx;
    inner.subrequests.bare = wanted.bare;
    inner.subrequests.captured = wanted.captured;
    inner.subrequests.stub = wanted.stub.map(|text| (outer.response.content_type.clone(), text));
    let request = &mut inner.request;
    request.head.clone_from(&outer.request.head);
    request.host.extend_from_slice(&outer.request.host);
    request.id = outer.request.id;
    request.is_early = outer.request.is_early;
    request.length = outer.request.length;
    request.uri = wanted.uri;
    request.args = wanted.args;
    request.uri_changed = true;
    let method = wanted.method.unwrap_or_else(|| b"GET".to_vec());
    if method != request.head.method_bytes() {
        request.method_override = Some(method);
    }
    (request.framing, request.body) = match wanted.body {
        SubrequestBody::None => (BodyFraming::None, Body::Unread),
        SubrequestBody::Bytes(bytes) => (BodyFraming::Length(bytes.len() as u64), Body::Memory(bytes)),
        SubrequestBody::Outer => match &outer.request.body {
            Body::Memory(bytes) => (BodyFraming::Length(bytes.len() as u64), Body::Memory(bytes.clone())),
            Body::File(file) => (BodyFraming::Length(file.len), Body::File(file.clone())),
            Body::Unread | Body::Streaming | Body::Discarded => (BodyFraming::None, Body::Unread),
        },
    };
    let fields = &mut request.head.headers;
    fields.remove_known(Known::TransferEncoding);
    match request.framing {
        BodyFraming::Length(len) => {
            fields.set_known(Known::ContentLength, itoa::Buffer::new().format(len).as_bytes());
        }
        _ => {
            fields.remove_known(Known::ContentLength);
        }
    }
    for (variable, value) in &wanted.set {
        if let Some(definition) = env.config.variables.definition(variable) {
            variables::assign(inner, &definition, value);
        }
    }
    inner.route.server = outer.route.server;
    inner.route.location = env.config.server(outer.route.server).scope;
    inner.route.internal = true;
    inner.route.cursor = Cursor { phase: Phase::ServerRewrite, handler: 0 };
    if wanted.again {
        stay(inner, outer);
    }
    Ok(())
}

/// Has a subrequest begin where the request around it is.
fn stay(inner: &mut Exchange, outer: &mut Exchange) {
    inner.request.uri_changed = outer.request.uri_changed;
    inner.captures.clone_from(&outer.captures);
    inner.route.location = outer.route.location;
    inner.route.rewritten = outer.route.rewritten;
    inner.route.internal = outer.route.internal;
    inner.route.cursor = Cursor { phase: Phase::Content, handler: 0 };
    inner.subrequests.slice = outer.subrequests.slice.take();
}

/// Gives back what a subrequest has shared with the request around it.
pub fn end(inner: &mut Exchange, outer: &mut Exchange, variables: Variables) {
    if variables == Variables::Shared {
        std::mem::swap(&mut inner.slots, &mut outer.slots);
        std::mem::swap(&mut inner.subrequests.ssi.shared, &mut outer.subrequests.ssi.shared);
        outer.switches.take_back(&mut inner.switches);
    }
    if let Some(slice) = inner.subrequests.slice.take() {
        outer.subrequests.slice = Some(slice);
    }
    outer.limits.join(&mut inner.limits);
    inner.script.handle = None;
    inner.switches.reset();
}

/// Makes an exchange the same request once more, where the other one has come to its upstream: what waits for that one does
/// not wait for this one (`proxy_cache_background_update`).
///
/// # Errors
/// See [`TooDeep`].
pub fn begin_again(inner: &mut Exchange, outer: &mut Exchange, env: &mut Env<'_>) -> Result<(), TooDeep> {
    let wanted = Subrequest {
        uri: outer.request.uri.clone(),
        args: outer.request.args.clone(),
        method: Some(outer.method().to_vec()),
        body: SubrequestBody::Outer,
        variables: Variables::Copied,
        again: true,
        ..Subrequest::default()
    };
    begin(inner, outer, env, wanted)
}
