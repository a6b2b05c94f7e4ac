//! The statistics of one thread under one generation, until the collector absorbs them.
//!
//! Owns: counters since it was last emptied. Must never: lock, share, or allocate once every name in use has occurred.
//!
//! A request belongs to the recorder of the thread and generation it began under, for its whole life; so a recorder
//! lives as long as its generation's last request, and is passed to [`crate::Collector::absorb`] before it is dropped.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};

use crate::counters::{Counters, RequestEnd, TryEnd};
use crate::layout::{Layout, OTHER};

/// The number of emptyings without use after which a key makes room for others. Each commit that changes a key makes
/// another of it.
const IDLE_EMPTYINGS: u32 = 3;
/// How many times as many keys as are counted by themselves have room: a commit makes others of those that it changes.
const ROOM: usize = 2;

/// The statistics of one thread and one generation.
///
/// Indices are those of the [`Layout`]: what is beyond it counts as [`OTHER`], of groups and of peers.
#[derive(Debug)]
pub struct Recorder {
    layout: Arc<Layout>,
    /// Where each group begins in `tallies`: itself first, then its peers, then its other peer. One more for the other
    /// group, and one for the end.
    starts: Box<[u32]>,
    /// Boxed, because most of a thousand groups may be idle.
    tallies: Vec<Option<Box<Tally>>>,
    /// Which of `tallies` hold something.
    touched: Vec<u32>,
    keys: Keys,
}

/// The counters of one group, peer or key.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) counters: Counters,
    /// Begun less ended, since it was emptied.
    pub(crate) in_flight: i64,
    touched: bool,
}

/// The subject of a tally.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    Group(&'a Arc<str>),
    Peer(&'a Arc<str>, &'a Arc<str>),
    Key(KeySubject<'a>),
}

/// The requests of a switch that have these in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeySubject<'a> {
    pub(crate) switch: &'a Arc<str>,
    /// `None`: the other keys.
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) target: &'a Arc<str>,
    pub(crate) revision: u64,
    pub(crate) is_stream: bool,
    /// How many of them failed.
    pub(crate) failed: u64,
}

/// A request that a switch has routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutedRequest<'a> {
    /// The key as the table normalises it.
    pub key: &'a [u8],
    /// Its target.
    pub target: &'a str,
    /// The newest commit that may have changed the key's route.
    pub revision: u64,
    /// A WebSocket, or an answer that took long.
    pub is_stream: bool,
    /// No answer, a broken one, or 5xx.
    pub failed: bool,
}

impl<'a> RoutedRequest<'a> {
    /// Returns a request that ended well, by no commit.
    pub fn new(key: &'a [u8], target: &'a str) -> RoutedRequest<'a> {
        RoutedRequest { key, target, revision: 0, is_stream: false, failed: false }
    }
}

impl Recorder {
    /// Creates an empty one for the names of a generation.
    pub fn new(layout: Arc<Layout>) -> Recorder {
        let mut starts = Vec::with_capacity(layout.groups.len() + 2);
        let mut end = 0;
        for peers in layout.groups.iter().map(|group| group.peers.len()).chain([0]) {
            starts.push(end);
            end += peers as u32 + 2;
        }
        starts.push(end);
        Recorder {
            tallies: (0..end).map(|_| None).collect(),
            touched: Vec::with_capacity(end as usize),
            keys: Keys::new(ROOM * layout.max_keys),
            starts: starts.into(),
            layout,
        }
    }

