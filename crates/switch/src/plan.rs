//! Checking an order against the table and the rules: what would change, or why not.
//!
//! Owns every refusal that depends on the switch alone. Must never change anything: a plan is a dry run until its
//! commit is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashSet;

use crate::{
    Action, BootTime, Change, ClockReading, Code, Commit, CommitKind, Details, Expected, Hash, Key, Meta,
    Order, Pending, Refusal, Route, Rules, SubjectChange, Table, Undoing, UndoneKey, default, group_checks,
    group_plan, server_plan, subject_undo,
};

/// Longest actor and idempotency key, bytes.
const MAX_NAME: usize = 256;
/// Longest reason, bytes.
const MAX_REASON: usize = 4096;
/// Longest time to confirm: 30 days.
const MAX_CONFIRM_MS: u64 = 30 * 24 * 3600 * 1000;

/// The effect that an order would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The revision its commit would be.
    pub revision: u64,
    /// The kind its commit would have.
    pub kind: CommitKind,
    /// The changes. Keys that already have the route are not among them, except those that a revert leaves.
    pub changes: Vec<Change>,
    /// The changes of what is no key.
    pub subjects: Vec<SubjectChange>,
    /// The targets that would get requests by it: the gate checks these.
    pub targets: Vec<Arc<str>>,
    /// The servers that would get requests by it and get none now, with their groups: the gate checks these too.
    pub enlisted: Vec<(Arc<str>, String)>,
    /// Keys that a revert leaves unchanged, because they were changed after the commit it takes back.
    pub left_alone: Vec<Key>,
    /// There is nothing to commit: every key already has its route.
    pub unchanged: bool,
    /// The default before it.
    default: Arc<str>,
    meta: Meta,
}

