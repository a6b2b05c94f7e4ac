//! One peer while it serves, and the list of them.
//!
//! Owns: connection counts, failure accounting (nginx's passive health) and the weights of the round robin.
//! Must never: choose a peer; that is for `balancers`.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::address::Address;
use crate::health::{GroupHealth, Health, ServerHealth};
use crate::spec::PeerSpec;

/// A peer and its state.
#[derive(Debug, Clone)]
pub struct Peer {
    spec: PeerSpec,
    label: Arc<str>,
    pub(crate) id: u64,
    pub(crate) conns: u32,
    fails: u32,
    /// When it last failed.
    accessed_ms: u64,
    /// When it last failed or was last probed: the start of the current window.
    checked_ms: u64,
    pub(crate) current_weight: i64,
    effective_weight: i64,
    /// What its checks have found out, if it is checked.
    health: Option<Arc<ServerHealth>>,
    /// When it last became available again after failures, as this group has counted them; 0 is never.
    recovered_ms: u64,
}

/// The full share of a peer's weight, in steps of which it grows during `slow_start`.
const FULL_SHARE: u64 = 1024;

impl Peer {
    /// Creates a peer; the label of the same address is made once.
    fn new(spec: &PeerSpec, label: Option<&Arc<str>>, id: u64, health: Option<&GroupHealth>) -> Peer {
        let mut peer = Peer {
            spec: spec.clone(),
            label: label.map_or_else(|| spec.address.to_string().into(), Arc::clone),
            id,
            conns: 0,
            fails: 0,
            accessed_ms: 0,
            checked_ms: 0,
            current_weight: 0,
            effective_weight: 0,
            health: health.filter(|_| !spec.down).map(|group| group.server(spec)),
            recovered_ms: 0,
        };
        // A weight of zero would let the sum of weights, by which the hash balancers divide, become zero.
        peer.spec.weight = spec.weight.max(1);
        peer.effective_weight = peer.weight();
        peer
    }

    /// Returns its configuration.
    pub fn spec(&self) -> &PeerSpec {
        &self.spec
    }

    /// Returns its address.
    pub fn address(&self) -> &Address {
        &self.spec.address
    }

    /// Returns the address as `$upstream_addr` shows it, made once.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Returns the number of leases under way.
    pub fn conns(&self) -> u32 {
        self.conns
    }

    /// Returns the number of failures that count now.
    pub fn fails(&self) -> u32 {
        self.fails
    }

    /// Returns its place in the rotation: the current weight and the effective one, as nginx has them.
    pub fn weights(&self) -> (i64, i64) {
        (self.current_weight, self.effective_weight)
    }

    /// Returns when it last failed, and when the current window began; 0 is never.
    pub fn failed_at_ms(&self) -> (u64, u64) {
        (self.accessed_ms, self.checked_ms)
    }

    /// Returns true if it can take a request now: neither `down` nor draining, not failed too often, not at `max_conns`, and
    /// healthy as its checks have it.
    pub fn is_available(&self, now_ms: u64) -> bool {
        self.spec.is_in_use() && !self.is_failed(now_ms) && !self.is_full() && self.is_healthy()
    }

    /// Returns true unless its checks have found it unhealthy, or must find it healthy first.
    pub fn is_healthy(&self) -> bool {
        self.health.as_ref().is_none_or(|health| health.health() == Health::Healthy)
    }

    /// Returns what its checks have found out, if it is checked.
    pub fn health(&self) -> Option<&Arc<ServerHealth>> {
        self.health.as_ref()
    }

    /// Returns true if it is unavailable after `max_fails`. The same comparison as nginx's, in milliseconds where nginx
    /// counts whole seconds, so a peer comes back up to a second sooner, never before `fail_timeout` is over.
    pub fn is_failed(&self, now_ms: u64) -> bool {
        self.spec.max_fails > 0
            && self.fails >= self.spec.max_fails
            && now_ms.saturating_sub(self.checked_ms) <= self.spec.fail_timeout_ms
    }

    pub(crate) fn is_full(&self) -> bool {
        self.spec.max_conns > 0 && self.conns >= self.spec.max_conns
    }

    pub(crate) fn weight(&self) -> i64 {
        i64::from(self.spec.weight)
    }

