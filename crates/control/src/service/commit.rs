//! Committing: gate, plan under the lock, persist, publish.
//!
//! Owns: one commit of a switch at a time, and publishing exactly what the store holds. Must never: publish a commit that is
//! not durable.

use super::clock;
use super::damage::Condition;
use super::default::DefaultCommit;
use super::progress::CommitProgress;
use super::state::ControlState;
use super::switch_state::{ConfiguredSwitch, SwitchState};
use super::trace;
use super::unchanged::Known;
use super::window;
use crate::data_plane::Watch;
use crate::event::EventKind;
use crate::gate;
use crate::options::Options;
use crate::receipt::{GateResult, Receipt};
use engine::Routing;
use engine::modules::switch::GateSpec;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use switch::{Action, Commit, Key, Order, Plan, Refusal, Shape, StoreFaultKind, Table};
use tokio::time::Instant;
use tracing::Instrument;

/// The outcome of an order under the commit lock.
pub(super) enum CommitOutcome {
    /// Committed and published.
    Committed(Rc<CommitProgress>),
    /// No change: the table is as requested.
    Unchanged,
    /// Already answered, under the same idempotency key.
    Repeated(Earlier),
    /// Meanwhile it routes to targets that the gate has not checked.
    NewTargets(Box<Plan>),
}

/// What the same order came to earlier.
pub(super) enum Earlier {
    /// This commit.
    Commit(Box<Commit>),
    /// Nothing: at this revision everything was as it wants it.
    Unchanged(u64),
}

/// A durable commit.
struct DurableCommit {
    commit: Commit,
    before: Arc<Table>,
    at: Instant,
    /// How long its answers are counted, if not as long as the switch says.
    watch_ms: Option<u64>,
}

/// Returns an order as the history is now.
async fn current<'a>(switch: &SwitchState, order: &'a Order) -> Result<Cow<'a, Order>, Refusal> {
    let (Action::Undo(undoing) | Action::Revert(undoing)) = &order.action else {
        return Ok(Cow::Borrowed(order));
    };
    let undoing = undoing.clone();
    let undoing = switch.store.with(move |store| undoing.read_again(store)).await?;
    let action = match &order.action {
        Action::Undo(_) => Action::Undo(undoing),
        _ => Action::Revert(undoing),
    };
    Ok(Cow::Owned(Order { action, meta: order.meta.clone() }))
}

impl ControlState {
    /// Checks the gate. A dry run gets its results in any case, an order only if it passes.
    pub(super) async fn gate(
        &self,
        switch: &SwitchState,
        plan: &Plan,
        order: &Order,
        options: &Options,
    ) -> Result<Vec<GateResult>, Refusal> {
        let place = switch.configured();
        let results = match &place.spec().gate {
            _ if place.is_groups() => self.probe_servers((&place, &switch.table()), plan, options.gate).await,
            Some(spec) if is_gated(switch, plan) => self.probe(&place, spec, &plan.targets, plan).await,
            _ => Vec::new(),
        };
        if options.dry_run || results.is_empty() {
            return Ok(results);
        }
        let passed = order.meta.force || results.iter().all(|result| result.passed);
        let actor = order.meta.actor.clone();
        self.shared.announce(&switch.name(), EventKind::Gate { passed, actor, results: results.clone() });
        if passed { Ok(results) } else { Err(gate::refusal(&results)) }
    }

    /// Probes targets of a plan.
    pub(super) async fn probe(
        &self,
        place: &ConfiguredSwitch,
        spec: &GateSpec,
        targets: &[Arc<str>],
        plan: &Plan,
    ) -> Vec<GateResult> {
        let marks = self.peers().await;
        let key = match &plan.changes[..] {
            [only] if only.key.shape() == Shape::Exact => Some(only.key.as_str()),
            _ => None,
        };
        let (groups, prober) = (&self.routing().groups, self.data_plane().prober());
        let asked = gate::ask((&place.config, groups), prober, spec, targets, key, &marks);
        asked.instrument(trace::gate(plan)).await
    }

