//! Orders, their receipts, and what is known afterwards.

use super::*;
use crate::info::EntryQuery;
use std::sync::atomic::{AtomicUsize, Ordering};
use switch::Filter;
use tokio::sync::oneshot;

#[tokio::test]
async fn a_commit_is_stored_published_acknowledged_and_reported() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    let reason = Meta { reason: Some("release 7".into()), ..meta() };
    let options = Options { wait: Wait::Drained, ..Options::default() };
    let receipt = control.order("live", to(&[("shop.example", "green")], reason), options).await.unwrap();
    assert_eq!((receipt.revision, receipt.outcome, &*receipt.kind), (1, Outcome::Committed, "set"));
    let change = &receipt.changes[0];
    assert_eq!((&*change.key, &change.from, change.to.as_deref()), ("shop.example", &None, Some("green")));
    assert_eq!((receipt.workers.len(), receipt.workers_asked), (2, 2));
    let drain = receipt.drain.unwrap();
    assert_eq!((drain.state, drain.served_new, drain.failed_new), (DrainState::Drained, 0, 0));
    assert!(drain.first_new_us.is_some() && drain.last_old_us.is_some());
    assert_eq!(data_plane.leads("shop.example").as_deref(), Some("green"));
    let watch = data_plane.ask(|workers| workers.watches[0].clone());
    assert_eq!((watch.before.revision(), watch.after.revision()), (0, 1));
    assert_eq!(watch.changes, [key("shop.example")]);

    let history = control.history("live", Filter { limit: 9, ..Default::default() }).await.unwrap();
    assert_eq!(history[0].reason.as_deref(), Some("release 7"));
    let verified = control.verify("live").await.unwrap();
    assert_eq!((verified.commits, verified.fault), (1, None));
    assert_eq!(verified.hash, history[0].hash.to_string());
    let state = control.show("live").await.unwrap();
    assert_eq!((state.revision, state.keys, state.store_fault), (1, 1, None));
    assert_eq!(state.file.unwrap(), folder.path().join("state/live.db"));
    // The receipt is there while it is followed, and afterwards.
    assert_eq!(control.receipt("live", 1).await.unwrap().revision, 1);
    until("the watch is forgotten", || data_plane.ask(|workers| workers.forgotten == [watch.id])).await;
    assert_eq!(control.receipt("live", 1).await.unwrap().workers.len(), 2);
    assert_eq!(control.receipt("live", 2).await.unwrap_err().code, Code::UnknownRevision);
    assert_eq!(control.show("life").await.unwrap_err().code, Code::UnknownSwitch);
    control.stop();
    assert_eq!(control.list().await.unwrap_err().code, Code::Stopping);

    // And after a restart.
    let (control, tables) = open(&config(folder.path(), &two_groups("")), &FakeDataPlane::new()).unwrap();
    assert_eq!(tables.tables[0].find(b"shop.example").unwrap().route.to_string(), "green");
    assert_eq!(control.receipt("live", 1).await.unwrap().workers.len(), 2);
    control.stop();
}

#[tokio::test]
async fn an_unchanged_order_makes_no_commit() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    set(&control, "a.example", "green").await.unwrap();
    let receipt = set(&control, "a.example", "green").await.unwrap();
    assert_eq!((receipt.outcome, receipt.revision), (Outcome::Unchanged, 1));
    assert_eq!(data_plane.ask(|workers| workers.published.len()), 1);
    control.stop();
}

