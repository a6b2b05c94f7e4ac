//! Servers that are looked up while a group serves: where, and what becomes of them in the group.
//!
//! Owns the places of a group, and the rules by which what is found there joins the servers of its block. Must never look
//! anything up.

use super::{GroupEntry, Origin};
use crate::modules::core::Resolver;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use switch::ServerParams;
use upstream::{Address, BalancerSpec, PeerSource, PeerSpec, Ring};

/// The most servers that a group takes from its places.
pub const MAX_FOUND: usize = 10_000;

/// Where servers are looked up. Equal places are looked at once for all groups that have them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Name servers: `server NAME resolve`.
    Name(NamePlace),
    /// A file: `servers file=PATH`.
    File(FilePlace),
    /// A registry: `servers http=URL`.
    Url(UrlPlace),
}

/// A name and who is asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamePlace {
    /// The name.
    pub host: Box<str>,
    /// The name of its SRV records, if `service=` is given.
    pub service: Option<Box<str>>,
    /// The name servers.
    pub resolver: Arc<Resolver>,
    /// How long they may take.
    pub timeout_ms: u64,
}

/// A file and how often it is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilePlace {
    /// The file.
    pub path: PathBuf,
    /// How often.
    pub interval_ms: u64,
}

/// A URL and how often it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UrlPlace {
    /// As written.
    pub url: Box<str>,
    /// The `Host` of its requests.
    pub host: Box<str>,
    /// Where it is asked: the next one if one does not answer.
    pub addresses: Vec<Address>,
    /// The path with its arguments.
    pub uri: Box<str>,
    /// How often.
    pub interval_ms: u64,
    /// How long an answer may take.
    pub timeout_ms: u64,
}

/// A place of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The place.
    pub place: Place,
    /// The line, for people and for what is kept of it: `app.test:8080 resolve`.
    pub text: Box<str>,
    /// The line as it is written, with all of its parameters: `server app.test:8080 resolve weight=2;`.
    pub line: Box<str>,
    /// The parameters of its line. The port of its address is that of the servers found there, if they have none.
    pub template: PeerSpec,
}

/// The places of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// In the order of their lines.
    pub sources: Vec<Source>,
    /// The fewest servers that an answer must leave in the group: one that leaves fewer, and fewer than there are, is
    /// ignored.
    pub min_servers: u32,
    pub(super) resolver: Option<Arc<Resolver>>,
    pub(super) timeout_ms: Option<u64>,
}

impl Default for Discovery {
    fn default() -> Discovery {
        Discovery { sources: Vec::new(), min_servers: 1, resolver: None, timeout_ms: None }
    }
}

/// A server that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundServer {
    /// Its address; a port of 0 is that of the line.
    pub address: Address,
    /// The place's parameters of it.
    pub params: ServerParams,
    /// Others are to be asked first: a backup, where the balancer has backups, and else not there.
    pub is_secondary: bool,
}

impl GroupEntry {
    /// Returns the servers of the block with those found in its places, before orders. A server that is there already is left
    /// out.
    ///
    /// # Errors
    /// The group cannot have them: the text says why.
    pub fn peers_with<'f>(
        &self,
        mut found: impl FnMut(&Source) -> &'f [FoundServer],
    ) -> Result<Vec<PeerSpec>, String> {
        let mut peers = self.spec.peers.clone();
        let mut known: HashSet<Address> = peers.iter().map(|peer| peer.address.clone()).collect();
        let (allows_backup, own) = (self.spec.balancer.allows_backup(), peers.len());
        for source in &self.discovery.sources {
            let usable =
                |server: &&FoundServer| !server.is_secondary || (allows_backup && !source.template.backup);
            for server in found(source).iter().filter(usable) {
                let peer = peer(&source.template, server);
                if !allows_backup && (peer.backup || peer.slow_start_ms > 0) {
                    let word = if peer.backup { "backup" } else { "slow_start" };
                    return Err(format!(
                        "{}: the balancing method of the group has no \"{word}\"",
                        peer.name
                    ));
                }
                if known.insert(peer.address.clone()) {
                    peers.push(peer);
                }
            }
        }
        if peers.len() - own > MAX_FOUND {
            return Err(format!("{} servers are too many: at most {MAX_FOUND}", peers.len() - own));
        }
        if self.spec.balancer == (BalancerSpec::Hash { consistent: true }) {
            let points = Ring::size(peers.iter().map(|peer| peer.weight));
            if points > Ring::MAX_POINTS {
                let max = Ring::MAX_POINTS;
                return Err(format!(
                    "the weights make {points} points in the ring of \"hash\": at most {max}"
                ));
            }
        }
        Ok(peers)
    }

    /// Returns true if servers are looked up for this group.
    pub fn is_discovered(&self) -> bool {
        self.origin == Origin::Block && !self.discovery.sources.is_empty()
    }
}

/// Makes a peer of a server that was found. Its name is its address, so that each is an identity of its own to orders and to
/// the ring of `hash … consistent`.
fn peer(template: &PeerSpec, server: &FoundServer) -> PeerSpec {
    let mut address = server.address.clone();
    if let (Address::Inet(address), Address::Inet(line)) = (&mut address, &template.address)
        && address.port() == 0
    {
        address.set_port(line.port());
    }
    let name = address.to_string();
    let name = switch::server_address(&name).unwrap_or(name);
    let source = PeerSource::Discovered;
    let peer = with_params(PeerSpec { name, address, source, ..template.clone() }, &server.params);
    PeerSpec {
        // As in nginx, a weight that the line has counts for all.
        weight: if template.weight == 1 { peer.weight } else { template.weight },
        backup: peer.backup || server.is_secondary,
        ..peer
    }
}

/// Returns a peer with these parameters, and its own where there are none.
#[must_use]
pub fn with_params(mut peer: PeerSpec, params: &ServerParams) -> PeerSpec {
    fn set<T: Copy>(value: Option<T>, to: &mut T) {
        if let Some(value) = value {
            *to = value;
        }
    }
    set(params.weight, &mut peer.weight);
    set(params.max_conns, &mut peer.max_conns);
    set(params.max_fails, &mut peer.max_fails);
    set(params.fail_timeout_ms, &mut peer.fail_timeout_ms);
    set(params.slow_start_ms, &mut peer.slow_start_ms);
    set(params.backup, &mut peer.backup);
    set(params.drain, &mut peer.drain);
    set(params.down, &mut peer.down);
    peer
}

/// The servers of groups before orders, where they are others than those of the block: the block's first, then what was
/// found. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Bases(Arc<HashMap<String, Vec<PeerSpec>>>);

impl Bases {
    /// Returns the servers of a group before orders.
    pub fn peers<'b>(&'b self, entry: &'b GroupEntry) -> &'b [PeerSpec] {
        let found = match entry.is_discovered() {
            true => self.0.get(&entry.spec.name.to_ascii_lowercase()),
            false => None,
        };
        found.unwrap_or(&entry.spec.peers)
    }
}

impl FromIterator<(String, Vec<PeerSpec>)> for Bases {
    /// By the names of groups in lower case.
    fn from_iter<I: IntoIterator<Item = (String, Vec<PeerSpec>)>>(groups: I) -> Bases {
        Bases(Arc::new(groups.into_iter().collect()))
    }
}
