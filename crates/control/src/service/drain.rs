//! Drains: observing the old side after a switch until it is empty.
//!
//! Owns: the observation of commits in progress, their receipts, and the policy for streams. Must never: change a table.

use super::horizon::{self, reasons};
use super::progress::CommitProgress;
use super::state::{ACK_TIMEOUT, ControlState};
use super::switch_state::SwitchState;
use super::trace;
use crate::data_plane::{Acknowledgement, Watch};
use crate::event::EventKind;
use crate::receipt::Receipt;
use engine::host::Level;
use engine::modules::switch::StreamsPolicy;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use switch::Refusal;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{Instrument, Span};

/// How long the old side is observed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a drained switch is observed for its first request on the new side.
const LINGER: Duration = Duration::from_secs(10);
/// The first and the longest pause between two reports.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));
/// The longest pause once the drain is over: streams may be left.
const CALM: Duration = Duration::from_secs(5);
/// By how much each unfinished drain makes the pauses of those longer for which no caller waits: each report makes the
/// workers go through their requests.
const CROWD: Duration = Duration::from_millis(8);

impl ControlState {
    /// Begins to observe a commit that was just published, and was durable at this time; its answers are counted for so long.
    pub(super) fn track(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        receipt: Receipt,
        (committed, watch_ms): (Instant, u64),
        watch: Option<Arc<Watch>>,
        acknowledgements: mpsc::UnboundedReceiver<Acknowledgement>,
    ) -> Rc<CommitProgress> {
        let place = switch.configured();
        let settings = (place.spec().streams, Duration::from_millis(watch_ms));
        let following = Rc::new(CommitProgress::new(switch.name(), receipt, committed, watch, settings));
        self.drains.borrow_mut().push(following.clone());
        if following.is_watching() {
            self.keep_counting();
        }
        // It still belongs to the order after that is answered.
        let task = follow(self.clone(), switch.clone(), following.clone(), acknowledgements);
        tokio::task::spawn_local(task.instrument(Span::current()));
        following
    }

    /// Returns a commit in progress.
    pub(super) fn live(&self, switch: &SwitchState, revision: u64) -> Option<Rc<CommitProgress>> {
        let name = switch.name();
        self.drains.borrow().iter().find(|one| one.switch == name && one.revision == revision).cloned()
    }

    /// Returns the receipt of a commit: of one in progress as it is now, else the stored one, else that of the history.
    pub(super) async fn receipt(&self, switch: &SwitchState, revision: u64) -> Result<Receipt, Refusal> {
        let name = switch.name();
        if let Some(live) = self.live(switch, revision) {
            self.refresh(&live).await;
            return Ok(live.receipt());
        }
        let (kept, commit) = switch
            .store
            .with(move |store| Ok((store.receipt(revision)?, switch::commit_at(store, revision)?)))
            .await?;
        let commit = commit.ok_or_else(|| Refusal::unknown_revision(revision))?;
        let kept: Option<Receipt> = kept.and_then(|text| serde_json::from_str(&text).ok());
        let mut receipt =
            kept.unwrap_or_else(|| Receipt::of_commit(&name, &commit).over(&switch.rules().groups));
        receipt.horizon = receipt.horizon.map(horizon::stored);
        Ok(receipt)
    }

    /// Brings a receipt up to what the workers have counted by now.
    pub(super) async fn refresh(&self, following: &CommitProgress) {
        if following.is_watching() {
            self.collect().await;
            self.count_answers(&following.switch, Some(following.revision));
        }
    }

    /// Announces the end of a drain, and saves the receipt as it is then; it may still be completed.
    async fn announce_drained(&self, switch: &SwitchState, following: &CommitProgress) {
        self.refresh(following).await;
        let failed = following.receipt_ref(|one| one.drain.as_ref().map_or(0, |drain| drain.failed_new));
        following.told_failures.set(failed);
        self.shared.announce(&following.switch, EventKind::Drained(Arc::new(following.receipt())));
        self.save_receipt(switch, following);
    }

    fn unfinished_drains(&self) -> u32 {
        self.drains.borrow().iter().filter(|one| !one.is_drained()).count() as u32
    }

    /// Saves the receipts of commits whose answers are still counted, and what was looked up: the process ends.
    pub(super) fn save_unfinished(&self) {
        self.keep_found();
        let drains = self.drains.borrow().clone();
        for following in drains.iter().filter(|one| one.is_watching()) {
            following.end_horizon(Some(reasons::ENDED.to_owned()));
            if let Ok(switch) = self.switch(&following.switch) {
                self.save_receipt(&switch, following);
            }
        }
    }

    fn save_receipt(&self, switch: &SwitchState, following: &CommitProgress) {
        let (revision, receipt) = (following.revision, following.receipt());
        if let Ok(text) = serde_json::to_string(&receipt) {
            switch.store.tell(move |store| store.save_receipt(revision, text));
        }
    }
}

