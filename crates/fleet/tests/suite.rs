//! One suite for every store that a fleet may have: the simulated one, and a real etcd.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use pointsman_fleet::record::{Acknowledgement, Position, StatedSwitch, Statement};
use pointsman_fleet::simulated::SimulatedStore;
use pointsman_fleet::{
    Commitment, Condition, Etcd, EtcdSettings, FaultKind, Fleet, FleetSettings, FleetTimes, KeyStep,
    Keyspace, MAX_COMMIT_BYTES, Membership, Proposal, Read, Transaction,
};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use switch::{Change, Commit, CommitKind, Hash, Key, KeyKind, Route};
use testkit::EtcdProcess;

/// A store, with what may become of it.
trait World {
    fn client(&self) -> Box<dyn Keyspace>;
    /// Takes everything away, and starts it again as it was started.
    fn wipe(&self);
    /// Returns what puts the present content back.
    fn snapshot(&self) -> Box<dyn Fn()>;
}

struct Simulated(SimulatedStore);

impl World for Simulated {
    fn client(&self) -> Box<dyn Keyspace> {
        Box::new(self.0.clone())
    }

    fn wipe(&self) {
        self.0.put_back(Default::default());
    }

    fn snapshot(&self) -> Box<dyn Fn()> {
        let (store, content) = (self.0.clone(), self.0.snapshot());
        Box::new(move || store.put_back(content.clone()))
    }
}

struct Real(Rc<EtcdProcess>);

impl World for Real {
    fn client(&self) -> Box<dyn Keyspace> {
        let settings =
            EtcdSettings { urls: vec![self.0.url()], user: None, timeout: Duration::from_secs(20) };
        Box::new(Etcd::new(settings))
    }

    fn wipe(&self) {
        self.0.wipe().unwrap();
    }

    fn snapshot(&self) -> Box<dyn Fn()> {
        let (process, copy) = (self.0.clone(), self.0.copy().unwrap());
        Box::new(move || process.put_back(&copy).unwrap())
    }
}

/// Runs a test with each store.
fn on_each<F: AsyncFn(&dyn World)>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, test(&Simulated(SimulatedStore::new())));
    if EtcdProcess::is_installed() {
        let process = EtcdProcess::start().unwrap();
        local.block_on(&runtime, test(&Real(Rc::new(process))));
    }
}

struct Node {
    fleet: Fleet,
    history: Vec<Commit>,
}

impl Node {
    fn new(world: &dyn World, name: &str) -> Node {
        Node::with(world.client(), name, None)
    }

    fn with(keys: Box<dyn Keyspace>, name: &str, member: Option<Membership>) -> Node {
        let times = FleetTimes {
            beat: Duration::from_millis(200),
            silent: Duration::from_millis(1500),
            settle: Duration::from_secs(2),
        };
        let settings = FleetSettings { prefix: "/test/fleet".into(), node: name.into(), times };
        let fleet = Fleet::new(keys, settings, member);
        fleet.set_statement(statement(&["blue", "green"]));
        Node { fleet, history: Vec::new() }
    }

    fn position(&self) -> Position {
        match self.history.last() {
            Some(last) => Position { revision: last.revision, hash: last.hash },
            None => Position { revision: 0, hash: Hash::ZERO },
        }
    }

    fn next(&self, target: &str) -> Commit {
        let at = self.position();
        commit(at.revision + 1, at.hash, target, self.fleet.node())
    }

    async fn propose(&mut self, commit: &Commit) -> Proposal {
        let position = self.position();
        let proposed = Commitment { switch: "live", kind: KeyKind::Host, position, commit };
        let proposal = self.fleet.propose(proposed).await;
        if proposal == Proposal::Committed {
            self.history.push(commit.clone());
        }
        proposal
    }

    /// Takes what follows.
    async fn pull(&mut self) -> Result<usize, pointsman_fleet::FleetFault> {
        let known = self.fleet.since("live", self.position()).await?;
        let count = known.commits.len();
        self.history.extend(known.commits);
        Ok(count)
    }

    async fn init(&self) {
        self.fleet.set_member(self.fleet.init().await.unwrap());
        self.fleet.connect().await.unwrap();
    }

    async fn join(&self) {
        self.fleet.set_member(self.fleet.join().await.unwrap());
        self.fleet.connect().await.unwrap();
    }
}

fn statement(targets: &[&str]) -> Statement {
    let stated =
        StatedSwitch { keys: "host".into(), targets: targets.iter().map(|one| (*one).to_owned()).collect() };
    Statement { version: "1".into(), switches: [("live".to_owned(), stated)].into(), ..Statement::default() }
}

