//! What else than a file may stand at the name of one of a store's files: nothing of it stops a start, or blocks.

use super::damage::Live;
use super::*;
use crate::store::{FileStore, StoreBackend};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::time::Duration;

const FILES: [&str; 7] = ["", "-wal", "-shm", "-journal", "-lock", "-anchor", "-holds"];
const KINDS: [&str; 8] = ["text", "folder", "fifo", "socket", "loop", "dangling", "device", "huge"];
/// Several times what opening a store takes that another process has locked.
const LIMIT: Duration = Duration::from_secs(20);

/// Puts something in the place of a file.
fn put(kind: &str, path: &Path) {
    let _ = fs::remove_dir_all(path);
    let _ = fs::remove_file(path);
    match kind {
        "text" => fs::write(path, "x").unwrap(),
        "folder" => fs::create_dir(path).unwrap(),
        "fifo" => nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        "socket" => drop(UnixListener::bind(path).unwrap()),
        "loop" => symlink(path.file_name().unwrap(), path).unwrap(),
        "dangling" => symlink("/nonexistent/y", path).unwrap(),
        "device" => symlink("/dev/zero", path).unwrap(),
        "huge" => fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
        _ => unreachable!(),
    }
}

fn orders(live: &mut Live, numbers: std::ops::Range<usize>) {
    for number in numbers {
        live.order(number);
    }
}

/// Does something that must end.
fn bounded<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, answer) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    answer.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("{what}: it hangs, or panics"))
}

/// Opens what is there, as a start does.
fn start(folder: &Path, right: &Shown, what: &str) {
    let path = folder.join("live.db");
    let (loaded, damage, holds) = bounded(what, move || {
        let mut store = FileStore::open(&path, KIND).unwrap_or_else(|fault| panic!("{fault}"));
        let loaded = store.load();
        (loaded, store.damage(), store.kept_holds().unwrap())
    });
    let loaded = loaded.unwrap_or_else(|fault| panic!("{what}: no table: {fault}"));
    assert_eq!(content(&loaded.table), *right, "{what}: {damage:?}");
    assert!(holds.holds.is_empty());
    assert_eq!(
        holds.folder_fault.is_some(),
        what.starts_with("-holds") && !what.ends_with("folder"),
        "{what}"
    );
}

#[test]
fn nothing_at_the_name_of_a_file_stops_a_start() {
    for file in FILES {
        for kind in KINDS {
            let folder = tempfile::tempdir().unwrap();
            let mut live = Live::open(folder.path());
            orders(&mut live, 0..6);
            let right = content(&live.table);
            drop(live);
            put(kind, &folder.path().join(format!("live.db{file}")));
            start(folder.path(), &right, &format!("{file} {kind}"));
        }
    }
}

#[test]
fn nothing_at_the_name_of_a_file_blocks_an_order_or_loses_one() {
    for file in FILES {
        for kind in KINDS {
            let what = format!("{file} {kind}");
            let folder = tempfile::tempdir().unwrap();
            let at = folder.path().to_owned();
            let right = bounded(&what, move || {
                let mut live = Live::open(&at);
                orders(&mut live, 0..6);
                put(kind, &at.join(format!("live.db{file}")));
                orders(&mut live, 6..9);
                live.store.idle();
                content(&live.table)
            });
            start(folder.path(), &right, &what);
        }
    }
}

#[test]
fn a_store_that_its_lock_keeps_from_orders_takes_them_when_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut live = Live::open(folder.path());
    live.order(1);
    drop(live);
    let lock = folder.path().join("live.db-lock");
    put("dangling", &lock);
    let mut live = Live::open(folder.path());
    let fault = live.store.damage().unwrap();
    assert!(fault.text.contains("live.db-lock") && fault.remedy.contains("move "), "{fault}");
    assert!(!live.order(2));
    fs::remove_file(&lock).unwrap();
    live.store.idle();
    assert!(live.store.damage().is_none());
    assert!(live.store.recover().unwrap(), "it is to be loaded again");
    assert!(!live.store.recover().unwrap());
    assert!(live.order(2));
}
