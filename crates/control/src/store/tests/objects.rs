//! What else than this version's tables a file may have: a trigger is carried out, whatever its rows say.

use super::*;
use crate::store::{RestoreOrder, restore, verify_backup};

const ADDED: [&str; 9] = [
    "CREATE TRIGGER t AFTER INSERT ON commits BEGIN DELETE FROM idempotency; END",
    "CREATE TRIGGER t AFTER INSERT ON pending BEGIN DELETE FROM pending; END",
    "CREATE TRIGGER t BEFORE UPDATE ON head BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER t AFTER INSERT ON unchanged BEGIN DELETE FROM unchanged; END",
    "CREATE VIEW v AS SELECT * FROM commits",
    "CREATE TABLE more (key TEXT REFERENCES entries (key))",
    "CREATE UNIQUE INDEX i ON commits (hash)",
    "ALTER TABLE commits ADD COLUMN more TEXT DEFAULT 'x'",
    "DROP INDEX changes_by_key",
];

#[test]
fn a_file_with_anything_else_in_it_is_damaged_and_is_not_restored() {
    for sql in ADDED {
        let folder = tempfile::tempdir().unwrap();
        let (path, writer) = written(folder.path(), 3);
        let backup = folder.path().join("backup");
        fs::write(&backup, writer.store.backup_bytes(&path).unwrap()).unwrap();
        drop(writer);
        Connection::open(&backup).unwrap().execute_batch(sql).unwrap();
        let fault = verify_backup(&backup).unwrap_err();
        assert_eq!(fault.kind, StoreFaultKind::Damaged, "{sql}: {fault}");
        let order = RestoreOrder { actor: "anna".into(), reason: None, now_ms: 5 };
        restore(&path, Some(&backup), &order).unwrap_err();
        verify_backup(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        assert_eq!(reopened(&path).map(drop).unwrap_err().kind, StoreFaultKind::Damaged, "{sql}");
    }
}

#[test]
fn a_trigger_that_comes_while_a_store_is_open_is_not_carried_out() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut writer) = written(folder.path(), 3);
    let other = Connection::open(&path).unwrap();
    other.execute_batch(ADDED[0]).unwrap();
    let meta = Meta { idempotency: Some("once".into()), ..Meta::default() };
    writer.take(writer.next(&[("a.example", Some("red"))], meta)).unwrap();
    assert!(writer.store.commit_by_idempotency("once").unwrap().is_some());
}

#[test]
fn a_log_that_is_cut_off_is_damage() {
    let error = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
    let kind = |code| super::super::fault::at("live.db", &error(code)).kind;
    assert_eq!(kind(rusqlite::ffi::SQLITE_IOERR_SHORT_READ), StoreFaultKind::Damaged);
    assert_eq!(kind(rusqlite::ffi::SQLITE_IOERR_READ), StoreFaultKind::Failed);
}
