//! What the control plane asks of whoever serves the requests.
//!
//! Owns: the trait and the values that cross it. Must never: say how requests are served.

use engine::host::Counters;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use switch::{Key, Table, Tables};

/// How an answer comes back, from whichever thread; it may be called more than once where the question says so.
pub type Reply<T> = Box<dyn Fn(T) + Send + Sync>;

/// Whoever serves the requests. Called on the control thread: no call may block, answers come through the replies.
///
/// A reply that is dropped without an answer counts as no answer; nobody waits for it for ever.
pub trait Traffic: Send + Sync + 'static {
    /// New requests get these tables from now on; requests that wait in a hold look at it again. Each worker thread
    /// answers once, with the moment it took the tables over. Idle connections to groups that no table leads to any
    /// more are closed.
    fn publish(&self, tables: Arc<Tables>, watch: Option<Arc<Watch>>, acknowledged: Reply<Acknowledgement>);
    /// How far a drain is: one answer for each worker thread.
    fn watched(&self, watch: u64, reply: Reply<WatchReport>);
    /// What publishing this watch would move: one answer for each worker thread, of which only the requests and
    /// streams in flight now mean something. The watch is not kept.
    fn affected(&self, watch: Arc<Watch>, reply: Reply<WatchReport>);
    /// Closes the streams that are left on the old side of a watch, spread evenly over this many milliseconds.
    fn close_streams(&self, watch: u64, spread_ms: u64);
    /// Nobody asks about this watch any more.
    fn forget_watch(&self, watch: u64);
    /// The groups of the newest configuration and what is known of their peers: one answer for each worker thread.
    fn peers(&self, reply: Reply<Vec<GroupState>>);
    /// Empties every thread's recorder into the collector, then answers once.
    fn collect(&self, reply: Reply<()>);
    /// All that was counted.
    fn collector(&self) -> &Mutex<statistics::Collector>;
    /// How many worker threads there are: how many answers a question gets.
    fn threads(&self) -> usize;
    /// What `stub_status` shows.
    fn counters(&self) -> Counters;
    /// So many keys are held now: as long as it is any, another process must not take this one's place, because it
    /// would not hold them.
    fn held(&self, keys: usize) {
        let _ = keys;
    }
    /// The configuration is read anew and gone over to; one answer when that has come to an end. A reply that is
    /// dropped means that nobody is there to do it.
    fn reload(&self, reply: Reply<Reloaded>) {
        drop(reply);
    }
}

/// What a reload came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Requests that begin now are served by the new configuration. If not, nothing has changed.
    pub done: bool,
    /// Faults and warnings, as the error log has them.
    pub findings: Vec<String>,
}

/// What the workers look out for after a switch: the requests that are still where the tables led before, and those
/// that went where they lead now.
#[derive(Debug)]
pub struct Watch {
    /// Its number, never used twice in a process.
    pub id: u64,
    /// The number of the switch in its configuration.
    pub switch: usize,
    /// The table before. A request that pinned it and would be led elsewhere by `after` is on the old side.
    pub before: Arc<Table>,
    /// The table after.
    pub after: Arc<Table>,
    /// The keys that differ.
    pub changes: Vec<Key>,
}

/// A worker thread has taken tables over.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledgement {
    /// The thread's number.
    pub worker: usize,
    /// When it did. Requests it began later follow the new tables.
    pub at: Instant,
    /// Its requests and streams on the old side of the watch at that moment; 0 without one.
    pub in_flight_old: usize,
}

/// What one worker thread knows about a watch.
#[derive(Clone, Copy, Debug, Default)]
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
    /// Requests that ended on the new side.
    pub served_new: u64,
    /// Those of them that failed: no answer from upstream, or 5xx.
    pub failed_new: u64,
    /// Requests on the old side that failed after the switch.
    pub failed_old: u64,
}

/// What one worker thread knows about the peers of one group.
#[derive(Clone, Debug)]
pub struct GroupState {
    /// The number of the thread that tells.
    pub worker: usize,
    /// The group's name, as written.
    pub name: Arc<str>,
    /// Its peers, in the order of the configuration.
    pub peers: Vec<PeerState>,
}

/// What one worker thread knows about a peer.
#[derive(Clone, Debug)]
pub struct PeerState {
    /// The address as `$upstream_addr` shows it.
    pub address: Arc<str>,
    /// It failed `max_fails` times and is left alone for the time being.
    pub failed: bool,
    /// Failures in the current window.
    pub fails: u32,
    /// Requests under way there.
    pub connections: u32,
}
