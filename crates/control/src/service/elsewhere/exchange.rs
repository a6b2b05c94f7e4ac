//! The exchange of reports with other processes.
//!
//! Owns when this process looks for others, what it reports, and that it closes the streams of old sides here. Must never
//! report a count that was taken before all threads followed the revision that it names.

use super::followed::FollowedCommits;
use super::report::{BusyServer, Elsewhere, HoldReport, MAX_KEYS, OldSide, ServingReport, SwitchReport};
use crate::data_plane::Watch;
use crate::service::owner;
use crate::service::state::ControlState;
use crate::service::switch_state::SwitchState;
use crate::store::{KeptHold, ProcessEntry};
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use switch::{Action, Key, Meta, Order, Route, Table};

/// Between two reports while there are others, and between two looks for them.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

/// Lets other processes know of this one's requests, and takes note of theirs, as long as the state exists.
pub(in crate::service) async fn exchange_reports(state: Weak<ControlState>) {
    let mut written = Vec::new();
    loop {
        let Some(state) = state.upgrade() else { return };
        let has_others = state.has_others();
        state.close_followed().await;
        if has_others {
            state.exchange(&mut written).await;
        } else {
            state.other_processes.reports.borrow_mut().clear();
            written.clear();
        }
        drop(state);
        tokio::time::sleep(if has_others { PAUSES.0 } else { PAUSES.1 }).await;
    }
}

impl ControlState {
    /// Returns what other processes have left on the old side of a commit.
    pub(in crate::service) fn old_side_elsewhere(&self, switch: &SwitchState, revision: u64) -> Elsewhere {
        self.elsewhere(switch, |report, store| report.old_side(store, revision))
    }

    /// Returns what other processes have left of these keys where the table does not route it.
    pub(in crate::service) fn unsettled_elsewhere(&self, switch: &SwitchState, keys: &[Key]) -> Elsewhere {
        let revision = switch.table().revision();
        self.elsewhere(switch, |report, store| report.unsettled(store, keys, revision))
    }

    /// Returns what other processes have left that the order of a hold would leave behind, or that has the key of a hold
    /// without an order.
    pub(in crate::service) fn held_elsewhere(&self, switch: &SwitchState, id: &str) -> Elsewhere {
        self.elsewhere(switch, |report, store| Some(report.hold(store, id)?.1))
    }

    /// Returns how many requests wait for a hold in other processes.
    pub(in crate::service) fn waiting_elsewhere(&self, switch: &SwitchState, id: &str) -> Elsewhere {
        self.elsewhere(switch, |report, store| Some((report.hold(store, id)?.0, 0)))
    }

    /// Returns how many requests other processes have at servers of groups, which a commit of the groups may have changed.
    pub(in crate::service) fn busy_elsewhere(
        &self,
        groups: &SwitchState,
        revision: u64,
        is_meant: impl Fn(&str, &str) -> bool,
    ) -> Elsewhere {
        self.elsewhere(groups, |report, store| report.busy(store, revision, &is_meant))
    }

    fn elsewhere(
        &self,
        switch: &SwitchState,
        of_report: impl Fn(&ServingReport, &Path) -> Option<(u64, u64)>,
    ) -> Elsewhere {
        let mut left = Elsewhere::default();
        let Some(process_entry) = self.process_entry() else { return left };
        let (reports, store) = (self.other_processes.reports.borrow(), switch.store_path());
        for place in process_entry.others() {
            let report = reports.get(&place).filter(|report| owner::is_alive(&report.process));
            left.add(report.zip(store.as_deref()).and_then(|(report, store)| of_report(report, store)));
        }
        left
    }

    /// Closes the streams of old sides of other processes' commits that are here, as the switches say.
    async fn close_followed(&self) {
        let followed = self.other_processes.followed.borrow().clone();
        for one in followed {
            if one.is_over() {
                self.other_processes.give_up(&one.switch, one.revisions.1);
                self.other_processes.forget(&one);
                continue;
            }
            if let Some(spread_ms) = one.close_now() {
                self.data_plane().close_affected(self.watch_of(&one), spread_ms);
            }
            let is_done = !one.closes() || self.count(self.watch_of(&one)).await == Some((0, 0));
            if is_done && !self.has_others() {
                self.other_processes.forget(&one);
            }
        }
    }

    /// Writes this process's report if it is another one than the last, and reads those of the others.
    async fn exchange(&self, written: &mut Vec<u8>) {
        let Some(process_entry) = self.process_entry() else { return };
        let news = match self.own_report().await {
            Some(report) => serde_json::to_vec(&report).ok().filter(|text| text != written),
            None => None,
        };
        let work = move || {
            let wrote = news.filter(|text| process_entry.report(text).is_ok());
            let others = process_entry.others().into_iter();
            let read = |place: i64| Some((place, ServingReport::parse(&process_entry.report_of(place)?)?));
            (wrote, others.filter_map(read).collect())
        };
        // A thread that cannot be had is had the next time.
        if let Ok((wrote, others)) = tokio::task::spawn_blocking(work).await {
            *self.other_processes.reports.borrow_mut() = others;
            *written = wrote.unwrap_or(std::mem::take(written));
        }
    }