    /// Returns the names behind its indices.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Returns true if nothing was counted since it was last emptied.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty() && !self.keys.touched
    }

    /// Counts a request that was given to a group.
    #[inline]
    pub fn request_began(&mut self, group: usize) {
        let at = self.group_at(group);
        self.tally(at).in_flight += 1;
    }

    /// Counts the end of a request that was given to a group.
    #[inline]
    pub fn request_ended(&mut self, group: usize, end: &RequestEnd) {
        let at = self.group_at(group);
        let tally = self.tally(at);
        tally.in_flight -= 1;
        tally.counters.request_ended(end);
    }

    /// Counts a try with a server.
    #[inline]
    pub fn try_began(&mut self, group: usize, peer: usize) {
        let at = self.peer_at(group, peer);
        self.tally(at).in_flight += 1;
    }

    /// Counts the end of a try with a server.
    #[inline]
    pub fn try_ended(&mut self, group: usize, peer: usize, end: &TryEnd) {
        let at = self.peer_at(group, peer);
        let tally = self.tally(at);
        tally.in_flight -= 1;
        tally.counters.try_ended(end);
    }

    /// Counts the end of a request that a switch decided on. A switch that is not in the layout is not counted.
    #[inline]
    pub fn key_ended(&mut self, switch: usize, routed: &RoutedRequest<'_>, end: &RequestEnd) {
        if switch < self.layout.switches.len() {
            self.keys.ended(&self.layout, switch as u16, routed, end);
        }
    }

    /// Returns roughly the bytes it holds.
    pub fn bytes(&self) -> usize {
        let one = |tally: &Tally| size_of::<Tally>() + tally.counters.heap_bytes();
        let keys = self.keys.tallies.iter().map(|(name, entry)| {
            one(&entry.tally)
                + size_of::<KeyName>()
                + size_of::<KeyTally>()
                + name.key.as_ref().map_or(0, |k| k.len())
        });
        size_of::<Recorder>()
            + self.starts.len() * 4
            + self.tallies.len() * (size_of::<Option<Box<Tally>>>() + 4)
            + self.tallies.iter().flatten().map(|tally| one(tally)).sum::<usize>()
            + keys.sum::<usize>()
    }

    /// Hands out everything and empties itself.
    pub(crate) fn empty(&mut self, mut to: impl FnMut(Subject<'_>, &Tally)) {
        for at in self.touched.drain(..) {
            let Some(tally) = &mut self.tallies[at as usize] else { continue };
            to(subject(&self.layout, &self.starts, at), tally);
            tally.clear();
        }
        self.keys.empty(&self.layout, to);
    }

    #[inline]
    fn group_at(&self, group: usize) -> u32 {
        self.starts[group.min(self.starts.len() - 2)]
    }

    #[inline]
    fn peer_at(&self, group: usize, peer: usize) -> u32 {
        let group = group.min(self.starts.len() - 2);
        let (from, to) = (self.starts[group], self.starts[group + 1]);
        from + 1 + peer.min((to - from) as usize - 2) as u32
    }

    #[inline]
    fn tally(&mut self, at: u32) -> &mut Tally {
        let tally = self.tallies[at as usize].get_or_insert_default();
        if !tally.touched {
            tally.touched = true;
            self.touched.push(at);
        }
        tally
    }
}

impl Tally {
    fn clear(&mut self) {
        self.counters.clear();
        self.in_flight = 0;
        self.touched = false;
    }
}

fn subject<'a>(layout: &'a Layout, starts: &[u32], at: u32) -> Subject<'a> {
    let group = starts.partition_point(|&start| start <= at) - 1;
    let within = (at - starts[group]) as usize;
    let (name, peers) = match layout.groups.get(group) {
        Some(group) => (&group.name, &group.peers[..]),
        None => (other(), &[][..]),
    };
    match within {
        0 => Subject::Group(name),
        _ => Subject::Peer(name, peers.get(within - 1).unwrap_or_else(|| other())),
    }
}

fn other() -> &'static Arc<str> {
    static NAME: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from(OTHER));
    &NAME
}

/// The switch keys in use, up to the bound, and the other ones by target.
#[derive(Debug)]
struct Keys {
    tallies: HashMap<KeyName, KeyTally, foldhash::fast::RandomState>,
    /// How many of `tallies` are not of the other keys.
    named: usize,
    max: usize,
    emptyings: u32,
    touched: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct KeyName {
    switch: u16,
    /// The revision, and in the lowest bit whether they are streams.
    edition: u64,
    key: Option<Box<[u8]>>,
    target: Arc<str>,
}

impl Hash for KeyName {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyProbe::write(state, self.switch, self.edition, self.key.as_deref());
    }
}