    /// Makes the commit and publishes it.
    pub(super) async fn commit(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        order: &Order,
        gate: &[GateResult],
    ) -> Result<CommitOutcome, Refusal> {
        self.commit_if(switch, order, gate, &|| Ok(())).await
    }

    /// Returns the same, unless the order does not stand any more when its turn has come.
    pub(super) async fn commit_if(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        order: &Order,
        gate: &[GateResult],
        stands: &dyn Fn() -> Result<(), Refusal>,
    ) -> Result<CommitOutcome, Refusal> {
        let _order_lock = self.link(switch, order).await?;
        let _reload_lock = self.reload_lock.read().await;
        let _commit_lock = switch.commit_lock.lock().await;
        switch.ensure_configured()?;
        loop {
            stands()?;
            if let Some(earlier) = self.repeated(switch, order).await? {
                return Ok(CommitOutcome::Repeated(earlier));
            }
            // What lies beneath a change may have been taken back while the order waited for its turn.
            let order = &*current(switch, order).await?;
            let now = clock::now();
            let plan = match switch.plan(order) {
                // Another process may have committed since.
                Ok(Plan { unchanged: true, .. }) | Err(_) if self.catch_up_locked(switch).await? => continue,
                Ok(Plan { unchanged: true, .. }) => return Ok(CommitOutcome::Unchanged),
                planned => planned?,
            };
            if !is_asked(switch, &plan, gate) {
                return Ok(CommitOutcome::NewTargets(Box::new(plan)));
            }
            let notes = gate.iter().flat_map(gate::notes).collect();
            let commit = plan.commit(switch.position().hash, now, notes);
            let commit = match switch.configured().is_groups() || switch.is_in_fleet() {
                true => commit,
                false => commit.with_default(&switch.table(), &switch.rules().default),
            };
            // For the receipt's minute before, while the disk is waited for anyway.
            self.data_plane().collect(Box::new(|()| {}));
            let keep = self.keep(switch, commit, order.meta.watch_ms).instrument(trace::commit());
            if let Some(kept) = keep.await? {
                return Ok(CommitOutcome::Committed(self.publish_commit(switch, kept, gate)));
            }
            // Another process was faster: its commit is published, and the order is planned against that.
        }
    }

    /// Stores a commit, and applies what the store holds then. Returns `None` if another process has committed first.
    async fn keep(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        commit: Commit,
        watch_ms: Option<u64>,
    ) -> Result<Option<DurableCommit>, Refusal> {
        let revision = switch.table().revision();
        let in_fleet = switch.is_in_fleet();
        if in_fleet && !self.propose(switch, &commit).await? {
            self.catch_up_locked(switch).await?;
            return Ok(None);
        }
        let work = move |store: &mut dyn crate::store::StoreBackend| {
            // What the fleet has is kept as it is.
            let needs = !in_fleet && commit.form() == 2 && !store.takes_form_2();
            let commit = if needs { commit.without_optional() } else { commit };
            let kept = store.commit(&commit);
            let at = Instant::now();
            // Published next: what is known is not read again.
            let is_next = kept.is_ok() && commit.revision == revision + 1;
            let news = if is_next { Ok(vec![commit.clone()]) } else { store.since(revision) };
            Ok((commit, kept, at, news, Condition::of(store)))
        };
        let (commit, kept, at, news, condition) = switch.store.with(work).await?;
        let news = match (&kept, news) {
            (_, Ok(news)) => news,
            // It is durable: it is applied even if the store cannot be read just now.
            (Ok(()), Err(_)) => vec![commit.clone()],
            // It may be durable all the same: the store is read when it can be.
            (Err(_), Err(_)) => {
                switch.is_behind.set(true);
                Vec::new()
            }
        };
        let is_there = news.iter().any(|one| one.hash == commit.hash);
        if let Err(fault) = &kept
            && !is_there
        {
            if in_fleet {
                self.store_failed(switch, fault);
                switch.is_behind.set(true);
                return Err(Refusal::not_applied(commit.revision, fault));
            }
            if fault.kind != StoreFaultKind::Conflict || news.is_empty() {
                self.store_failed(switch, fault);
                return Err(fault.clone().into());
            }
            self.take_over(switch, &news)?;
            return Ok(None);
        }
        let before = switch.apply(&news).inspect_err(|fault| self.store_failed(switch, fault))?;
        if condition.damage.is_none() {
            *switch.fault.borrow_mut() = None;
        }
        self.report(switch, condition);
        Ok(Some(DurableCommit { commit, before, at, watch_ms }))
    }

