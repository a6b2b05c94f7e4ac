//! How long holds last, and what outlives a process.

use super::*;
use crate::options::{HoldEnd, HoldThen};
use crate::setup::Setup;
use crate::store::{FileStore, KeptHold, KeptOrder, StoreBackend};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use switch::{HoldPhase, HoldState};

/// A process with its log, and a clock of holds that is set.
struct Running {
    control: ControlHandle,
    data_plane: Arc<FakeDataPlane>,
    tables: Arc<Tables>,
    log: Arc<Mutex<Vec<String>>>,
    clock_ms: Arc<AtomicU64>,
}

impl Running {
    fn start(folder: &Path) -> Running {
        let (data_plane, log) = (FakeDataPlane::new(), Arc::<Mutex<Vec<String>>>::default());
        let clock_ms = Arc::new(AtomicU64::new(0));
        let (lines, clock) = (log.clone(), clock_ms.clone());
        let setup = Setup {
            config: config(folder, &two_groups("")),
            listener: None,
            refused_peer: None,
            data_plane: data_plane.clone(),
            clock_ms: Arc::new(move || clock.load(Ordering::Relaxed)),
            log: Arc::new(move |_, text| lines.lock().unwrap().push(text.to_owned())),
            upgrades: false,
            file_default: Default::default(),
            window_times: Default::default(),
        };
        let (control, routing) = ControlHandle::start(setup).unwrap();
        let tables = Arc::new(routing.tables.clone());
        Running { control, data_plane, tables, log, clock_ms }
    }

    async fn hold(&self, end: Option<HoldEnd>) {
        let options = HoldOptions::default();
        let reason = Some("because".to_owned());
        let order = HoldOrder { key: key("a.example"), options, end, actor: "ann".into(), reason };
        self.control.hold("live", order).await.unwrap();
    }

    async fn release(&self) -> Result<crate::HoldInfo, Refusal> {
        self.control.release("live", key("a.example"), None, "bob".into(), Some("done".into())).await
    }

    fn has_said(&self, part: &str) -> bool {
        self.log.lock().unwrap().iter().any(|line| line.contains(part))
    }

    /// Returns the tables that the workers have.
    fn tables(&self) -> Arc<Tables> {
        self.data_plane.ask(|workers| workers.published.last().cloned()).unwrap_or(self.tables.clone())
    }

    fn phase(&self) -> Option<HoldPhase> {
        let tables = self.tables();
        tables.held(0, b"a.example").map(|place| tables.holds[place].phase())
    }

    /// Returns the journal's entries of this kind: who, and why.
    async fn journal(&self, kind: &str) -> Vec<(String, Option<String>)> {
        let query = crate::journal::JournalQuery { kind: Some(kind.into()), limit: 10, ..Default::default() };
        let (entries, _) = self.control.journal(query).await.unwrap();
        entries.into_iter().map(|entry| (entry.occurrence.actor, entry.occurrence.reason)).collect()
    }