#[derive(Debug, Default)]
struct KeyTally {
    tally: Box<Tally>,
    failed: u64,
    /// The emptying at which it last held something.
    used: u32,
}

/// A borrowed [`KeyName`] to look up; hashes as that does.
struct KeyProbe<'a> {
    switch: u16,
    edition: u64,
    key: Option<&'a [u8]>,
    target: &'a str,
}

impl KeyProbe<'_> {
    /// Leaves the target out: a key has few, and they are compared anyway.
    #[inline]
    fn write(state: &mut impl Hasher, switch: u16, edition: u64, key: Option<&[u8]>) {
        state.write_u64(edition ^ u64::from(switch) << 48);
        state.write(key.unwrap_or_default());
    }
}

impl Hash for KeyProbe<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyProbe::write(state, self.switch, self.edition, self.key);
    }
}

impl Equivalent<KeyName> for KeyProbe<'_> {
    #[inline]
    fn equivalent(&self, name: &KeyName) -> bool {
        self.key == name.key.as_deref()
            && self.edition == name.edition
            && self.switch == name.switch
            && self.target == &*name.target
    }
}

impl Keys {
    fn new(max: usize) -> Keys {
        Keys { tallies: HashMap::default(), named: 0, max, emptyings: 0, touched: false }
    }

    #[inline]
    fn ended(&mut self, layout: &Layout, switch: u16, routed: &RoutedRequest<'_>, end: &RequestEnd) {
        self.touched = true;
        let edition = routed.revision << 1 | u64::from(routed.is_stream);
        let probe = KeyProbe { switch, edition, key: Some(routed.key), target: routed.target };
        match self.tallies.get_mut(&probe) {
            Some(entry) => entry.ended(end, routed.failed),
            None => self.place_of_new(layout, &probe).ended(end, routed.failed),
        }
    }

    /// Returns a tally for a new key: its own, or that of the other keys if there are too many. Targets are upstream
    /// groups; anything else counts as [`OTHER`], so that the tallies stay bounded.
    #[cold]
    fn place_of_new(&mut self, layout: &Layout, new: &KeyProbe<'_>) -> &mut KeyTally {
        let known = layout.groups.iter().find(|group| &*group.name == new.target);
        let target: &Arc<str> = match known {
            Some(group) => &group.name,
            None => other(),
        };
        let mut probe = KeyProbe { target, ..*new };
        if self.named >= self.max && !self.tallies.contains_key(&probe) {
            probe.key = None;
        }
        if !self.tallies.contains_key(&probe) {
            self.named += usize::from(probe.key.is_some());
        }
        let name = KeyName {
            switch: new.switch,
            edition: new.edition,
            key: probe.key.map(Box::from),
            target: Arc::clone(target),
        };
        self.tallies.entry(name).or_default()
    }

    fn empty(&mut self, layout: &Layout, mut to: impl FnMut(Subject<'_>, &Tally)) {
        self.emptyings = self.emptyings.wrapping_add(1);
        if !std::mem::take(&mut self.touched) {
            return;
        }
        for (name, entry) in &mut self.tallies {
            if entry.tally.touched {
                let subject = KeySubject {
                    switch: &layout.switches[usize::from(name.switch)],
                    key: name.key.as_deref(),
                    target: &name.target,
                    revision: name.edition >> 1,
                    is_stream: name.edition & 1 == 1,
                    failed: std::mem::take(&mut entry.failed),
                };
                to(Subject::Key(subject), &entry.tally);
                entry.tally.clear();
                entry.used = self.emptyings;
            }
        }
        if self.named >= self.max {
            let now = self.emptyings;
            self.tallies
                .retain(|name, entry| name.key.is_none() || now.wrapping_sub(entry.used) < IDLE_EMPTYINGS);
            self.named = self.tallies.keys().filter(|name| name.key.is_some()).count();
        }
    }
}

impl KeyTally {
    #[inline]
    fn ended(&mut self, end: &RequestEnd, failed: bool) {
        self.tally.touched = true;
        self.failed += u64::from(failed);
        self.tally.counters.request_ended(end);
    }
}

#[cfg(test)]
mod tests;
