//! http, server and location themselves: what holds for every request whatever serves it.

mod blocks;
mod directives;
mod limits;
mod listen;
mod rate;

pub(crate) use blocks::add_scope;
pub use rate::{Amount, limit_rate, limit_rate_after, settle_rates};

use super::{Module, access};
use crate::config::{self, Config};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::phase::{self, Handler, Phase, Verdict};
use crate::setting::{Setting, inherit};
use crate::variables::Definition;
use std::net::SocketAddr;

/// How much the `Server` field and the error pages say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTokens {
    /// Name and version.
    #[default]
    On,
    /// The name alone.
    Off,
}

/// How long a client's connection stays open for a next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long it may be idle, in ms; 0 closes after each answer.
    pub timeout_ms: u64,
    /// What `Keep-Alive: timeout=` tells the client, in seconds, if anything.
    pub header_s: Option<u64>,
}

/// Browsers whose connections are not kept (`keepalive_disable`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveDisable {
    /// Old versions of Internet Explorer, after a POST.
    pub msie6: bool,
    /// Safari on macOS.
    pub safari: bool,
}

/// A client's connection between requests.
#[derive(Clone, Debug)]
pub struct KeepaliveSettings {
    /// `keepalive_timeout`.
    pub idle: Setting<Keepalive>,
    /// `keepalive_disable`: browsers without it.
    pub disable: Setting<KeepaliveDisable>,
    /// `keepalive_requests`: requests on one connection.
    pub requests: Setting<u64>,
    /// `keepalive_min_timeout`: how long it is not closed for any reason but the client's, in ms.
    pub min_ms: Setting<u64>,
    /// `keepalive_time`: the longest a connection may be used, in ms.
    pub time_ms: Setting<u64>,
}

/// How a connection is closed while the client still sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LingeringClose {
    /// At once.
    Off,
    /// By reading on for a while if more may come.
    #[default]
    On,
    /// By reading on always.
    Always,
}

/// Which request bodies go to a file (`client_body_in_file_only`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFileOnly {
    /// Those that do not fit in memory.
    Off,
    /// All, and the files stay.
    On,
    /// All, and each file goes with its request.
    Clean,
}

/// The request body.
#[derive(Clone, Debug)]
pub struct BodySettings {
    /// The largest body in bytes; 0 is without limit.
    pub max_size: Setting<u64>,
    /// How much of it is kept in memory; the rest goes to a file.
    pub buffer_size: Setting<u64>,
    /// The longest silence between two reads, in ms.
    pub timeout_ms: Setting<u64>,
    /// Always to a file.
    pub in_file_only: Setting<InFileOnly>,
    /// In one piece of memory: for scripts.
    pub in_single_buffer: Setting<bool>,
}

/// The client's connection while it is answered.
#[derive(Clone, Debug)]
pub struct SendSettings {
    /// The longest silence between two writes, in ms.
    pub timeout_ms: Setting<u64>,
    /// Bytes a second, 0 without limit (`limit_rate`).
    pub limit_rate: Setting<Amount>,
    /// Bytes before `limit_rate` begins.
    pub limit_rate_after: Setting<Amount>,
    /// TCP_NODELAY.
    pub tcp_nodelay: Setting<bool>,
    /// TCP_CORK around file bodies.
    pub tcp_nopush: Setting<bool>,
    /// Send a small answer only when so many bytes are there.
    pub postpone_output: Setting<u64>,
    /// The most that one sendfile(2) sends; 0 is without limit.
    pub sendfile_max_chunk: Setting<u64>,
    /// Reset a connection that timed out.
    pub reset_timedout: Setting<bool>,
    /// How to close.
    pub lingering_close: Setting<LingeringClose>,
    /// For how long at most to read on, in ms.
    pub lingering_time_ms: Setting<u64>,
    /// For how long to wait for more to read on, in ms.
    pub lingering_timeout_ms: Setting<u64>,
}

/// Host names at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Name servers.
    pub servers: Vec<SocketAddr>,
    /// Holds answers so long whatever they say, in ms.
    pub valid_ms: Option<u64>,
    /// Ask for IPv4 addresses.
    pub ipv4: bool,
    /// Ask for IPv6 addresses.
    pub ipv6: bool,
}

