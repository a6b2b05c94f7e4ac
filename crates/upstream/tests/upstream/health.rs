//! Groups whose servers are checked, and servers that start slowly.

use std::collections::HashMap;
use std::sync::Arc;

use crate::seeded::{Seeded, group, peer};
use pointsman_upstream::health::{CheckRules, HealthTable, LastCheck, Mandatory};
use pointsman_upstream::{BalancerSpec, Group, PeerSpec, PickError, PickInput, Tried, TryOutcome};

const CHECK: &str = "health_check";

fn table(rules: CheckRules) -> HealthTable {
    let table = HealthTable::default();
    table.configure(HashMap::from([("group", vec![(CHECK.into(), rules)])]), 0);
    table
}

fn checked(table: &HealthTable, balancer: BalancerSpec, peers: Vec<PeerSpec>) -> Group {
    Group::checked(Arc::new(group(balancer, peers)), Some(table.group("group")))
}

fn record(table: &HealthTable, spec: &PeerSpec, passed: bool, at_ms: u64) {
    let last = LastCheck { at_ms, took_us: 0, passed, reason: "".into() };
    table.group("group").server(spec).record(CHECK, &CheckRules::default(), last);
}

/// Picks so often, each lease ended well at once; returns how often each peer was picked.
fn picks(group: &mut Group, now_ms: u64, count: usize) -> Vec<usize> {
    let mut random = Seeded::new(7);
    let mut picked = vec![0; group.peers().len()];
    for number in 0..count {
        let key = number.to_string().into_bytes();
        let input = PickInput { key: &key, client: Some([10, 0, (number % 200) as u8, 1].into()) };
        let lease = group.pick(now_ms, &input, &mut Tried::default(), &mut || random.next()).expect("a peer");
        let name = &group.peer(&lease).spec().name;
        picked[group.peers().iter().position(|peer| peer.spec().name == *name).expect("one of its peers")] +=
            1;
        group.finish(lease, TryOutcome::Success, now_ms);
    }
    picked
}

#[test]
fn an_unhealthy_server_gets_nothing_from_any_balancer() {
    for balancer in BalancerSpec::ALL {
        let table = table(CheckRules::default());
        let mut group = checked(&table, balancer, vec![peer(0), peer(1), peer(2)]);
        record(&table, &peer(1), false, 1);
        let picked = picks(&mut group, 10, 300);
        assert_eq!((picked[1], picked.iter().sum::<usize>()), (0, 300), "{balancer:?}");
        record(&table, &peer(1), true, 20);
        assert!(picks(&mut group, 30, 300)[1] > 50, "{balancer:?}");
    }
}

#[test]
fn a_group_without_healthy_servers_has_no_live_one_even_if_it_has_only_one() {
    for count in 1..=3 {
        let table = table(CheckRules { mandatory: Mandatory::Yes, ..CheckRules::default() });
        let peers: Vec<PeerSpec> = (0..count).map(peer).collect();
        let mut group = checked(&table, BalancerSpec::RoundRobin, peers.clone());
        let pick = |group: &mut Group| {
            let lease = group.pick(1, &PickInput::default(), &mut Tried::default(), &mut || 0)?;
            group.finish(lease, TryOutcome::Success, 1);
            Ok(())
        };
        assert_eq!(pick(&mut group), Err(PickError::NoLive), "{count} that are being checked");
        record(&table, &peers[0], true, 5);
        assert_eq!(pick(&mut group), Ok(()), "{count}");
        record(&table, &peers[0], false, 6);
        assert_eq!(pick(&mut group), Err(PickError::NoLive), "{count} unhealthy");
    }
}

#[test]
fn servers_that_come_while_serving_have_the_checks_of_their_group() {
    let table = table(CheckRules { mandatory: Mandatory::Yes, ..CheckRules::default() });
    let mut serving = checked(&table, BalancerSpec::RoundRobin, vec![peer(0), peer(1)]);
    record(&table, &peer(0), true, 1);
    record(&table, &peer(1), true, 1);
    let three = group(BalancerSpec::RoundRobin, vec![peer(0), peer(1), peer(2)]);
    serving.replace_peers(Arc::new(three));
    assert_eq!(picks(&mut serving, 2, 30), [15, 15, 0]);
    record(&table, &peer(2), true, 3);
    assert_eq!(picks(&mut serving, 4, 30), [10, 10, 10]);
}

#[test]
fn the_share_of_a_server_grows_within_slow_start() {
    for balancer in [BalancerSpec::RoundRobin, BalancerSpec::LeastConn] {
        let table = table(CheckRules::default());
        let slow = |number| PeerSpec { slow_start_ms: 10_000, weight: 2, ..peer(number) };
        let mut group = checked(&table, balancer, vec![slow(0), slow(1)]);
        assert_eq!(picks(&mut group, 1, 100), [50, 50], "not at the beginning");
        record(&table, &slow(1), false, 1_000);
        record(&table, &slow(1), true, 20_000);
        // Of 10 s, so many are over: with a share of s it gets s / (1 + s) of the requests.
        for (after_ms, least, most) in
            [(0, 0, 20), (1_000, 80, 100), (5_000, 320, 340), (9_999, 490, 505), (10_000, 495, 505)]
        {
            let picked = picks(&mut group, 20_000 + after_ms, 1000)[1];
            assert!((least..=most).contains(&picked), "{balancer:?} {after_ms}: {picked}");
        }
    }
}

#[test]
fn a_server_that_is_alone_available_takes_all_while_it_starts_slowly() {
    let table = table(CheckRules::default());
    let slow = PeerSpec { slow_start_ms: 10_000, ..peer(0) };
    let mut group = checked(&table, BalancerSpec::RoundRobin, vec![slow.clone(), peer(1)]);
    record(&table, &slow, false, 1);
    record(&table, &peer(1), false, 1);
    record(&table, &slow, true, 2);
    assert_eq!(picks(&mut group, 2, 10), [10, 0]);
}

#[test]
fn a_server_starts_slowly_after_failures_too() {
    let slow = PeerSpec { slow_start_ms: 10_000, fail_timeout_ms: 1_000, ..peer(0) };
    let mut group = Group::new(Arc::new(group(BalancerSpec::RoundRobin, vec![slow, peer(1)])));
    let first = |group: &mut Group, now_ms, outcome| {
        let lease = loop {
            let lease = group.pick(now_ms, &PickInput::default(), &mut Tried::default(), &mut || 0).unwrap();
            if group.peer(&lease).spec().name == peer(0).name {
                break lease;
            }
            group.finish(lease, TryOutcome::Success, now_ms);
        };
        group.finish(lease, outcome, now_ms);
    };
    first(&mut group, 1_000, TryOutcome::Failed);
    assert_eq!(picks(&mut group, 1_500, 10), [0, 10]);
    first(&mut group, 3_000, TryOutcome::Success);
    let picked = picks(&mut group, 4_000, 1000)[0];
    assert!((60..=110).contains(&picked), "{picked}");
    let picked = picks(&mut group, 13_000, 1000)[0];
    assert!((480..=520).contains(&picked), "{picked}");
}
