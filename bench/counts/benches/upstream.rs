//! Instructions of choosing a peer and telling what became of it; `cargo xtask counts` runs and compares them.

#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the macros make items that have neither documentation nor users"
)]

use gungraun::{library_benchmark, library_benchmark_group, main};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use upstream::{
    Address, BalancerSpec, Group, GroupSpec, KeepaliveSpec, PeerSpec, PickInput, Tried, TryOutcome,
};

/// Returns a group of so many servers that has served before.
fn group(peers: u16, balancer: BalancerSpec) -> Box<(Group, Tried)> {
    let peer =
        |n| PeerSpec::new(format!("app{n}"), Address::Inet(SocketAddr::from(([10, 0, 0, 1], 8000 + n))));
    let spec = GroupSpec {
        name: "app".to_owned(),
        peers: (0..peers).map(peer).collect(),
        balancer,
        keepalive: KeepaliveSpec::default(),
        ring: upstream::Ring::default(),
    };
    let mut group = Group::new(Arc::new(spec));
    let mut tried = Tried::new(0);
    for _ in 0..8 {
        choose(&mut group, &mut tried);
        tried.reset(0);
    }
    // To move it is no part of a pick.
    Box::new((group, tried))
}

fn choose(group: &mut Group, tried: &mut Tried) {
    let input = PickInput { key: black_box(b"/articles/42"), client: None };
    if let Ok(lease) = group.pick(black_box(1_000), &input, tried, &mut || 7) {
        black_box(group.peer(&lease).spec());
        black_box(group.finish(lease, TryOutcome::Success, 1_001));
    }
}

#[library_benchmark]
#[bench::one(args = (1, BalancerSpec::RoundRobin), setup = group)]
#[bench::four(args = (4, BalancerSpec::RoundRobin), setup = group)]
#[bench::four_least_conn(args = (4, BalancerSpec::LeastConn), setup = group)]
#[bench::four_consistent_hash(args = (4, BalancerSpec::Hash { consistent: true }), setup = group)]
fn pick(mut group: Box<(Group, Tried)>) -> Box<(Group, Tried)> {
    let (group_of_peers, tried) = &mut *group;
    choose(group_of_peers, tried);
    group
}

library_benchmark_group!(name = peers, benchmarks = pick);
main!(library_benchmark_groups = peers);