    /// Returns the journal's entries of expired holds, once there is one.
    async fn expired(&self) -> Vec<(String, Option<String>)> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let found = self.journal("expire").await;
            if !found.is_empty() {
                return found;
            }
            assert!(Instant::now() < deadline, "the journal has no expired hold");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn after(ms: u64, then: HoldThen) -> Option<HoldEnd> {
    Some(HoldEnd { after_ms: ms, then })
}

fn kept(owner: &str, idempotency: Option<&str>) -> KeptHold {
    let order = KeptOrder {
        owner: owner.into(),
        idempotency: idempotency.map(str::to_owned),
        revision: 0,
        targets: Vec::new(),
        route: None,
        closes_streams: false,
    };
    KeptHold {
        id: "7".into(),
        key: "a.example".into(),
        max: 10,
        timeout_ms: 1000,
        max_bytes: 1000,
        since_ms: now_ms(),
        actor: "tester".into(),
        reason: None,
        end: None,
        order: Some(order),
        refusing: false,
    }
}

/// Leaves a hold as a process that was killed does.
fn leave(folder: &Path, hold: &KeptHold) {
    let mut store = FileStore::open(&folder.join("state/live.db"), KeyKind::Host).unwrap();
    assert!(store.place_hold(hold, &[]).unwrap());
}

#[tokio::test]
async fn promise_11_a_hold_outlives_its_process_until_it_is_released() {
    let folder = folder();
    let first = Running::start(folder.path());
    first.hold(None).await;
    first.control.stop();
    let second = Running::start(folder.path());
    assert_eq!(second.phase(), Some(HoldPhase::Held), "from the first request on");
    let holds = second.control.show("live").await.unwrap().holds;
    assert_eq!((holds.len(), &*holds[0].actor, holds[0].reason.as_deref()), (1, "ann", Some("because")));
    assert!(second.has_said("a.example is still held, by ann"));
    assert_eq!(set(&second.control, "a.example", "green").await.unwrap().revision, 1, "no revision is used");
    assert!(second.release().await.unwrap().recorded);
    assert_eq!(second.phase(), None);
    assert_eq!(second.journal("hold").await, [("ann".to_owned(), Some("because".to_owned()))]);
    assert_eq!(second.journal("release").await, [("bob".to_owned(), Some("done".to_owned()))]);
    second.control.stop();
    let third = Running::start(folder.path());
    assert_eq!(third.phase(), None);
    third.control.stop();
}

#[tokio::test]
async fn promise_11_a_hold_that_expires_refuses_until_a_newer_order() {
    let folder = folder();
    let first = Running::start(folder.path());
    first.hold(after(1_000, HoldThen::Refuse)).await;
    let mut ticket = first.tables().holds[0].admit(0, 0).unwrap();
    assert_eq!(ticket.poll(1, Waker::noop()), HoldState::Wait);
    until("it refuses", || first.phase() == Some(HoldPhase::Refusing)).await;
    assert_eq!(ticket.poll(1, Waker::noop()), HoldState::TimedOut);
    drop(ticket);
    assert_eq!(first.expired().await, [("ann".to_owned(), Some("refuse; because".to_owned()))]);
    first.control.stop();
    // The next process refuses, too, and says it no second time.
    let second = Running::start(folder.path());
    assert_eq!(second.phase(), Some(HoldPhase::Refusing));
    set(&second.control, "b.example", "green").await.unwrap();
    assert_eq!(second.phase(), Some(HoldPhase::Refusing), "an order of another key");
    set(&second.control, "a.example", "green").await.unwrap();
    assert_eq!(second.phase(), None);
    assert_eq!(second.journal("expire").await.len(), 1);
    assert_eq!(second.journal("release").await, [("tester".to_owned(), Some("revision 2".to_owned()))]);
    second.control.stop();
}

#[tokio::test]
async fn promise_11_a_hold_that_expires_can_release() {
    let folder = folder();
    let first = Running::start(folder.path());
    first.hold(after(1_000, HoldThen::Release)).await;
    let mut ticket = first.tables().holds[0].admit(0, 0).unwrap();
    until("it is released", || first.phase().is_none()).await;
    assert_eq!(ticket.poll(1, Waker::noop()), HoldState::Go);
    assert_eq!(first.expired().await, [("ann".to_owned(), Some("release; because".to_owned()))]);
    // One whose time is over while nothing runs.
    first.hold(after(60_000, HoldThen::Release)).await;
    first.control.stop();
    let mut store = FileStore::open(&folder.path().join("state/live.db"), KeyKind::Host).unwrap();
    let mut hold = store.kept_holds().unwrap().holds.remove(0);
    store.remove_hold(&hold).unwrap();
    hold.end.as_mut().unwrap().boot = None;
    hold.end.as_mut().unwrap().wall_ms = 1;
    store.place_hold(&hold, &[]).unwrap();
    drop(store);
    let second = Running::start(folder.path());
    until("it is released", || second.phase().is_none()).await;
    second.control.stop();
}

#[tokio::test]
async fn promise_11_the_next_process_settles_the_order_of_a_hold() {
    for committed in [false, true] {
        let folder = folder();
        let first = Running::start(folder.path());
        if committed {
            let meta = Meta { idempotency: Some("k1".into()), ..meta() };
            let order = to(&[("a.example", "green")], meta);
            first.control.order("live", order, Options::default()).await.unwrap();
        }
        first.control.stop();
        leave(folder.path(), &kept("gone:1:1", Some("k1")));
        let second = Running::start(folder.path());
        assert!(second.tables.held(0, b"a.example").is_some(), "no request gets past before");
        until("it has ended", || second.phase().is_none()).await;
        let outcome = if committed { "committed as revision 1" } else { "it was not committed" };
        assert!(second.has_said(outcome), "{:?}", second.log);
        second.control.stop();
    }
}

#[tokio::test]
async fn promise_11_a_key_is_refused_while_its_order_cannot_be_settled() {
    let folder = folder();
    let first = Running::start(folder.path());
    set(&first.control, "a.example", "green").await.unwrap();
    first.control.stop();
    leave(folder.path(), &kept("gone:1:1", None));
    // The second file still has the table; whether it has the order's commit is unknown.
    std::fs::write(folder.path().join("state/live.db"), "no store").unwrap();
    let second = Running::start(folder.path());
    until("it refuses", || second.phase() == Some(HoldPhase::Refusing)).await;
    assert!(second.has_said("a.example is refused"), "{:?}", second.log);
    // A person may know better.
    assert!(second.release().await.unwrap().recorded);
    assert_eq!(second.phase(), None);
    second.control.stop();
}

#[tokio::test]
async fn promise_11_two_processes_at_one_store_hold_the_same_keys() {
    let folder = folder();
    let (old, new) = (Running::start(folder.path()), Running::start(folder.path()));
    old.hold(None).await;
    until("the other one holds it, too", || new.phase() == Some(HoldPhase::Held)).await;
    let again = HoldOrder {
        key: key("a.example"),
        options: HoldOptions::default(),
        end: None,
        actor: "cy".into(),
        reason: None,
    };
    assert_eq!(new.control.hold("live", again).await.unwrap_err().code, Code::HoldExists);
    let mut ticket = old.tables().holds[0].admit(0, 0).unwrap();
    new.release().await.unwrap();
    until("the other one releases it, too", || old.phase().is_none()).await;
    assert_eq!(ticket.poll(0, Waker::noop()), HoldState::Go);
    assert_eq!(new.journal("release").await.len(), 1, "it is in the journal once");
    old.control.stop();
    new.control.stop();
}

#[tokio::test]
async fn promise_11_a_release_that_cannot_be_recorded_is_in_force_at_once() {
    let folder = folder();
    let running = Running::start(folder.path());
    running.hold(None).await;
    let mut ticket = running.tables().holds[0].admit(0, 0).unwrap();
    // As on a disk that takes nothing.
    let lock = folder.path().join("state/live.db-lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    let began = Instant::now();
    let releasing = running.release();
    let went = async {
        until("it is released", || running.phase().is_none()).await;
        (ticket.poll(0, Waker::noop()), began.elapsed())
    };
    let (released, (state, took)) = tokio::join!(releasing, went);
    assert_eq!(state, HoldState::Go);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!released.unwrap().recorded);
    assert!(running.has_said("cannot be recorded"));
    std::fs::remove_dir(&lock).unwrap();
    let mut store = FileStore::open(&folder.path().join("state/live.db"), KeyKind::Host).unwrap();
    until("it is recorded", || store.kept_holds().unwrap().holds.is_empty()).await;
    assert_eq!(running.phase(), None, "and was not taken up again meanwhile");
    running.control.stop();
}

#[tokio::test]
async fn promise_11_a_paced_release_is_one_queue_that_new_requests_join() {
    let folder = folder();
    let running = Running::start(folder.path());
    running.hold(None).await;
    let hold = running.tables().holds[0].clone();
    let mut old: Vec<_> = (0..3).map(|_| hold.admit(0, 0).unwrap()).collect();
    let (name, noop) = (key("a.example"), Waker::noop());
    running.control.release("live", name.clone(), Some(10), "bob".into(), None).await.unwrap();
    assert_eq!(running.phase(), Some(HoldPhase::Releasing), "new requests find it");
    let mut new = hold.admit(0, 0).unwrap();
    assert_eq!(old[0].poll(0, noop), HoldState::Go);
    assert_eq!(old[1].poll(0, noop), HoldState::WaitUntil(100));
    assert_eq!((new.poll(5_000, noop), old[2].poll(5_000, noop)), (HoldState::Wait, HoldState::Wait));
    let shown = running.control.show("live").await.unwrap();
    assert_eq!((shown.held_keys(), shown.held_requests()), (0, 4));
    // It is not kept any more: a restart would not hold the key again.
    let mut store = FileStore::open(&folder.path().join("state/live.db"), KeyKind::Host).unwrap();
    assert!(store.kept_holds().unwrap().holds.is_empty());
    for ticket in &mut old[1..] {
        assert_eq!(ticket.poll(5_000, noop), HoldState::Go);
    }
    assert_eq!((new.poll(5_000, noop), hold.phase()), (HoldState::Go, HoldPhase::Released));
    until("the hold is gone", || running.phase().is_none()).await;
    assert!(running.control.show("live").await.unwrap().holds.is_empty());
    running.control.stop();
}

#[tokio::test]
async fn promise_11_a_held_key_is_logged_each_minute() {
    let folder = folder();
    let running = Running::start(folder.path());
    running.hold(None).await;
    let hold = running.tables().holds[0].clone();
    let _waits = hold.admit(0, 0).unwrap();
    let mut late = hold.admit(0, 0).unwrap();
    assert_eq!(late.poll(10_000, Waker::noop()), HoldState::TimedOut);
    drop(late);
    assert_eq!(running.control.show("live").await.unwrap().refused_requests(), 1);
    let part = "a.example is still held by ann for 0 min (because): 1 requests wait, 1 were refused";
    for minutes in 1..=2 {
        running.clock_ms.store(minutes * 60_000, Ordering::Relaxed);
        let count = || running.log.lock().unwrap().iter().filter(|line| line.contains(part)).count();
        until("it is said", || count() as u64 == minutes).await;
    }
    let events = running.control.events(Some(0)).missed;
    assert_eq!(events.iter().filter(|event| event.kind.name() == "still_held").count(), 2);
    running.control.release("live", key("a.example"), None, "bob".into(), None).await.unwrap();
    let over = running.control.show("live").await.unwrap();
    assert_eq!((over.holds.len(), over.refused_requests()), (0, 1), "what was refused stays counted");
    running.control.stop();
}
