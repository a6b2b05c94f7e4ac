//! `upstream {}`: groups of servers, and the groups that a `proxy_pass` without a block implies.
//!
//! Owns the names of groups and how a host comes to its group. What a group does while it serves is the crate
//! `upstream`'s; must never pick a peer.

mod directives;
mod discovery;
mod lookup;
mod url;

pub use discovery::{
    Bases, Discovery, FilePlace, FoundServer, MAX_FOUND, NamePlace, Place, Source, UrlPlace, with_params,
};
pub(crate) use lookup::{UrlDirective, url_place};
pub use url::{DEFAULT_PORT, DEFAULT_TLS_PORT, HostKind, Url};

use super::Module;
use super::lua::script::ScriptId;
use crate::Routing;
use crate::config::{Builder, Config};
use crate::exchange::Exchange;
use crate::host::{Env, Host};
use crate::probe::{CheckSpec, GroupTls};
use crate::template::Template;
use conf::{Diagnostic, Span, Word};
use directives::{GroupDraft, Zone};
use std::rc::Rc;
use std::sync::Arc;
use upstream::{Address, BalancerSpec, GroupSpec, KeepaliveSpec, PeerSpec, Ring};

/// A group of the configuration.
#[derive(Clone, Debug)]
pub struct GroupEntry {
    /// The group.
    pub spec: Arc<GroupSpec>,
    /// The text that `hash` hashes: the balancer's key for a request is this template's value.
    pub hash_key: Option<Template>,
    /// `balancer_by_lua*`: the script that chooses the peers.
    pub script: Option<ScriptId>,
    /// `balancer_keepalive`: how many idle connections each thread keeps that scripts have wanted kept.
    pub script_idle: u32,
    /// `zone`: one state for all threads.
    pub shared: bool,
    /// `adopt`: it takes over a group of this name that was made at run time.
    pub adopts: bool,
    /// The group's origin.
    pub origin: Origin,
    /// The checks of its servers.
    pub checks: Vec<CheckSpec>,
    /// How locations speak to it.
    pub tls: GroupTls,
    /// Where more servers are looked up.
    pub discovery: Discovery,
    /// The name of its block.
    span: Option<Span>,
    zone: Option<Zone>,
    /// The block's contents so far, while it is read.
    draft: Option<Box<GroupDraft>>,
}

/// The origin of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An `upstream {}` block.
    Block,
    /// A `proxy_pass` whose host is the name of no block: an address, or a host name that is resolved at load.
    Implied {
        /// The port; 0 for a UNIX-domain socket.
        port: u16,
        /// The `proxy_pass` names a port.
        has_port: bool,
        /// The address, if the host is one.
        address: Option<Address>,
        /// The span of its directive.
        span: Span,
    },
}

impl GroupEntry {
    fn new(name: &[u8], origin: Origin) -> GroupEntry {
        let spec = GroupSpec {
            name: String::from_utf8_lossy(name).into_owned(),
            peers: Vec::new(),
            balancer: BalancerSpec::default(),
            keepalive: KeepaliveSpec::OFF,
            ring: Ring::default(),
        };
        GroupEntry {
            spec: Arc::new(spec),
            hash_key: None,
            script: None,
            script_idle: directives::SCRIPT_IDLE,
            shared: false,
            adopts: false,
            origin,
            checks: Vec::new(),
            tls: GroupTls::default(),
            discovery: Discovery::default(),
            span: None,
            zone: None,
            draft: None,
        }
    }

    /// Returns the key under which [`Config::group_numbers`] has the group: the name of a block in lower case; for an
    /// implied group host and port.
    pub fn key(&self) -> Vec<u8> {
        match self.origin {
            Origin::Block => self.spec.name.to_ascii_lowercase().into_bytes(),
            Origin::Implied { port, .. } => implied_key(self.spec.name.as_bytes(), port),
        }
    }
}

/// Separates host and port with a NUL, so that no block can have this key. nginx compares the hosts, paths of sockets
/// too, without regard to case.
fn implied_key(host: &[u8], port: u16) -> Vec<u8> {
    let mut key = host.to_ascii_lowercase();
    key.push(0);
    key.extend_from_slice(&port.to_be_bytes());
    key
}

/// The module.
pub static MODULE: Module =
    Module { finish: Some(finish), ..Module::new("upstream", &[directives::DIRECTIVES, lookup::DIRECTIVES]) };

/// Returns the block that a URL made at run time names, if there is one (ngx_http_upstream_init_request): its URL has no port.
pub fn block(config: &Config, url: &Url<'_>) -> Option<usize> {
    if url.has_no_port() { config.group(url.host) } else { None }
}

/// Returns the group of the URL that another `proxy_pass` implies.
pub fn implied(config: &Config, url: &Url<'_>) -> Option<usize> {
    config.group_numbers.get(implied_key(url.host, url.port).as_slice()).copied()
}

/// Makes a script choose the peers of the group whose block is being read. A method before it chooses where the script does not.
///
/// # Errors
/// The group has a script already.
pub(super) fn set_script(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    script: ScriptId,
) -> Result<(), Diagnostic> {
    directives::set_script(b, d, script)
}

/// Returns the publication in which a group of this name is that no block has: one of those in which the request has asked its
/// switches, else the newest.
pub fn made(exchange: &Exchange, host: &dyn Host, name: &[u8]) -> Option<Rc<Routing>> {
    let has = |routing: &Rc<Routing>| routing.groups.get(name).is_some();
    exchange.switches.asked().find(|routing| has(routing)).cloned().or_else(|| host.routing().filter(has))
}

