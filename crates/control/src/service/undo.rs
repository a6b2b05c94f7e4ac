//! Undo.
//!
//! Owns: finding the changes to undo in the history. Must never: decide whether they may be undone.

use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::options::{CommitRef, Options};
use crate::receipt::Receipt;
use crate::store::StoreBackend;
use std::rc::Rc;
use switch::{Action, Code, CommitKind, Filter, Key, Meta, Order, Refusal, StoreFault, Undoing};

/// The maximum number of commits read at a time, and about how many changes they have.
const PAGE: usize = 64;
const CHANGES: usize = 20_000;
/// The maximum number of commits searched for the last one in effect.
const MAX_LOOKED_AT: usize = 4096;

/// The commit, or the keys, to undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndoWhat {
    /// The last change in effect of each of these keys.
    Keys(Vec<Key>),
    /// This commit.
    Commit(u64),
    /// The commit of the order with this idempotency key.
    Id(String),
    /// The newest commit in effect that changed something.
    Last,
}

impl ControlState {
    /// Does what [`crate::ControlHandle::undo`] says.
    pub(super) async fn undo(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        what: UndoWhat,
        meta: Meta,
        options: Options,
    ) -> Result<Receipt, Refusal> {
        if !options.dry_run {
            self.shared.takes_orders()?;
        }
        let nothing = |text: String| {
            Refusal::new(Code::NothingToUndo, text, "see history, and set the key to the route that you want")
        };
        let undoing = match what {
            UndoWhat::Keys(keys) => switch.store.with(move |store| Undoing::of_keys(store, &keys)).await?,
            UndoWhat::Id(id) => {
                let revision = self.revision_of(switch, CommitRef::Id(id)).await?;
                let read = move |store: &mut dyn StoreBackend| Undoing::of_commit(store, revision);
                switch.store.with(read).await?.ok_or_else(|| Refusal::unknown_revision(revision))?
            }
            UndoWhat::Commit(revision) => switch
                .store
                .with(move |store| Undoing::of_commit(store, revision))
                .await?
                .ok_or_else(|| Refusal::unknown_revision(revision))?,
            UndoWhat::Last => {
                // A repetition would find another last commit. Both are looked up at once, between two commits.
                let name = meta.idempotency.clone();
                let look = move |store: &mut dyn StoreBackend| {
                    let named = name.map_or(Ok(None), |name| store.commit_by_idempotency(&name))?;
                    Ok((named, last_standing(store)?))
                };
                let (named, last) = switch.store.with(look).await?;
                if let Some(commit) = named
                    && commit.actor == meta.actor
                    && matches!(commit.kind, CommitKind::Undo { .. })
                {
                    return self.repeated_receipt(switch, &commit, &options).await;
                }
                last.ok_or_else(|| {
                    nothing(format!("no commit of switch \"{}\" is left to undo", switch.name()))
                })?
            }
        };
        self.order(switch, Order { action: Action::Undo(undoing), meta }, options).await
    }
}

/// Returns the newest commit that changed something and was not undone; undoing commits do not count.
fn last_standing(store: &mut dyn StoreBackend) -> Result<Option<Undoing>, StoreFault> {
    let mut filter = Filter { limit: 1, max_changes: CHANGES, ..Default::default() };
    let mut looked_at = 0;
    while looked_at < MAX_LOOKED_AT {
        let page = store.history(&filter)?;
        looked_at += page.len();
        for commit in &page {
            let decides = commit.changes.iter().any(|change| change.undoes.is_none())
                || commit.subjects.iter().any(|change| change.is_of_server() && change.undoes.is_none())
                || commit.moved_default().is_some_and(|change| change.undoes.is_none());
            if decides
                && let Some(undoing) = Undoing::of_commit(store, commit.revision)?
                && (!undoing.keys().is_empty()
                    || undoing.default_change().is_some()
                    || !undoing.subjects().is_empty())
            {
                return Ok(Some(undoing));
            }
        }
        match page.last() {
            Some(oldest) => filter.before_revision = Some(oldest.revision),
            None => return Ok(None),
        }
        // Most often it is the newest.
        filter.limit = (filter.limit * 2).min(PAGE);
    }
    Ok(None)
}
