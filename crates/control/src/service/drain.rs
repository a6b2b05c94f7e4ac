//! Drains: observing the old side after a switch until it is empty.
//!
//! Owns: the observation of commits in progress, and the policy for streams. Must never: change a table.

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

/// The maximum number of commits observed at a time: each makes the workers check every request.
const MAX_FOLLOWED: usize = 32;
/// How long the old side is observed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a drained switch is observed for its first request on the new side.
const LINGER: Duration = Duration::from_secs(10);
/// The minimum of that, to see whether requests fail there.
const LINGER_AT_LEAST: Duration = Duration::from_secs(1);
/// The first and the longest pause between two reports.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

impl ControlState {
    /// Begins to observe a commit that was just published.
    pub(super) fn track(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        receipt: Receipt,
        committed: Instant,
        watch: Option<Arc<Watch>>,
        acknowledgements: mpsc::UnboundedReceiver<Acknowledgement>,
    ) -> Rc<CommitProgress> {
        let streams = switch.configured().spec().streams;
        let following = Rc::new(CommitProgress::new(switch.name(), receipt, committed, watch, streams));
        let mut followed = self.drains.borrow_mut();
        if followed.len() >= MAX_FOLLOWED {
            let first = |spare: fn(&CommitProgress) -> bool| followed.iter().position(|one| spare(one));
            let place = first(CommitProgress::is_drained).or_else(|| first(|one| !one.is_awaited()));
            // What is waited for keeps its place; how many may wait is bounded.
            if let Some(place) = place {
                followed.remove(place).stop();
            }
        }
        followed.push(following.clone());
        drop(followed);
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
            return Ok(live.receipt());
        }
        let (kept, commit) = switch
            .store
            .with(move |store| Ok((store.receipt(revision)?, switch::commit_at(store, revision)?)))
            .await?;
        let commit = commit.ok_or_else(|| Refusal::unknown_revision(revision))?;
        let kept = kept.and_then(|text| serde_json::from_str(&text).ok());
        Ok(kept.unwrap_or_else(|| Receipt::of_commit(&name, &commit)))
    }

    /// Announces the end of a drain, and saves the receipt as it is then; it may still be completed.
    fn announce_drained(&self, switch: &SwitchState, following: &CommitProgress) {
        self.shared.announce(&following.switch, EventKind::Drained(Arc::new(following.receipt())));
        self.save_receipt(switch, following);
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
    following.set_published();
    if let Some(watch) = &following.watch {
        watch_drain(&state, &switch, &following, watch.id, workers).await;
        state.data_plane().forget_watch(watch.id);
    }
    state.save_receipt(&switch, &following);
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
        if following.reported(&reports, workers) && drained.is_none() {
            drained = Some(Instant::now());
            span = None;
            state.announce_drained(switch, following);
        }
        let age = following.committed.elapsed();
        closing.act(state, id, age);
        let seen = following.first_new().is_some() && age >= LINGER_AT_LEAST;
        match drained {
            Some(since) if seen || since.elapsed() >= LINGER => return,
            None if age >= DRAIN_TIMEOUT => break,
            _ => {}
        }
        let until_deadline = closing.deadline().map(|deadline| deadline.saturating_sub(age));
        let next = match until_deadline.filter(|left| !left.is_zero()) {
            Some(left) => pause.min(left),
            None => pause,
        };
        pause = (pause * 2).min(PAUSES.1);
        // The loop's condition shows whether the pause is over or the place is needed.
        let _ = tokio::time::timeout(next, following.stop_signal.notified()).await;
    }
    drop(span);
    if drained.is_none() {
        if closing.deadline().is_some() {
            state.data_plane().close_streams(id, 0);
        }
        following.set_given_up();
        state.announce_drained(switch, following);
    }
}
