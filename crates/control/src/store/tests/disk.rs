//! A disk that fails under the second file: at any of its writes, with an I/O error or for want of room.

use super::damage::{Live, copy, judge_right};
use super::*;
use crate::store::anchor::{fail_after, heal};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[test]
fn a_fault_of_the_second_file_loses_no_acknowledged_order_and_is_said() {
    for errno in [EIO, ENOSPC] {
        let mut refused = 0;
        for writes in 0..12 {
            let folder = tempfile::tempdir().unwrap();
            let [base, crashed] = ["base", "crashed"].map(|name| folder.path().join(name));
            fs::create_dir(&base).unwrap();
            let mut live = Live::open(&base);
            (0..4).for_each(|number| assert!(live.order(number)));
            assert_eq!(live.store.warnings(), []);
            let what = format!("errno {errno} after {writes} writes");

            fail_after(writes, errno);
            for number in 10..16 {
                let is_kept = live.order(number);
                let warned = !live.store.warnings().is_empty();
                // What fails after SQLite's commit is said; what fails before it refuses the order.
                assert!(is_kept || !warned, "{what}");
                if writes == 0 {
                    assert_eq!((is_kept, warned), (number == 10, number == 10), "{what}: order {number}");
                }
                refused += usize::from(!is_kept);
                live.store.idle();
                drop(live.store.warnings());
                // A crash at this moment: what was acknowledged is there, and nothing else. The disk is well for others.
                copy(&base, &crashed);
                std::thread::scope(|scope| {
                    let judged = scope.spawn(|| judge_right(&crashed, &live.table, &what));
                    judged.join().expect("it is right");
                });
            }
            assert!(heal(), "{what}: nothing has failed");
            // The disk is well again: orders are taken, and both files hold all of it.
            assert!(live.order(20), "{what}");
            live.store.idle();
            assert_eq!(live.store.warnings(), [], "{what}");
            let right = content(&live.table);
            drop(live);
            let mut store = FileStore::open(&base.join("live.db"), KIND).unwrap();
            assert_eq!((store.damage(), content(&store.load().unwrap().table)), (None, right), "{what}");
        }
        assert!(refused > 20, "{refused}");
    }
}
