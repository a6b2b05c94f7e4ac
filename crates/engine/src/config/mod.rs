//! The configuration: immutable, typed, built once from text.
//!
//! [`build`] turns the parsed text into a [`Config`] or into every fault it has. While a request is served nothing
//! is looked up by a string that could have been looked up here.

mod build;
mod builder;
mod draft;
mod explain;
mod finish;
pub(crate) mod ids;
mod listen;
mod locations;
mod names;

pub use build::{build, directives};
pub use builder::{
    Builder, Inputs, NameLookup, NoNames, invalid_choice, invalid_parameter, invalid_value, number, once,
    variable_name,
};
pub use draft::{Draft, ListenDraft, Scope, ServerDraft};
pub use explain::{Explained, Meaning, explain, no_effect_reason};
pub use ids::{LocationId, LogId, ServerId};
pub use listen::{AddressServers, ListenAddress, ListenOptions, Listener};
pub use locations::{LocationTable, Modifier, find as find_location};
pub use names::{NameMatch, ServerNames};

use crate::modules;
use crate::regex::Regex;
use crate::variables;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// The settings of every module at one level.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `allow`, `deny`, `satisfy`, `limit_except`.
    pub access: modules::access::AccessSettings,
    /// Who is let in by more than an address.
    pub auth: AuthSettings,
    /// Limits, timeouts, connection handling.
    pub core: modules::core::CoreSettings,
    /// Error pages.
    pub error_page: modules::error_page::ErrorPageSettings,
    /// Files to serve.
    pub static_files: modules::static_files::FileSettings,
    /// `add_header`, `expires`.
    pub headers: modules::headers::HeaderSettings,
    /// `limit_conn` and `limit_req`.
    pub limits: LimitSettings,
    /// Logs.
    pub log: modules::log::LogSettings,
    /// Lua blocks.
    pub lua: modules::lua::LuaSettings,
    /// `grpc_…`, `fastcgi_…` and the like; once the levels have inherited theirs, in `proxy` where they serve a location.
    pub families: modules::proxy::Families,
    /// Proxying.
    pub proxy: modules::proxy::ProxySettings,
    /// `set_real_ip_from`.
    pub realip: modules::realip::RealIpSettings,
    /// `valid_referers`.
    pub referer: modules::referer::RefererSettings,
    /// Settings of filters that change bodies on their way out.
    pub filters: FilterSettings,
    /// `rewrite`, `set`, `if`, `return`.
    pub rewrite: modules::rewrite::RewriteSettings,
    /// Settings of the phase right before the content.
    pub precontent: PreContentSettings,
}

impl Settings {
    /// Takes from the level around this one what this one does not say.
    pub fn inherit(&mut self, outer: &Settings) {
        self.access.inherit(&outer.access);
        self.auth.basic.inherit(&outer.auth.basic);
        self.auth.request.inherit(&outer.auth.request);
        self.auth.secure_link.inherit(&outer.auth.secure_link);
        self.core.inherit(&outer.core);
        self.error_page.inherit(&outer.error_page);
        self.static_files.inherit(&outer.static_files);
        self.filters.inherit(&outer.filters);
        self.headers.inherit(&outer.headers);
        self.headers.inherit_lists(&outer.headers);
        self.limits.conn.inherit(&outer.limits.conn);
        self.limits.req.inherit(&outer.limits.req);
        self.log.inherit(&outer.log);
        self.lua.inherit(&outer.lua);
        self.precontent.mirror.inherit(&outer.precontent.mirror);
        self.families.inherit(&outer.families);
        self.proxy.inherit(&outer.proxy);
        self.realip.inherit(&outer.realip);
        self.referer.inherit_lists(&outer.referer);
        self.rewrite.inherit(&outer.rewrite);
    }
}

/// The settings of who is let in by more than an address.
#[derive(Clone, Debug, Default)]
pub struct AuthSettings {
    /// `auth_basic`.
    pub basic: modules::auth_basic::AuthBasicSettings,
    /// `auth_request`.
    pub request: modules::auth_request::AuthRequestSettings,
    /// `secure_link`.
    pub secure_link: modules::secure_link::SecureLinkSettings,
}

/// The settings of what happens right before the answer.
#[derive(Clone, Debug, Default)]
pub struct PreContentSettings {
    /// `mirror`.
    pub mirror: modules::mirror::MirrorSettings,
    /// `try_files`, which is not inherited.
    pub try_files: modules::try_files::TryFilesSettings,
}

/// The settings of limits.
#[derive(Clone, Debug, Default)]
pub struct LimitSettings {
    /// `limit_conn`.
    pub conn: modules::limit_conn::LimitConnSettings,
    /// `limit_req`.
    pub req: modules::limit_req::LimitReqSettings,
}

/// The settings of filters.
#[derive(Clone, Debug, Default)]
pub struct FilterSettings {
    /// `add_before_body` and `add_after_body`.
    pub addition: modules::addition::AdditionSettings,
    /// `brotli`.
    pub brotli: modules::brotli::BrotliSettings,
    /// `charset`.
    pub charset: modules::charset::CharsetSettings,
    /// `gunzip`.
    pub gunzip: modules::gunzip::GunzipSettings,
    /// `gzip` and what goes with it.
    pub gzip: modules::gzip::GzipSettings,
    /// `more_set_headers` and the like.
    pub headers_more: modules::headers_more::HeadersMoreSettings,
    /// `slice`.
    pub slice: modules::slice::SliceSettings,
    /// `ssi`.
    pub ssi: modules::ssi::SsiSettings,
    /// `sub_filter`.
    pub sub: modules::sub_filter::SubFilterSettings,
    /// `userid`.
    pub userid: modules::userid::UserIdSettings,
    /// `zstd`.
    pub zstd: modules::zstd::ZstdSettings,
}

