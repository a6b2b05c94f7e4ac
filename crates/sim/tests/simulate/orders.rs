//! Orders to one switch, planned, committed by two writers and applied, compared with a naive model, which keeps every
//! change in lists and computes everything anew. Sometimes the process restarts with the contents of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pointsman_sim::{Scenario, Seeded, explore, holds, tell, violated};
use switch::{
    Action, Code, Commit, CommitKind, Key, KeyKind, MemoryStore, Meta, Order, Pending, Plan, Refusal, Route,
    Rules, Store, StoreFaultKind, Table, Undoing, normalise, plan, verify_chain,
};

const KEYS: [&str; 10] = ["a.x.y", "b.x.y", "a.b.x.y", "x.y", "*.x.y", "*.b.x.y", "*.y", "a.*", "a.x.*", "*"];
const ROUTES: [&str; 7] = ["blue", "green", "red", "green=10 blue=90", "green=20 blue=80", "red=1", "grey"];
const MAX_KEYS: usize = 7;

fn key(text: &str) -> Key {
    Key::parse(KeyKind::Host, text.as_bytes(), 64).unwrap()
}

fn rules() -> Rules {
    let targets: Vec<Arc<str>> = ["blue", "green", "red"].map(Arc::from).into();
    Rules {
        name: "live".into(),
        default: Arc::clone(&targets[0]),
        targets: targets.into(),
        kind: KeyKind::Host,
        max_keys: MAX_KEYS,
        max_key_len: 64,
        groups: Box::default(),
        run_time: Default::default(),
    }
}

type State = BTreeMap<String, String>;
/// One change in the model: key, before, after, the revision it takes back.
type Changed = (String, Option<String>, Option<String>, Option<u64>);

/// The expected result of an order.
type Verdict = Result<Vec<Changed>, Code>;

/// The complete history.
#[derive(Default)]
struct Model {
    /// Index n is revision n + 1.
    commits: Vec<Vec<Changed>>,
    state: State,
    pending: BTreeMap<u64, u64>,
}

impl Model {
    fn change(&self, revision: u64, key: &str) -> Option<&Changed> {
        self.commits[revision as usize - 1].iter().find(|change| change.0 == key)
    }

    fn newest(&self) -> u64 {
        self.commits.len() as u64
    }

    /// Returns true if a change is in effect: no newer one in effect takes it back.
    fn is_in_effect(&self, revision: u64, key: &str) -> bool {
        self.is_in_effect_without(None, revision, key)
    }

    /// Returns the same, as if this other change were not.
    fn is_in_effect_without(&self, gone: Option<u64>, revision: u64, key: &str) -> bool {
        !(revision + 1..=self.newest()).any(|newer| {
            Some(newer) != gone
                && self.change(newer, key).is_some_and(|change| change.3 == Some(revision))
                && self.is_in_effect_without(gone, newer, key)
        })
    }

    /// Returns true if a change in effect has changed the key since, other than by restoring the result of this revision.
    fn changed_since(&self, revision: u64, key: &str) -> bool {
        (revision + 1..=self.newest()).any(|newer| {
            self.change(newer, key)
                .is_some_and(|change| change.1 != change.2 && change.3.is_none_or(|of| of < revision))
                && self.is_in_effect(newer, key)
        })
    }

    /// Returns the expected route of a key when the change of `revision` is taken back: what the newest plain change in
    /// effect beneath it has left. If none was left out since, that is what was there before.
    fn beneath(&self, revision: u64, key: &str) -> Option<String> {
        let is_left = |newer: u64| {
            self.change(newer, key).is_some_and(|change| change.1 == change.2)
                && self.is_in_effect(newer, key)
        };
        if !(revision + 1..=self.newest()).any(is_left) {
            return self.change(revision, key).unwrap().1.clone();
        }
        let is_under = |r: &u64| {
            self.change(*r, key).is_some_and(|change| change.3.is_none())
                && self.is_in_effect_without(Some(revision), *r, key)
        };
        (1..revision).rev().find(is_under).and_then(|r| self.change(r, key).unwrap().2.clone())
    }

    /// Returns the expected route of a key: that of the newest plain change in effect.
    fn worked_out(&self, key: &str) -> Option<String> {
        self.last_plain(key).and_then(|revision| self.change(revision, key).unwrap().2.clone())
    }

    fn last_plain(&self, key: &str) -> Option<u64> {
        (1..=self.newest()).rev().find(|&r| {
            self.change(r, key).is_some_and(|change| change.3.is_none()) && self.is_in_effect(r, key)
        })
    }

