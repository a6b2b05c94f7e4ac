//! Upstream groups as a thread uses them: which peer is next, and the idle connections to each.

use crate::buffers::Room;
use crate::input::Input;
use crate::registry::Outward;
use crate::stream::Stream;
use control::PeerState;
use engine::Config;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use upstream::{
    Address, ConnectionUse, Finished, Group, GroupSpec, IdleKey, IdlePool, Lease, Outcome, Peer, PickError,
    PickInput, Tried,
};

/// A connection to an upstream peer.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Stream,
    pub(crate) input: Input,
    /// Requests it has carried.
    pub(crate) requests: u32,
    /// When it was opened, in ms.
    pub(crate) opened_ms: u64,
    /// Bytes of the present answer's head, interim answers included.
    pub(crate) head_bytes: u64,
    /// Small pieces are sent at once (TCP_NODELAY).
    sends_at_once: bool,
    /// It counts among the thread's connections.
    _outward: Outward,
}

impl Link {
    pub(crate) fn new(stream: Stream, opened_ms: u64, outward: Outward) -> Link {
        Link {
            stream,
            input: Input::with_room(Room::Answer),
            requests: 0,
            opened_ms,
            head_bytes: 0,
            sends_at_once: false,
            _outward: outward,
        }
    }

    /// From now on a small piece does not wait until what was sent before it is acknowledged. A connection that carries
    /// one request in one piece need not be told.
    pub(crate) fn send_at_once(&mut self) {
        if !std::mem::replace(&mut self.sends_at_once, true) {
            self.stream.send_at_once();
        }
    }

    /// Is it as quiet as an idle connection must be? One that was closed, or talks unasked, is of no use.
    fn is_quiet(&self) -> bool {
        self.input.is_empty() && self.stream.is_silent()
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
    idle: RefCell<IdlePool<Box<Link>>>,
    /// How often a peer was picked.
    picks: Cell<u64>,
    doubt: Cell<Option<Doubt>>,
}

/// A switch that leads to this group was moved: perhaps nobody is led here any more.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// How often a peer had been picked when that was last looked at.
    picks: u64,
    /// When the switch was moved, in ms.
    since_ms: u64,
}

/// How long a group is doubted after a switch, in ms: the requests that were under way bring their connections back in
/// this time.
const DOUBT_MS: u64 = 60_000;

impl ThreadGroup {
    /// A group for one request alone: an address or a name that came at run time.
    pub(crate) fn passing(spec: GroupSpec) -> ThreadGroup {
        let spec = Arc::new(spec);
        ThreadGroup {
            state: State::Own(RefCell::new(Group::new(Arc::clone(&spec)))),
            idle: RefCell::new(IdlePool::new(spec.keepalive)),
            picks: Cell::default(),
            doubt: Cell::default(),
            spec,
        }
    }

