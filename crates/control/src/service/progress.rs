//! The progress of a commit: published, drained, and its receipt so far.
//!
//! Owns: the receipts of commits in progress. Must never: query the workers.

use super::elsewhere::report::Elsewhere;
use crate::data_plane::{Acknowledgement, OldRequest, Watch, WatchReport};
use crate::horizon::AnswerCounts;
use crate::options::Wait;
use crate::receipt::{Drain, DrainState, Held, OldestRequest, Receipt, WorkerAck};
use engine::modules::switch::StreamsPolicy;
use statistics::Answers;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The observable progress.
struct Progress {
    receipt: Receipt,
    /// Becomes true once all workers have acknowledged, or missed the deadline.
    published: bool,
    /// True once there is nothing left to wait for.
    drained: bool,
}

/// A commit in progress.
pub(super) struct CommitProgress {
    pub(super) switch: Arc<str>,
    pub(super) revision: u64,
    pub(super) committed: Instant,
    pub(super) watch: Option<Arc<Watch>>,
    pub(super) streams: StreamsPolicy,
    /// How long answers are counted.
    horizon: Duration,
    /// The failures on the new side that were announced.
    pub(super) told_failures: Cell<u64>,
    progress: watch::Sender<Progress>,
    /// A newer commit needs its place.
    pub(super) stopped: Cell<bool>,
    pub(super) stop_signal: Notify,
    /// Its answers are not counted any more.
    pub(super) horizon_ended: Notify,
    /// The requests and streams on its old side in this process, once all threads were asked.
    own_left: Cell<Option<(u64, u64)>>,
}

impl CommitProgress {
    /// Returns the progress of a commit that was just published.
    pub(super) fn new(
        switch: Arc<str>,
        mut receipt: Receipt,
        committed: Instant,
        watch: Option<Arc<Watch>>,
        (streams, horizon): (StreamsPolicy, Duration),
    ) -> CommitProgress {
        receipt.drain = watch.as_ref().map(|_| Drain::default());
        CommitProgress {
            switch,
            revision: receipt.revision,
            committed,
            streams,
            horizon,
            told_failures: Cell::new(0),
            progress: watch::Sender::new(Progress { receipt, published: false, drained: watch.is_none() }),
            watch,
            stopped: Cell::new(false),
            stop_signal: Notify::new(),
            horizon_ended: Notify::new(),
            own_left: Cell::new(None),
        }
    }

