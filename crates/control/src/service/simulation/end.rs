//! The end of a simulated world: everything is well again, and what must come about in time has time to.

use super::World;
use super::process;
use sim::{Seeded, holds, tell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;
use switch::{Chain, Change, Commit, CommitKind, Key, Route, Store, Table, verify_chain};
use tokio::time::sleep;

/// How much later than its time a commit may go back in a world where nothing is wrong: the clock on the wall is looked
/// at once a second, and the disk takes its time.
const LATE_MS: u64 = 1_500;

/// Waits until nothing can be pending any more, and looks at everything.
pub(super) async fn wait_and_see(world: &Rc<World>, seeded: &mut Seeded) {
    tell!("everything is well from now on");
    world.over.set(true);
    {
        let mut disk = world.shared.disk.lock().unwrap();
        disk.faulty = 0;
        disk.out_of_order = false;
    }
    if world.processes.borrow().is_empty() {
        process::begin(world, seeded).await;
    }
    // The longest time to confirm, and the longest pause between two tries of going back.
    sleep(Duration::from_secs(12 + 31)).await;
    let last = world.shared.disk.lock().unwrap().commits.iter().filter_map(|one| one.confirm_by_ms).max();
    while last.is_some_and(|by_ms| super::super::clock::now_ms() < by_ms + 32_000) {
        sleep(Duration::from_secs(5)).await;
    }
    check_processes(world);
    let mut disk = world.shared.disk.lock().unwrap();
    let loaded = disk.store.load().unwrap();
    holds!("nothing-pending-forever", loaded.pending.is_empty(), "{:?} waits forever", loaded.pending);
    check_history(
        &disk.commits,
        &loaded.table,
        Chain { revision: loaded.table.revision(), hash: loaded.last_hash },
    );
    check_settled(world, &disk.commits);
    check_told(world, &disk.commits);
}

/// Every process has what the disk has, and holds no request.
fn check_processes(world: &World) {
    let newest = world.shared.disk.lock().unwrap().commits.len() as u64;
    for process in &*world.processes.borrow() {
        let published = process.workers.published();
        process.workers.check_kept(&published);
        let (number, revision, lowest) =
            (process.number, published.tables[0].revision(), process.workers.lowest());
        holds!("converges", revision == newest, "process {number} publishes {revision}, {newest} is kept");
        holds!("converges", lowest == newest, "a worker of process {number} has {lowest} of {newest}");
        let held: Vec<_> = published.holds.iter().map(|hold| hold.key().to_string()).collect();
        holds!("holds-end", held.is_empty(), "process {number} still holds {held:?}");
    }
}

fn entries(table: &Table) -> HashSet<(String, String, u64)> {
    table.iter().map(|(key, entry)| (key.to_string(), entry.route.to_string(), entry.revision)).collect()
}

fn check_history(commits: &[Commit], table: &Table, end: Chain) {
    let chain = verify_chain(commits);
    holds!("chain-verifies", chain == Ok(end), "{chain:?}, and the store ends with {end:?}");
    let replayed = commits.iter().fold(Table::default(), |table, commit| table.apply(commit));
    holds!("history-is-whole", entries(&replayed) == entries(table), "{replayed:?}, not {table:?}");
    let mut names = HashSet::new();
    for commit in commits {
        if let Some(name) = &commit.idempotency {
            holds!("idempotent-once", names.insert(name), "\"{name}\" made more than one commit");
        }
        for change in &commit.changes {
            let Some(of) = change.undoes.filter(|_| change.moves()) else { continue };
            let earlier = &commits[..commit.revision as usize - 1];
            let beneath = beneath(earlier, of, &change.key);
            let restores = beneath == change.after.as_ref();
            holds!(
                "undo-restores",
                restores,
                "revision {} restores {:?}, not {beneath:?}",
                commit.revision,
                change
            );
        }
    }
}

fn change_of<'a>(commits: &'a [Commit], revision: u64, key: &Key) -> Option<&'a Change> {
    commits[revision as usize - 1].changes.iter().find(|change| change.key == *key)
}

/// Returns the route that a key gets when a change of it is taken back: what the newest change beneath it has left that
/// was not taken back itself.
fn beneath<'a>(commits: &'a [Commit], of: u64, key: &Key) -> Option<&'a Route> {
    let mut dead = HashSet::from([of]);
    let mut stands = None;
    for revision in (1..=commits.len() as u64).rev() {
        let Some(change) = change_of(commits, revision, key).filter(|_| !dead.contains(&revision)) else {
            continue;
        };
        match change.undoes {
            Some(undone) => drop(dead.insert(undone)),
            None if revision < of => {
                stands = Some(change);
                break;
            }
            None => {}
        }
    }
    stands.and_then(|change| change.after.as_ref())
}

/// Checks that each pending commit is confirmed in time, or reverted in time; one of them, and once.
fn check_settled(world: &World, commits: &[Commit]) {
    let mut settled: HashMap<u64, &Commit> = HashMap::new();
    for commit in commits {
        let of = match commit.kind {
            CommitKind::Confirm { of } | CommitKind::Revert { of } => of,
            CommitKind::Undo { of } => {
                settled.insert(of, commit);
                continue;
            }
            _ => continue,
        };
        let by_ms = commits[of as usize - 1].confirm_by_ms;
        holds!("settled-once", by_ms.is_some(), "{:?} settles what waits for nothing", commit.kind);
        let by_ms = by_ms.unwrap_or_default();
        let earlier = settled.insert(of, commit).map(|one| &one.kind);
        holds!("settled-once", earlier.is_none(), "{:?} comes after {earlier:?}", commit.kind);
        let confirms = matches!(commit.kind, CommitKind::Confirm { .. });
        if confirms {
            holds!(
                "confirm-in-time",
                commit.time_ms < by_ms,
                "{of} is confirmed at {}, not before {by_ms}",
                commit.time_ms
            );
        } else if !world.set_back.get() {
            holds!(
                "never-early",
                commit.time_ms >= by_ms,
                "{of} goes back at {}, before {by_ms}",
                commit.time_ms
            );
        }
        if !confirms && world.is_calm() {
            let late_ms = commit.time_ms - by_ms;
            holds!("goes-back-in-time", late_ms <= LATE_MS, "{of} goes back {late_ms} ms late");
        }
    }
}

/// Checks that the answers agree with the history.
fn check_told(world: &World, commits: &[Commit]) {
    let told = world.told.borrow();
    for commit in commits {
        let Some(reason) = &commit.reason else { continue };
        let refused = told.refused.contains(reason) && !told.unknown.contains(reason);
        holds!(
            "refused-changes-nothing",
            !refused,
            "{reason} was refused, and is revision {}",
            commit.revision
        );
    }
    for (reason, revision) in &told.kept {
        let found = commits.iter().find(|commit| commit.reason.as_ref() == Some(reason));
        let found = found.map(|commit| commit.revision);
        holds!(
            "acknowledged-is-durable",
            found == Some(*revision),
            "{reason} was told {revision}, and is {found:?}"
        );
    }
}
