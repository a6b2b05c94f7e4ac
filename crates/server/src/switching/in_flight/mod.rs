//! The requests of a thread that a switch has routed, and the changes that the control plane watches.
//!
//! Owns which request is on the old side of a change, and which streams are to be cut. In steady state a request costs
//! the copies of a few bytes: its entry and the buffers in it are reused, nothing is hashed and nothing allocated, however
//! many changes are watched. Only requests that a change leaves on its old side are compared with it. What the new side
//! answers is counted by the statistics. Must never wait, and never decide when something is cut.

use crate::context::conn_state::ConnState;
use control::{OldRequest, Watch, WatchReport};
use engine::modules::switch::{ClientPoint, point_of_address};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use switch::{Route, Table};

#[cfg(test)]
mod tests;

/// How many watches wait for their first request at a time: what each request may be compared with.
const MAX_UNSEEN: usize = 32;
/// How often requests that are to be cut are checked for having become streams.
pub(super) const RECHECK: Duration = Duration::from_secs(1);
/// How much of a method and of a path is kept to name a request.
const NAMED: (usize, usize) = (16, 64);

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

/// A request that a switch has routed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routed<'a> {
    pub(crate) following: Following,
    /// The newest commit that may have changed its key's route.
    pub(crate) route_revision: u64,
    pub(crate) key: &'a [u8],
    pub(crate) target: &'a str,
    pub(crate) client: RoutedClient,
    pub(crate) method: &'a [u8],
    /// The target of its request line, as sent.
    pub(crate) path: &'a [u8],
    /// Its beginning, on the thread's clock.
    pub(crate) began_ms: u64,
}

#[derive(Debug)]
struct Entry {
    turn: u32,
    taken: bool,
    following: Following,
    /// The key, the target, the method and the path, one behind the other.
    text: Vec<u8>,
    key_len: u32,
    target_len: u32,
    method_len: u32,
    client: RoutedClient,
    began_ms: u64,
    /// The watches that it is on the old side of, in their order.
    old: Vec<u64>,
    connection: Option<Rc<ConnState>>,
    /// The address of the server that it was last passed to.
    server: Option<Arc<str>>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Without a response, or with 5xx.
    pub(crate) failed: bool,
    pub(crate) is_stream: bool,
    /// How long upstreams took.
    pub(crate) response_us: Option<u64>,
    /// How many of its choices, the first ones, it has taken to an upstream. The others have led it nowhere.
    pub(crate) led: usize,
}

/// A change that requests are compared with.
#[derive(Clone, Debug)]
pub(crate) struct TrackedChange {
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
    /// By their ids.
    watches: BTreeMap<u64, Watched>,
    /// The newest tables that brought a watched change: a request that follows them is on no old side.
    newest: u64,
    /// The watches that no request has followed yet, by switch and revision.
    unseen: BTreeMap<(u32, u64), u64>,
}

impl InFlight {
    /// Enters a request that a switch has routed to a target.
    pub(crate) fn enter(&mut self, routed: &Routed<'_>, connection: &Rc<ConnState>) -> InFlightId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::empty());
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        entry.turn = entry.turn.wrapping_add(1);
        entry.taken = true;
        entry.fill(routed);
        entry.connection = Some(Rc::clone(connection));
        let place = InFlightId { index, turn: entry.turn };
        if routed.following.number < self.newest {
            self.enter_late(index as usize);
        }
        if !self.unseen.is_empty() {
            self.see(routed);
        }
        place
    }

    /// Removes a request, whose answer counts if its target gave it.
    pub(crate) fn leave(&mut self, place: InFlightId, answered: Option<Ended>) {
        let Some(entry) = self.entries.get_mut(place.index as usize).filter(|entry| entry.is_at(place))
        else {
            return;
        };
        entry.taken = false;
        entry.connection = None;
        entry.server = None;
        self.free.push(place.index);
        if !entry.old.is_empty() {
            self.settle(place.index as usize, answered);
        }
    }

    /// Notes the server that a request is passed to, by its address.
    pub(crate) fn pass_to(&mut self, place: InFlightId, server: &Arc<str>) {
        if let Some(entry) = self.entries.get_mut(place.index as usize)
            && entry.is_at(place)
        {
            entry.server = Some(Arc::clone(server));
        }
    }