#[tokio::test]
async fn an_order_repeated_under_its_idempotency_key_is_one_commit() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    let named = || Meta { idempotency: Some("deploy-7".into()), ..meta() };
    let order = || to(&[("a.example", "green")], named());
    let (first, second) = tokio::join!(
        control.order("live", order(), Options::default()),
        control.order("live", order(), Options::default())
    );
    let mut outcomes = [first.unwrap(), second.unwrap()].map(|receipt| (receipt.revision, receipt.outcome));
    outcomes.sort_by_key(|(_, outcome)| *outcome == Outcome::Repeated);
    assert_eq!(outcomes, [(1, Outcome::Committed), (1, Outcome::Repeated)]);
    let other = to(&[("a.example", "blue")], named());
    let refusal = control.order("live", other, Options::default()).await.unwrap_err();
    assert_eq!(refusal.code, Code::IdempotencyReused);
    // The last undo repeated is not another undo.
    set(&control, "a.example", "blue").await.unwrap();
    let named = || Meta { idempotency: Some("back".into()), ..meta() };
    for outcome in [Outcome::Committed, Outcome::Repeated] {
        let receipt = control.undo("live", UndoWhat::Last, named(), Options::default()).await.unwrap();
        assert_eq!((receipt.revision, receipt.outcome), (3, outcome));
    }
    control.stop();
}

/// However far the first one is when the second comes: it gets what became of the first, never that all is done.
#[tokio::test]
async fn an_order_that_comes_twice_at_once_is_one_commit() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    for revision in 1..=100 {
        let order = |pause: Duration| {
            let route = if revision % 2 == 0 { "blue" } else { "green" };
            let meta = Meta {
                idempotency: Some(format!("deploy-{revision}")),
                expect: (revision % 3 == 0).then_some(revision - 1),
                ..meta()
            };
            let order = to(&[("a.example", route)], meta);
            let options = Options { wait: Wait::None, ..Options::default() };
            let control = control.clone();
            async move {
                let due = Instant::now() + pause;
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                control.order("live", order, options).await.unwrap()
            }
        };
        let second = order(Duration::from_micros(revision * 97 % 1500));
        let (first, second) = tokio::join!(order(Duration::ZERO), second);
        assert_eq!((first.revision, second.revision), (revision, revision));
        assert_ne!(first.outcome, second.outcome);
        for outcome in [first.outcome, second.outcome] {
            assert!(matches!(outcome, Outcome::Committed | Outcome::Repeated), "{revision}: {outcome:?}");
        }
    }
    // Of an undo, too: the second does not take back one commit more.
    for revision in 101..=150 {
        let named = || Meta { idempotency: Some(format!("back-{revision}")), ..meta() };
        let undo = || control.undo("live", UndoWhat::Last, named(), Options::default());
        let (first, second) = tokio::join!(undo(), undo());
        assert_eq!((first.unwrap().revision, second.unwrap().revision), (revision, revision));
    }
    control.stop();
}

#[tokio::test]
async fn of_two_writers_with_the_same_expectation_one_wins() {
    let folder = folder();
    let (control, _) = start(folder.path(), "state memory;");
    let won = Arc::new(AtomicUsize::new(0));
    for revision in 0..200 {
        let expect = |route: &'static str| {
            let (control, won) = (control.clone(), won.clone());
            async move {
                let meta = Meta { expect: Some(revision), ..meta() };
                let order = to(&[("a.example", route)], meta);
                let options = Options { wait: Wait::None, ..Options::default() };
                match control.order("live", order, options).await {
                    Ok(receipt) => {
                        assert_eq!(receipt.revision, revision + 1);
                        won.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(refusal) => assert_eq!(refusal.code, Code::RevisionConflict),
                }
            }
        };
        // Each is a change from whatever the round before has left.
        let (one, two) =
            if revision % 2 == 0 { ("green", "green=1 blue=1") } else { ("blue", "green=1 blue=2") };
        let both = (tokio::spawn(expect(one)), tokio::spawn(expect(two)));
        both.0.await.unwrap();
        both.1.await.unwrap();
    }
    assert_eq!(won.load(Ordering::Relaxed), 200);
    assert_eq!(control.verify("live").await.unwrap().commits, 200);
    control.stop();
}

