//! The requests of a thread that a switch has routed, and the changes that the control plane watches.
//!
//! Owns which request is on which side of a change, and which streams are to be cut. In steady state a request costs two
//! copies of a few bytes: its entry and the buffer in it are reused, nothing is hashed and nothing allocated. Must never
//! wait, and never decide when something is cut.

use crate::context::conn_state::ConnState;
use control::{Watch, WatchReport};
use engine::modules::switch::{ClientPoint, point_of_address};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use switch::{Route, Table};

#[cfg(test)]
mod tests;

/// How many watches a thread keeps; with one more the oldest is forgotten.
const MAX_WATCHES: usize = 64;

/// An entry's position, valid until its request leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InFlightId {
    index: u32,
    /// How often the position was taken, to tell its requests apart.
    turn: u32,
}

/// Whom a switch has routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoutedClient {
    /// Its place in a split.
    pub(crate) point: ClientPoint,
    /// Its address; `None` on a unix socket.
    pub(crate) remote: Option<SocketAddr>,
}

/// Which tables a request follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Following {
    /// The switch, by the number that outlives reloads.
    pub(crate) switch: u32,
    /// [`switch::Tables::number`] of the tables in which it has asked.
    pub(crate) number: u64,
}

#[derive(Debug)]
struct Entry {
    turn: u32,
    taken: bool,
    following: Following,
    /// The key, and behind it the target.
    text: Vec<u8>,
    key_len: usize,
    client: RoutedClient,
    /// Bit n: it is on the old side of watch n.
    old: u64,
    /// Bit n: it is on the new side of watch n.
    new: u64,
    connection: Option<Rc<ConnState>>,
}

/// A change that is watched.
#[derive(Debug)]
struct Watched {
    watch: Arc<Watch>,
    /// The switch, by the number that outlives reloads.
    switch: u32,
    /// The number of the tables that brought the change.
    number: u64,
    /// The target of keys without an entry.
    default: Arc<str>,
    /// How many requests are on the old side.
    old: usize,
    report: WatchReport,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With a response.
    Well,
    /// Without one, or with 5xx.
    Failed,
}

/// A change that requests are compared with.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The change that is watched.
    pub(crate) watch: Arc<Watch>,
    /// Its switch, by the number that outlives reloads.
    pub(crate) switch: u32,
    /// The number of the tables that bring it.
    pub(crate) number: u64,
    /// The target of keys without an entry.
    pub(crate) default: Arc<str>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    entries: Vec<Entry>,
    free: Vec<u32>,
    watches: Vec<Option<Watched>>,
    /// Bit n: watch n is in use. Nearly always 0, which is all that a request looks at.
    active: u64,
}

