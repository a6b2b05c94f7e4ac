//! Deterministic simulation of the protocol: nodes, a store that loses answers and carries transactions out late, wipes, older snapshots.
//!
//! `FLEET_SEEDS=N` runs so many seeds (default 300), `FLEET_SEED=N` one of them.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use pointsman_fleet::record::{Position, StatedSwitch, Statement};
use pointsman_fleet::simulated::{Fate, SimulatedStore};
use pointsman_fleet::{Commitment, FaultKind, Fleet, FleetSettings, FleetTimes, Membership, Proposal};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use switch::{Change, Commit, CommitKind, Hash, Key, KeyKind, Route};

const NODES: [&str; 3] = ["a", "b", "c"];
const STEPS: usize = 60;

/// A node with its copy, which outlives it.
struct Node {
    name: &'static str,
    store: SimulatedStore,
    fleet: RefCell<Rc<Fleet>>,
    member: RefCell<Option<Membership>>,
    copy: RefCell<Vec<Commit>>,
    /// It has seen a store that is not its own, and changes nothing until that is settled.
    alarmed: RefCell<bool>,
}

/// What all have seen.
#[derive(Default)]
struct Record {
    /// Commits that were acknowledged to an operator.
    acknowledged: BTreeMap<u64, Hash>,
    /// Commits that an operator was told are not there.
    refused: Vec<Hash>,
    /// Those whose outcome is unknown.
    unknown: Vec<Hash>,
    committed: usize,
    /// The store was wiped or put back, so that what it had is lost to those who have no copy.
    was_lost: bool,
}

fn settings(name: &str) -> FleetSettings {
    let times = FleetTimes {
        beat: Duration::from_secs(1),
        silent: Duration::from_secs(60),
        settle: Duration::from_millis(50),
    };
    FleetSettings { prefix: "/sim".into(), node: name.into(), times }
}

fn statement() -> Statement {
    let stated = StatedSwitch { keys: "host".into(), targets: vec!["blue".into(), "green".into()] };
    Statement { version: "1".into(), switches: [("live".to_owned(), stated)].into(), ..Statement::default() }
}

impl Node {
    fn new(name: &'static str, store: SimulatedStore) -> Node {
        let fleet = Fleet::new(Box::new(store.clone()), settings(name), None);
        fleet.set_statement(statement());
        Node {
            name,
            store,
            fleet: RefCell::new(Rc::new(fleet)),
            member: RefCell::new(None),
            copy: RefCell::default(),
            alarmed: RefCell::new(false),
        }
    }

    /// A new process with the copy of the old one.
    fn restart(&self) {
        let fleet =
            Fleet::new(Box::new(self.store.clone()), settings(self.name), self.member.borrow().clone());
        fleet.set_statement(statement());
        *self.fleet.borrow_mut() = Rc::new(fleet);
    }

    fn fleet(&self) -> Rc<Fleet> {
        self.fleet.borrow().clone()
    }

    fn position(&self) -> Position {
        match self.copy.borrow().last() {
            Some(last) => Position { revision: last.revision, hash: last.hash },
            None => Position { revision: 0, hash: Hash::ZERO },
        }
    }

    async fn pull(&self) -> Result<(), FaultKind> {
        match self.fleet().since("live", self.position()).await {
            Ok(known) => {
                self.copy.borrow_mut().extend(known.commits);
                *self.alarmed.borrow_mut() = false;
                Ok(())
            }
            Err(fault) => {
                *self.alarmed.borrow_mut() |= fault.kind == FaultKind::Foreign;
                Err(fault.kind)
            }
        }
    }

