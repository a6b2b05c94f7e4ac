//! Carrying out an order: plan, gate, hold, commit, wait.
//!
//! Owns: the sequence of these steps, and the answers to orders that need no commit. Must never: commit by itself.
//!
//! The gate is probed before the commit lock is taken, since that may take seconds; the plan is made again under the lock,
//! where nothing can change any more.

use super::clock::now_ms;
use super::commit::CommitOutcome;
use super::spelling;
use super::state::ControlState;
use super::switch_state::SwitchState;
use super::trace;
use crate::options::{CommitRef, Options, Wait};
use crate::receipt::{Outcome, Receipt};
use std::rc::Rc;
use std::time::Duration;
use switch::{Action, Code, Commit, Key, KeyKind, Meta, Order, Refusal, Route, Shape};
use tracing::Instrument;

/// The default of an order's timeout.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

impl ControlState {
    /// See [`crate::ControlHandle::order`].
    pub(super) async fn order(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        order: Order,
        options: Options,
    ) -> Result<Receipt, Refusal> {
        let span = trace::order(switch, &order.meta);
        self.carry_out(switch, order, options).instrument(span).await
    }

    async fn carry_out(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        order: Order,
        options: Options,
    ) -> Result<Receipt, Refusal> {
        if !options.dry_run {
            self.shared.takes_orders()?;
        }
        let queue_slot = switch.enqueue()?;
        if !options.dry_run
            && let Some(commit) = self.repeated(switch, &order).await?
        {
            drop(queue_slot);
            return self.repeated_receipt(switch, &commit, &options).await;
        }
        self.catch_up(switch).await?;
        let planned = trace::plan().in_scope(|| switch.plan(&order, now_ms()));
        // The same order may have been committed since the first lookup: it is answered as a repetition, not as one that
        // changes nothing or conflicts.
        if !options.dry_run
            && planned.as_ref().map_or(true, |plan| plan.unchanged)
            && let Some(commit) = self.repeated(switch, &order).await?
        {
            drop(queue_slot);
            return self.repeated_receipt(switch, &commit, &options).await;
        }
        let mut plan = planned?;
        let timeout = options.timeout.unwrap_or(TIMEOUT);
        loop {
            if plan.unchanged {
                drop(queue_slot);
                return Ok(self.unchanged(switch, &order, &options, timeout).await);
            }
            let gate = self.gate(switch, &plan, &order, options.dry_run).await?;
            let notes = spelling::notes(self.data_plane(), &switch.name(), &switch.table(), &plan);
            if options.dry_run {
                let receipt = self.dry_run_receipt(switch, &plan, &order, gate).await;
                return Ok(Receipt { notes, ..receipt });
            }
            let made = match &options.hold {
                Some(hold) => self.hold_and_commit(switch, &order, &plan, &gate, hold, timeout).await?,
                None => self.commit(switch, &order, &gate).await?,
            };
            if let CommitOutcome::NewTargets(next) = made {
                plan = next;
                continue;
            }
            // It is not the switch that it waits for now.
            drop(queue_slot);
            return match made {
                CommitOutcome::Committed(following) => {
                    let receipt = following.wait(options.wait, timeout).await;
                    Ok(Receipt { notes, ..receipt })
                }
                CommitOutcome::Repeated(commit) => self.repeated_receipt(switch, &commit, &options).await,
                _ => Ok(self.unchanged(switch, &order, &options, timeout).await),
            };
        }
    }

    /// Carries out a script's order.
    pub(super) async fn set_from_script(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        key: &[u8],
        target: Option<&[u8]>,
        actor: String,
    ) -> Result<u64, Refusal> {
        let rules = switch.rules();
        let key =
            Key::parse(rules.kind, key, rules.max_key_len).map_err(|fault| Refusal::bad_key(key, fault))?;
        if !is_for_scripts(rules.kind, &key) {
            return Err(Refusal::new(
                Code::BadKey,
                format!(
                    "a script may not switch \"{key}\": wildcards, and hosts with other characters than letters, digits, dots and hyphens, are refused"
                ),
                "switch it by command: a script's keys often come from its clients",
            ));
        }
        let route = target.map(|text| {
            let text = String::from_utf8_lossy(text);
            Route::parse(&text).map_err(|fault| Refusal::bad_route(&text, &fault))
        });
        let action = Action::Set(vec![(key, route.transpose()?)]);
        let order = Order { action, meta: Meta { actor, ..Meta::default() } };
        let options = Options { wait: Wait::Published, ..Options::default() };
        Ok(self.order(switch, order, options).await?.revision)
    }

    /// Answers a repeated order: it waits as the first one did.
    pub(super) async fn repeated_receipt(
        &self,
        switch: &SwitchState,
        commit: &Commit,
        options: &Options,
    ) -> Result<Receipt, Refusal> {
        let (which, timeout) = (CommitRef::Revision(commit.revision), options.timeout.unwrap_or(TIMEOUT));
        let receipt = self.wait_for(switch, which, options.wait, timeout).await?;
        Ok(Receipt { outcome: Outcome::Repeated, ..receipt })
    }

    /// Answers an order that changes nothing. What is in flight on another side is waited for all the same: an earlier
    /// order may have left it there.
    async fn unchanged(
        &self,
        switch: &SwitchState,
        order: &Order,
        options: &Options,
        timeout: Duration,
    ) -> Receipt {
        let drain = match &order.action {
            Action::Set(changes) if options.wait == Wait::Drained && !options.dry_run => {
                let keys: Vec<Key> = changes.iter().map(|(key, _)| key.clone()).collect();
                Some(self.wait_until_settled(switch, &keys, timeout).await)
            }
            _ => None,
        };
        Receipt {
            drain,
            switch: switch.name().to_string(),
            revision: switch.table().revision(),
            kind: "set".to_owned(),
            actor: order.meta.actor.clone(),
            reason: order.meta.reason.clone(),
            outcome: Outcome::Unchanged,
            ..Receipt::default()
        }
    }
}

/// Returns true if a script may switch this key. Its keys often come from clients: a `Host: *` must not move all hosts, and
/// a host that is spelt like a script's own counter (with an underscore, which no host name has; RFC 1123 section 2.1) must
/// not replace it.
fn is_for_scripts(kind: KeyKind, key: &Key) -> bool {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    key.shape() == Shape::Exact && (kind != KeyKind::Host || key.as_str().bytes().all(is_host))
}
