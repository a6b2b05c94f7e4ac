//! Instructions of looking up where a request's key leads; `cargo xtask counts` runs and compares them.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the macros make items that have neither documentation nor users"
)]

use gungraun::{library_benchmark, library_benchmark_group, main};
use std::hint::black_box;
use std::sync::Arc;
use switch::{Key, KeyKind, Route, Table, normalise};

/// Returns a thousand hosts and a wildcard, a buffer that is large enough, and who is asked for.
fn table(host: &'static [u8]) -> (Table, Vec<u8>, &'static [u8]) {
    let names = (0..1_000).map(|n| format!("s{n}.example.com")).chain(["*.example.org".to_owned()]);
    let target: Arc<str> = Arc::from("green");
    let entries = names.filter_map(|name| {
        let key = Key::parse(KeyKind::Host, name.as_bytes(), 255).ok()?;
        Some((key, Route::One(Arc::clone(&target)), 1))
    });
    let table = Table::from_entries(1, entries);
    assert_eq!(table.len(), 1_001);
    (table, Vec::with_capacity(256), host)
}

#[library_benchmark]
#[bench::exact(args = (b"s500.example.com"), setup = table)]
#[bench::capitals_and_port(args = (b"S500.Example.com:8080"), setup = table)]
#[bench::wildcard(args = (b"shop.example.org"), setup = table)]
#[bench::absent(args = (b"absent.example.net"), setup = table)]
fn look_up((table, mut room, host): (Table, Vec<u8>, &'static [u8])) -> (Table, Vec<u8>) {
    let key = normalise(KeyKind::Host, black_box(host), &mut room);
    black_box(table.find(key));
    (table, room)
}

library_benchmark_group!(name = tables, benchmarks = look_up);
main!(library_benchmark_groups = tables);
