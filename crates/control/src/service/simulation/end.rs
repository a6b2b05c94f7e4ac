//! The end of a simulated world: everything is well again, and what must come about in time has time to.

use super::World;
use super::clocks;
use super::disk::Disk;
use super::process;
use super::sides;
use crate::service::WindowTimes;
use sim::{Seeded, holds, tell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;
use switch::{Chain, Change, Commit, CommitKind, Key, Route, Store, Table, verify_chain};
use tokio::time::sleep;

/// How much later than its time a commit may go back in a world where nothing is wrong: the clocks are looked at once a
/// second, and the disk and the servers take their time.
const LATE_MS: u64 = 2_000;
/// For how long before a revert the servers must have been the same, so that it is known what their answers were.
const ASKED_MS: u64 = 1_500;
/// How long a process that has begun waits for the first answer.
const GRACE_MS: u64 = 30_000;

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
    if seeded.chance(30) {
        sides::set(seeded.below(2), false);
    }
    // The longest time to confirm, and the longest pause between two tries of going back.
    sleep(Duration::from_secs(12 + 31)).await;
    (0..2).for_each(|side| sides::set(side, true));
    // Workers that are stuck take over late what is published last.
    let late_s = if world.shared.stuck { 60 } else { 2 };
    sleep(WindowTimes::default().retry + Duration::from_secs(late_s)).await;
    check_processes(world);
    let mut disk = world.shared.disk.lock().unwrap();
    let loaded = disk.store.load().unwrap();
    holds!("nothing-pending-forever", loaded.pending.is_empty(), "{:?} waits forever", loaded.pending);
    check_history(
        &disk.commits,
        &loaded.table,
        Chain { revision: loaded.table.revision(), hash: loaded.last_hash },
    );
    check_settled(world, &disk);
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

/// Checks that each pending commit is confirmed in time, or reverted in time; one of them, and once. The time is real: in
/// one boot, no clock that is set changes it.
fn check_settled(world: &World, disk: &Disk) {
    let mut settled: HashMap<u64, &Commit> = HashMap::new();
    let retry_ms = WindowTimes::default().retry.as_millis() as u64;
    for ((commit, at_ms), writer) in disk.commits.iter().zip(&disk.made_ms).zip(&disk.writers) {
        let of = match commit.kind {
            CommitKind::Confirm { of } | CommitKind::Revert { of } => of,
            CommitKind::Undo { of } => {
                settled.insert(of, commit);
                continue;
            }
            _ => continue,
        };
        let place = of as usize - 1;
        let (pending, since_ms) = (&disk.commits[place], disk.made_ms[place]);
        let by_ms = pending.confirm_by_ms;
        holds!("settled-once", by_ms.is_some(), "{:?} settles what waits for nothing", commit.kind);
        let window_ms = by_ms.unwrap_or_default() - pending.time_ms;
        let earlier = settled.insert(of, commit).map(|one| &one.kind);
        holds!("settled-once", earlier.is_none(), "{:?} comes after {earlier:?}", commit.kind);
        let last_ms = disk.last_end_ms(of, *at_ms);
        let is_certain = since_ms >= clocks::boot_of_ms(*at_ms) || !world.fate.jumps;
        let first_ms = if is_certain { since_ms + window_ms } else { since_ms };
        if matches!(commit.kind, CommitKind::Confirm { .. }) {
            continue;
        }
        holds!("never-early", *at_ms >= first_ms, "{of} goes back at {at_ms}, before {first_ms}");
        let began_ms = disk.began_ms[writer];
        check_sides(commit, *at_ms, began_ms);
        let blocked_ms = sides::last_blocked_ms(*at_ms, began_ms + GRACE_MS).map(|ms| ms + retry_ms);
        let late_ms = at_ms.saturating_sub(last_ms.max(began_ms).max(blocked_ms.unwrap_or_default()));
        let in_time = !world.is_calm() || late_ms <= LATE_MS;
        holds!("goes-back-in-time", in_time, "{of} goes back {late_ms} ms late");
    }
}

/// Checks that a revert leads no client from a server that is there to one that is not, and that a process which has just
/// begun waits until some server answers.
fn check_sides(commit: &Commit, at_ms: u64, began_ms: u64) {
    let asked = (at_ms.saturating_sub(ASKED_MS), at_ms);
    for change in commit.moves() {
        let worse = sides::is_worse((change.before.as_ref(), change.after.as_ref()), asked) == Some(true);
        let revision = commit.revision;
        holds!("never-to-a-dead-side", !worse, "revision {revision} at {at_ms}: {change:?}");
    }
    let is_early = at_ms < began_ms + GRACE_MS && sides::none_from(began_ms, at_ms);
    let waits = !is_early || commit.moves().next().is_none();
    holds!("waits-for-a-first-answer", waits, "{commit:?} is made at {at_ms} by a process of {began_ms}");
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
            "{reason} was answered with {revision}, and is {found:?}"
        );
    }
}
