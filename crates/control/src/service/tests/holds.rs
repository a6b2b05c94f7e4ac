//! Holds, and switching inside one.

use super::*;
use std::task::Waker;
use switch::HoldState;

fn hold_order(name: &str) -> HoldOrder {
    HoldOrder {
        key: key(name),
        options: HoldOptions::default(),
        end: None,
        actor: "tester".into(),
        reason: None,
    }
}

fn published(data_plane: &FakeDataPlane) -> Arc<Tables> {
    data_plane.ask(|workers| workers.published.last().unwrap().clone())
}

#[tokio::test]
async fn a_key_is_held_and_let_go() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    control.hold("live", hold_order("a.example")).await.unwrap();
    let tables = published(&data_plane);
    assert_eq!(tables.held(0, b"a.example"), Some(0));
    assert_eq!(tables.held(0, b"b.example"), None);
    let mut ticket = tables.holds[0].admit(10, 0).unwrap();
    assert_eq!(ticket.poll(5, Waker::noop()), HoldState::Wait);
    assert_eq!(control.hold("live", hold_order("a.example")).await.unwrap_err().code, Code::HoldExists);
    // A switch meanwhile keeps it.
    set(&control, "a.example", "green").await.unwrap();
    assert_eq!(published(&data_plane).held(0, b"a.example"), Some(0));
    let state = control.show("live").await.unwrap();
    assert_eq!((state.holds[0].waiting, state.holds[0].waiting_bytes), (1, 10));
    let released = control.release("live", key("a.example"), None, "tester".into(), None).await.unwrap();
    assert_eq!(released.waiting, 1);
    assert_eq!(ticket.poll(5, Waker::noop()), HoldState::Go);
    assert_eq!(published(&data_plane).held(0, b"a.example"), None);
    let again = control.release("live", key("a.example"), None, "tester".into(), None).await;
    assert_eq!(again.unwrap_err().code, Code::NotHeld);
    let told = control.events(Some(0)).missed;
    let names = told.iter().map(|event| event.kind.name()).filter(|name| *name != "drained");
    let names: Vec<_> = names.collect();
    assert_eq!(names, ["held", "committed", "released"]);
    control.stop();
}

#[tokio::test]
async fn hold_drain_switch_release() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    data_plane.tell(|workers| workers.in_flight = 2);
    let switching = {
        let control = control.clone();
        let options = Options { hold: Some(HoldOptions::default()), ..Options::default() };
        tokio::spawn(
            async move { control.order("live", to(&[("a.example", "green")], meta()), options).await },
        )
    };
    until("it is looked whether they have finished", || data_plane.ask(|workers| workers.affected > 2)).await;
    let tables = published(&data_plane);
    assert_eq!((tables.held(0, b"a.example"), tables.tables[0].revision()), (Some(0), 0));
    let mut ticket = tables.holds[0].admit(1, 0).unwrap();
    data_plane.tell(|workers| workers.in_flight = 0);
    let receipt = switching.await.unwrap().unwrap();
    assert_eq!(receipt.hold.unwrap().waiting, 1);
    assert_eq!(ticket.poll(0, Waker::noop()), HoldState::Go);
    // First all workers got the table, then the hold was lifted.
    let steps: Vec<_> = data_plane.ask(|workers| {
        workers.published.iter().map(|tables| (tables.tables[0].revision(), tables.holds.len())).collect()
    });
    assert_eq!(steps, [(0, 1), (1, 1), (1, 0)]);
    control.stop();
}

#[tokio::test]
async fn requests_that_do_not_end_refuse_the_switch_and_end_its_hold() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    data_plane.tell(|workers| workers.in_flight = 2);
    let options = Options {
        hold: Some(HoldOptions::default()),
        timeout: Some(Duration::from_millis(30)),
        ..Options::default()
    };
    let refusal = control.order("live", to(&[("a.example", "green")], meta()), options).await.unwrap_err();
    assert_eq!(refusal.code, Code::NotDrained);
    let tables = published(&data_plane);
    assert_eq!((tables.holds.len(), tables.tables[0].revision()), (0, 0));
    assert!(control.show("live").await.unwrap().holds.is_empty());
    control.stop();
}

#[tokio::test]
async fn a_hold_of_an_operator_outlives_a_switch_with_a_hold() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    control.hold("live", hold_order("a.example")).await.unwrap();
    let options = Options { hold: Some(HoldOptions::default()), ..Options::default() };
    let both = to(&[("a.example", "green"), ("b.example", "green")], meta());
    control.order("live", both, options).await.unwrap();
    let tables = published(&data_plane);
    assert_eq!((tables.held(0, b"a.example"), tables.held(0, b"b.example")), (Some(0), None));
    control.stop();
}

#[tokio::test]
async fn an_order_relies_on_the_holds_that_it_found() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    control.hold("live", hold_order("a.example")).await.unwrap();
    let order = waiting_order(&control, &data_plane).await;
    let options = || Options { hold: Some(HoldOptions::default()), ..Options::default() };
    control.release("live", key("a.example"), None, "other".into(), None).await.unwrap();
    assert_eq!(order.await.unwrap().unwrap_err().code, Code::Overtaken);
    let order = waiting_order(&control, &data_plane).await;
    // Another order of the key would lose its hold with this one's.
    let second = control.order("live", to(&[("a.example", "green")], meta()), options()).await;
    assert_eq!(second.unwrap_err().code, Code::HoldExists);
    data_plane.tell(|workers| workers.in_flight = 0);
    order.await.unwrap().unwrap();
    assert_eq!(published(&data_plane).held(0, b"a.example"), None);
    control.stop();
}

