//! Reading the collector.
//!
//! Owns: the order of the summary. Must never: change a number.

use std::sync::Arc;

use super::{Collector, Group, Map, Switch};
use crate::answers::WatchedAnswers;
use crate::counters::Counters;
use crate::course::{Course, CoursePoint};
use crate::layout::{GroupLayout, OTHER};
use crate::summary::{GroupSummary, KeySummary, PeerSummary, Summary, SwitchSummary, TargetSummary};
use crate::window::Window;

impl Collector {
    /// Returns everything known now; without a window, the window's counters are empty and its span is zero.
    pub(super) fn read(&self, window: Option<Window>) -> Summary {
        let from_ms = window.map_or(self.now_ms, |window| window.oldest_slot(self.now_ms) * window.slot_ms());
        let groups: Vec<GroupSummary> =
            self.names().map(|(name, layout)| self.read_group(name, layout, window)).collect();
        let mut all = self.departed.clone();
        groups.iter().for_each(|group| all.merge(&group.totals));
        Summary {
            window: window.unwrap_or_default(),
            span_ms: self.now_ms - from_ms.max(self.started_ms),
            age_ms: self.now_ms - self.started_ms,
            all,
            groups,
            switches: self.switch_names().map(|name| self.read_switch(name, window)).collect(),
        }
    }

    /// Returns the keys of a switch that are counted by themselves, a key as often as it has targets.
    pub fn keys_of(&self, switch: &str) -> impl Iterator<Item = &[u8]> {
        let keys = self.switches.get(switch).into_iter().flat_map(|switch| switch.keys.keys());
        keys.filter_map(|name| name.key.as_deref())
    }

    /// Returns the answers of a switch that is watched ([`Collector::watch_answers`]).
    pub fn answers(&self, switch: &str) -> Option<&WatchedAnswers> {
        self.watched.of(switch)
    }