    /// Its name in the configuration.
    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    fn with<T>(&self, call: impl FnOnce(&mut Group) -> T) -> T {
        match &self.state {
            State::Own(group) => call(&mut group.borrow_mut()),
            // A thread that panicked in here left at worst a count that is off by one.
            State::Shared(group) => call(&mut group.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Picks a peer.
    pub(crate) fn pick(
        self: &Rc<Self>,
        now_ms: u64,
        input: &PickInput<'_>,
        tried: &mut Tried,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Picked, PickError> {
        self.picks.set(self.picks.get() + 1);
        self.with(|group| {
            let lease = group.pick(now_ms, input, tried, random)?;
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

    /// An idle connection to an address, if there is one that is still good.
    pub(crate) fn take_idle(&self, key: &IdleKey, now_ms: u64) -> Option<Box<Link>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(link) = idle.take(key, now_ms) {
            if link.is_quiet() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection for later, if the group keeps any.
    pub(crate) fn keep_idle(&self, key: IdleKey, mut link: Box<Link>, now_ms: u64) {
        link.send_at_once();
        let used = ConnectionUse { requests: link.requests, opened_ms: link.opened_ms };
        drop(self.idle.borrow_mut().put(key, link, now_ms, used));
    }

    /// May connections of this group be used again at all?
    pub(crate) fn keeps_idle(&self) -> bool {
        self.spec.keepalive.max_idle > 0
    }

    /// Must an idle connection serve the same location again (`keepalive … local`)?
    pub(crate) fn keeps_per_location(&self) -> bool {
        self.spec.keepalive.local
    }

    fn sweep(&self, now_ms: u64) {
        let mut idle = self.idle.borrow_mut();
        idle.expire(now_ms, drop);
        let is_left = self.is_left(now_ms);
        while idle.remove_where(|link| is_left || !link.is_quiet()).is_some() {}
    }

    /// A switch was moved that leads, or led, to this group. For a while its idle connections stay open only as long
    /// as somebody asks for one every second.
    pub(crate) fn doubt(&self, now_ms: u64) {
        self.doubt.set(Some(Doubt { picks: self.picks.get(), since_ms: now_ms }));
    }

    /// Does nobody seem to be led here any more? Asked once a second.
    fn is_left(&self, now_ms: u64) -> bool {
        let Some(doubt) = self.doubt.get() else { return false };
        // The first look may come right after the switch.
        let is_left = doubt.picks == self.picks.get() && now_ms >= doubt.since_ms + 1000;
        let is_over = now_ms >= doubt.since_ms + DOUBT_MS;
        self.doubt.set((!is_over).then_some(Doubt { picks: self.picks.get(), ..doubt }));
        is_left
    }

    /// What is known of its peers, which are called by these names.
    pub(crate) fn peers(&self, names: &[Arc<str>], now_ms: u64) -> Vec<PeerState> {
        let state = |(peer, name): (&Peer, &Arc<str>)| {
            let spec = peer.spec();
            let is_full = spec.max_conns > 0 && peer.conns() >= spec.max_conns;
            PeerState {
                address: Arc::clone(name),
                failed: !spec.down && !is_full && !peer.is_available(now_ms),
                fails: peer.fails(),
                connections: peer.conns(),
            }
        };
        self.with(|group| group.peers().iter().zip(names).map(state).collect())
    }
}

/// A peer that was picked. Its lease ends when this is dropped, as neither good nor bad, unless it ended before.
#[derive(Debug)]
pub(crate) struct Picked {
    group: Rc<ThreadGroup>,
    lease: Option<Lease>,
    /// Where it is.
    pub(crate) address: Address,
    /// How `$upstream_addr` shows it.
    pub(crate) label: Arc<str>,
    /// Its place among the group's peers.
    pub(crate) number: usize,
    now_ms: Cell<u64>,
}

impl Picked {
    /// Says how the try went.
    pub(crate) fn finish(mut self, outcome: Outcome, now_ms: u64) -> Finished {
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
            self.group.with(|group| group.finish(lease, Outcome::Neutral, now_ms));
        }
    }
}

/// The groups that all threads share (`zone`), of one generation.
#[derive(Debug)]
pub(crate) struct SharedGroups {
    groups: Vec<Option<Arc<Mutex<Group>>>>,
}

impl SharedGroups {
    /// The shared groups of a configuration; what an earlier one knew of the same group goes on.
    pub(crate) fn new(config: &Config, old: Option<(&Config, &SharedGroups)>) -> SharedGroups {
        let groups = config.groups.iter().map(|entry| {
            if !entry.shared {
                return None;
            }
            let known = old.and_then(|(old_config, old)| old.find(old_config, &entry.spec.name));
            let mut group = Group::new(Arc::clone(&entry.spec));
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
    /// The groups of a configuration. One that is the same as before goes on with its marks and its idle
    /// connections; one that changed takes over what is known of the peers it still has.
    pub(crate) fn new(config: &Config, shared: &SharedGroups, old: Option<&Groups>) -> Groups {
        let groups = config.groups.iter().zip(&shared.groups).map(|(entry, shared)| {
            let known =
                old.and_then(|old| old.groups.iter().find(|known| known.spec.name == entry.spec.name));
            if let Some(known) = known
                && *known.spec == *entry.spec
                && shared.is_none()
                && matches!(known.state, State::Own(_))
            {
                return Rc::clone(known);
            }
            let state = match shared {
                Some(group) => State::Shared(Arc::clone(group)),
                None => {
                    let mut group = Group::new(Arc::clone(&entry.spec));
                    if let Some(known) = known {
                        known.with(|old| group.carry_over(old));
                    }
                    State::Own(RefCell::new(group))
                }
            };
            let idle = RefCell::new(IdlePool::new(entry.spec.keepalive));
            let (picks, doubt) = Default::default();
            Rc::new(ThreadGroup { spec: Arc::clone(&entry.spec), state, idle, picks, doubt })
        });
        Groups { groups: groups.collect() }
    }

    /// A group by its number.
    pub(crate) fn get(&self, number: usize) -> &Rc<ThreadGroup> {
        &self.groups[number]
    }

    /// Closes idle connections that are too old or that the peer closed.
    pub(crate) fn sweep(&self, now_ms: u64) {
        self.groups.iter().for_each(|group| group.sweep(now_ms));
    }
}