impl InFlight {
    /// Enters a request that a switch has routed to a target.
    pub(crate) fn enter(
        &mut self,
        following: Following,
        key: &[u8],
        target: &str,
        client: RoutedClient,
        connection: &Rc<ConnState>,
    ) -> InFlightId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::empty());
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        entry.turn = entry.turn.wrapping_add(1);
        entry.taken = true;
        entry.following = following;
        entry.text.clear();
        entry.text.extend_from_slice(key);
        entry.text.extend_from_slice(target.as_bytes());
        entry.key_len = key.len();
        entry.client = client;
        (entry.old, entry.new) = (0, 0);
        entry.connection = Some(Rc::clone(connection));
        let place = InFlightId { index, turn: entry.turn };
        if self.active != 0 {
            self.side_with_watches(index as usize);
        }
        place
    }

    /// Removes a request.
    pub(crate) fn leave(&mut self, place: InFlightId, ended: Ended) {
        let Some(entry) = self.entries.get_mut(place.index as usize) else { return };
        if !entry.taken || entry.turn != place.turn {
            return;
        }
        entry.taken = false;
        entry.connection = None;
        let (old, new) = (entry.old, entry.new);
        self.free.push(place.index);
        if old | new != 0 {
            self.settle(old, new, ended);
        }
    }

    /// Begins to watch a change. Returns how many requests are on its old side now.
    pub(crate) fn watch(&mut self, change: Change) -> usize {
        let slot = self.free_slot();
        let bit = 1 << slot;
        let mut old = 0;
        for entry in self.entries.iter_mut().filter(|entry| entry.taken) {
            (entry.old, entry.new) = (entry.old & !bit, entry.new & !bit);
            if change.is_old(entry) {
                entry.old |= bit;
                old += 1;
            }
        }
        let Change { watch, switch, number, default } = change;
        let report = WatchReport::default();
        self.watches[slot] = Some(Watched { watch, switch, number, default, old, report });
        self.active |= bit;
        old
    }

    /// Returns how many requests and streams a change would leave on its old side, without watching it.
    pub(crate) fn affected(&self, change: &Change, now_ms: u64) -> (u64, u64) {
        let later = Change { number: u64::MAX, ..change.clone() };
        self.count(now_ms, |entry| later.is_old(entry))
    }

    /// Returns the report of a watch; `None` if it is not kept here. Requests whose side is in force again are on no old
    /// side any more.
    pub(crate) fn report(&self, watch: u64, now_ms: u64, in_force: &InForce<'_>) -> Option<WatchReport> {
        let (slot, watched) = self.find(watch)?;
        let mut report = watched.report;
        if watched.old > 0 {
            (report.in_flight, report.streams) =
                self.count(now_ms, |entry| entry.old & (1 << slot) != 0 && !entry.is_back(in_force));
        }
        Some(report)
    }

    /// Returns true if this watch is kept.
    pub(crate) fn knows(&self, watch: u64) -> bool {
        self.find(watch).is_some()
    }

    /// Forgets a watch.
    pub(crate) fn forget(&mut self, watch: u64) {
        if let Some(slot) = self.find(watch).map(|(slot, _)| slot) {
            self.clear(slot);
        }
    }

    /// Returns the requests on the old side of a watch: those that are streams, and the others.
    pub(crate) fn old_side(&self, watch: u64, now_ms: u64) -> (Vec<InFlightId>, Vec<InFlightId>) {
        match self.find(watch) {
            Some((slot, _)) => self.places(now_ms, |entry| entry.old & (1 << slot) != 0),
            None => Default::default(),
        }
    }

    /// Returns the streams that a change would leave on its old side.
    pub(crate) fn affected_streams(&self, change: &Change, now_ms: u64) -> Vec<InFlightId> {
        let later = Change { number: u64::MAX, ..change.clone() };
        self.places(now_ms, |entry| later.is_old(entry)).0
    }

    fn places(&self, now_ms: u64, wanted: impl Fn(&Entry) -> bool) -> (Vec<InFlightId>, Vec<InFlightId>) {
        let (mut streams, mut requests) = (Vec::new(), Vec::new());
        for (index, entry) in
            self.entries.iter().enumerate().filter(|(_, entry)| entry.taken && wanted(entry))
        {
            let place = InFlightId { index: index as u32, turn: entry.turn };
            if entry.is_stream(now_ms) { &mut streams } else { &mut requests }.push(place);
        }
        (streams, requests)
    }

    /// Cuts a stream, unless its side is in force again. Returns false if the request is not a stream yet.
    pub(crate) fn cut(&self, place: InFlightId, now_ms: u64, in_force: &InForce<'_>) -> bool {
        match self.entries.get(place.index as usize) {
            Some(entry) if entry.taken && entry.turn == place.turn => {
                if entry.is_back(in_force) {
                    return true;
                }
                let stream = entry.is_stream(now_ms);
                if stream && let Some(connection) = &entry.connection {
                    connection.cut();
                }
                stream
            }
            _ => true,
        }
    }

    /// Returns true if there is no request.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.entries.len()
    }

    fn find(&self, watch: u64) -> Option<(usize, &Watched)> {
        let slots = self.watches.iter().enumerate();
        slots
            .flat_map(|(slot, watched)| Some((slot, watched.as_ref()?)))
            .find(|(_, one)| one.watch.id == watch)
    }

    fn free_slot(&mut self) -> usize {
        if let Some(slot) = self.watches.iter().position(Option::is_none) {
            return slot;
        }
        if self.watches.len() < MAX_WATCHES {
            self.watches.push(None);
            return self.watches.len() - 1;
        }
        let ages = self.watches.iter().enumerate();
        let oldest =
            ages.min_by_key(|(_, one)| one.as_ref().map(|one| one.number)).map_or(0, |(slot, _)| slot);
        self.clear(oldest);
        oldest
    }

    /// The bits of a watch that is cleared are wiped when its slot is taken again.
    fn clear(&mut self, slot: usize) {
        self.watches[slot] = None;
        self.active &= !(1 << slot);
    }

    /// Finds the sides of a request that has just entered.
    fn side_with_watches(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        for (slot, watched) in self.watches.iter_mut().enumerate() {
            let Some(watched) = watched else { continue };
            if entry.following.number >= watched.number {
                if watched.changes(entry) {
                    entry.new |= 1 << slot;
                    watched.report.first_new.get_or_insert_with(Instant::now);
                }
            } else if watched.is_old(entry) {
                entry.old |= 1 << slot;
                watched.old += 1;
            }
        }
    }

    /// Counts down for the watches of a request that has gone.
    #[cold]
    fn settle(&mut self, old: u64, new: u64, ended: Ended) {
        let failed = u64::from(ended == Ended::Failed);
        for (slot, watched) in self.watches.iter_mut().enumerate() {
            let Some(watched) = watched else { continue };
            if old & (1 << slot) != 0 {
                watched.old -= 1;
                watched.report.last_old = Some(Instant::now());
                watched.report.failed_old += failed;
            }
            if new & (1 << slot) != 0 {
                watched.report.served_new += 1;
                watched.report.failed_new += failed;
            }
        }
    }

    fn count(&self, now_ms: u64, wanted: impl Fn(&Entry) -> bool) -> (u64, u64) {
        let (mut requests, mut streams) = (0, 0);
        for entry in self.entries.iter().filter(|entry| entry.taken && wanted(entry)) {
            match entry.is_stream(now_ms) {
                true => streams += 1,
                false => requests += 1,
            }
        }
        (requests, streams)
    }
}

