//! Measurements of a table with a million keys. They are printed, and no test fails by them:
//! `cargo test --release -p pointsman-switch --test figures -- --ignored --nocapture`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use pointsman_switch::{Change, Commit, CommitKind, Hash, Key, KeyKind, Route, Table, normalise, point_of};

fn key(n: usize) -> Key {
    Key::parse(KeyKind::Host, format!("shop-{n}.example.com").as_bytes(), 255).expect("it is a host")
}

fn commit(revision: u64, keys: impl Iterator<Item = usize>) -> Commit {
    let after = Some(Route::One("green".into()));
    let change = |n| Change { key: key(n), before: None, after: after.clone(), undoes: None };
    Commit {
        revision,
        time_ms: 0,
        kind: CommitKind::Set,
        actor: "figures".to_owned(),
        reason: None,
        idempotency: None,
        forced: false,
        confirm_by_ms: None,
        changes: keys.map(change).collect(),
        subjects: Vec::new(),
        extra: Default::default(),
        gate: Vec::new(),
        previous: Hash::ZERO,
        hash: Hash::ZERO,
    }
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// Runs it `rounds` times: 10th percentile (the machine undisturbed), median and 99th, in ns, each of `inner` runs.
fn measure(rounds: usize, inner: usize, mut work: impl FnMut(usize)) -> [u128; 3] {
    let mut times: Vec<u128> = (0..rounds)
        .map(|round| {
            let start = Instant::now();
            (0..inner).for_each(|n| work(round * inner + n));
            start.elapsed().as_nanos() / inner as u128
        })
        .collect();
    times.sort_unstable();
    [times[rounds / 10], times[rounds / 2], times[rounds * 99 / 100]]
}

#[test]
#[ignore = "prints figures; run by hand in a release build"]
fn figures_of_a_million_keys() {
    for keys in [1, 1_000, 1_000_000] {
        let before = resident();
        let start = Instant::now();
        let blue: Arc<str> = "blue".into();
        let table = Table::from_entries(1, (0..keys).map(|n| (key(n), Route::One(Arc::clone(&blue)), 1)));
        let load_ms = start.elapsed().as_millis();
        let bytes = resident().saturating_sub(before) / keys;
        println!("{keys} keys: made in {load_ms} ms, {bytes} bytes each");

        // Far apart, so that at a million keys most look-ups miss the processor's caches.
        let hosts: Vec<String> =
            (0..100_000).map(|n| format!("shop-{}.example.com", n * 7919 % keys)).collect();
        let mut room = Vec::new();
        let [p10, p50, p99] = measure(200, 500, |n| {
            let text = normalise(KeyKind::Host, hosts[n % hosts.len()].as_bytes(), &mut room);
            black_box(table.find(text));
        });
        println!("  normalise and find: p10 {p10} p50 {p50} p99 {p99} ns");
        let [p10, p50, p99] = measure(200, 500, |n| {
            black_box(table.find(hosts[n % hosts.len()].as_bytes()));
        });
        println!("  find: p10 {p10} p50 {p50} p99 {p99} ns");

        let commits: Vec<Commit> =
            (0..1000).map(|n| commit(2 + n as u64, std::iter::once(n * 7919 % keys))).collect();
        let mut last = table.clone();
        let [p10, p50, p99] = measure(1000, 1, |n| last = last.apply(&commits[n]));
        println!(
            "  apply one change, and drop the table before: p10 {} p50 {} p99 {} µs",
            p10 / 1000,
            p50 / 1000,
            p99 / 1000
        );
        let many = commit(2, (0..keys.min(100_000)).map(|n| n * 7919 % keys));
        let [_, p50, _] = measure(5, 1, |_| drop(black_box(table.apply(&many))));
        println!("  apply {} changes: {} µs", many.changes.len(), p50 / 1000);
    }
    let split = Route::parse("green=10 blue=60 red=30").expect("it is a route");
    let [_, p50, _] = measure(200, 1000, |n| {
        black_box(split.pick(point_of(&n.to_le_bytes())));
    });
    println!("point and pick of three: {p50} ns");
}
