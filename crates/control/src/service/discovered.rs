//! What was looked up for groups becomes what they have: observations, published beside the orders and under them.
//!
//! Owns the tasks that look, one for each place of the process; what is said of them in the log and the journal; and the
//! writing of the last good sets. Must never commit.

use super::ControlHandle;
use super::clock::now_ms;
use super::groups::{counted, with_groups};
use super::lookups::{Failure, Task, places};
use super::shared::Shared;
use super::state::ControlState;
use super::switch_state::ConfiguredSwitch;
use crate::discovery::{Beliefs, FoundServers, Kept, LookedUp, Lookup, News, Schedule};
use crate::info::SourceInfo;
use engine::host::Level;
use engine::modules::upstream::{Bases, GroupEntry, Place};
use engine::{Config, Routing};
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use switch::Refusal;

/// How often the last good sets are written, if they have changed, and the journal's minutes looked at.
const KEEPING: Duration = Duration::from_secs(1);

impl ControlHandle {
    /// Returns the places that cannot be looked at, or are not believed, with their groups.
    ///
    /// # Errors
    /// The control plane is stopping.
    pub async fn failing_sources(&self) -> Result<Vec<(String, SourceInfo)>, Refusal> {
        self.ask(|state| async move {
            let config = state.shared.config();
            let looked_up = config.groups.iter().filter(|entry| !entry.discovery.sources.is_empty());
            let of = |entry: &GroupEntry| {
                let name = entry.spec.name.clone();
                let sources = state.sources_of(&config, &name).into_iter();
                let failing = sources.filter(|source| source.failure.is_some() || source.doubt.is_some());
                failing.map(|source| (name.clone(), source)).collect::<Vec<_>>()
            };
            Ok(looked_up.flat_map(of).collect())
        })
        .await
    }
}

impl ControlState {
    /// Begins to look at the places of the configuration, and stops at those that it no longer has.
    pub(super) fn watch_places(self: &Rc<Self>) {
        let config = self.shared.config();
        let wanted = places(&config);
        let mut discovery = self.discovery.borrow_mut();
        discovery.places.retain(|place, _| wanted.contains(place));
        if !wanted.is_empty() && discovery.keeper.is_none() {
            discovery.keeper = Some(Task(tokio::task::spawn_local(keep(Rc::downgrade(self)))));
        }
        let is_new = !wanted.is_empty();
        for place in wanted {
            let seen_before = discovery.beliefs.seen_before(&place);
            let state = discovery.places.entry(place.clone()).or_default();
            state.seen_ms = state.seen_ms.max(seen_before);
            if state.task.is_none() {
                let watching = watch(Rc::downgrade(self), place);
                state.task = Some(Task(tokio::task::spawn_local(watching)));
            }
        }
        discovery.is_unkept |= is_new;
    }

    /// Takes what came of a look.
    async fn looked_up(self: &Rc<Self>, place: &Place, looked_up: LookedUp) {
        // A prepared reload has taken what is believed with it.
        let _reload_lock = self.reload_lock.read().await;
        let now_ms = now_ms();
        match looked_up {
            LookedUp::Nothing => {}
            LookedUp::Failed(text) => self.place_failed(place, text, now_ms),
            LookedUp::Still => self.place_seen(place, None, now_ms),
            LookedUp::Found(FoundServers { servers, lacks, .. }) => {
                let Some(switch) = self.groups.borrow().clone() else { return };
                let config = switch.configured().config.clone();
                let news = self.discovery.borrow_mut().beliefs.take(&config, &switch.table(), place, servers);
                self.publish_found(&news, now_ms);
                self.place_seen(place, lacks, now_ms);
            }
        }
    }

    /// Judges answers again that are not believed.
    async fn judge_again(self: &Rc<Self>) {
        let _reload_lock = self.reload_lock.read().await;
        let Some(switch) = self.groups.borrow().clone() else { return };
        let config = switch.configured().config.clone();
        let news = self.discovery.borrow_mut().beliefs.judge_again(&config, &switch.table());
        self.publish_found(&news, now_ms());
    }

