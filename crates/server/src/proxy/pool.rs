//! Upstream groups on a thread: which peer is next, and the idle connections to each.

use super::http2::wire::H2Upstream;
use crate::context::conn_state::ConnCount;
use control::PeerState;
use engine::Config;
use engine::modules::upstream::GroupEntry;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use transport::buffers::{Buffers, Room};
use transport::read_buffer::ReadBuffer;
use transport::stream::Stream;
use upstream::health::HealthTable;
use upstream::{
    Address, ConnectionUse, Finished, Group, GroupSpec, IdleKey, IdlePool, Lease, Peer, PickError, PickInput,
    Tried, TryOutcome,
};

/// A connection to an upstream peer.
#[derive(Debug)]
pub(crate) struct UpstreamConn {
    pub(crate) stream: Stream,
    pub(crate) read_buffer: ReadBuffer,
    /// Requests it has carried.
    pub(crate) requests: u32,
    /// When it was opened, in ms.
    pub(crate) opened_ms: u64,
    /// Bytes of the present response's head, interim responses included.
    pub(crate) head_bytes: u64,
    /// What is said on it beside requests, if it speaks HTTP/2.
    pub(super) h2: Option<Box<H2Upstream>>,
    /// Small pieces are sent at once (TCP_NODELAY).
    sends_at_once: bool,
    /// It counts among the thread's connections.
    _count: ConnCount,
}

impl UpstreamConn {
    /// Creates one that has carried nothing. It speaks HTTP/2 if there is a size for its heads.
    pub(super) fn new(
        stream: Stream,
        opened_ms: u64,
        upstream_conns: ConnCount,
        h2_head_size: Option<u64>,
    ) -> UpstreamConn {
        let h2 = h2_head_size.map(|size| Box::new(H2Upstream::new(size as usize)));
        let mut conn = UpstreamConn {
            stream,
            read_buffer: ReadBuffer::with_room(Room::Answer),
            requests: 0,
            opened_ms,
            head_bytes: 0,
            h2,
            sends_at_once: false,
            _count: upstream_conns,
        };
        if conn.h2.is_some() {
            conn.send_at_once();
        }
        conn
    }

    /// Sets TCP_NODELAY, so that small pieces do not wait for acknowledgements. A connection that carries one request in one
    /// piece does not need it.
    pub(crate) fn send_at_once(&mut self) {
        if !std::mem::replace(&mut self.sends_at_once, true) {
            self.stream.send_at_once();
        }
    }

    /// Returns true if it is as quiet as an idle connection must be, neither closed nor with bytes that nothing asked for.
    fn is_quiet(&mut self, buffers: &Buffers, now_ms: u64) -> bool {
        match &mut self.h2 {
            None => self.read_buffer.is_empty() && self.stream.is_silent(),
            Some(h2) => {
                self.stream.is_silent()
                    || h2.stay_idle(&mut self.stream, &mut self.read_buffer, buffers, now_ms)
            }
        }
    }
}

impl Drop for UpstreamConn {
    fn drop(&mut self) {
        if let Some(h2) = &mut self.h2 {
            h2.part(&mut self.stream);
        }
    }
}

/// The state of a group's peers: of this thread, or of all threads (`zone`).
#[derive(Debug)]
enum State {
    Own(RefCell<Group>),
    Shared(Arc<Mutex<Group>>),
}

/// A group on one thread.
#[derive(Debug)]
pub(crate) struct ThreadGroup {
    spec: Arc<GroupSpec>,
    state: State,
    idle: RefCell<IdlePool<Box<UpstreamConn>>>,
    /// How often a peer was picked.
    picks: Cell<u64>,
    suspicion: Cell<Option<Suspicion>>,
}

/// A switch with this target was moved: perhaps no key routes here any more.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    /// How often a peer had been picked at the last check.
    picks: u64,
    /// When the switch was moved, in ms.
    since_ms: u64,
}

/// How long a group is suspected after a switch, in ms: the requests that were under way return their connections in this
/// time.
const SUSPICION_MS: u64 = 60_000;

impl ThreadGroup {
    /// Creates the group of one request, whose address or name came at run time.
    pub(crate) fn single_use(spec: GroupSpec) -> ThreadGroup {
        let spec = Arc::new(spec);
        ThreadGroup {
            state: State::Own(RefCell::new(Group::new(Arc::clone(&spec)))),
            idle: RefCell::new(IdlePool::new(spec.keepalive)),
            picks: Cell::default(),
            suspicion: Cell::default(),
            spec,
        }
    }