    /// Begins to watch a change. Returns how many requests are on its old side now.
    pub(crate) fn watch(&mut self, change: TrackedChange) -> usize {
        let id = change.watch.id;
        let mut old = 0;
        for entry in self.entries.iter_mut().filter(|entry| entry.taken) {
            entry.old.retain(|known| self.watches.contains_key(known));
            if change.is_old(entry) {
                entry.old.push(id);
                old += 1;
            }
        }
        let TrackedChange { watch, switch, number, default } = change;
        self.newest = self.newest.max(number);
        if self.unseen.len() == MAX_UNSEEN {
            self.unseen.pop_first();
        }
        self.unseen.insert((switch, watch.after.revision()), id);
        let report = WatchReport::default();
        self.watches.insert(id, Watched { watch, switch, number, default, old, report });
        old
    }

    /// Returns how many requests and streams a change would leave on its old side, without watching it.
    pub(crate) fn affected(&self, change: &TrackedChange, now_ms: u64) -> (u64, u64) {
        let later = TrackedChange { number: u64::MAX, ..change.clone() };
        self.count(now_ms, |entry| later.is_old(entry))
    }

    /// Returns the report of a watch; `None` if it is not kept here. Requests whose side is in force again are on no old
    /// side any more.
    pub(crate) fn report(&self, watch: u64, now_ms: u64, in_force: &InForce<'_>) -> Option<WatchReport> {
        let watched = self.watches.get(&watch)?;
        let mut report = watched.report.clone();
        if watched.old > 0 {
            let is_left = |entry: &Entry| entry.old.contains(&watch) && !entry.is_back(in_force);
            (report.in_flight, report.streams) = self.count(now_ms, is_left);
            let left = self.entries.iter().filter(|entry| entry.taken && is_left(entry));
            // A stream is not what a drain waits for, unless there is nothing else.
            let oldest = left.min_by_key(|entry| (entry.is_stream(now_ms), entry.began_ms));
            report.oldest = oldest.map(|entry| entry.described(now_ms));
        }
        Some(report)
    }

    /// Returns true if this watch is kept.
    pub(crate) fn knows(&self, watch: u64) -> bool {
        self.watches.contains_key(&watch)
    }

    /// Forgets a watch.
    pub(crate) fn forget(&mut self, watch: u64) {
        self.watches.remove(&watch);
        self.unseen.retain(|_, known| *known != watch);
    }

    /// Returns the requests on the old side of a watch: those that are streams, and the others.
    pub(crate) fn old_side(&self, watch: u64, now_ms: u64) -> (Vec<InFlightId>, Vec<InFlightId>) {
        match self.watches.contains_key(&watch) {
            true => self.places(now_ms, |entry| entry.old.contains(&watch)),
            false => Default::default(),
        }
    }

    /// Returns the streams that a change would leave on its old side.
    pub(crate) fn affected_streams(&self, change: &TrackedChange, now_ms: u64) -> Vec<InFlightId> {
        let later = TrackedChange { number: u64::MAX, ..change.clone() };
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
        let entry = self.entries.get(place.index as usize).filter(|entry| entry.is_at(place));
        entry.is_none_or(|entry| entry.is_back(in_force) || entry.cut(now_ms))
    }

    /// Returns what a switch has led to these servers of a group: streams, and other requests.
    pub(crate) fn at_servers(&self, at: &AtServers<'_>, now_ms: u64) -> (Vec<InFlightId>, Vec<InFlightId>) {
        self.places(now_ms, |entry| at.has(entry))
    }

    /// Cuts a stream if it is at one of these servers. Returns false if a request is there that is not a stream yet.
    pub(crate) fn cut_at(&self, place: InFlightId, at: &AtServers<'_>, now_ms: u64) -> bool {
        let entry =
            self.entries.get(place.index as usize).filter(|entry| entry.is_at(place) && at.has(entry));
        entry.is_none_or(|entry| entry.cut(now_ms))
    }

