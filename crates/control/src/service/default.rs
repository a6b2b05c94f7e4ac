//! A default that the configuration has changed: an order of the kind `default`.
//!
//! Owns: when it is one, its gate, and that it is stored as the last step before the configuration is in force. Must never:
//! commit what the configuration said when it was last read: an undo has decided otherwise since.

use super::clock;
use super::state::ControlState;
use super::switch_state::{ConfiguredSwitch, Position};
use crate::gate;
use crate::receipt::GateResult;
use crate::store::{StoreBackend, StoreThread};
use engine::Config;
use engine::host::Level;
use engine::modules::switch::SwitchSpec;
use prober::Prober;
use std::sync::Arc;
use switch::{
    Action, Commit, CommitKind, Hash, Meta, Order, Pending, Plan, Refusal, Rules, StoreFault, StoreFaultKind,
    SubjectChange, Table,
};
use upstream::GroupSets;

/// The handling, by a process that starts, of a default that the configuration has changed since a store was last used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileDefault {
    /// It is committed, and said.
    #[default]
    Counts,
    /// It is committed if its gate passes; otherwise the start fails: another process serves on.
    Gated,
    /// Nothing: a newer process reads the configuration.
    Ignored,
}

/// A commit of a changed default that is not stored yet.
pub(super) struct DefaultCommit {
    /// The number of its switch in the new configuration.
    pub(super) number: usize,
    pub(super) commit: Commit,
    pub(super) gate: Vec<GateResult>,
    /// The table before it.
    pub(super) before: Arc<Table>,
}

/// Plans a changed default. `former` is what the configuration said before, where the table does not know.
fn planned(
    rules: &Rules,
    position: &Position,
    former: Option<&Arc<str>>,
    meta: Meta,
) -> Result<Option<Plan>, Refusal> {
    if !rules.changes_default(&position.table, former.map(|former| &**former)) {
        return Ok(None);
    }
    let target = Arc::clone(&rules.default);
    // The table may have gone back there before: then the commit moves no one.
    let agrees = position.table.own_default().is_some_and(|(own, _)| *own == *target);
    let reason = if agrees {
        "the configuration agrees with the table again"
    } else {
        "the configuration was changed"
    };
    let meta = Meta { reason: Some(reason.to_owned()), ..meta };
    let action = Action::Default { former: former.unwrap_or(&target).clone(), target };
    switch::plan(&position.table, rules, &Order { action, meta }, &position.pending)
        .map(|plan| Some(plan).filter(|plan| !plan.unchanged))
}

fn meta(actor: &str, force: bool) -> Meta {
    Meta { actor: actor.to_owned(), force, ..Meta::default() }
}

/// Fails unless the default that is in force once a configuration is has a target.
pub(super) fn fits(rules: &Rules, table: &Table, former: Option<&Arc<str>>) -> Result<(), String> {
    match rules.admits_default(table) {
        Err((own, revision)) if !rules.changes_default(table, former.map(|former| &**former)) => {
            Err(format!(
                "switch \"{}\" no longer has the target \"{own}\", its default since revision {revision}; keep this target, or \
             change `default` too",
                rules.name
            ))
        }
        _ => Ok(()),
    }
}

/// Returns what is to be said of a configuration's default, if the table has another one or would get one.
pub(super) fn note(rules: &Rules, table: &Table, former: Option<&Arc<str>>) -> Option<String> {
    let (name, target) = (&rules.name, &rules.default);
    let now = table.default_target(former.unwrap_or(target));
    if rules.changes_default(table, former.map(|former| &**former)) {
        let moves = now != target;
        return moves
            .then(|| format!("switch \"{name}\": a reload changes the default from {now} to {target}"));
    }
    let (own, revision) = table.own_default()?;
    (own != &**target).then(|| {
        format!("switch \"{name}\": default: file says {target}, table says {own} since revision {revision}")
    })
}

impl DefaultCommit {
    /// Returns what its gate has said against it, if it was committed all the same.
    pub(super) fn forced_over(&self) -> Option<String> {
        let is_refused = self.gate.iter().any(|result| !result.passed);
        let text = || {
            let Refusal { text, .. } = gate::refusal(&self.gate);
            let to = self.commit.subjects.iter().find(|change| change.is_of_default());
            let to = to.and_then(|change| change.after.as_deref()).unwrap_or_default();
            format!("the default is {to} since revision {}, and {text}", self.commit.revision)
        };
        is_refused.then(text)
    }
}

