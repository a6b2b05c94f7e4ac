//! Commits that go back by themselves.

use super::*;

fn within(ms: u64) -> Meta {
    Meta { confirm_within_ms: Some(ms), ..meta() }
}

#[tokio::test]
async fn an_unconfirmed_commit_goes_back() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    let mut events = control.events(None).live;
    let order = to(&[("a.example", "green"), ("b.example", "green")], within(60));
    let receipt = control.order("live", order, Options::default()).await.unwrap();
    assert!(receipt.confirm_by_ms.is_some());
    // A later decision stays in effect.
    set(&control, "b.example", "blue=1 green=9").await.unwrap();
    let reverted = loop {
        let event = events.recv().await.unwrap();
        if let EventKind::Committed { kind, actor, changes, .. } = &event.kind
            && kind == "revert"
        {
            assert_eq!(actor, "pointsman");
            break changes.clone();
        }
    };
    assert_eq!(reverted.len(), 1);
    assert_eq!(data_plane.leads("a.example"), None);
    assert_eq!(data_plane.leads("b.example").as_deref(), Some("blue=1 green=9"));
    assert!(control.show("live").await.unwrap().pending.is_empty());
    control.stop();
}

/// Waits until this many commits were reverted.
async fn reverts(events: &mut tokio::sync::broadcast::Receiver<Arc<crate::Event>>, count: usize) {
    for _ in 0..count {
        let is_revert =
            |kind: &EventKind| matches!(kind, EventKind::Committed { kind, .. } if kind == "revert");
        while !is_revert(&events.recv().await.unwrap().kind) {}
    }
}

#[tokio::test]
async fn promise_4_of_two_windows_neither_leaves_an_unconfirmed_route() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    let mut events = control.events(None).live;
    set(&control, "a.example", "blue=1 green=1").await.unwrap();
    let order = to(&[("a.example", "green"), ("b.example", "green")], within(60));
    control.order("live", order, Options::default()).await.unwrap();
    control.order("live", to(&[("a.example", "blue")], within(400)), Options::default()).await.unwrap();
    reverts(&mut events, 1).await;
    assert_eq!(
        data_plane.leads("a.example").as_deref(),
        Some("blue"),
        "the newer one may still be confirmed"
    );
    assert_eq!(data_plane.leads("b.example"), None);
    reverts(&mut events, 1).await;
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("blue=1 green=1"));
    assert_eq!(control.verify("live").await.unwrap().fault, None);
    control.stop();
}

#[tokio::test]
async fn promise_4_undoing_a_decision_passes_over_what_was_not_confirmed_beneath_it() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    let mut events = control.events(None).live;
    set(&control, "a.example", "blue=1 green=1").await.unwrap();
    control.order("live", to(&[("a.example", "green")], within(60)), Options::default()).await.unwrap();
    set(&control, "a.example", "blue").await.unwrap();
    reverts(&mut events, 1).await;
    let last = control.receipt("live", 4).await.unwrap();
    assert_eq!((last.kind.as_str(), last.changed_keys), ("revert", 0));
    control.undo("live", UndoWhat::Last, meta(), Options::default()).await.unwrap();
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("blue=1 green=1"));
    control.stop();
}

#[tokio::test]
async fn a_confirmed_commit_stays() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    let confirm = |revision| control.confirm("live", revision, meta());
    assert_eq!(confirm(None).await.unwrap_err().code, Code::NothingToConfirm);
    control.order("live", to(&[("a.example", "green")], within(60_000)), Options::default()).await.unwrap();
    control.order("live", to(&[("b.example", "green")], within(60_000)), Options::default()).await.unwrap();
    assert_eq!(control.show("live").await.unwrap().pending.len(), 2);
    let several = confirm(None).await.unwrap_err();
    assert_eq!(several.code, Code::BadOrder);
    assert!(several.text.contains("1, 2"), "{several}");
    assert_eq!(confirm(Some(1)).await.unwrap().kind, "confirm");
    assert_eq!(confirm(None).await.unwrap().revision, 4);
    assert_eq!(confirm(Some(1)).await.unwrap_err().code, Code::NothingToConfirm);
    assert!(control.show("live").await.unwrap().pending.is_empty());
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("green"));
    control.stop();
}

#[tokio::test]
async fn promise_6_a_table_is_served_as_committed_and_goes_back_after_a_start() {
    let folder = folder();
    let (first, _) = start(folder.path(), "");
    set(&first, "a.example", "blue=1 green=1").await.unwrap();
    first.order("live", to(&[("a.example", "green")], within(1_000)), Options::default()).await.unwrap();
    first.order("live", to(&[("a.example", "blue")], within(1_001)), Options::default()).await.unwrap();
    first.stop();
    let by = now_ms() + 1_001;
    until("the time has passed", || now_ms() > by).await;
    let data_plane = FakeDataPlane::new();
    let (second, tables) = open(&config(folder.path(), &two_groups("")), &data_plane).unwrap();
    assert_eq!(tables.tables[0].find(b"a.example").unwrap().route.to_string(), "blue");
    assert_eq!(tables.tables[0].revision(), 3);
    until("both went back", || data_plane.ask(|workers| workers.published.len()) == 2).await;
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("blue=1 green=1"));
    // The older one first: the newer one goes back to what lies beneath both, and never to the other one's route.
    let routes: Vec<String> = data_plane.ask(|workers| {
        let route = |tables: &Arc<Tables>| tables.tables[0].find(b"a.example").unwrap().route.to_string();
        workers.published.iter().map(route).collect()
    });
    assert_eq!(routes, ["blue", "blue=1 green=1"]);
    assert_eq!(second.verify("live").await.unwrap().fault, None);
    second.stop();
}

