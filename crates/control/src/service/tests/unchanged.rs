//! Orders that change nothing, and their repetition.

use super::*;

fn named(name: &str) -> Meta {
    Meta { idempotency: Some(name.into()), ..meta() }
}

#[tokio::test]
async fn promise_12_a_repeated_order_that_changed_nothing_is_known_to_the_next_process() {
    let folder = folder();
    let order = || to(&[("a.example", "green")], named("deploy-7"));
    let (control, _) = start(folder.path(), "");
    set(&control, "a.example", "green").await.unwrap();
    let first = control.order("live", order(), Options::default()).await.unwrap();
    assert_eq!((first.outcome, first.revision, &first.notes[..]), (Outcome::Unchanged, 1, &[][..]));
    control.stop();

    let (control, data_plane) = start(folder.path(), "");
    set(&control, "a.example", "blue").await.unwrap();
    let again = control.order("live", order(), Options::default()).await.unwrap();
    assert_eq!((again.outcome, again.revision), (Outcome::Unchanged, 1));
    let since: Vec<_> = again.changed_since.iter().map(|one| (&*one.key, one.revision)).collect();
    assert_eq!(since, [("a.example", 2)], "it says that the key was changed, and by which revision");
    assert_eq!(data_plane.leads("a.example").as_deref(), Some("blue"), "it is not carried out");
    assert_eq!(control.show("live").await.unwrap().revision, 2, "no revision is used up");
    let other = to(&[("b.example", "green")], named("deploy-7"));
    let refused = control.order("live", other, Options::default()).await.unwrap_err();
    assert_eq!(refused.code, Code::IdempotencyReused);
    control.stop();
}

#[tokio::test]
async fn an_order_whose_key_cannot_be_saved_is_answered_with_a_note() {
    let folder = folder();
    let (control, _) = start(folder.path(), "");
    set(&control, "a.example", "green").await.unwrap();
    let path = folder.path().join("state/live.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch("CREATE INDEX full ON unchanged (abs(-9223372036854775807 - 1 + 0 * time_ms))")
        .unwrap();
    let order = || to(&[("a.example", "green")], named("deploy-7"));
    let first = control.order("live", order(), Options::default()).await.unwrap();
    assert_eq!(first.outcome, Outcome::Unchanged);
    assert!(first.notes[0].contains("only until this process ends"), "{:?}", first.notes);
    set(&control, "a.example", "blue").await.unwrap();
    let again = control.order("live", order(), Options::default()).await.unwrap();
    assert_eq!((again.outcome, again.revision), (Outcome::Unchanged, 1), "this process still knows it");
    control.stop();
}
