//! The upstream of one request.
//!
//! Owns what a `proxy_pass` comes to at run time (ngx_http_proxy_eval, ngx_http_upstream_init_request). Must never
//! resolve a name: a host that is neither group nor address is the server's to resolve.

use super::{Destination, Pass, PassKind};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::modules::upstream::{self as groups, HostKind, Url};
use crate::template::Template;
use std::ops::Range;
use upstream::Address;

/// The destination of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a group: an index into [`crate::Config::groups`].
    Group(usize),
    /// To a group that was made at run time, of this name.
    Made(Box<[u8]>),
    /// To an address from a variable.
    Address {
        /// The address.
        address: Address,
        /// Its text in messages.
        name: String,
    },
    /// To a host whose name comes from a variable: to be resolved now, with the location's `resolver`.
    Host {
        /// Its name.
        host: String,
        /// The port of its addresses.
        port: u16,
    },
}

/// The result of [`plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The destination.
    pub target: Target,
    /// The family of its directives.
    pub(super) kind: PassKind,
    /// Whether it is spoken to over TLS.
    pub over_tls: bool,
    /// The range of the URI in the value of a `proxy_pass` with variables, if it has one.
    pub(super) uri: Option<Range<usize>>,
}

/// Works out where a request goes, and what `$proxy_host` and `$proxy_port` say.
///
/// # Errors
/// The status to answer, logged in nginx's words: 500 for a URL that makes no sense, 502 for a name that nothing
/// can resolve.
pub fn plan(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<Plan, u16> {
    let config = env.config;
    let Some(pass) = &exchange.settings(config).proxy.pass else { return Err(500) };
    let Pass { kind, host_header, port, to, over_tls, .. } = &**pass;
    match to {
        Destination::Group(group) => {
            let upstream = &mut exchange.upstream;
            upstream.proxy_host.name(|text| text.extend_from_slice(host_header));
            upstream.proxy_port.name(|text| text.extend_from_slice(port));
            Ok(Plan { target: Target::Group(*group), kind: *kind, over_tls: *over_tls, uri: None })
        }
        Destination::Evaluated(template) => evaluate(exchange, env, template, *kind),
    }
}

fn evaluate(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    template: &Template,
    kind: PassKind,
) -> Result<Plan, u16> {
    let mut text = std::mem::take(&mut exchange.upstream.pass);
    text.clear();
    template.append(exchange, env, &mut text);
    let found = match exchange.switches.take_refusal() {
        true => Err(503),
        false => read(exchange, env, &text, kind),
    };
    let found = found.map(|(target, over_tls, uri)| {
        // A query alone is one of the path `/`.
        if uri.start < uri.end && text[uri.start] == b'?' {
            text.insert(uri.start, b'/');
            return Plan { target, kind, over_tls, uri: Some(uri.start..text.len()) };
        }
        Plan { target, kind, over_tls, uri: (uri.start < uri.end).then_some(uri) }
    });
    exchange.upstream.pass = text;
    found
}

/// Reads the value of a `proxy_pass` with variables: its destination, whether that is spoken to over TLS, and the range of
/// its URI.
fn read(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    text: &[u8],
    kind: PassKind,
) -> Result<(Target, bool, Range<usize>), u16> {
    let Some((rest, over_tls, default_port)) =
        kind.without_scheme(text).filter(|(rest, ..)| !rest.is_empty())
    else {
        log_line::error(exchange, env, Level::Error, &[b"invalid URL prefix in \"", text, b"\""].concat());
        return Err(500);
    };
    let url = match Url::parse(rest, default_port, kind == PassKind::Proxy) {
        Ok(url) => url,
        Err(fault) => {
            let line = [fault.as_bytes(), b" in upstream \"", rest, b"\""].concat();
            log_line::error(exchange, env, Level::Error, &line);
            return Err(500);
        }
    };
    let upstream = &mut exchange.upstream;
    upstream.proxy_host.name(|text| url.append_host_header(text));
    upstream.proxy_port.name(|text| text.extend_from_slice(url.shown_port()));
    let uri = text.len() - url.uri.len()..text.len();
    if let Some(group) = groups::block(env.config, &url) {
        return Ok((Target::Group(group), over_tls, uri));
    }
    if url.has_no_port() {
        if groups::made(exchange, env.host, url.host).is_some() {
            return Ok((Target::Made(url.host.into()), over_tls, uri));
        }
        if let Some(switch) = switch_to(exchange, env, url.host) {
            let line = [
                b"no upstream \"",
                url.host,
                b"\": the switch \"",
                switch,
                b"\" routes there; switch its keys to a group that exists",
            ];
            log_line::error(exchange, env, Level::Error, &line.concat());
            return Err(502);
        }
    }
    if let Some(group) = groups::implied(env.config, &url) {
        return Ok((Target::Group(group), over_tls, uri));
    }
    if url.port == 0 && url.kind != HostKind::Unix {
        let line = [b"no port in upstream \"", url.host, b"\""].concat();
        log_line::error(exchange, env, Level::Error, &line);
        return Err(500);
    }
    if let Some(address) = url.address() {
        let name = address.to_string();
        return Ok((Target::Address { address, name }, over_tls, uri));
    }
    debug_assert_eq!(url.kind, HostKind::Name);
    if exchange.settings(env.config).core.resolver.is_none() {
        log_line::error(
            exchange,
            env,
            Level::Error,
            &[b"no resolver defined to resolve ", url.host].concat(),
        );
        return Err(502);
    }
    let host = String::from_utf8_lossy(url.host).into_owned();
    Ok((Target::Host { host, port: url.port }, over_tls, uri))
}

/// Returns the switch that has sent the request to this name: it means a group, and never a host to resolve.
fn switch_to<'c>(exchange: &Exchange, env: &Env<'c>, name: &[u8]) -> Option<&'c [u8]> {
    let mut choices = exchange.switches.choices().iter();
    let choice = choices.find(|choice| choice.target.as_bytes().eq_ignore_ascii_case(name))?;
    let config = env.config;
    Some(config.switches.get(usize::from(choice.switch))?.rules.name.as_bytes())
}

/// Says which peer the request is with, for the error log: `upstream: "http://127.0.0.1:8081/uri"`. `address` is
/// the peer's as it is shown, or the group's name when there is no peer. To be called after
/// [`super::request_head`], for each try.
pub fn upstream_url(exchange: &mut Exchange, plan: &Plan, address: &str) {
    let crate::exchange::UpstreamRecord { url, uri, .. } = &mut exchange.upstream;
    url.clear();
    url.extend_from_slice(plan.kind.row().schemes[usize::from(plan.over_tls)].0);
    url.extend_from_slice(address.as_bytes());
    if address.starts_with("unix:") {
        url.push(b':');
    }
    if plan.kind.gateway().is_none() {
        url.extend_from_slice(uri);
    }
}