    /// Returns the share of its weight that it has now, of [`FULL_SHARE`]: less after a recovery, as `slow_start` has it.
    fn share(&self, now_ms: u64) -> u64 {
        let PeerSpec { slow_start_ms, .. } = self.spec;
        if slow_start_ms == 0 {
            return FULL_SHARE;
        }
        let checked = self.health.as_ref().map_or(0, |health| health.recovered_ms());
        let since = checked.max(self.recovered_ms);
        let elapsed = now_ms.saturating_sub(since);
        if since == 0 || elapsed >= slow_start_ms {
            return FULL_SHARE;
        }
        // Less than nothing at all: a peer that is alone available takes what there is.
        (elapsed * FULL_SHARE / slow_start_ms).max(1)
    }

    /// Compares connections in proportion to weight, by cross multiplication. In a group with `slow_start`, weights are
    /// counted in shares.
    pub(crate) fn load_against(&self, other: &Peer, now_ms: u64, in_shares: bool) -> std::cmp::Ordering {
        let load = |peer: &Peer, against: &Peer| {
            let (conns, weight) = (u64::from(peer.conns), u64::from(against.spec.weight));
            if in_shares { conns.saturating_mul(weight * against.share(now_ms)) } else { conns * weight }
        };
        load(self, other).cmp(&load(other, self))
    }

    /// Takes one step of the smooth weighted round robin: the peer gains its effective weight, which then recovers by
    /// one towards the configured weight. Returns the weight gained. In a group with `slow_start`, weights are counted in
    /// shares.
    pub(crate) fn gain(&mut self, now_ms: u64, in_shares: bool) -> i64 {
        let mut gained = self.effective_weight;
        if in_shares {
            gained = gained.saturating_mul(self.share(now_ms) as i64);
        }
        self.current_weight += gained;
        if self.effective_weight < self.weight() {
            self.effective_weight += 1;
        }
        gained
    }

    /// Opens a new window at a pick once the last one is over; until its try ends, other requests leave a failed peer
    /// alone for another `fail_timeout`.
    pub(crate) fn open_window(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.checked_ms) > self.spec.fail_timeout_ms {
            self.checked_ms = now_ms;
        }
    }

    /// Records a failure. Returns true if the peer has now failed too often.
    pub(crate) fn record_failure(&mut self, now_ms: u64) -> bool {
        self.fails = self.fails.saturating_add(1);
        self.accessed_ms = now_ms;
        self.checked_ms = now_ms;
        if self.spec.max_fails == 0 {
            return false;
        }
        let step = i64::from(self.spec.weight / self.spec.max_fails);
        self.effective_weight = (self.effective_weight - step).max(0);
        self.fails >= self.spec.max_fails
    }

    /// Records a success: failures are forgotten if they are from an earlier window.
    pub(crate) fn record_success(&mut self, now_ms: u64) {
        if self.accessed_ms < self.checked_ms {
            if self.spec.max_fails > 0 && self.fails >= self.spec.max_fails {
                self.recovered_ms = now_ms;
            }
            self.fails = 0;
        }
    }

    pub(crate) fn forget_failures(&mut self) {
        self.fails = 0;
    }

    /// Forgets its failures because it was asked and answers: it takes requests at once, slowly where it has a `slow_start`.
    pub(crate) fn forgive(&mut self, now_ms: u64) {
        if self.is_failed(now_ms) {
            self.recovered_ms = now_ms;
        }
        self.fails = 0;
    }

    pub(crate) fn release(&mut self) {
        debug_assert!(self.conns > 0, "peer {} was released more often than picked", self.id);
        self.conns = self.conns.saturating_sub(1);
    }

    /// Inherits the state of the same server: its failures, and its weights unless the weight was changed.
    fn inherit(&mut self, old: &Peer, same_unit: bool) {
        self.fails = old.fails;
        self.accessed_ms = old.accessed_ms;
        self.checked_ms = old.checked_ms;
        self.recovered_ms = old.recovered_ms;
        if self.spec.weight == old.spec.weight && same_unit {
            self.current_weight = old.current_weight;
            self.effective_weight = old.effective_weight;
        }
    }
}

/// The peers of a group: primaries in the order of the configuration, then backups likewise.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) list: Vec<Peer>,
    primaries: usize,
    /// Where each primary's share of the summed weights ends; the last one is the sum.
    weight_ends: Vec<u64>,
    next_id: u64,
    /// The entries of their health, if they are checked.
    health: Option<Arc<GroupHealth>>,
    /// Weights are counted in shares: a peer has `slow_start`.
    pub(crate) in_shares: bool,
}