impl FilterSettings {
    fn inherit(&mut self, outer: &FilterSettings) {
        self.addition.inherit(&outer.addition);
        self.brotli.inherit(&outer.brotli);
        self.charset.inherit(&outer.charset);
        self.gunzip.inherit(&outer.gunzip);
        self.gzip.inherit(&outer.gzip);
        self.headers_more.inherit_commands(&outer.headers_more);
        self.slice.inherit(&outer.slice);
        self.ssi.inherit(&outer.ssi);
        self.sub.inherit(&outer.sub);
        self.userid.inherit(&outer.userid);
        self.zstd.inherit(&outer.zstd);
    }
}

/// A location, or a server's own scope.
#[derive(Debug)]
pub struct Location {
    /// The name as written: a prefix, a regular expression, `@name`; empty for a server's scope.
    pub name: Vec<u8>,
    /// The way in which the name is matched.
    pub modifier: Modifier,
    /// The compiled name, if it is a regular expression.
    pub regex: Option<Regex>,
    /// The settings.
    pub settings: Settings,
    /// The modules that have something to do for its requests.
    pub modules: modules::ModuleSet,
    /// The locations inside this one.
    pub inner: LocationTable,
}

/// A `server {}`.
#[derive(Debug)]
pub struct Server {
    /// Its own scope: the settings before a location is found.
    pub scope: LocationId,
    /// The names, in the order they are written.
    pub names: Vec<Vec<u8>>,
    /// `location @name`.
    pub named: Vec<(Vec<u8>, LocationId)>,
    /// TLS.
    pub ssl: modules::ssl::SslSettings,
    /// URIs that lack just the `/` of a proxied location's name: they are redirected to it.
    pub auto_redirects: HashSet<Box<[u8]>, foldhash::fast::RandomState>,
}

impl Server {
    /// Returns a named location, by its name without `@`.
    pub fn named(&self, name: &[u8]) -> Option<LocationId> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, id)| *id)
    }

    /// Returns `$server_name`: the first name, or nothing.
    pub fn first_name(&self) -> &[u8] {
        self.names.first().map_or(b"", |name| name)
    }
}

impl Config {
    /// Returns whether connections to an address may be HTTP/2, if this server is the one that answers them first.
    pub fn speaks_http2(&self, servers: &AddressServers, server: ServerId) -> bool {
        servers.http2 || *self.location(self.server(server).scope).settings.core.http2.enabled
    }
}

/// The whole configuration of one generation.
#[derive(Debug)]
pub struct Config {
    /// The base of relative paths (`-p`).
    pub prefix: PathBuf,
    /// The configuration file.
    pub file: PathBuf,
    /// The process: users, logs, workers.
    pub main: modules::process::MainSettings,
    /// The control plane: its socket and who may come in.
    pub control: modules::control::ControlSettings,
    /// The http level's own: what is not settled per location.
    pub http: modules::core::HttpSettings,
    /// All sockets to listen on.
    pub listeners: Vec<Listener>,
    /// All servers.
    pub servers: Vec<Server>,
    /// All locations of all servers.
    pub locations: Vec<Location>,
    /// All upstream groups, the ones that `proxy_pass http://host` implies included.
    pub groups: Vec<modules::upstream::GroupEntry>,
    /// The groups' numbers by their keys ([`modules::upstream::GroupEntry::key`]), for `proxy_pass` with variables.
    pub group_numbers: HashMap<Box<[u8]>, usize>,
    /// All variables.
    pub variables: variables::VariableTable,
    /// The variables of `map`, `geo`, `split_clients` and `switch`.
    pub computed: Vec<modules::map::Computed>,
    /// All switches, in the order of the text.
    pub switches: Vec<modules::switch::SwitchSpec>,
    /// All Lua.
    pub lua: modules::lua::Program,
    /// The zones of `limit_req` and `limit_conn`.
    pub limits: modules::limit_zone::Limits,
    /// Log destinations, each once.
    pub logs: Vec<modules::log::LogFile>,
}

impl Config {
    /// Returns a server.
    pub fn server(&self, id: ServerId) -> &Server {
        &self.servers[id.0 as usize]
    }

    /// Returns a location.
    pub fn location(&self, id: LocationId) -> &Location {
        &self.locations[id.0 as usize]
    }

    /// Returns the number of an `upstream {}` block by its name, in any case, for `proxy_pass` with variables.
    pub fn group(&self, name: &[u8]) -> Option<usize> {
        if name.iter().any(u8::is_ascii_uppercase) {
            return self.group_numbers.get(name.to_ascii_lowercase().as_slice()).copied();
        }
        self.group_numbers.get(name).copied()
    }

    /// Returns the contents of the `Server` field.
    pub fn server_header(&self, tokens: modules::core::ServerTokens) -> &str {
        self.http.identity.header(tokens)
    }
}
