//! The formats of a file: one of 0.1.0 is adopted, and what a newer program writes is kept.

use super::*;
use switch::{BootTime, CommitKind, SubjectChange};

const FORMAT_1: &str = include_str!("format_1.sql");
/// The last hash in it.
const LAST: &str = "d71a350fc1e9a2f78e00ff33e18f7db33531b2b994a1f6d51ec9096d24b56d08";

fn version(path: &Path) -> i32 {
    let connection = Connection::open(path).unwrap();
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// Returns a store as 0.1.0 left it.
fn first(folder: &Path) -> PathBuf {
    let path = folder.join("live.db");
    Connection::open(&path).unwrap().execute_batch(FORMAT_1).unwrap();
    path
}

fn check_first(table: &Table, history: &[Commit]) {
    let chain = switch::verify_chain(&history[..4]).unwrap();
    assert_eq!((chain.revision, chain.hash.to_string().as_str()), (4, LAST));
    let routes: Vec<String> = ["shop.example.com", "*.example.org", "pay.example.com"]
        .map(|name| table.get(&key(name)).unwrap().route.to_string())
        .to_vec();
    assert_eq!(routes, ["green", "green=10 blue=90", "green"]);
}

fn server_down(writer: &Writer, kind: &str) -> Commit {
    let down = SubjectChange {
        subject: "server".into(),
        name: "green/127.0.0.1:8083".into(),
        before: None,
        after: Some("down".into()),
        undoes: None,
    };
    let commit = writer.next(&[("a.example", Some("red"))], Meta::default());
    Commit { kind: CommitKind::from_parts(kind, None), changes: Vec::new(), subjects: vec![down], ..commit }
        .sealed()
}

#[test]
fn a_store_of_the_first_version_is_adopted_with_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let path = first(folder.path());
    let mut writer = Writer::open(&path);
    check_first(&writer.table, &writer.store.since(0).unwrap());
    assert_eq!(writer.pending.len(), 1);
    assert!(writer.store.takes_form_2());
    writer.take(server_down(&writer, "server")).unwrap();
    writer.set("a.example", Some("red")).unwrap();
    drop(writer);
    assert_eq!(version(&path), 2);
    let (loaded, history) = reopened(&path).unwrap();
    check_first(&loaded.table, &history);
    assert_eq!(switch::verify_chain(&history).unwrap().revision, 6);
    assert_eq!(history[5].form(), 1, "what needs nothing new is written as ever");

    // The way back to the first version: the copy that was kept is what the file was.
    let kept = folder.path().join("live.db.format-1");
    assert_eq!(version(&kept), 1);
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let connection = Connection::open(&kept).unwrap();
    let (revision, hash): (i64, Vec<u8>) = connection
        .query_row("SELECT revision, hash FROM head", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!((revision, Hash(hash.try_into().unwrap()).to_string().as_str()), (4, LAST));
    connection.query_row("SELECT count(undoes) FROM changes", [], |row| row.get::<_, i64>(0)).unwrap();
}

#[test]
fn a_file_that_an_old_program_has_open_keeps_its_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = first(folder.path());
    // As the old process of a binary upgrade has it.
    let old = Connection::open(&path).unwrap();
    let read = || old.query_row("SELECT revision FROM head", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(read(), 4);
    let mut writer = Writer::open(&path);
    assert!(!writer.store.takes_form_2());
    check_first(&writer.table, &writer.store.since(0).unwrap());
    // Orders of today's kinds are taken, and the old program reads them.
    writer.set("a.example", Some("red")).unwrap();
    assert_eq!((read(), version(&path)), (5, 1));
    let commit = server_down(&writer, "server");
    let fault = writer.store.commit(&commit).unwrap_err();
    assert_eq!(fault.kind, StoreFaultKind::Older, "{fault}");
    assert!(fault.text.contains("\"server\"") && fault.remedy.contains("old process"), "{fault}");
    writer.store.idle();
    assert!(!writer.store.takes_form_2());
    assert_eq!(read(), 5);
    // A deadline by the clock of the boot is left out, not the order with it.
    let confirm = Meta { confirm_within_ms: Some(60_000), ..Meta::default() };
    let by = BootTime { boot: 7, ms: 9 };
    let commit = writer.next(&[("b.example", Some("red"))], confirm).with_confirm_by_boot(by);
    assert_eq!(writer.store.commit(&commit).unwrap_err().kind, StoreFaultKind::Older);
    writer.take(commit.without_optional()).unwrap();
    // Once the old one has gone, the file is moved to the new format in a quiet moment.
    old.close().unwrap();
    writer.store.idle();
    assert!(writer.store.takes_form_2());
    assert_eq!(version(&path), 2);
    writer.take(server_down(&writer, "server")).unwrap();
    let (loaded, history) = reopened(&path).unwrap();
    check_first(&loaded.table, &history);
    assert_eq!(loaded.table.revision(), 7);
}

#[test]
fn records_of_a_newer_program_are_kept_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut writer) = written(folder.path(), 3);
    let mut commit = server_down(&writer, "promote");
    let mut change = writer.next(&[("a.example", Some("red"))], Meta::default()).changes;
    commit.changes.append(&mut change);
    commit.subjects[0].subject = "moon".into();
    commit.extra.insert("phase".into(), "full \"quoted\"\u{1f315}".into());
    let commit = commit.sealed();
    writer.take(commit.clone()).unwrap();
    writer.set("b.example", Some("red")).unwrap();
    drop(writer);
    let (loaded, history) = reopened(&path).unwrap();
    assert_eq!(switch::verify_chain(&history).unwrap().revision, 5);
    assert_eq!(history[3], commit);
    // What it does to keys follows from its changes, and what is no key is kept for those who know it.
    assert_eq!(loaded.table.get(&key("a.example")).unwrap().revision, 4);
    let value = loaded.table.subjects().get("moon", "green/127.0.0.1:8083").unwrap();
    assert_eq!((value.value.as_str(), value.revision), ("down", 4));
    let mut store = SqliteStore::open(&path, KIND).unwrap();
    let changes = store.changes_of(&key("a.example"), None, 9).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(store.page(0, 9).unwrap(), history);
}

