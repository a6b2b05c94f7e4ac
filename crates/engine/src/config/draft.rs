//! The configuration while it is being written: what directives put down, before the whole text is known.

use super::ids::LogId;
use super::{ListenAddress, ListenOptions, Modifier, Settings};
use crate::directive::Contexts;
use crate::modules::{
    self,
    log::{LogFile, LogFormat, LogTarget},
    lua,
    map::Computed,
    upstream::GroupEntry,
};
use crate::regex::Regex;
use crate::variables;
use conf::Span;
use std::path::Path;
use std::sync::Arc;

/// The configuration while it is being written.
#[derive(Debug)]
pub struct Draft {
    /// The process.
    pub main: modules::process::MainSettings,
    /// The control plane.
    pub control: modules::control::ControlSettings,
    /// The http level's own.
    pub http: modules::core::HttpSettings,
    /// All scopes; the first is http's own, and each comes after the one around it.
    pub scopes: Vec<Scope>,
    /// The http level's part of TLS.
    pub ssl: modules::ssl::SslSettings,
    /// All servers.
    pub servers: Vec<ServerDraft>,
    /// All `listen`s.
    pub listens: Vec<ListenDraft>,
    /// All upstream groups.
    pub groups: Vec<GroupEntry>,
    /// All variables.
    pub variables: variables::VariableTable,
    /// The variables of `map`, `geo`, `split_clients` and `switch`.
    pub computed: Vec<Computed>,
    /// Switches as they are written.
    pub switch_blocks: Vec<modules::switch::SwitchDraft>,
    /// Switches whose targets are known.
    pub switches: Vec<modules::switch::SwitchSpec>,
    /// All Lua.
    pub lua: lua::Program,
    /// The zones of `limit_req` and `limit_conn`.
    pub limits: modules::limit_zone::Limits,
    /// Log destinations, each once.
    pub logs: Vec<LogFile>,
    /// Log formats.
    pub formats: Vec<Arc<LogFormat>>,
}

impl Draft {
    /// Returns nothing said yet, with the defaults that lie under the prefix.
    pub(super) fn new(prefix: &Path) -> Draft {
        let http = Scope {
            name: Vec::new(),
            modifier: Modifier::Unnamed,
            regex: None,
            settings: Settings::default(),
            parent: None,
            server: None,
            context: Contexts::HTTP,
            span: None,
        };
        Draft {
            main: Default::default(),
            control: modules::control::ControlSettings::new(prefix),
            http: Default::default(),
            scopes: vec![http],
            ssl: Default::default(),
            servers: Vec::new(),
            listens: Vec::new(),
            groups: Vec::new(),
            variables: Default::default(),
            computed: Vec::new(),
            switch_blocks: Vec::new(),
            switches: Vec::new(),
            lua: Default::default(),
            limits: Default::default(),
            logs: Vec::new(),
            formats: Vec::new(),
        }
    }

    /// Returns the number of a log destination; the same destination has the same number.
    pub fn log(&mut self, target: LogTarget) -> LogId {
        let known = self.logs.iter().position(|log| log.target == target);
        LogId(known.unwrap_or_else(|| {
            self.logs.push(LogFile { target, buffer: None });
            self.logs.len() - 1
        }) as u32)
    }
}

/// A level that has settings: http, a server, a location, an `if`.
#[derive(Debug)]
pub struct Scope {
    /// The location's name as written.
    pub name: Vec<u8>,
    /// The way in which it is matched.
    pub modifier: Modifier,
    /// The compiled name, if it is a regular expression.
    pub regex: Option<Regex>,
    /// The settings of this level.
    pub settings: Settings,
    /// The level around this one.
    pub parent: Option<usize>,
    /// The server it belongs to.
    pub server: Option<usize>,
    /// Its context.
    pub context: Contexts,
    /// The span of its directive.
    pub span: Option<Span>,
}

/// A server while it is being written.
#[derive(Debug, Default)]
pub struct ServerDraft {
    /// Its scope.
    pub scope: usize,
    /// Its names as written, with their places.
    pub names: Vec<(Vec<u8>, Span)>,
    /// Its part of TLS.
    pub ssl: modules::ssl::SslSettings,
}

/// One `listen`.
#[derive(Debug)]
pub struct ListenDraft {
    /// The server.
    pub server: usize,
    /// The address.
    pub address: ListenAddress,
    /// The options, if it sets any: only one server may set those of an address.
    pub options: Option<ListenOptions>,
    /// `default_server`.
    pub default_server: bool,
    /// `proxy_protocol`.
    pub proxy_protocol: bool,
    /// `ssl`.
    pub ssl: bool,
    /// `http2`.
    pub http2: bool,
    /// `bind`, or an option that implies it: a socket of its own beside the wildcard's.
    pub own_socket: bool,
    /// The span of its directive.
    pub span: Span,
}
