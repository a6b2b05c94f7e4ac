//! Receipts after the switch: answers counted up to a horizon, and what cuts it short.

use super::*;

/// Returns a control plane with one switch whose answers are counted for so long.
fn start_watching(prefix: &Path, watch: &str) -> (ControlHandle, Arc<FakeDataPlane>) {
    let data_plane = FakeDataPlane::new();
    (open_watching(prefix, watch, &data_plane), data_plane)
}

fn open_watching(prefix: &Path, watch: &str, data_plane: &Arc<FakeDataPlane>) -> ControlHandle {
    let text = two_groups("").replace("$live {", &format!("$live watch={watch} {{"));
    open(&config(prefix, &text), data_plane).unwrap().0
}

async fn horizon(control: &ControlHandle, revision: u64) -> Horizon {
    control.receipt("live", revision).await.unwrap().horizon.unwrap()
}

/// Served and failed on the new side.
async fn counted(control: &ControlHandle, revision: u64) -> (u64, u64) {
    let drain = control.receipt("live", revision).await.unwrap().drain.unwrap();
    (drain.served_new, drain.failed_new)
}

fn cut(why: &str) -> (HorizonState, Option<String>) {
    (HorizonState::CutShort, Some(why.to_owned()))
}

#[tokio::test]
async fn promise_8_later_answers_update_the_receipt_and_make_events() {
    let folder = folder();
    let (control, data_plane) = start_watching(folder.path(), "3s");
    data_plane.answer("a.example", 100, 1);
    let options = Options { wait: Wait::Drained, ..Options::default() };
    let receipt = control.order("live", to(&[("a.example", "green")], meta()), options).await.unwrap();
    let begun = receipt.horizon.unwrap();
    assert_eq!(begun.state, HorizonState::Watching);
    assert_eq!(begun.until_ms, receipt.time_ms + 3_000);
    let mut events = control.events(None).live;
    let mut next = async || loop {
        let event = events.recv().await.unwrap();
        if let EventKind::Receipt(receipt) = &event.kind {
            break receipt.clone();
        }
    };
    data_plane.answer("a.example", 500, 40);
    // Of another key, of requests that it has not routed, and of the old side.
    data_plane.answer("b.example", 7, 7);
    data_plane.answer_late("a.example", "blue", 0, (5, 5));
    assert_eq!(counted(&control, 1).await, (500, 40));
    let sides = horizon(&control, 1).await.targets;
    let of = |name: &str| sides.iter().find(|side| side.target == name).unwrap();
    assert_eq!((of("blue").before.requests, of("blue").before.failed), (100, 1));
    assert_eq!((of("green").before.requests, of("blue").after.requests), (0, 0));
    let after = of("green").after;
    assert_eq!((after.requests, after.failed, after.streams), (500, 40, 0));
    assert!(after.p50_us.is_some() && after.p99_us.is_some());
    let told = next().await;
    assert_eq!(told.drain.as_ref().unwrap().failed_new, 40);
    assert_eq!(told.horizon.as_ref().unwrap().state, HorizonState::Watching);
    let last = next().await;
    assert_eq!(last.horizon.as_ref().unwrap().state, HorizonState::Complete);
    assert!(last.horizon.as_ref().unwrap().span_us >= 3_000_000);
    // What comes later is not in it, and it is kept.
    data_plane.answer("a.example", 9, 9);
    assert_eq!(counted(&control, 1).await, (500, 40));
    control.stop();
    let control = open_watching(folder.path(), "3s", &data_plane);
    assert_eq!(counted(&control, 1).await, (500, 40));
    assert_eq!(horizon(&control, 1).await.state, HorizonState::Complete);
    control.stop();
}