#[test]
fn a_subject_named_like_a_key_is_no_change_of_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut writer) = written(folder.path(), 1);
    let mut commit = server_down(&writer, "hold");
    commit.subjects[0].name = "shop-0.example.com".into();
    writer.take(commit.sealed()).unwrap();
    drop(writer);
    let mut store = SqliteStore::open(&path, KIND).unwrap();
    let about = key("shop-0.example.com");
    assert_eq!(store.changes_of(&about, None, 9).unwrap().len(), 1);
    let found = store
        .history(&Filter { key: Some(about), before_revision: None, limit: 9, ..Default::default() })
        .unwrap();
    assert_eq!(found.iter().map(|commit| commit.revision).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_restore_may_leave_revisions_out_and_nothing_else_may() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut writer) = written(folder.path(), 3);
    let far = |writer: &Writer, kind: CommitKind| {
        let commit = writer.next(&[("a.example", Some("red"))], Meta::default());
        Commit { revision: 9, changes: Vec::new(), kind, ..commit }.sealed()
    };
    let fault = writer.take(far(&writer, CommitKind::Default)).unwrap_err();
    assert_eq!(fault.kind, StoreFaultKind::Conflict);
    writer.take(far(&writer, CommitKind::Restore)).unwrap();
    writer.set("a.example", Some("red")).unwrap();
    drop(writer);
    let (loaded, history) = reopened(&path).unwrap();
    assert_eq!((loaded.table.revision(), history.len()), (10, 5));
    assert_eq!(SqliteStore::open(&path, KIND).unwrap().page(0, 9).unwrap().len(), 5);
}