/// Puts the key that a group's balancer is to be asked with into `out` (cleared first): empty unless the group has
/// `hash`. See [`upstream::PickInput::key`].
pub fn hash_key(exchange: &mut Exchange, env: &mut Env<'_>, group: usize, out: &mut Vec<u8>) {
    out.clear();
    let config = env.config;
    if let Some(template) = config.groups.get(group).and_then(|entry| entry.hash_key.as_ref()) {
        template.append(exchange, env, out);
    }
}

/// Returns the number of the group that a `proxy_pass` without variables names: a block, which may be defined further
/// down, or
/// one that is implied here (ngx_http_upstream_add).
///
/// # Errors
/// A block may not be named with a port.
pub(super) fn refer(b: &mut Builder<'_>, url: &Url<'_>, word: &Word) -> Result<usize, Diagnostic> {
    let host = url.host;
    for (number, entry) in b.draft.groups.iter().enumerate() {
        if !entry.spec.name.as_bytes().eq_ignore_ascii_case(host) {
            continue;
        }
        match entry.origin {
            Origin::Block if url.has_no_port() => return Ok(number),
            Origin::Block => return Err(may_not_have_port(&entry.spec.name, url.port, word.span)),
            Origin::Implied { port, .. } if port != 0 && url.port != 0 && port != url.port => {}
            Origin::Implied { .. } => return Ok(number),
        }
    }
    let origin = Origin::Implied {
        port: url.port,
        has_port: !url.has_no_port(),
        address: url.address(),
        span: word.span,
    };
    b.draft.groups.push(GroupEntry::new(host, origin));
    Ok(b.draft.groups.len() - 1)
}

/// Returns the number of the group whose block is being read, if one is.
pub(super) fn being_read(b: &Builder<'_>) -> Option<usize> {
    b.draft.groups.iter().position(|entry| entry.draft.is_some())
}

/// Returns the block that is being read.
fn entry<'a>(b: &'a mut Builder<'_>, d: &conf::Directive) -> Result<&'a mut GroupEntry, Diagnostic> {
    let entry = b.draft.groups.iter_mut().find(|entry| entry.draft.is_some());
    entry.ok_or_else(|| Diagnostic::error(d.name.span, "directive is not inside \"upstream\""))
}

/// Returns the number of the group that a block defines, with an empty draft: a new one, or one that a `proxy_pass`
/// further
/// up implied.
fn define(b: &mut Builder<'_>, name: &Word) -> Result<usize, Diagnostic> {
    let text = name.text();
    let known = b.draft.groups.iter().position(|entry| entry.spec.name.as_bytes().eq_ignore_ascii_case(text));
    let number = match known.map(|number| (number, &b.draft.groups[number].origin)) {
        Some((_, Origin::Block)) => {
            return Err(Diagnostic::error(name.span, format!("duplicate upstream \"{text}\"")));
        }
        Some((number, Origin::Implied { has_port: true, port, span, .. })) => {
            let fault =
                may_not_have_port(&text.to_string(), *port, *span).also(name.span, "the block of this name");
            // One fault is enough: the name is not looked up any more.
            b.draft.groups[number].origin = Origin::Block;
            return Err(fault);
        }
        Some((number, _)) => number,
        None => b.draft.groups.len(),
    };
    let entry = GroupEntry {
        draft: Some(Box::default()),
        span: Some(name.span),
        ..GroupEntry::new(text, Origin::Block)
    };
    match b.draft.groups.get_mut(number) {
        Some(implied) => *implied = entry,
        None => b.draft.groups.push(entry),
    }
    Ok(number)
}

fn may_not_have_port(name: &str, port: u16, span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("upstream \"{name}\" may not have port {port}"))
        .help(format!("the ports are set in the block: write `http://{name}`"))
}

/// Once the whole text is read: what is no block is an address or is resolved now.
fn finish(b: &mut Builder<'_>) {
    for number in 0..b.draft.groups.len() {
        let entry = &b.draft.groups[number];
        let Origin::Implied { port, address, span, .. } = &entry.origin else { continue };
        let (span, name) = (*span, entry.spec.name.clone());
        if *port == 0 && !matches!(address, Some(Address::Unix(_))) {
            let fault = Diagnostic::error(span, format!("no port in upstream \"{name}\""));
            b.diagnostics.push(fault.help("name it: HOST:PORT, or define the group: upstream NAME { … }"));
            continue;
        }
        let addresses = match address {
            Some(address) => Ok(vec![address.clone()]),
            None => resolve(b, &name, *port),
        };
        match addresses {
            Ok(addresses) => {
                let peers =
                    addresses.into_iter().map(|address| PeerSpec::new(name.clone(), address)).collect();
                let spec = GroupSpec { peers, ..GroupSpec::clone(&b.draft.groups[number].spec) };
                b.draft.groups[number].spec = Arc::new(spec);
            }
            Err(reason) => {
                let mut blocks = b.draft.groups.iter().filter(|entry| entry.origin == Origin::Block);
                let fault = host_not_found(&name, &reason, span);
                let fault = match conf::nearest(&name, blocks.by_ref().map(|entry| entry.spec.name.as_str()))
                {
                    Some(meant) => fault.help(format!("did you mean the upstream `{meant}`?")),
                    None => fault,
                };
                b.diagnostics.push(fault);
            }
        }
    }
    directives::check_zones(b);
    lookup::finish(b);
}

/// Returns all addresses of a host name, or the system's words for why there are none.
fn resolve(b: &Builder<'_>, host: &str, port: u16) -> Result<Vec<Address>, String> {
    let addresses = b.inputs.names.lookup(host, port)?;
    if addresses.is_empty() {
        return Err("it has no address".to_owned());
    }
    Ok(addresses.into_iter().map(Address::Inet).collect())
}

fn host_not_found(name: &str, reason: &str, span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("host not found in upstream \"{name}\"")).label(reason)
}

#[cfg(test)]
mod tests;
