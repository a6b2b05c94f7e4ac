//! Stacked commits with a time to confirm, compared with a stack of decisions: what a key gets is the newest decision
//! that was neither undone nor left unconfirmed, in whatever order the times run out.

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_sim::{Scenario, Seeded, explore, holds, tell};
use switch::{
    Action, Code, Key, KeyKind, MemoryStore, Meta, Order, Plan, Refusal, Route, Rules, Store, Table, Undoing,
    plan,
};

const KEYS: [&str; 3] = ["a", "b", "c"];
const TARGETS: [&str; 4] = ["blue", "green", "red", "white"];

fn key(text: &str) -> Key {
    Key::parse(KeyKind::Text, text.as_bytes(), 64).unwrap()
}

/// What somebody has decided for a key.
#[derive(Debug)]
struct Decision {
    revision: u64,
    route: Option<String>,
    /// It was undone, or not confirmed in time.
    gone: bool,
}

struct Run {
    seeded: Seeded,
    store: MemoryStore,
    table: Table,
    rules: Rules,
    now_ms: u64,
    decisions: BTreeMap<&'static str, Vec<Decision>>,
}

impl Run {
    fn new(seeded: Seeded) -> Run {
        let targets: Vec<Arc<str>> = TARGETS.map(Arc::from).into();
        let rules = Rules {
            name: "live".into(),
            default: Arc::clone(&targets[0]),
            targets: targets.into(),
            kind: KeyKind::Text,
            max_keys: 10,
            max_key_len: 64,
            groups: Box::default(),
            run_time: Default::default(),
        };
        let decisions = KEYS.map(|text| (text, Vec::new())).into();
        let (store, table) = (MemoryStore::new(), Table::default());
        Run { seeded, store, table, rules, now_ms: 1, decisions }
    }

    fn pending(&mut self) -> Vec<switch::Pending> {
        self.store.load().unwrap().pending
    }

    fn carry_out(&mut self, action: Action, within_ms: Option<u64>) -> Result<Plan, Refusal> {
        let meta = Meta { actor: "sim".to_owned(), confirm_within_ms: within_ms, ..Meta::default() };
        let pending = self.pending();
        let plan = plan(&self.table, &self.rules, &Order { action, meta }, &pending)?;
        if !plan.unchanged {
            let previous = self.store.load().unwrap().last_hash;
            let commit = plan.commit(previous, self.now_ms, Vec::new());
            self.store.commit(&commit).unwrap();
            self.table = self.table.apply(&commit);
        }
        Ok(plan)
    }

    fn set(&mut self) {
        let start = self.seeded.below(KEYS.len());
        let count = 1 + self.seeded.below(KEYS.len());
        let sets: Vec<(&'static str, Option<Route>)> = (0..count)
            .map(|n| {
                let route =
                    self.seeded.chance(85).then(|| Route::One((*self.seeded.one_of(&TARGETS)).into()));
                (KEYS[(start + n) % KEYS.len()], route)
            })
            .collect();
        let within_ms = self.seeded.chance(60).then(|| self.seeded.within(1..=40));
        let action = Action::Set(sets.iter().map(|(text, route)| (key(text), route.clone())).collect());
        let plan = self.carry_out(action, within_ms).unwrap();
        for change in plan.changes {
            let route = change.after.map(|route| route.to_string());
            tell!("{}: {} is {route:?}, to confirm within {within_ms:?}", plan.revision, change.key);
            let decisions = self.decisions.get_mut(change.key.as_str()).unwrap();
            decisions.push(Decision { revision: plan.revision, route, gone: false });
        }
    }

    fn undo(&mut self) {
        let text = *self.seeded.one_of(&KEYS);
        let undoing = Undoing::of_keys(&mut self.store, &[key(text)]).unwrap();
        match self.carry_out(Action::Undo(undoing), None) {
            Ok(plan) => {
                tell!("{}: the last decision on {text} is undone", plan.revision);
                let last = self.decisions.get_mut(text).unwrap().iter_mut().rev().find(|one| !one.gone);
                last.unwrap().gone = true;
            }
            Err(refusal) => assert_eq!(refusal.code, Code::NothingToUndo, "{refusal}"),
        }
    }

    fn confirm(&mut self) {
        let open: Vec<u64> = self.pending().iter().map(|one| one.revision).collect();
        if open.is_empty() {
            return;
        }
        let revision = *self.seeded.one_of(&open);
        tell!("{revision} is confirmed");
        self.carry_out(Action::Confirm(revision), None).unwrap();
    }

    /// Time passes, and what was not confirmed meanwhile goes back: in any order, since two may be due at once.
    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        loop {
            let due: Vec<u64> = self
                .pending()
                .iter()
                .filter(|one| one.confirm_by_ms <= self.now_ms)
                .map(|one| one.revision)
                .collect();
            if due.is_empty() {
                return;
            }
            let revision = *self.seeded.one_of(&due);
            tell!("{revision} was not confirmed");
            let undoing = Undoing::of_commit(&mut self.store, revision).unwrap().unwrap();
            self.carry_out(Action::Revert(undoing), None).unwrap();
            for decision in self.decisions.values_mut().flatten() {
                decision.gone |= decision.revision == revision;
            }
            self.compare();
        }
    }

    fn compare(&self) {
        for (text, decisions) in &self.decisions {
            let route = self.table.get(&key(text)).map(|entry| entry.route.to_string());
            let decided = decisions.iter().rev().find(|one| !one.gone).and_then(|one| one.route.clone());
            holds!(
                "newest-decision-stays",
                route == decided,
                "{text} is {route:?}, not {decided:?}: {decisions:?}"
            );
        }
    }
}

#[test]
fn confirmations() {
    explore(&Scenario {
        name: "confirmations",
        invariants: &["newest-decision-stays"],
        usual: 300,
        kept: &[],
        run: |seeded| {
            let mut run = Run::new(seeded);
            for _ in 0..run.seeded.within(4..=20) {
                match run.seeded.below(10) {
                    0..5 => run.set(),
                    5 => run.undo(),
                    6 => run.confirm(),
                    _ => {
                        let ms = run.seeded.within(1..=30);
                        run.pass(ms);
                    }
                }
                run.compare();
            }
            run.pass(50);
            run.compare();
        },
    });
}
