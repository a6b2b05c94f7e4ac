//! Orders that changed nothing: remembered without a revision, within bounds.

use super::*;

fn order(revision: u64, time_ms: u64) -> UnchangedOrder {
    UnchangedOrder { digest: [revision as u8; 32], revision, time_ms }
}

fn rows(path: &Path) -> i64 {
    Connection::open(path).unwrap().query_row("SELECT count(*) FROM unchanged", [], |row| row.get(0)).unwrap()
}

#[test]
fn promise_12_an_order_that_changed_nothing_is_remembered_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("live.db");
    let mut writer = Writer::open(&path);
    writer.set("a.example", Some("green")).unwrap();
    writer.store.save_unchanged("deploy-7", &order(1, 5)).unwrap();
    let hash = writer.hash;
    // Another process at the same store knows it at once.
    assert_eq!(Writer::open(&path).store.unchanged("deploy-7").unwrap(), Some(order(1, 5)));
    drop(writer);
    let mut writer = Writer::open(&path);
    assert_eq!(writer.store.unchanged("deploy-7").unwrap(), Some(order(1, 5)));
    assert_eq!(writer.store.unchanged("deploy-8").unwrap(), None);
    assert_eq!((writer.table.revision(), writer.hash), (1, hash), "no revision was used up");
    writer.set("a.example", Some("blue")).unwrap();
    let mut store = FileStore::open(&path, KIND).unwrap();
    assert_eq!((store.damage(), store.unchanged("deploy-7").unwrap()), (None, Some(order(1, 5))));
    // A backup has it too.
    let copy = folder.path().join("copy.db");
    fs::write(&copy, store.backup().unwrap()).unwrap();
    assert_eq!(Writer::open(&copy).store.unchanged("deploy-7").unwrap(), Some(order(1, 5)));
}

#[test]
fn promise_12_what_is_remembered_is_bounded_in_number_and_age() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("live.db");
    let mut store = SqliteStore::open(&path, KIND).unwrap();
    Connection::open(&path).unwrap().execute_batch("PRAGMA synchronous = OFF").unwrap();
    {
        // As many as there may be, without a sync for each.
        let connection = Connection::open(&path).unwrap();
        let transaction = connection.unchecked_transaction().unwrap();
        for number in 0..MAX_UNCHANGED as i64 {
            let row = rusqlite::params![format!("n{number}"), &[0_u8; 32][..], 1, 1_000];
            transaction.execute("INSERT INTO unchanged VALUES (?1, ?2, ?3, ?4)", row).unwrap();
        }
        transaction.commit().unwrap();
    }
    store.save_unchanged("newest", &order(1, 1_000)).unwrap();
    assert_eq!(rows(&path), MAX_UNCHANGED as i64);
    assert_eq!(store.unchanged("n0").unwrap(), None, "the oldest is forgotten first");
    assert!(store.unchanged("n1").unwrap().is_some() && store.unchanged("newest").unwrap().is_some());
    // One that is given again is the newest.
    store.save_unchanged("n1", &order(2, 1_000)).unwrap();
    assert_eq!(store.unchanged("n1").unwrap(), Some(order(2, 1_000)));
    // Old ones go, some with each that comes.
    store.save_unchanged("later", &order(3, 1_001 + UNCHANGED_FOR_MS)).unwrap();
    assert!(rows(&path) < MAX_UNCHANGED as i64 - 4, "{}", rows(&path));
    assert!(store.unchanged("later").unwrap().is_some());
}

#[test]
fn a_file_of_format_2_from_before_gets_the_table_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("live.db");
    Writer::open(&path).set("a.example", Some("green")).unwrap();
    Connection::open(&path).unwrap().execute_batch("DROP TABLE unchanged").unwrap();
    let mut store = FileStore::open(&path, KIND).unwrap();
    assert_eq!(store.damage(), None);
    store.save_unchanged("x", &order(1, 1)).unwrap();
    assert_eq!(store.unchanged("x").unwrap(), Some(order(1, 1)));
}

#[test]
fn a_file_that_cannot_be_written_says_so_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("live.db");
    let mut store = FileStore::open(&path, KIND).unwrap();
    fs::rename(&path, folder.path().join("moved.db")).unwrap();
    let fault = store.save_unchanged("x", &order(0, 1)).unwrap_err();
    assert_eq!(fault.kind, StoreFaultKind::Unreadable);
    assert!(!path.exists(), "nothing is made in its place");
}