/// What is set at one level.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What serves the location, if it is not files.
    pub content: Setting<Option<Handler>>,
    /// Only for internal redirects.
    pub internal: Setting<bool>,
    /// Keep-alive of clients.
    pub keepalive: KeepaliveSettings,
    /// What the `Server` field says.
    pub server_tokens: Setting<ServerTokens>,
    /// Chunks for HTTP/1.1 clients when the length is not known.
    pub chunked_transfer_encoding: Setting<bool>,
    /// `Location` with scheme and host.
    pub absolute_redirect: Setting<bool>,
    /// The host in it is the server's first name.
    pub server_name_in_redirect: Setting<bool>,
    /// The port is in it.
    pub port_in_redirect: Setting<bool>,
    /// Request bodies.
    pub body: BodySettings,
    /// Sending.
    pub send: SendSettings,
    /// Name servers.
    pub resolver: Setting<Option<Resolver>>,
    /// How long a name may take, in ms.
    pub resolver_timeout_ms: Setting<u64>,
    /// A name of a prefix location that ends in `/` and is served by a proxy: the name without it is redirected.
    pub auto_redirect: Setting<bool>,
    /// What is set for request heads; of the default server of an address.
    pub head: limits::HeadSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            content: Setting::new(None),
            internal: Setting::new(false),
            keepalive: KeepaliveSettings {
                idle: Setting::new(Keepalive { timeout_ms: 75_000, header_s: None }),
                disable: Setting::new(KeepaliveDisable { msie6: true, safari: false }),
                requests: Setting::new(1000),
                min_ms: Setting::new(0),
                time_ms: Setting::new(3_600_000),
            },
            server_tokens: Setting::new(ServerTokens::On),
            chunked_transfer_encoding: Setting::new(true),
            absolute_redirect: Setting::new(true),
            server_name_in_redirect: Setting::new(false),
            port_in_redirect: Setting::new(true),
            body: BodySettings {
                max_size: Setting::new(1 << 20),
                buffer_size: Setting::new(16 << 10),
                timeout_ms: Setting::new(60_000),
                in_file_only: Setting::new(InFileOnly::Off),
                in_single_buffer: Setting::new(false),
            },
            send: SendSettings {
                timeout_ms: Setting::new(60_000),
                limit_rate: Setting::new(Amount::Fixed(0)),
                limit_rate_after: Setting::new(Amount::Fixed(0)),
                tcp_nodelay: Setting::new(true),
                tcp_nopush: Setting::new(false),
                postpone_output: Setting::new(1460),
                sendfile_max_chunk: Setting::new(2 << 20),
                reset_timedout: Setting::new(false),
                lingering_close: Setting::new(LingeringClose::On),
                lingering_time_ms: Setting::new(30_000),
                lingering_timeout_ms: Setting::new(5_000),
            },
            resolver: Setting::new(None),
            resolver_timeout_ms: Setting::new(30_000),
            auto_redirect: Setting::new(false),
            head: limits::HeadSettings::default(),
        }
    }
}

impl Settings {
    /// Takes what this level does not say from the one around it. What serves a location stays where it is written.
    pub fn inherit(&mut self, outer: &Settings) {
        inherit!(self, outer; server_tokens,
            chunked_transfer_encoding, absolute_redirect, server_name_in_redirect, port_in_redirect, resolver,
            resolver_timeout_ms);
        inherit!(self.keepalive, outer.keepalive; idle, disable, requests, min_ms, time_ms);
        inherit!(self.body, outer.body; max_size, buffer_size, timeout_ms, in_file_only, in_single_buffer);
        inherit!(self.send, outer.send; timeout_ms, limit_rate, limit_rate_after, tcp_nodelay, tcp_nopush,
            postpone_output, sendfile_max_chunk, reset_timedout, lingering_close, lingering_time_ms, lingering_timeout_ms);
        self.head.inherit(&outer.head);
    }
}

/// What the server calls itself.
#[derive(Clone, Debug)]
pub struct Identity {
    full: String,
    bare: String,
}

impl Default for Identity {
    fn default() -> Self {
        Identity::new("pointsman", env!("CARGO_PKG_VERSION"))
    }
}

impl Identity {
    /// A name and a version.
    pub fn new(name: &str, version: &str) -> Identity {
        Identity { full: format!("{name}/{version}"), bare: name.to_owned() }
    }

    /// What the `Server` field and the foot of an error page say.
    pub fn header(&self, tokens: ServerTokens) -> &str {
        match tokens {
            ServerTokens::On => &self.full,
            ServerTokens::Off => &self.bare,
        }
    }
}