    fn effective(&self, wanted: Vec<(String, Option<String>, Option<u64>)>) -> Vec<Changed> {
        wanted
            .into_iter()
            .map(|(key, after, undoes)| (key.clone(), self.state.get(&key).cloned(), after, undoes))
            .filter(|(_, before, after, _)| before != after)
            .collect()
    }

    fn checked(&self, changes: Vec<Changed>) -> Verdict {
        if changes.iter().any(|change| change.2.as_deref() == Some("grey")) {
            return Err(Code::UnknownTarget);
        }
        let after = self.after(&changes);
        if after.len() > self.state.len() && after.len() > MAX_KEYS {
            return Err(Code::TooManyKeys);
        }
        Ok(changes)
    }

    fn after(&self, changes: &[Changed]) -> State {
        let mut state = self.state.clone();
        for (key, _, after, _) in changes {
            match after {
                Some(route) => state.insert(key.clone(), route.clone()),
                None => state.remove(key),
            };
        }
        state
    }

    fn set(&self, sets: &[(String, Option<String>)]) -> Verdict {
        let distinct: BTreeSet<&String> = sets.iter().map(|(key, _)| key).collect();
        if sets.is_empty() || distinct.len() < sets.len() {
            return Err(Code::BadOrder);
        }
        self.checked(self.effective(sets.iter().map(|(k, r)| (k.clone(), r.clone(), None)).collect()))
    }

    fn undo(&self, of: u64, force: bool) -> Verdict {
        let in_effect =
            self.commits[of as usize - 1].iter().filter(|change| self.is_in_effect(of, &change.0));
        let in_effect: Vec<&Changed> = in_effect.collect();
        let newer = |change: &&Changed| self.changed_since(of, &change.0);
        if !force && in_effect.iter().any(newer) {
            return Err(Code::ChangedSince);
        }
        let undone = |change: &&Changed| {
            (
                change.0.clone(),
                self.beneath(of, &change.0),
                (!self.changed_since(of, &change.0)).then_some(of),
            )
        };
        let changes = self.effective(in_effect.iter().map(undone).collect());
        if changes.is_empty() {
            return Err(Code::NothingToUndo);
        }
        self.checked(changes)
    }

    fn undo_keys(&self, keys: &[String]) -> Verdict {
        let mut wanted = Vec::new();
        for key in keys {
            let of = self.last_plain(key).ok_or(Code::NothingToUndo)?;
            wanted.push((key.clone(), self.beneath(of, key), Some(of)));
        }
        let changes = self.effective(wanted);
        if changes.is_empty() { Err(Code::NothingToUndo) } else { self.checked(changes) }
    }

    fn confirm(&self, of: u64) -> Verdict {
        if self.pending.contains_key(&of) { Ok(Vec::new()) } else { Err(Code::NothingToConfirm) }
    }

    fn revert(&self, of: u64) -> Verdict {
        if !self.pending.contains_key(&of) {
            return Err(Code::NothingToConfirm);
        }
        let (left, back): (Vec<_>, Vec<_>) = self.commits[of as usize - 1]
            .iter()
            .filter(|change| self.is_in_effect(of, &change.0))
            .partition(|change| self.changed_since(of, &change.0));
        let now = |key: &String| self.state.get(key).cloned();
        let back = back.iter().map(|one| (one.0.clone(), now(&one.0), self.beneath(of, &one.0), Some(of)));
        let left = left.iter().map(|one| (one.0.clone(), now(&one.0), now(&one.0), Some(of)));
        self.checked(back.chain(left).collect())
    }

    /// Returns nginx's precedence, key by key: the exact one, then the longest wildcard of each kind.
    fn serves(&self, host: &str) -> Option<&String> {
        let longest = |fits: &dyn Fn(&str) -> bool| {
            self.state
                .iter()
                .filter(|(key, _)| fits(key))
                .max_by_key(|(key, _)| key.len())
                .map(|(_, route)| route)
        };
        let inside = |rest: Option<&str>| rest.is_some_and(|rest| !rest.is_empty());
        self.state
            .get(host)
            .or_else(|| longest(&|key| key.starts_with("*.") && inside(host.strip_suffix(&key[1..]))))
            .or_else(|| {
                longest(&|key| key.ends_with(".*") && inside(host.strip_prefix(&key[..key.len() - 1])))
            })
            .or_else(|| self.state.get("*"))
    }
}

