//! The servers of a group: those of the configuration, with what orders say over them.
//!
//! Owns the rules by which both are merged. Pure: the configuration's servers and the table are arguments. Must never lose
//! an order: one whose server the configuration no longer has is dormant.

use std::sync::Arc;

use crate::server::{PIN, SERVER_SUBJECT, subject_name};
use crate::{ServerEntry, ServerParams, Subjects};

/// A server of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseServer {
    /// As the configuration has it written: with its group, its identity.
    pub name: String,
    /// Its addresses, as [`crate::server_address`] writes them.
    pub addresses: Vec<String>,
    /// Its parameters.
    pub params: ServerParams,
    /// It was looked up while the group serves: the configuration says where.
    pub is_discovered: bool,
}

/// A group of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseGroup {
    /// Its name, as written.
    pub name: Arc<str>,
    /// Its servers, in order, each name once.
    pub servers: Vec<BaseServer>,
    /// Its balancer takes `backup`.
    pub allows_backup: bool,
    /// The most that the weights of its servers may come to.
    pub max_weights: Option<u64>,
    /// The switches and locations that send requests to it, for people: `switch "live"`.
    pub users: Vec<String>,
    /// Its block takes over a group of this name that was made at run time (`adopt`).
    pub adopts: bool,
}

/// Where a server comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerSource {
    /// The configuration has it.
    File,
    /// It was looked up where the configuration says.
    Discovered,
    /// An order has added it.
    Order,
}

/// The orders on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayServer {
    /// The server.
    pub name: String,
    /// Their effect.
    pub entry: ServerEntry,
    /// The commit that said it last.
    pub revision: u64,
}

impl OverlayServer {
    /// Returns true if it says that what is looked up does not count for its group.
    pub fn is_pin(&self) -> bool {
        self.name == PIN && self.entry.is_pin
    }
}

/// A server that a group has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveServer {
    /// The server.
    pub name: String,
    /// Where it comes from.
    pub source: ServerSource,
    /// Its parameters, the configuration's with the orders' over them.
    pub params: ServerParams,
    /// Those of orders alone.
    pub ordered: ServerParams,
    /// The commit that said it last, if orders say anything of it.
    pub revision: Option<u64>,
}

/// The servers of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectiveGroup {
    /// Those that it has: the configuration's in their order, then the others by name.
    pub servers: Vec<EffectiveServer>,
    /// Those that an order has removed while the configuration has them.
    pub removed: Vec<OverlayServer>,
    /// Orders on servers that the configuration no longer has.
    pub dormant: Vec<OverlayServer>,
    /// The commit that has pinned it: what is looked up does not count.
    pub pinned: Option<u64>,
}

impl EffectiveGroup {
    /// Returns true if any server gets requests of new clients.
    pub fn is_usable(&self) -> bool {
        self.servers.iter().any(|server| server.params.is_in_use())
    }

    /// Returns how many servers are asked while all are well: backups, and those that get no new clients, do not count.
    pub fn usable(&self) -> usize {
        let is_asked = |one: &&EffectiveServer| one.params.is_in_use() && one.params.backup != Some(true);
        self.servers.iter().filter(is_asked).count()
    }

    /// Returns true if what was looked up and makes this group of `before` is to be believed: it has as many servers as it must,
    /// or no fewer than before.
    pub fn is_credible(&self, before: &EffectiveGroup, min_servers: u32) -> bool {
        self.usable() >= min_servers as usize || self.usable() >= before.usable()
    }

    /// Returns a server.
    pub fn server(&self, name: &str) -> Option<&EffectiveServer> {
        self.servers.iter().find(|server| server.name == name)
    }
}

/// Returns what orders say of the servers of a group, by name.
pub fn overlay_of(subjects: &Subjects, group: &str) -> Vec<OverlayServer> {
    let prefix = subject_name(group, "");
    let said = subjects.with_prefix(SERVER_SUBJECT, &prefix).map(|(name, value)| OverlayServer {
        name: name[prefix.len()..].to_owned(),
        entry: ServerEntry::parse(&value.value),
        revision: value.revision,
    });
    said.collect()
}

