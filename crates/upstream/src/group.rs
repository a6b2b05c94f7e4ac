//! A group of peers while it serves.
//!
//! Owns: the steps of one try — pick, lease, outcome — and the replacement of peers under traffic.
//! Must never: be shared without a lock. One per worker thread gives nginx's behaviour without `zone`; one behind a
//! mutex gives the behaviour with it. The choice is the owner's.

use std::sync::Arc;

use crate::address::Address;
use crate::balancers::{self, Balancer, Turn};
use crate::health::GroupHealth;
use crate::lease::{Lease, TryOutcome};
use crate::peer::{Peer, Peers};
use crate::pick::{PickError, PickInput};
use crate::spec::GroupSpec;
use crate::tried::{Tier, Tried};

/// The result of [`Group::finish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// Nothing to log.
    Recorded,
    /// This failure leaves the peer unavailable for its `fail_timeout`. nginx logs, at level `warn`,
    /// `upstream server temporarily disabled`.
    Disabled,
}

/// The run-time state of one [`GroupSpec`].
///
/// ```
/// use pointsman_upstream::{
///     BalancerSpec, Group, GroupSpec, KeepaliveSpec, PeerSpec, PickError, PickInput, Tried, TryOutcome,
/// };
/// use std::net::SocketAddr;
/// use std::sync::Arc;
///
/// let peer = |port| PeerSpec::new(format!("127.0.0.1:{port}"), SocketAddr::from(([127, 0, 0, 1], port)).into());
/// let spec = GroupSpec {
///     name: "blue".into(),
///     peers: vec![peer(8081), peer(8082)],
///     balancer: BalancerSpec::RoundRobin,
///     keepalive: KeepaliveSpec::default(),
///     ring: Default::default(),
/// };
/// let mut group = Group::new(Arc::new(spec));
/// let mut tried = Tried::new(0);
/// let (now_ms, input, mut random) = (1_000, PickInput::default(), || 0);
///
/// // The first peer fails, so the request tries the second one.
/// let lease = group.pick(now_ms, &input, &mut tried, &mut random)?;
/// assert_eq!(&**group.peer(&lease).label(), "127.0.0.1:8081");
/// group.finish(lease, TryOutcome::Failed, now_ms);
/// let lease = group.pick(now_ms, &input, &mut tried, &mut random)?;
/// assert_eq!(&**group.peer(&lease).label(), "127.0.0.1:8082");
/// group.finish(lease, TryOutcome::Success, now_ms);
/// assert_eq!(tried.tries_left(), 0);
/// # Ok::<(), PickError>(())
/// ```
#[derive(Debug)]
pub struct Group {
    spec: Arc<GroupSpec>,
    peers: Peers,
    /// Peers that were removed while leases on them were under way; dropped when the last of those ends.
    departed: Vec<Peer>,
    balancer: Box<dyn Balancer>,
    /// Counts replacements, from 1, so that a [`Tried`] knows whether its marks still mean the same peers.
    revision: u64,
}

impl Group {
    /// Creates a group, before its first request.
    pub fn new(spec: Arc<GroupSpec>) -> Group {
        Group::checked(spec, None)
    }

    /// Creates a group whose servers are checked: they are picked only while their entries say that they are healthy.
    pub fn checked(spec: Arc<GroupSpec>, health: Option<Arc<GroupHealth>>) -> Group {
        let peers = Peers::new(&spec.peers, health);
        let balancer = balancers::build(&spec, &peers);
        Group { spec, peers, departed: Vec::new(), balancer, revision: 1 }
    }

    /// Returns the configuration it serves.
    pub fn spec(&self) -> &Arc<GroupSpec> {
        &self.spec
    }

    /// Returns the number of times its peers were replaced, and one: what is known of their positions is void under another.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the peers that can be picked: primaries in the order of the configuration, then backups likewise.
    pub fn peers(&self) -> &[Peer] {
        &self.peers.list
    }

    /// Returns true if its servers are checked.
    pub fn is_checked(&self) -> bool {
        self.peers.health().is_some()
    }

    /// Returns the peers that were removed and still serve: a drain waits for them.
    pub fn departed(&self) -> &[Peer] {
        &self.departed
    }

    /// Carries over, for the same servers (name and address), the state of `old`: failures and the place in the
    /// rotation. Not the connections: leases taken from `old` must be finished on `old`, so counting them here
    /// would never be undone. Where one group should see all connections across a reload, keep the group and
    /// call [`Group::replace_peers`].
    pub fn carry_over(&mut self, old: &Group) {
        self.peers.inherit(&old.peers);
    }

    /// Replaces the configuration. Servers that stay (name and address) keep failures, place in the
    /// rotation and connections; leases under way stay valid in any case, also those on servers that go.
    pub fn replace_peers(&mut self, spec: Arc<GroupSpec>) {
        // A server may come back before its last lease has ended, so the departed take part in the matching.
        self.peers.list.append(&mut self.departed);
        self.departed = self.peers.replace(&spec.peers);
        self.departed.retain(|peer| peer.conns > 0);
        self.balancer = balancers::build(&spec, &self.peers);
        self.spec = spec;
        self.revision += 1;
    }

