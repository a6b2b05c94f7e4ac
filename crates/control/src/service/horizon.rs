//! The answers that a commit gets, counted for a while after it.
//!
//! Owns: which commit an answer belongs to, and when counting ends and why. Must never: cost a request anything: threads
//! count by key, target and revision, whether anybody watches or not.

use super::answer_owner::{Owner, WatchedCommit, owner};
use super::owner;
use super::progress::CommitProgress;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::data_plane::Watch;
use crate::event::EventKind;
use crate::horizon::{AnswerCounts, Horizon, HorizonState, TargetAnswers};
use crate::receipt::{Drain, Receipt};
use engine::host::Level;
use statistics::{Answers, Collector, Window};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use switch::{Commit, Key, Route, Table};
use tokio::time::Instant;

/// The maximum number of commits that are watched at a time, and of the keys that all of them have changed: both sides'
/// tables are kept for each.
pub(super) const MAX_WATCHED: (usize, usize) = (512, 131_072);
/// Between two looks at the counters.
const EACH: Duration = Duration::from_secs(1);
/// How long the last answers of a commit are waited for whose keys a newer one has changed.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// The most keys of a commit of which is seen that a newer one has changed them all.
const MAX_REPLACED: usize = 100;
/// The most keys of which the targets are listed although nothing was asked of them.
const MAX_LISTED: usize = 1000;

/// What ends counting early.
pub(super) mod reasons {
    pub(in super::super) const EVICTED: &str = "newer commits need its place";
    pub(in super::super) const RELOADED: &str = "a reload renamed or removed the switch";
    pub(in super::super) const TOO_MANY_KEYS: &str = "more keys had requests than are counted one by one";
    pub(in super::super) const ENDED: &str = "the process ended";
    pub(super) const LOST: &str = "the process that counted has ended";
}

/// Answers by target.
type ByTarget = BTreeMap<Arc<str>, Answers>;

impl ControlState {
    fn collector(&self) -> MutexGuard<'_, Collector> {
        self.data_plane().collector().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the answers of a commit counted that is about to be published.
    pub(super) fn watch_answers_of(&self, switch: &SwitchState, watch: &Arc<Watch>) {
        let name = switch.name();
        let oldest = self.oldest_watched(&name).unwrap_or(watch.after.revision());
        self.collector().watch_answers(&name, Some(oldest));
        self.commits.borrow_mut().push(WatchedCommit { switch: name, watch: watch.clone() });
        self.forget_commits();
    }

    /// Returns the horizon of a commit that was just published, from its time on and for so long. What was answered before is
    /// added up only now, so that publishing does not wait for it.
    pub(super) fn open_horizon(
        &self,
        switch: &SwitchState,
        watch: &Arc<Watch>,
        (time_ms, watch_ms): (u64, u64),
    ) -> Horizon {
        let (name, place) = (switch.name(), switch.configured());
        let spec = place.spec();
        let mut targets: BTreeSet<Arc<str>> = BTreeSet::new();
        for key in watch.changes.iter().take(MAX_LISTED) {
            for table in [&watch.before, &watch.after] {
                match table.get(key).map(|entry| &entry.route) {
                    Some(route) => targets.extend(Route::live_targets(route).cloned()),
                    None => drop(targets.insert(spec.rules.default.clone())),
                }
            }
        }
        let wanted = |key: &[u8]| watch.concerns(key);
        let clock_ms = self.clock_ms();
        let before: BTreeMap<Arc<str>, AnswerCounts> = {
            let recent = self.collector().recent(&name, Window::Minute, clock_ms, wanted);
            recent.iter().map(|(target, counters)| (target.clone(), counters.into())).collect()
        };
        targets.extend(before.keys().cloned());
        let target = |target: Arc<str>| TargetAnswers {
            before: before.get(&target).copied().unwrap_or_default(),
            target: target.to_string(),
            after: AnswerCounts::default(),
        };
        Horizon {
            until_ms: time_ms + watch_ms,
            process: owner::own(),
            targets: targets.into_iter().map(target).collect(),
            ..Horizon::default()
        }
    }

