//! Reverting commits that were not confirmed in time.
//!
//! Owns: the question to both sides before a commit goes back, and that it is put again until the commit has gone back or
//! was settled otherwise. Must never: forget one, or revert without an answer.

use super::clock;
use super::commit::CommitOutcome;
use super::state::ControlState;
use super::switch_state::SwitchState;
use super::window;
use crate::event::EventKind;
use crate::gate;
use crate::info::OverdueInfo;
use crate::receipt::GateResult;
use engine::host::Level;
use engine::modules::switch::GateSpec;
use std::rc::{Rc, Weak};
use std::time::Duration;
use switch::{Action, Meta, Order, Pending, Refusal, Undoing};
use tokio::time::Instant;

/// The interval at which the clocks are checked: the machine may sleep, and the wall clock may be set.
const LOOK: Duration = Duration::from_secs(1);

/// The actor of reverts.
pub(super) const SYSTEM_ACTOR: &str = "pointsman";

/// What came of a window that has ended.
enum Ended {
    /// The commit went back, or the sides must be asked again, because its keys lead elsewhere by now.
    Settled,
    /// It stays: going back would lead clients to targets that fail.
    Stays(Vec<GateResult>),
    /// No target answers yet, and the process has just begun.
    Waits,
}

/// Returns the order that reverts a commit.
pub(super) fn revert_order(undoing: Undoing) -> Order {
    let reason = Some("not confirmed in time".to_owned());
    Order {
        action: Action::Revert(undoing),
        meta: Meta { actor: SYSTEM_ACTOR.to_owned(), reason, ..Meta::default() },
    }
}

/// Warns of the ends of windows and reverts commits whose window has ended, as long as state and switch exist.
pub(super) async fn watch_windows(state: Weak<ControlState>, switch: Weak<SwitchState>) {
    let began = Instant::now();
    loop {
        let (Some(here), Some(at)) = (state.upgrade(), switch.upgrade()) else { return };
        if at.removed.get() {
            return;
        }
        let now = clock::now();
        let pending = at.position().pending;
        at.windows.borrow_mut().keep(&pending);
        here.warn(&at, &pending);
        let due = at.windows.borrow().due(&pending, now, Instant::now());
        if let Some(due) = due {
            here.end(&at, due, began.elapsed() < here.shared.window_times.grace).await;
            continue;
        }
        let wait = at.windows.borrow().wait(&pending, now, Instant::now());
        drop(here);
        let changed = at.pending_changed.notified();
        match wait {
            Some(wait) => {
                let _ = tokio::time::timeout(wait.min(LOOK), changed).await;
            }
            None => {
                // Removing the switch notifies too.
                changed.await;
            }
        }
    }
}

impl ControlState {
    /// Warns of windows that come to their end.
    fn warn(&self, switch: &SwitchState, pending: &[Pending]) {
        let now = clock::now();
        let due = switch.windows.borrow_mut().take_warnings(pending, now);
        for one in due {
            let (revision, left_ms) = (one.revision, one.left_ms(now));
            let text = format!(
                "switch \"{}\": revision {revision} is reverted in {} s unless it is confirmed (pointsman confirm --switch {0} {revision})",
                switch.name(),
                left_ms.div_ceil(1_000)
            );
            self.shared.log(Level::Warn, &text);
            let kind = EventKind::Unconfirmed { revision, left_ms, window_ms: one.window_ms };
            self.shared.announce(&switch.name(), kind);
        }
    }

    /// Does what the end of a window asks for.
    async fn end(self: &Rc<ControlState>, switch: &Rc<SwitchState>, due: Pending, in_grace: bool) {
        let revision = due.revision;
        let retry = self.shared.window_times.retry;
        match self.judge(switch, revision, in_grace).await {
            Ok(Ended::Settled) => {}
            Ok(Ended::Waits) => {
                let again = Instant::now() + retry.min(LOOK);
                switch.windows.borrow_mut().look_again(revision, again);
            }
            Ok(Ended::Stays(answers)) => {
                switch.windows.borrow_mut().look_again(revision, Instant::now() + retry);
                self.report_overdue(switch, revision, answers);
            }
            // Another process with the same store was faster, or it was settled by an order meanwhile.
            Err(_) if !switch.position().pending.contains(&due) => {}
            Err(refusal) => {
                switch.windows.borrow_mut().failed(revision, Instant::now());
                let text = format!(
                    "switch \"{}\": revision {revision} was not confirmed in time and cannot be reverted yet: {refusal}",
                    switch.name()
                );
                self.shared.log(Level::Crit, &text);
            }
        }
    }

    /// Asks both sides of a commit whose window has ended, and reverts it if they allow that. Orders that come meanwhile
    /// count: the commit is planned anew when the answers are there.
    async fn judge(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        revision: u64,
        in_grace: bool,
    ) -> Result<Ended, Refusal> {
        let undoing = switch.store.with(move |store| Undoing::of_commit(store, revision)).await?;
        let order = revert_order(undoing.ok_or_else(|| Refusal::unknown_revision(revision))?);
        self.look_at_uses(switch, &order).await?;
        let plan = switch.plan(&order)?;
        let place = switch.configured();
        let mut targets = plan.present_targets();
        targets.extend(
            plan.targets.iter().filter(|target| !targets.contains(target)).cloned().collect::<Vec<_>>(),
        );
        let answers = match &targets[..] {
            [] => Vec::new(),
            targets => {
                let spec = place.spec().gate.as_ref().unwrap_or(&GateSpec::CONNECT);
                self.probe(&place, spec, targets, &plan).await
            }
        };
        if in_grace && !answers.is_empty() && answers.iter().all(|answer| answer.healthy == 0) {
            return Ok(Ended::Waits);
        }
        if !window::may_go_back(place.spec(), &plan, &answers) {
            return Ok(Ended::Stays(answers));
        }
        match self.commit(switch, &order, &answers).await? {
            CommitOutcome::Committed(_) => {}
            _ => tokio::task::yield_now().await,
        }
        Ok(Ended::Settled)
    }

    /// Reports a commit that stays although its window has ended, when it begins to.
    fn report_overdue(&self, switch: &SwitchState, revision: u64, results: Vec<GateResult>) {
        let answers: Vec<String> = results.iter().flat_map(gate::notes).collect();
        let info = OverdueInfo { since_ms: clock::now_ms(), answers };
        let shown = info.answers.join("; ");
        if !switch.windows.borrow_mut().stays(revision, info) {
            return;
        }
        let text = format!(
            "switch \"{}\": revision {revision} was not confirmed in time, and stays because the side that it would go back to \
             fails: {shown}; it goes back as soon as that side passes, unless it is confirmed (pointsman confirm {revision})",
            switch.name()
        );
        self.shared.log(Level::Error, &text);
        self.shared.announce(&switch.name(), EventKind::Overdue { revision, results });
    }
}