#[tokio::test]
async fn undo_walks_back_by_key_by_commit_and_by_the_last() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    let both = to(&[("a.example", "green"), ("b.example", "green")], meta());
    control.order("live", both, Options::default()).await.unwrap();
    set(&control, "a.example", "blue=1 green=1").await.unwrap();
    let undo = |what| control.undo("live", what, meta(), Options::default());
    assert_eq!(undo(UndoWhat::Commit(1)).await.unwrap_err().code, Code::ChangedSince);
    assert_eq!(undo(UndoWhat::Commit(9)).await.unwrap_err().code, Code::UnknownRevision);
    undo(UndoWhat::Keys(vec![key("a.example")])).await.unwrap();
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("green"));
    // The newest that still stands is the first one now.
    let receipt = undo(UndoWhat::Last).await.unwrap();
    assert_eq!((receipt.changes.len(), &*receipt.kind), (2, "undo"));
    assert_eq!(data_plane.leads("a.example"), None);
    assert_eq!(undo(UndoWhat::Last).await.unwrap_err().code, Code::NothingToUndo);
    assert_eq!(undo(UndoWhat::Keys(vec![key("c.example")])).await.unwrap_err().code, Code::NothingToUndo);
    control.stop();
}

#[tokio::test]
async fn a_dry_run_reports_and_does_nothing() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    data_plane.tell(|workers| (workers.in_flight, workers.streams) = (4, 2));
    let rehearsed = Options { dry_run: true, ..Options::default() };
    let receipt =
        control.order("live", to(&[("a.example", "green")], meta()), rehearsed.clone()).await.unwrap();
    assert_eq!((receipt.outcome, receipt.revision), (Outcome::WouldCommit, 0));
    assert_eq!((receipt.changes[0].in_flight, receipt.changes[0].streams), (Some(4), Some(2)));
    let refusal = control.order("live", to(&[("a.example", "red")], meta()), rehearsed).await.unwrap_err();
    assert_eq!(refusal.code, Code::UnknownTarget);
    assert_eq!(data_plane.ask(|workers| workers.published.len()), 0);
    assert_eq!(control.verify("live").await.unwrap().commits, 0);
    control.stop();
}

#[tokio::test]
async fn an_answer_waits_for_the_drain_as_long_as_asked() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    data_plane.tell(|workers| workers.in_flight = 5);
    let options =
        Options { wait: Wait::Drained, timeout: Some(Duration::from_millis(30)), ..Options::default() };
    let receipt = control.order("live", to(&[("a.example", "green")], meta()), options).await.unwrap();
    let drain = receipt.drain.unwrap();
    assert_eq!((drain.state, drain.in_flight, drain.last_old_us), (DrainState::Draining, 5, None));
    assert_eq!(receipt.workers[0].in_flight_old, 5);
    let state = control.show("live").await.unwrap();
    assert_eq!((state.draining.len(), state.draining[0].0), (1, 1));
    // It is followed on, and told when it is over.
    let mut events = control.events(None).live;
    data_plane.tell(|workers| workers.in_flight = 0);
    let drained = loop {
        let event = events.recv().await.unwrap();
        if let EventKind::Drained(receipt) = &event.kind {
            break receipt.clone();
        }
    };
    assert_eq!(drained.drain.as_ref().unwrap().state, DrainState::Drained);
    assert!(control.show("live").await.unwrap().draining.is_empty());
    control.stop();
}

#[tokio::test]
async fn streams_are_kept_or_closed_as_the_policy_says() {
    let folder = folder();
    let drained = Options { wait: Wait::Drained, ..Options::default() };
    for (policy, closed) in [
        ("streams keep;", None),
        ("streams close after=20ms;", Some(0)),
        ("streams close spread=7s;", Some(7000)),
    ] {
        let (control, data_plane) = start(folder.path(), &format!("state memory; {policy}"));
        data_plane.tell(|workers| workers.streams = 3);
        let order = to(&[("a.example", "green")], meta());
        let receipt = control.order("live", order, drained.clone()).await.unwrap();
        let drain = receipt.drain.unwrap();
        assert_eq!(drain.state, DrainState::Drained);
        assert_eq!(drain.streams, if closed.is_some() { 0 } else { 3 }, "{policy}");
        let asked = data_plane.ask(|workers| workers.closed.clone());
        assert_eq!(asked.iter().map(|(_, spread)| *spread).next(), closed, "{policy}");
        control.stop();
    }
}

