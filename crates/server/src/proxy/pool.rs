//! An upstream group on a thread: which peer is next, and the idle connections to each.
//!
//! Owns what a change of its servers means here: the picks that follow are among the new ones, and no idle connection to
//! another is left. Which groups there are is for [`super::groups`].

use super::upstream_conn::UpstreamConn;
use control::PeerState;
use engine::modules::lua::balancer::ScriptKeepalive;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use transport::buffers::Buffers;
use upstream::health::ServerHealth;
use upstream::{
    Address, ConnectionUse, Finished, Group, GroupSpec, IdleKey, IdlePool, KeepaliveSpec, Lease, Peer,
    PickError, PickInput, Tried, TryOutcome,
};

/// The state of a group's peers: of this thread, or of all threads (`zone`).
#[derive(Debug)]
pub(super) enum State {
    Own(RefCell<Group>),
    Shared(Arc<Mutex<ZoneGroup>>),
}

/// A group that all threads share.
#[derive(Debug)]
pub(crate) struct ZoneGroup {
    pub(super) group: Group,
    /// The publication that its servers are of: a thread that is behind must not bring those of an earlier one back.
    pub(super) number: u64,
}

/// A group on one thread.
#[derive(Debug)]
pub(crate) struct ThreadGroup {
    name: Box<str>,
    keepalive: KeepaliveSpec,
    state: State,
    idle: RefCell<IdlePool<Box<UpstreamConn>>>,
    /// Those that scripts have kept: a pool of its own, with the times of each. Made when one is kept.
    script_idle: OnceCell<RefCell<IdlePool<Box<UpstreamConn>>>>,
    /// The servers that take no new requests and may still have some: the connections of those are not kept.
    left: RefCell<Vec<Address>>,
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
        let (name, keepalive) = (spec.name.as_str().into(), spec.keepalive);
        ThreadGroup::new(name, keepalive, State::Own(RefCell::new(Group::new(Arc::new(spec)))))
    }

    /// Creates a group with this state, and without idle connections.
    pub(super) fn new(name: Box<str>, keepalive: KeepaliveSpec, state: State) -> ThreadGroup {
        ThreadGroup {
            name,
            keepalive,
            state,
            idle: RefCell::new(IdlePool::new(keepalive)),
            script_idle: OnceCell::new(),
            left: RefCell::default(),
            picks: Cell::default(),
            suspicion: Cell::default(),
        }
    }

    /// Returns its name in the configuration.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn with<T>(&self, call: impl FnOnce(&mut Group) -> T) -> T {
        match &self.state {
            State::Own(group) => call(&mut group.borrow_mut()),
            // A thread that panicked here has left at worst a count that is off by one.
            State::Shared(group) => call(&mut group.lock().unwrap_or_else(PoisonError::into_inner).group),
        }
    }

    /// Returns true if its state is this thread's own.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.state, State::Own(_))
    }

    /// Returns true if it can take these servers and remain what it is.
    pub(super) fn fits(&self, spec: &GroupSpec, is_shared: bool) -> bool {
        self.keepalive == spec.keepalive && self.is_own() != is_shared
    }

    /// Takes the servers of a publication. Those that stay keep their state and connections, requests under way go on. To be
    /// followed by [`ThreadGroup::close_left`] before any request is served.
    pub(super) fn adopt(&self, spec: &Arc<GroupSpec>, number: u64) {
        let is_new = |group: &Group| !Arc::ptr_eq(group.spec(), spec);
        match &self.state {
            State::Own(group) => {
                let mut group = group.borrow_mut();
                if is_new(&group) {
                    group.replace_peers(Arc::clone(spec));
                }
            }
            State::Shared(zone) => {
                let mut zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
                if zone.number < number && is_new(&zone.group) {
                    zone.group.replace_peers(Arc::clone(spec));
                }
                zone.number = zone.number.max(number);
            }
        }
    }

    /// Closes the idle connections to servers that are left, and notes which of those have requests still.
    pub(super) fn close_left(&self) {
        let left = self.with(|group| {
            let of = |peer: &Peer| peer.address().clone();
            let used: HashSet<&Address> =
                group.peers().iter().filter(|peer| peer.spec().is_in_use()).map(Peer::address).collect();
            self.idle.borrow_mut().drain_where(|key| !used.contains(&key.address), drop);
            let all = group.peers().iter().chain(group.departed());
            let busy = all.filter(|peer| peer.conns() > 0 && !used.contains(peer.address()));
            busy.map(of).collect()
        });
        self.left.replace(left);
    }

    /// Picks a peer. `number` says under which number it is measured: it is given the group, and the peer's position in it.
    pub(crate) fn pick(
        self: &Rc<Self>,
        now_ms: u64,
        read_buffer: &PickInput<'_>,
        tried: &mut Tried,
        random: &mut dyn FnMut() -> u64,
        number: impl FnOnce(&Group, usize) -> usize,
    ) -> Result<Picked, PickError> {
        self.picks.set(self.picks.get() + 1);
        self.with(|group| {
            let lease = group.pick(now_ms, read_buffer, tried, random)?;
            let peer = group.peer(&lease);
            let position = position(group, peer);
            let (address, label) = (peer.address().clone(), Arc::clone(peer.label()));
            let health = peer.health().cloned();
            Ok(Picked {
                group: Rc::clone(self),
                lease: Some(lease),
                is_judged: true,
                address,
                label,
                health,
                number: number(group, position),
                now_ms: Cell::new(now_ms),
            })
        })
    }

    /// Returns the tries left with the next one, for a script that chooses the peer of that.
    pub(crate) fn tries_left(&self, tried: &mut Tried) -> u32 {
        self.with(|group| group.tries_left(tried))
    }

    /// Returns true if it has no servers.
    pub(crate) fn is_empty(&self) -> bool {
        self.with(|group| group.peers().is_empty())
    }

    /// Begins a try of the peer at an address that a script has chosen; `more` tries are allowed after it. `number` is as in
    /// [`ThreadGroup::pick`].
    pub(crate) fn pick_at(
        self: &Rc<Self>,
        now_ms: u64,
        address: Address,
        more: i32,
        tried: &mut Tried,
        number: impl FnOnce(&Group, usize) -> usize,
    ) -> Picked {
        self.picks.set(self.picks.get() + 1);
        let (lease, label, health, number) = self.with(|group| match group.pick_at(&address, more, tried) {
            Some(lease) => {
                let peer = group.peer(&lease);
                let position = position(group, peer);
                let label = Arc::clone(peer.label());
                (Some(lease), label, peer.health().cloned(), number(group, position))
            }
            // Measured with all others that the configuration does not name.
            None => (None, address.to_string().into(), None, usize::MAX),
        });
        Picked {
            group: Rc::clone(self),
            lease,
            is_judged: false,
            address,
            label,
            health,
            number,
            now_ms: Cell::new(now_ms),
        }
    }

    /// Takes an idle connection that a script has kept, if there is one that is still usable.
    pub(crate) fn take_kept_by_script(
        &self,
        key: &IdleKey,
        buffers: &Buffers,
        now_ms: u64,
    ) -> Option<Box<UpstreamConn>> {
        let mut idle = self.script_idle.get()?.borrow_mut();
        while let Some(mut conn) = idle.take(key, now_ms) {
            if !conn.is_overdue(now_ms) && conn.is_quiet(buffers, now_ms) {
                return Some(conn);
            }
        }
        None
    }

    /// Keeps a connection as a script wants it kept, one of `max_idle`.
    pub(crate) fn keep_by_script(
        &self,
        key: IdleKey,
        mut conn: Box<UpstreamConn>,
        how: ScriptKeepalive,
        max_idle: u32,
        now_ms: u64,
    ) {
        if how.max_requests > 0 && conn.requests >= how.max_requests {
            return;
        }
        conn.idle_until_ms = if how.idle_ms == 0 { 0 } else { now_ms.saturating_add(how.idle_ms) };
        conn.send_at_once();
        let unlimited = KeepaliveSpec {
            max_idle,
            local: false,
            requests: u32::MAX,
            time_ms: u64::MAX,
            timeout_ms: u64::MAX,
        };
        let pool = self.script_idle.get_or_init(|| RefCell::new(IdlePool::new(unlimited)));
        let mut pool = pool.borrow_mut();
        if pool.spec().max_idle != max_idle {
            pool.reconfigure(unlimited, now_ms, drop);
        }
        let used = ConnectionUse { requests: conn.requests, opened_ms: conn.opened_ms };
        drop(pool.put(key, conn, now_ms, used));
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
        if self.left.borrow().contains(&key.address) {
            return;
        }
        conn.send_at_once();
        let used = ConnectionUse { requests: conn.requests, opened_ms: conn.opened_ms };
        drop(self.idle.borrow_mut().put(key, conn, now_ms, used));
    }

    /// Returns true if connections of this group may be reused.
    pub(crate) fn keeps_idle(&self) -> bool {
        self.keepalive.max_idle > 0
    }

    /// Returns true if an idle connection serves only its location (`keepalive … local`).
    pub(crate) fn keeps_per_location(&self) -> bool {
        self.keepalive.local
    }

    /// Closes idle connections that are too old or that the peer closed.
    pub(super) fn sweep(&self, buffers: &Buffers, now_ms: u64) {
        let mut idle = self.idle.borrow_mut();
        idle.expire(now_ms, drop);
        let is_left = self.is_left(now_ms);
        while idle.remove_where(|conn| is_left || !conn.is_quiet(buffers, now_ms)).is_some() {}
        if let Some(idle) = self.script_idle.get() {
            let is_over = |conn: &mut Box<UpstreamConn>| {
                is_left || conn.is_overdue(now_ms) || !conn.is_quiet(buffers, now_ms)
            };
            let mut idle = idle.borrow_mut();
            while idle.remove_where(is_over).is_some() {}
        }
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

    /// Forgets the failures of a server, by its name as written.
    pub(crate) fn forgive(&self, server: &str, now_ms: u64) {
        self.with(|group| group.forgive(server, now_ms));
    }

    /// Returns its peers with their state.
    pub(crate) fn all_peers(&self) -> Vec<Peer> {
        self.with(|group| group.peers().to_vec())
    }

    /// Returns the state of its peers, and of those that were removed and still serve.
    pub(crate) fn peers(&self, now_ms: u64) -> Vec<PeerState> {
        let state = |peer: &Peer, departed: bool| {
            let spec = peer.spec();
            PeerState {
                name: spec.name.as_str().into(),
                failed: spec.is_in_use() && peer.is_failed(now_ms),
                fails: peer.fails(),
                connections: peer.conns(),
                down: spec.down,
                draining: spec.drain,
                departed,
                health: peer.health().map_or_else(Default::default, |entry| entry.health()),
                since_ms: peer.health().map_or(0, |entry| entry.since_ms()),
                source: spec.source,
            }
        };
        self.with(|group| {
            let present = group.peers().iter().map(|peer| state(peer, false));
            present.chain(group.departed().iter().map(|peer| state(peer, true))).collect()
        })
    }
}