    fn publish_found(self: &Rc<Self>, news: &[News], now_ms: u64) {
        let Some(switch) = self.groups.borrow().clone() else { return };
        for one in news {
            self.tell(one, now_ms);
        }
        let names: Vec<&str> = news.iter().filter(|one| one.is_changed).map(|one| &*one.group).collect();
        if names.is_empty() {
            return;
        }
        let bases = self.discovery.borrow().beliefs.bases().clone();
        switch.reconfigure(ConfiguredSwitch::of_groups(switch.configured().config.clone(), bases));
        let (place, routing) = (switch.configured(), self.routing());
        let groups = with_groups(&place, &switch.table(), &routing.groups, &names);
        // No one waits for it.
        drop(self.publish_routing(Routing { tables: routing.tables.again(), groups }, None));
        self.discovery.borrow_mut().is_unkept = true;
    }

    /// Says what has changed in a group.
    fn tell(&self, news: &News, now_ms: u64) {
        let News { group, added, gone, now, doubt, .. } = news;
        if news.is_changed {
            let counts = (added.len(), gone.len(), *now);
            self.discovery.borrow_mut().summaries.count(now_ms, group, counts);
            let text = format!(
                "upstream \"{group}\" has {}: {} joined{}, {} left{}",
                counted(*now),
                added.len(),
                some_of(added),
                gone.len(),
                some_of(gone)
            );
            self.shared.log(Level::Info, &text);
        }
        match doubt {
            None => {}
            Some(Some(why)) => {
                let text = format!(
                    "upstream \"{group}\": what was looked up is not believed: {why}; the last good set stays, {}",
                    counted(*now)
                );
                self.shared.log(Level::Warn, &text);
            }
            Some(None) => {
                let text = format!("upstream \"{group}\": what is looked up is believed again");
                self.shared.log(Level::Notice, &text);
            }
        }
    }

    fn place_failed(&self, place: &Place, text: String, now_ms: u64) {
        self.set_failure(place, Some(text), now_ms);
    }

    /// A place was seen; `lacks` is a part of it that was not.
    fn place_seen(&self, place: &Place, lacks: Option<String>, now_ms: u64) {
        self.set_failure(place, lacks, now_ms);
        let mut discovery = self.discovery.borrow_mut();
        if let Some(state) = discovery.places.get_mut(place) {
            state.seen_ms = now_ms;
        }
    }

    /// Sets or ends the failure of a place, and says so if it is another one.
    fn set_failure(&self, place: &Place, text: Option<String>, now_ms: u64) {
        let mut discovery = self.discovery.borrow_mut();
        let servers = discovery.beliefs.servers(place).map_or(0, <[_]>::len);
        let Some(state) = discovery.places.get_mut(place) else { return };
        if state.failure.as_ref().map(|failure| &failure.text) == text.as_ref() {
            return;
        }
        let before = state.failure.take();
        let since_ms = before.as_ref().map_or(now_ms, |failure| failure.since_ms);
        match (text, before) {
            (Some(text), _) => {
                let age = match state.seen_ms {
                    0 => String::new(),
                    seen_ms => format!(", seen {} s ago", now_ms.saturating_sub(seen_ms) / 1000),
                };
                let are = if servers == 1 { "is" } else { "are" };
                let text_of_log = format!("{text}; {} {are} known there{age}", counted(servers));
                self.shared.log(Level::Error, &text_of_log);
                state.failure = Some(Failure { text, since_ms });
            }
            (None, Some(before)) => {
                let after_s = now_ms.saturating_sub(before.since_ms) / 1000;
                let text = format!("looked up again, after {after_s} s in which {}", before.text);
                self.shared.log(Level::Notice, &text);
            }
            (None, None) => {}
        }
    }