#[tokio::test]
async fn many_switches_in_a_row_are_not_all_followed() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory; streams close after=1h;");
    data_plane.tell(|workers| workers.in_flight = 1);
    for number in 0..MAX_WATCHED.0 + 8 {
        set(&control, &format!("{number}.example"), "green").await.unwrap();
    }
    // The oldest gave way, and the streams they were to close later are closed.
    until("eight watches are forgotten", || data_plane.ask(|workers| workers.forgotten.len() == 8)).await;
    assert_eq!(data_plane.ask(|workers| workers.closed.len()), 8);
    assert_eq!(control.show("live").await.unwrap().draining.len(), MAX_WATCHED.0);
    let horizon = control.receipt("live", 1).await.unwrap().horizon.unwrap();
    assert_eq!(horizon.state, HorizonState::CutShort);
    assert_eq!(horizon.cut_short.as_deref(), Some(reasons::EVICTED));
    control.stop();
}

#[tokio::test]
async fn a_store_that_fails_refuses_the_switch_and_the_table_stays() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    set(&control, "a.example", "green").await.unwrap();
    let (file, away) = (folder.path().join("state/live.db"), folder.path().join("away.db"));
    std::fs::rename(&file, &away).unwrap();
    let mut events = control.events(None).live;
    let refusal = set(&control, "a.example", "blue").await.unwrap_err();
    assert_eq!(refusal.code, Code::StoreFailed);
    assert!(refusal.text.contains("it was moved or replaced"), "{refusal}");
    let event = loop {
        let event = events.recv().await.unwrap();
        if event.kind.name() == "store_failed" {
            break event;
        }
    };
    assert_eq!(&*event.switch, "live");
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("green"));
    assert!(control.show("live").await.unwrap().store_fault.is_some());
    std::fs::rename(&away, &file).unwrap();
    set(&control, "a.example", "blue").await.unwrap();
    assert!(control.show("live").await.unwrap().store_fault.is_none());
    control.stop();
}

#[tokio::test]
async fn commits_of_another_process_are_published() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    let other = FakeDataPlane::new();
    let (second, _) = open(&config(folder.path(), &two_groups("")), &other).unwrap();
    set(&control, "a.example", "green").await.unwrap();
    // An order of the one that does not know it yet is held against it.
    let receipt = set(&second, "b.example", "green").await.unwrap();
    assert_eq!(receipt.revision, 2);
    assert_eq!(other.leads("a.example").as_deref(), Some("green"));
    until("the first one follows", || data_plane.leads("b.example").is_some()).await;
    let expects = Meta { expect: Some(2), ..meta() };
    control.order("live", to(&[("c.example", "green")], expects), Options::default()).await.unwrap();
    control.stop();
    second.stop();
}

#[tokio::test]
async fn an_order_undone_by_another_process_is_carried_out_anew() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    let other = FakeDataPlane::new();
    let (second, _) = open(&config(folder.path(), &two_groups("")), &other).unwrap();
    for turn in 0..20 {
        // To each process that is asked, it looks as if nothing had to change, unless it has heard of the other's commit.
        let green = set(&control, "a.example", "green").await.unwrap();
        let blue = set(&second, "a.example", "blue").await.unwrap();
        assert_eq!([green.revision, blue.revision], [2 * turn + 1, 2 * turn + 2]);
        assert_eq!([green.outcome, blue.outcome], [Outcome::Committed; 2]);
    }
    let expects = Meta { expect: Some(40), ..meta() };
    let to_confirm = Meta { confirm_within_ms: Some(60_000), ..expects };
    control.order("live", to(&[("a.example", "green")], to_confirm), Options::default()).await.unwrap();
    assert_eq!(second.confirm("live", None, meta()).await.unwrap().revision, 42);
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("green"));
    control.stop();
    second.stop();
}