    /// Picks a peer that this request has not tried. `random` is called only by the balancer `random`, once per draw.
    ///
    /// Allocates nothing, except once for a request that tries a peer beyond the 64th.
    pub fn pick(
        &mut self,
        now_ms: u64,
        input: &PickInput<'_>,
        tried: &mut Tried,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Lease, PickError> {
        if self.peers.list.is_empty() {
            return Err(PickError::Empty);
        }
        tried.begin(self.revision, || self.peers.tries());
        let single = self.peers.is_single();
        let index = if single {
            // As in nginx, neither failures nor earlier tries matter: there is no other peer. Checks do.
            let peer = &self.peers.list[0];
            if !peer.spec().is_in_use() || peer.is_full() || !peer.is_healthy() {
                return Err(PickError::NoLive);
            }
            0
        } else {
            let mut turn = Turn { peers: &mut self.peers, tried, input, now_ms, random };
            let index = choose(self.balancer.as_ref(), &mut turn).ok_or(PickError::NoLive)?;
            turn.tried.insert(index);
            turn.peers.list[index].open_window(now_ms);
            index
        };
        tried.spend(single);
        let peer = &mut self.peers.list[index];
        peer.conns += 1;
        Ok(Lease { index: u32::try_from(index).unwrap_or(u32::MAX), id: peer.id })
    }

    /// Returns the tries left with the next one, for a script that chooses the peer of that: at least one.
    pub fn tries_left(&self, tried: &mut Tried) -> u32 {
        tried.begin(self.revision, || self.peers.tries().max(1));
        tried.tries_left()
    }

    /// Begins a try of the peer at an address that a script has chosen, whatever is known of that peer, and allows `more` tries
    /// after it. Returns the lease if the peer is one of the group, for [`Group::release`]. To be called after
    /// [`Group::tries_left`].
    pub fn pick_at(&mut self, address: &Address, more: i32, tried: &mut Tried) -> Option<Lease> {
        tried.grant(more);
        tried.spend(false);
        let index = self.peers.list.iter().position(|peer| peer.address() == address)?;
        let peer = &mut self.peers.list[index];
        peer.conns += 1;
        Some(Lease { index: u32::try_from(index).unwrap_or(u32::MAX), id: peer.id })
    }

    /// Ends the lease of a peer that a script has chosen: what became of the try says nothing about the peer, as in ngx_lua.
    pub fn release(&mut self, lease: Lease) {
        let (index, id) = (lease.index, lease.id);
        lease.close();
        match self.peers.position(index, id) {
            Some(index) => self.peers.list[index].release(),
            None => self.finish_departed(id),
        }
    }

    /// Returns the peer a lease is for.
    ///
    /// # Panics
    /// If the lease was taken from another group.
    pub fn peer(&self, lease: &Lease) -> &Peer {
        match self.peers.position(lease.index, lease.id) {
            Some(index) => &self.peers.list[index],
            None => match self.departed.iter().find(|peer| peer.id == lease.id) {
                Some(peer) => peer,
                None => panic!("a lease on peer {} was returned to a group without that peer", lease.id),
            },
        }
    }

    /// Ends a lease.
    pub fn finish(&mut self, lease: Lease, outcome: TryOutcome, now_ms: u64) -> Finished {
        let (index, id) = (lease.index, lease.id);
        lease.close();
        let single = self.peers.is_single();
        let Some(index) = self.peers.position(index, id) else {
            self.finish_departed(id);
            return Finished::Recorded;
        };
        let peer = &mut self.peers.list[index];
        peer.release();
        match outcome {
            _ if single => peer.forget_failures(),
            TryOutcome::Failed => {
                if peer.record_failure(now_ms) {
                    return Finished::Disabled;
                }
            }
            TryOutcome::Success | TryOutcome::Neutral => peer.record_success(now_ms),
        }
        Finished::Recorded
    }

    /// Forgets the failures of a server, by its name as written: it was asked, and answers. nginx would try it again after
    /// `fail_timeout`.
    pub fn forgive(&mut self, server: &str, now_ms: u64) {
        for peer in self.peers.list.iter_mut().filter(|peer| peer.spec().name == server) {
            peer.forgive(now_ms);
        }
    }

    fn finish_departed(&mut self, id: u64) {
        let place = self.departed.iter().position(|peer| peer.id == id);
        debug_assert!(place.is_some(), "a lease on peer {id} was returned to a group without that peer");
        if let Some(place) = place {
            let peer = &mut self.departed[place];
            peer.release();
            if peer.conns == 0 {
                self.departed.swap_remove(place);
            }
        }
    }
}

/// Asks the balancer, and once more among the backups when no primary is left. A request that has come to the
/// backups stays with them, as in nginx.
fn choose(balancer: &dyn Balancer, turn: &mut Turn<'_>) -> Option<usize> {
    let index = balancer.choose(turn);
    if index.is_some() || turn.tried.tier == Tier::Backup || turn.peers.backups().is_empty() {
        return index;
    }
    turn.tried.tier = Tier::Backup;
    balancer.choose(turn)
}
