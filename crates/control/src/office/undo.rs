//! Taking back what was done.
//!
//! Owns: finding in the history what an undo is about. Must never: decide whether it may be undone.

use super::UndoWhat;
use super::desk::Desk;
use super::room::Room;
use crate::order::Options;
use crate::receipt::Receipt;
use crate::store::Keep;
use std::rc::Rc;
use switch::{Action, Code, CommitKind, Filter, Meta, Order, Refusal, StoreFault, Undoing};

/// How many commits are read at a time.
const PAGE: usize = 64;
/// How many are looked at for the last one that still stands.
const MAX_LOOKED_AT: usize = 4096;

impl Room {
    /// See [`crate::Office::undo`].
    pub(super) async fn undo(
        self: &Rc<Room>,
        desk: &Rc<Desk>,
        what: UndoWhat,
        meta: Meta,
        options: Options,
    ) -> Result<Receipt, Refusal> {
        let nothing = |text: String| {
            Refusal::new(Code::NothingToUndo, text, "look at history, and set the key to what it shall be")
        };
        let undoing = match what {
            UndoWhat::Keys(keys) => desk.store.with(move |store| Undoing::of_keys(store, &keys)).await?,
            UndoWhat::Commit(revision) => desk
                .store
                .with(move |store| Undoing::of_commit(store, revision))
                .await?
                .ok_or_else(|| Refusal::unknown_revision(revision))?,
            UndoWhat::Last => {
                // Repeated, it would find another last one. Both are looked for at once, between two commits.
                let name = meta.idempotency.clone();
                let look = move |store: &mut dyn Keep| {
                    let named = name.map_or(Ok(None), |name| store.commit_by_idempotency(&name))?;
                    Ok((named, last_standing(store)?))
                };
                let (named, last) = desk.store.with(look).await?;
                if let Some(commit) = named
                    && commit.actor == meta.actor
                    && matches!(commit.kind, CommitKind::Undo { .. })
                {
                    return self.repeated_receipt(desk, &commit).await;
                }
                last.ok_or_else(|| {
                    nothing(format!("no commit of switch \"{}\" is left to undo", desk.name()))
                })?
            }
        };
        self.order(desk, Order { action: Action::Undo(undoing), meta }, options).await
    }
}

/// The newest commit that changed something and was not taken back; commits that take others back are none themselves.
fn last_standing(store: &mut dyn Keep) -> Result<Option<Undoing>, StoreFault> {
    let mut filter = Filter { key: None, before_revision: None, limit: PAGE };
    for _ in 0..MAX_LOOKED_AT / PAGE {
        let page = store.history(&filter)?;
        for commit in &page {
            let decides = commit.changes.iter().any(|change| change.undoes.is_none());
            if decides
                && let Some(undoing) = Undoing::of_commit(store, commit.revision)?
                && !undoing.keys().is_empty()
            {
                return Ok(Some(undoing));
            }
        }
        match page.last() {
            Some(oldest) if page.len() == PAGE => filter.before_revision = Some(oldest.revision),
            _ => return Ok(None),
        }
    }
    Ok(None)
}
