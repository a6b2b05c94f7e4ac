//! Waits for what was ordered before.

use super::*;
use crate::CommitRef;

const SHORT: Option<Duration> = Some(Duration::from_millis(30));

#[tokio::test]
async fn promise_2_an_unchanged_order_waits_for_the_old_side_too() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    data_plane.tell(|workers| workers.in_flight = 3);
    set(&control, "a.example", "green").await.unwrap();
    let again = |timeout| {
        let options = Options { wait: Wait::Drained, timeout, ..Options::default() };
        control.order("live", to(&[("a.example", "green")], meta()), options)
    };
    let receipt = again(SHORT).await.unwrap();
    let drain = receipt.drain.unwrap();
    assert_eq!((receipt.outcome, receipt.revision), (Outcome::Unchanged, 1));
    assert_eq!((drain.state, drain.in_flight), (DrainState::Draining, 3));
    // It answers as soon as they have ended.
    let ends = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        data_plane.tell(|workers| workers.in_flight = 0);
    };
    let (receipt, ()) = tokio::join!(again(None), ends);
    assert_eq!(receipt.unwrap().drain.unwrap().state, DrainState::Drained);
    // Without a wait nothing is looked at.
    assert_eq!(set(&control, "a.example", "green").await.unwrap().drain, None);
    control.stop();
}

#[tokio::test]
async fn promise_2_a_wait_is_taken_up_by_revision_and_by_idempotency_key() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    data_plane.tell(|workers| workers.in_flight = 2);
    let named = Meta { idempotency: Some("ci-7".into()), ..meta() };
    control.order("live", to(&[("a.example", "green")], named), Options::default()).await.unwrap();
    for which in [CommitRef::Newest, CommitRef::Revision(1), CommitRef::Id("ci-7".into())] {
        let receipt = control.wait("live", which, Wait::Drained, SHORT).await.unwrap();
        assert_eq!((receipt.revision, receipt.drain.unwrap().in_flight), (1, 2));
    }
    // Newer commits have taken its place among those that are observed: it is looked for all the same.
    for number in 0..40 {
        set(&control, &format!("{number}.example"), "green").await.unwrap();
    }
    let receipt = control.wait("live", CommitRef::Revision(1), Wait::Drained, SHORT).await.unwrap();
    assert_eq!(receipt.drain.unwrap().in_flight, 2);
    data_plane.tell(|workers| workers.in_flight = 0);
    let receipt = control.wait("live", CommitRef::Revision(1), Wait::Drained, None).await.unwrap();
    assert_eq!(receipt.drain.unwrap().state, DrainState::Drained);
    let refusal = control.wait("live", CommitRef::Id("other".into()), Wait::None, None).await.unwrap_err();
    assert_eq!(refusal.code, Code::UnknownRevision);
    let refusal = control.wait("live", CommitRef::Revision(99), Wait::None, None).await.unwrap_err();
    assert_eq!(refusal.code, Code::UnknownRevision);
    control.stop();
}

#[tokio::test]
async fn promise_2_a_repeated_order_waits_as_the_first_did() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    data_plane.tell(|workers| workers.in_flight = 2);
    let order = |timeout| {
        let named = Meta { idempotency: Some("ci-7".into()), ..meta() };
        let options = Options { wait: Wait::Drained, timeout, ..Options::default() };
        control.order("live", to(&[("a.example", "green")], named), options)
    };
    order(SHORT).await.unwrap();
    let ends = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        data_plane.tell(|workers| workers.in_flight = 0);
    };
    let (receipt, ()) = tokio::join!(order(None), ends);
    let receipt = receipt.unwrap();
    assert_eq!((receipt.outcome, receipt.drain.unwrap().state), (Outcome::Repeated, DrainState::Drained));
    control.stop();
}

#[tokio::test]
async fn promise_8_an_awaited_drain_keeps_its_place() {
    let folder = folder();
    let (control, data_plane) = start(folder.path(), "state memory;");
    data_plane.tell(|workers| workers.in_flight = 1);
    let waiting = {
        let control = control.clone();
        let options = Options { wait: Wait::Drained, ..Options::default() };
        tokio::spawn(
            async move { control.order("live", to(&[("a.example", "green")], meta()), options).await },
        )
    };
    until("it is published", || data_plane.leads("a.example").is_some()).await;
    for number in 0..MAX_WATCHED.0 + 8 {
        set(&control, &format!("{number}.example"), "green").await.unwrap();
    }
    until("others gave way", || data_plane.ask(|workers| workers.forgotten.len() >= 8)).await;
    assert!(!waiting.is_finished());
    data_plane.tell(|workers| workers.in_flight = 0);
    let drain = waiting.await.unwrap().unwrap().drain.unwrap();
    assert_eq!(drain.state, DrainState::Drained);
    control.stop();
}
