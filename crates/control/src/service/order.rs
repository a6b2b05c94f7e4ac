//! Carrying out an order: plan, gate, hold, commit, wait.
//!
//! Owns: the sequence of these steps, and the answers to orders that need no commit. Must never: commit by itself.
//!
//! The gate is probed before the commit lock is taken, since that may take seconds; the plan is made again under the lock,
//! where nothing can change any more.

use super::clock;
use super::commit::{CommitOutcome, Earlier};
use super::fleet;
use super::groups;
use super::holds::ActiveHold;
use super::spelling;
use super::state::ControlState;
use super::switch_state::SwitchState;
use super::trace;
use crate::options::{CommitRef, Options, Wait};
use crate::receipt::{ChangedKey, Outcome, Receipt};
use crate::store::{StoreBackend, UnchangedOrder};
use engine::host::Level;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use switch::{
    Action, Code, Commit, CommitKind, GROUP_SUBJECT, Hold, Key, KeyKind, Meta, Order, Plan, Refusal, Route,
    Shape, SubjectChange,
};
use tracing::Instrument;
use upstream::PeerSpec;

/// The default of an order's timeout.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// The most notes about held keys.
const MAX_NOTES: usize = 5;
/// The number of keys of a repeated order whose later changes are looked for.
const MAX_SINCE: usize = 100;

impl ControlState {
    /// Does what [`crate::ControlHandle::order`] says.
    pub(super) async fn order(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        order: Order,
        options: Options,
    ) -> Result<Receipt, Refusal> {
        let span = trace::order(switch, &order.meta);
        let done = self.carry_out(switch, order, options).instrument(span).await;
        done.map_err(spelling::with_nearest_target)
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
        groups::check(switch, &order, &options)?;
        fleet::check(switch, &order, &options)?;
        let order = fleet::named(switch, order, &options);
        let queue_slot = switch.enqueue()?;
        if !options.dry_run
            && let Some(earlier) = self.repeated(switch, &order).await?
        {
            drop(queue_slot);
            return self.earlier_receipt(switch, &order, earlier, &options).await;
        }
        self.catch_up(switch).await?;
        self.look_at_uses(switch, &order).await?;
        let planned = trace::plan().in_scope(|| switch.plan(&order));
        // The same order may have been committed since the first lookup: it is answered as a repetition, not as one that
        // changes nothing or conflicts.
        if !options.dry_run
            && planned.as_ref().map_or(true, |plan| plan.unchanged)
            && let Some(earlier) = self.repeated(switch, &order).await?
        {
            drop(queue_slot);
            return self.earlier_receipt(switch, &order, earlier, &options).await;
        }
        let mut plan = planned?;
        let timeout = options.timeout.unwrap_or(TIMEOUT);
        loop {
            if plan.unchanged {
                drop(queue_slot);
                return Ok(self.unchanged(switch, &order, &options).await);
            }
            self.check_servers(switch, &plan, &order)?;
            self.check_ways_back(&switch.configured(), &plan)?;
            let gate = self.gate(switch, &plan, &order, &options).await?;
            let mut notes = spelling::notes(self.data_plane(), &switch.name(), &switch.table(), &plan);
            notes.extend(self.notes_of_holds(switch, &plan));
            notes.extend(note_of_group(switch, &plan));
            let look = self.look_at_targets(&plan.targets, &gate);
            if options.dry_run {
                notes.extend(look.awaited(self.data_plane().threads()).await);
                let receipt = self.dry_run_receipt(switch, &plan, &order, gate).await;
                return Ok(receipt.with_notes(notes));
            }
            let made = match &options.hold {
                Some(hold) => self.hold_and_commit(switch, &order, &plan, &gate, hold, timeout).await?,
                None => self.commit(switch, &order, &gate).await?,
            };
            if let CommitOutcome::NewTargets(next) = made {
                plan = *next;
                continue;
            }
            // It is not the switch that it waits for now.
            drop(queue_slot);
            return match made {
                CommitOutcome::Committed(following) => {
                    let receipt = self.waited(&following, options.wait, timeout).await;
                    let receipt = self.with_idle_servers(switch, receipt, options.wait, timeout).await;
                    // A worker that has applied the commit has said before what it knows of the targets.
                    notes.extend(look.notes());
                    notes.extend(self.notes_of_groups(&plan));
                    Ok(receipt.with_notes(notes))
                }
                CommitOutcome::Repeated(earlier) => {
                    self.earlier_receipt(switch, &order, earlier, &options).await
                }
                _ => Ok(self.unchanged(switch, &order, &options).await),
            };
        }
    }

    /// Returns a note for each key of a plan whose requests go on waiting, because somebody holds it.
    fn notes_of_holds(&self, switch: &SwitchState, plan: &Plan) -> Vec<String> {
        let (routing, number) = (self.routing(), switch.configured().number);
        let held = plan.changes.iter().filter_map(|change| routing.tables.hold(number, &change.key));
        let note = |hold: &Arc<Hold>| {
            let of = |held: &mut ActiveHold| {
                (held.is_on() && held.kept.order.is_none()).then(|| held.kept.actor.clone())
            };
            let actor = self.holds.with(hold, of).flatten()?;
            Some(format!("{} is held by {actor}: its requests wait until it is released", hold.key()))
        };
        held.filter_map(note).take(MAX_NOTES).collect()
    }

