//! Commits that go back by themselves.

use super::*;

fn within(ms: u64) -> Meta {
    Meta { confirm_within_ms: Some(ms), ..meta() }
}

#[tokio::test]
async fn what_nobody_confirms_goes_back() {
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
async fn of_two_windows_one_over_the_other_neither_leaves_an_unconfirmed_route() {
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
async fn undoing_a_decision_passes_over_what_was_not_confirmed_beneath_it() {
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
async fn what_is_confirmed_stays() {
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
async fn it_goes_back_before_the_first_request_if_its_time_passed_while_nothing_ran() {
    let folder = folder();
    let (first, _) = start(folder.path(), "");
    set(&first, "a.example", "blue=1 green=1").await.unwrap();
    first.order("live", to(&[("a.example", "green")], within(40)), Options::default()).await.unwrap();
    first.order("live", to(&[("a.example", "blue")], within(41)), Options::default()).await.unwrap();
    first.stop();
    let by = now_ms() + 41;
    until("the time has passed", || now_ms() > by).await;
    let data_plane = FakeDataPlane::new();
    let (second, tables) = open(&config(folder.path(), &two_groups("")), &data_plane).unwrap();
    // Both went back, the newer one first: it is as it was before either.
    assert_eq!(tables.tables[0].find(b"a.example").unwrap().route.to_string(), "blue=1 green=1");
    assert_eq!(tables.tables[0].revision(), 5);
    assert_eq!(second.verify("live").await.unwrap().fault, None);
    assert_eq!(second.events(Some(0)).missed.len(), 2, "it is told");
    second.stop();
}

#[tokio::test]
async fn it_goes_back_after_a_restart_too() {
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
async fn it_is_tried_again_until_the_store_takes_it() {
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
