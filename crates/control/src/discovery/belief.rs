//! What is believed of what was looked up, group by group.
//!
//! Owns the rule that an answer which takes a group below its `min_servers` is left, and the servers of groups before orders
//! that follow. Pure: configuration, table and answers are arguments.

use super::kept::{Kept, KeptSet};
use crate::barred;
use engine::Config;
use engine::modules::switch::base_servers;
use engine::modules::upstream::{Bases, FoundServer, GroupEntry, Place};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use switch::{EffectiveGroup, Table, apply_overlay, overlay_of};
use upstream::{Address, PeerSpec};

/// The servers of a place.
type Set = Arc<[FoundServer]>;

/// The looked-up servers that are in effect.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beliefs {
    /// The last answers.
    latest: HashMap<Place, Set>,
    /// By name in lower case.
    groups: HashMap<String, Believed>,
    bases: Bases,
    /// When places were last seen before they were watched, in milliseconds since 1970.
    seen_before: HashMap<Place, u64>,
}

/// What is believed for a group.
#[derive(Clone, Debug, Default)]
struct Believed {
    sets: HashMap<Place, Set>,
    /// Its servers before orders.
    peers: Vec<PeerSpec>,
    /// Why the last answers are not believed.
    doubt: Option<String>,
}

/// The changes that an answer makes to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// The group, as written.
    pub(crate) group: String,
    /// The servers that joined.
    pub(crate) added: Vec<String>,
    /// The servers that left.
    pub(crate) gone: Vec<String>,
    /// Parameters of others are others.
    pub(crate) is_changed: bool,
    /// How many servers it has.
    pub(crate) now: usize,
    /// The doubt about the answers, if it is another one than before: none any more, or why.
    pub(crate) doubt: Option<Option<String>>,
}

impl Beliefs {
    /// Returns what is believed under a configuration, of what was believed before and of what is kept on disk.
    pub(crate) fn under(config: &Config, before: &Beliefs, kept: &Kept) -> Beliefs {
        let discovered = || config.groups.iter().filter(|entry| entry.is_discovered());
        let places: HashSet<&Place> =
            discovered().flat_map(|entry| &entry.discovery.sources).map(|source| &source.place).collect();
        let latest = before.latest.iter().filter(|(place, _)| places.contains(place));
        let mut beliefs = Beliefs {
            latest: latest.map(|(place, set)| (place.clone(), Arc::clone(set))).collect(),
            ..Beliefs::default()
        };
        for entry in discovered() {
            let name = entry.spec.name.to_ascii_lowercase();
            let known = before.groups.get(&name);
            let mut believed = Believed::default();
            for source in &entry.discovery.sources {
                let of_group = known.and_then(|known| known.sets.get(&source.place)).cloned();
                let latest = || beliefs.latest.get(&source.place).cloned();
                if let Some(set) = of_group.or_else(latest) {
                    believed.sets.insert(source.place.clone(), set);
                } else if let Some(kept) = kept.get(&name, &source.text)
                    && let Some(servers) = kept.servers()
                {
                    believed.sets.insert(source.place.clone(), servers.into());
                    beliefs.seen_before.insert(source.place.clone(), kept.seen_ms);
                }
            }
            match believed.peers_of(config, entry, &believed.sets) {
                Ok(peers) => believed.peers = peers,
                Err(text) => {
                    let peers = entry.spec.peers.clone();
                    believed = Believed { sets: HashMap::new(), peers, doubt: Some(text) };
                }
            }
            beliefs.groups.insert(name, believed);
        }
        beliefs.settle();
        beliefs
    }

    /// Takes the answer of a place. Returns what changes by it, in groups where anything does.
    pub(crate) fn take(
        &mut self,
        config: &Config,
        table: &Table,
        place: &Place,
        servers: Vec<FoundServer>,
    ) -> Vec<News> {
        self.latest.insert(place.clone(), servers.into());
        let mut news = Vec::new();
        let is_there = |entry: &&GroupEntry| entry.discovery.sources.iter().any(|one| one.place == *place);
        for entry in config.groups.iter().filter(|entry| entry.is_discovered()).filter(is_there) {
            let believed = self.groups.entry(entry.spec.name.to_ascii_lowercase()).or_default();
            news.extend(believed.take((config, entry), table, &self.latest, place));
        }
        if news.iter().any(News::is_of_servers) {
            self.settle();
        }
        news
    }

    /// Judges answers again that are not believed: a configuration, an order or another place may have changed that.
    /// Returns what changes by it.
    pub(crate) fn judge_again(&mut self, config: &Config, table: &Table) -> Vec<News> {
        let mut news = Vec::new();
        for entry in config.groups.iter().filter(|entry| entry.is_discovered()) {
            let Some(believed) = self.groups.get_mut(&entry.spec.name.to_ascii_lowercase()) else { continue };
            let is_left = |place: &&Place| {
                let (latest, set) = (self.latest.get(*place), believed.sets.get(*place));
                latest.is_some_and(|latest| set.is_none_or(|set| !Arc::ptr_eq(set, latest) && set != latest))
            };
            let left = entry.discovery.sources.iter().map(|source| &source.place).find(is_left);
            if let Some(place) = left {
                news.extend(believed.take((config, entry), table, &self.latest, place));
            }
        }
        if news.iter().any(News::is_of_servers) {
            self.settle();
        }
        news
    }

    /// Notes that a place was seen before it is watched.
    pub(crate) fn note_seen(&mut self, place: &Place, ms: u64) {
        self.seen_before.insert(place.clone(), ms);
    }

    /// Returns when a place was last seen before it was watched, in milliseconds since 1970; 0 if that is unknown.
    pub(crate) fn seen_before(&self, place: &Place) -> u64 {
        self.seen_before.get(place).copied().unwrap_or_default()
    }