    /// Returns its name in the configuration.
    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    fn with<T>(&self, call: impl FnOnce(&mut Group) -> T) -> T {
        match &self.state {
            State::Own(group) => call(&mut group.borrow_mut()),
            // A thread that panicked here has left at worst a count that is off by one.
            State::Shared(group) => call(&mut group.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Picks a peer.
    pub(crate) fn pick(
        self: &Rc<Self>,
        now_ms: u64,
        read_buffer: &PickInput<'_>,
        tried: &mut Tried,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Picked, PickError> {
        self.picks.set(self.picks.get() + 1);
        self.with(|group| {
            let lease = group.pick(now_ms, read_buffer, tried, random)?;
            let peer = group.peer(&lease);
            let offset = std::ptr::from_ref(peer).addr().wrapping_sub(group.peers().as_ptr().addr());
            let (address, label) = (peer.address().clone(), Arc::clone(peer.label()));
            Ok(Picked {
                group: Rc::clone(self),
                lease: Some(lease),
                address,
                label,
                number: offset / size_of::<Peer>(),
                now_ms: Cell::new(now_ms),
            })
        })
    }

    /// Takes an idle connection to an address, if there is one that is still usable.
    pub(crate) fn take_idle(
        &self,
        key: &IdleKey,
        buffers: &Buffers,
        now_ms: u64,
    ) -> Option<Box<UpstreamConn>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut conn) = idle.take(key, now_ms) {
            if conn.is_quiet(buffers, now_ms) {
                return Some(conn);
            }
        }
        None
    }

    /// Keeps a connection for reuse, if the group keeps any.
    pub(crate) fn keep_idle(&self, key: IdleKey, mut conn: Box<UpstreamConn>, now_ms: u64) {
        conn.send_at_once();
        let used = ConnectionUse { requests: conn.requests, opened_ms: conn.opened_ms };
        drop(self.idle.borrow_mut().put(key, conn, now_ms, used));
    }

    /// Returns true if connections of this group may be reused.
    pub(crate) fn keeps_idle(&self) -> bool {
        self.spec.keepalive.max_idle > 0
    }

    /// Returns true if an idle connection serves only its location (`keepalive … local`).
    pub(crate) fn keeps_per_location(&self) -> bool {
        self.spec.keepalive.local
    }

    fn sweep(&self, buffers: &Buffers, now_ms: u64) {
        let mut idle = self.idle.borrow_mut();
        idle.expire(now_ms, drop);
        let is_left = self.is_left(now_ms);
        while idle.remove_where(|conn| is_left || !conn.is_quiet(buffers, now_ms)).is_some() {}
    }

    /// Notes that a switch with this target was moved. For a while its idle connections stay open only as long as the group
    /// is used every second.
    pub(crate) fn suspect(&self, now_ms: u64) {
        self.suspicion.set(Some(Suspicion { picks: self.picks.get(), since_ms: now_ms }));
    }

    /// Returns true if the group seems unused since a switch was moved. Called once a second.
    fn is_left(&self, now_ms: u64) -> bool {
        let Some(suspicion) = self.suspicion.get() else { return false };
        // The first check may come right after the switch.
        let is_left = suspicion.picks == self.picks.get() && now_ms >= suspicion.since_ms + 1000;
        let is_over = now_ms >= suspicion.since_ms + SUSPICION_MS;
        self.suspicion.set((!is_over).then_some(Suspicion { picks: self.picks.get(), ..suspicion }));
        is_left
    }

    /// Returns the state of its peers under these names.
    pub(crate) fn peers(&self, names: &[Arc<str>], now_ms: u64) -> Vec<PeerState> {
        let state = |(peer, name): (&Peer, &Arc<str>)| {
            let spec = peer.spec();
            PeerState {
                address: Arc::clone(name),
                failed: !spec.down && peer.is_failed(now_ms),
                fails: peer.fails(),
                connections: peer.conns(),
            }
        };
        self.with(|group| group.peers().iter().zip(names).map(state).collect())
    }
}

/// A peer that was picked. If its lease is not finished, it ends as neutral when this is dropped.
#[derive(Debug)]
pub(crate) struct Picked {
    group: Rc<ThreadGroup>,
    lease: Option<Lease>,
    /// Its address.
    pub(crate) address: Address,
    /// Its address as `$upstream_addr` shows it.
    pub(crate) label: Arc<str>,
    /// Its number among the group's peers.
    pub(crate) number: usize,
    now_ms: Cell<u64>,
}

impl Picked {
    /// Finishes the lease.
    pub(crate) fn finish(mut self, outcome: TryOutcome, now_ms: u64) -> Finished {
        match self.lease.take() {
            Some(lease) => self.group.with(|group| group.finish(lease, outcome, now_ms)),
            None => Finished::Recorded,
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let now_ms = self.now_ms.get();
            self.group.with(|group| group.finish(lease, TryOutcome::Neutral, now_ms));
        }
    }
}

fn is_checked(entry: &GroupEntry) -> bool {
    !entry.checks.is_empty()
}

fn new_group(entry: &GroupEntry, health: &HealthTable) -> Group {
    let health = is_checked(entry).then(|| health.group(&entry.spec.name));
    Group::checked(Arc::clone(&entry.spec), health)
}

/// The groups that all threads share (`zone`), of one generation.
#[derive(Debug)]
pub(crate) struct SharedGroups {
    groups: Vec<Option<Arc<Mutex<Group>>>>,
}

impl SharedGroups {
    /// Creates the shared groups of a configuration, with the state that an earlier one has of them.
    pub(crate) fn new(
        config: &Config,
        old: Option<(&Config, &SharedGroups)>,
        health: &HealthTable,
    ) -> SharedGroups {
        let groups = config.groups.iter().map(|entry| {
            if !entry.shared {
                return None;
            }
            let known = old.and_then(|(old_config, old)| old.find(old_config, &entry.spec.name));
            let mut group = new_group(entry, health);
            if let Some(known) = known {
                group.carry_over(&known.lock().unwrap_or_else(PoisonError::into_inner));
            }
            Some(Arc::new(Mutex::new(group)))
        });
        SharedGroups { groups: groups.collect() }
    }

    fn find(&self, config: &Config, name: &str) -> Option<&Arc<Mutex<Group>>> {
        let index = config.groups.iter().position(|entry| entry.spec.name == name)?;
        self.groups[index].as_ref()
    }
}

/// All groups of a generation on one thread.
#[derive(Debug)]
pub(crate) struct Groups {
    groups: Vec<Rc<ThreadGroup>>,
}

impl Groups {
    /// Creates the groups of a configuration. An unchanged one keeps its state and its idle connections; a changed one takes
    /// over the state of the peers it still has.
    pub(crate) fn new(
        config: &Config,
        shared: &SharedGroups,
        old: Option<&Groups>,
        health: &HealthTable,
    ) -> Groups {
        let groups = config.groups.iter().zip(&shared.groups).map(|(entry, shared)| {
            let known =
                old.and_then(|old| old.groups.iter().find(|known| known.spec.name == entry.spec.name));
            if let Some(known) = known
                && *known.spec == *entry.spec
                && shared.is_none()
                && matches!(known.state, State::Own(_))
                && known.with(|group| group.is_checked()) == is_checked(entry)
            {
                return Rc::clone(known);
            }
            let state = match shared {
                Some(group) => State::Shared(Arc::clone(group)),
                None => {
                    let mut group = new_group(entry, health);
                    if let Some(known) = known {
                        known.with(|old| group.carry_over(old));
                    }
                    State::Own(RefCell::new(group))
                }
            };
            let idle = RefCell::new(IdlePool::new(entry.spec.keepalive));
            let (picks, suspicion) = Default::default();
            Rc::new(ThreadGroup { spec: Arc::clone(&entry.spec), state, idle, picks, suspicion })
        });
        Groups { groups: groups.collect() }
    }

    /// Returns a group by its number.
    pub(crate) fn get(&self, number: usize) -> &Rc<ThreadGroup> {
        &self.groups[number]
    }

    /// Closes idle connections that are too old or that the peer closed.
    pub(crate) fn sweep(&self, buffers: &Buffers, now_ms: u64) {
        self.groups.iter().for_each(|group| group.sweep(buffers, now_ms));
    }
}
