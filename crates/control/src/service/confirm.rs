//! Confirmations of commits that would otherwise be reverted.
//!
//! Owns: which commit is meant. Must never: look at a clock; what is pending can be confirmed until it has gone back.

use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::options::Options;
use crate::receipt::Receipt;
use std::rc::Rc;
use switch::{Action, Code, Meta, Order, Refusal};

impl ControlState {
    /// Does what [`crate::ControlHandle::confirm`] says.
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

    /// Answers where nothing is pending: unless the same confirmation was committed already, there is nothing to confirm.
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
}