    /// Returns the counters of a switch's keys in a window, by target; of the keys that are counted by themselves, those
    /// that are wanted.
    pub fn recent(
        &mut self,
        switch: &str,
        window: Window,
        now_ms: u64,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Vec<(Arc<str>, Counters)> {
        self.advance(now_ms);
        let mut targets: Map<&Arc<str>, Counters> = Map::default();
        let keys = self.switches.get(switch).into_iter().flat_map(|switch| &switch.keys);
        for (name, &at) in keys.filter(|(name, _)| name.key.as_deref().is_some_and(&wanted)) {
            let sum = targets.entry(&name.target).or_default();
            self.kept.series[at].add_window(window, self.now_ms, sum);
        }
        targets.into_iter().map(|(target, counters)| (Arc::clone(target), counters)).collect()
    }

    /// Returns how the groups of the configuration did within a window, slot by slot.
    pub fn course(&mut self, window: Window, now_ms: u64) -> Course {
        self.advance(now_ms);
        let point = |(slot, counters): (u64, Counters)| CoursePoint {
            slot,
            ended: counters.ended,
            errors: counters.errors,
            p50_us: counters.response.quantile(0.5),
            p99_us: counters.response.quantile(0.99),
        };
        let course = |layout: &GroupLayout| {
            let series = self.groups.get(&layout.name).map(|group| &self.kept.series[group.requests]);
            let slots = series.map(|series| series.slots(window, self.now_ms)).unwrap_or_default();
            (Arc::clone(&layout.name), slots.into_iter().map(point).collect())
        };
        Course {
            slot_ms: window.slot_ms(),
            first: window.oldest_slot(self.now_ms).max(self.started_ms.div_ceil(window.slot_ms())),
            last: self.now_ms / window.slot_ms(),
            now_ms: self.now_ms,
            groups: self.layout.groups.iter().map(course).collect(),
        }
    }

    fn names(&self) -> impl Iterator<Item = (&Arc<str>, Option<&GroupLayout>)> {
        let configured = self.layout.groups.iter().map(|group| (&group.name, Some(group)));
        let gone = self.groups.keys().filter(|name| !self.configured.contains_key(*name));
        configured.chain(sorted(gone).into_iter().map(|name| (name, None)))
    }

    fn switch_names(&self) -> impl Iterator<Item = &Arc<str>> {
        let configured = &self.layout.switches;
        configured.iter().chain(sorted(self.switches.keys().filter(|name| !configured.contains(name))))
    }

    fn counters(&self, at: Option<usize>, window: Option<Window>) -> (Counters, Counters, u64) {
        let (mut totals, mut recent) = (Counters::default(), Counters::default());
        let Some(series) = at.map(|at| &self.kept.series[at]) else { return (totals, recent, 0) };
        series.add_totals(&mut totals);
        if let Some(window) = window {
            series.add_window(window, self.now_ms, &mut recent);
        }
        (totals, recent, series.in_flight())
    }

    fn read_group(
        &self,
        name: &Arc<str>,
        layout: Option<&GroupLayout>,
        window: Option<Window>,
    ) -> GroupSummary {
        let group = self.groups.get(name);
        let (totals, recent, in_flight) = self.counters(group.map(|group| group.requests), window);
        let peers = self.read_peers(layout, group, window);
        let mut tries_totals = group.map_or_else(Counters::default, |group| group.departed.clone());
        let mut tries_window = Counters::default();
        for peer in &peers {
            tries_totals.merge(&peer.totals);
            tries_window.merge(&peer.window);
        }
        GroupSummary {
            name: Arc::clone(name),
            configured: layout.is_some(),
            in_flight,
            totals,
            window: recent,
            tries_totals,
            tries_window,
            peers,
        }
    }

    fn read_peers(
        &self,
        layout: Option<&GroupLayout>,
        group: Option<&Group>,
        window: Option<Window>,
    ) -> Vec<PeerSummary> {
        // A server may be listed in a group twice; it has one series.
        let mut configured: Vec<&Arc<str>> = Vec::new();
        for peer in layout.iter().flat_map(|layout| &layout.peers) {
            if !configured.contains(&peer) {
                configured.push(peer);
            }
        }
        let known = group.iter().flat_map(|group| group.peers.keys());
        let gone = sorted(known.filter(|peer| !configured.contains(peer)));
        let len = configured.len();
        configured
            .into_iter()
            .chain(gone)
            .enumerate()
            .map(|(index, peer)| {
                let at = group.and_then(|group| group.peers.get(peer)).copied();
                let (totals, recent, in_flight) = self.counters(at, window);
                PeerSummary {
                    name: Arc::clone(peer),
                    configured: index < len,
                    in_flight,
                    totals,
                    window: recent,
                }
            })
            .collect()
    }

    fn read_switch(&self, name: &Arc<str>, window: Option<Window>) -> SwitchSummary {
        let nothing = Switch::default();
        let switch = self.switches.get(name).unwrap_or(&nothing);
        let mut targets: Map<&Arc<str>, (Counters, Counters)> = Map::default();
        for (target, departed) in &switch.departed {
            targets.entry(target).or_default().0.merge(departed);
        }
        let mut keys = Vec::with_capacity(switch.keys.len());
        for (key, &at) in &switch.keys {
            let (totals, recent, _) = self.counters(Some(at), window);
            let target = targets.entry(&key.target).or_default();
            target.0.merge(&totals);
            target.1.merge(&recent);
            let target = Arc::clone(&key.target);
            keys.push(KeySummary { key: key.key.clone(), target, totals, window: recent });
        }
        keys.sort_by(|a, b| (a.key.is_none(), &a.key, &a.target).cmp(&(b.key.is_none(), &b.key, &b.target)));
        let mut targets: Vec<TargetSummary> = targets
            .into_iter()
            .filter(|(_, (totals, _))| totals.ended > 0)
            .map(|(target, (totals, window))| TargetSummary { target: Arc::clone(target), totals, window })
            .collect();
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        let configured = self.layout.switches.contains(name);
        SwitchSummary { name: Arc::clone(name), configured, targets, keys }
    }
}

/// Sorts by name; [`OTHER`] last.
fn sorted<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> Vec<&'a Arc<str>> {
    let mut names: Vec<_> = names.collect();
    names.sort_by_key(|name| (&***name == OTHER, &***name));
    names
}
