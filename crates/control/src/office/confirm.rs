//! Commits that go back by themselves unless somebody confirms them.
//!
//! Owns: the clock of each switch. Must never: forget one; what cannot go back now is tried again until it can.

use super::desk::Desk;
use super::now_ms;
use super::opening::revert_order;
use super::room::Room;
use crate::order::Options;
use crate::receipt::Receipt;
use engine::host::Level;
use std::rc::{Rc, Weak};
use std::time::Duration;
use switch::{Action, Code, Meta, Order, Refusal, Undoing};

/// The clock on the wall may be set: it is looked at so often.
const LOOK_MS: u64 = 1_000;
/// The longest pause between two tries.
const MAX_PAUSE_MS: u64 = 30_000;

impl Room {
    /// See [`crate::Office::confirm`].
    pub(super) async fn confirm(
        self: &Rc<Room>,
        desk: &Rc<Desk>,
        revision: Option<u64>,
        meta: Meta,
    ) -> Result<Receipt, Refusal> {
        self.catch_up(desk).await?;
        let pending = desk.position().pending;
        let revision = match (revision, &pending[..]) {
            (Some(revision), _) => revision,
            (None, [only]) => only.revision,
            (None, []) => return self.confirmed_earlier(desk, &meta).await,
            (None, several) => {
                let revisions: Vec<String> = several.iter().map(|one| one.revision.to_string()).collect();
                return Err(Refusal::new(
                    Code::BadOrder,
                    format!("several revisions await confirmation: {}", revisions.join(", ")),
                    "say which one",
                ));
            }
        };
        self.order(desk, Order { action: Action::Confirm(revision), meta }, Options::default()).await
    }

    /// Nothing awaits confirmation: unless this very confirmation was heard already, there is nothing to confirm.
    async fn confirmed_earlier(self: &Rc<Room>, desk: &Rc<Desk>, meta: &Meta) -> Result<Receipt, Refusal> {
        if let Some(name) = meta.idempotency.clone()
            && let Some(commit) = desk.store.with(move |store| store.commit_by_idempotency(&name)).await?
            && commit.actor == meta.actor
            && matches!(commit.kind, switch::CommitKind::Confirm { .. })
        {
            return self.repeated_receipt(desk, &commit).await;
        }
        Err(Refusal::new(
            Code::NothingToConfirm,
            format!("no revision of switch \"{}\" awaits confirmation", desk.name()),
            "look at history: it was confirmed or taken back already, or never had a time to confirm",
        ))
    }

    /// Takes back a commit that nobody confirmed.
    async fn revert(self: &Rc<Room>, desk: &Rc<Desk>, revision: u64) -> Result<(), Refusal> {
        let undoing = desk.store.with(move |store| Undoing::of_commit(store, revision)).await?;
        let undoing = undoing.ok_or_else(|| Refusal::unknown_revision(revision))?;
        self.commit(desk, &revert_order(undoing), &[]).await.map(drop)
    }
}

/// Waits for the time of whatever is to be confirmed next.
pub(super) async fn look_after(room: Weak<Room>, desk: Weak<Desk>) {
    let mut pause_ms = LOOK_MS;
    loop {
        let (Some(here), Some(at)) = (room.upgrade(), desk.upgrade()) else { return };
        if at.retired.get() {
            return;
        }
        let now_ms = now_ms();
        let pending = at.position().pending;
        // Newest first: of two for the same key, the older one says what it was before both.
        let overdue = pending.iter().rev().find(|one| one.confirm_by_ms <= now_ms);
        if let Some(overdue) = overdue {
            match here.revert(&at, overdue.revision).await {
                Ok(()) => {
                    pause_ms = LOOK_MS;
                    continue;
                }
                // Another process with the same store was faster, or somebody has confirmed it at the last moment.
                Err(_) if !at.position().pending.contains(overdue) => continue,
                Err(refusal) => {
                    let text = format!(
                        "switch \"{}\": revision {} was not confirmed and cannot go back yet: {refusal}",
                        at.name(),
                        overdue.revision
                    );
                    here.office.log(Level::Crit, &text);
                    pause_ms = (pause_ms * 2).min(MAX_PAUSE_MS);
                }
            }
        }
        let left_ms = pending.iter().map(|one| one.confirm_by_ms.saturating_sub(now_ms)).min();
        drop(here);
        let changed = at.pending_changed.notified();
        match left_ms {
            // Its time has come, and it could not go back.
            Some(0) => tokio::time::sleep(Duration::from_millis(pause_ms)).await,
            Some(left_ms) => {
                let wait = Duration::from_millis(left_ms.min(LOOK_MS));
                let _ = tokio::time::timeout(wait, changed).await;
            }
            None => {
                // Whoever closes the desk rings too.
                changed.await;
            }
        }
    }
}
