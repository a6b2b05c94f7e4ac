//! The progress of a commit: published, drained, and its receipt so far.
//!
//! Owns: the receipts of commits in progress. Must never: query the workers.

use crate::data_plane::{Acknowledgement, Watch, WatchReport};
use crate::options::Wait;
use crate::receipt::{Drain, DrainState, Held, Receipt, WorkerAck};
use engine::modules::switch::StreamsPolicy;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The observable progress.
struct Progress {
    receipt: Receipt,
    /// True once all workers have acknowledged, or missed the deadline.
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
    progress: watch::Sender<Progress>,
    /// A newer commit needs its place.
    pub(super) stopped: Cell<bool>,
    pub(super) stop_signal: Notify,
}

impl CommitProgress {
    /// Returns the progress of a commit that was just published.
    pub(super) fn new(
        switch: Arc<str>,
        mut receipt: Receipt,
        committed: Instant,
        watch: Option<Arc<Watch>>,
        streams: StreamsPolicy,
    ) -> CommitProgress {
        receipt.drain = watch.as_ref().map(|_| Drain::default());
        CommitProgress {
            switch,
            revision: receipt.revision,
            committed,
            streams,
            progress: watch::Sender::new(Progress { receipt, published: false, drained: watch.is_none() }),
            watch,
            stopped: Cell::new(false),
            stop_signal: Notify::new(),
        }
    }

    /// Waits as requested, at most for the timeout. Returns the receipt as it is then.
    pub(super) async fn wait(&self, wait: Wait, timeout: Duration) -> Receipt {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|now| match wait {
            Wait::None => true,
            Wait::Published => now.published,
            Wait::Drained => now.published && now.drained,
        });
        // The receipt shows whether it was reached.
        let _ = tokio::time::timeout(timeout, reached).await;
        self.receipt()
    }

    pub(super) fn receipt(&self) -> Receipt {
        self.progress.borrow().receipt.clone()
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

    pub(super) fn stop(&self) {
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

    /// Adds up the workers' reports. Returns true if the old side is empty; never while a worker's report is missing.
    pub(super) fn reported(&self, reports: &[WatchReport], workers: usize) -> bool {
        let sum = |count: fn(&WatchReport) -> u64| reports.iter().map(count).sum();
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
            in_flight: sum(|one| one.in_flight),
            streams: sum(|one| one.streams),
            served_new: sum(|one| one.served_new),
            failed_new: sum(|one| one.failed_new),
            failed_old: sum(|one| one.failed_old),
        };
        let keeps = self.streams == StreamsPolicy::Keep;
        let empty = reports.len() >= workers && drain.in_flight == 0 && (keeps || drain.streams == 0);
        if empty || self.is_drained() {
            drain.state = DrainState::Drained;
        }
        self.progress.send_modify(|now| {
            now.receipt.drain = Some(drain);
            now.drained |= empty;
        });
        empty
    }

    pub(super) fn first_new(&self) -> Option<u64> {
        self.progress.borrow().receipt.drain.and_then(|drain| drain.first_new_us)
    }

    /// True once all workers have acknowledged, or missed the deadline.
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
