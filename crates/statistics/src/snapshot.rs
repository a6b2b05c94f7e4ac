//! The present state that is shown beside the counters.
//!
//! Owns: its shape; the caller fills it in. Must never: be measured here.

use std::sync::Arc;

/// The present state that a renderer shows besides a [`crate::Summary`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The servers of the present configuration, in any order.
    pub peers: Vec<PeerNow>,
    /// The health checks of the servers, in any order.
    pub checks: Vec<CheckNow>,
    /// The switches of the present configuration, in any order.
    pub switches: Vec<SwitchNow>,
    /// The store of what orders say of servers is damaged.
    pub groups_fault: bool,
    /// The counters of `stub_status`.
    pub connections: Connections,
    /// Lines that the access logs have lost since the beginning.
    pub log_lines_lost: u64,
    /// The certificates of the present configuration.
    pub certificates: Vec<CertificateNow>,
    /// The version of the program.
    pub version: String,
}

/// A certificate of the present configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateNow {
    /// Its file.
    pub file: Arc<str>,
    /// Until when it is valid, in seconds since the epoch.
    pub until_s: u64,
}

/// A server right now. One that a group names twice may be given twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerNow {
    /// The group's name.
    pub group: Arc<str>,
    /// The server's label, as in the [`crate::Layout`].
    pub peer: Arc<str>,
    /// Whether it gets requests.
    pub state: PeerState,
    /// Tries under way, of all threads.
    pub connections: u64,
    /// Where it comes from.
    pub source: PeerSource,
    /// Since when health checks have it in its state, in seconds since the epoch.
    pub since_s: Option<u64>,
}

/// Where a server comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerSource {
    /// The configuration has it.
    File,
    /// It was looked up where the configuration says.
    Discovered,
    /// An order has added it.
    Order,
}

impl PeerSource {
    /// Returns it as one word.
    pub fn name(self) -> &'static str {
        match self {
            PeerSource::File => "file",
            PeerSource::Discovered => "discovered",
            PeerSource::Order => "order",
        }
    }
}

/// A health check of a server. One that a group names twice may be given twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckNow {
    /// The group's name.
    pub group: Arc<str>,
    /// The server's label.
    pub peer: Arc<str>,
    /// The probe: `GET /health`.
    pub check: Arc<str>,
    /// How many have passed.
    pub passed: u64,
    /// How many have not.
    pub failed: u64,
    /// How long the last one took, in microseconds.
    pub took_us: Option<u64>,
}

/// Whether a server gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// It does.
    Up,
    /// Not for now: at least one thread has counted `max_fails` failures within `fail_timeout`.
    Failed,
    /// Not yet: it must pass a health check first.
    Checking,
    /// Not for now: its health checks have failed.
    Unhealthy,
    /// It does not: it is drained, and those under way go on.
    Draining,
    /// It does not: it is `down`.
    Down,
}

impl PeerState {
    /// Returns it as one word.
    pub fn name(self) -> &'static str {
        match self {
            PeerState::Up => "up",
            PeerState::Failed => "failed",
            PeerState::Checking => "checking",
            PeerState::Unhealthy => "unhealthy",
            PeerState::Draining => "draining",
            PeerState::Down => "down",
        }
    }
}

/// Whether a group can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupCondition {
    /// All of its servers get requests, those apart that the configuration takes out.
    Healthy,
    /// Some of them do not.
    Degraded,
    /// None does.
    Down,
}

impl GroupCondition {
    /// All of them.
    pub(crate) const ALL: [GroupCondition; 3] =
        [GroupCondition::Healthy, GroupCondition::Degraded, GroupCondition::Down];

    /// Returns the condition of a group with servers in these states.
    pub fn of(states: impl Iterator<Item = PeerState>) -> GroupCondition {
        let (mut up, mut out) = (0, 0);
        for state in states {
            match state {
                PeerState::Up => up += 1,
                PeerState::Failed | PeerState::Checking | PeerState::Unhealthy => out += 1,
                PeerState::Draining | PeerState::Down => {}
            }
        }
        match (up, out) {
            (0, _) => GroupCondition::Down,
            (_, 0) => GroupCondition::Healthy,
            _ => GroupCondition::Degraded,
        }
    }