fn commit(revision: u64, previous: Hash, target: &str, actor: &str) -> Commit {
    Commit {
        revision,
        time_ms: 1,
        kind: CommitKind::Set,
        actor: actor.into(),
        reason: None,
        idempotency: Some(format!("{actor}-{revision}")),
        forced: false,
        confirm_by_ms: None,
        changes: vec![Change {
            key: Key::parse(KeyKind::Host, b"shop.example", 64).unwrap(),
            before: None,
            after: Some(Route::parse(target).unwrap()),
            undoes: None,
        }],
        subjects: Vec::new(),
        extra: BTreeMap::new(),
        gate: Vec::new(),
        previous,
        hash: Hash::ZERO,
    }
    .sealed()
}

fn kind(proposal: Proposal) -> FaultKind {
    match proposal {
        Proposal::Refused(fault) => fault.kind,
        other => panic!("{other:?}"),
    }
}

/// Lets a node hear of the others: their signs of life, for a moment.
async fn hear(node: &Node, others: &[&Node]) {
    let connected = node.fleet.connect().await.unwrap();
    let mut follower = node.fleet.follow(connected).await.unwrap();
    for other in others {
        other.fleet.beat(BTreeMap::new()).await.unwrap();
    }
    node.fleet.beat(BTreeMap::new()).await.unwrap();
    while node.fleet.nodes().iter().any(|one| one.is_silent) {
        follower.next().await.unwrap();
    }
}

#[test]
fn a_store_keeps_its_contract() {
    on_each(async |world| {
        let keys = world.client();
        let put = |key: &str, value: &str| KeyStep::Put(key.to_owned(), value.as_bytes().to_vec());
        let first = Transaction {
            conditions: vec![Condition::Absent("/k/a".into())],
            then: vec![put("/k/a", "1"), put("/k/b", "2"), put("/l", "3")],
            otherwise: vec![Read::Key("/k/a".into())],
        };
        let made = keys.transact(first.clone()).await.unwrap();
        assert!(made.held && made.reads.is_empty());
        let again = keys.transact(first).await.unwrap();
        assert!(!again.held);
        assert_eq!((&*again.reads[0][0].key, &*again.reads[0][0].value), ("/k/a", &b"1"[..]));
        assert_eq!(again.reads[0][0].written, made.revision);
        let reads = vec![Read::prefix("/k/", 9), Read::Key("/none".into()), Read::prefix("/k/", 1)];
        let read = keys.transact(Transaction::reading(reads)).await.unwrap();
        assert_eq!(read.reads.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 1]);
        for (condition, holds) in [
            (Condition::Value("/k/a".into(), b"1".to_vec()), true),
            (Condition::Value("/k/a".into(), b"2".to_vec()), false),
            (Condition::Value("/none".into(), b"".to_vec()), false),
            (Condition::Written("/k/b".into(), made.revision), true),
            (Condition::Written("/k/b".into(), made.revision + 1), false),
            (Condition::Written("/none".into(), 0), true),
            (Condition::Absent("/none".into()), true),
        ] {
            let asked = Transaction { conditions: vec![condition.clone()], ..Transaction::default() };
            assert_eq!(keys.transact(asked).await.unwrap().held, holds, "{condition:?}");
        }
        let mut watch = keys.watch("/k/".into(), made.revision).await.unwrap();
        let changes = watch.next().await.unwrap();
        assert_eq!(changes.iter().map(|one| &*one.entry.key).collect::<Vec<_>>(), ["/k/a", "/k/b"]);
        let then = vec![KeyStep::Delete("/k/a".into()), put("/l", "4")];
        keys.transact(Transaction { then, ..Transaction::default() }).await.unwrap();
        let changes = watch.next().await.unwrap();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].is_removed && changes[0].entry.key == "/k/a");
    });
}