/// Returns what an order would do to a table, or refuses it.
///
/// # Errors
/// `bad_order`, `revision_conflict`, `entry_conflict`, `bad_key` (too long for the rules), `unknown_target`, `too_many_keys`,
/// `nothing_to_undo`, `changed_since`, `nothing_to_confirm`.
///
/// ```
/// use pointsman_switch::{Action, Code, Hash, Key, KeyKind, Meta, Order, Route, Rules, Table, plan};
/// use std::sync::Arc;
///
/// let targets: Vec<Arc<str>> = vec!["blue".into(), "green".into()];
/// let rules = Rules {
///     name: "live".into(),
///     default: Arc::clone(&targets[0]),
///     targets: targets.into(),
///     kind: KeyKind::Host,
///     max_keys: 1000,
///     max_key_len: 255,
///     groups: Box::default(),
///     run_time: Default::default(),
/// };
/// let key = Key::parse(KeyKind::Host, b"shop.example.com", 255)?;
/// let order = |route: &str| Order {
///     action: Action::Set(vec![(key.clone(), Route::parse(route).ok())]),
///     meta: Meta { actor: "anna".into(), ..Meta::default() },
/// };
///
/// let table = Table::default();
/// let commit = plan(&table, &rules, &order("green"), &[])?.commit(Hash::ZERO, 0, Vec::new());
/// let next = table.apply(&commit);
/// assert_eq!(next.find(b"shop.example.com").unwrap().route.to_string(), "green");
///
/// let refusal = plan(&next, &rules, &order("red"), &[]).unwrap_err();
/// assert_eq!(refusal.code, Code::UnknownTarget);
/// assert_eq!(refusal.text, "switch \"live\" has no target \"red\"");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn plan(table: &Table, rules: &Rules, order: &Order, pending: &[Pending]) -> Result<Plan, Refusal> {
    check_meta(&order.meta)?;
    if let Some(expected) = order.meta.expect
        && expected != table.revision()
    {
        return Err(Refusal::revision_conflict(expected, table.revision()));
    }
    expected(table, rules, order)?;
    let (mut left_alone, mut subjects) = (Vec::new(), Vec::new());
    let (kind, changes) = match &order.action {
        Action::Set(keys) => (CommitKind::Set, set(table, rules, keys)?),
        Action::Undo(undoing) => {
            if let Some(undone) = undoing.default_change() {
                subjects = default::undo(table, rules, undone, order.meta.force)?;
            }
            subjects.extend(subject_undo::undo(table, rules, undoing, order.meta.force)?);
            undo(table, undoing, order.meta.force, !subjects.is_empty())?
        }
        Action::Default { former, target } => {
            if rules.target(target).is_none() {
                return Err(Refusal::unknown_target(rules, target));
            }
            subjects = default::set(table, former, target);
            (CommitKind::Default, Vec::new())
        }
        Action::Confirm(of) => {
            awaited(pending, *of)?;
            if order.meta.confirm_within_ms.is_some() {
                return Err(bad_order(
                    "a confirmation cannot wait to be confirmed itself",
                    "leave the time to confirm out",
                ));
            }
            (CommitKind::Confirm { of: *of }, Vec::new())
        }
        Action::Revert(undoing) => {
            subjects = subject_undo::revert(table, rules, undoing)?;
            revert(table, undoing, pending, &mut left_alone)?
        }
        Action::Servers(orders) => {
            subjects = server_plan::set(table, rules, orders, order.meta.force, pending)?;
            (CommitKind::Server, Vec::new())
        }
        Action::Group(order) => {
            subjects = group_plan::set(table, rules, order)?;
            (CommitKind::Group, Vec::new())
        }
    };
    let changes = known_targets(rules, changes)?;
    let default = Arc::clone(table.default_target(&rules.default));
    let growth = |route: &Option<Route>| usize::from(route.is_some());
    let added: usize = changes.iter().map(|change| growth(&change.after)).sum();
    let removed: usize = changes.iter().map(|change| growth(&change.before)).sum();
    let keys = (table.len() + added).saturating_sub(removed);
    if added > removed && keys > rules.max_keys {
        return Err(too_many_keys(rules, keys));
    }
    Ok(Plan {
        revision: table.revision() + 1,
        targets: served(&default, &changes, &subjects),
        enlisted: group_checks::enlisted(table, rules, &subjects),
        left_alone,
        default,
        // A confirmation or a revert settles a commit even if no key changes.
        unchanged: changes.is_empty()
            && subjects.is_empty()
            && !matches!(kind, CommitKind::Confirm { .. } | CommitKind::Revert { .. }),
        kind,
        changes,
        subjects,
        meta: order.meta.clone(),
    })
}

impl Plan {
    /// Returns the targets that its keys lead to now, each once.
    pub fn present_targets(&self) -> Vec<Arc<str>> {
        live(&self.default, self.changes.iter().filter(|change| change.moves()).map(|change| &change.before))
    }

    /// Returns the first key of which a larger share of clients would be on failing targets than are now.
    pub fn worsens(&self, fails: impl Fn(&str) -> bool) -> Option<&Key> {
        let default = Route::One(Arc::clone(&self.default));
        // The weight of the failing targets, and that of all.
        let failing = |route: &Option<Route>| match route.as_ref().unwrap_or(&default) {
            Route::One(target) => (u128::from(fails(target)), 1),
            Route::Split(split) => {
                let ill = split.shares().iter().filter(|share| fails(&share.target));
                (ill.map(|share| u128::from(share.weight)).sum(), u128::from(split.total()))
            }
        };
        let is_worse = |change: &&Change| {
            let ((ill_now, now), (ill_then, then)) = (failing(&change.before), failing(&change.after));
            ill_then * now > ill_now * then
        };
        self.changes.iter().find(is_worse).map(|change| &change.key)
    }