#[tokio::test]
async fn a_commit_reverts_after_a_restart_too() {
    let folder = folder();
    let (first, _) = start(folder.path(), "");
    first.order("live", to(&[("a.example", "green")], within(300)), Options::default()).await.unwrap();
    first.stop();
    let data_plane = FakeDataPlane::new();
    let (second, _) = open(&config(folder.path(), &two_groups("")), &data_plane).unwrap();
    until("it went back", || data_plane.ask(|workers| !workers.published.is_empty())).await;
    assert_eq!(data_plane.leads("a.example"), None);
    second.stop();
}

#[tokio::test]
async fn a_revert_is_retried_until_the_store_accepts_it() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    control.order("live", to(&[("a.example", "green")], within(30)), Options::default()).await.unwrap();
    let (file, away) = (folder.path().join("state/live.db"), folder.path().join("away.db"));
    std::fs::rename(&file, &away).unwrap();
    let mut events = control.events(None).live;
    while events.recv().await.unwrap().kind.name() != "store_failed" {}
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("green"));
    std::fs::rename(&away, &file).unwrap();
    until("it went back", || data_plane.leads("a.example").is_none()).await;
    control.stop();
}

/// A port, and the server on it if it is there.
struct Side(u16, Option<std::net::TcpListener>);

impl Side {
    fn new(is_there: bool) -> Side {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Side(listener.local_addr().unwrap().port(), is_there.then_some(listener))
    }

    fn come(&mut self) {
        self.1 = Some(std::net::TcpListener::bind(("127.0.0.1", self.0)).unwrap());
    }
}

/// Returns a switch between two servers.
fn between(blue: &Side, green: &Side, words: &str) -> String {
    two_groups(words)
        .replace("127.0.0.1:1", &format!("127.0.0.1:{}", blue.0))
        .replace("127.0.0.1:2", &format!("127.0.0.1:{}", green.0))
}

fn start_between(
    prefix: &Path,
    sides: (&Side, &Side),
    words: &str,
) -> (ControlHandle, Arc<FakeDataPlane>, tokio::sync::broadcast::Receiver<Arc<crate::Event>>) {
    let data_plane = FakeDataPlane::new();
    let (control, _) = open(&config(prefix, &between(sides.0, sides.1, words)), &data_plane).unwrap();
    let events = control.events(None).live;
    (control, data_plane, events)
}

/// Waits for an event of this name.
async fn event(events: &mut tokio::sync::broadcast::Receiver<Arc<crate::Event>>, name: &str) -> EventKind {
    loop {
        let event = events.recv().await.unwrap();
        if event.kind.name() == name {
            return event.kind.clone();
        }
    }
}

#[tokio::test]
async fn promise_6_a_commit_does_not_go_back_to_a_dead_side_until_that_is_back() {
    let folder = folder();
    let (mut blue, green) = (Side::new(false), Side::new(true));
    let (control, data_plane, mut events) = start_between(folder.path(), (&blue, &green), "");
    control.order("live", to(&[("a.example", "green")], within(60)), Options::default()).await.unwrap();
    let EventKind::Overdue { revision: 1, results } = event(&mut events, "overdue").await else {
        panic!("it says which one")
    };
    assert_eq!(
        results.iter().map(|one| (&*one.target, one.passed)).collect::<Vec<_>>(),
        [("green", true), ("blue", false)]
    );
    until_async("it is shown", async || control.show("live").await.unwrap().pending[0].overdue.is_some())
        .await;
    let shown = control.show("live").await.unwrap().pending[0].clone();
    let answers = shown.overdue.unwrap().answers;
    assert_eq!((shown.left_ms, answers.len()), (0, 2));
    assert_eq!(answers[1], format!("blue 127.0.0.1:{} unhealthy: connection refused", blue.0));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("green"), "it is asked again, and stays");
    blue.come();
    reverts(&mut events, 1).await;
    assert_eq!(data_plane.leads("a.example"), None);
    // What both sides answered is in the history and in the receipt.
    let receipt = control.receipt("live", 2).await.unwrap();
    assert!(receipt.gate.len() == 2 && receipt.gate.iter().all(|one| one.passed), "{receipt:?}");
    let filter = switch::Filter { limit: 1, ..Default::default() };
    let commit = control.history("live", filter).await.unwrap().remove(0);
    assert_eq!(commit.gate[1], format!("blue 127.0.0.1:{} healthy: accepts connections", blue.0));
    control.stop();
}

