//! The statistics of all threads, by name.
//!
//! Owns: totals since the process began, windows, and how long removed things are remembered. Must never: count
//! anything twice or not at all, nor grow without bound: not with time, nor with keys, nor with reloads.
//!
//! Everything is kept under its name, so a reload loses nothing. A group or server that was removed from the
//! configuration is shown for as long as a window or a request reaches it (an hour and a slot after its last traffic);
//! then its numbers go into the sums it was part of, [`crate::Summary::all`] or the group's tries. A switch key is
//! forgotten likewise, but only when there are as many keys as may be counted or its switch is gone; its numbers stay
//! in those of the target. So no sum that is shown ever falls.
//!
//! Times are milliseconds of one monotonic clock; a time before the last one counts as the last one.

use std::sync::Arc;

use hashbrown::{Equivalent, HashMap, HashSet};

use crate::answers::Watched;
use crate::counters::Counters;
use crate::layout::{GroupLayout, Layout, OTHER};
use crate::recorder::{KeySubject, Recorder, Subject};
use crate::series::{Bench, Series};
use crate::summary::Summary;
use crate::window::Window;

/// How often removed things are swept out.
const SWEEP_MS: u64 = 60_000;

mod reading;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
type Set<K> = HashSet<K, foldhash::fast::RandomState>;

/// Totals and windows of everything; one for the process.
#[derive(Debug)]
pub struct Collector {
    layout: Arc<Layout>,
    /// The names of `layout`, to look up.
    configured: Map<Arc<str>, Set<Arc<str>>>,
    started_ms: u64,
    now_ms: u64,
    groups: Map<Arc<str>, Group>,
    switches: Map<Arc<str>, Switch>,
    /// The number of keys with counters of their own, all switches together.
    named_keys: usize,
    /// Requests of groups that are forgotten.
    departed: Counters,
    kept: Kept,
    watched: Watched,
}

/// The series themselves.
#[derive(Debug, Default)]
struct Kept {
    series: Vec<Series>,
    /// Unused places in `series`.
    free: Vec<usize>,
    /// Which of `series` have a second under way.
    open: Vec<usize>,
    bench: Bench,
}

#[derive(Debug)]
struct Group {
    requests: usize,
    peers: Map<Arc<str>, usize>,
    /// Tries with servers that are forgotten.
    departed: Counters,
}

#[derive(Debug, Default)]
struct Switch {
    keys: Map<KeyName, usize>,
    /// By target, requests of keys that are forgotten.
    departed: Map<Arc<str>, Counters>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct KeyName {
    key: Option<Box<[u8]>>,
    target: Arc<str>,
}

/// A [`KeyName`] to look for without making one; hashes as that does.
#[derive(Hash)]
struct KeyProbe<'a> {
    key: Option<&'a [u8]>,
    target: &'a Arc<str>,
}

impl Equivalent<KeyName> for KeyProbe<'_> {
    fn equivalent(&self, name: &KeyName) -> bool {
        self.key == name.key.as_deref() && *self.target == name.target
    }
}

impl Collector {
    /// Creates a collector.
    pub fn new(layout: Arc<Layout>, now_ms: u64) -> Collector {
        let mut collector = Collector {
            configured: Map::default(),
            started_ms: now_ms,
            now_ms,
            groups: Map::default(),
            switches: Map::default(),
            named_keys: 0,
            departed: Counters::default(),
            kept: Kept::default(),
            watched: Watched::default(),
            layout: Arc::clone(&layout),
        };
        collector.arrange(layout);
        collector
    }

    /// Replaces the layout. Recorders of older ones are still absorbed.
    pub fn arrange(&mut self, layout: Arc<Layout>) {
        let groups = layout.groups.iter();
        self.configured =
            groups.map(|group| (Arc::clone(&group.name), group.peers.iter().cloned().collect())).collect();
        self.layout = layout;
    }

    /// Replaces what the layout says about one group: its servers have changed, it is new, or, without one, it is gone.
    pub fn arrange_group(&mut self, name: &Arc<str>, group: Option<GroupLayout>) {
        let layout = Arc::make_mut(&mut self.layout);
        let place = layout.groups.iter().position(|known| known.name == *name);
        match (place, group) {
            (place, Some(group)) => {
                self.configured.insert(Arc::clone(name), group.peers.iter().cloned().collect());
                match place {
                    Some(place) => layout.groups[place] = group,
                    None => layout.groups.push(group),
                }
            }
            (Some(place), None) => {
                self.configured.remove(name);
                layout.groups.remove(place);
            }
            (None, None) => {}
        }
    }

    /// Takes everything out of a recorder.
    pub fn absorb(&mut self, recorder: &mut Recorder, now_ms: u64) {
        self.advance(now_ms);
        recorder.empty(|subject, tally| {
            if let Subject::Key(key) = &subject {
                self.watched.add(key, tally);
            }
            let at = self.series_of(subject);
            let Kept { series, open, bench, .. } = &mut self.kept;
            if series[at].add(&tally.counters, tally.in_flight, self.now_ms, bench) {
                open.push(at);
            }
        });
    }