    /// Publishes commits of other processes that are not applied yet. An order is planned against what the store holds:
    /// planned against less, it might seem to change nothing when it does.
    pub(super) async fn catch_up(self: &Rc<ControlState>, switch: &Rc<SwitchState>) -> Result<(), Refusal> {
        self.pull(switch).await?;
        self.catch_up_with_store(switch).await
    }

    /// Returns the same with what the store on this machine holds.
    pub(super) async fn catch_up_with_store(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
    ) -> Result<(), Refusal> {
        if self.catch_up_with_groups(switch).await? || switch.unseen_commits().await?.is_empty() {
            return Ok(());
        }
        let _reload_lock = self.reload_lock.read().await;
        let _commit_lock = switch.commit_lock.lock().await;
        self.catch_up_locked(switch).await.map(drop)
    }

    /// Returns the same under the commit lock. Returns true if there were such commits.
    async fn catch_up_locked(self: &Rc<ControlState>, switch: &Rc<SwitchState>) -> Result<bool, Refusal> {
        let news = switch.unseen_commits().await?;
        if news.is_empty() {
            return Ok(false);
        }
        self.take_over(switch, &news)?;
        Ok(true)
    }

    /// Publishes commits of another process.
    fn take_over(self: &Rc<ControlState>, switch: &Rc<SwitchState>, news: &[Commit]) -> Result<(), Refusal> {
        self.take_over_all(&[(switch.clone(), news.to_vec())])
    }

    /// Publishes commits of another process to several switches as one: a key leads to a group from the moment on in which
    /// that is there.
    pub(super) fn take_over_all(
        self: &Rc<ControlState>,
        news: &[(Rc<SwitchState>, Vec<Commit>)],
    ) -> Result<(), Refusal> {
        let (mut routing, mut result) = (Routing::clone(&self.routing()), Ok(()));
        let mut taken = Vec::with_capacity(news.len());
        for (switch, commits) in news {
            match switch.apply(commits).inspect_err(|fault| self.store_failed(switch, fault)) {
                Ok(before) => {
                    self.other_processes.follow(switch, before.clone(), commits);
                    self.note_unwatched(switch, before, commits);
                    routing = self.routing_with(routing, switch, commits);
                    taken.push((switch, commits));
                }
                Err(fault) => result = Err(fault.into()),
            }
        }
        self.know_groups(&routing);
        let acknowledgements = self.publish_routing(routing, None);
        let of_fleet = taken.iter().filter(|(switch, _)| switch.is_in_fleet());
        let newest =
            of_fleet.filter_map(|(switch, commits)| Some(((*switch).clone(), commits.last()?.clone())));
        self.acknowledge_taken(newest.collect(), acknowledgements);
        for (switch, commits) in taken {
            commits.iter().for_each(|commit| self.announce_commit(&switch.name(), commit));
            if let Some(last) = commits.last() {
                self.note_commit(switch, last.hash);
            }
        }
        result
    }

    /// Publishes a changed default that was stored before a configuration came into force.
    pub(super) fn publish_default(self: &Rc<ControlState>, switch: &Rc<SwitchState>, changed: DefaultCommit) {
        let DefaultCommit { commit, gate, before, .. } = changed;
        let kept = DurableCommit { commit, before, at: Instant::now(), watch_ms: None };
        self.publish_commit(switch, kept, &gate);
    }