/// One run.
struct Run {
    seeded: Seeded,
    store: MemoryStore,
    /// The table of a worker: only changed by `apply`.
    table: Table,
    model: Model,
    now_ms: u64,
}

impl Run {
    fn new(seeded: Seeded) -> Run {
        Run { seeded, store: MemoryStore::new(), table: Table::default(), model: Model::default(), now_ms: 1 }
    }

    fn keys(&mut self, at_most: usize) -> Vec<String> {
        let count = 1 + self.seeded.below(at_most);
        let start = self.seeded.below(KEYS.len());
        (0..count).map(|n| KEYS[(start + n * 3) % KEYS.len()].to_owned()).collect()
    }

    fn revision(&mut self) -> Option<u64> {
        // Mostly one of the last ones, where faults are likely.
        let back = if self.seeded.chance(80) { self.seeded.below(6) } else { self.seeded.below(60) } as u64;
        self.model.newest().checked_sub(back).filter(|&revision| revision > 0)
    }

    /// Returns an order and its expected result.
    fn draw(&mut self, meta: &mut Meta) -> Option<(Action, Verdict)> {
        Some(match self.seeded.below(100) {
            0..50 => {
                let mut sets = Vec::new();
                for key in self.keys(4) {
                    // Sometimes a target that does not exist.
                    let routes = if self.seeded.chance(95) { ROUTES.len() - 1 } else { ROUTES.len() };
                    let route = self.seeded.chance(65).then(|| ROUTES[self.seeded.below(routes)].to_owned());
                    sets.push((key, route));
                }
                if self.seeded.chance(2) {
                    sets.push(sets[0].clone());
                }
                let routes = sets.iter().map(|(k, r)| (key(k), r.as_ref().map(|r| Route::parse(r).unwrap())));
                // A split with one target is that target.
                let shown = |route: &Option<String>| {
                    route.as_ref().map(|route| Route::parse(route).unwrap().to_string())
                };
                let action = Action::Set(routes.collect());
                let sets: Vec<_> = sets.iter().map(|(k, r)| (k.clone(), shown(r))).collect();
                (action, self.model.set(&sets))
            }
            50..70 => {
                let keys = self.keys(2);
                let parsed: Vec<Key> = keys.iter().map(|text| key(text)).collect();
                let undoing = Undoing::of_keys(&mut self.store, &parsed).unwrap();
                (Action::Undo(undoing), self.model.undo_keys(&keys))
            }
            70..85 => {
                let of = self.revision()?;
                let undoing = Undoing::of_commit(&mut self.store, of).unwrap().unwrap();
                (Action::Undo(undoing), self.model.undo(of, meta.force))
            }
            85..93 => {
                let of = self.revision()?;
                meta.confirm_within_ms = None;
                (Action::Confirm(of), self.model.confirm(of))
            }
            _ => {
                let of = self.revision()?;
                meta.confirm_within_ms = None;
                let undoing = Undoing::of_commit(&mut self.store, of).unwrap().unwrap();
                (Action::Revert(undoing), self.model.revert(of))
            }
        })
    }

    fn step(&mut self) {
        self.now_ms += self.seeded.below(20) as u64;
        let newest = self.model.newest();
        let mut meta = Meta { actor: "sim".to_owned(), force: self.seeded.chance(20), ..Meta::default() };
        meta.confirm_within_ms = self.seeded.chance(15).then(|| 1 + self.seeded.below(60) as u64);
        let Some((action, mut verdict)) = self.draw(&mut meta) else { return };
        if self.seeded.chance(10) {
            meta.expect = Some(newest.saturating_sub(self.seeded.below(2) as u64));
            if meta.expect != Some(newest) {
                verdict = Err(Code::RevisionConflict);
            }
        }
        let order = Order { action, meta };
        let pending: Vec<Pending> = self.store.load().unwrap().pending;
        let answer = plan(&self.table, &rules(), &order, &pending);
        match (answer, verdict) {
            (Err(Refusal { code, .. }), Err(expected)) => {
                tell!("revision {newest}: {} is refused: {code:?}", what(&order));
                holds!("refusal-agrees", code == expected, "{code:?}, not {expected:?}, to {order:?}");
            }
            (Ok(plan), Ok(changes)) => {
                tell!("revision {newest}: {} gives {:?}", what(&order), shown(&plan));
                if matches!(
                    plan.kind,
                    CommitKind::Undo { .. } | CommitKind::UndoKeys | CommitKind::Revert { .. }
                ) {
                    holds!("undo-restores", shown(&plan) == changes, "{:?}, not {changes:?}", shown(&plan));
                } else {
                    holds!("plan-agrees", shown(&plan) == changes, "{:?}, not {changes:?}", shown(&plan));
                }
                holds!("revision-rises", plan.revision == newest + 1, "{} after {newest}", plan.revision);
                if plan.unchanged {
                    holds!("plan-agrees", changes.is_empty(), "nothing is to do, and {changes:?} is");
                } else {
                    self.keep(&plan, changes);
                }
            }
            (answer, verdict) => violated(
                "refusal-agrees",
                format!("{order:?} was answered {answer:?} and should be {verdict:?}"),
            ),
        }
        if self.seeded.chance(3) {
            tell!("it begins again");
            self.table = self.store.load().unwrap().table;
            self.compare();
        }
    }