    /// Returns what this process has left; `None` if a thread does not answer.
    async fn own_report(&self) -> Option<ServingReport> {
        let mut switches: Vec<Rc<SwitchState>> = self.switches.borrow().clone();
        switches.extend(self.groups.borrow().clone());
        let mut report = ServingReport { process: owner::own(), ..ServingReport::default() };
        for switch in switches {
            let Some(store) = switch.store_path() else { continue };
            let revision = switch.table().revision();
            let (drains, holds) = (self.old_sides(&switch).await?, self.hold_reports(&switch).await?);
            let uncounted = self.other_processes.uncounted.borrow().get(&store).copied().unwrap_or(0);
            report.switches.push(SwitchReport { store, revision, uncounted, drains, holds });
        }
        let states = self.gather(|data_plane, reply| data_plane.peers(reply)).await;
        if states.len() < self.data_plane().threads() {
            return None;
        }
        for state in states.into_iter().flatten() {
            for peer in state.peers.iter().filter(|peer| peer.connections > 0) {
                let (group, server) = (state.name.to_string(), peer.name.to_string());
                let same = |one: &&mut BusyServer| one.group == group && one.server == server;
                match report.busy.iter_mut().find(same) {
                    Some(one) => one.in_flight += u64::from(peer.connections),
                    None => {
                        let in_flight = u64::from(peer.connections);
                        report.busy.push(BusyServer { group, server, in_flight });
                    }
                }
            }
        }
        Some(report)
    }

    /// Returns the old sides here that are not empty, of commits of this process and of others.
    async fn old_sides(&self, switch: &Rc<SwitchState>) -> Option<Vec<OldSide>> {
        let name = switch.name();
        let named = |keys: &[Key]| {
            let is_named = !keys.is_empty() && keys.len() <= MAX_KEYS;
            is_named.then(|| keys.iter().map(ToString::to_string).collect())
        };
        let mut old: Vec<OldSide> = Vec::new();
        for one in self.drains.borrow().iter().filter(|one| one.switch == name && !one.is_drained()) {
            // Until the threads were asked, nothing is known.
            let (in_flight, streams) = one.own_left()?;
            let keys = one.watch.as_ref().and_then(|watch| named(&watch.changes));
            old.push(OldSide { revisions: (one.revision, one.revision), keys, in_flight, streams });
        }
        let followed = self.other_processes.followed.borrow().clone();
        for one in followed.iter().filter(|one| Rc::ptr_eq(&one.switch, switch)) {
            match self.count(self.watch_of(one)).await? {
                (0, 0) => self.other_processes.forget(one),
                (in_flight, streams) => {
                    let keys = named(&one.keys);
                    old.push(OldSide { revisions: one.revisions, keys, in_flight, streams });
                }
            }
        }
        Some(old)
    }

    async fn hold_reports(&self, switch: &Rc<SwitchState>) -> Option<Vec<HoldReport>> {
        let number = switch.configured().number;
        let held = self.holds.filter_map(|held| {
            let waiting = held.hold.waiting() as u64;
            (held.hold.switch() == number)
                .then(|| (held.kept.clone(), held.hold.key().clone(), held.is_on(), waiting))
        });
        let mut reports = Vec::with_capacity(held.len());
        for (kept, key, is_on, waiting) in held {
            let watch = self.watch_of_hold(switch, &kept, key);
            let (in_flight, streams) = self.count(watch.clone()).await?;
            let closes = kept.order.as_ref().is_some_and(|order| order.closes_streams);
            if closes && is_on && in_flight == 0 && streams > 0 && owner::own() != owner_of(&kept) {
                self.data_plane().close_affected(watch, 0);
            }
            reports.push(HoldReport { id: kept.id, waiting, in_flight, streams });
        }
        Some(reports)
    }

    /// Returns what the order of a hold would change; of a hold without one, the watch of all requests of its key.
    fn watch_of_hold(&self, switch: &SwitchState, kept: &KeptHold, key: Key) -> Arc<Watch> {
        let route = kept.order.as_ref().and_then(|order| order.route.as_deref());
        let route = route.and_then(|text| match text {
            "default" => Some(None),
            text => Route::parse(text).ok().map(Some),
        });
        let planned = route.and_then(|route| {
            let meta = Meta { actor: kept.actor.clone(), force: true, ..Meta::default() };
            switch.plan(&Order { action: Action::Set(vec![(key.clone(), route)]), meta }).ok()
        });
        match planned {
            Some(plan) => self.hypothetical_watch(switch, &plan),
            None => {
                let nowhere = Table::from_entries(0, [(key.clone(), Route::One("".into()), 0)]);
                Arc::new(Watch {
                    id: self.next_watch_id(),
                    switch: switch.configured().number,
                    before: switch.table(),
                    after: Arc::new(nowhere),
                    changes: vec![key],
                })
            }
        }
    }

    /// Returns the watch of what commits of another process have left behind, as the table is now.
    fn watch_of(&self, followed: &FollowedCommits) -> Arc<Watch> {
        Arc::new(Watch {
            id: self.next_watch_id(),
            switch: followed.switch.configured().number,
            before: followed.before.clone(),
            after: followed.switch.table(),
            changes: followed.keys.clone(),
        })
    }

    /// Counts the requests and streams that a watch would move; `None` if a thread does not answer. The threads have adopted
    /// what was published before by then.
    async fn count(&self, watch: Arc<Watch>) -> Option<(u64, u64)> {
        let reports = self.gather(|data_plane, reply| data_plane.affected(watch, reply)).await;
        let is_all = reports.len() >= self.data_plane().threads();
        let sum = |count: fn(&crate::data_plane::WatchReport) -> u64| reports.iter().map(count).sum();
        is_all.then(|| (sum(|one| one.in_flight), sum(|one| one.streams)))
    }

    fn process_entry(&self) -> Option<Arc<ProcessEntry>> {
        self.announce_process();
        self.shared.process_entry.get().cloned()
    }
}

/// Returns the process that carries out the order of a hold.
fn owner_of(kept: &KeptHold) -> &str {
    kept.order.as_ref().map_or("", |order| &order.owner)
}
