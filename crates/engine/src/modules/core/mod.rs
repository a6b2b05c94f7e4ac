//! http, server and location themselves: what holds for every request whatever serves it.

mod blocks;
mod directives;
mod limits;
mod listen;
mod rate;

pub(crate) use blocks::add_scope;
pub(crate) use directives::read_resolver;
pub use rate::{Amount, limit_rate, limit_rate_after, settle_rates};

use super::{Handler, Module, PhaseRun};
use crate::config::{self, Config};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::phase::{self, Phase, Verdict};
use crate::setting::settings;
use crate::template::Template;
use crate::variables::Definition;
use std::net::SocketAddr;

/// The contents of the `Server` field and of the error pages' foot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTokens {
    /// Name and version.
    #[default]
    On,
    /// The name alone.
    Off,
}

/// The time for which a client's connection stays open for a next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The longest idle time, in ms; 0 closes after each response.
    pub timeout_ms: u64,
    /// The value of `Keep-Alive: timeout=`, in seconds, if the field is sent.
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

settings! {
    /// A client's connection between requests.
    pub struct KeepaliveSettings {
        /// `keepalive_timeout`.
        pub idle: Keepalive = Keepalive { timeout_ms: 75_000, header_s: None },
        /// `keepalive_disable`: browsers without it.
        pub disable: KeepaliveDisable = KeepaliveDisable { msie6: true, safari: false },
        /// `keepalive_requests`: requests on one connection.
        pub requests: u64 = 1000,
        /// `keepalive_min_timeout`: how long it is not closed for any reason but the client's, in ms.
        pub min_ms: u64 = 0,
        /// `keepalive_time`: the longest a connection may be used, in ms.
        pub time_ms: u64 = 3_600_000,
    }
}

settings! {
    /// HTTP/2 to clients.
    pub struct Http2Settings {
        /// `http2`.
        pub enabled: bool = false,
        /// `http2_max_concurrent_streams`.
        pub max_streams: u64 = 128,
        /// `http2_body_preread_size`: bytes of a body that may come before it is asked for.
        pub preread_size: u64 = 64 << 10,
        /// `http2_chunk_size`: the most bytes of a body in one frame.
        pub chunk_size: u64 = 8 << 10,
    }
}

/// The way to close a connection while the client still sends.
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

settings! {
    /// The request body.
    pub struct BodySettings {
        /// The largest body in bytes; 0 is without limit.
        pub max_size: u64 = 1 << 20,
        /// The most of it that is kept in memory; the rest goes to a file.
        pub buffer_size: u64 = 16 << 10,
        /// The longest silence between two reads, in ms.
        pub timeout_ms: u64 = 60_000,
        /// Always to a file.
        pub in_file_only: InFileOnly = InFileOnly::Off,
        /// In one piece of memory: for scripts.
        pub in_single_buffer: bool = false,
    }
}

settings! {
    /// The client's connection while it is answered.
    pub struct SendSettings {
        /// The longest silence between two writes, in ms.
        pub timeout_ms: u64 = 60_000,
        /// Bytes a second, 0 without limit (`limit_rate`).
        pub limit_rate: Amount = Amount::Fixed(0),
        /// Bytes before `limit_rate` begins.
        pub limit_rate_after: Amount = Amount::Fixed(0),
        /// TCP_NODELAY.
        pub tcp_nodelay: bool = true,
        /// TCP_CORK around file bodies.
        pub tcp_nopush: bool = false,
        /// Send a small answer only when so many bytes are there.
        pub postpone_output: u64 = 1460,
        /// The most that one sendfile(2) sends; 0 is without limit.
        pub sendfile_max_chunk: u64 = 2 << 20,
        /// Reset a connection that timed out.
        pub reset_timedout: bool = false,
        /// The way to close.
        pub lingering_close: LingeringClose = LingeringClose::On,
        /// For how long at most to read on, in ms.
        pub lingering_time_ms: u64 = 30_000,
        /// For how long to wait for more to read on, in ms.
        pub lingering_timeout_ms: u64 = 5_000,
        /// `early_hints`: if any of these is set, an upstream's hints are passed on.
        pub early_hints: Vec<Template> = Vec::new(),
    }
}

/// Host names at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

