//! Undo, confirm and revert, from an operator's view.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::Arc;

use pointsman_switch::{
    Action, Change, Code, Commit, CommitKind, Filter, Key, KeyKind, Loaded, MemoryStore, Meta, Order, Plan,
    Refusal, Rules, Store, StoreFault, Undoing, commit_at, plan,
};

/// One switch with its clock.
struct TestSwitch {
    store: MemoryStore,
    rules: Rules,
    now_ms: u64,
}

fn key(text: &str) -> Key {
    Key::parse(KeyKind::Host, text.as_bytes(), 255).unwrap()
}

fn force() -> Meta {
    Meta { force: true, ..Meta::default() }
}

impl TestSwitch {
    fn new() -> TestSwitch {
        let targets: Vec<Arc<str>> = ["blue", "green", "red"].map(Arc::from).into();
        let rules = Rules {
            name: "live".into(),
            default: Arc::clone(&targets[0]),
            targets: targets.into(),
            kind: KeyKind::Host,
            max_keys: 100,
            max_key_len: 64,
            groups: Box::default(),
            run_time: Default::default(),
        };
        TestSwitch { store: MemoryStore::new(), rules, now_ms: 0 }
    }

    fn plan(&mut self, action: Action, meta: Meta) -> Result<Plan, Refusal> {
        let loaded = self.store.load()?;
        let order = Order { action, meta: Meta { actor: "anna".to_owned(), ..meta } };
        plan(&loaded.table, &self.rules, &order, &loaded.pending)
    }

    fn order(&mut self, action: Action, meta: Meta) -> Result<Commit, Refusal> {
        let plan = self.plan(action, meta)?;
        let commit = plan.commit(self.store.load()?.last_hash, self.now_ms, Vec::new());
        self.store.commit(&commit)?;
        Ok(commit)
    }

    fn set(&mut self, keys: &[(&str, &str)]) -> u64 {
        self.set_with(keys, Meta::default())
    }

    fn set_with(&mut self, keys: &[(&str, &str)], meta: Meta) -> u64 {
        let sets = keys.iter().map(|(name, route)| (key(name), route.parse().ok())).collect();
        self.order(Action::Set(sets), meta).unwrap().revision
    }

    fn undo(&mut self, revision: u64, meta: Meta) -> Result<Commit, Refusal> {
        let undoing = Undoing::of_commit(&mut self.store, revision).unwrap().unwrap();
        self.order(Action::Undo(undoing), meta)
    }

    fn undo_keys(&mut self, keys: &[&str]) -> Result<Commit, Refusal> {
        let keys: Vec<Key> = keys.iter().map(|text| key(text)).collect();
        let undoing = Undoing::of_keys(&mut self.store, &keys).unwrap();
        self.order(Action::Undo(undoing), Meta::default())
    }

    fn revert(&mut self, revision: u64) -> Result<(Commit, Vec<Key>), Refusal> {
        let undoing = Undoing::of_commit(&mut self.store, revision).unwrap().unwrap();
        let left = self.plan(Action::Revert(undoing.clone()), Meta::default())?.left_alone;
        Ok((self.order(Action::Revert(undoing), Meta::default())?, left))
    }

    /// Returns where keys lead; "-" is the default.
    fn at(&mut self, keys: &str) -> String {
        let table = self.store.load().unwrap().table;
        let route =
            |text: &str| table.get(&key(text)).map_or("-".to_owned(), |entry| entry.route.to_string());
        keys.split(' ').map(route).collect::<Vec<_>>().join(" ")
    }

