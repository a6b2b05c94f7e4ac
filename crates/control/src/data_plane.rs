//! The data plane, as the control plane sees it.
//!
//! Owns: the trait and the values that cross it. Must never: prescribe how requests are served.

use acme::{IssuedCertificate, RevokeFault, RevokeReason, RevokeReply};
use engine::Routing;
use engine::host::Counters;
use engine::modules::proxy::cache::CacheZone;
use prober::Prober;
use statistics::Answers;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use switch::{Key, Shape, Table};
use upstream::PeerSource;
use upstream::health::Health;

/// Delivers an answer, from any thread. It is called more than once where the method says so.
pub type Reply<T> = Box<dyn Fn(T) + Send + Sync>;

/// The threads that serve requests. Methods are called on the control thread and must not block; answers come through the
/// replies.
///
/// A reply that is dropped counts as no answer; every wait for one has a timeout.
pub trait DataPlane: Send + Sync + 'static {
    /// Publishes tables and groups: new requests use them from now on, and held requests check their hold again. Each worker
    /// thread answers once, with the time when it switched to them. Idle connections to groups that no table routes to are closed.
    fn publish(&self, routing: Arc<Routing>, watch: Option<Arc<Watch>>, acknowledged: Reply<Acknowledgement>);
    /// Reports the progress of a drain: one answer per worker thread.
    fn watched(&self, watch: u64, reply: Reply<WatchReport>);
    /// Reports what publishing this watch would move: one answer per worker thread, of which only the requests and streams
    /// in flight matter. The watch is not kept.
    fn affected(&self, watch: Arc<Watch>, reply: Reply<WatchReport>);
    /// Closes the streams that are left on the old side of a watch, spread evenly over this many milliseconds, and from
    /// then on those that requests there become, until the watch is forgotten. A stream whose side is in force again when
    /// its turn comes stays.
    fn close_streams(&self, watch: u64, spread_ms: u64);
    /// Closes the streams that publishing this watch would move, spread evenly over this many milliseconds. Those whose turn
    /// comes later stay if their side is in force then. The watch is not kept.
    fn close_affected(&self, watch: Arc<Watch>, spread_ms: u64);
    /// Forgets a watch.
    fn forget_watch(&self, watch: u64);
    /// Forgets the failures (`max_fails`) of servers that were asked and answer. New requests may go there at once.
    fn forgive(&self, servers: Vec<AskedServer>);
    /// Reports the groups of the newest configuration and the state of their peers: one answer per worker thread.
    fn peers(&self, reply: Reply<Vec<GroupState>>);
    /// Reports these groups alone: one answer per worker thread.
    fn peers_of(&self, groups: Arc<[Arc<str>]>, reply: Reply<Vec<GroupState>>);
    /// Empties every thread's recorder into the collector, then answers once.
    fn collect(&self, reply: Reply<()>);
    /// Returns the collector of statistics.
    fn collector(&self) -> &Mutex<statistics::Collector>;
    /// Returns the prober, for gates and for what health checks have found out.
    fn prober(&self) -> &Prober;
    /// Returns the number of worker threads.
    fn threads(&self) -> usize;
    /// Returns the counters of `stub_status`.
    fn counters(&self) -> Counters;
    /// Reports the number of held keys that a successor would not hold, because they are in memory or belong to orders
    /// under way. While it is not 0 the process must not be replaced.
    fn held(&self, keys: usize) {
        let _ = keys;
    }
    /// Forgets kept responses of these zones, those of these keys or all of them, and removes their files; one answer, how many
    /// there were.
    fn purge(&self, zones: Vec<CacheZone>, keys: Option<Vec<Vec<u8>>>, reply: Reply<u64>) {
        drop((zones, keys, reply));
    }
    /// Returns the certificates that ACME has issued and that are in use.
    fn issued_certificates(&self) -> Vec<IssuedCertificate> {
        Vec::new()
    }
    /// Has the certificate revoked that is called so; one answer when that has ended. A dropped reply means that its issuer is not asked
    /// any more.
    fn revoke(&self, name: &str, reason: RevokeReason, reply: RevokeReply) {
        let _ = (name, reason);
        reply(Err(RevokeFault::Unknown(Vec::new())));
    }
    /// Reloads the configuration for this actor; one answer when that has ended. A dropped reply means that there is no
    /// master process.
    fn reload(&self, actor: String, reply: Reply<Reloaded>) {
        drop((actor, reply));
    }
}

/// The outcome of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// True if the new configuration is active; otherwise nothing has changed.
    pub done: bool,
    /// Faults and warnings, as the error log has them.
    pub findings: Vec<String>,
}

/// The change that workers observe after a switch: requests on the old side, and requests that went to the new one.
#[derive(Debug)]
pub struct Watch {
    /// Its number, unique in the process.
    pub id: u64,
    /// The number of the switch in its configuration.
    pub switch: usize,
    /// The table before. A request that pinned it and that `after` routes elsewhere is on the old side.
    pub before: Arc<Table>,
    /// The table after.
    pub after: Arc<Table>,
    /// The keys that differ.
    pub changes: Vec<Key>,
}

