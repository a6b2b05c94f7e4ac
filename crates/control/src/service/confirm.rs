//! Commit-confirmed: commits that are reverted unless they are confirmed in time.
//!
//! Owns: the deadlines of each switch. Must never: forget one; a revert that fails is retried until it succeeds.

use super::clock;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::options::Options;
use crate::receipt::Receipt;
use engine::host::Level;
use std::rc::{Rc, Weak};
use std::time::Duration;
use switch::{Action, Code, Meta, Order, Refusal, Undoing};

/// The interval at which the clocks are checked: the machine may sleep, and the wall clock may be set.
const LOOK_MS: u64 = 1_000;
/// The longest pause between two attempts.
const MAX_PAUSE_MS: u64 = 30_000;

/// The actor of reverts.
pub(super) const SYSTEM_ACTOR: &str = "pointsman";

impl ControlState {
    /// See [`crate::ControlHandle::confirm`].
    pub(super) async fn confirm(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        revision: Option<u64>,
        meta: Meta,
    ) -> Result<Receipt, Refusal> {
        self.shared.takes_orders()?;
        self.catch_up(switch).await?;
        let pending = switch.position().pending;
        let revision = match (revision, &pending[..]) {
            (Some(revision), _) => revision,
            (None, [only]) => only.revision,
            (None, []) => return self.confirmed_earlier(switch, &meta).await,
            (None, several) => {
                let revisions: Vec<String> = several.iter().map(|one| one.revision.to_string()).collect();
                return Err(Refusal::new(
                    Code::BadOrder,
                    format!("several revisions await confirmation: {}", revisions.join(", ")),
                    "name one of them",
                ));
            }
        };
        self.order(switch, Order { action: Action::Confirm(revision), meta }, Options::default()).await
    }

    /// Nothing is pending: unless the same confirmation was committed already, there is nothing to confirm.
    async fn confirmed_earlier(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        meta: &Meta,
    ) -> Result<Receipt, Refusal> {
        if let Some(name) = meta.idempotency.clone()
            && let Some(commit) = switch.store.with(move |store| store.commit_by_idempotency(&name)).await?
            && commit.actor == meta.actor
            && matches!(commit.kind, switch::CommitKind::Confirm { .. })
        {
            return self.repeated_receipt(switch, &commit, &Options::default()).await;
        }
        Err(Refusal::new(
            Code::NothingToConfirm,
            format!("no revision of switch \"{}\" awaits confirmation", switch.name()),
            "see history: it was confirmed or undone already, or had no deadline",
        ))
    }

    /// Reverts a commit that was not confirmed in time.
    async fn revert(self: &Rc<ControlState>, switch: &Rc<SwitchState>, revision: u64) -> Result<(), Refusal> {
        let undoing = switch.store.with(move |store| Undoing::of_commit(store, revision)).await?;
        let undoing = undoing.ok_or_else(|| Refusal::unknown_revision(revision))?;
        self.commit(switch, &revert_order(undoing), &[]).await.map(drop)
    }
}

/// Returns the order that reverts a commit.
pub(super) fn revert_order(undoing: Undoing) -> Order {
    let reason = Some("not confirmed in time".to_owned());
    Order {
        action: Action::Revert(undoing),
        meta: Meta { actor: SYSTEM_ACTOR.to_owned(), reason, ..Meta::default() },
    }
}

/// Reverts commits whose deadline has passed, as long as state and switch exist.
pub(super) async fn revert_unconfirmed(state: Weak<ControlState>, switch: Weak<SwitchState>) {
    let mut pause_ms = LOOK_MS;
    loop {
        let (Some(here), Some(at)) = (state.upgrade(), switch.upgrade()) else { return };
        if at.removed.get() {
            return;
        }
        let now = clock::now();
        let pending = at.position().pending;
        // Newest first: of two for the same key, the older one knows the route before both.
        let overdue = pending.iter().rev().find(|one| one.is_overdue(now));
        if let Some(overdue) = overdue {
            match here.revert(&at, overdue.revision).await {
                Ok(()) => {
                    pause_ms = LOOK_MS;
                    continue;
                }
                // Another process with the same store was faster, or it was confirmed at the last moment.
                Err(_) if !at.position().pending.contains(overdue) => continue,
                Err(refusal) => {
                    let text = format!(
                        "switch \"{}\": revision {} was not confirmed in time and cannot be reverted yet: {refusal}",
                        at.name(),
                        overdue.revision
                    );
                    here.shared.log(Level::Crit, &text);
                    pause_ms = (pause_ms * 2).min(MAX_PAUSE_MS);
                }
            }
        }
        let left_ms = pending.iter().map(|one| one.left_ms(now)).min();
        drop(here);
        let changed = at.pending_changed.notified();
        match left_ms {
            // Its deadline has passed, and it could not be reverted.
            Some(0) => tokio::time::sleep(Duration::from_millis(pause_ms)).await,
            Some(left_ms) => {
                let wait = Duration::from_millis(left_ms.min(LOOK_MS));
                let _ = tokio::time::timeout(wait, changed).await;
            }
            None => {
                // Removing the switch notifies too.
                changed.await;
            }
        }
    }
}