    fn next(&self, random: &mut fastrand::Rng) -> Commit {
        let at = self.position();
        Commit {
            revision: at.revision + 1,
            time_ms: random.u64(..),
            kind: CommitKind::Set,
            actor: self.name.into(),
            reason: None,
            idempotency: Some(random.u64(..).to_string()),
            forced: false,
            confirm_by_ms: None,
            changes: vec![Change {
                key: Key::parse(KeyKind::Host, b"shop.example", 64).unwrap(),
                before: None,
                after: Some(Route::parse(if random.bool() { "green" } else { "blue" }).unwrap()),
                undoes: None,
            }],
            subjects: Vec::new(),
            extra: BTreeMap::new(),
            gate: Vec::new(),
            previous: at.hash,
            hash: Hash::ZERO,
        }
        .sealed()
    }

    async fn order(&self, random: &mut fastrand::Rng, record: &RefCell<Record>) {
        if self.pull().await.is_err() {
            return;
        }
        let (commit, position) = (self.next(random), self.position());
        let proposed = Commitment { switch: "live", kind: KeyKind::Host, position, commit: &commit };
        let proposal = self.fleet().propose(proposed).await;
        let mut record = record.borrow_mut();
        match proposal {
            Proposal::Committed => {
                if !record.was_lost {
                    let before = record.acknowledged.insert(commit.revision, commit.hash);
                    assert_eq!(before, None, "two commits of revision {}", commit.revision);
                }
                record.committed += 1;
                // Another task may have pulled it meanwhile.
                if self.position() == position {
                    self.copy.borrow_mut().push(commit);
                }
            }
            Proposal::Conflict => record.refused.push(commit.hash),
            Proposal::Refused(_) => record.refused.push(commit.hash),
            Proposal::Unknown(_) => record.unknown.push(commit.hash),
        }
    }
}

async fn world(seed: u64) -> Record {
    let mut random = fastrand::Rng::with_seed(seed);
    let store = SimulatedStore::new();
    let nodes: Vec<Rc<Node>> =
        NODES.iter().map(|name| Rc::new(Node::new(name, store.client(name)))).collect();
    for (at, node) in nodes.iter().enumerate() {
        let fleet = node.fleet();
        let member = if at == 0 { fleet.init().await } else { fleet.join().await }.unwrap();
        fleet.set_member(member.clone());
        *node.member.borrow_mut() = Some(member);
    }
    let record = Rc::new(RefCell::new(Record::default()));
    let mut fates = random.fork();
    let trouble = fates.u32(0..40);
    let mut cut_off: Option<&'static str> = None;
    store.set_fates(move |client, _| {
        if fates.u32(0..60) == 0 {
            cut_off = if cut_off.is_some() {
                None
            } else {
                NODES.iter().find(|name| fates.bool() && **name != "z").copied()
            };
        }
        if cut_off == Some(client) {
            return Fate::Unreachable;
        }
        match fates.u32(0..100) {
            roll if roll >= trouble => Fate::Answered,
            roll if roll % 4 == 0 => Fate::Lost,
            roll if roll % 4 == 1 => Fate::AnswerLost,
            roll if roll % 4 == 2 => Fate::Late(Duration::from_millis(fates.u64(1..900))),
            _ => Fate::Unreachable,
        }
    });
    let mut old = None;
    let may_lose = random.u32(0..4) == 0;
    for _ in 0..STEPS {
        let node = nodes[random.usize(0..nodes.len())].clone();
        match random.u32(0..20) {
            0..=8 => {
                // Several at once, on different nodes.
                let other = nodes[random.usize(0..nodes.len())].clone();
                let (mut one, mut two) = (random.fork(), random.fork());
                if Rc::ptr_eq(&node, &other) {
                    node.order(&mut one, &record).await;
                } else {
                    tokio::join!(node.order(&mut one, &record), other.order(&mut two, &record));
                }
            }
            9..=11 => drop(node.pull().await),
            12..=14 => drop(node.fleet().connect().await),
            15 => node.restart(),
            16 => store.compact(),
            17 => old = Some(store.snapshot()),
            18 if may_lose => {
                record.borrow_mut().was_lost = true;
                let before: Vec<Vec<Commit>> = nodes.iter().map(|node| node.copy.borrow().clone()).collect();
                store.put_back(old.clone().unwrap_or_default());
                store.raise(random.i64(0..50));
                for (node, before) in nodes.iter().zip(before) {
                    let _ = node.pull().await;
                    let copy = node.copy.borrow();
                    assert!(
                        copy.starts_with(&before),
                        "{}: a store that was put back changed its table",
                        node.name
                    );
                }
            }
            // Signs of life: all are heard by all.
            _ => {
                for one in &nodes {
                    let _ = one.fleet().beat(BTreeMap::new()).await;
                }
            }
        }
        hear(&nodes).await;
    }
    // All is well again, but for a store that has lost what it knew.
    store.clear_fates();
    tokio::time::sleep(Duration::from_secs(5)).await;
    for node in &nodes {
        let connected = node.fleet().connect().await;
        let pulled = node.pull().await;
        if !record.borrow().was_lost {
            assert!(connected.is_ok() && pulled.is_ok(), "{}: {connected:?} {pulled:?}", node.name);
        }
    }
    check(&nodes, &record.borrow());
    let Ok(record) = Rc::try_unwrap(record) else { panic!("a task is left") };
    record.into_inner()
}