/// What is settled once for the whole of `http`.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The server's name for itself.
    pub identity: Identity,
    /// There is an `http` block.
    pub present: bool,
    /// Where request bodies go that do not fit in memory; `None` is the default.
    pub client_body_temp_path: Setting<Option<std::path::PathBuf>>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            identity: Identity::default(),
            present: false,
            client_body_temp_path: Setting::new(None),
        }
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::Content, content)],
    finish: Some(blocks::finish),
    ..Module::new(
        "core",
        &[
            blocks::BLOCKS,
            directives::SIZES,
            directives::DIRECTIVES,
            limits::DIRECTIVES,
            listen::DIRECTIVES,
            rate::DIRECTIVES,
        ],
    )
};

/// Runs what serves the location, if something other than files does.
fn content(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    match *env.config.location(exchange.route.location).settings.core.content {
        Some(handler) => handler(exchange, env),
        None => Verdict::Next,
    }
}

/// Chooses the server: by the listener, the local address, and the host the client named.
pub fn choose_server(exchange: &mut Exchange, env: &mut Env<'_>) {
    let config = env.config;
    let Some(listener) = config.listeners.get(exchange.connection.listener) else { return };
    let exact =
        exchange.connection.local.and_then(|local| listener.exact.iter().find(|(at, ..)| *at == local));
    let (default, names) = match exact {
        Some((_, default, names)) => (*default, names),
        None => (listener.default_server, &listener.names),
    };
    exchange.route.server = default;
    if !names.is_empty() {
        match names.find(&exchange.request.host, &mut exchange.captures) {
            Ok(Some((server, regex))) => {
                exchange.route.server = server;
                if let Some(regex) = regex {
                    keep_named_captures(exchange, config, regex);
                }
            }
            Ok(None) => {}
            Err(_) => {
                log_line::error(exchange, env, Level::Alert, b"a server name's regular expression gave up")
            }
        }
    }
    exchange.route.location = config.server(exchange.route.server).scope;
}

/// The variables that a regular expression's named groups define take their values.
pub fn keep_named_captures(exchange: &mut Exchange, config: &Config, regex: &crate::regex::Regex) {
    for (group, name) in regex.names() {
        let Some(id) = config.variables.find(&name.to_ascii_lowercase()) else { continue };
        if let Definition::Slot(slot) = config.variables.entry(id).definition {
            let Exchange { captures, slots, .. } = exchange;
            slots.set(slot, captures.group(group).unwrap_or_default());
        }
    }
}

/// The search for the location, and what nginx checks right after it.
pub fn find_location(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let config = env.config;
    let scope = config.server(exchange.route.server).scope;
    let Exchange { request, captures, .. } = &mut *exchange;
    let found = config::find_location(config, &config.location(scope).inner, &request.uri, captures);
    let id = match found {
        Ok(id) => id.unwrap_or(scope),
        Err(_) => {
            log_line::error(exchange, env, Level::Alert, b"a location's regular expression gave up");
            return Verdict::Refuse(500);
        }
    };
    phase::enter(exchange, id);
    let location = config.location(id);
    if let Some(regex) = &location.regex {
        keep_named_captures(exchange, config, regex);
    }
    if *location.settings.core.internal && !exchange.route.internal {
        return Verdict::Refuse(404);
    }
    if location.name != exchange.request.uri
        && config.server(exchange.route.server).auto_redirects.contains(exchange.request.uri.as_slice())
    {
        exchange.response.location = Some(with_slash(exchange));
        return Verdict::Refuse(301);
    }
    access::limit_except::apply(exchange, env);
    let location = config.location(exchange.route.location);
    let limit = *location.settings.core.body.max_size;
    if limit > 0
        && !exchange.route.internal
        && let http::BodyFraming::Length(len) = exchange.request.framing
        && len > limit
    {
        let text = format!("client intended to send too large body: {len} bytes");
        log_line::error(exchange, env, Level::Error, text.as_bytes());
        return Verdict::Refuse(413);
    }
    Verdict::NextPhase
}

/// `location /a/ { proxy_pass … }` answers `/a` with a redirect to `/a/` (ngx_http_core_module, "location").
fn with_slash(exchange: &Exchange) -> Vec<u8> {
    let mut to = Vec::new();
    http::escape::escape(http::escape::Escape::Uri, &exchange.request.uri, &mut to);
    to.push(b'/');
    if !exchange.request.args.is_empty() {
        to.push(b'?');
        to.extend_from_slice(&exchange.request.args);
    }
    to
}