    fn keep(&mut self, plan: &Plan, changes: Vec<Changed>) {
        let previous = self.store.load().unwrap().last_hash;
        let commit = plan.commit(previous, self.now_ms, Vec::new());
        // Two writers with the same revision: the second one loses.
        let mut rival = Commit { actor: "rival".to_owned(), ..commit.clone() };
        rival.hash = rival.computed_hash();
        let (first, second) = if self.seeded.chance(50) { (&commit, &rival) } else { (&rival, &commit) };
        self.store.commit(first).unwrap();
        let late = self.store.commit(second).map_err(|fault| fault.kind);
        holds!("one-wins", late == Err(StoreFaultKind::Conflict), "the second writer gets {late:?}");

        for commit in self.store.since(self.table.revision()).unwrap() {
            self.table = self.table.apply(&commit);
        }
        self.model.state = self.model.after(&changes);
        self.model.commits.push(changes);
        if let Some(of) = plan.kind.settles() {
            self.model.pending.remove(&of);
        }
        if let Some(by) = commit.confirm_by_ms {
            self.model.pending.insert(commit.revision, by);
        }
        self.compare();
    }

    fn compare(&self) {
        let table: State = self.table.iter().map(|(k, e)| (k.to_string(), e.route.to_string())).collect();
        holds!("table-agrees", table == self.model.state, "{table:?}, not {:?}", self.model.state);
        let place = (self.table.revision(), self.table.len());
        let expected = (self.model.newest(), self.model.state.len());
        holds!("table-agrees", place == expected, "{place:?}, not {expected:?}");
        for text in KEYS {
            let (is, worked_out) = (self.model.state.get(text), self.model.worked_out(text));
            holds!("undo-restores", is == worked_out.as_ref(), "{text} is {is:?}, not {worked_out:?}");
        }
        let mut room = Vec::new();
        for host in
            ["a.x.y", "A.B.X.Y:80", "c.b.x.y.", "x.y", "y", "a.q", "a.x.q", "a", "", "q.a.x.y", "b.x.y"]
        {
            let normalised = normalise(KeyKind::Host, host.as_bytes(), &mut room);
            let served = self.table.find(normalised).map(|entry| entry.route.to_string());
            let text = std::str::from_utf8(normalised).unwrap();
            let expected = self.model.serves(text);
            holds!("finds-best", served.as_ref() == expected, "{host} goes to {served:?}, not {expected:?}");
        }
    }

    /// The history alone gives the same table.
    fn finish(&mut self) {
        let history = self.store.since(0).unwrap();
        let (len, newest) = (history.len() as u64, self.model.newest());
        holds!("history-is-whole", len == newest, "{len} commits of {newest}");
        let chain = verify_chain(&history);
        let last = self.store.load().unwrap().last_hash;
        holds!(
            "chain-verifies",
            chain.is_ok_and(|chain| chain.hash == last),
            "{chain:?}, and the last is {last}"
        );
        let replayed = history.iter().fold(Table::default(), |table, commit| table.apply(commit));
        let entries = |table: &Table| {
            table.iter().map(|(k, e)| (k.clone(), e.revision, e.route.to_string())).collect::<BTreeSet<_>>()
        };
        let loaded = self.store.load().unwrap();
        let same =
            entries(&replayed) == entries(&self.table) && entries(&loaded.table) == entries(&self.table);
        holds!(
            "history-is-whole",
            same,
            "replayed {replayed:?}, loaded {:?}, served {:?}",
            loaded.table,
            self.table
        );
        let pending: BTreeMap<u64, u64> =
            loaded.pending.iter().map(|p| (p.revision, p.confirm_by_ms)).collect();
        holds!("pending-agrees", pending == self.model.pending, "{pending:?}, not {:?}", self.model.pending);
    }

