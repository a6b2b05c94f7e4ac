//! Backups, and stores that are restored from them.

use super::damage::Live;
use super::*;
use crate::store::{FileStore, RestoreOrder, StoreBackend, restore, verify_backup};

fn order() -> RestoreOrder {
    RestoreOrder { actor: "anna".into(), reason: Some("the disk".into()), now_ms: 5 }
}

fn orders(live: &mut Live, numbers: std::ops::Range<usize>) {
    for number in numbers {
        live.order(number);
    }
}

/// Returns a folder with an open store of some commits, and a backup of an earlier state.
fn backed_up() -> (tempfile::TempDir, Live, PathBuf, Shown) {
    let folder = tempfile::tempdir().unwrap();
    let mut live = Live::open(folder.path());
    orders(&mut live, 0..20);
    let backup = folder.path().join("monday.backup");
    fs::write(&backup, live.store.backup().unwrap()).unwrap();
    let saved = content(&live.table);
    orders(&mut live, 20..40);
    (folder, live, backup, saved)
}

#[test]
fn a_backup_takes_the_place_of_a_store_under_a_running_server() {
    let (folder, mut live, backup, saved) = backed_up();
    let path = folder.path().join("live.db");
    let end = verify_backup(&backup).unwrap();
    assert_eq!(end.revision, saved.0);
    let before = content(&live.table).0;
    let restored = restore(&path, Some(&backup), &order()).unwrap();
    assert_eq!((restored.from, restored.replaced, restored.epoch), (saved.0, before, 2));
    assert_eq!(restored.revision, before + 1, "no revision is used twice");
    // The one that has the old file open takes no orders, until it opens the store again.
    assert!(!live.order(41));
    assert!(live.store.recover().unwrap());
    let loaded = live.store.load().unwrap();
    assert_eq!((content(&loaded.table).1, loaded.table.revision()), (saved.1, before + 1));
    let history = live.store.since(0).unwrap();
    let chain = switch::verify_chain(&history).unwrap();
    assert_eq!((chain.revision, chain.hash), (restored.revision, restored.hash));
    let last = history.last().unwrap();
    assert_eq!(
        (last.kind.name(), last.actor.as_str(), last.reason.as_deref()),
        ("restore", "anna", Some("the disk"))
    );
    assert_eq!(last.extra["replaced_revision"], before.to_string());
    (live.table, live.hash, live.pending) = (loaded.table, loaded.last_hash, loaded.pending);
    orders(&mut live, 50..54);
    drop(live);
    let live = Live::open(folder.path());
    assert!(live.store.damage().is_none());
    assert!(live.table.revision() > before + 1);
    // What was replaced is kept, and nothing else is left behind.
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.retain(|name| {
        !name.to_str().unwrap().ends_with("-wal") && !name.to_str().unwrap().ends_with("-shm")
    });
    left.sort();
    assert_eq!(left, ["live.db", "live.db-anchor", "live.db-lock", "live.db.replaced-1", "monday.backup"]);
}

#[test]
fn a_damaged_store_is_restored() {
    let (folder, live, backup, saved) = backed_up();
    let before = live.table.revision();
    drop(live);
    let path = folder.path().join("live.db");
    let length = fs::metadata(&path).unwrap().len() as usize;
    fs::write(&path, vec![0; length]).unwrap();
    let mut store = FileStore::open(&path, KIND).unwrap();
    assert!(store.damage().is_some());
    drop(store.load().unwrap());
    drop(store);
    let restored = restore(&path, Some(&backup), &order()).unwrap();
    // The second file knows how far the damaged one was.
    assert_eq!((restored.replaced, restored.revision), (before, before + 1));
    let live = Live::open(folder.path());
    assert!(live.store.damage().is_none());
    assert_eq!(content(&live.table).1, saved.1);
    drop(live);
    // Both may be restored over and over: each is an epoch.
    assert_eq!(restore(&path, Some(&backup), &order()).unwrap().epoch, 3);
}

#[test]
fn a_store_without_its_second_file_is_accepted_by_an_order_alone() {
    let (folder, live, _, _) = backed_up();
    let right = content(&live.table);
    drop(live);
    let path = folder.path().join("live.db");
    fs::remove_file(folder.path().join("live.db-anchor")).unwrap();
    let mut live = Live::open(folder.path());
    let damage = live.store.damage().unwrap();
    assert!(damage.text.contains("its second file is missing"), "{damage}");
    assert!(damage.remedy.contains("pointsman restore --accept"), "{damage}");
    assert_eq!(content(&live.table), right, "traffic follows it all the same");
    assert!(!live.order(41));
    drop(live);
    let restored = restore(&path, None, &order()).unwrap();
    assert_eq!((restored.from, restored.revision), (right.0, right.0 + 1));
    let mut live = Live::open(folder.path());
    assert!(live.store.damage().is_none());
    assert_eq!(content(&live.table).1, right.1);
    orders(&mut live, 60..64);
    assert!(live.table.revision() > right.0 + 1);
}

#[test]
fn an_incomplete_backup_is_not_restored() {
    let (folder, live, backup, _) = backed_up();
    drop(live);
    let path = folder.path().join("live.db");
    let whole = fs::read(&backup).unwrap();
    let before = (fs::read(&path).unwrap(), fs::read(folder.path().join("live.db-anchor")).unwrap());
    let refused = |what: &str| {
        let fault = restore(&path, Some(&backup), &order()).unwrap_err();
        assert!(verify_backup(&backup).is_err(), "{what}");
        assert!(!fault.text.is_empty() && !fault.remedy.is_empty());
        // Opening a store notes the time in it; nothing else has changed.
        assert!(Live::open(folder.path()).store.damage().is_none(), "{what}");
    };
    fs::write(&backup, &whole[..whole.len() / 2]).unwrap();
    refused("half of it");
    fs::write(&backup, "upstream blue {}").unwrap();
    refused("something else");
    fs::write(&backup, &whole).unwrap();
    Connection::open(&backup)
        .unwrap()
        .execute("UPDATE commits SET actor = 'eve' WHERE revision = 3", [])
        .unwrap();
    refused("a forged one");
    assert_eq!(fs::read(folder.path().join("live.db-anchor")).unwrap(), before.1);
    let same = restore(&path, Some(&path), &order()).unwrap_err();
    assert!(same.text.contains("is the store itself"), "{same}");
}