    /// Notes commits of another process, whose answers are not those of commits that are watched here.
    pub(super) fn note_unwatched(&self, switch: &SwitchState, before: Arc<Table>, news: &[Commit]) {
        if self.oldest_watched(&switch.name()).is_none() {
            return;
        }
        let mut before = before;
        for commit in news {
            let after = Arc::new(before.apply(commit));
            let watch = Watch {
                id: self.next_watch_id(),
                switch: switch.configured().number,
                before,
                after: after.clone(),
                changes: commit.moves().map(|change| change.key.clone()).collect(),
            };
            let noted = WatchedCommit { switch: switch.name(), watch: Arc::new(watch) };
            self.commits.borrow_mut().push(noted);
            before = after;
        }
        self.forget_commits();
    }

    /// Forgets the oldest commits that are not watched any more, if there are too many.
    fn forget_commits(&self) {
        let mut commits = self.commits.borrow_mut();
        while commits.len() > 2 * MAX_WATCHED.0 {
            let drains = self.drains.borrow();
            let is_open = |commit: &WatchedCommit| {
                drains.iter().any(|one| one.revision == commit.revision() && one.switch == commit.switch)
            };
            let Some(place) = commits.iter().position(|commit| !is_open(commit)) else { return };
            commits.remove(place);
        }
    }

    /// Makes room for one more commit with so many changed keys: the oldest that no caller waits for gives way.
    pub(super) fn make_room(&self, keys: usize) {
        let mut followed = self.drains.borrow_mut();
        let total = |followed: &[Rc<CommitProgress>]| followed.iter().map(|one| one.keys()).sum::<usize>();
        while followed.len() >= MAX_WATCHED.0 || total(&followed) + keys > MAX_WATCHED.1 {
            let first = |spare: fn(&CommitProgress) -> bool| followed.iter().position(|one| spare(one));
            let place = first(|one| one.is_drained() && !one.is_awaited());
            // What is waited for keeps its place; how many may wait is bounded.
            let Some(place) = place.or_else(|| first(|one| !one.is_awaited())) else { return };
            followed.remove(place).stop(reasons::EVICTED);
        }
    }

    /// Begins to look at the counters from time to time, unless that goes on already.
    pub(super) fn keep_counting(self: &Rc<ControlState>) {
        if self.counting.replace(true) {
            return;
        }
        let state = self.clone();
        tokio::task::spawn_local(async move {
            loop {
                let now = Instant::now();
                let ends = state.watched().into_iter().map(|one| one.horizon_end()).min();
                let Some(first) = ends else { break };
                tokio::time::sleep_until(first.clamp(now + Duration::from_millis(1), now + EACH)).await;
                if state.watched().iter().any(|one| one.horizon_end() <= Instant::now()) {
                    state.collect().await;
                }
                state.count_all();
            }
            state.counting.set(false);
        });
    }

    /// Returns the commits whose answers are counted.
    fn watched(&self) -> Vec<Rc<CommitProgress>> {
        self.drains.borrow().iter().filter(|one| one.is_watching()).cloned().collect()
    }

    fn oldest_watched(&self, switch: &Arc<str>) -> Option<u64> {
        let drains = self.drains.borrow();
        drains.iter().filter(|one| one.switch == *switch && one.is_watching()).map(|one| one.revision).min()
    }

    fn count_all(&self) {
        let watched = self.watched();
        let names: BTreeSet<Arc<str>> = watched.iter().map(|one| one.switch.clone()).collect();
        names.iter().for_each(|name| self.count_answers(name, None));
        for one in &watched {
            self.tell_failures(one);
            if one.horizon_end() <= Instant::now() {
                one.end_horizon(None);
            } else if self.switch(&one.switch).is_err() {
                one.end_horizon(Some(reasons::RELOADED.to_owned()));
            } else if let Some(newer) = self.replaced_by(one) {
                one.end_horizon(Some(format!("revision {newer} changed its keys")));
            }
        }
    }