impl ControlState {
    /// Asks the gate of a changed default and returns its commit, if there is one to make.
    pub(super) async fn plan_default(
        &self,
        place: &ConfiguredSwitch,
        store: &StoreThread,
        position: &Position,
        former: Option<&Arc<str>>,
    ) -> Result<Option<DefaultCommit>, String> {
        // In a fleet the default is that of each node's configuration.
        if place.spec().in_fleet {
            return Ok(None);
        }
        let rules = &place.spec().rules;
        let wrong = |text: String| format!("switch \"{}\": {text}", rules.name);
        let force = self.shared.reload_is_forced();
        let plan = planned(rules, position, former, meta("reload", force)).map_err(|it| wrong(it.text))?;
        let Some(plan) = plan else { return Ok(None) };
        let asked = store.with(|store| Ok((store.damage(), store.takes_form_2()))).await;
        let (damage, takes_form_2) = asked.map_err(|fault| wrong(fault.to_string()))?;
        if let Some(damage) = damage {
            return Err(wrong(format!("its default cannot be changed to {}: {damage}", rules.default)));
        }
        if !takes_form_2 {
            self.shared.log(Level::Warn, &wrong(old_format(rules)));
            return Ok(None);
        }
        let gate = match &place.spec().gate {
            Some(spec) if !plan.targets.is_empty() => self.probe(place, spec, &plan.targets, &plan).await,
            _ => Vec::new(),
        };
        if !force && gate.iter().any(|result| !result.passed) {
            return Err(refused(place.spec(), &gate));
        }
        let notes = gate.iter().flat_map(gate::notes).collect();
        let commit = plan.commit(position.hash, clock::now(), notes);
        Ok(Some(DefaultCommit { number: place.number, commit, gate, before: position.table.clone() }))
    }
}

fn old_format(rules: &Rules) -> String {
    format!(
        "its default is {} now, ungated and not in its history: its store has the format of an older program, which still \
         has it open",
        rules.default
    )
}

fn refused(spec: &SwitchSpec, gate: &[GateResult]) -> String {
    format!(
        "switch \"{}\": its default would be {} now, and {}; start its servers, or reload with force (pointsman reload --force)",
        spec.rules.name,
        spec.rules.default,
        gate::refusal(gate).text
    )
}

/// Commits a default that the configuration has changed while nothing ran. Returns the commit.
pub(super) fn commit_at_start(
    (place, groups): (&ConfiguredSwitch, &GroupSets),
    store: &StoreThread,
    position: &mut Position,
    policy: FileDefault,
    prober: &Prober,
) -> Result<Option<Commit>, StoreFault> {
    let rules = &place.spec().rules;
    if policy == FileDefault::Ignored || !rules.changes_default(&position.table, None) {
        return Ok(None);
    }
    if !store.with_blocking(|store| Ok(store.takes_form_2()))? {
        return Ok(None);
    }
    let failed = |text: String| StoreFault {
        kind: StoreFaultKind::Failed,
        text,
        remedy: "see the history of the switch".to_owned(),
    };
    let planned = planned(rules, position, None, meta("start", false)).map_err(|it| failed(it.text))?;
    let Some(plan) = planned else { return Ok(None) };
    let mut notes = Vec::new();
    if policy == FileDefault::Gated
        && let Some(spec) = &place.spec().gate
    {
        let gate = asked((&place.config, groups), prober, spec, &plan.targets)
            .map_err(|error| failed(error.to_string()))?;
        if gate.iter().any(|result| !result.passed) {
            return Err(failed(refused(place.spec(), &gate)));
        }
        notes = gate.iter().flat_map(gate::notes).collect();
    }
    let commit = plan.commit(position.hash, clock::now(), notes);
    let kept = commit.clone();
    store.with_blocking(move |store| store.commit(&kept))?;
    position.table = Arc::new(position.table.apply(&commit));
    position.hash = commit.hash;
    Pending::follow(&mut position.pending, &commit);
    Ok(Some(commit))
}

/// Asks the gate where no runtime is.
fn asked(
    in_force: (&Arc<Config>, &GroupSets),
    prober: &Prober,
    spec: &engine::modules::switch::GateSpec,
    targets: &[Arc<str>],
) -> std::io::Result<Vec<GateResult>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = gate::ask(in_force, prober, spec, targets, None, &[]);
    Ok(runtime.block_on(asked))
}

/// Takes a commit of a changed default back: the reload that it belonged to has failed.
pub(super) fn take_back(store: &mut dyn StoreBackend, commit: &Commit) -> Result<(), StoreFault> {
    let back = |change: &SubjectChange| SubjectChange {
        before: change.after.clone(),
        after: change.before.clone(),
        undoes: Some(commit.revision),
        ..change.clone()
    };
    let reason = Some("the reload failed".to_owned());
    let next = Commit {
        revision: commit.revision + 1,
        time_ms: clock::now_ms(),
        kind: CommitKind::Default,
        reason,
        forced: false,
        subjects: commit.subjects.iter().map(back).collect(),
        gate: Vec::new(),
        previous: commit.hash,
        hash: Hash::ZERO,
        ..commit.clone()
    };
    store.commit(&next.sealed())
}