impl Watch {
    /// Returns true if requests with this key (in the form [`switch::normalise`] gives) get another entry than before.
    pub fn concerns(&self, key: &[u8]) -> bool {
        if let [only] = &*self.changes
            && !only.covers(key)
        {
            return false;
        }
        match (self.before.find(key), self.after.find(key)) {
            (None, None) => self.moves_default(),
            // A revert may set an entry anew as it is.
            (Some(before), Some(after)) => {
                !Arc::ptr_eq(before, after) && (&before.key, &before.route) != (&after.key, &after.route)
            }
            _ => true,
        }
    }

    /// Returns true if keys without an entry get another target than before.
    fn moves_default(&self) -> bool {
        let own = |table: &Table| table.own_default().map(|(own, _)| own.to_owned());
        // What a table has taken down for the first time was so before.
        self.changes.is_empty() && own(&self.before) != own(&self.after)
    }

    /// Returns true if it removes entries, so that their keys get what lies beneath.
    pub fn removes(&self) -> bool {
        self.changes.iter().any(|key| self.after.get(key).is_none())
    }

    /// Returns true if it concerns keys that have no entry of their own afterwards.
    pub fn reaches_further(&self) -> bool {
        self.changes.iter().any(|key| key.shape() != Shape::Exact) || self.removes() || self.moves_default()
    }
}

/// A worker thread's acknowledgement of a publication.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledgement {
    /// The thread's number.
    pub worker: usize,
    /// When it switched to them. Requests that it began later use the new tables.
    pub at: Instant,
    /// Its requests and streams on the old side of the watch at that moment; 0 without one.
    pub in_flight_old: usize,
}

/// A request that is still on the old side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldRequest {
    /// Its method and its path, fit for a terminal: `GET /export`.
    pub request: String,
    /// Its age, in milliseconds.
    pub age_ms: u64,
}

/// A worker thread's report on a watch.
#[derive(Clone, Debug, Default)]
pub struct WatchReport {
    /// The thread's number.
    pub worker: usize,
    /// Requests still on the old side, streams apart.
    pub in_flight: u64,
    /// Upgraded connections and other long answers still on the old side.
    pub streams: u64,
    /// When the first request went to the new side.
    pub first_new: Option<Instant>,
    /// When the last request on the old side ended.
    pub last_old: Option<Instant>,
    /// The responses of the old side after the switch.
    pub old: Answers,
    /// The oldest request still on the old side; a stream only if there is nothing else.
    pub oldest: Option<OldRequest>,
}

/// A server that was asked and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedServer {
    /// Its group.
    pub group: String,
    /// Its name, as written.
    pub server: String,
}

/// A worker thread's view of the peers of a group.
#[derive(Clone, Debug)]
pub struct GroupState {
    /// The thread's number.
    pub worker: usize,
    /// The group's name, as written.
    pub name: Arc<str>,
    /// Its peers, primaries first, then those that were removed and still serve.
    pub peers: Vec<PeerState>,
}

/// A worker thread's view of a peer.
#[derive(Clone, Debug)]
pub struct PeerState {
    /// Its name, as written: several addresses of a host share it.
    pub name: Arc<str>,
    /// True if it failed `max_fails` times and is skipped for now.
    pub failed: bool,
    /// Failures in the current window.
    pub fails: u32,
    /// Requests in flight there.
    pub connections: u32,
    /// It is `down`.
    pub down: bool,
    /// It takes no new requests; those under way go on.
    pub draining: bool,
    /// It was removed from the group, and requests are still in flight there.
    pub departed: bool,
    /// Its state as its health checks have it.
    pub health: Health,
    /// Since when they have it so, in ms of the clock of the checks; 0 if they never had it otherwise.
    pub since_ms: u64,
    /// Where it comes from.
    pub source: PeerSource,
}

impl PeerState {
    /// Returns where it comes from in the words of the statistics.
    pub fn origin(&self) -> statistics::PeerSource {
        match self.source {
            PeerSource::File => statistics::PeerSource::File,
            PeerSource::Discovered => statistics::PeerSource::Discovered,
            PeerSource::Order => statistics::PeerSource::Order,
        }
    }

    /// Returns since when its health checks have it in its state, in seconds since the epoch: `clock_ms` by the clock of the checks is
    /// `epoch_ms`. `None` if that is not what keeps it out, or it was never otherwise.
    pub fn since_s(&self, clock_ms: u64, epoch_ms: u64) -> Option<u64> {
        let is_theirs = self.since_ms > 0 && !self.down && !self.draining;
        is_theirs.then(|| epoch_ms.saturating_sub(clock_ms.saturating_sub(self.since_ms)) / 1000)
    }

    /// Returns it in the words of the statistics.
    pub fn state(&self) -> statistics::PeerState {
        match self.health {
            _ if self.down => statistics::PeerState::Down,
            _ if self.draining => statistics::PeerState::Draining,
            Health::Unhealthy => statistics::PeerState::Unhealthy,
            Health::Checking => statistics::PeerState::Checking,
            Health::Healthy if self.failed => statistics::PeerState::Failed,
            Health::Healthy => statistics::PeerState::Up,
        }
    }
}
