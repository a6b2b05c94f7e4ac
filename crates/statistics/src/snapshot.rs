//! What stands beside the numbers when they are shown: the state of things right now.
//!
//! Owns: the shape in which the caller hands it in. Must never: be measured here.

use std::sync::Arc;

/// What a renderer shows besides a [`crate::Summary`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The servers of the present configuration, in any order.
    pub peers: Vec<PeerNow>,
    /// The switches of the present configuration, in any order.
    pub switches: Vec<SwitchNow>,
    /// What `stub_status` shows.
    pub connections: Connections,
    /// Lines that the access logs have lost since the beginning.
    pub log_lines_lost: u64,
    /// The version of the program.
    pub version: String,
}

/// A server right now. One that a group names twice may be given twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerNow {
    /// The group's name.
    pub group: Arc<str>,
    /// The server's label, as in the [`crate::Layout`].
    pub peer: Arc<str>,
    /// Whether requests go to it.
    pub state: PeerState,
    /// Tries under way, of all threads.
    pub connections: u64,
}

/// Whether requests go to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// They do.
    Up,
    /// Not for now: it failed `max_fails` times within `fail_timeout`, in the eyes of at least one thread.
    Failed,
    /// Not: the configuration says `down`.
    Down,
}

impl PeerState {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            PeerState::Up => "up",
            PeerState::Failed => "failed",
            PeerState::Down => "down",
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
    /// Commits that go back by themselves unless they are confirmed.
    pub pending: u64,
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
    /// The servers, to look up.
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