    /// Returns the places of a group for people.
    pub(super) fn sources_of(&self, config: &Config, group: &str) -> Vec<SourceInfo> {
        let (discovery, now_ms) = (self.discovery.borrow(), now_ms());
        let Some(entry) = config.group(group.as_bytes()).and_then(|number| config.groups.get(number)) else {
            return Vec::new();
        };
        let source = |source: &engine::modules::upstream::Source| {
            let (servers, doubt) = discovery.beliefs.of(group, &source.place);
            let state = discovery.places.get(&source.place);
            let seen_ms = state.map(|state| state.seen_ms).filter(|ms| *ms > 0);
            let failure = state.and_then(|state| state.failure.as_ref());
            SourceInfo {
                text: source.text.to_string(),
                line: source.line.to_string(),
                servers,
                age_ms: seen_ms.map(|ms| now_ms.saturating_sub(ms)),
                failure: failure.map(|failure| (failure.text.clone(), failure.since_ms)),
                doubt: doubt.map(str::to_owned),
            }
        };
        entry.discovery.sources.iter().map(source).collect()
    }

    /// Writes what is not on disk yet: the process ends.
    pub(super) fn keep_found(&self) {
        let occurrences = self.discovery.borrow_mut().summaries.take(None);
        occurrences.into_iter().for_each(|one| self.shared.journal.append(one));
        if let Some((kept, config)) = self.unkept() {
            write(&kept, &config, &self.shared);
        }
    }

    /// Returns the last good sets, if the file is older.
    fn unkept(&self) -> Option<(Kept, Arc<Config>)> {
        let config = self.shared.config();
        let mut discovery = self.discovery.borrow_mut();
        if !std::mem::take(&mut discovery.is_unkept) {
            return None;
        }
        let seen_ms = |place: &Place| discovery.places.get(place).map_or(0, |state| state.seen_ms);
        Some((discovery.beliefs.to_keep(&config, seen_ms), config))
    }

    /// Takes what is believed under a configuration that has come into force. Returns the servers of groups before orders.
    pub(super) fn believe(&self, beliefs: Beliefs) -> Bases {
        let mut discovery = self.discovery.borrow_mut();
        discovery.beliefs = beliefs;
        discovery.beliefs.bases().clone()
    }
}

/// Returns the first of many names, in brackets.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len() {
        0 => String::new(),
        1..=SHOWN => format!(" ({})", names.join(", ")),
        _ => format!(" ({} and others)", names[..SHOWN].join(", ")),
    }
}

/// Looks at a place, as long as the configuration has it.
async fn watch(state: Weak<ControlState>, place: Place) {
    let mut lookup = Lookup::new(&place);
    let mut schedule = Schedule::default();
    loop {
        let Some(owner) = state.upgrade() else { return };
        let believed = owner.discovery.borrow().beliefs.servers(&place).unwrap_or_default().to_vec();
        drop(owner);
        let looked_up = lookup.look(&believed).await;
        let roll = (RandomState::new().hash_one(0) % 1_000) as u32;
        let pause = schedule.pause(&place, &looked_up, roll);
        let Some(state) = state.upgrade() else { return };
        state.looked_up(&place, looked_up).await;
        drop(state);
        tokio::time::sleep(pause).await;
    }
}

/// Judges what is not believed again, writes the last good sets when they have changed, and the journal's minutes when they
/// have ended.
async fn keep(state: Weak<ControlState>) {
    loop {
        tokio::time::sleep(KEEPING).await;
        let Some(state) = state.upgrade() else { return };
        state.judge_again().await;
        let occurrences = state.discovery.borrow_mut().summaries.take(Some(now_ms()));
        occurrences.into_iter().for_each(|one| state.shared.journal.append(one));
        let (Some((kept, config)), shared) = (state.unkept(), Arc::clone(&state.shared)) else { continue };
        drop(state);
        // What fails is written with the next change.
        let _ = tokio::task::spawn_blocking(move || write(&kept, &config, &shared)).await;
    }
}

fn write(kept: &Kept, config: &Config, shared: &Shared) {
    let path = Kept::path(config);
    if let Err(error) = kept.write(&path) {
        let text = format!(
            "the last good sets of discovered servers cannot be written to {}: {error}; a restart begins without them",
            path.display()
        );
        shared.log(Level::Warn, &text);
    }
}
