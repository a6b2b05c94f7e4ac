//! Random damage to a store and its second file, on disk and under a store that is open: never an earlier table in silence.
//!
//! `POINTSMAN_DAMAGES` says how many rounds (50 if it is not set), `POINTSMAN_DAMAGE_SEED` where they begin.

use super::*;
use crate::store::FileStore;
use std::os::unix::fs::FileExt;

/// The files that are damaged.
const FILES: [&str; 3] = ["live.db", "live.db-wal", "live.db-anchor"];

/// What became of a round.
#[derive(Debug, Default)]
struct Counts {
    sound: usize,
    second_file: usize,
    store_unverified: usize,
    refused: usize,
}

/// A store with a writer that knows what was acknowledged.
pub(super) struct Live {
    pub(super) store: FileStore,
    pub(super) table: Table,
    pub(super) hash: Hash,
    pub(super) pending: Vec<Pending>,
}

impl Live {
    pub(super) fn open(folder: &Path) -> Live {
        let mut store = FileStore::open(&folder.join(FILES[0]), KIND).unwrap();
        let Loaded { table, last_hash, pending } = store.load().unwrap();
        Live { store, table, hash: last_hash, pending }
    }

    /// Gives an order. Returns true if it was acknowledged.
    pub(super) fn order(&mut self, number: usize) -> bool {
        let name = key(&format!("shop-{}.example.com", number % 17));
        let to = Route::parse(["blue", "green", "red", "green=10 blue=90"][number % 4]).unwrap();
        let meta = Meta { actor: "tester".into(), reason: Some("x".repeat(number % 90)), ..Meta::default() };
        let order = Order { action: Action::Set(vec![(name, Some(to))]), meta };
        let Ok(plan) = switch::plan(&self.table, &rules(), &order, &self.pending) else {
            return false;
        };
        if plan.unchanged {
            return false;
        }
        let commit = plan.commit(self.hash, 1_000 + number as u64, Vec::new());
        let is_kept = self.store.commit(&commit).is_ok();
        if is_kept {
            self.table = self.table.apply(&commit);
            self.hash = commit.hash;
            Pending::follow(&mut self.pending, &commit);
        }
        is_kept
    }
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in FILES {
        let _ = fs::remove_file(to.join(name));
        let _ = fs::copy(from.join(name), to.join(name));
    }
    let _ = fs::remove_file(to.join("live.db-shm"));
}

/// Damages a file. `only_flip` leaves its length and its end.
fn damage(seed: &mut u64, path: &Path, earlier: &Path, only_flip: bool) -> String {
    let Ok(file) = fs::OpenOptions::new().read(true).write(true).open(path) else { return "no file".into() };
    let length = file.metadata().unwrap().len();
    // Mostly where there is something.
    let used = fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
    let at = next(seed) as u64 % if next(seed).is_multiple_of(8) { length.max(1) } else { used.max(1) };
    match next(seed) % if only_flip { 3 } else { 6 } {
        0..3 => {
            let mut byte = [0];
            if file.read_at(&mut byte, at).unwrap() == 1 {
                byte[0] ^= 1 << (next(seed) % 8);
                file.write_all_at(&byte, at).unwrap();
            }
            format!("a bit at {at} of {length} is flipped")
        }
        3 => {
            let zeros = [512, 4096, 8192][next(seed) % 3].min(length.saturating_sub(at)) as usize;
            file.write_all_at(&vec![0; zeros], at).unwrap();
            format!("{zeros} bytes at {at} of {length} are zeroed")
        }
        4 => {
            file.set_len(at).unwrap();
            format!("it is cut off at {at} of {length}")
        }
        _ if next(seed).is_multiple_of(2) => {
            fs::remove_file(path).unwrap();
            "it is removed".into()
        }
        _ => {
            let _ = fs::remove_file(path);
            let _ = fs::copy(earlier, path);
            "an earlier one is put in its place".into()
        }
    }
}