    /// Returns the servers of groups before orders.
    pub(crate) fn bases(&self) -> &Bases {
        &self.bases
    }

    /// Returns what is believed of a place by any group: the answer that a failed part falls back to.
    pub(crate) fn servers(&self, place: &Place) -> Option<&[FoundServer]> {
        self.groups.values().find_map(|believed| Some(&**believed.sets.get(place)?))
    }

    /// Returns how many servers a place has in a group, and why the last answers are not believed there.
    pub(crate) fn of(&self, group: &str, place: &Place) -> (usize, Option<&str>) {
        let believed = self.groups.get(&group.to_ascii_lowercase());
        let servers = believed.and_then(|believed| believed.sets.get(place)).map_or(0, |set| set.len());
        (servers, believed.and_then(|believed| believed.doubt.as_deref()))
    }

    /// Returns what is to be kept on disk; `seen_ms` is when each place was last seen.
    pub(crate) fn to_keep(&self, config: &Config, seen_ms: impl Fn(&Place) -> u64) -> Kept {
        let mut kept = Kept::default();
        for entry in config.groups.iter().filter(|entry| entry.is_discovered()) {
            let Some(believed) = self.groups.get(&entry.spec.name.to_ascii_lowercase()) else { continue };
            for source in &entry.discovery.sources {
                if let Some(set) = believed.sets.get(&source.place) {
                    kept.put(&entry.spec.name, &source.text, KeptSet::new(set, seen_ms(&source.place)));
                }
            }
        }
        kept
    }

    fn settle(&mut self) {
        let of = |(name, believed): (&String, &Believed)| (name.clone(), believed.peers.clone());
        self.bases = self.groups.iter().map(of).collect();
    }
}

impl Believed {
    /// Returns the servers that sets make in a group.
    ///
    /// # Errors
    /// The group cannot have them.
    fn peers_of(
        &self,
        config: &Config,
        entry: &GroupEntry,
        sets: &HashMap<Place, Set>,
    ) -> Result<Vec<PeerSpec>, String> {
        let peers = entry.peers_with(|source| sets.get(&source.place).map_or(&[][..], |set| set))?;
        let found = &peers[entry.spec.peers.len()..];
        let is_own = |peer: &&PeerSpec| match &peer.address {
            Address::Unix(path) => barred::is_own_socket(config, path),
            Address::Inet(_) => false,
        };
        match found.iter().find(is_own) {
            Some(peer) => Err(format!("{} is a socket of this server", peer.address)),
            None => Ok(peers),
        }
    }

    fn take(
        &mut self,
        (config, entry): (&Config, &GroupEntry),
        table: &Table,
        latest: &HashMap<Place, Set>,
        place: &Place,
    ) -> Option<News> {
        let with = |takes: &dyn Fn(&Place) -> bool| -> HashMap<Place, Set> {
            let places = entry.discovery.sources.iter().map(|source| &source.place);
            let set = |place: &Place| {
                let new = latest.get(place).filter(|_| takes(place));
                Some((place.clone(), new.or_else(|| self.sets.get(place))?.clone()))
            };
            places.filter_map(set).collect()
        };
        // What was not believed before may be, with this one.
        let candidates = [with(&|_| true), with(&|one| one == place)];
        let mut doubt = None;
        for sets in candidates {
            match self.judged((config, entry), table, &sets) {
                Ok(peers) => {
                    self.sets = sets;
                    return self.become_peers(entry, peers, None);
                }
                Err(text) => doubt = Some(text),
            }
        }
        self.become_peers(entry, self.peers.clone(), doubt)
    }

    /// Returns the servers that sets make, if that is to be believed.
    fn judged(
        &self,
        (config, entry): (&Config, &GroupEntry),
        table: &Table,
        sets: &HashMap<Place, Set>,
    ) -> Result<Vec<PeerSpec>, String> {
        let peers = self.peers_of(config, entry, sets)?;
        let overlay = overlay_of(table.subjects(), &entry.spec.name);
        let group = |peers: &[PeerSpec]| apply_overlay(&base_servers(entry, peers), &overlay);
        let (before, after): (EffectiveGroup, EffectiveGroup) = (group(&self.peers), group(&peers));
        let min = entry.discovery.min_servers;
        if after.is_credible(&before, min) {
            return Ok(peers);
        }
        Err(format!(
            "it would leave {} of {} servers, and min_servers is {min}",
            after.usable(),
            before.usable()
        ))
    }

    fn become_peers(
        &mut self,
        entry: &GroupEntry,
        peers: Vec<PeerSpec>,
        doubt: Option<String>,
    ) -> Option<News> {
        let names =
            |peers: &[PeerSpec]| -> HashSet<String> { peers.iter().map(|peer| peer.name.clone()).collect() };
        let (old, new) = (names(&self.peers), names(&peers));
        let only = |of: &HashSet<String>, not: &HashSet<String>| -> Vec<String> {
            let mut only: Vec<String> = of.difference(not).cloned().collect();
            only.sort();
            only
        };
        let news = News {
            group: entry.spec.name.clone(),
            added: only(&new, &old),
            gone: only(&old, &new),
            is_changed: peers != self.peers,
            now: peers.len(),
            doubt: (doubt != self.doubt).then(|| doubt.clone()),
        };
        (self.peers, self.doubt) = (peers, doubt);
        (news.is_changed || news.doubt.is_some()).then_some(news)
    }
}

impl News {
    /// Returns true if the servers of the group are others.
    pub(crate) fn is_of_servers(&self) -> bool {
        self.is_changed
    }
}