#[tokio::test]
async fn a_retired_control_plane_refuses_orders_and_follows_another_process() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    let (second, _) = open(&config(folder.path(), &two_groups("")), &FakeDataPlane::new()).unwrap();
    control.retire();
    // A caller that asked before the commit was acknowledged still gets an answer.
    while control.list().await.is_ok() {}
    assert_eq!(set(&control, "a.example", "green").await.unwrap_err().code, Code::Stopping);
    assert_eq!(set(&second, "a.example", "green").await.unwrap().revision, 1);
    until("it follows", || data_plane.leads("a.example").as_deref() == Some("green")).await;
    control.stop();
    second.stop();
}

#[tokio::test]
async fn entries_come_in_order_and_in_pages() {
    let folder = folder();
    let (control, _) = start(folder.path(), "state memory;");
    let names: Vec<String> = (0..50).map(|number| format!("k{number:02}.example")).collect();
    let changes: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, name)| (&**name, ["green", "blue=1 green=2", "blue"][n % 3]))
        .collect();
    control.order("live", to(&changes, meta()), Options::default()).await.unwrap();
    let mut query = EntryQuery { limit: 20, ..EntryQuery::default() };
    let mut seen = Vec::new();
    loop {
        let page = control.entries("live", query.clone()).await.unwrap();
        seen.extend(page.entries.iter().map(|entry| entry.key.to_string()));
        assert_eq!(page.revision, 1);
        if !page.more {
            break;
        }
        query.after = seen.last().cloned();
    }
    assert_eq!(seen, names);
    let query =
        EntryQuery { target: Some("green".into()), contains: Some("k1".into()), ..EntryQuery::default() };
    let page = control.entries("live", query).await.unwrap();
    assert_eq!(page.entries.len(), 7);
    control.stop();
}

#[tokio::test]
async fn a_script_sets_a_key_and_hears_why_not() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "");
    let ask = |key: &'static [u8], target: Option<&'static [u8]>| {
        let (sender, answer) = oneshot::channel();
        let reply = Box::new(move |result: Result<u64, Refusal>| drop(sender.send(result)));
        control.set_from_lua("live", key, target, "lua:conf.lua:3".into(), reply);
        async { answer.await.unwrap() }
    };
    assert_eq!(ask(b"Shop.Example:80", Some(b"green")).await.unwrap(), 1);
    assert_eq!(data_plane.leads("shop.example").as_deref(), Some("green"));
    assert_eq!(ask(b"shop.example", Some(b"red")).await.unwrap_err().code, Code::UnknownTarget);
    for no in [&b"a b"[..], b"*", b"*.example", b"upstream_time-sum"] {
        assert_eq!(ask(no, Some(b"green")).await.unwrap_err().code, Code::BadKey, "{}", no.escape_ascii());
    }
    assert_eq!(ask(b"shop.example", Some(b"\xff=")).await.unwrap_err().code, Code::BadRoute);
    assert_eq!(ask(b"shop.example", None).await.unwrap(), 2);
    let history = control.history("live", Filter { limit: 1, ..Default::default() }).await.unwrap();
    assert_eq!(history[0].actor, "lua:conf.lua:3");
    control.stop();
}

#[tokio::test]
async fn workers_that_do_not_answer_are_named_and_not_waited_for_beyond_the_timeout() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    data_plane.tell(|workers| workers.silent = 1);
    let options = Options { timeout: Some(Duration::from_millis(20)), ..Options::default() };
    let receipt = control.order("live", to(&[("a.example", "green")], meta()), options).await.unwrap();
    assert_eq!((receipt.workers.len(), receipt.workers_asked), (1, 2));
    control.stop();
}