settings! {
    /// Settings of one level.
    pub struct CoreSettings {
        /// The contents of the `Server` field.
        pub server_tokens: ServerTokens = ServerTokens::On,
        /// Chunks for HTTP/1.1 clients when the length is not known.
        pub chunked_transfer_encoding: bool = true,
        /// `Location` with scheme and host.
        pub absolute_redirect: bool = true,
        /// `log_subrequest`.
        pub log_subrequest: bool = false,
        /// The host in it is the server's first name.
        pub server_name_in_redirect: bool = false,
        /// The port is in it.
        pub port_in_redirect: bool = true,
        /// Name servers.
        pub resolver: Option<Resolver> = None,
        /// The longest time for a name, in ms.
        pub resolver_timeout_ms: u64 = 30_000,
    }
    nested {
        /// Keep-alive of clients.
        pub keepalive: KeepaliveSettings,
        /// Request bodies.
        pub body: BodySettings,
        /// Sending.
        pub send: SendSettings,
        /// Request heads; those of the default server of an address.
        pub head: limits::HeadSettings,
        /// HTTP/2 to clients.
        pub http2: Http2Settings,
    }
    not inherited {
        /// The handler that serves the location, if it is not files.
        pub content: Option<Handler> = None,
        /// Only for internal redirects.
        pub internal: bool = false,
        /// A name of a prefix location that ends in `/` and is served by a proxy: the name without it is redirected.
        pub auto_redirect: bool = false,
    }
}

/// The server's name for itself.
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
    /// Returns the identity with a name and a version.
    pub fn new(name: &str, version: &str) -> Identity {
        Identity { full: format!("{name}/{version}"), bare: name.to_owned() }
    }

    /// Returns the text of the `Server` field and of the error pages' foot.
    pub fn header(&self, tokens: ServerTokens) -> &str {
        match tokens {
            ServerTokens::On => &self.full,
            ServerTokens::Off => &self.bare,
        }
    }
}

settings! {
    /// Settings of the whole of `http`.
    pub struct HttpSettings {
        /// The directory for request bodies that do not fit in memory; `None` is the default.
        pub client_body_temp_path: Option<std::path::PathBuf> = None,
    }
    not a setting {
        /// The server's name for itself.
        pub identity: Identity = Identity::default(),
        /// When the certificates in files expire; found out by the crate `tls`.
        pub certificates: Vec<super::ssl::CertificateExpiry> = Vec::new(),
        /// Certificates that are ordered.
        pub acme: super::acme::AcmeSettings = super::acme::AcmeSettings::default(),
        /// The checks of servers.
        pub health: super::health_check::HealthSettings = super::health_check::HealthSettings::default(),
        /// The zones of `proxy_cache` and its like.
        pub caches: super::proxy::cache::CacheZones = super::proxy::cache::CacheZones::default(),
        /// How many `open_file_cache` there are.
        pub open_file_caches: usize = 0,
        /// The charsets that are named, and the maps between them.
        pub charsets: super::charset::Charsets = super::charset::Charsets::default(),
        /// There is an `http` block.
        pub present: bool = false,
    }
}

impl HttpSettings {
    /// Returns when the servers' certificates expire, those of files and those that ACME has issued.
    pub fn expiries(&self) -> Vec<super::ssl::CertificateExpiry> {
        let issued = self.acme.certificates.iter().filter_map(|wanted| self.acme.live.expiry(&wanted.id));
        self.certificates.iter().cloned().chain(issued).collect()
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::Content, content)],
    checkers: &[(Phase::FindLocation, find_location)],
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
    match *exchange.settings(env.config).core.content {
        Some(handler) => handler(exchange, env),
        None => Verdict::Next,
    }
}

/// Chooses the server: by the listener, the local address, and the host the client named.
pub fn choose_server(exchange: &mut Exchange, env: &mut Env<'_>) {
    let config = env.config;
    let Some(listener) = config.listeners.get(exchange.connection.listener) else { return };
    let servers = listener.servers_at(exchange.connection.local);
    exchange.route.server = servers.default;
    if !servers.names.is_empty() {
        match servers.names.find(&exchange.request.host, &mut exchange.captures) {
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

/// Sets the variables that a regular expression's named groups define.
pub fn keep_named_captures(exchange: &mut Exchange, config: &Config, regex: &crate::regex::Regex) {
    for (group, name) in regex.names() {
        let Some(id) = config.variables.find(&name.to_ascii_lowercase()) else { continue };
        if let Definition::Slot(slot) = config.variables.entry(id).definition {
            let Exchange { captures, slots, .. } = exchange;
            slots.set(slot, captures.group(group).unwrap_or_default());
        }
    }
}

/// Searches the location, and checks what nginx checks right after it (ngx_http_core_find_config_phase).
fn find_location(exchange: &mut Exchange, env: &mut Env<'_>, _: &PhaseRun) -> Verdict {
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
    super::settle(exchange, env);
    let location = exchange.location(config);
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