    /// Waits as requested, at most for the timeout.
    pub(super) async fn wait(&self, wait: Wait, timeout: Duration) {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|now| match wait {
            Wait::None => true,
            Wait::Published => now.published,
            Wait::Drained => now.published && now.drained,
        });
        // The receipt shows whether it was reached.
        let _ = tokio::time::timeout(timeout, reached).await;
    }

    pub(super) fn receipt(&self) -> Receipt {
        self.progress.borrow().receipt.clone()
    }

    pub(super) fn receipt_ref<T>(&self, read: impl FnOnce(&Receipt) -> T) -> T {
        read(&self.progress.borrow().receipt)
    }

    pub(super) fn modify_receipt(&self, modify: impl FnOnce(&mut Receipt)) {
        self.progress.send_modify(|now| modify(&mut now.receipt));
    }

    /// Returns the number of keys that it has changed.
    pub(super) fn keys(&self) -> usize {
        self.watch.as_ref().map_or(0, |watch| watch.changes.len())
    }

    /// Returns until when its answers are counted.
    pub(super) fn horizon_end(&self) -> Instant {
        self.committed + self.horizon
    }

    /// Waits until its answers are not counted any more.
    pub(super) async fn horizon_over(&self) {
        while self.is_watching() {
            self.horizon_ended.notified().await;
        }
    }

    /// Adds the hold's result to the receipt.
    pub(super) fn set_hold(&self, held: Held) {
        self.progress.send_modify(|now| now.receipt.hold = Some(held));
    }

    pub(super) fn is_drained(&self) -> bool {
        self.progress.borrow().drained
    }

    /// Returns true if somebody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.progress.receiver_count() > 0
    }

    /// Ends the observation of its drain and of its answers.
    pub(super) fn stop(&self, reason: &str) {
        self.end_horizon(Some(reason.to_owned()));
        self.stopped.set(true);
        self.stop_signal.notify_one();
    }

    fn after_us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.committed).as_micros() as u64
    }

    pub(super) fn acknowledged(&self, acknowledgement: Acknowledgement) {
        let ack = WorkerAck {
            worker: acknowledgement.worker,
            after_us: self.after_us(acknowledgement.at.into()),
            in_flight_old: acknowledgement.in_flight_old,
        };
        self.progress.send_modify(|now| {
            now.receipt.workers.push(ack);
            // Until the first report, the requests in flight at the acknowledgement are all that is known.
            if let Some(drain) = now.receipt.drain.as_mut().filter(|drain| drain.seen_us == 0) {
                drain.in_flight += ack.in_flight_old as u64;
            }
        });
    }

    /// Returns the requests and streams on its old side in this process, once that is known.
    pub(super) fn own_left(&self) -> Option<(u64, u64)> {
        self.own_left.get()
    }

    /// Adds up the workers' reports and what other processes have. Returns true if the old side is empty; never while a
    /// worker's report is missing, or another process may have requests there.
    pub(super) fn reported(&self, reports: &[WatchReport], workers: usize, elsewhere: Elsewhere) -> bool {
        let sum = |count: fn(&WatchReport) -> u64| -> u64 { reports.iter().map(count).sum() };
        let (own, own_streams) = (sum(|one| one.in_flight), sum(|one| one.streams));
        if reports.len() >= workers {
            self.own_left.set(Some((own, own_streams)));
        }
        let mut drain = Drain {
            state: DrainState::Draining,
            seen_us: self.after_us(Instant::now()),
            first_new_us: reports
                .iter()
                .filter_map(|one| one.first_new)
                .min()
                .map(|at| self.after_us(at.into())),
            last_old_us: reports
                .iter()
                .filter_map(|one| one.last_old)
                .max()
                .map(|at| self.after_us(at.into())),
            in_flight: own + elsewhere.in_flight,
            streams: own_streams + elsewhere.streams,
            in_other_processes: elsewhere.in_flight + elsewhere.streams,
            failed_old: sum(|one| one.old.failed + one.old.failed_streams),
            oldest: oldest(reports),
            elsewhere: elsewhere.is_unknown,
            ..Drain::default()
        };
        let mut old = Answers::default();
        reports.iter().for_each(|one| old.merge(&one.old));
        let keeps = self.streams == StreamsPolicy::Keep;
        let is_all = reports.len() >= workers && !elsewhere.is_unknown;
        let empty = is_all && drain.in_flight == 0 && (keeps || drain.streams == 0);
        if empty || self.is_drained() {
            drain.state = DrainState::Drained;
        }
        self.progress.send_modify(|now| {
            if let Some(known) = now.receipt.drain.take() {
                // What the statistics have counted.
                (drain.served_new, drain.failed_new) = (known.served_new, known.failed_new);
                drain.span_us = known.span_us;
                drain.first_new_us = drain.first_new_us.or(known.first_new_us);
            }
            now.receipt.drain = Some(drain);
            if let Some(horizon) = &mut now.receipt.horizon {
                horizon.old = AnswerCounts::from(&old);
            }
            now.drained |= empty;
        });
        empty
    }

    pub(super) fn first_new(&self) -> Option<u64> {
        self.receipt_ref(|receipt| receipt.drain.as_ref().and_then(|drain| drain.first_new_us))
    }

    /// Returns true if streams are on the old side.
    pub(super) fn has_streams(&self) -> bool {
        self.receipt_ref(|receipt| receipt.drain.as_ref().is_some_and(|drain| drain.streams > 0))
    }

    /// Becomes true once all workers have acknowledged, or missed the deadline.
    pub(super) fn set_published(&self) {
        self.progress.send_modify(|now| now.published = true);
    }

    /// Ends the drain with requests left on the old side.
    pub(super) fn set_given_up(&self) {
        self.progress.send_modify(|now| {
            if let Some(drain) = &mut now.receipt.drain {
                drain.state = DrainState::GivenUp;
            }
            now.drained = true;
        });
    }
}

/// Returns the oldest of the requests that the workers name: a stream only if there is nothing else.
fn oldest(reports: &[WatchReport]) -> Option<OldestRequest> {
    let named = reports.iter().filter_map(|one| Some((one.in_flight > 0, one.oldest.as_ref()?)));
    let oldest = named.max_by_key(|(is_request, oldest)| (*is_request, oldest.age_ms));
    oldest.map(|(_, OldRequest { request, age_ms })| OldestRequest {
        request: request.clone(),
        age_ms: *age_ms,
    })
}
