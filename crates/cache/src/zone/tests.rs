//! What a zone keeps, lets go and locks.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

fn zone(entries: usize, max_bytes: u64) -> Arc<Zone> {
    Arc::new(Zone::new(ZoneLimits { entries, inactive_s: 10, max_bytes }))
}

fn name(number: u8) -> KeyHash {
    KeyHash([number; 16])
}

fn asked(number: u8, min_uses: u64) -> ZoneQuery {
    ZoneQuery { name: name(number), main: name(number), moves: 7, min_uses }
}

fn open(zone: &Arc<Zone>, number: u8, now_s: u64) -> ZoneUse {
    match zone.open(asked(number, 1), now_s) {
        ZoneLookup::Known(of) => of,
        other => panic!("{other:?}"),
    }
}

struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_least_recently_used_responses_are_evicted_first() {
    let zone = zone(100, 3 * 4096);
    for number in 1..=4 {
        open(&zone, number, u64::from(number)).stored(100, 0);
    }
    drop(open(&zone, 1, 5));
    assert_eq!(zone.totals(), (4 * 4096, 4));
    assert_eq!(zone.take_removal(5), Some(Removal(name(2))), "too many bytes: the one last asked for");
    assert_eq!(zone.take_removal(5), None);
    assert_eq!(zone.take_removal(14), Some(Removal(name(3))), "its time is over");
    let used = open(&zone, 4, 14);
    assert_eq!(zone.take_removal(30), Some(Removal(name(1))));
    assert_eq!(zone.take_removal(30), None, "what is in use stays");
    drop(used);
    assert_eq!(zone.take_removal(30), Some(Removal(name(4))));
    assert_eq!(zone.totals(), (0, 0));
}

#[test]
fn entries_are_bounded() {
    let zone = zone(2, u64::MAX);
    let one = open(&zone, 1, 1);
    let two = open(&zone, 2, 1);
    assert!(matches!(zone.open(asked(3, 1), 1), ZoneLookup::Full));
    drop(one);
    let _three = open(&zone, 3, 1);
    drop(two);
    assert_eq!(zone.totals().1, 2);
    assert_eq!(zone.take_removal(1), Some(Removal(name(1))), "what made room");
    assert_eq!(zone.take_removal(1), None);
}

#[test]
fn a_lock_is_one_request_s_until_it_is_over_or_too_old() {
    let zone = zone(10, u64::MAX);
    let (mut one, mut two) = (open(&zone, 1, 1), open(&zone, 1, 1));
    assert!(one.try_lock(0, 5000));
    let counter = Arc::new(Counter(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&counter));
    assert!(!two.poll_free(100, &waker));
    assert!(!two.poll_free(200, &waker));
    one.stored(5, 0);
    assert_eq!(counter.0.load(Ordering::Relaxed), 1, "woken once");
    assert!(two.try_lock(300, 5000));
    let mut three = open(&zone, 1, 1);
    assert!(!three.try_lock(5299, 5000));
    assert!(three.try_lock(5300, 5000), "the lock is too old");
    two.unlock();
    let mut four = open(&zone, 1, 1);
    assert!(!four.try_lock(5301, 5000), "its end is not that of the newer one");
    drop(three);
    assert!(four.try_lock(5302, 5000));
}

#[test]
fn a_stale_response_is_updated_by_one() {
    let zone = zone(10, u64::MAX);
    let (mut one, mut two) = (open(&zone, 1, 1), open(&zone, 1, 1));
    assert!(one.try_update());
    assert!(!two.try_update());
    drop(one);
    assert!(two.try_update());
}

#[test]
fn too_few_uses_are_not_stored() {
    let zone = zone(10, u64::MAX);
    let ask = || zone.open(asked(1, 3), 1);
    let ZoneLookup::Known(first) = ask() else { panic!("it may be on the disk") };
    assert!(first.is_scarce());
    first.note_absent();
    drop(first);
    assert!(matches!(ask(), ZoneLookup::Scarce));
    let ZoneLookup::Known(third) = ask() else { panic!() };
    assert!(!third.is_scarce());
}