    /// Refuses to lead keys to a group that has no server for them, unless the caller insists.
    fn check_servers(&self, switch: &SwitchState, plan: &Plan, order: &Order) -> Result<(), Refusal> {
        let settles = matches!(plan.kind, CommitKind::Confirm { .. } | CommitKind::Revert { .. });
        if order.meta.force || settles || switch.configured().is_groups() {
            return Ok(());
        }
        let groups = &self.routing().groups;
        let is_empty = |target: &Arc<str>| {
            groups.get(target.as_bytes()).is_some_and(|set| !set.spec.peers.iter().any(PeerSpec::is_in_use))
        };
        match plan.targets.iter().find(|target| is_empty(target)) {
            None => Ok(()),
            Some(empty) => Err(Refusal::new(
                Code::GroupEmptied,
                format!("group \"{empty}\" has no server that takes requests"),
                format!("add one (pointsman server {empty} add ADDRESS), or repeat the order with force"),
            )),
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

    /// Answers an order that was carried out before.
    async fn earlier_receipt(
        &self,
        switch: &SwitchState,
        order: &Order,
        earlier: Earlier,
        options: &Options,
    ) -> Result<Receipt, Refusal> {
        match earlier {
            Earlier::Commit(commit) => self.repeated_receipt(switch, &commit, options).await,
            Earlier::Unchanged(revision) => {
                let keys = order.keys().into_iter().cloned().collect();
                let changed_since = changed_since(switch, keys, revision).await?;
                let receipt = self.unchanged_receipt(switch, order, revision, options).await;
                Ok(Receipt { changed_since, ..receipt })
            }
        }
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
        let keys = commit.moves().map(|change| change.key.clone()).collect();
        let changed_since = changed_since(switch, keys, commit.revision).await?;
        Ok(Receipt { outcome: Outcome::Repeated, changed_since, ..receipt })
    }

    /// Answers an order that changes nothing, and remembers it.
    async fn unchanged(&self, switch: &SwitchState, order: &Order, options: &Options) -> Receipt {
        let revision = switch.table().revision();
        let mut notes = Vec::new();
        if !options.dry_run {
            let kept = switch.unchanged.borrow_mut().put(order, revision, clock::now_ms());
            notes.extend(self.save_unchanged(switch, kept).await);
        }
        Receipt { notes, ..self.unchanged_receipt(switch, order, revision, options).await }
    }

    /// Has the store remember an order that changed nothing. It is answered all the same if that fails; returns a note then.
    async fn save_unchanged(
        &self,
        switch: &SwitchState,
        kept: Option<(String, UnchangedOrder)>,
    ) -> Option<String> {
        let (name, kept) = kept?;
        let fault = switch.store.with(move |store| store.save_unchanged(&name, &kept)).await.err()?;
        self.shared.log(
            Level::Warn,
            &format!(
                "switch \"{}\": an order that changed nothing cannot be remembered: {fault}",
                switch.name()
            ),
        );
        Some(format!("its idempotency key is remembered only until this process ends: {}", fault.text))
    }

    /// Returns the receipt of an order that changed nothing. What is in flight on another side is waited for all the same:
    /// an earlier order may have left it there.
    async fn unchanged_receipt(
        &self,
        switch: &SwitchState,
        order: &Order,
        revision: u64,
        options: &Options,
    ) -> Receipt {
        let drain = match &order.action {
            Action::Set(changes) if options.wait == Wait::Drained && !options.dry_run => {
                let keys: Vec<Key> = changes.iter().map(|(key, _)| key.clone()).collect();
                let timeout = options.timeout.unwrap_or(TIMEOUT);
                Some(self.wait_until_settled(switch, &keys, timeout).await)
            }
            _ => None,
        };
        Receipt {
            drain,
            switch: switch.name().to_string(),
            revision,
            kind: if switch.configured().is_groups() { "server" } else { "set" }.to_owned(),
            actor: order.meta.actor.clone(),
            reason: order.meta.reason.clone(),
            outcome: Outcome::Unchanged,
            ..Receipt::default()
        }
    }
}

/// Returns a note about a new group that no key can be led to.
fn note_of_group(switch: &SwitchState, plan: &Plan) -> Option<String> {
    let is_new = |change: &SubjectChange| change.subject == GROUP_SUBJECT && change.before.is_none();
    let is_unused = switch.rules().run_time.users.is_empty() && plan.subjects.iter().any(is_new);
    is_unused.then(|| {
        "no switch admits groups made at run time, so that no key can be led there: write targets … dynamic; in one".to_owned()
    })
}

/// Returns those of the first keys that were changed after a revision, each with the newest commit that did it.
async fn changed_since(
    switch: &SwitchState,
    mut keys: Vec<Key>,
    revision: u64,
) -> Result<Vec<ChangedKey>, Refusal> {
    if switch.table().revision() == revision {
        return Ok(Vec::new());
    }
    keys.truncate(MAX_SINCE);
    let look = move |store: &mut dyn StoreBackend| {
        let mut found = Vec::new();
        for key in keys {
            let newest = store.changes_of(&key, None, 1)?.into_iter().find(|(newest, _)| *newest > revision);
            found.extend(newest.map(|(revision, _)| ChangedKey { key: key.to_string(), revision }));
        }
        Ok(found)
    };
    Ok(switch.store.with(look).await?)
}

/// Returns true if a script may switch this key. Its keys often come from clients: a `Host: *` must not move all hosts, and
/// a host that is spelt like a script's own counter (with an underscore, which no host name has; RFC 1123 section 2.1) must
/// not replace it.
fn is_for_scripts(kind: KeyKind, key: &Key) -> bool {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    key.shape() == Shape::Exact && (kind != KeyKind::Host || key.as_str().bytes().all(is_host))
}
