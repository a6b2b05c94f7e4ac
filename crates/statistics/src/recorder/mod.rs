//! The statistics of one thread under one generation, until the collector absorbs them.
//!
//! Owns: counters since it was last emptied. Must never: lock, share, or allocate once every name in use has occurred.
//!
//! A request belongs to the recorder of the thread and generation it began under, for its whole life; so a recorder
//! lives as long as its generation's last request, and is passed to [`crate::Collector::absorb`] before it is dropped.

use std::collections::HashSet;
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
    /// The other group first, then those of the layout, then those that came at run time.
    groups: Vec<GroupTallies>,
    /// Which tallies hold something: the group's place and its tally's.
    touched: Vec<(u32, u32)>,
    /// How many tallies of `groups` are made: as many as `touched` has room for.
    made: usize,
    keys: Keys,
}

/// The tallies of one group.
#[derive(Debug)]
struct GroupTallies {
    name: Arc<str>,
    /// Of the servers in the order of their indices; none of an index that is free.
    peers: Vec<Option<Arc<str>>>,
    /// The group itself, its other peer, then its peers. Boxed, because most of a thousand groups may be idle.
    tallies: Vec<Option<Box<Tally>>>,
}

/// The place of a group's first peer in its tallies.
const FIRST_PEER: usize = 2;

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
        let configured = layout.groups.iter().map(|group| GroupTallies::new(&group.name, &group.peers));
        let groups = [GroupTallies::new(other(), &[])].into_iter().chain(configured).collect();
        let keys = Keys::new(ROOM * layout.max_keys);
        Recorder { groups, touched: Vec::new(), made: 0, keys, layout }
    }

    /// Returns the names behind its indices.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Returns the index of the group of this name, which is added if it is new.
    pub fn add_group(&mut self, name: &Arc<str>) -> usize {
        if let Some(known) = self.groups[1..].iter().position(|group| group.name == *name) {
            return known;
        }
        self.groups.push(GroupTallies::new(name, &[]));
        self.groups.len() - 2
    }

    /// Returns the indices of these servers of a group, in their order; adds those that are new. A server that is not among
    /// them loses its index as soon as nothing is counted under it: tries under way there would be counted as another's.
    pub fn place_peers(&mut self, group: usize, names: &[Arc<str>]) -> Box<[u32]> {
        match self.group_at(group) {
            0 => Box::default(),
            at => {
                let (indices, dropped) = self.groups[at].place(names);
                self.made -= dropped;
                indices
            }
        }
    }

    /// Returns true if nothing was counted since it was last emptied.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty() && !self.keys.touched
    }

    /// Counts a request that was given to a group.
    #[inline]
    pub fn request_began(&mut self, group: usize) {
        let at = self.group_at(group);
        self.tally(at, 0).in_flight += 1;
    }

    /// Counts the end of a request that was given to a group.
    #[inline]
    pub fn request_ended(&mut self, group: usize, end: &RequestEnd) {
        let at = self.group_at(group);
        let tally = self.tally(at, 0);
        tally.in_flight -= 1;
        tally.counters.request_ended(end);
    }

    /// Counts a try with a server.
    #[inline]
    pub fn try_began(&mut self, group: usize, peer: usize) {
        let (group, peer) = self.peer_at(group, peer);
        self.tally(group, peer).in_flight += 1;
    }

    /// Counts the end of a try with a server.
    #[inline]
    pub fn try_ended(&mut self, group: usize, peer: usize, end: &TryEnd) {
        let (group, peer) = self.peer_at(group, peer);
        let tally = self.tally(group, peer);
        tally.in_flight -= 1;
        tally.counters.try_ended(end);
    }

    /// Counts the end of a request that a switch decided on. A switch that is not in the layout is not counted.
    #[inline]
    pub fn key_ended(&mut self, switch: usize, routed: &RoutedRequest<'_>, end: &RequestEnd) {
        if switch < self.layout.switches.len() {
            self.keys.ended(&self.groups, switch as u16, routed, end);
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
            + self.groups.len() * size_of::<GroupTallies>()
            + self.touched.capacity() * size_of::<(u32, u32)>()
            + self.groups.iter().map(|group| group.tallies.len()).sum::<usize>()
                * size_of::<Option<Box<Tally>>>()
            + self
                .groups
                .iter()
                .flat_map(|group| group.tallies.iter().flatten())
                .map(|tally| one(tally))
                .sum::<usize>()
            + keys.sum::<usize>()
    }

    /// Hands out everything and empties itself.
    pub(crate) fn empty(&mut self, mut to: impl FnMut(Subject<'_>, &Tally)) {
        for (group, at) in self.touched.drain(..) {
            let GroupTallies { name, peers, tallies } = &mut self.groups[group as usize];
            let Some(tally) = &mut tallies[at as usize] else { continue };
            let subject = match at {
                0 => Subject::Group(name),
                _ => {
                    let peer = (at as usize).checked_sub(FIRST_PEER).and_then(|peer| peers[peer].as_ref());
                    Subject::Peer(name, peer.unwrap_or_else(|| other()))
                }
            };
            to(subject, tally);
            tally.clear();
        }
        self.keys.empty(&self.layout, to);
    }

    #[inline]
    fn group_at(&self, group: usize) -> usize {
        let at = group.wrapping_add(1);
        if at < self.groups.len() { at } else { 0 }
    }

    #[inline]
    fn peer_at(&self, group: usize, peer: usize) -> (usize, usize) {
        let group = self.group_at(group);
        let at = peer.saturating_add(FIRST_PEER);
        (group, if at < self.groups[group].tallies.len() { at } else { 1 })
    }

    #[inline]
    fn tally(&mut self, group: usize, at: usize) -> &mut Tally {
        let Recorder { groups, touched, made, .. } = self;
        let tally = groups[group].tallies[at].get_or_insert_with(|| {
            *made += 1;
            touched.reserve(*made - touched.len());
            Box::default()
        });
        if !tally.touched {
            tally.touched = true;
            touched.push((group as u32, at as u32));
        }
        tally
    }
}

impl GroupTallies {
    fn new(name: &Arc<str>, peers: &[Arc<str>]) -> GroupTallies {
        let tallies = (0..FIRST_PEER + peers.len()).map(|_| None).collect();
        GroupTallies { name: Arc::clone(name), peers: peers.iter().cloned().map(Some).collect(), tallies }
    }

    /// Returns the indices of these servers, and how many tallies were dropped.
    fn place(&mut self, names: &[Arc<str>]) -> (Box<[u32]>, usize) {
        let wanted: HashSet<&str> = names.iter().map(|name| &**name).collect();
        let mut known: std::collections::HashMap<Arc<str>, u32> = Default::default();
        let (mut free, mut dropped) = (Vec::new(), 0);
        for (index, place) in self.peers.iter_mut().enumerate() {
            let tally = &mut self.tallies[FIRST_PEER + index];
            if place.as_ref().is_some_and(|name| !wanted.contains(&**name))
                && tally.as_ref().is_none_or(|tally| !tally.touched)
            {
                *place = None;
                dropped += usize::from(tally.take().is_some());
            }
            match place {
                // A server may be listed twice; it is counted as one.
                Some(name) => drop(known.entry(Arc::clone(name)).or_insert(index as u32)),
                None => free.push(index as u32),
            }
        }
        let place_of = |name: &Arc<str>| {
            *known.entry(Arc::clone(name)).or_insert_with(|| match free.pop() {
                Some(index) => {
                    self.peers[index as usize] = Some(Arc::clone(name));
                    index
                }
                None => {
                    self.peers.push(Some(Arc::clone(name)));
                    self.tallies.push(None);
                    (self.peers.len() - 1) as u32
                }
            })
        };
        (names.iter().map(place_of).collect(), dropped)
    }
}

impl Tally {
    fn clear(&mut self) {
        self.counters.clear();
        self.in_flight = 0;
        self.touched = false;
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
    fn ended(&mut self, groups: &[GroupTallies], switch: u16, routed: &RoutedRequest<'_>, end: &RequestEnd) {
        self.touched = true;
        let edition = routed.revision << 1 | u64::from(routed.is_stream);
        let probe = KeyProbe { switch, edition, key: Some(routed.key), target: routed.target };
        match self.tallies.get_mut(&probe) {
            Some(entry) => entry.ended(end, routed.failed),
            None => self.place_of_new(groups, &probe).ended(end, routed.failed),
        }
    }

    /// Returns a tally for a new key: its own, or that of the other keys if there are too many. Targets are upstream
    /// groups; anything else counts as [`OTHER`], so that the tallies stay bounded.
    #[cold]
    fn place_of_new(&mut self, groups: &[GroupTallies], new: &KeyProbe<'_>) -> &mut KeyTally {
        let known = groups[1..].iter().find(|group| &*group.name == new.target);
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