/// Returns the position of a peer in its group.
fn position(group: &Group, peer: &Peer) -> usize {
    let offset = std::ptr::from_ref(peer).addr().wrapping_sub(group.peers().as_ptr().addr());
    offset / size_of::<Peer>()
}

/// A peer that was picked. If its lease is not finished, it ends as neutral when this is dropped.
#[derive(Debug)]
pub(crate) struct Picked {
    group: Rc<ThreadGroup>,
    lease: Option<Lease>,
    /// The outcome of the try says something about the peer: it does not if a script has chosen it.
    is_judged: bool,
    /// Its address.
    pub(crate) address: Address,
    /// Its address as `$upstream_addr` shows it.
    pub(crate) label: Arc<str>,
    /// The health of the peer, if it is checked.
    pub(crate) health: Option<Arc<ServerHealth>>,
    /// The number under which it is measured.
    pub(crate) number: usize,
    now_ms: Cell<u64>,
}

impl Picked {
    /// Finishes the lease.
    pub(crate) fn finish(mut self, outcome: TryOutcome, now_ms: u64) -> Finished {
        match self.lease.take() {
            Some(lease) if self.is_judged => self.group.with(|group| group.finish(lease, outcome, now_ms)),
            Some(lease) => {
                self.group.with(|group| group.release(lease));
                Finished::Recorded
            }
            None => Finished::Recorded,
        }
    }

    /// Returns true if a script has chosen it.
    pub(crate) fn is_by_script(&self) -> bool {
        !self.is_judged
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let now_ms = self.now_ms.get();
            self.group.with(|group| match self.is_judged {
                true => drop(group.finish(lease, TryOutcome::Neutral, now_ms)),
                false => group.release(lease),
            });
        }
    }
}
