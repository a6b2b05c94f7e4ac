//! `switch`: a variable whose value people move while traffic runs.
//!
//! Owns the block's settings, the value for a request, and which requests a hold makes wait. The tables are those
//! that the host has when the request first asks; here nothing is ever changed in one, and nothing waits. What orders
//! mean is the crate `switch`'s, carrying them out the control plane's.

mod check;
mod directives;
mod fleet;
mod gate;
mod groups;
mod hold;
pub(crate) mod record;
mod sticky;
#[cfg(test)]
mod tests;

pub use check::{Named, SwitchDraft};
pub use directives::WATCH_MS;
pub use fleet::{FleetSpec, fleet_folder};
pub use gate::GateSpec;
pub use groups::{GROUPS_NAME, base_servers, groups_file};
pub use record::{Choice, ClientPoint, Matched, SwitchRecord};
pub use sticky::{Sticky, point_of_address};

pub(crate) use hold::before_proxy;

use super::Module;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::Phase;
use crate::template::Template;
use record::Found;
use std::path::PathBuf;
use std::sync::Arc;
use switch::{KeyKind, Route, Rules, TableEntry, Tables};
use upstream::GroupSets;

/// A `switch {}` of the configuration.
#[derive(Clone, Debug)]
pub struct SwitchSpec {
    /// The rules that orders are checked against.
    pub rules: Arc<Rules>,
    /// The text that a request is looked up by.
    pub key: Template,
    /// The way a client is recognised in a split.
    pub sticky: Sticky,
    /// `testers`: its value names the target, if it is one of the targets.
    pub testers: Option<Template>,
    /// The storage of its entries.
    pub state: StatePath,
    /// `state fleet`: the file is this node's copy of what all nodes have in etcd.
    pub in_fleet: bool,
    /// The name that it had before: `from=`.
    pub from: Option<Box<str>>,
    /// How long the answers after a commit are counted for its receipt, in milliseconds: `watch=`.
    pub watch_ms: u64,
    /// The check of a target before a commit.
    pub gate: Option<GateSpec>,
    /// The treatment of streams of the old side.
    pub streams: StreamsPolicy,
    /// The answer to a request that asks it when nothing in its store can be trusted.
    pub on_damage: OnDamage,
    /// Whether a commit that was not confirmed in time goes back to targets that fail.
    pub revert_if_dead: RevertIfDead,
    /// The shared dict that is its face to Lua.
    pub dict: Option<Box<str>>,
    /// The slot in which a request keeps the value.
    pub(crate) slot: u32,
    /// The key is known before the location's rewrites have run.
    pub(crate) key_is_early: bool,
    /// The block's position (`FILE:LINE`), for messages at run time.
    pub place: Box<str>,
}

/// The storage of a switch's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatePath {
    /// In this file, an absolute path that no other switch has.
    File(PathBuf),
    /// Nowhere: they end with the process (`state memory`).
    Memory,
}

/// The treatment of WebSockets and long responses of the old side when their key is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamsPolicy {
    /// They stay until they end.
    Keep,
    /// All are cut after so many milliseconds.
    CloseAfter {
        /// After the switch; 0 is at once.
        ms: u64,
    },
    /// They are cut one after another, evenly over so many milliseconds.
    CloseSpread {
        /// From the switch to the last of them.
        ms: u64,
    },
}

/// The handling of requests that ask a switch whose store is damaged so that no table can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// They get 503.
    Refuse,
    /// They go to the default.
    Default,
}

/// The handling of a commit that was not confirmed in time while the targets it would go back to fail, and the present ones
/// do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevertIfDead {
    /// It stays until they are well.
    Stay,
    /// It goes back all the same.
    Go,
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::Rewrite, hold::before_rewrite), (Phase::PreAccess, hold::before_access)],
    header_filter: Some(sticky::filter),
    finish: Some(check::finish),
    is_needed: Some(|config, _| !config.switches.is_empty()),
    ..Module::new("switch", &[directives::DIRECTIVES])
};

/// Appends the target of this request, and notes the choice. Called once a request: the value lies in its slot after
/// that.
pub(crate) fn append(number: usize, exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) {
    let spec = &env.config.switches[number];
    let start = out.len();
    spec.key.append(exchange, env, out);
    let mut rooms = exchange.switches.take_rooms();
    let routing = exchange.switches.take_routing(number, || env.host.routing());
    let key = switch::normalise(spec.rules.kind, &out[start..], &mut rooms.key);
    let table = routing.as_ref().and_then(|routing| routing.tables.tables.get(number)).map(|table| &**table);
    if table.is_some_and(|table| !table.is_trusted()) && spec.on_damage == OnDamage::Refuse {
        exchange.switches.refuse();
        exchange.switches.put_rooms(rooms);
        out.truncate(start);
        return;
    }
    let mut route_revision = 0;
    let groups = routing.as_ref().map(|routing| &routing.groups);
    let (target, matched, point) = match tester((spec, groups), exchange, env, &mut rooms.text) {
        Some(target) => (target, Matched::Tester, Some(ClientPoint::Open)),
        None => {
            let found = table.and_then(|table| table.find(key));
            route_revision = table.map_or(0, |table| table.route_revision(found.map(|entry| &**entry)));
            match found {
                Some(entry) => {
                    let (target, point) = pick(number, key, &entry.route, exchange, env, &mut rooms.text);
                    (target, Matched::Entry, point)
                }
                None => {
                    let default = &spec.rules.default;
                    let default = table.map_or(default, |table| table.default_target(default));
                    (&**default, Matched::Default, None)
                }
            }
        }
    };
    let revision = table.map_or(0, |table| table.revision());
    let client = point.unwrap_or_else(|| sticky::client(number, key, exchange, env, &mut rooms.text));
    exchange.switches.note(number, key, target, revision, Found { matched, client, route_revision });
    exchange.switches.put_rooms(rooms);
    out.truncate(start);
    out.extend_from_slice(target.as_bytes());
}