    /// Returns the commit that this plan becomes: after `previous` (the hash of the revision before), at `now`, with
    /// what the gate found.
    pub fn commit(&self, previous: Hash, now: impl Into<ClockReading>, gate: Vec<String>) -> Commit {
        let ClockReading { wall_ms, boot } = now.into();
        let within_ms = self.meta.confirm_within_ms;
        let commit = Commit {
            revision: self.revision,
            time_ms: wall_ms,
            kind: self.kind.clone(),
            actor: self.meta.actor.clone(),
            reason: self.meta.reason.clone(),
            idempotency: self.meta.idempotency.clone(),
            forced: self.meta.force,
            confirm_by_ms: within_ms.map(|within_ms| wall_ms.saturating_add(within_ms)),
            changes: self.changes.clone(),
            subjects: self.subjects.clone(),
            extra: Default::default(),
            gate,
            previous,
            hash: Hash::ZERO,
        };
        match (within_ms, boot) {
            (Some(within_ms), Some(BootTime { boot, ms })) => {
                commit.with_confirm_by_boot(BootTime { boot, ms: ms.saturating_add(within_ms) })
            }
            _ => commit.sealed(),
        }
    }
}

fn check_meta(meta: &Meta) -> Result<(), Refusal> {
    let texts = [
        ("actor", Some(&meta.actor), MAX_NAME),
        ("reason", meta.reason.as_ref(), MAX_REASON),
        ("idempotency key", meta.idempotency.as_ref(), MAX_NAME),
    ];
    for (what, text, max) in texts {
        let Some(text) = text else { continue };
        if text.len() > max {
            let text = format!("its {what} is {} bytes long", text.len());
            return Err(bad_order(&text, &format!("use at most {max} bytes")));
        }
        // History is shown in terminals and logs: one line each, and no escape sequences.
        if text.chars().any(char::is_control) {
            return Err(bad_order(
                &format!("its {what} contains a control character"),
                "write it as one line of text",
            ));
        }
        if text.trim().is_empty() && what != "reason" {
            return Err(bad_order(&format!("its {what} is empty"), "leave it out, or write something"));
        }
    }
    match meta.confirm_within_ms {
        Some(0) => Err(bad_order("the time to confirm it is 0", "use a time such as 10m")),
        Some(ms) if ms > MAX_CONFIRM_MS => {
            Err(bad_order("the time to confirm it is longer than 30 days", "use at most 30 days: 30d"))
        }
        _ => Ok(()),
    }
}

fn set(table: &Table, rules: &Rules, keys: &[(Key, Option<Route>)]) -> Result<Vec<Change>, Refusal> {
    if keys.is_empty() {
        return Err(bad_order("it names no key", "name at least one"));
    }
    let mut seen: HashSet<&Key, foldhash::fast::RandomState> = HashSet::default();
    let mut changes = Vec::with_capacity(keys.len());
    for (key, after) in keys {
        if !seen.insert(key) {
            return Err(bad_order(&format!("it names the key \"{key}\" twice"), "name each key once"));
        }
        // Keys are parsed with this bound; one that was parsed before a reload may exceed the new one.
        let (length, max) = (key.as_str().len(), rules.max_key_len);
        if length > max && after.is_some() {
            let fault = crate::KeyFault::TooLong { length, max };
            return Err(Refusal::bad_key(key.as_str().as_bytes(), fault));
        }
        let before = current(table, key);
        if before != after.as_ref() {
            let before = before.cloned();
            changes.push(Change { key: key.clone(), before, after: after.clone(), undoes: None });
        }
    }
    Ok(changes)
}

fn undo(
    table: &Table,
    undoing: &Undoing,
    force: bool,
    has_more: bool,
) -> Result<(CommitKind, Vec<Change>), Refusal> {
    let what = match undoing.of() {
        Some(of) => format!("revision {of}"),
        None => "the keys".to_owned(),
    };
    if let Some(key) = undoing.missing().first() {
        let keys = undoing.missing().iter().map(|key| (key.clone(), "has no change to undo".to_owned()));
        return Err(nothing_to_undo(&format!("key \"{key}\"")).with(Details::Keys(keys.collect())));
    }
    let mut newer = Vec::new();
    for undone in undoing.keys() {
        if let Some(later) = undone.later {
            newer.push((undone.key.clone(), format!("changed by revision {later}")));
        } else if stale(table, undone) {
            newer.push((undone.key.clone(), "changed in the meantime".to_owned()));
        }
    }
    if !newer.is_empty() && !force {
        return Err(changed_since(&what, newer));
    }
    let taken_back = undoing.keys().iter().map(|undone| taken_back(table, undone));
    let changes: Vec<Change> = taken_back.filter(Change::moves).collect();
    if changes.is_empty() && !has_more {
        return Err(nothing_to_undo(&what));
    }
    Ok((undoing.of().map_or(CommitKind::UndoKeys, |of| CommitKind::Undo { of }), changes))
}