/// Merges the servers of the configuration with what orders say.
///
/// - What an order sets lies over the configuration's value, each parameter alone.
/// - A server that an order has removed is not there, whatever the configuration has.
/// - A server that an order has added is there, whatever the configuration has; its parameters lie over the
///   configuration's if that has it too.
/// - What is said of any other server that the configuration does not have is dormant.
/// - Once a group is pinned, servers that were looked up do not count; those that it had then are there by orders.
pub fn apply(base: &[BaseServer], overlay: &[OverlayServer]) -> EffectiveGroup {
    let (pins, overlay): (Vec<&OverlayServer>, Vec<&OverlayServer>) =
        overlay.iter().partition(|said| said.is_pin());
    let mut group =
        EffectiveGroup { pinned: pins.first().map(|pin| pin.revision), ..EffectiveGroup::default() };
    let counts = |server: &&BaseServer| group.pinned.is_none() || !server.is_discovered;
    let base: Vec<&BaseServer> = base.iter().filter(counts).collect();
    for server in &base {
        let ordered = overlay.iter().find(|ordered| ordered.name == server.name);
        match ordered {
            Some(ordered) if ordered.entry.is_removed => group.removed.push((*ordered).clone()),
            ordered => group.servers.push(EffectiveServer {
                name: server.name.clone(),
                source: if server.is_discovered { ServerSource::Discovered } else { ServerSource::File },
                params: ordered.map_or(server.params.clone(), |said| said.entry.params.over(&server.params)),
                ordered: ordered.map(|said| said.entry.params.clone()).unwrap_or_default(),
                revision: ordered.map(|said| said.revision),
            }),
        }
    }
    for said in overlay.iter().filter(|said| !base.iter().any(|server| server.name == said.name)) {
        if said.entry.is_added && !said.entry.is_removed {
            group.servers.push(EffectiveServer {
                name: said.name.clone(),
                source: ServerSource::Order,
                params: said.entry.params.clone(),
                ordered: said.entry.params.clone(),
                revision: Some(said.revision),
            });
        } else {
            group.dormant.push((*said).clone());
        }
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> ServerParams {
        ServerEntry::parse(text).params
    }

    /// Servers of the configuration (`a weight=2; b`) and what orders say of some (`a down; c added`).
    fn merged(file: &str, orders: &str) -> String {
        let parts = |text: &str| -> Vec<(String, String)> {
            let lines = text.split(';').map(str::trim).filter(|line| !line.is_empty());
            lines
                .map(|line| {
                    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
                    (name.to_owned(), rest.to_owned())
                })
                .collect()
        };
        let base: Vec<BaseServer> = parts(file)
            .into_iter()
            .map(|(name, params)| BaseServer {
                name: name.trim_start_matches('?').to_owned(),
                addresses: Vec::new(),
                params: words(&params),
                is_discovered: name.starts_with('?'),
            })
            .collect();
        let overlay: Vec<OverlayServer> = parts(orders)
            .into_iter()
            .map(|(name, text)| OverlayServer { name, entry: ServerEntry::parse(&text), revision: 1 })
            .collect();
        let group = apply(&base, &overlay);
        let mut out: Vec<String> = group
            .servers
            .iter()
            .map(|server| {
                let mark = match server.source {
                    ServerSource::File => "",
                    ServerSource::Discovered => "?",
                    ServerSource::Order => "+",
                };
                format!("{mark}{} {}", server.name, server.params).trim_end().to_owned()
            })
            .collect();
        out.extend(group.removed.iter().map(|one| format!("removed {}", one.name)));
        out.extend(group.dormant.iter().map(|one| format!("dormant {} {}", one.name, one.entry)));
        out.join("; ")
    }

    #[test]
    fn orders_lie_over_the_configuration() {
        for (file, orders, result) in [
            ("a; b", "", "a; b"),
            // Each parameter alone.
            ("a weight=2 max_fails=5", "a weight=3", "a weight=3 max_fails=5"),
            ("a weight=2", "a max_conns=9 drain", "a weight=2 max_conns=9 drain"),
            ("a down", "a down=off", "a down=off"),
            ("a backup", "a backup=off", "a backup=off"),
            // A tombstone outlives the file.
            ("a; b", "a removed", "b; removed a"),
            ("b", "a removed", "b; dormant a removed"),
            ("a; b", "a down", "a down; b"),
            // An added server is the file's when the file has it.
            ("b", "a added weight=5", "b; +a weight=5"),
            ("a weight=2 max_fails=7; b", "a added weight=5", "a weight=5 max_fails=7; b"),
            ("", "c added; a added", "+c; +a"),
            // What is said of a server that left the file sleeps.
            ("b", "a weight=3", "b; dormant a weight=3"),
            ("b", "a drain", "b; dormant a drain"),
            ("b; a", "a drain", "b; a drain"),
            ("", "", ""),
            // What is looked up is as the file's, under the same orders.
            ("b; ?a weight=2", "", "b; ?a weight=2"),
            ("b; ?a weight=2", "a drain", "b; ?a weight=2 drain"),
            ("b; ?a", "a removed", "b; removed a"),
            ("b", "a added drain", "b; +a drain"),
            ("b; ?a weight=2", "a added", "b; ?a weight=2"),
            // Pinned, it does not count.
            ("b; ?a; ?c", "* pinned; a added weight=2", "b; +a weight=2"),
            ("b; ?a", "* pinned", "b"),
        ] {
            assert_eq!(merged(file, orders), result, "{file} with {orders}");
        }
    }

    #[test]
    fn answers_that_leave_too_few_servers_are_ignored() {
        let group = |count: usize, more: &str| {
            let names = (0..count).map(|number| (number.to_string(), "")).chain([("x".to_owned(), more)]);
            let base: Vec<BaseServer> = names
                .map(|(name, params)| BaseServer {
                    name,
                    addresses: Vec::new(),
                    params: words(params),
                    is_discovered: true,
                })
                .collect();
            apply(&base, &[])
        };
        for (before, after, min, credible) in [
            (3, 1, 1, true),
            (3, 0, 1, false),
            (3, 0, 0, true),
            (3, 2, 3, false),
            // It does not get worse.
            (0, 0, 1, true),
            (0, 2, 3, true),
            (2, 2, 3, true),
            (2, 1, 3, false),
        ] {
            for more in ["backup", "down", "drain"] {
                let (before, after) = (group(before, more), group(after, more));
                assert_eq!(after.is_credible(&before, min), credible, "{before:?} {after:?} {min}");
            }
        }
    }

    #[test]
    fn a_group_is_usable_if_a_server_takes_new_clients() {
        let usable = |text: &str| {
            let entry = |name: &str, text: &str| OverlayServer {
                name: name.into(),
                entry: ServerEntry::parse(text),
                revision: 1,
            };
            apply(&[], &[entry("a", text)]).is_usable()
        };
        assert!(usable("added") && usable("added backup"));
        assert!(!usable("added down") && !usable("added drain") && !usable("removed") && !usable("weight=2"));
    }
}