    /// Brings the receipts of a switch up to what the collector has; of one revision only that one's.
    pub(super) fn count_answers(&self, name: &Arc<str>, only: Option<u64>) {
        let commits: Vec<WatchedCommit> =
            self.commits.borrow().iter().filter(|one| one.switch == *name).cloned().collect();
        let mut counted: BTreeMap<u64, ByTarget> = BTreeMap::new();
        let (mut unclear, mut lost) = (BTreeSet::new(), false);
        if let Some(answers) = self.collector().answers(name) {
            lost = answers.has_lost();
            for side in answers.iter() {
                match owner(&commits, &side) {
                    Owner::Commit(revision) if only.is_some_and(|only| only != revision) => {}
                    Owner::Commit(revision) => {
                        let targets = counted.entry(revision).or_default();
                        targets.entry(side.target.clone()).or_default().merge(side.answers);
                    }
                    Owner::Unclear(revisions) => unclear.extend(revisions),
                }
            }
        }
        let is_wanted = |one: &CommitProgress| only.is_none_or(|only| only == one.revision);
        for one in self.watched().iter().filter(|one| one.switch == *name && is_wanted(one)) {
            one.set_answers(&counted.remove(&one.revision).unwrap_or_default());
            if lost || unclear.contains(&one.revision) {
                one.end_horizon(Some(reasons::TOO_MANY_KEYS.to_owned()));
            }
        }
    }

    /// Announces that more requests failed on the new side: at the first, and each time that they are twice as many.
    fn tell_failures(&self, following: &CommitProgress) {
        let receipt = following.receipt();
        let counts = |drain: &Drain| (drain.served_new, drain.failed_new);
        let (served, failed) = receipt.drain.as_ref().map(counts).unwrap_or_default();
        let told = following.told_failures.get();
        if failed > told && failed >= 2 * told && following.is_drained() {
            following.told_failures.set(failed);
            let span_us = receipt.horizon.as_ref().map_or(0, |horizon| horizon.span_us);
            let text = format!(
                "switch \"{}\": {failed} of {served} requests failed on the new side of revision {} within {:.1} s",
                following.switch,
                following.revision,
                span_us as f64 / 1e6
            );
            self.shared.log(Level::Warn, &text);
            self.announce_receipt(following, receipt);
        }
    }

    pub(super) fn announce_receipt(&self, following: &CommitProgress, receipt: Receipt) {
        self.shared.announce(&following.switch, EventKind::Receipt(Arc::new(receipt)));
    }

    /// Returns the newer commit that has changed all keys of a commit, once its own last answers have come.
    fn replaced_by(&self, one: &CommitProgress) -> Option<u64> {
        let watch = one.watch.as_ref()?;
        let table = self.switch(&one.switch).ok()?.table();
        if watch.changes.len() > MAX_REPLACED || table.revision() == one.revision {
            return None;
        }
        // Of several that have changed a key since, it was the first that ended it.
        let commits = self.commits.borrow();
        let first = |key: &Key| {
            let mut newer = commits.iter().filter(|other| other.switch == one.switch);
            newer
                .find(|other| other.revision() > one.revision && other.watch.changes.contains(key))
                .map(WatchedCommit::revision)
        };
        let newest = |key| {
            let (of_commit, now) = (watch.after.get(key), table.get(key));
            match (of_commit, now) {
                (Some(own), Some(now)) if Arc::ptr_eq(own, now) => None,
                (None, None) => None,
                (_, Some(now)) => Some(now.revision),
                (Some(_), None) => Some(table.route_revision(None)),
            }
        };
        let newer: Vec<u64> = watch
            .changes
            .iter()
            .map(|key| newest(key).map(|newest| first(key).unwrap_or(newest)))
            .collect::<Option<_>>()?;
        let newer = newer.into_iter().max()?;
        let drains = self.drains.borrow();
        let by = drains.iter().find(|other| other.switch == one.switch && other.revision == newer);
        let is_over = by.is_none_or(|by| by.is_drained() || by.committed.elapsed() >= LAST_ANSWERS);
        is_over.then_some(newer)
    }