    /// Returns it as one word.
    pub fn name(self) -> &'static str {
        match self {
            GroupCondition::Healthy => "healthy",
            GroupCondition::Degraded => "degraded",
            GroupCondition::Down => "down",
        }
    }
}

/// A switch's table right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchNow {
    /// The name of its variable, without `$`.
    pub name: Arc<str>,
    /// The table's revision.
    pub revision: u64,
    /// Entries of the table.
    pub keys: u64,
    /// Commits that are reverted unless they are confirmed in time.
    pub pending: u64,
    /// Those of them that stay although their time has run out.
    pub overdue: u64,
    /// Its store takes no orders, or did not take the last one.
    pub store_fault: bool,
    /// Keys that are held.
    pub held_keys: u64,
    /// Requests that wait for a hold.
    pub held_requests: u64,
    /// Requests that holds have turned away.
    pub refused_requests: u64,
}

/// Client connections and requests, as `stub_status` counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Open now, the idle ones included.
    pub active: u64,
    /// Accepted since the beginning.
    pub accepted: u64,
    /// Served since the beginning.
    pub handled: u64,
    /// Requests begun since the beginning.
    pub requests: u64,
    /// Whose request head is being read.
    pub reading: u64,
    /// Being answered.
    pub writing: u64,
    /// Waiting for a next request.
    pub waiting: u64,
}

/// Servers by group and label: the worst state and all connections, where one was given more than once.
pub(crate) type PeersNow<'a> =
    hashbrown::HashMap<(&'a str, &'a str), (PeerState, u64), foldhash::fast::RandomState>;

impl Snapshot {
    /// Returns the conditions of the groups, by name.
    pub fn conditions(&self) -> std::collections::BTreeMap<&str, GroupCondition> {
        let mut states: std::collections::BTreeMap<&str, Vec<PeerState>> = std::collections::BTreeMap::new();
        for ((group, _), (state, _)) in self.peers_now() {
            states.entry(group).or_default().push(state);
        }
        states.into_iter().map(|(group, states)| (group, GroupCondition::of(states.into_iter()))).collect()
    }

    /// Returns the checks by group, label of the server and check, each once.
    pub(crate) fn checks_now(&self) -> std::collections::BTreeMap<[&str; 3], (u64, u64, Option<u64>)> {
        let mut checks = std::collections::BTreeMap::new();
        for now in &self.checks {
            let entry = checks.entry([&*now.group, &*now.peer, &*now.check]).or_insert((0, 0, None));
            entry.0 += now.passed;
            entry.1 += now.failed;
            entry.2 = entry.2.max(now.took_us);
        }
        checks
    }

    /// Returns the servers, to look up.
    pub(crate) fn peers_now(&self) -> PeersNow<'_> {
        let mut peers = PeersNow::default();
        for now in &self.peers {
            let entry = peers.entry((&*now.group, &*now.peer)).or_insert((PeerState::Up, 0));
            entry.0 = entry.0.max(now.state);
            entry.1 += now.connections;
        }
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_of_a_group_follows_its_servers() {
        use PeerState::{Checking, Down, Failed, Unhealthy, Up};
        for (states, condition) in [
            (&[Up, Up][..], GroupCondition::Healthy),
            (&[Up, Down], GroupCondition::Healthy),
            (&[Up, Failed], GroupCondition::Degraded),
            (&[Up, Unhealthy], GroupCondition::Degraded),
            (&[Up, Checking], GroupCondition::Degraded),
            (&[Unhealthy, Failed], GroupCondition::Down),
            (&[Down], GroupCondition::Down),
            (&[], GroupCondition::Down),
        ] {
            assert_eq!(GroupCondition::of(states.iter().copied()), condition, "{states:?}");
        }
    }
}
