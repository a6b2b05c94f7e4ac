//! What is read of a history that has commits of many keys.

use super::*;
use crate::options::PastMoment;
use crate::store::read_rows;
use switch::Filter;

/// The number of keys of each large commit, and the number of those commits.
const LARGE: (usize, usize) = (2_000, 3);
/// What a change of one key may read: far less than a large commit.
const BOUND: usize = 150;

/// Returns a switch whose history has large commits, and small ones after them.
async fn start_long(prefix: &Path) -> ControlHandle {
    let (control, _) = start(prefix, "keys max=10000;");
    set(&control, "shop.example", "green").await.unwrap();
    for number in 0..LARGE.1 {
        let names: Vec<String> = (0..LARGE.0).map(|at| format!("k{at}.example")).collect();
        let route = ["green", "blue"][number % 2];
        let changes: Vec<(&str, &str)> = names.iter().map(|name| (&**name, route)).collect();
        control.order("live", to(&changes, meta()), Options::default()).await.unwrap();
    }
    for number in 0..6 {
        set(&control, "shop.example", ["blue", "green"][number % 2]).await.unwrap();
    }
    control
}

#[tokio::test]
async fn promise_18_commits_of_many_keys_are_not_read_by_what_concerns_others() {
    let folder = folder();
    let control = start_long(folder.path()).await;
    let file = folder.path().join("state/live.db");
    let read = |what: &str| {
        let read = read_rows::take(&file);
        assert!(read > 0 && read <= BOUND, "{what} has read {read} changes");
    };
    let route = |entry: Option<&Arc<switch::TableEntry>>| entry.map(|entry| entry.route.to_string());
    read_rows::take(&file);

    // Revisions 5 to 10 are the small ones.
    let past = control.table_at("live", PastMoment::Revision(7)).await.unwrap();
    assert_eq!(route(past.table.get(&key("shop.example"))).as_deref(), Some("blue"));
    assert_eq!((past.table.revision(), past.table.len()), (7, 2_001));
    read("a table of the past");
    let difference = control.diff("live", 5, 10).await.unwrap();
    assert_eq!(difference.keys.len(), 1);
    read("a difference");
    let options = || Options::default();
    control.undo("live", UndoWhat::Commit(10), meta(), options()).await.unwrap();
    read("undo of a commit");
    control.undo("live", UndoWhat::Last, meta(), options()).await.unwrap();
    read("undo of the last commit");
    let forced = Meta { force: true, ..meta() };
    control.undo("live", UndoWhat::Commit(1), forced, options()).await.unwrap();
    read("undo of a commit beneath the large ones");
    control.undo("live", UndoWhat::Keys(vec![key("shop.example")]), meta(), options()).await.unwrap();
    read("undo of a key");
    let waiting = Meta { confirm_within_ms: Some(1), ..meta() };
    let revision =
        control.order("live", to(&[("shop.example", "blue")], waiting), options()).await.unwrap().revision;
    until_reverted(&control, revision).await;
    read("a window that ends");

    // One of the large ones is read once for what it did, and not for what the others did.
    let past = control.table_at("live", PastMoment::Revision(3)).await.unwrap();
    assert_eq!(route(past.table.get(&key("k7.example"))).as_deref(), Some("blue"));
    let all = read_rows::take(&file);
    assert!((LARGE.0..LARGE.0 + BOUND).contains(&all), "{all} changes");
    control.stop();
}

/// Waits until a commit was not confirmed and has gone back.
async fn until_reverted(control: &ControlHandle, revision: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while control.show("live").await.unwrap().revision <= revision {
        assert!(Instant::now() < deadline, "the window never ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn past_tables_and_missing_revisions_are_told_apart_in_a_long_history() {
    let folder = folder();
    let control = start_long(folder.path()).await;
    let all = Filter { limit: 100, ..Default::default() };
    let history = control.history("live", all).await.unwrap();
    for commit in &history {
        let past = control.table_at("live", PastMoment::Revision(commit.revision)).await.unwrap();
        assert_eq!((past.table.revision(), past.time_ms), (commit.revision, Some(commit.time_ms)));
        let by_time = control.table_at("live", PastMoment::TimeMs(commit.time_ms)).await.unwrap();
        assert!(by_time.table.revision() >= commit.revision && by_time.time_ms == Some(commit.time_ms));
    }
    let begin = control.table_at("live", PastMoment::Revision(0)).await.unwrap();
    assert_eq!((begin.table.len(), begin.time_ms), (0, None));
    assert_eq!(control.diff("live", 4, 4).await.unwrap().keys, []);
    assert_eq!(control.diff("live", 0, 1).await.unwrap().keys.len(), 1);
    let unknown = control.table_at("live", PastMoment::Revision(99)).await.unwrap_err();
    assert_eq!(unknown.code, Code::UnknownRevision);
    control.stop();
}
