//! Waiting for what was ordered before: for a commit, or for a key that already is where an order wants it.
//!
//! Owns: which requests such a wait is for. Must never: change anything.

use super::progress::CommitProgress;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::data_plane::{Watch, WatchReport};
use crate::options::{CommitRef, Wait};
use crate::receipt::{Drain, DrainState, Receipt};
use engine::modules::switch::StreamsPolicy;
use std::sync::Arc;
use std::time::Duration;
use switch::{Code, Key, Refusal, Route, Table};
use tokio::time::Instant;

/// The first and the longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

impl ControlState {
    /// Waits for a commit as its order could have. Returns its receipt.
    pub(super) async fn wait_for(
        &self,
        switch: &SwitchState,
        which: CommitRef,
        wait: Wait,
        timeout: Duration,
    ) -> Result<Receipt, Refusal> {
        let revision = self.revision_of(switch, which).await?;
        if let Some(live) = self.live(switch, revision) {
            live.wait(wait, timeout).await;
            self.refresh(&live).await;
            let receipt = self.receipt_after(&live, wait);
            return Ok(self.with_idle_servers(switch, receipt, wait, timeout).await);
        }
        let mut receipt = self.receipt(switch, revision).await?;
        if switch.configured().is_groups() {
            return Ok(self.with_idle_servers(switch, receipt, wait, timeout).await);
        }
        // Its own observation has ended; whatever it has left is looked for again.
        let is_drained = receipt.drain.as_ref().is_some_and(|drain| drain.state == DrainState::Drained);
        if wait == Wait::Drained && !is_drained {
            let rules = switch.rules();
            let parse = |change: &crate::receipt::KeyChange| {
                Key::parse(rules.kind, change.key.as_bytes(), rules.max_key_len).ok()
            };
            let keys: Vec<Key> = receipt.changes.iter().filter_map(parse).collect();
            let rest = self.wait_until_settled(switch, &keys, timeout).await;
            let known = receipt.drain.take().unwrap_or_default();
            let Drain { state, in_flight, streams, in_other_processes, elsewhere, .. } = rest;
            receipt.drain = Some(Drain { state, in_flight, streams, in_other_processes, elsewhere, ..known });
        }
        Ok(receipt)
    }

    /// Returns the revision of a commit.
    pub(super) async fn revision_of(&self, switch: &SwitchState, which: CommitRef) -> Result<u64, Refusal> {
        match which {
            CommitRef::Newest => Ok(switch.table().revision()),
            CommitRef::Revision(revision) => Ok(revision),
            CommitRef::Id(id) => {
                let asked = id.clone();
                let commit = switch.store.with(move |store| store.commit_by_idempotency(&asked)).await?;
                commit.map(|commit| commit.revision).ok_or_else(|| unknown_id(&id))
            }
        }
    }

    /// Waits for a commit as its order says. Returns its receipt.
    pub(super) async fn waited(&self, following: &CommitProgress, wait: Wait, timeout: Duration) -> Receipt {
        following.wait(wait, timeout).await;
        if wait == Wait::Drained {
            self.refresh(following).await;
        }
        self.receipt_after(following, wait)
    }

    /// Returns a receipt after such a wait, with the newer commit that has ended it.
    fn receipt_after(&self, following: &CommitProgress, wait: Wait) -> Receipt {
        let mut receipt = following.receipt();
        if wait == Wait::Drained
            && let Some(drain) = &mut receipt.drain
        {
            drain.overtaken_by = self.overtaken_by(following);
        }
        receipt
    }

    /// Returns the newest commit that has changed a key of this one since, unless every key is where this one has put it.
    fn overtaken_by(&self, following: &CommitProgress) -> Option<u64> {
        let watch = following.watch.as_ref()?;
        let table = self.switch(&following.switch).ok()?.table();
        if table.revision() == following.revision {
            return None;
        }
        let newer = watch.changes.iter().filter_map(|key| {
            let (then, now) = (watch.after.get(key), table.get(key));
            let is_same = match (then, now) {
                (Some(then), Some(now)) => then.route == now.route,
                (None, None) => true,
                _ => false,
            };
            (!is_same).then(|| now.map_or(table.route_revision(None), |entry| entry.revision))
        });
        newer.max()
    }

    /// Waits until no request with one of these keys is anywhere but where the table routes it.
    pub(super) async fn wait_until_settled(
        &self,
        switch: &SwitchState,
        keys: &[Key],
        timeout: Duration,
    ) -> Drain {
        let began = Instant::now();
        let place = switch.configured();
        let keeps = place.spec().streams == StreamsPolicy::Keep;
        // A table in which every one of the keys has another entry than in force.
        let nowhere = keys.iter().map(|key| (key.clone(), Route::One("".into()), 0));
        let before = Arc::new(Table::from_entries(0, nowhere));
        let mut pause = PAUSES.0;
        loop {
            let watch = Arc::new(Watch {
                id: self.next_watch_id(),
                switch: place.number,
                before: before.clone(),
                after: switch.table(),
                changes: keys.to_vec(),
            });
            let reports = self.gather(|data_plane, reply| data_plane.affected(watch, reply)).await;
            let elsewhere = self.unsettled_elsewhere(switch, keys);
            let sum = |count: fn(&WatchReport) -> u64| -> u64 { reports.iter().map(count).sum() };
            let mut drain = Drain {
                seen_us: began.elapsed().as_micros() as u64,
                in_flight: sum(|report| report.in_flight) + elsewhere.in_flight,
                streams: sum(|report| report.streams) + elsewhere.streams,
                in_other_processes: elsewhere.in_flight + elsewhere.streams,
                elsewhere: elsewhere.is_unknown,
                ..Drain::default()
            };
            if self.are_all(reports.len())
                && !elsewhere.is_unknown
                && drain.in_flight == 0
                && (keeps || drain.streams == 0)
            {
                drain.state = DrainState::Drained;
                return drain;
            }
            let left = timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                return drain;
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

fn unknown_id(id: &str) -> Refusal {
    Refusal::new(
        Code::UnknownRevision,
        format!("no commit was made with the idempotency key \"{id}\""),
        "the order may still be waiting for its gate or its hold, it was refused, or it changed nothing",
    )
}