/// The table that is in force for a switch, and its default; `None` if there is no such switch any more.
pub(crate) type InForce<'a> = dyn Fn(u32) -> Option<(Arc<Table>, Arc<str>)> + 'a;

impl Entry {
    /// Returns true if the table in force routes the request to where it is.
    fn is_back(&self, in_force: &InForce<'_>) -> bool {
        in_force(self.following.switch)
            .is_some_and(|(table, default)| is_routed_there(&table, &default, self))
    }

    fn empty() -> Entry {
        Entry {
            turn: 0,
            taken: false,
            following: Following { switch: 0, number: 0 },
            text: Vec::new(),
            key_len: 0,
            client: RoutedClient { point: ClientPoint::Open, remote: None },
            old: 0,
            new: 0,
            connection: None,
        }
    }

    fn key(&self) -> &[u8] {
        &self.text[..self.key_len]
    }

    fn target(&self) -> &[u8] {
        &self.text[self.key_len..]
    }

    fn is_stream(&self, now_ms: u64) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_stream(now_ms))
    }
}

impl Change {
    fn is_old(&self, entry: &Entry) -> bool {
        is_old(entry, self.switch, self.number, &self.watch, &self.default)
    }
}

impl Watched {
    fn is_old(&self, entry: &Entry) -> bool {
        is_old(entry, self.switch, self.number, &self.watch, &self.default)
    }

    /// Returns true if the change concerns the key of this request.
    fn changes(&self, entry: &Entry) -> bool {
        entry.following.switch == self.switch && differs(&self.watch, entry.key())
    }
}

/// Returns true if a request is where the change would not route it any more.
fn is_old(entry: &Entry, switch: u32, number: u64, watch: &Watch, default: &Arc<str>) -> bool {
    entry.following.number < number
        && entry.following.switch == switch
        && differs(watch, entry.key())
        && !is_routed_there(&watch.after, default, entry)
}

fn differs(watch: &Watch, key: &[u8]) -> bool {
    if let [only] = &*watch.changes
        && !only.covers(key)
    {
        return false;
    }
    match (watch.before.find(key), watch.after.find(key)) {
        (None, None) => false,
        (Some(before), Some(after)) => !Arc::ptr_eq(before, after),
        _ => true,
    }
}

/// Returns true if a table routes a request to where it is: of a split, the share of its client is what counts.
fn is_routed_there(table: &Table, default: &Arc<str>, request: &Entry) -> bool {
    let Some(entry) = table.find(request.key()) else { return default.as_bytes() == request.target() };
    let point = match (&entry.route, request.client.point) {
        (Route::One(_), _) => 0,
        (route, ClientPoint::Open) => {
            return route.live_targets().any(|live| live.as_bytes() == request.target());
        }
        (_, ClientPoint::Known(point)) => point,
        (_, ClientPoint::Address) => point_of_address(request.client.remote),
    };
    entry.route.pick(point).as_bytes() == request.target()
}