    fn publish_commit(
        self: &Rc<ControlState>,
        switch: &Rc<SwitchState>,
        kept: DurableCommit,
        gate: &[GateResult],
    ) -> Rc<CommitProgress> {
        let DurableCommit { commit, before, at, watch_ms } = kept;
        let place = switch.configured();
        let watch_ms = watch_ms.unwrap_or(place.spec().watch_ms);
        let moved: Vec<Key> = commit.moves().map(|change| change.key.clone()).collect();
        let watch = (!moved.is_empty() || commit.moved_default().is_some()).then(|| {
            Arc::new(Watch {
                id: self.next_watch_id(),
                switch: place.number,
                before,
                after: switch.table(),
                changes: moved,
            })
        });
        if let Some(watch) = &watch {
            self.make_room(watch.changes.len());
        }
        if let Some(watch) = &watch {
            self.watch_answers_of(switch, watch);
        }
        // They were asked, and answer: no worker leaves them out now.
        self.data_plane().forgive(gate::healthy(gate));
        let acknowledgements = self.publish_table(switch, std::slice::from_ref(&commit), watch.clone());
        let horizon =
            watch.as_ref().map(|watch| self.open_horizon(switch, watch, (commit.time_ms, watch_ms)));
        self.announce_commit(&switch.name(), &commit);
        self.tell_commit(switch, &commit);
        self.end_refusals(switch, &commit);
        // The first commit makes the folder in which processes know of each other.
        self.announce_process();
        let mut receipt = Receipt::of_commit(&switch.name(), &commit).over(&switch.rules().groups);
        receipt.horizon = horizon;
        receipt.gate = gate.to_vec();
        receipt.workers_asked = self.data_plane().threads();
        self.track(switch, receipt, (at, watch_ms), watch, acknowledgements)
    }

    /// Returns what the same order came to earlier.
    pub(super) async fn repeated(
        &self,
        switch: &SwitchState,
        order: &Order,
    ) -> Result<Option<Earlier>, Refusal> {
        let Some(name) = order.meta.idempotency.clone() else { return Ok(None) };
        let asked = name.clone();
        let look = move |store: &mut dyn crate::store::StoreBackend| {
            let commit = store.commit_by_idempotency(&asked)?;
            let unchanged = if commit.is_none() { store.unchanged(&asked)? } else { None };
            Ok((commit, unchanged))
        };
        let (commit, unchanged) = switch.store.with(look).await?;
        match commit {
            Some(commit) if !order.may_have_made(&commit) => {
                Err(Refusal::idempotency_reused(&name, commit.revision))
            }
            Some(commit) => Ok(Some(Earlier::Commit(Box::new(commit)))),
            None => match switch.unchanged.borrow().get(order, unchanged.as_ref(), clock::now_ms()) {
                Some(Known::Other(revision)) => Err(Refusal::idempotency_reused_unchanged(&name, revision)),
                Some(Known::Same(revision)) => Ok(Some(Earlier::Unchanged(revision))),
                None => Ok(None),
            },
        }
    }
}

/// Returns true if these answers allow a plan's commit, as far as they are needed.
fn is_asked(switch: &SwitchState, plan: &Plan, gate: &[GateResult]) -> bool {
    if matches!(plan.kind, switch::CommitKind::Revert { .. }) {
        return window::may_go_back(switch.configured().spec(), plan, gate);
    }
    let asked = |target: &Arc<str>| gate.iter().any(|result| *result.target == **target);
    !is_gated(switch, plan) || plan.targets.iter().all(asked)
}

/// Returns true if the gate is checked: not for confirmations, and not for reverts, whose sides are asked when their
/// window ends.
fn is_gated(switch: &SwitchState, plan: &Plan) -> bool {
    let settles = matches!(plan.kind, switch::CommitKind::Confirm { .. } | switch::CommitKind::Revert { .. });
    !settles && switch.configured().spec().gate.is_some()
}