    fn pending(&mut self) -> Vec<u64> {
        self.store.load().unwrap().pending.iter().map(|pending| pending.revision).collect()
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> Code {
    answer.unwrap_err().code
}

#[test]
fn repeated_undo_of_a_key_walks_back() {
    let mut switch = TestSwitch::new();
    for route in ["green", "red", "green=1 red=9"] {
        switch.set(&[("a", route)]);
        switch.set(&[("other", route)]);
    }
    for expected in ["red", "green", "-"] {
        let commit = switch.undo_keys(&["a"]).unwrap();
        assert_eq!((switch.at("a").as_str(), commit.kind), (expected, CommitKind::UndoKeys));
        assert_eq!(commit.changes.len(), 1);
    }
    assert_eq!(code(switch.undo_keys(&["a"])), Code::NothingToUndo);
    assert_eq!(switch.at("other"), "green=1 red=9");
    // What comes after the undoing is the next to be undone, and below it nothing is left.
    switch.set(&[("a", "red")]);
    switch.undo_keys(&["a"]).unwrap();
    assert_eq!(switch.at("a"), "-");
    assert_eq!(code(switch.undo_keys(&["a"])), Code::NothingToUndo);
}

#[test]
fn a_long_history_is_read_in_pages() {
    let mut switch = TestSwitch::new();
    for round in 0..150 {
        switch.set(&[("a", ["green", "red"][round % 2])]);
    }
    for left in (0..150).rev() {
        switch.undo_keys(&["a"]).unwrap();
        let expected = if left == 0 { "-" } else { ["red", "green"][left % 2] };
        assert_eq!(switch.at("a"), expected, "{left} left");
    }
    assert_eq!(code(switch.undo_keys(&["a"])), Code::NothingToUndo);
    assert_eq!(code(switch.undo(1, Meta::default())), Code::NothingToUndo);
}

#[test]
fn keys_are_undone_all_or_none() {
    let mut switch = TestSwitch::new();
    switch.set(&[("a", "green"), ("b", "green")]);
    switch.set(&[("b", "red")]);
    let commit = switch.undo_keys(&["a", "b"]).unwrap();
    assert_eq!(switch.at("a b"), "- green");
    assert_eq!(commit.changes.iter().map(|change| change.undoes).collect::<Vec<_>>(), [Some(1), Some(2)]);
    switch.set(&[("a", "red")]);
    assert_eq!(code(switch.undo_keys(&["a", "c"])), Code::NothingToUndo, "all or none");
    assert_eq!(switch.at("a b"), "red green");
}

#[test]
fn a_commit_is_undone_and_redone() {
    let mut switch = TestSwitch::new();
    switch.set(&[("a", "red")]);
    let two = switch.set(&[("a", "green"), ("b", "green")]);
    let undo = switch.undo(two, Meta::default()).unwrap();
    assert_eq!((undo.kind, switch.at("a b").as_str()), (CommitKind::Undo { of: two }, "red -"));
    assert_eq!(code(switch.undo(two, Meta::default())), Code::NothingToUndo);
    assert_eq!(code(switch.undo(two, force())), Code::NothingToUndo);
    // An undo is a commit too. Undone, it restores what it took back, which can be undone again.
    switch.undo(undo.revision, Meta::default()).unwrap();
    assert_eq!(switch.at("a b"), "green green");
    switch.undo(two, Meta::default()).unwrap();
    assert_eq!(switch.at("a b"), "red -");
    switch.undo_keys(&["a"]).unwrap();
    assert_eq!(switch.at("a"), "-");
}

#[test]
fn commits_are_undone_from_the_newest_to_the_oldest() {
    let mut switch = TestSwitch::new();
    let commits = [
        switch.set(&[("a", "green")]),
        switch.set(&[("a", "red")]),
        switch.set(&[("a", "green"), ("b", "red")]),
    ];
    assert_eq!(code(switch.undo(commits[1], Meta::default())), Code::ChangedSince);
    for (revision, expected) in commits.into_iter().rev().zip(["red -", "green -", "- -"]) {
        switch.undo(revision, Meta::default()).unwrap();
        assert_eq!(switch.at("a b"), expected);
    }
}

#[test]
fn setting_the_same_value_again_is_a_change() {
    let mut switch = TestSwitch::new();
    let first = switch.set(&[("a", "green")]);
    switch.set(&[("a", "red")]);
    switch.set(&[("a", "green")]);
    assert_eq!(code(switch.undo(first, Meta::default())), Code::ChangedSince);
}

#[test]
fn an_undo_of_an_older_commit_is_a_newer_change() {
    let mut switch = TestSwitch::new();
    switch.set(&[("a", "green")]);
    switch.set(&[("a", "red")]);
    let third = switch.undo_keys(&["a"]).unwrap().revision;
    switch.undo_keys(&["a"]).unwrap();
    assert_eq!(switch.at("a"), "-");
    // The third put back what the first had set, and the fourth took that away.
    assert_eq!(code(switch.undo(third, Meta::default())), Code::ChangedSince);
    switch.undo(4, Meta::default()).unwrap();
    switch.undo(third, Meta::default()).unwrap();
    assert_eq!(switch.at("a"), "red");
}

#[test]
fn force_undoes_over_a_newer_change_and_is_recorded() {
    let mut switch = TestSwitch::new();
    let first = switch.set(&[("a", "green"), ("b", "green")]);
    switch.set(&[("a", "red")]);
    assert_eq!(code(switch.undo(first, Meta::default())), Code::ChangedSince);
    assert_eq!(switch.at("a b"), "red green", "all or none");
    let commit = switch.undo(first, force()).unwrap();
    assert!(commit.forced);
    assert_eq!(switch.at("a b"), "- -");
    // A decision of its own: undone, the newer change is back.
    switch.undo_keys(&["a"]).unwrap();
    assert_eq!(switch.at("a b"), "red -");
}

#[test]
fn part_of_a_commit_may_be_undone_before_the_rest() {
    let mut switch = TestSwitch::new();
    let first = switch.set(&[("a", "green"), ("b", "green")]);
    switch.undo_keys(&["a"]).unwrap();
    let commit = switch.undo(first, Meta::default()).unwrap();
    assert_eq!((switch.at("a b").as_str(), commit.changes.len()), ("- -", 1));
}

#[test]
fn a_change_between_reading_and_planning_is_noticed() {
    let mut switch = TestSwitch::new();
    let first = switch.set(&[("a", "green")]);
    let commit = Undoing::of_commit(&mut switch.store, first).unwrap().unwrap();
    let keys = Undoing::of_keys(&mut switch.store, &[key("a")]).unwrap();
    switch.set(&[("a", "red")]);
    assert_eq!(code(switch.order(Action::Undo(commit), Meta::default())), Code::ChangedSince);
    assert_eq!(code(switch.order(Action::Undo(keys.clone()), Meta::default())), Code::ChangedSince);
    switch.order(Action::Undo(keys), force()).unwrap();
    switch.undo_keys(&["a"]).unwrap();
    assert_eq!(switch.at("a"), "red", "the forced one did not hide the newer change");
}

#[test]
fn an_undo_to_a_removed_target_is_refused() {
    let mut switch = TestSwitch::new();
    switch.set(&[("a", "red")]);
    switch.set(&[("a", "green")]);
    switch.rules.targets = ["blue", "green"].map(Arc::from).into();
    assert_eq!(code(switch.undo_keys(&["a"])), Code::UnknownTarget);
}

#[test]
fn a_commit_is_pending_until_it_is_confirmed() {
    let mut switch = TestSwitch::new();
    let within = |ms| Meta { confirm_within_ms: Some(ms), ..Meta::default() };
    switch.now_ms = 100;
    let first = switch.set_with(&[("a", "green")], within(50));
    assert_eq!(commit_at(&mut switch.store, first).unwrap().unwrap().confirm_by_ms, Some(150));
    assert_eq!(switch.pending(), [first]);
    switch.now_ms = 149;
    let confirm = switch.order(Action::Confirm(first), Meta::default()).unwrap();
    assert_eq!(
        (confirm.kind, confirm.changes.len(), confirm.revision),
        (CommitKind::Confirm { of: first }, 0, 2)
    );
    assert_eq!((switch.pending(), switch.at("a").as_str()), (vec![], "green"));
    assert_eq!(code(switch.order(Action::Confirm(first), Meta::default())), Code::NothingToConfirm);
    assert_eq!(code(switch.revert(first)), Code::NothingToConfirm);
    assert_eq!(code(switch.undo(confirm.revision, Meta::default())), Code::NothingToUndo);
    // Confirmed or not, it can be undone.
    switch.undo(first, Meta::default()).unwrap();
    assert_eq!(switch.at("a"), "-");

    // One that is late counts, unless it has gone back.
    let late = switch.set_with(&[("a", "red")], within(50));
    switch.now_ms = 199;
    switch.order(Action::Confirm(late), Meta::default()).unwrap();
    assert_eq!(code(switch.revert(late)), Code::NothingToConfirm);
    let too_late = switch.set_with(&[("a", "green")], within(50));
    switch.revert(too_late).unwrap();
    assert_eq!(code(switch.order(Action::Confirm(too_late), Meta::default())), Code::NothingToConfirm);
}

#[test]
fn promise_6_a_revert_that_would_lead_clients_to_failing_targets_is_known() {
    let lost = |before: &str, after: &str, failing: &[&str]| {
        let mut switch = TestSwitch::new();
        switch.set(&[("a", after)]);
        let of = switch.set_with(&[("a", before)], Meta { confirm_within_ms: Some(50), ..Meta::default() });
        let undoing = Undoing::of_commit(&mut switch.store, of).unwrap().unwrap();
        let plan = switch.plan(Action::Revert(undoing), Meta::default()).unwrap();
        plan.worsens(|target| failing.contains(&target)).is_some()
    };
    for (before, after, failing, is_worse) in [
        ("green", "red", &[][..], false),
        ("green", "red", &["red"], true),
        ("green", "red", &["green"], false),
        ("green", "red", &["green", "red"], false),
        ("green=10 red=90", "red", &["red"], true),
        ("green=10 red=90", "red", &["green"], false),
        ("green=10 red=90", "green=90 red=10", &["red"], false),
        ("green=10 red=90", "green=90 red=10", &["green"], true),
        ("green=1 red=2", "green=2 red=4 blue=0", &["green"], false),
        ("green", "red=1 blue=1", &["blue"], true),
        ("green", "red=1 blue=0", &["blue"], false),
    ] {
        assert_eq!(lost(before, after, failing), is_worse, "{before} back to {after}, failing: {failing:?}");
    }
    // Of several keys, one is enough; one without an entry follows the default.
    let mut switch = TestSwitch::new();
    let within = Meta { confirm_within_ms: Some(50), ..Meta::default() };
    let of = switch.set_with(&[("a", "green"), ("b", "red")], within);
    let undoing = Undoing::of_commit(&mut switch.store, of).unwrap().unwrap();
    let plan = switch.plan(Action::Revert(undoing), Meta::default()).unwrap();
    let shown = |targets: &[Arc<str>]| targets.iter().map(|target| target.to_string()).collect::<Vec<_>>();
    assert_eq!(shown(&plan.present_targets()), ["green", "red"]);
    assert_eq!(shown(&plan.targets), ["blue"]);
    let worse = plan.worsens(|target| target != "red");
    assert_eq!(worse.map(|key| key.as_str()), Some("b"));
}

#[test]
fn a_revert_keeps_later_changes() {
    let mut switch = TestSwitch::new();
    let within = Meta { confirm_within_ms: Some(50), ..Meta::default() };
    let first = switch.set_with(&[("a", "green"), ("b", "green"), ("c", "green")], within);
    switch.set(&[("a", "red")]);
    switch.undo_keys(&["c"]).unwrap();
    switch.now_ms = 50;
    let (commit, left_alone) = switch.revert(first).unwrap();
    assert_eq!(commit.kind, CommitKind::Revert { of: first });
    assert_eq!((left_alone, commit.moves().count()), (vec![key("a")], 1));
    assert_eq!((switch.at("a b c").as_str(), switch.pending()), ("red - -", vec![]));
    // Also when nothing is left to change: it does not wait any more.
    let second = switch.set_with(&[("a", "green")], Meta { confirm_within_ms: Some(50), ..Meta::default() });
    switch.set(&[("a", "red")]);
    let (commit, left_alone) = switch.revert(second).unwrap();
    assert_eq!((left_alone, commit.moves().count(), switch.pending()), (vec![key("a")], 0, vec![]));
}

#[test]
fn an_undone_commit_is_not_pending() {
    let mut switch = TestSwitch::new();
    let first = switch.set_with(&[("a", "green")], Meta { confirm_within_ms: Some(50), ..Meta::default() });
    switch.undo(first, Meta::default()).unwrap();
    assert_eq!(switch.pending(), []);
}

#[test]
fn a_plan_changes_nothing() {
    let mut switch = TestSwitch::new();
    switch.set(&[("a", "green"), ("b", "green")]);
    let sets = [("a", "green"), ("b", "red=0 green=1"), ("c", "red"), ("d", "")];
    let sets = sets.iter().map(|(name, route)| (key(name), route.parse().ok())).collect();
    let plan = switch.plan(Action::Set(sets), Meta::default()).unwrap();
    assert_eq!((plan.revision, plan.kind, plan.unchanged), (2, CommitKind::Set, false));
    assert_eq!(plan.changes.iter().map(|change| change.key.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(plan.targets.iter().map(|target| &**target).collect::<Vec<_>>(), ["green", "red"]);
    assert_eq!(switch.at("b c"), "green -");
    let same = switch.plan(Action::Set(vec![(key("a"), "green".parse().ok())]), Meta::default()).unwrap();
    assert!(same.unchanged && same.changes.is_empty() && same.targets.is_empty());
    let back = switch.plan(Action::Set(vec![(key("a"), None)]), Meta::default()).unwrap();
    assert_eq!(
        back.targets.iter().map(|target| &**target).collect::<Vec<_>>(),
        ["blue"],
        "the default's target"
    );
}

/// A store that counts the changes which it returns.
struct CountingStore {
    store: MemoryStore,
    read: usize,
}

impl Store for CountingStore {
    fn load(&mut self) -> Result<Loaded, StoreFault> {
        self.store.load()
    }
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreFault> {
        self.store.commit(commit)
    }
    fn since(&mut self, revision: u64) -> Result<Vec<Commit>, StoreFault> {
        self.store.since(revision)
    }
    fn history(&mut self, filter: &Filter) -> Result<Vec<Commit>, StoreFault> {
        let page = self.store.history(filter)?;
        self.read += page.iter().map(Commit::change_count).sum::<usize>();
        Ok(page)
    }
    fn changes_of(
        &mut self,
        key: &Key,
        before_revision: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Change)>, StoreFault> {
        let page = self.store.changes_of(key, before_revision, limit)?;
        self.read += page.len();
        Ok(page)
    }
    fn commit_by_idempotency(&mut self, idempotency: &str) -> Result<Option<Commit>, StoreFault> {
        self.store.commit_by_idempotency(idempotency)
    }
}

#[test]
fn promise_18_undo_reads_no_large_commit_that_it_does_not_concern() {
    let mut switch = TestSwitch::new();
    switch.rules.max_keys = 10_000;
    let small = switch.set(&[("a", "green")]);
    let names: Vec<String> = (0..1_000).map(|number| format!("n{number}")).collect();
    let mut large = 0;
    for route in ["green", "red", "blue"] {
        large = switch.set(&names.iter().map(|name| (&**name, route)).collect::<Vec<_>>());
    }
    let last = switch.set(&[("a", "red"), ("n7", "red")]);
    let mut store = CountingStore { store: switch.store, read: 0 };
    for revision in [small, last] {
        store.read = 0;
        let undoing = Undoing::of_commit(&mut store, revision).unwrap().unwrap();
        assert_eq!(undoing.keys().last().unwrap().later, (revision == small).then_some(last));
        assert!(store.read < 20, "revision {revision} has read {} changes", store.read);
    }
    // One that is large itself is read as a whole, and so is what is newer; what is older is not.
    store.read = 0;
    let undoing = Undoing::of_commit(&mut store, large).unwrap().unwrap();
    let later: Vec<u64> = undoing.keys().iter().filter_map(|undone| undone.later).collect();
    assert_eq!((undoing.keys().len(), later), (1_000, vec![last]));
    assert!(store.read < 1_010, "{} changes", store.read);
}