    /// A commit that is changed afterwards is noticed.
    fn forge(&mut self) {
        let mut history = self.store.since(0).unwrap();
        if history.is_empty() {
            return;
        }
        let place = self.seeded.below(history.len());
        let commit = &mut history[place];
        match self.seeded.below(6) {
            0 => commit.actor.push('x'),
            1 => commit.time_ms += 1,
            2 => commit.forced = !commit.forced,
            3 => commit.confirm_by_ms = commit.confirm_by_ms.map_or(Some(1), |by_ms| by_ms.checked_sub(1)),
            4 => commit.gate.push(String::new()),
            _ if commit.changes.is_empty() => commit.reason = Some("because".to_owned()),
            _ => commit.changes[0].undoes = commit.changes[0].undoes.map_or(Some(1), |_| None),
        }
        let chain = verify_chain(&history);
        holds!("chain-verifies", chain.is_err(), "commit {} was forged unnoticed", place + 1);
    }
}

/// Returns an order as text.
fn what(order: &Order) -> String {
    match &order.action {
        Action::Set(sets) => format!("a set of {} keys", sets.len()),
        Action::Undo(undoing) => format!("an undo of {:?}", undoing.of()),
        Action::Confirm(of) => format!("a confirmation of {of}"),
        Action::Servers(orders) => format!("orders on {} servers", orders.len()),
        Action::Group(order) => format!("an order on group {}", order.group),
        Action::Revert(undoing) => format!("a revert of {:?}", undoing.of()),
        Action::Default { target, .. } => format!("the default {target}"),
    }
}

fn shown(plan: &Plan) -> Vec<Changed> {
    let text = |route: &Option<Route>| route.as_ref().map(Route::to_string);
    plan.changes
        .iter()
        .map(|change| (change.key.to_string(), text(&change.before), text(&change.after), change.undoes))
        .collect()
}

#[test]
fn orders() {
    explore(&Scenario {
        name: "orders",
        invariants: &[
            "plan-agrees",
            "refusal-agrees",
            "table-agrees",
            "finds-best",
            "undo-restores",
            "revision-rises",
            "one-wins",
            "history-is-whole",
            "chain-verifies",
            "pending-agrees",
        ],
        usual: 150,
        kept: &[],
        run: |seeded| {
            let mut run = Run::new(seeded);
            for _ in 0..run.seeded.within(4..=24) {
                run.step();
            }
            run.finish();
            run.forge();
        },
    });
}

#[test]
fn of_two_that_expect_the_same_revision_exactly_one_wins() {
    let mut seeded = Seeded::new(42);
    let mut store = MemoryStore::new();
    let mut table = Table::default();
    for round in 0..10_000 {
        let loaded = store.load().unwrap();
        let mut wins = 0;
        let mut attempts = Vec::new();
        for writer in ["anna", "ben"] {
            let route = format!("green={} blue={}", round + 1, writer.len());
            let meta = Meta { actor: writer.to_owned(), expect: Some(table.revision()), ..Meta::default() };
            let sets = vec![(key("a"), Some(Route::parse(&route).unwrap()))];
            attempts.push(Order { action: Action::Set(sets), meta });
        }
        if seeded.chance(50) {
            attempts.reverse();
        }
        // In half of the rounds both have planned before either commits; in the others the second plans too late.
        let both_early = seeded.chance(50);
        let plans: Vec<_> = attempts.iter().map(|order| plan(&table, &rules(), order, &[])).collect();
        for (order, early) in attempts.iter().zip(plans) {
            let planned = if both_early { early } else { plan(&table, &rules(), order, &[]) };
            match planned {
                Ok(plan) if plan.unchanged => panic!("each of them wants another target: {plan:?}"),
                Ok(plan) => match store.commit(&plan.commit(loaded.last_hash, 0, Vec::new())) {
                    Ok(()) => {
                        wins += 1;
                        for commit in store.since(table.revision()).unwrap() {
                            table = table.apply(&commit);
                        }
                    }
                    Err(fault) => assert_eq!(fault.kind, StoreFaultKind::Conflict),
                },
                Err(refusal) => assert_eq!(refusal.code, Code::RevisionConflict),
            }
        }
        assert_eq!(wins, 1, "round {round}");
        assert_eq!(table.revision(), round as u64 + 1);
    }
}
