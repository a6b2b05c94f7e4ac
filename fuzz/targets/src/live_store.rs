//! A store that is damaged while it is open: `control::store::FileStore`.
//!
//! Holds what is opened against what was acknowledged: never an earlier table in silence, and nothing that was refused.
//! The first byte chooses the file that is damaged: the database, its log, or the second file. Then follow steps of a byte
//! each: orders, quiet moments, damage (with a place and bytes, see [`super::store::damage`]), a look at a copy as a crash
//! would leave it, and opening the store again.

use super::store::{content, folder, next, order};
use control::store::{FileStore, StoreBackend};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use switch::{KeyKind, Loaded, Pending, Store};

const KIND: KeyKind = KeyKind::Host;
const FILES: [&str; 3] = ["live.db", "live.db-wal", "live.db-anchor"];
/// The most steps of an input.
const STEPS: usize = 48;

type Content = BTreeMap<String, (String, u64)>;

/// What was acknowledged.
struct Acknowledged {
    now: Loaded,
    /// The table of each revision.
    tables: Vec<Content>,
}

impl Acknowledged {
    fn orders(&mut self, store: &mut FileStore, number: usize) {
        let Some(commit) = next(&self.now, &order(number)) else { return };
        if store.commit(&commit).is_err() {
            return;
        }
        self.now.table = self.now.table.apply(&commit);
        self.now.last_hash = commit.hash;
        Pending::follow(&mut self.now.pending, &commit);
        self.tables.push(content(&self.now.table));
    }

    /// Holds a store that was opened against this. Returns true if it is sound.
    fn judge(&self, store: &mut FileStore) -> bool {
        let (damage, loaded) = (store.damage(), store.load());
        match (damage, loaded) {
            (None, Ok(loaded)) => {
                assert_eq!(loaded.table.revision(), self.now.table.revision(), "another revision in silence");
                assert_eq!(content(&loaded.table), content(&self.now.table), "another table in silence");
                assert_eq!((loaded.last_hash, &loaded.pending), (self.now.last_hash, &self.now.pending));
                true
            }
            (Some(fault), Ok(loaded)) => {
                assert!(!fault.text.is_empty() && !fault.remedy.is_empty());
                // What is served meanwhile was committed once, as it is.
                let revision = usize::try_from(loaded.table.revision()).unwrap();
                assert_eq!(Some(&content(&loaded.table)), self.tables.get(revision), "revision {revision}");
                false
            }
            (Some(fault), Err(_)) => {
                assert!(!fault.text.is_empty() && !fault.remedy.is_empty());
                false
            }
            (None, Err(fault)) => panic!("neither sound nor damaged: {fault}"),
        }
    }
}

pub(crate) fn check(data: &[u8]) {
    let Some((choice, mut steps)) = data.split_first() else { return };
    let folder = folder();
    let [live, crashed] = ["live", "crashed"].map(|name| folder.path().join(name));
    fs::create_dir(&live).unwrap();
    let mut store = FileStore::open(&live.join(FILES[0]), KIND).expect("a new store");
    let now = store.load().expect("what was just made");
    let mut acknowledged = Acknowledged { tables: vec![content(&now.table)], now };
    (0..4).for_each(|number| acknowledged.orders(&mut store, number));
    for number in 0..STEPS {
        let Some((step, rest)) = steps.split_first() else { break };
        steps = rest;
        match step % 8 {
            0..=2 => acknowledged.orders(&mut store, 5 + number + usize::from(step >> 3)),
            3 => store.idle(),
            4 | 5 => steps = damage(steps, &live.join(FILES[usize::from(*choice) % 3])),
            6 => {
                copy(&live, &crashed);
                let mut found = FileStore::open(&crashed.join(FILES[0]), KIND).expect("a start never fails");
                acknowledged.judge(&mut found);
            }
            _ => {
                drop(store);
                store = FileStore::open(&live.join(FILES[0]), KIND).expect("a start never fails");
                if !acknowledged.judge(&mut store) {
                    // It takes no orders.
                    let commit = next(&acknowledged.now, &order(99));
                    assert!(commit.is_none_or(|commit| store.commit(&commit).is_err()), "an order was taken");
                }
            }
        }
    }
    copy(&live, &crashed);
    acknowledged.judge(&mut FileStore::open(&crashed.join(FILES[0]), KIND).expect("a start never fails"));
}

/// Damages a file in place, as another program would. Returns the bytes that are left.
fn damage<'a>(steps: &'a [u8], path: &Path) -> &'a [u8] {
    let len = steps.get(4).map_or(0, |len| usize::from(*len)) + 5;
    let (change, rest) = steps.split_at(len.min(steps.len()));
    let Ok(mut file) = fs::read(path) else { return rest };
    let before = file.len();
    // The first bit chooses between two files; here there is one.
    let change: Vec<u8> =
        change.iter().enumerate().map(|(at, byte)| if at == 0 { byte & !1 } else { *byte }).collect();
    super::store::damage(&change, &mut file, &mut Vec::new());
    let open = fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&open, &file, 0).unwrap();
    if file.len() < before {
        open.set_len(file.len() as u64).unwrap();
    }
    rest
}

/// Copies the files as a crash leaves them.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for name in FILES {
        let _ = fs::copy(from.join(name), to.join(name));
    }
}
