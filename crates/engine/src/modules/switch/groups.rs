//! The groups of a configuration, as orders on their servers see them: one switch without keys.
//!
//! Owns its name, its store, and what the configuration says of each group. Must never change a group: what orders say is in
//! the store.

use super::sticky::{Salt, Sticky, StickySource};
use super::{OnDamage, RevertIfDead, StatePath, StreamsPolicy, SwitchSpec};
use crate::config::Config;
use crate::modules::proxy::Destination;
use crate::modules::upstream::{Bases, GroupEntry, Origin};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use switch::{BaseGroup, BaseServer, KeyKind, Rules, RunTimeRules, ServerParams, server_address};
use upstream::{BalancerSpec, PeerSpec, Ring};

/// Its name, which no switch of a configuration has.
pub const GROUPS_NAME: &str = "groups";

/// Returns the file in which what orders say of servers is kept.
pub fn groups_file(prefix: &Path) -> PathBuf {
    prefix.join("state").join("groups.db")
}

impl SwitchSpec {
    /// Returns the switch of a configuration's groups, before anything was looked up. Its orders are those on servers.
    pub fn of_groups(config: &Config) -> SwitchSpec {
        SwitchSpec::of_groups_with(config, &Bases::default())
    }

    /// Returns the switch of a configuration's groups with what was looked up for them.
    pub fn of_groups_with(config: &Config, bases: &Bases) -> SwitchSpec {
        let blocks = config.groups.iter().enumerate().filter(|(_, entry)| entry.origin == Origin::Block);
        let rules = Rules {
            name: GROUPS_NAME.into(),
            default: "".into(),
            targets: Box::default(),
            kind: KeyKind::Text,
            max_keys: 0,
            max_key_len: 0,
            groups: blocks.map(|(number, entry)| base(config, number, entry, bases)).collect(),
            run_time: RunTimeRules { users: admitting(config), ..RunTimeRules::default() },
        };
        SwitchSpec {
            rules: Arc::new(rules),
            key: Default::default(),
            sticky: Sticky { source: StickySource::Address, salt: Salt::None },
            testers: None,
            state: StatePath::File(groups_file(&config.prefix)),
            in_fleet: false,
            from: None,
            watch_ms: 0,
            gate: None,
            streams: StreamsPolicy::Keep,
            on_damage: OnDamage::Default,
            revert_if_dead: RevertIfDead::Stay,
            dict: None,
            slot: 0,
            key_is_early: false,
            place: "".into(),
        }
    }
}

/// Returns what the configuration says of a group, with what was looked up.
fn base(config: &Config, number: usize, entry: &GroupEntry, bases: &Bases) -> BaseGroup {
    let is_ring = entry.spec.balancer == BalancerSpec::Hash { consistent: true };
    BaseGroup {
        name: entry.spec.name.as_str().into(),
        servers: base_servers(entry, bases.peers(entry)),
        allows_backup: entry.spec.balancer.allows_backup(),
        max_weights: is_ring.then(|| Ring::MAX_POINTS / Ring::size([1])),
        users: users(config, number, &entry.spec.name),
        adopts: entry.adopts,
    }
}

/// Returns the servers of a group before orders, by name: its peers are those of the block, then those that were found.
pub fn base_servers(entry: &GroupEntry, peers: &[PeerSpec]) -> Vec<BaseServer> {
    let mut servers: Vec<BaseServer> = Vec::with_capacity(peers.len());
    let of_block = entry.spec.peers.len();
    for (at, peer) in peers.iter().enumerate() {
        let address = peer.address.to_string();
        let address = server_address(&address).unwrap_or(address);
        // Those that were found have the names of their addresses, each its own.
        match servers.iter_mut().take(of_block).find(|known| known.name == peer.name) {
            Some(known) => known.addresses.push(address),
            None => servers.push(BaseServer {
                name: peer.name.clone(),
                addresses: vec![address],
                params: params(peer),
                is_discovered: at >= of_block,
            }),
        }
    }
    servers
}

/// Returns the switches whose keys may lead to groups made at run time.
fn admitting(config: &Config) -> Box<[String]> {
    let switches = config.switches.iter().filter(|spec| spec.rules.run_time.is_admitted);
    switches.map(|spec| format!("switch \"{}\"", spec.rules.name)).collect()
}

/// Returns what a `server` line says beyond nginx's defaults.
fn params(peer: &PeerSpec) -> ServerParams {
    let usual = PeerSpec::new("", peer.address.clone());
    fn unless<T: PartialEq>(value: T, usual: T) -> Option<T> {
        (value != usual).then_some(value)
    }
    ServerParams {
        weight: unless(peer.weight, usual.weight),
        max_conns: unless(peer.max_conns, usual.max_conns),
        max_fails: unless(peer.max_fails, usual.max_fails),
        fail_timeout_ms: unless(peer.fail_timeout_ms, usual.fail_timeout_ms),
        slow_start_ms: unless(peer.slow_start_ms, usual.slow_start_ms),
        backup: unless(peer.backup, false),
        drain: None,
        down: unless(peer.down, false),
    }
}

/// Returns what sends requests to a group, each once.
fn users(config: &Config, number: usize, name: &str) -> Vec<String> {
    let leads = |spec: &&SwitchSpec| spec.rules.target(name).is_some();
    let switches = config.switches.iter().filter(leads);
    let mut users: Vec<String> = switches.map(|spec| format!("switch \"{}\"", spec.rules.name)).collect();
    let mut passes = config.locations.iter().filter_map(|location| location.settings.proxy.pass.as_ref());
    if passes.any(|pass| matches!(pass.to, Destination::Group(to) if to == number)) {
        users.push("proxy_pass".to_owned());
    }
    users
}