    /// Returns true if there is no request.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.entries.len()
    }

    /// Finds the old sides of a request that has asked in older tables and enters only now.
    #[cold]
    fn enter_late(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        for (id, watched) in &mut self.watches {
            if watched.is_old(entry) {
                entry.old.push(*id);
                watched.old += 1;
            }
        }
    }

    /// Notes the first request that follows a change.
    #[cold]
    fn see(&mut self, routed: &Routed<'_>) {
        let change = (routed.following.switch, routed.route_revision);
        let Some(watched) = self.unseen.get(&change).and_then(|id| self.watches.get_mut(id)) else { return };
        // What asked in other tables of this revision, of a reload, may have another key.
        if routed.following.number >= watched.number && watched.watch.concerns(routed.key) {
            watched.report.first_new = Some(Instant::now());
            self.unseen.remove(&change);
        }
    }

    /// Counts down for the watches of a request that has gone.
    #[cold]
    fn settle(&mut self, index: usize, answered: Option<Ended>) {
        for id in self.entries[index].old.drain(..) {
            let Some(watched) = self.watches.get_mut(&id) else { continue };
            watched.old -= 1;
            watched.report.last_old = Some(Instant::now());
            if let Some(ended) = answered {
                watched.report.old.count(ended.is_stream, ended.failed, ended.response_us);
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

/// Servers of a group, and the switch that led there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtServers<'a> {
    /// The switch, by the number that outlives reloads.
    pub(crate) switch: u32,
    pub(crate) group: &'a [u8],
    /// Their addresses.
    pub(crate) servers: &'a [Box<str>],
}

impl AtServers<'_> {
    fn has(&self, entry: &Entry) -> bool {
        entry.following.switch == self.switch
            && entry.target().eq_ignore_ascii_case(self.group)
            && entry.server.as_deref().is_some_and(|at| self.servers.iter().any(|server| **server == *at))
    }
}

impl Entry {
    /// Returns true if this request is the one that took the place.
    fn is_at(&self, place: InFlightId) -> bool {
        self.taken && self.turn == place.turn
    }

    /// Cuts a stream. Returns false if the request is none yet.
    fn cut(&self, now_ms: u64) -> bool {
        let stream = self.is_stream(now_ms);
        if stream && let Some(connection) = &self.connection {
            connection.cut();
        }
        stream
    }

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
            target_len: 0,
            method_len: 0,
            client: RoutedClient { point: ClientPoint::Open, remote: None },
            began_ms: 0,
            old: Vec::new(),
            connection: None,
            server: None,
        }
    }

    fn fill(&mut self, routed: &Routed<'_>) {
        let Routed { following, key, target, client, method, path, began_ms, .. } = *routed;
        let (method, path) = (&method[..method.len().min(NAMED.0)], &path[..path.len().min(NAMED.1)]);
        self.following = following;
        self.text.clear();
        for part in [key, target.as_bytes(), method, path] {
            self.text.extend_from_slice(part);
        }
        self.key_len = key.len() as u32;
        self.target_len = target.len() as u32;
        self.method_len = method.len() as u32;
        self.client = client;
        self.began_ms = began_ms;
        self.old.clear();
    }

    fn key(&self) -> &[u8] {
        &self.text[..self.key_len as usize]
    }

    fn target(&self) -> &[u8] {
        &self.text[self.key_len as usize..][..self.target_len as usize]
    }

    /// Returns its method and its path, without the query: that may hold what is no reader's business.
    fn described(&self, now_ms: u64) -> OldRequest {
        let line = &self.text[(self.key_len + self.target_len) as usize..];
        let (method, path) = line.split_at(self.method_len as usize);
        let end = path.iter().position(|byte| b"?#".contains(byte));
        let text = |bytes: &[u8]| switch::visible(&String::from_utf8_lossy(bytes)).into_owned();
        let cut = if end.is_none() && path.len() == NAMED.1 { "..." } else { "" };
        OldRequest {
            request: format!("{} {}{cut}", text(method), text(&path[..end.unwrap_or(path.len())])),
            age_ms: now_ms.saturating_sub(self.began_ms),
        }
    }

    fn is_stream(&self, now_ms: u64) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_stream(now_ms))
    }
}

impl TrackedChange {
    fn is_old(&self, entry: &Entry) -> bool {
        is_old(entry, self.switch, self.number, &self.watch, &self.default)
    }
}

impl Watched {
    fn is_old(&self, entry: &Entry) -> bool {
        is_old(entry, self.switch, self.number, &self.watch, &self.default)
    }
}

/// Returns true if a request is where the change would not route it any more.
fn is_old(entry: &Entry, switch: u32, number: u64, watch: &Watch, default: &Arc<str>) -> bool {
    entry.following.number < number
        && entry.following.switch == switch
        && watch.concerns(entry.key())
        && !is_routed_there(&watch.after, default, entry)
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