#[tokio::test]
async fn promise_8_an_order_says_how_long_its_answers_are_counted() {
    let folder = folder();
    let (control, _) = start_watching(folder.path(), "1m");
    let watched = Meta { watch_ms: Some(400), ..meta() };
    let options = Options { wait: Wait::Drained, ..Options::default() };
    let receipt = control.order("live", to(&[("a.example", "green")], watched), options).await.unwrap();
    assert_eq!(receipt.horizon.unwrap().until_ms, receipt.time_ms + 400);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while horizon(&control, 1).await.state != HorizonState::Complete {
        assert!(tokio::time::Instant::now() < deadline, "it is watched for longer");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let next = set(&control, "a.example", "blue").await.unwrap();
    assert_eq!(next.horizon.unwrap().until_ms, next.time_ms + 60_000, "the switch's own time is unchanged");
    control.stop();
}

#[tokio::test]
async fn promise_8_an_answer_counts_for_the_commit_that_routed_it() {
    let folder = folder();
    let (control, data_plane) = start_watching(folder.path(), "1m");
    set(&control, "a.example", "green").await.unwrap();
    set(&control, "*.example", "green").await.unwrap();
    data_plane.answer("a.example", 10, 0);
    data_plane.answer("b.example", 20, 0);
    // It falls back to the wildcard.
    set(&control, "a.example", "").await.unwrap();
    data_plane.answer("a.example", 40, 4);
    data_plane.answer("b.example", 80, 0);
    data_plane.answer_late("a.example", "green", 1, (1, 1));
    assert_eq!(counted(&control, 1).await, (11, 1));
    assert_eq!(counted(&control, 2).await, (100, 0));
    assert_eq!(counted(&control, 3).await, (40, 4));
    control.stop();
}

#[tokio::test]
async fn promise_8_a_horizon_that_is_cut_short_says_why() {
    let folder = folder();
    let (control, data_plane) = start_watching(folder.path(), "1h");
    set(&control, "a.example", "green").await.unwrap();
    data_plane.answer("a.example", 10, 10);
    set(&control, "a.example", "blue").await.unwrap();
    set(&control, "b.example", "green").await.unwrap();
    let state = async |control: &ControlHandle, revision| {
        let horizon = horizon(control, revision).await;
        (horizon.state, horizon.cut_short)
    };
    // By a newer commit, once its own drain is over.
    let deadline = Instant::now() + Duration::from_secs(20);
    while state(&control, 1).await.0 == HorizonState::Watching {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(state(&control, 1).await, cut("revision 2 changed its keys"));
    assert_eq!(counted(&control, 1).await, (10, 10));
    assert_eq!(state(&control, 2).await.0, HorizonState::Watching);
    // By the end of the process.
    control.stop();
    let control = open_watching(folder.path(), "1h", &data_plane);
    assert_eq!(state(&control, 3).await, cut(reasons::ENDED));
    // By a reload.
    set(&control, "c.example", "green").await.unwrap();
    let http = two_groups("").replace("$live {", "$life from=live {");
    let next = config(folder.path(), &http);
    let prepared = {
        let control = control.clone();
        tokio::task::spawn_blocking(move || control.prepare_reload(&next)).await.unwrap().unwrap()
    };
    tokio::task::spawn_blocking(|| prepared.store().unwrap().commit()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let kept = loop {
        let kept = control.receipt("life", 4).await.unwrap().horizon;
        // Between its removal from those in progress and its record there is none.
        let Some(horizon) = kept else {
            assert!(Instant::now() < deadline, "it is not recorded");
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if horizon.cut_short.as_deref() == Some(reasons::RELOADED) || Instant::now() > deadline {
            break horizon;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((kept.state, kept.cut_short), cut(reasons::RELOADED));
    control.stop();
}

#[tokio::test]
async fn promise_8_too_many_keys_cut_the_horizon_of_what_needs_them() {
    let folder = folder();
    let (control, data_plane) = start_watching(folder.path(), "1h");
    set(&control, "*.example", "green").await.unwrap();
    set(&control, "*.example", "").await.unwrap();
    set(&control, "a.example", "green").await.unwrap();
    // More than the collector's bound.
    for number in 0..4_200 {
        data_plane.answer(&format!("{number}.example"), 1, 0);
    }
    data_plane.answer("a.example", 3, 1);
    assert_eq!(counted(&control, 3).await, (3, 1));
    let horizon_of_2 = horizon(&control, 2).await;
    assert_eq!((horizon_of_2.state, horizon_of_2.cut_short), cut(reasons::TOO_MANY_KEYS));
    assert_eq!(horizon(&control, 3).await.state, HorizonState::Watching);
    control.stop();
}