/// The way in which a text is matched with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The entry is written under this very text.
    Own,
    /// It is a wildcard's.
    Wildcard,
}

/// Appends the target that a text has for this request's client, as a dict that is the switch's face shows it; nothing
/// if the text has no entry in the tables of the request's first question. A text that is the request's own key is noted as
/// its choice: a script that asks for it is about to go there, to the default if there is no entry.
pub fn look_up(
    number: usize,
    text: &[u8],
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    out: &mut Vec<u8>,
) -> Option<Reach> {
    let spec = env.config.switches.get(number)?;
    let routing = exchange.switches.take_routing(number, || env.host.routing())?;
    let table = routing.tables.tables.get(number)?;
    if !table.is_trusted() && spec.on_damage == OnDamage::Refuse {
        exchange.switches.refuse();
        return None;
    }
    let mut rooms = exchange.switches.take_rooms();
    let key = switch::normalise(spec.rules.kind, text, &mut rooms.key);
    let found = match find(table, key) {
        // A wildcard is for the request's own key: under other texts a script keeps what is its own.
        Some((Reach::Wildcard, _)) if !is_own_key(spec, key, exchange, env, &mut rooms.text) => None,
        found => found,
    };
    let start = out.len();
    let mut point = None;
    let matched = match found {
        Some((_, entry)) => {
            let (target, place) = pick(number, key, &entry.route, exchange, env, &mut rooms.text);
            out.extend_from_slice(target.as_bytes());
            point = place;
            Matched::Entry
        }
        None => Matched::Default,
    };
    if exchange.switches.choice_of(number).is_none() && is_own_key(spec, key, exchange, env, &mut rooms.text)
    {
        let target = match matched {
            Matched::Default => &**table.default_target(&spec.rules.default),
            _ => std::str::from_utf8(&out[start..]).unwrap_or_default(),
        };
        let client = point.unwrap_or_else(|| sticky::client(number, key, exchange, env, &mut rooms.text));
        let route_revision = table.route_revision(found.map(|(_, entry)| entry));
        let found = Found { matched, client, route_revision };
        exchange.switches.note(number, key, target, table.revision(), found);
    }
    exchange.switches.put_rooms(rooms);
    found.map(|(reach, _)| reach)
}

/// Does the same as [`look_up`] without a request: of a split, returns the target of a client without a name.
pub fn look_up_apart(
    number: usize,
    text: &[u8],
    tables: &Tables,
    rules: &Rules,
    out: &mut Vec<u8>,
) -> Option<Reach> {
    let mut room = Vec::new();
    let key = switch::normalise(rules.kind, text, &mut room);
    let (reach, entry) = find(tables.tables.get(number)?, key)?;
    out.extend_from_slice(entry.route.pick(switch::point_of(b"")).as_bytes());
    Some(reach)
}

/// Returns the entry of a key in its one form. What is no key has none, not even that of `*`.
fn find<'t>(table: &'t switch::Table, key: &[u8]) -> Option<(Reach, &'t TableEntry)> {
    if key.is_empty() {
        return None;
    }
    let (written, entry) = table.find_key(key)?;
    let reach = if written.as_str().as_bytes() == key { Reach::Own } else { Reach::Wildcard };
    Some((reach, entry))
}

fn is_own_key(
    spec: &SwitchSpec,
    key: &[u8],
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    text: &mut Vec<u8>,
) -> bool {
    text.clear();
    spec.key.append(exchange, env, text);
    // Only a host in capitals makes room.
    switch::normalise(spec.rules.kind, text, &mut Vec::new()) == key
}

/// Returns the target that a tester names.
fn tester<'c>(
    (spec, groups): (&'c SwitchSpec, Option<&'c GroupSets>),
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    text: &mut Vec<u8>,
) -> Option<&'c str> {
    let testers = spec.testers.as_ref()?;
    text.clear();
    testers.append(exchange, env, text);
    let configured =
        spec.rules.targets.iter().map(|target| &**target).find(|target| target.as_bytes() == text);
    configured.or_else(|| {
        let found = groups.filter(|_| spec.rules.run_time.is_admitted)?.get(text)?;
        let name = &*found.spec.name;
        (name.as_bytes() == text && env.config.group(text).is_none()).then_some(name)
    })
}

/// Returns the target of this request's client, and its point if it took that to know.
fn pick<'r>(
    number: usize,
    key: &[u8],
    route: &'r Route,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    text: &mut Vec<u8>,
) -> (&'r str, Option<ClientPoint>) {
    match route {
        Route::One(target) => (target, None),
        Route::Split(_) => {
            let point = sticky::point(number, key, exchange, env, text);
            (route.pick(point), Some(ClientPoint::Known(point)))
        }
    }
}

/// Returns whether this variable holds a host, so that its values are compared as hosts.
fn kind_of(key: &[u8]) -> KeyKind {
    match key {
        b"$host" | b"${host}" | b"$http_host" | b"${http_host}" | b"$server_name" | b"${server_name}" => {
            KeyKind::Host
        }
        _ => KeyKind::Text,
    }
}