    /// Returns everything since the beginning, and a window.
    pub fn summary(&mut self, window: Window, now_ms: u64) -> Summary {
        self.advance(now_ms);
        self.read(Some(window))
    }

    /// Returns everything since the beginning, without a window, which is much less work. For the metrics.
    pub fn totals(&mut self, now_ms: u64) -> Summary {
        self.advance(now_ms);
        self.read(None)
    }

    /// Counts the answers of a switch by key, target and revision, from this revision on; without one, stops and forgets
    /// them.
    pub fn watch_answers(&mut self, switch: &Arc<str>, from: Option<u64>) {
        self.watched.from(switch, from);
    }

    /// Returns roughly the bytes it holds.
    pub fn bytes(&self) -> usize {
        let names = self.groups.values().map(|group| group.peers.capacity()).sum::<usize>()
            + self.switches.values().map(|switch| switch.keys.capacity()).sum::<usize>();
        size_of::<Collector>() + names * 64 + self.kept.series.iter().map(Series::bytes).sum::<usize>()
    }

    /// Advances the clock: seals the second that is over, and sweeps.
    fn advance(&mut self, now_ms: u64) {
        let (before_ms, now_ms) = (self.now_ms, now_ms.max(self.now_ms));
        self.now_ms = now_ms;
        if before_ms / 1_000 == now_ms / 1_000 {
            return;
        }
        let Kept { series, open, bench, .. } = &mut self.kept;
        for at in open.drain(..) {
            series[at].seal(before_ms, bench);
        }
        if before_ms / SWEEP_MS != now_ms / SWEEP_MS {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        let Collector { configured, now_ms, kept, .. } = self;
        kept.series.iter_mut().for_each(|series| series.tidy(*now_ms, &mut kept.bench));
        self.groups.retain(|name, group| {
            let peers = configured.get(name);
            let Group { departed, .. } = group;
            group.peers.retain(|peer, at| {
                let stays = peers.is_some_and(|peers| peers.contains(peer)) || &**peer == OTHER;
                stays || !kept.let_go(*at, *now_ms, departed)
            });
            let stays = peers.is_some() || &**name == OTHER || !group.peers.is_empty();
            stays || !kept.let_go(group.requests, *now_ms, &mut self.departed)
        });
        let full = self.named_keys >= self.layout.max_keys;
        let switches = &self.layout.switches;
        self.switches.retain(|name, switch| {
            let configured = switches.contains(name);
            let Switch { keys, departed } = switch;
            keys.retain(|key, at| {
                let stays = configured && !(full && key.key.is_some());
                let sum = departed.entry(Arc::clone(&key.target)).or_default();
                let stays = stays || !kept.let_go(*at, *now_ms, sum);
                self.named_keys -= usize::from(!stays && key.key.is_some());
                stays
            });
            configured || !keys.is_empty()
        });
    }

    /// Returns the series of a subject; creates it for a new one.
    fn series_of(&mut self, subject: Subject<'_>) -> usize {
        let kept = &mut self.kept;
        let (name, peer) = match subject {
            Subject::Group(name) => (name, None),
            Subject::Peer(name, peer) => (name, Some(peer)),
            Subject::Key(KeySubject { switch, key, target, .. }) => {
                return self.series_of_key(switch, key, target);
            }
        };
        let group = self.groups.entry(Arc::clone(name)).or_insert_with(|| Group {
            requests: kept.new_series(),
            peers: Map::default(),
            departed: Counters::default(),
        });
        match peer {
            Some(peer) => *group.peers.entry(Arc::clone(peer)).or_insert_with(|| kept.new_series()),
            None => group.requests,
        }
    }

    fn series_of_key(&mut self, switch: &Arc<str>, key: Option<&[u8]>, target: &Arc<str>) -> usize {
        let keys = &mut self.switches.entry(Arc::clone(switch)).or_default().keys;
        let mut probe = KeyProbe { key, target };
        if let Some(&at) = keys.get(&probe) {
            return at;
        }
        if key.is_some() && self.named_keys >= self.layout.max_keys {
            probe.key = None;
        }
        if let Some(&at) = keys.get(&probe) {
            return at;
        }
        self.named_keys += usize::from(probe.key.is_some());
        let at = self.kept.new_series();
        keys.insert(KeyName { key: probe.key.map(Box::from), target: Arc::clone(target) }, at);
        at
    }
}

impl Kept {
    /// Creates a series.
    fn new_series(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.series.push(Series::default());
            self.series.len() - 1
        })
    }

    /// Drops a series that is over; its totals go into `sum`. Returns true if it did.
    fn let_go(&mut self, at: usize, now_ms: u64, sum: &mut Counters) -> bool {
        let over = self.series[at].is_over(now_ms);
        if over {
            std::mem::take(&mut self.series[at]).add_totals(sum);
            self.free.push(at);
        }
        over
    }
}

#[cfg(test)]
mod tests;
