//! A process that commits all the time is killed at any instant: nothing that it acknowledged is lost, nothing is there by
//! halves, and the file opens.
//!
//! `POINTSMAN_KILLS` says how often (40 if it is not set), `POINTSMAN_KILL_SEED` repeats the instants of a run.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use pointsman_control::store::FileStore;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use switch::{Action, Chain, Key, KeyKind, Meta, Order, Pending, Route, Rules, Store};

/// The keys of every commit: all of them lead to the same target, or a commit is there by halves.
const KEYS: [&str; 5] = ["a.example", "*.b.example", "c.example", "d.*", "e.example"];

fn rules() -> Rules {
    let targets: Vec<Arc<str>> = ["blue", "green"].map(Arc::from).to_vec();
    Rules {
        name: "live".into(),
        default: targets[0].clone(),
        targets: targets.into(),
        kind: KeyKind::Host,
        max_keys: 100,
        max_key_len: 255,
        groups: Box::default(),
        run_time: Default::default(),
    }
}

/// Commits until it is killed, and says each revision and its hash once they are durable. Does nothing unless it is asked
/// to by the test below.
#[test]
fn child_commits_until_it_is_killed() {
    let Some(path) = std::env::var_os("POINTSMAN_KILL_STORE").map(PathBuf::from) else { return };
    let mut store = FileStore::open(&path, KeyKind::Host).unwrap();
    let loaded = store.load().unwrap();
    let (mut table, mut hash, mut pending) = (loaded.table, loaded.last_hash, loaded.pending);
    let mut out = std::io::stdout().lock();
    loop {
        let revision = table.revision() + 1;
        let route = Route::parse(["green", "blue"][revision as usize % 2]).unwrap();
        let set = KEYS
            .iter()
            .map(|name| (Key::parse(KeyKind::Host, name.as_bytes(), 255).unwrap(), Some(route.clone())));
        let meta = Meta {
            actor: "writer".into(),
            idempotency: Some(format!("order {revision}")),
            confirm_within_ms: (revision % 3 == 0).then_some(1_000),
            ..Meta::default()
        };
        let order = Order { action: Action::Set(set.collect()), meta };
        let plan = switch::plan(&table, &rules(), &order, &pending).unwrap();
        let commit = plan.commit(hash, revision, Vec::new());
        store.commit(&commit).unwrap();
        writeln!(out, "kept {} {}", commit.revision, commit.hash).unwrap();
        table = table.apply(&commit);
        hash = commit.hash;
        Pending::follow(&mut pending, &commit);
    }
}

fn start(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_commits_until_it_is_killed", "--nocapture"])
        .env("POINTSMAN_KILL_STORE", path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Returns the last revision that a writer said it has kept, with its hash; it is read to its end.
fn last_kept(child: &mut Child) -> Option<(u64, String)> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let kept = lines.filter_map(|line| {
        let mut words = line.split_once("kept ")?.1.split(' ');
        let (revision, hash) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        // A line may have been cut by the kill.
        (hash.len() == 64).then_some((revision, hash))
    });
    kept.last()
}

#[test]
fn a_kill_loses_no_commit_and_leaves_none_by_halves() {
    if std::env::var_os("POINTSMAN_KILL_STORE").is_some() {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = number("POINTSMAN_KILLS").unwrap_or(40);
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
    let mut seed = number("POINTSMAN_KILL_SEED").unwrap_or(u64::from(clock));
    println!("POINTSMAN_KILL_SEED={seed}");
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let folder = tempfile::tempdir().unwrap();
    let mut path = folder.path().join("0.db");
    let (mut acknowledged, mut in_doubt) = (0, 0);
    let mut known: Option<(u64, String)> = None;
    for round in 0..kills {
        // Now and then a new file, so that its making is cut short as well.
        if round % 8 == 0 {
            path = folder.path().join(format!("{round}.db"));
            known = None;
        }
        let mut child = start(&path);
        let span_us = if round % 8 == 0 { 30_000 } else { 120_000 };
        std::thread::sleep(Duration::from_micros(random(span_us)));
        child.kill().unwrap();
        let kept = last_kept(&mut child);
        child.wait().unwrap();
        let before = known.clone();
        if let Some(kept) = kept {
            acknowledged += 1;
            known = Some(kept);
        }
        known = check(&path, known.as_ref());
        in_doubt += u64::from(known != before && known.is_some());
    }
    println!("{kills} kills, {acknowledged} of them after a commit, {in_doubt} moved on");
    assert!(acknowledged > 0, "no writer came to commit before it was killed");
}

/// Opens the store as the next process does. Gives its last revision and hash.
fn check(path: &Path, known: Option<&(u64, String)>) -> Option<(u64, String)> {
    let mut store =
        FileStore::open(path, KeyKind::Host).unwrap_or_else(|fault| panic!("it does not open: {fault}"));
    let loaded = store.load().unwrap_or_else(|fault| panic!("it does not load: {fault}"));
    let history = store.since(0).unwrap();
    let end = switch::verify_chain(&history).unwrap();
    assert_eq!(end, Chain { revision: loaded.table.revision(), hash: loaded.last_hash });
    if let Some((revision, hash)) = known {
        let kept =
            history.get(*revision as usize - 1).unwrap_or_else(|| panic!("revision {revision} is lost"));
        assert_eq!(kept.hash.to_string(), *hash, "revision {revision} is another one");
    }
    let last = history.last()?;
    let routes: Vec<_> =
        loaded.table.iter().map(|(_, entry)| (entry.route.to_string(), entry.revision)).collect();
    assert_eq!(routes.len(), KEYS.len());
    let all = (["green", "blue"][last.revision as usize % 2].to_owned(), last.revision);
    assert!(
        routes.iter().all(|route| *route == all),
        "revision {} is there by halves: {routes:?}",
        last.revision
    );
    let waiting = history.iter().filter(|commit| commit.confirm_by_ms.is_some()).count();
    assert_eq!(loaded.pending.len(), waiting);
    let name = format!("order {}", last.revision);
    assert_eq!(
        store.commit_by_idempotency(&name).unwrap().map(|commit| commit.revision),
        Some(last.revision)
    );
    Some((last.revision, last.hash.to_string()))
}