#[test]
fn failures_stand_in_for_a_while() {
    let zone = zone(10, u64::MAX);
    open(&zone, 1, 1).note_failure(502, 5, 7);
    assert!(matches!(zone.open(asked(1, 1), 5), ZoneLookup::Failed(502)));
    assert!(matches!(zone.open(asked(1, 1), 6), ZoneLookup::Known(_)));
    open(&zone, 1, 6).note_failure(502, 9, 7);
    let moved = ZoneQuery { moves: 8, ..asked(1, 1) };
    assert!(matches!(zone.open(moved, 7), ZoneLookup::Known(_)), "it was that of another target");
    open(&zone, 2, 1).note_failure(502, 5, 7);
    zone.open_to_store(name(2), name(2), 1).unwrap().stored(10, 0);
    assert!(matches!(zone.open(asked(2, 1), 2), ZoneLookup::Known(_)), "a response takes its place");
}

#[test]
fn responses_that_were_never_stored_leave_no_file_to_remove() {
    let zone = zone(2, u64::MAX);
    for number in 0..100 {
        open(&zone, number, 1).note_absent();
    }
    assert_eq!(zone.take_removal(1), None);
}

#[test]
fn files_that_are_to_go_are_bounded() {
    let zone = zone(1, u64::MAX);
    let mut removed = 0;
    for number in 0..3000_u32 {
        let name = KeyHash(std::array::from_fn(|at| number.to_le_bytes()[at % 4]));
        zone.open_to_store(name, name, 1).unwrap().stored(10, 0);
        removed += std::iter::from_fn(|| zone.take_excess()).count();
    }
    let left = std::iter::from_fn(|| zone.take_removal(1)).count();
    assert_eq!((removed + left, left <= 1000), (2999, true), "{left}");
}

#[test]
fn families_are_those_with_files() {
    let zone = zone(10, u64::MAX);
    let main = name(9);
    let ZoneLookup::Known(mut blue) = zone.open(ZoneQuery { main, ..asked(1, 1) }, 1) else { panic!() };
    assert!(!zone.has_family(main));
    blue.stored(10, 0);
    assert!(zone.has_family(main));
    assert_eq!(zone.family(main), [name(1)]);
    assert!(zone.forget(name(1)), "in use, and yet gone");
    assert!(!zone.has_family(main) && !zone.forget(name(1)));
    blue.stored(10, 0);
    drop(blue);
    assert_eq!(zone.totals(), (0, 0));
    zone.loaded(name(2), main, 5000, (1, 0));
    assert_eq!(zone.totals(), (8192, 1));
}

#[test]
fn a_purge_takes_the_family_and_what_is_being_fetched() {
    let zone = zone(10, u64::MAX);
    let main = name(9);
    let of = |number| match zone.open(ZoneQuery { main, ..asked(number, 1) }, 1) {
        ZoneLookup::Known(of) => of,
        other => panic!("{other:?}"),
    };
    assert!(of(1).stored(10, zone.purges()));
    assert!(of(2).stored(10, zone.purges()));
    assert!(open(&zone, 3, 1).stored(10, zone.purges()));
    let before = zone.purges();
    let mut fetching = of(4);
    let mut other = open(&zone, 5, 1);
    let mut purged = zone.purge(main);
    purged.files.sort();
    assert_eq!(purged, Purged { responses: 2, files: vec![name(1), name(2), name(4), main] });
    assert!(!zone.has_family(main) && zone.totals().1 == 2);
    assert!(!fetching.stored(10, before), "it was asked for before");
    assert!(other.stored(10, before), "it has another key");
    assert!(!of(4).stored(10, before) && of(4).stored(10, zone.purges()));
    // What is found on the disk by one who has begun before is what was purged, unless it is known to be newer.
    assert_eq!(zone.loaded(name(1), main, 10, (1, before)), Some(Removal(name(1))));
    assert_eq!(zone.loaded(name(4), main, 10, (1, before)), None);
    drop((fetching, other));
    assert_eq!(zone.purge_all().responses, 3);
    assert_eq!(zone.totals(), (0, 0));
}
