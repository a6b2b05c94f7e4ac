//! What the second file costs: a commit to both files beside one to SQLite alone and beside a sync, in turns on one disk.

use super::damage::Live;
use super::*;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// The number of commits of each kind.
const COMMITS: usize = 400;

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Run alone, on a quiet machine: `cargo test -p pointsman-control --profile simulation -- --ignored --nocapture second_sync`.
#[test]
#[ignore = "a measurement: its result means nothing beside other tests"]
fn the_second_sync_costs_at_most_one_and_a_half() {
    let folder = tempfile::tempdir_in(std::env::var_os("POINTSMAN_DISK").unwrap_or(".".into())).unwrap();
    for name in ["alone", "both"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let mut alone = Writer::open(&folder.path().join("alone/live.db"));
    let mut both = Live::open(&folder.path().join("both"));
    let file = fs::File::create(folder.path().join("synced")).unwrap();
    file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let (mut one, mut two, mut sync) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..COMMITS {
        let name = format!("shop-{}.example.com", number % 17);
        let began = Instant::now();
        alone.set(&name, Some(["red", "green", "blue"][number % 3])).unwrap();
        one.push(began.elapsed());
        let began = Instant::now();
        if both.order(number) {
            two.push(began.elapsed());
        }
        let began = Instant::now();
        file.write_all_at(&[1; 400], number as u64 * 400).unwrap();
        file.sync_data().unwrap();
        sync.push(began.elapsed());
    }
    let (one, two, sync) = (median(&mut one), median(&mut two), median(&mut sync));
    println!("medians: SQLite alone {one:?}, both files {two:?}, one fdatasync {sync:?}");
    assert!(two <= one + sync.mul_f64(1.5), "{two:?} is more than {one:?} and 1.5 x {sync:?}");
}