#[test]
fn nodes_have_one_history() {
    on_each(async |world| {
        let (mut a, mut b) = (Node::new(world, "a"), Node::new(world, "b"));
        assert_eq!(a.fleet.join().await.unwrap_err().kind, FaultKind::NotMember, "there is no fleet yet");
        a.init().await;
        assert_eq!(b.fleet.init().await.unwrap_err().kind, FaultKind::Taken);
        b.join().await;
        let thief = Node::new(world, "a");
        assert_eq!(thief.fleet.join().await.unwrap_err().kind, FaultKind::Taken, "the name is taken");
        hear(&a, &[&b]).await;
        hear(&b, &[&a]).await;
        let first = a.next("green");
        assert_eq!(a.propose(&first).await, Proposal::Committed);
        // b does not know of it.
        let lost = b.next("blue");
        assert_eq!(b.propose(&lost).await, Proposal::Conflict);
        assert_eq!(b.pull().await, Ok(1));
        let second = b.next("blue");
        assert_eq!(b.propose(&second).await, Proposal::Committed);
        assert_eq!(a.pull().await, Ok(1));
        assert_eq!(a.history, b.history);
        assert_eq!(a.pull().await, Ok(0));
        // Acknowledgements come by the watch.
        let connected = a.fleet.connect().await.unwrap();
        let mut follower = a.fleet.follow(connected).await.unwrap();
        let done = Acknowledgement { revision: 2, workers: 4, ..Acknowledgement::default() };
        b.fleet.acknowledge("live", &done).await.unwrap();
        while a.fleet.applied("live", 2).is_empty() {
            follower.next().await.unwrap();
        }
        assert_eq!(a.fleet.applied("live", 2)["b"].workers, 4);
        assert!(a.fleet.applied("live", 3).is_empty());
        // What others commit comes by the watch, too.
        hear(&b, &[&a]).await;
        let third = b.next("green");
        assert_eq!(b.propose(&third).await, Proposal::Committed);
        while !follower.next().await.unwrap().contains(&"live".to_owned()) {}
        assert_eq!(a.pull().await, Ok(1));
    });
}

#[test]
fn a_node_that_cannot_follow_is_named_before_the_commit() {
    on_each(async |world| {
        let (mut a, b) = (Node::new(world, "a"), Node::new(world, "b"));
        a.init().await;
        b.join().await;
        a.fleet.connect().await.unwrap();
        let next = a.next("green");
        let Proposal::Refused(silent) = a.propose(&next).await else { panic!() };
        assert_eq!(silent.kind, FaultKind::Node);
        assert!(silent.text.contains("\"b\"") && silent.remedy.contains("fleet remove b"), "{silent}");
        hear(&a, &[&b]).await;
        // b reloads, and has no green any more: the transaction fails, although a has not heard of it.
        b.fleet.set_statement(statement(&["blue"]));
        b.fleet.connect().await.unwrap();
        let Proposal::Refused(lacks) = a.propose(&next).await else { panic!() };
        assert!(lacks.text.contains("node \"b\" has no target \"green\""), "{lacks}");
        let blue = a.next("blue");
        assert_eq!(a.propose(&blue).await, Proposal::Committed);
        // Without b, all is a.
        a.fleet.remove("b").await.unwrap();
        assert_eq!(a.fleet.remove("b").await.unwrap_err().kind, FaultKind::Node);
        let next = a.next("green");
        assert_eq!(a.propose(&next).await, Proposal::Committed);
        assert_eq!(b.fleet.connect().await.unwrap_err().kind, FaultKind::NotMember);
        b.join().await;
    });
}

#[test]
fn a_wiped_store_is_an_alarm_and_is_restored_from_a_copy() {
    on_each(async |world| {
        let (mut a, mut b) = (Node::new(world, "a"), Node::new(world, "b"));
        a.init().await;
        b.join().await;
        hear(&a, &[&b]).await;
        for target in ["green", "blue", "green"] {
            let next = a.next(target);
            assert_eq!(a.propose(&next).await, Proposal::Committed);
        }
        b.history = a.history[..2].to_vec();
        world.wipe();
        assert_eq!(a.pull().await.unwrap_err().kind, FaultKind::Foreign);
        assert_eq!(a.fleet.connect().await.unwrap_err().kind, FaultKind::Foreign);
        assert_eq!(a.fleet.beat(BTreeMap::new()).await.unwrap_err().kind, FaultKind::Foreign);
        let next = a.next("blue");
        assert_eq!(kind(a.propose(&next).await), FaultKind::Unreachable, "it is not connected any more");
        // Another fleet there is another one.
        let stranger = Node::new(world, "s");
        stranger.init().await;
        assert_eq!(a.pull().await.unwrap_err().kind, FaultKind::Foreign);
        let history = a.history.clone();
        let after = |_: String, revision: u64| {
            let commits = history.iter().filter(|one| one.revision > revision).cloned().collect();
            async move { Ok(commits) }
        };
        let switches = [("live".to_owned(), KeyKind::Host)];
        assert_eq!(a.fleet.restore(&switches, after).await.unwrap_err().kind, FaultKind::Foreign);
        world.wipe();
        assert_eq!(a.fleet.restore(&switches, after).await, Ok(3));
        a.fleet.connect().await.unwrap();
        b.fleet.connect().await.unwrap();
        assert_eq!(b.pull().await, Ok(1));
        assert_eq!(a.history, b.history);
        hear(&a, &[&b]).await;
        let next = a.next("blue");
        assert_eq!(a.propose(&next).await, Proposal::Committed);
    });
}