#[tokio::test]
async fn only_so_many_keys_are_held() {
    let folder = folder();
    let (control, _) = start(folder.path(), "state memory;");
    for number in 0..64 {
        control.hold("live", hold_order(&format!("{number}.example"))).await.unwrap();
    }
    assert_eq!(control.hold("live", hold_order("one.more")).await.unwrap_err().code, Code::Busy);
    control.stop();
}

/// Returns an order with a hold that waits for requests in flight, and what becomes of it.
async fn waiting_order(
    control: &ControlHandle,
    data_plane: &FakeDataPlane,
) -> tokio::task::JoinHandle<Result<Receipt, Refusal>> {
    data_plane.tell(|workers| (workers.in_flight, workers.affected) = (2, 0));
    let order = {
        let control = control.clone();
        let options = Options { hold: Some(HoldOptions::default()), ..Options::default() };
        tokio::spawn(
            async move { control.order("live", to(&[("a.example", "green")], meta()), options).await },
        )
    };
    until("it waits", || data_plane.ask(|workers| workers.affected > 2)).await;
    order
}

#[tokio::test]
async fn promise_3_a_waiting_order_is_seen_and_a_release_cancels_it() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    let order = waiting_order(&control, &data_plane).await;
    let holds = control.show("live").await.unwrap().holds;
    assert_eq!((holds.len(), &*holds[0].actor), (1, "tester"));
    control.release("live", key("a.example"), None, "other".into(), None).await.unwrap();
    let refusal = order.await.unwrap().unwrap_err();
    assert_eq!(refusal.code, Code::Overtaken);
    // Nothing was committed, also once the requests have ended.
    data_plane.tell(|workers| workers.in_flight = 0);
    let tables = published(&data_plane);
    assert_eq!((tables.holds.len(), tables.tables[0].revision()), (0, 0));
    control.stop();
}

#[tokio::test]
async fn promise_3_a_waiting_order_never_overrides_a_newer_one() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    set(&control, "a.example", "green=10 blue=90").await.unwrap();
    let order = waiting_order(&control, &data_plane).await;
    set(&control, "a.example", "blue").await.unwrap();
    data_plane.tell(|workers| workers.in_flight = 0);
    assert_eq!(order.await.unwrap().unwrap_err().code, Code::Overtaken);
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("blue"));
    assert!(control.show("live").await.unwrap().holds.is_empty());
    // A change of another key is none of its business.
    let order = waiting_order(&control, &data_plane).await;
    set(&control, "b.example", "green").await.unwrap();
    data_plane.tell(|workers| workers.in_flight = 0);
    assert!(order.await.unwrap().is_ok());
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("green"));
    control.stop();
}

#[tokio::test]
async fn promise_3_open_streams_refuse_a_hold_unless_it_says_what_becomes_of_them() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory; streams keep;");
    let order = |streams, to_side: &'static str, timeout| {
        let hold = Some(HoldOptions { streams, ..HoldOptions::default() });
        let options = Options { hold, timeout, ..Options::default() };
        control.order("live", to(&[("a.example", to_side)], meta()), options)
    };
    data_plane.tell(|workers| workers.streams = 3);
    let refusal = order(HoldStreams::Refuse, "green", None).await.unwrap_err();
    assert_eq!(refusal.code, Code::NotDrained);
    assert!(refusal.text.starts_with("3 streams are open"), "{}", refusal.text);
    let waited = order(HoldStreams::Wait, "green", Some(Duration::from_millis(30))).await.unwrap_err();
    assert_eq!(waited.code, Code::NotDrained);
    assert!(waited.text.contains("3 streams still open"), "{}", waited.text);
    assert!(data_plane.ask(|workers| workers.closed.is_empty()));
    order(HoldStreams::Close, "green", None).await.unwrap();
    assert_eq!(data_plane.ask(|workers| (workers.closed.len(), workers.streams)), (1, 0));
    data_plane.tell(|workers| workers.streams = 3);
    let ends = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        data_plane.tell(|workers| workers.streams = 0);
    };
    let (receipt, ()) = tokio::join!(order(HoldStreams::Wait, "blue", None), ends);
    assert_eq!(receipt.unwrap().revision, 2);
    control.stop();
}

#[tokio::test]
async fn keys_and_reasons_are_escaped_in_the_log() {
    let folder = folder();
    let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&lines);
    let setup = crate::setup::Setup {
        config: config(folder.path(), &two_groups("")),
        listener: None,
        refused_peer: None,
        data_plane: FakeDataPlane::new(),
        clock_ms: Arc::new(|| 0),
        log: Arc::new(move |_, text| log.lock().unwrap().push(text.to_owned())),
        upgrades: false,
        file_default: crate::FileDefault::default(),
        window_times: crate::WindowTimes::default(),
    };
    let (control, _) = ControlHandle::start(setup).unwrap();
    let (actor, reason) = ("anna".to_owned(), Some("why\u{202e}not".to_owned()));
    let order =
        to(&[("a.example", "green")], Meta { actor: actor.clone(), reason: reason.clone(), ..meta() });
    control.order("live", order, Options::default()).await.unwrap();
    let options = HoldOptions::default();
    let hold = HoldOrder { key: key("a.example"), options, end: None, actor: actor.clone(), reason };
    control.hold("live", hold).await.unwrap();
    control.release("live", key("a.example"), None, actor, None).await.unwrap();
    control.stop();
    let lines = lines.lock().unwrap();
    assert_eq!(
        lines[..],
        [
            "switch \"live\" revision 1 (set) by anna: a.example default -> green (why\\u{202e}not)",
            "switch \"live\": a.example is held by anna (why\\u{202e}not)",
            "switch \"live\": a.example is released by anna, 0 waiting",
        ]
    );
}