/// Lets the nodes that are connected hear of each other, as the watch does.
async fn hear(nodes: &[Rc<Node>]) {
    for node in nodes {
        let fleet = node.fleet();
        if fleet.is_connected() && fleet.nodes().iter().all(|one| !one.is_silent) {
            continue;
        }
        let Ok(connected) = fleet.connect().await else { continue };
        let Ok(mut follower) = fleet.follow(connected).await else { continue };
        for other in nodes {
            let _ = other.fleet().beat(BTreeMap::new()).await;
        }
        for _ in 0..nodes.len() {
            if tokio::time::timeout(Duration::from_millis(50), follower.next()).await.is_err() {
                break;
            }
        }
    }
}

fn check(nodes: &[Rc<Node>], record: &Record) {
    for node in nodes {
        let copy = node.copy.borrow();
        switch::verify_chain(copy.iter()).unwrap();
        for commit in copy.iter() {
            assert!(
                !record.refused.contains(&commit.hash),
                "revision {} was refused, and is there",
                commit.revision
            );
        }
        if record.was_lost {
            continue;
        }
        for (revision, hash) in &record.acknowledged {
            let kept = copy.iter().find(|commit| commit.revision == *revision);
            assert_eq!(
                kept.map(|commit| commit.hash),
                Some(*hash),
                "{}: revision {revision} is lost",
                node.name
            );
        }
        // What was neither acknowledged nor unknown has no business there.
        for commit in copy.iter() {
            let is_known = record.acknowledged.get(&commit.revision) == Some(&commit.hash)
                || record.unknown.contains(&commit.hash);
            assert!(is_known, "{}: revision {} comes from nowhere", node.name, commit.revision);
        }
    }
    if !record.was_lost {
        let first = nodes[0].copy.borrow();
        assert!(nodes.iter().all(|node| *node.copy.borrow() == *first), "the histories differ");
    }
}

#[test]
fn nothing_is_forked_lost_or_called_refused_that_is_there() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("FLEET_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FLEET_SEEDS").unwrap_or(300),
    };
    let (mut committed, mut unknown, mut late) = (0, 0, 0);
    for seed in seeds.clone() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let local = tokio::task::LocalSet::new();
        let run = std::panic::AssertUnwindSafe(|| local.block_on(&runtime, world(seed)));
        match std::panic::catch_unwind(run) {
            Ok(record) => {
                committed += record.committed;
                unknown += record.unknown.len();
                late += usize::from(record.was_lost);
            }
            Err(panic) => {
                eprintln!("seed {seed}: FLEET_SEED={seed} runs it again");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!(
        "{} seeds, {committed} commits, {unknown} unknown, {late} stores put back",
        seeds.end - seeds.start
    );
    // A simulation in which nothing happens proves nothing.
    if seeds.end - seeds.start >= 100 {
        assert!(committed > 1000 && unknown > 20 && late > 5, "{committed} {unknown} {late}");
    }
}