impl Peers {
    pub(crate) fn new(specs: &[PeerSpec], health: Option<Arc<GroupHealth>>) -> Peers {
        let mut peers = Peers {
            list: Vec::new(),
            primaries: 0,
            weight_ends: Vec::new(),
            next_id: 0,
            health,
            in_shares: false,
        };
        peers.replace(specs);
        peers
    }

    /// Replaces the peers. A server that stays keeps its state, its id and with it its leases; the removed ones are
    /// returned.
    pub(crate) fn replace(&mut self, specs: &[PeerSpec]) -> Vec<Peer> {
        let mut old: Vec<Option<Peer>> = self.list.drain(..).map(Some).collect();
        let in_shares = specs.iter().any(|spec| spec.slow_start_ms > 0);
        let ordered = specs.iter().filter(|spec| !spec.backup).chain(specs.iter().filter(|spec| spec.backup));
        let twins = twins(ordered.clone(), old.iter().flatten());
        for (spec, twin) in ordered.zip(twins) {
            let twin = twin.and_then(|index| old[index].take());
            let label = twin.as_ref().map(|twin| &twin.label);
            let mut peer = Peer::new(spec, label, self.next_id, self.health.as_deref());
            match twin {
                Some(twin) => {
                    peer.inherit(&twin, in_shares == self.in_shares);
                    peer.id = twin.id;
                    peer.conns = twin.conns;
                }
                None => self.next_id += 1,
            }
            self.list.push(peer);
        }
        self.in_shares = in_shares;
        self.primaries = specs.iter().filter(|spec| !spec.backup).count();
        self.weight_ends.clear();
        let mut sum = 0;
        for peer in &self.list[..self.primaries] {
            sum += u64::from(peer.spec.weight);
            self.weight_ends.push(sum);
        }
        old.into_iter().flatten().collect()
    }

    /// Inherits the state, not the connections, of the same servers in another list.
    pub(crate) fn inherit(&mut self, old: &Peers) {
        let twins = twins(self.list.iter().map(|peer| &peer.spec), old.list.iter());
        for (peer, twin) in self.list.iter_mut().zip(twins) {
            if let Some(index) = twin {
                peer.inherit(&old.list[index], old.in_shares == self.in_shares);
            }
        }
    }

    /// Returns the entries of their health, if they are checked.
    pub(crate) fn health(&self) -> Option<&Arc<GroupHealth>> {
        self.health.as_ref()
    }

    pub(crate) fn primaries(&self) -> Range<usize> {
        0..self.primaries
    }

    pub(crate) fn backups(&self) -> Range<usize> {
        self.primaries..self.list.len()
    }

    /// Returns true for one primary and no backup: nginx then records no failures, because there is no other peer.
    pub(crate) fn is_single(&self) -> bool {
        self.list.len() == 1 && self.primaries == 1
    }

    /// Returns the number of tries of a request: one for every peer that is neither `down` nor draining.
    pub(crate) fn tries(&self) -> u32 {
        let count = self.list.iter().filter(|peer| peer.spec.is_in_use()).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Returns the weights of all primaries, the `down` ones too; 0 if there are none.
    pub(crate) fn total_weight(&self) -> u64 {
        self.weight_ends.last().copied().unwrap_or(0)
    }

    /// Returns the primary in whose share of the summed weights `point` is.
    pub(crate) fn at_weight(&self, point: u64) -> usize {
        self.weight_ends.partition_point(|&end| end <= point)
    }

    pub(crate) fn position(&self, index: u32, id: u64) -> Option<usize> {
        let index = index as usize;
        if self.list.get(index).is_some_and(|peer| peer.id == id) {
            return Some(index);
        }
        self.list.iter().position(|peer| peer.id == id)
    }
}

/// Returns for each new peer the old one that is the same server. A server that is listed twice is paired in order.
fn twins<'n, 'o>(
    new: impl Iterator<Item = &'n PeerSpec>,
    old: impl Iterator<Item = &'o Peer>,
) -> Vec<Option<usize>> {
    let mut places: HashMap<(&str, &Address), VecDeque<usize>> = HashMap::new();
    for (index, peer) in old.enumerate() {
        places.entry((&peer.spec.name, &peer.spec.address)).or_default().push_back(index);
    }
    new.map(|spec| places.get_mut(&(spec.name.as_str(), &spec.address)).and_then(VecDeque::pop_front))
        .collect()
}