/// Waits until something is so that must be asked for.
async fn until_async(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn promise_6_with_go_a_commit_goes_back_whatever_its_sides_answer() {
    let folder = folder();
    let (blue, green) = (Side::new(false), Side::new(true));
    let (control, data_plane, mut events) =
        start_between(folder.path(), (&blue, &green), "revert-if-dead go;");
    control.order("live", to(&[("a.example", "green")], within(30)), Options::default()).await.unwrap();
    reverts(&mut events, 1).await;
    assert_eq!(data_plane.leads("a.example"), None);
    let receipt = control.receipt("live", 2).await.unwrap();
    let passed: Vec<_> = receipt.gate.iter().map(|one| (&*one.target, one.passed)).collect();
    assert_eq!(passed, [("green", true), ("blue", false)]);
    control.stop();
}

#[tokio::test]
async fn promise_6_what_comes_while_the_sides_are_asked_counts() {
    // Both sides take connections and answer nothing, so that the question takes as long as its timeout.
    let (blue, green) = (Side::new(true), Side::new(true));
    for what in ["confirm", "undo", "order"] {
        let folder = folder();
        let gate = "gate uri=/health timeout=700ms;";
        let (control, data_plane, mut events) = start_between(folder.path(), (&blue, &green), gate);
        let forced = Meta { force: true, ..within(350) };
        control.order("live", to(&[("a.example", "green")], forced), Options::default()).await.unwrap();
        // The sides are asked from 350 to 1,050 ms. An order asks its own gate for 700 ms, and then is in between.
        let forced = Meta { force: true, ..meta() };
        match what {
            "confirm" => {
                tokio::time::sleep(Duration::from_millis(600)).await;
                let pending = control.show("live").await.unwrap().pending;
                assert_eq!((pending.len(), pending[0].left_ms), (1, 0), "the sides are being asked");
                control.confirm("live", None, forced).await
            }
            "undo" => control.undo("live", UndoWhat::Commit(1), forced, Options::default()).await,
            _ => {
                let split = to(&[("a.example", "blue=1 green=9")], forced);
                control.order("live", split, Options::default()).await
            }
        }
        .unwrap();
        let led = match what {
            "confirm" => Some("green"),
            "undo" => None,
            _ => Some("blue=1 green=9"),
        };
        if what == "order" {
            // The window of the older one ends all the same, beneath the newer decision.
            reverts(&mut events, 1).await;
        } else {
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        assert!(control.show("live").await.unwrap().pending.is_empty(), "{what}");
        assert_eq!(data_plane.leads("a.example").as_deref(), led, "{what}");
        control.stop();
    }
}

#[tokio::test]
async fn promise_6_after_a_start_a_commit_stays_while_neither_side_answers_yet() {
    let folder = folder();
    let (mut blue, green) = (Side::new(false), Side::new(false));
    let (first, _, _) = start_between(folder.path(), (&blue, &green), "");
    // Long enough to stop before it ends.
    let window = || to(&[("a.example", "green")], within(1_500));
    first.order("live", window(), Options::default()).await.unwrap();
    first.stop();
    let config = config(folder.path(), &between(&blue, &green, ""));
    let open = |grace_ms| {
        let data_plane = FakeDataPlane::new();
        let (retry, grace) = (Duration::from_millis(20), Duration::from_millis(grace_ms));
        let times = crate::WindowTimes { retry, grace };
        (
            crate::testing::open_with(&config, &data_plane, times, crate::FileDefault::Counts).unwrap().0,
            data_plane,
        )
    };
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let (second, data_plane) = open(60_000);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(data_plane.leads("a.example"), None, "nothing is published");
    assert_eq!(second.show("live").await.unwrap().revision, 1);
    blue.come();
    until("it goes back as soon as one answers", || data_plane.ask(|workers| !workers.published.is_empty()))
        .await;
    assert_eq!(second.show("live").await.unwrap().keys, 0);
    // When the time is over, it goes back although neither does.
    second.order("live", window(), Options::default()).await.unwrap();
    second.stop();
    drop(blue);
    let (third, data_plane) = open(2_000);
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    assert!(data_plane.ask(|workers| workers.published.is_empty()));
    until("it goes back", || data_plane.ask(|workers| !workers.published.is_empty())).await;
    third.stop();
}

#[tokio::test]
async fn promise_6_the_end_of_a_window_is_warned_of_twice() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    let mut events = control.events(None).live;
    control.order("live", to(&[("a.example", "green")], within(600)), Options::default()).await.unwrap();
    for (least, most) in [(60, 300), (0, 60)] {
        let EventKind::Unconfirmed { revision: 1, left_ms, window_ms: 600 } =
            event(&mut events, "unconfirmed").await
        else {
            panic!("it says which one, and what is left")
        };
        assert!((least..=most).contains(&left_ms), "{left_ms}");
    }
    reverts(&mut events, 1).await;
    control.stop();
}