/// Opens what is there, and judges: `right` is what was acknowledged, and `perhaps` is one commit more, if there was one
/// whose answer did not arrive.
fn judge(folder: &Path, right: &[Shown], counts: &mut Counts, what: &str) {
    let mut store = match FileStore::open(&folder.join(FILES[0]), KIND) {
        Ok(store) => store,
        Err(fault) => panic!("{what}: the start fails: {fault}"),
    };
    let loaded = store.load();
    match (store.damage(), loaded) {
        (None, Ok(loaded)) => {
            let found = content(&loaded.table);
            assert!(right.contains(&found), "{what}: revision {} in silence, not {}", found.0, right[0].0);
            counts.sound += 1;
        }
        (Some(fault), Ok(loaded)) => {
            assert!(!fault.text.is_empty() && !fault.remedy.is_empty(), "{what}: {fault}");
            let is_second = fault.text.contains("traffic follows revision");
            assert!(
                is_second || right.contains(&content(&loaded.table)) || what.contains("and"),
                "{what}: {fault}"
            );
            *(if is_second { &mut counts.second_file } else { &mut counts.store_unverified }) += 1;
            // What is left of the history may be asked for.
            let _ = store.history(&Filter { limit: 3, ..Default::default() });
        }
        (Some(_), Err(fault)) => {
            assert_eq!(fault.kind, StoreFaultKind::Damaged, "{what}: {fault}");
            counts.refused += 1;
        }
        (None, Err(fault)) => panic!("{what}: neither sound nor damaged: {fault}"),
    }
}

/// Opens what a crash has left where no file was damaged: what was acknowledged is there, and it says nothing wrong.
pub(super) fn judge_right(folder: &Path, right: &Table, what: &str) {
    let mut counts = Counts::default();
    judge(folder, &[content(right)], &mut counts, what);
    assert_eq!(counts.refused, 0, "{what}");
}

fn rounds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("POINTSMAN_DAMAGE_SEED").unwrap_or(0);
    first..first + number("POINTSMAN_DAMAGES").unwrap_or(50)
}

#[test]
fn damage_on_disk_is_never_an_earlier_table_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let [base, early, left, tried] = ["base", "early", "left", "tried"].map(|name| folder.path().join(name));
    fs::create_dir(&base).unwrap();
    let mut live = Live::open(&base);
    for number in 0..60 {
        live.order(number);
        match number {
            20 => live.store.idle(),
            30 => copy(&base, &early),
            _ => {}
        }
    }
    let right = [content(&live.table)];
    // As a killed process leaves it.
    copy(&base, &left);
    let mut counts = Counts::default();
    for round in rounds() {
        let mut seed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        copy(&left, &tried);
        let first = next(&mut seed) % 3;
        let mut what = damage(&mut seed, &tried.join(FILES[first]), &early.join(FILES[first]), false);
        what = format!("round {round}: {}: {what}", FILES[first]);
        // Two files that both lose their ends look like two files of an earlier time.
        if next(&mut seed).is_multiple_of(4) {
            let second = (first + 1 + next(&mut seed) % 2) % 3;
            let more = damage(&mut seed, &tried.join(FILES[second]), &early.join(FILES[second]), true);
            what = format!("{what}, and {}: {more}", FILES[second]);
        }
        judge(&tried, &right, &mut counts, &what);
    }
    println!("{counts:?}");
}

#[test]
fn damage_under_an_open_store_loses_nothing_acknowledged_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let [base, early, left, tried] = ["base", "early", "left", "tried"].map(|name| folder.path().join(name));
    fs::create_dir(&base).unwrap();
    let mut live = Live::open(&base);
    for number in 0..30 {
        live.order(number);
    }
    live.store.idle();
    copy(&base, &early);
    drop(live);
    let mut counts = Counts::default();
    let (mut kept, mut refused) = (0, 0);
    for round in rounds() {
        let mut seed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 7;
        copy(&base, &left);
        let mut live = Live::open(&left);
        for number in 0..next(&mut seed) % 6 {
            live.order(100 + number);
        }
        if next(&mut seed).is_multiple_of(3) {
            live.store.idle();
        }
        let file = next(&mut seed) % 3;
        let what = damage(&mut seed, &left.join(FILES[file]), &early.join(FILES[file]), false);
        let what = format!("round {round}: {}: {what}", FILES[file]);
        for number in 0..4 {
            *(if live.order(200 + number) { &mut kept } else { &mut refused }) += 1;
            if number == 1 {
                live.store.idle();
            }
        }
        copy(&left, &tried);
        // What was refused is nowhere; what was acknowledged is there, or it is said that something is wrong.
        judge(&tried, &[content(&live.table)], &mut counts, &what);
    }
    println!("{counts:?}, {kept} orders acknowledged, {refused} refused");
}

#[test]
fn an_index_that_is_shortened_under_an_open_store_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut live = Live::open(folder.path());
    for number in [1, 5, 9, 13] {
        assert!(live.order(number), "{number}: {:?}", live.store.damage());
        let index = fs::OpenOptions::new().write(true).open(folder.path().join("live.db-shm")).unwrap();
        assert!(index.metadata().unwrap().len() > 0, "the store does not use it");
        index.set_len(if number == 5 { 100 } else { 0 }).unwrap();
    }
    let right = content(&live.table);
    assert!(live.store.damage().is_none());
    drop(live);
    assert_eq!(content(&Live::open(folder.path()).table), right);
}