#[test]
fn an_older_snapshot_is_an_alarm_even_when_it_has_overtaken() {
    on_each(async |world| {
        let mut a = Node::new(world, "a");
        a.init().await;
        let first = a.next("green");
        assert_eq!(a.propose(&first).await, Proposal::Committed);
        let put_back = world.snapshot();
        let second = a.next("blue");
        assert_eq!(a.propose(&second).await, Proposal::Committed);
        put_back();
        let older = a.pull().await.unwrap_err();
        assert!(older.kind == FaultKind::Foreign && older.text.contains("older than this node"), "{older}");
        // Somebody whose copy is as old as that goes on from there.
        let mut old = Node::with(world.client(), "a", a.fleet.member());
        old.history = a.history[..1].to_vec();
        old.fleet.connect().await.unwrap();
        for target in ["blue=1 green=1", "green"] {
            let next = old.next(target);
            assert_eq!(old.propose(&next).await, Proposal::Committed);
        }
        let forked = a.pull().await.unwrap_err();
        assert!(forked.kind == FaultKind::Foreign && forked.text.contains("another history"), "{forked}");
        assert_eq!(a.history.len(), 2, "nothing of it was applied");
        // From the older snapshot, the rest is written back.
        put_back();
        let history = a.history.clone();
        let after = |_: String, revision: u64| {
            let commits = history.iter().filter(|one| one.revision > revision).cloned().collect();
            async move { Ok(commits) }
        };
        assert_eq!(a.fleet.restore(&[("live".to_owned(), KeyKind::Host)], after).await, Ok(1));
        assert_eq!(a.pull().await, Ok(0));
    });
}

#[test]
fn a_damaged_value_and_one_too_large_change_nothing() {
    on_each(async |world| {
        let mut a = Node::new(world, "a");
        a.init().await;
        let mut large = a.next("green");
        large.reason = Some("x".repeat(MAX_COMMIT_BYTES));
        let large = large.sealed();
        assert_eq!(kind(a.propose(&large).await), FaultKind::TooLarge);
        assert_eq!(a.pull().await, Ok(0));
        let mut b = Node::new(world, "b");
        b.join().await;
        hear(&a, &[&b]).await;
        let next = a.next("green");
        assert_eq!(a.propose(&next).await, Proposal::Committed);
        let key = format!("/test/fleet/c/live/{:020}", 1);
        let keys = world.client();
        let read = Transaction::reading(vec![Read::Key(key.clone())]);
        let value = keys.transact(read).await.unwrap().reads[0][0].value.clone();
        let text = String::from_utf8(value).unwrap().replace("green", "blue");
        let then = vec![KeyStep::Put(key, text.into_bytes())];
        keys.transact(Transaction { then, ..Transaction::default() }).await.unwrap();
        let fault = b.pull().await.unwrap_err();
        assert!(fault.kind == FaultKind::Damaged && fault.text.contains("was altered"), "{fault}");
        assert!(b.history.is_empty());
    });
}

#[test]
fn silence_is_noticed_and_another_process_of_the_same_name() {
    on_each(async |world| {
        let a = Node::new(world, "a");
        a.init().await;
        let connected = a.fleet.connect().await.unwrap();
        let mut follower = a.fleet.follow(connected).await.unwrap();
        a.fleet.beat(BTreeMap::new()).await.unwrap();
        follower.next().await.unwrap();
        // Nothing comes back from now on, although the connection stands.
        let fault = loop {
            if let Err(fault) = follower.next().await {
                break fault;
            }
        };
        assert!(fault.kind == FaultKind::Unreachable && fault.text.contains("silent"), "{fault}");
        let twin = Node::with(world.client(), "a", a.fleet.member());
        twin.fleet.beat(BTreeMap::new()).await.unwrap();
        a.fleet.beat(BTreeMap::new()).await.unwrap();
        twin.fleet.beat(BTreeMap::new()).await.unwrap();
        assert_eq!(a.fleet.beat(BTreeMap::new()).await.unwrap_err().kind, FaultKind::Taken);
    });
}