    /// Forgets a commit that is not watched any more, and what was counted for it alone.
    pub(super) fn close_horizon(&self, name: &Arc<str>) {
        let oldest = self.oldest_watched(name);
        // A newer commit that is no longer watched still tells its answers from those of an older one.
        self.commits.borrow_mut().retain(|commit| {
            commit.switch != *name || oldest.is_some_and(|oldest| commit.revision() >= oldest)
        });
        self.collector().watch_answers(name, oldest);
    }
}

/// Returns what is true of a stored horizon that is not counted here: it goes on if another process counts and lives.
pub(super) fn stored(horizon: Horizon) -> Horizon {
    let counts = horizon.process != owner::own() && owner::is_alive(&horizon.process);
    if horizon.state != HorizonState::Watching || counts {
        return horizon;
    }
    Horizon { state: HorizonState::CutShort, cut_short: Some(reasons::LOST.to_owned()), ..horizon }
}

impl CommitProgress {
    /// Returns true if its answers are counted.
    pub(super) fn is_watching(&self) -> bool {
        self.receipt_ref(|receipt| {
            receipt.horizon.as_ref().is_some_and(|horizon| horizon.state == HorizonState::Watching)
        })
    }

    /// Takes over what was counted for it.
    fn set_answers(&self, counted: &ByTarget) {
        let span_us = self.committed.elapsed().as_micros() as u64;
        self.modify_receipt(|receipt| {
            let Some(horizon) = &mut receipt.horizon else { return };
            horizon.span_us = span_us;
            for (target, answers) in counted {
                match horizon.targets.iter_mut().find(|known| *known.target == **target) {
                    // Answers are only ever added.
                    Some(known) if known.after.all().0 == answers.requests + answers.streams => {}
                    Some(known) => known.after = answers.into(),
                    None => horizon.targets.push(TargetAnswers {
                        target: target.to_string(),
                        after: answers.into(),
                        ..TargetAnswers::default()
                    }),
                }
            }
            let all: Vec<(u64, u64)> = horizon.targets.iter().map(|one| one.after.all()).collect();
            if let Some(drain) = &mut receipt.drain {
                drain.span_us = span_us;
                drain.served_new = all.iter().map(|(served, _)| served).sum();
                drain.failed_new = all.iter().map(|(_, failed)| failed).sum();
                // The first one came later than it was looked for.
                if drain.served_new > 0 {
                    drain.first_new_us.get_or_insert(span_us);
                }
            }
        });
    }

    /// Ends counting, early for a reason.
    pub(super) fn end_horizon(&self, cut_short: Option<String>) {
        self.modify_receipt(|receipt| {
            let Some(horizon) = &mut receipt.horizon else { return };
            if horizon.state == HorizonState::Watching {
                horizon.state = match cut_short {
                    Some(_) => HorizonState::CutShort,
                    None => HorizonState::Complete,
                };
                horizon.cut_short = cut_short;
            }
        });
        self.horizon_ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_horizon_of_a_process_that_has_ended_is_cut_short() {
        let watched = |process: &str| Horizon { process: process.to_owned(), ..Horizon::default() };
        for process in ["", "another boot:1:1", &owner::own()] {
            let cut = stored(watched(process));
            assert_eq!((cut.state, cut.cut_short.as_deref()), (HorizonState::CutShort, Some(reasons::LOST)));
        }
        let parent = std::os::unix::process::parent_id();
        let stat = std::fs::read_to_string(format!("/proc/{parent}/stat")).unwrap();
        let start = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap();
        let own = owner::own();
        let boot = own.split(':').next().unwrap();
        assert_eq!(stored(watched(&format!("{boot}:{parent}:{start}"))).state, HorizonState::Watching);
        let complete = Horizon { state: HorizonState::Complete, ..watched("") };
        assert_eq!(stored(complete.clone()), complete);
    }
}