fn revert(
    table: &Table,
    undoing: &Undoing,
    pending: &[Pending],
    left_alone: &mut Vec<Key>,
) -> Result<(CommitKind, Vec<Change>), Refusal> {
    let Some(of) = undoing.of() else {
        return Err(bad_order("only a whole commit can be reverted", "undo keys one by one (undo KEY)"));
    };
    awaited(pending, of)?;
    let (back, left): (Vec<&UndoneKey>, Vec<&UndoneKey>) =
        undoing.keys().iter().partition(|undone| undone.later.is_none() && !stale(table, undone));
    left_alone.extend(left.iter().map(|undone| undone.key.clone()));
    let mut changes: Vec<Change> = back.into_iter().map(|undone| taken_back(table, undone)).collect();
    // Taken back beneath the newer change too: when that one goes, an unconfirmed route must not come back.
    changes.extend(left.into_iter().map(|undone| {
        let now = current(table, &undone.key).cloned();
        Change { key: undone.key.clone(), before: now.clone(), after: now, undoes: Some(of) }
    }));
    Ok((CommitKind::Revert { of }, changes))
}

fn taken_back(table: &Table, undone: &UndoneKey) -> Change {
    Change {
        key: undone.key.clone(),
        before: current(table, &undone.key).cloned(),
        after: undone.restore.clone(),
        // Forced over a newer change, it is a new decision, which can be undone in turn.
        undoes: (undone.later.is_none() && !stale(table, undone)).then_some(undone.of),
    }
}

/// Returns true if the key's route is no longer the one that the history had when it was read.
fn stale(table: &Table, undone: &UndoneKey) -> bool {
    current(table, &undone.key) != undone.seen.as_ref()
}

/// Compares each key of the order with what it expects of it.
fn expected(table: &Table, rules: &Rules, order: &Order) -> Result<(), Refusal> {
    let Meta { expect_keys, expect_each, .. } = &order.meta;
    if expect_keys.is_empty() && expect_each.is_empty() {
        return Ok(());
    }
    let mut own_expected: BTreeMap<&Key, Vec<&Expected>> = BTreeMap::new();
    for (key, expected) in expect_each {
        own_expected.entry(key).or_default().push(expected);
    }
    let keys = order.keys();
    if keys.is_empty() {
        return Err(bad_order(
            "it expects something of its keys, and names none",
            "expect the revision of the switch instead",
        ));
    }
    let default = Route::One(Arc::clone(table.default_target(&rules.default)));
    let mut others = Vec::new();
    for key in keys {
        let own = table.get(key);
        let found = own.or_else(|| table.find(key.as_str().as_bytes()));
        let route = found.map_or(&default, |entry| &entry.route);
        let revision = own.map_or(0, |entry| entry.revision);
        let of_key = own_expected.get(key).into_iter().flatten().copied();
        let is_so = expect_keys.iter().chain(of_key).all(|expected| match expected {
            Expected::Revision(expected) => *expected == revision,
            Expected::Route(expected) => expected == route,
            Expected::NoEntry => own.is_none(),
        });
        if !is_so {
            let since = match revision {
                0 => "no entry of its own".to_owned(),
                revision => format!("revision {revision}"),
            };
            others.push((key.clone(), format!("{route}, {since}")));
        }
    }
    if others.is_empty() { Ok(()) } else { Err(entry_conflict(others)) }
}