async fn follow(
    state: Rc<ControlState>,
    switch: Rc<SwitchState>,
    following: Rc<CommitProgress>,
    mut acknowledgements: mpsc::UnboundedReceiver<Acknowledgement>,
) {
    let workers = state.data_plane().threads();
    let deadline = Instant::now() + ACK_TIMEOUT;
    let acknowledged = async {
        let mut missing = workers;
        while missing > 0
            && let Ok(Some(one)) = tokio::time::timeout_at(deadline, acknowledgements.recv()).await
        {
            following.acknowledged(one);
            missing -= 1;
        }
        missing
    };
    let missing = acknowledged.instrument(trace::publish(following.revision)).await;
    if missing > 0 {
        let text = format!(
            "switch \"{}\": {missing} of {workers} workers did not acknowledge revision {}",
            following.switch, following.revision
        );
        state.shared.log(Level::Alert, &text);
    }
    let fleet = state.fleet_service().ok().filter(|_| switch.is_in_fleet());
    if fleet.is_none() {
        following.set_published();
    }
    let nodes = async {
        let Some(service) = fleet else { return };
        if missing == 0 {
            let began = following.committed;
            let position = switch.position();
            // A newer commit may have been published since; then its acknowledgement says more.
            if position.table.revision() == following.revision {
                let hash = position.hash.to_string();
                service.all_follow(&following.switch, &hash, following.revision, workers, began).await;
            }
        }
        service.nodes_follow(&following).await;
        following.set_published();
        state.save_receipt(&switch, &following);
    };
    let drain = async {
        if let Some(watch) = &following.watch {
            watch_drain(&state, &switch, &following, watch.id, workers).await;
            state.data_plane().forget_watch(watch.id);
            state.save_receipt(&switch, &following);
        }
    };
    let answers = async {
        following.horizon_over().await;
        if following.watch.is_some() {
            state.close_horizon(&following.switch);
            state.save_receipt(&switch, &following);
            state.announce_receipt(&following, following.receipt());
        }
    };
    tokio::join!(drain, answers, nodes);
    state.drains.borrow_mut().retain(|one| !Rc::ptr_eq(one, &following));
}

/// Applies the policy for streams.
struct Closing {
    policy: StreamsPolicy,
    /// True once the workers close them.
    begun: bool,
}

impl Closing {
    /// Returns the time by which all of them must be closed.
    fn deadline(&self) -> Option<Duration> {
        match self.policy {
            StreamsPolicy::Keep => None,
            StreamsPolicy::CloseAfter { ms } | StreamsPolicy::CloseSpread { ms } => {
                Some(Duration::from_millis(ms))
            }
        }
    }

    /// Does what is due at this age of the commit. From then on the workers close what becomes a stream later, too.
    fn act(&mut self, state: &ControlState, id: u64, age: Duration) {
        let (due_ms, spread_ms) = match self.policy {
            StreamsPolicy::Keep => return,
            StreamsPolicy::CloseAfter { ms } => (ms, 0),
            StreamsPolicy::CloseSpread { ms } => (0, ms),
        };
        if !self.begun && age >= Duration::from_millis(due_ms) {
            state.data_plane().close_streams(id, spread_ms);
            self.begun = true;
        }
    }
}

/// Polls the workers until the old side is empty and the new side has served requests.
async fn watch_drain(
    state: &Rc<ControlState>,
    switch: &SwitchState,
    following: &CommitProgress,
    id: u64,
    workers: usize,
) {
    let mut pause = PAUSES.0;
    let mut closing = Closing { policy: following.streams, begun: false };
    let mut drained: Option<Instant> = None;
    let mut span = Some(trace::drain(following.revision));
    while !following.stopped.get() {
        let reports = state.gather(|data_plane, reply| data_plane.watched(id, reply)).await;
        if following.reported(&reports, workers, state.old_side_elsewhere(switch, following.revision))
            && drained.is_none()
        {
            drained = Some(Instant::now());
            span = None;
            state.announce_drained(switch, following).await;
        }
        let age = following.committed.elapsed();
        closing.act(state, id, age);
        let seen = following.first_new().is_some();
        // Streams that are kept may end while answers are counted.
        let left = following.has_streams() && following.is_watching();
        match drained {
            Some(since) if !left && (seen || since.elapsed() >= LINGER) => return,
            None if age >= DRAIN_TIMEOUT => break,
            _ => {}
        }
        let until_deadline = closing.deadline().map(|deadline| deadline.saturating_sub(age));
        let next = match until_deadline.filter(|left| !left.is_zero()) {
            Some(left) => pause.min(left),
            None => pause,
        };
        let longest = match (drained, following.is_awaited()) {
            (Some(_), _) => CALM,
            (None, true) => PAUSES.1,
            (None, false) => PAUSES.1.max(CROWD * state.unfinished_drains()),
        };
        pause = (pause * 2).min(longest);
        // The loop's condition shows whether the pause is over or the place is needed.
        let _ = tokio::time::timeout(next, following.stop_signal.notified()).await;
    }
    drop(span);
    if drained.is_none() {
        if closing.deadline().is_some() {
            state.data_plane().close_streams(id, 0);
        }
        following.set_given_up();
        state.other_processes.give_up(switch, following.revision);
        state.announce_drained(switch, following).await;
    }
}
