//! The client's address behind a balancer (ngx_http_realip_module).
//!
//! Owns whose word about the client's address is taken, and where the address of the connection itself is kept meanwhile.
//! The changed address is the connection's for everything that comes later in the request, and ends with it.

pub(crate) mod record;

use super::map::networks::Network;
use super::{Module, forwarded};
use crate::config::{Builder, once};
use crate::directive::{Args, Contexts, Directive};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::{Phase, Verdict};
use crate::setting::settings;
use crate::variables::write;
use conf::{Diagnostic, Word};
use http::Known;
use std::net::{IpAddr, SocketAddr};

/// A proxy whose word is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxy {
    /// Clients of unix sockets.
    Unix,
    /// An address or a network.
    Network(Network),
}

impl Proxy {
    fn is(self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Proxy::Unix, None) => true,
            (Proxy::Network(network), Some(address)) => network.holds(address),
            _ => false,
        }
    }
}

/// Where a proxy names the client.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// In the first field of this name.
    Field(Box<[u8]>),
    /// In all fields X-Forwarded-For.
    ForwardedFor,
    /// In the connection's PROXY protocol header.
    ProxyProtocol,
}

settings! {
    /// Settings of one level.
    pub struct RealIpSettings {
        /// `set_real_ip_from`.
        from: Vec<Proxy> = Vec::new(),
        /// `real_ip_header`.
        source: Source = Source::Field(Known::XRealIp.name().as_bytes().into()),
        /// `real_ip_recursive`.
        recursive: bool = false,
    }
}

/// The module. Before anything is decided the settings of the server count, then those of the location.
pub static MODULE: Module = Module {
    handlers: &[(Phase::PostRead, handle), (Phase::PreAccess, handle)],
    is_needed: Some(|_, settings| !settings.realip.from.is_empty()),
    ..Module::new("realip", &[DIRECTIVES])
};

const DIRECTIVES: &[Directive] = &[
    Directive::new(
        "set_real_ip_from",
        Contexts::HSL,
        Args::Exactly(1),
        "address | CIDR | hostname | unix:",
        set_real_ip_from,
    )
    .doc(
        "A proxy that is trusted to name the client: an address, a network, a host (all its addresses when the \
         configuration is loaded), or `unix:` for all UNIX-domain sockets.",
    )
    .example("set_real_ip_from 10.0.0.0/8;"),
    Directive::new(
        "real_ip_header",
        Contexts::HSL,
        Args::Exactly(1),
        "field | X-Real-IP | X-Forwarded-For | proxy_protocol",
        real_ip_header,
    )
    .default("X-Real-IP")
    .doc(
        "Where a trusted proxy names the client: in a field, whose last address counts, or with `proxy_protocol` in \
         the connection's header (`listen … proxy_protocol`). A port given with the address sets $remote_port.",
    )
    .example("real_ip_header X-Forwarded-For;"),
    Directive::flag("real_ip_recursive", Contexts::HSL, |b| &mut b.settings().realip.recursive)
        .default("off")
        .doc(
            "Whether addresses of trusted proxies are skipped, from the last one backwards, to find the client's.",
        )
        .example("real_ip_recursive on;"),
];

fn set_real_ip_from(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let proxies = match (&**word.text(), Network::parse(word.text())) {
        (b"unix:", _) => vec![Proxy::Unix],
        (_, Some((network, low_bits))) => {
            if low_bits {
                let text = format!("low address bits of {} are meaningless", word.text());
                b.diagnostics.push(Diagnostic::warn(word.span, text));
            }
            vec![Proxy::Network(network)]
        }
        (_, None) => addresses(b, word)?,
    };
    for proxy in proxies {
        b.settings().realip.from.push(proxy);
    }
    Ok(())
}

/// Returns the addresses that a host has now.
fn addresses(b: &Builder<'_>, word: &Word) -> Result<Vec<Proxy>, Diagnostic> {
    let found = b.inputs.names.lookup(word.str()?, 0).map_err(|reason| {
        let text = format!("host not found in set_real_ip_from \"{}\"", word.text());
        Diagnostic::error(word.span, text)
            .label(reason)
            .help("an address, a network (10.0.0.0/8), a host or unix:")
    })?;
    Ok(found.into_iter().map(|address| Proxy::Network(Network::of(address.ip()))).collect())
}

fn real_ip_header(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let source = match &**d.args[0].text() {
        b"proxy_protocol" => Source::ProxyProtocol,
        name if name.eq_ignore_ascii_case(b"X-Forwarded-For") => Source::ForwardedFor,
        name => Source::Field(name.into()),
    };
    once(b.settings().realip.source.write(source), d)
}

fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let settings = &exchange.settings(env.config).realip;
    if settings.from.is_empty() || exchange.realip.is_changed() {
        return Verdict::Next;
    }
    let (connection, headers) = (&exchange.connection, &exchange.request.head.headers);
    let peer = connection.remote;
    let is_trusted = |address| settings.from.iter().any(|proxy| proxy.is(address));
    let recursive = *settings.recursive;
    let client = match &*settings.source {
        Source::Field(name) => forwarded::client(peer, headers.find(name).into_iter(), recursive, is_trusted),
        Source::ForwardedFor => {
            forwarded::client(peer, headers.get_all(Known::XForwardedFor), recursive, is_trusted)
        }
        Source::ProxyProtocol => {
            let mut text = std::mem::take(&mut exchange.scratch);
            let source = connection.proxy_header().map(|header| {
                write::proxy_address(&header.source.address, &mut text);
                &text[..]
            });
            let client = forwarded::client(peer, source.into_iter(), recursive, is_trusted);
            let port = connection.proxy_header().map_or(0, |header| header.source.port);
            text.clear();
            exchange.scratch = text;
            client.map(|client| SocketAddr::new(client.ip(), port))
        }
    };
    if client.is_some() {
        exchange.realip.change(&mut exchange.connection, client);
    }
    Verdict::Next
}