fn current<'a>(table: &'a Table, key: &Key) -> Option<&'a Route> {
    table.get(key).map(|entry| &entry.route)
}

/// Fails unless a commit is pending. One whose time has run out is, until it has gone back: a confirmation that comes
/// before that counts.
fn awaited(pending: &[Pending], of: u64) -> Result<(), Refusal> {
    if pending.iter().any(|waiting| waiting.revision == of) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::NothingToConfirm,
        format!("revision {of} is not waiting for a confirmation"),
        "check the history: it was already confirmed or reverted, or it needs no confirmation",
    ))
}

/// Refuses targets that the switch does not have, and replaces names by the configuration's own, so that a table of
/// many keys holds each name once.
fn known_targets(rules: &Rules, mut changes: Vec<Change>) -> Result<Vec<Change>, Refusal> {
    for route in changes.iter_mut().filter_map(|change| change.after.as_mut()) {
        if let Some(unknown) = route.targets().find(|target| rules.target(target).is_none()) {
            return Err(Refusal::unknown_target(rules, unknown));
        }
        if let Route::One(target) = route
            && let Some(known) = rules.target(target)
        {
            *target = Arc::clone(known);
        }
    }
    Ok(changes)
}

/// Returns the targets that get requests after the changes, each once, in the order of the changes.
fn served(default: &Arc<str>, changes: &[Change], subjects: &[SubjectChange]) -> Vec<Arc<str>> {
    let mut targets =
        live(default, changes.iter().filter(|change| change.moves()).map(|change| &change.after));
    let defaults = subjects.iter().filter(|change| change.is_of_default() && change.before.is_some());
    let added: Vec<Arc<str>> = defaults.filter_map(|change| change.after.as_deref().map(Arc::from)).collect();
    targets.extend(added);
    targets
}

/// Returns the targets of routes that get requests, each once.
fn live<'r>(default: &Arc<str>, routes: impl Iterator<Item = &'r Option<Route>>) -> Vec<Arc<str>> {
    let mut targets: Vec<Arc<str>> = Vec::new();
    let mut add = |target: &Arc<str>| {
        if !targets.contains(target) {
            targets.push(Arc::clone(target));
        }
    };
    for route in routes {
        match route {
            Some(route) => route.live_targets().for_each(&mut add),
            None => add(default),
        }
    }
    targets
}

fn bad_order(text: &str, remedy: &str) -> Refusal {
    Refusal::new(Code::BadOrder, format!("invalid order: {text}"), remedy)
}

fn too_many_keys(rules: &Rules, keys: usize) -> Refusal {
    Refusal::new(
        Code::TooManyKeys,
        format!("switch \"{}\" would have {keys} keys; at most {} are allowed", rules.name, rules.max_keys),
        "reset keys that are no longer needed to the default, or raise `keys max=` in the configuration",
    )
}

fn entry_conflict(keys: Vec<(Key, String)>) -> Refusal {
    Refusal::new(
        Code::EntryConflict,
        format!("not as expected: {}", named(&keys)),
        "check what changed (history KEY), and repeat the order if it is still right",
    )
    .with(Details::Keys(keys))
}

/// Names the first keys, each with what is to be said of it.
fn named(keys: &[(Key, String)]) -> String {
    let named: Vec<String> = keys.iter().take(3).map(|(key, what)| format!("\"{key}\" ({what})")).collect();
    match keys.len().saturating_sub(named.len()) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn nothing_to_undo(what: &str) -> Refusal {
    Refusal::new(
        Code::NothingToUndo,
        format!("there is nothing to undo for {what}"),
        "check the history, and set the key to the target it should have",
    )
}

fn changed_since(what: &str, keys: Vec<(Key, String)>) -> Refusal {
    Refusal::new(
        Code::ChangedSince,
        format!("{what} cannot be undone alone: {}", named(&keys)),
        "undo the newer change first, undo the keys one by one, or repeat the order with force",
    )
    .with(Details::Keys(keys))
}
