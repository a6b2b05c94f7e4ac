//! Invariants of groups under seeded traffic: whatever the balancer, the failures and the changes of peers.

use std::collections::HashMap;
use std::sync::Arc;

use crate::seeded::{self, Seeded, group, peer, vary};
use pointsman_upstream::{
    BalancerSpec, Finished, Group, GroupSpec, Lease, PeerSpec, PickError, PickInput, Tried, TryOutcome, TwoBy,
};

const NO_RANDOM: fn() -> u64 = || panic!("this balancer needs no randomness");

fn pick_once(group: &mut Group, now_ms: u64, input: &PickInput<'_>) -> Result<Lease, PickError> {
    group.pick(now_ms, input, &mut Tried::default(), &mut { NO_RANDOM })
}

/// Picks, ends the lease well, and says whom it was.
fn visit(group: &mut Group, now_ms: u64, input: &PickInput<'_>) -> String {
    let lease = pick_once(group, now_ms, input).expect("a peer");
    let name = group.peer(&lease).spec().name.clone();
    group.finish(lease, TryOutcome::Success, now_ms);
    name
}

struct Request {
    tried: Tried,
    names: Vec<u64>,
    key: Vec<u8>,
    lease: Option<Lease>,
}

/// A world of requests that try, fail, retry and overlap while peers come and go.
struct World {
    random: Seeded,
    group: Group,
    now_ms: u64,
    requests: Vec<Request>,
    /// A number for each peer that was ever seen, by name.
    numbers: HashMap<String, u64>,
    picks: u64,
}

impl World {
    fn new(seed: u64, balancer: BalancerSpec) -> World {
        let mut random = Seeded::new(seed);
        let spec = random_spec(&mut random, balancer);
        World {
            random,
            group: Group::new(Arc::new(spec)),
            now_ms: 1_000,
            requests: Vec::new(),
            numbers: HashMap::new(),
            picks: 0,
        }
    }

    fn step(&mut self) {
        match self.random.within(0..=99) {
            0..=39 => {
                let key = self.random.within(0..=500).to_string().into_bytes();
                let request = Request { tried: Tried::default(), names: Vec::new(), key, lease: None };
                self.try_next(request);
            }
            40..=89 if !self.requests.is_empty() => {
                let at = self.random.within(0..=self.requests.len() as u64 - 1) as usize;
                let request = self.requests.swap_remove(at);
                self.end_try(request);
            }
            40..=97 => self.now_ms += self.random.within(0..=400),
            _ => {
                let balancer = self.group.spec().balancer;
                let spec = random_spec(&mut self.random, balancer);
                self.group.replace_peers(Arc::new(spec));
                // Marks are void now, so a peer may be tried again.
                for request in &mut self.requests {
                    request.names.clear();
                }
            }
        }
        self.check_counts();
    }

    fn try_next(&mut self, mut request: Request) {
        let client = std::net::IpAddr::from([10, 0, request.key[0], 9]);
        let input = PickInput { key: &request.key, client: Some(client) };
        let numbers: Vec<u64> = (0..self.group.peers().len()).map(|index| self.number_of(index)).collect();
        let eligible: Vec<bool> = numbers
            .iter()
            .zip(self.group.peers())
            .map(|(number, peer)| peer.is_available(self.now_ms) && !request.names.contains(number))
            .collect();
        let single = self.group.peers().len() == 1;
        let random = &mut self.random;
        match self.group.pick(self.now_ms, &input, &mut request.tried, &mut || random.next()) {
            Ok(lease) => {
                self.picks += 1;
                let name = &self.group.peer(&lease).spec().name;
                let index = self.group.peers().iter().position(|peer| peer.spec().name == *name);
                let index = index.expect("a picked peer is in the list");
                let spec = self.group.peers()[index].spec();
                assert!(!spec.down, "{name} is down");
                assert!(single || eligible[index], "{name} was not eligible");
                if spec.backup {
                    let idle_primary = (0..numbers.len())
                        .find(|&other| !self.group.peers()[other].spec().backup && eligible[other]);
                    let first_backup = request.names.iter().all(|number| {
                        let place = numbers.iter().position(|other| other == number);
                        place.is_none_or(|place| !self.group.peers()[place].spec().backup)
                    });
                    assert!(idle_primary.is_none() || !first_backup, "a backup before a primary");
                }
                request.names.push(numbers[index]);
                request.lease = Some(lease);
                self.requests.push(request);
            }
            Err(PickError::Empty) => assert!(numbers.is_empty()),
            Err(PickError::NoLive) => {
                let missed = (0..numbers.len()).find(|&index| {
                    let peer = &self.group.peers()[index];
                    eligible[index] && (peer.spec().backup || request.names.is_empty())
                });
                assert_eq!(missed, None, "no live upstreams, and yet there is one");
            }
        }
    }

    fn end_try(&mut self, mut request: Request) {
        let lease = request.lease.take().expect("a request under way has a lease");
        let outcome = match self.random.within(0..=9) {
            0..=3 => TryOutcome::Failed,
            4 => TryOutcome::Neutral,
            _ => TryOutcome::Success,
        };
        self.group.finish(lease, outcome, self.now_ms);
        if outcome != TryOutcome::Success && request.tried.tries_left() > 0 {
            self.try_next(request);
        }
    }

    fn number_of(&mut self, index: usize) -> u64 {
        let next = self.numbers.len() as u64;
        *self.numbers.entry(self.group.peers()[index].spec().name.clone()).or_insert(next)
    }

    /// Each lease under way is counted once, on the peer it is for, and nothing else is counted.
    fn check_counts(&self) {
        let mut held: HashMap<&str, u32> = HashMap::new();
        for request in &self.requests {
            if let Some(lease) = &request.lease {
                *held.entry(&self.group.peer(lease).spec().name).or_default() += 1;
            }
        }
        for peer in self.group.peers().iter().chain(self.group.departed()) {
            assert_eq!(peer.conns(), held.remove(peer.spec().name.as_str()).unwrap_or(0));
        }
        assert!(held.is_empty());
        assert!(self.group.departed().iter().all(|peer| peer.conns() > 0));
    }

    fn run(mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
        assert!(self.picks > 0, "no request ever found a peer");
        for request in std::mem::take(&mut self.requests) {
            if let Some(lease) = request.lease {
                self.group.finish(lease, TryOutcome::Success, self.now_ms);
            }
        }
        self.check_counts();
    }
}

fn random_spec(random: &mut Seeded, balancer: BalancerSpec) -> GroupSpec {
    let mut peers: Vec<PeerSpec> = Vec::new();
    let most = if random.chance(10) { 80 } else { 6 };
    for number in 0..random.within(1..=most) as usize {
        let mut spec = peer(number);
        vary(&mut spec, peers.is_empty(), balancer, random);
        spec.fail_timeout_ms = random.within(0..=2_000);
        spec.max_conns = if random.chance(30) { random.within(1..=3) as u32 } else { 0 };
        peers.push(spec);
    }
    group(balancer, peers)
}

#[test]
fn every_balancer_holds_the_invariants() {
    for balancer in BalancerSpec::ALL {
        for seed in 1..=15 {
            World::new(seed, balancer).run(1_000);
        }
    }
}

#[test]
fn round_robin_gives_exact_and_smooth_shares() {
    let mut peers = vec![peer(0), peer(1), peer(2)];
    peers[0].weight = 5;
    let mut group = Group::new(Arc::new(group(BalancerSpec::RoundRobin, peers)));
    let order: String = (0..14)
        .map(|_| match visit(&mut group, 0, &PickInput::default()).as_str() {
            "unix:/p0.sock" => 'a',
            "unix:/p1.sock" => 'b',
            _ => 'c',
        })
        .collect();
    assert_eq!(order, "aabacaaaabacaa");
}

#[test]
fn shares_follow_weights() {
    let weights = [1, 2, 3, 4];
    for balancer in BalancerSpec::ALL {
        let peers: Vec<PeerSpec> =
            weights.iter().map(|&weight| PeerSpec { weight, ..peer(weight as usize) }).collect();
        let mut group = Group::new(Arc::new(group(balancer, peers)));
        let mut random = Seeded::new(7);
        let mut counts = [0_f64; 4];
        let requests = 40_000;
        for number in 0..requests as u32 {
            let octets = number.wrapping_mul(0x9e37_79b1).to_be_bytes();
            let key = number.to_string();
            let input = PickInput { key: key.as_bytes(), client: Some(octets.into()) };
            let lease = group.pick(0, &input, &mut Tried::default(), &mut || random.next()).unwrap();
            counts[group.peer(&lease).spec().weight as usize - 1] += 1.0;
            group.finish(lease, TryOutcome::Success, 0);
        }
        for (weight, count) in weights.into_iter().zip(counts) {
            let share = count / f64::from(requests);
            let wanted = f64::from(weight) / 10.0;
            // `two` prefers the less loaded of two different peers, so an idle group is spread more evenly; and a
            // ring is as uneven as its points fall.
            let slack = match balancer {
                BalancerSpec::RoundRobin | BalancerSpec::LeastConn => 0.000_1,
                BalancerSpec::Random { two: Some(TwoBy::LeastConn) } => 0.13,
                BalancerSpec::Hash { consistent: true } => 0.06,
                _ => 0.02,
            };
            assert!((share - wanted).abs() <= slack, "{balancer:?}: weight {weight} got {share}");
        }
    }
}

#[test]
fn random_two_spreads_held_connections_by_weight() {
    let balancer = BalancerSpec::Random { two: Some(TwoBy::LeastConn) };
    let peers = (1..=4).map(|weight| PeerSpec { weight, ..peer(weight as usize) }).collect();
    let mut group = Group::new(Arc::new(group(balancer, peers)));
    let mut random = Seeded::new(3);
    let mut pick = |group: &mut Group| {
        group.pick(0, &PickInput::default(), &mut Tried::default(), &mut || random.next())
    };
    let leases: Vec<Lease> = (0..10_000).map(|_| pick(&mut group).unwrap()).collect();
    for peer in group.peers() {
        let share = f64::from(peer.conns()) / f64::from(peer.spec().weight * 1_000);
        assert!((0.98..1.02).contains(&share), "weight {}: {share}", peer.spec().weight);
    }
    for lease in leases {
        group.finish(lease, TryOutcome::Success, 0);
    }
}

#[test]
fn random_two_never_compares_a_peer_with_itself() {
    let balancer = BalancerSpec::Random { two: Some(TwoBy::LeastConn) };
    let mut group = Group::new(Arc::new(group(balancer, vec![peer(0), peer(1)])));
    let pick = |group: &mut Group, draws: &[u64]| {
        let mut draws = draws.iter().copied();
        let mut random = || draws.next().expect("no more draws than these");
        let lease = group.pick(0, &PickInput::default(), &mut Tried::default(), &mut random).unwrap();
        assert_eq!(draws.next(), None);
        lease
    };
    let busy = pick(&mut group, &[1, 0]);
    assert_eq!(&**group.peer(&busy).label(), "unix:/p0.sock", "equally loaded: the second draw");
    let free = pick(&mut group, &[0, 0, 0, 1]);
    assert_eq!(&**group.peer(&free).label(), "unix:/p1.sock");
    group.finish(busy, TryOutcome::Success, 0);
    group.finish(free, TryOutcome::Success, 0);
}

#[test]
fn a_failed_peer_is_left_alone_for_fail_timeout_and_then_probed_once() {
    let mut bad = peer(0);
    (bad.max_fails, bad.fail_timeout_ms) = (2, 1_000);
    let mut group = Group::new(Arc::new(group(BalancerSpec::RoundRobin, vec![bad, peer(1)])));
    let input = PickInput::default();
    let fail_at = |group: &mut Group, now_ms| loop {
        let lease = pick_once(group, now_ms, &input).unwrap();
        if group.peer(&lease).spec().name == "unix:/p0.sock" {
            return group.finish(lease, TryOutcome::Failed, now_ms);
        }
        group.finish(lease, TryOutcome::Success, now_ms);
    };
    assert_eq!(fail_at(&mut group, 5_000), Finished::Recorded);
    assert_eq!(fail_at(&mut group, 5_300), Finished::Disabled);
    for now_ms in (5_300..=6_300).step_by(10) {
        assert_eq!(visit(&mut group, now_ms, &input), "unix:/p1.sock", "at {now_ms}");
    }
    // The window is over: one request probes, and until it ends the others stay away.
    let probe = loop {
        let lease = pick_once(&mut group, 6_301, &input).unwrap();
        if group.peer(&lease).spec().name == "unix:/p0.sock" {
            break lease;
        }
        group.finish(lease, TryOutcome::Success, 6_301);
    };
    for _ in 0..20 {
        assert_eq!(visit(&mut group, 6_400, &input), "unix:/p1.sock");
    }
    group.finish(probe, TryOutcome::Success, 6_500);
    assert_eq!(group.peers()[0].fails(), 0);
    let visits: Vec<String> = (0..8).map(|_| visit(&mut group, 6_500, &input)).collect();
    assert_eq!(visits.iter().filter(|name| *name == "unix:/p0.sock").count(), 4, "{visits:?}");
}

#[test]
fn failures_within_one_window_add_up_despite_successes() {
    let mut shaky = peer(0);
    shaky.max_fails = 2;
    let mut group = Group::new(Arc::new(group(
        BalancerSpec::RoundRobin,
        vec![shaky, PeerSpec { down: true, ..peer(1) }],
    )));
    let mut end = |outcome, now_ms| {
        let lease = pick_once(&mut group, now_ms, &PickInput::default()).unwrap();
        group.finish(lease, outcome, now_ms)
    };
    assert_eq!(end(TryOutcome::Failed, 20_000), Finished::Recorded);
    assert_eq!(end(TryOutcome::Success, 21_000), Finished::Recorded);
    assert_eq!(end(TryOutcome::Failed, 22_000), Finished::Disabled);
    assert_eq!(pick_once(&mut group, 32_000, &PickInput::default()).unwrap_err(), PickError::NoLive);
}

#[test]
fn a_single_peer_is_never_disabled() {
    let mut group = Group::new(Arc::new(group(BalancerSpec::Hash { consistent: true }, vec![peer(0)])));
    let input = PickInput { key: b"key", client: None };
    for now_ms in 0..10 {
        let mut tried = Tried::new(3);
        let lease = group.pick(now_ms, &input, &mut tried, &mut { NO_RANDOM }).unwrap();
        assert_eq!(tried.tries_left(), 0);
        assert_eq!(group.finish(lease, TryOutcome::Failed, now_ms), Finished::Recorded);
        tried.refund();
        assert_eq!(tried.tries_left(), 1);
        let again = group.pick(now_ms, &input, &mut tried, &mut { NO_RANDOM }).unwrap();
        assert_eq!(tried.tries_left(), 0);
        group.finish(again, TryOutcome::Success, now_ms);
    }
    let mut spec = group.spec().as_ref().clone();
    spec.peers[0].down = true;
    group.replace_peers(Arc::new(spec));
    assert_eq!(pick_once(&mut group, 11, &input).unwrap_err(), PickError::NoLive);
}

#[test]
fn a_draining_peer_takes_no_new_requests_and_keeps_those_it_has() {
    for balancer in BalancerSpec::ALL.into_iter().filter(|one| !matches!(one, BalancerSpec::Random { .. })) {
        let of = |drain: [bool; 2]| {
            let peers = drain.iter().enumerate().map(|(number, &drain)| PeerSpec { drain, ..peer(number) });
            Arc::new(group(balancer, peers.collect()))
        };
        let mut group = Group::new(of([false, false]));
        let input = PickInput { key: b"k", client: Some([10, 0, 0, 1].into()) };
        let lease = pick_once(&mut group, 0, &input).unwrap();
        let first = group.peer(&lease).spec().name.clone();
        let drained = [first == peer(0).name, first == peer(1).name];
        group.replace_peers(of(drained));
        for _ in 0..20 {
            assert_ne!(visit(&mut group, 0, &input), first, "{balancer:?}");
        }
        assert_eq!(group.peer(&lease).conns(), 1);
        assert_eq!(group.finish(lease, TryOutcome::Success, 0), Finished::Recorded);
        group.replace_peers(of([true, true]));
        assert_eq!(pick_once(&mut group, 0, &input).unwrap_err(), PickError::NoLive);
        group.replace_peers(of([false, false]));
        assert!((0..20).any(|_| visit(&mut group, 0, &input) == first), "{balancer:?}");
    }
}

#[test]
fn one_changed_server_moves_only_its_keys_in_a_ring_made_aside() {
    let balancer = BalancerSpec::Hash { consistent: true };
    let spec = group(balancer, Vec::new()).with_peers((0..10).map(peer).collect());
    let mut group = Group::new(Arc::new(spec.clone()));
    let place = |group: &mut Group| -> Vec<String> {
        let keys = (0..10_000).map(|key: u32| key.to_string());
        keys.map(|key| visit(group, 0, &PickInput { key: key.as_bytes(), client: None })).collect()
    };
    let before = place(&mut group);
    let changed = peer(4).name;
    type Change = fn(&mut Vec<PeerSpec>);
    let changes: [(&str, Change); 4] = [
        ("removed", |peers| drop(peers.remove(4))),
        ("drained", |peers| peers[4].drain = true),
        ("down", |peers| peers[4].down = true),
        ("lighter", |peers| {
            peers.iter_mut().for_each(|peer| peer.weight = 2);
            peers[4].weight = 1;
        }),
    ];
    for (what, change) in changes {
        let mut peers = spec.peers.clone();
        let before = if what == "lighter" {
            let heavy = peers.iter().map(|peer| PeerSpec { weight: 2, ..peer.clone() }).collect();
            group.replace_peers(Arc::new(spec.with_peers(heavy)));
            place(&mut group)
        } else {
            before.clone()
        };
        change(&mut peers);
        group.replace_peers(Arc::new(spec.with_peers(peers)));
        let after = place(&mut group);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        let (own, others): (Vec<_>, Vec<_>) = moved.partition(|(before, _)| **before == changed);
        assert_eq!(others.len(), 0, "{what}: keys of other servers moved");
        assert!((200..2_000).contains(&own.len()), "{what}: {}", own.len());
        group.replace_peers(Arc::new(spec.clone()));
    }
}

#[test]
fn there_is_one_try_for_each_peer_that_is_neither_down_nor_draining() {
    let peers = vec![
        peer(0),
        PeerSpec { down: true, ..peer(1) },
        PeerSpec { drain: true, ..peer(5) },
        peer(2),
        PeerSpec { backup: true, ..peer(3) },
        PeerSpec { backup: true, down: true, ..peer(4) },
    ];
    let mut group = Group::new(Arc::new(group(BalancerSpec::RoundRobin, peers)));
    let mut tried = Tried::default();
    let mut names = Vec::new();
    while let Ok(lease) = group.pick(0, &PickInput::default(), &mut tried, &mut { NO_RANDOM }) {
        names.push((group.peer(&lease).spec().name.clone(), tried.tries_left()));
        group.finish(lease, TryOutcome::Neutral, 0);
    }
    let expected = [("unix:/p0.sock", 2), ("unix:/p2.sock", 1), ("unix:/p3.sock", 0)];
    assert_eq!(names, expected.map(|(name, left)| (name.to_string(), left)));
}

#[test]
fn consistent_hash_moves_only_the_keys_of_the_peer_that_left() {
    let balancer = BalancerSpec::Hash { consistent: true };
    let (peers, keys) = (10, 5_000);
    let mut group_of = Group::new(Arc::new(group(balancer, (0..peers).map(peer).collect())));
    let place = |group: &mut Group| -> Vec<String> {
        (0..keys)
            .map(|key: u32| visit(group, 0, &PickInput { key: key.to_string().as_bytes(), client: None }))
            .collect()
    };
    let before = place(&mut group_of);
    let gone = peer(4).name;
    group_of.replace_peers(Arc::new(group(
        balancer,
        (0..peers).filter(|&number| number != 4).map(peer).collect(),
    )));
    let after = place(&mut group_of);
    let mut moved = 0;
    for (before, after) in before.iter().zip(&after) {
        assert_ne!(*after, gone);
        if *before == gone {
            moved += 1;
        } else {
            assert_eq!(before, after);
        }
    }
    let share = f64::from(moved) / f64::from(keys);
    assert!((0.05..0.16).contains(&share), "{share}");
    // And it takes the same keys when it comes back, in whatever order the peers are listed.
    group_of.replace_peers(Arc::new(group(balancer, (0..peers).rev().map(peer).collect())));
    assert_eq!(place(&mut group_of), before);
}

#[test]
fn a_key_on_a_point_of_the_ring_belongs_to_that_point() {
    let names: Vec<String> = (1..=9).map(|host| format!("10.0.0.{host}:80")).collect();
    let peers =
        names.iter().enumerate().map(|(number, name)| PeerSpec { name: name.clone(), ..peer(number) });
    let mut group = Group::new(Arc::new(group(BalancerSpec::Hash { consistent: true }, peers.collect())));
    for name in names {
        // What a name's first point is the checksum of: host, NUL, port and four zero bytes.
        let key = format!("{}\0\0\0\0", name.replace(':', "\0"));
        assert_eq!(visit(&mut group, 0, &PickInput { key: key.as_bytes(), client: None }), name);
    }
}

#[test]
fn addresses_of_one_name_share_its_keys_in_rotation() {
    let named = |number: usize, name: &str| PeerSpec { name: name.into(), ..peer(number) };
    let peers = vec![named(0, "one:80"), named(1, "one:80"), named(2, "two:80")];
    let mut group = Group::new(Arc::new(group(BalancerSpec::Hash { consistent: true }, peers)));
    for key in 0..200 {
        let key = key.to_string();
        let input = PickInput { key: key.as_bytes(), client: None };
        let mut seen: Vec<String> = Vec::new();
        for _ in 0..2 {
            let lease = pick_once(&mut group, 0, &input).unwrap();
            let peer = group.peer(&lease);
            seen.push(if peer.spec().name == "two:80" { "two".into() } else { peer.address().to_string() });
            group.finish(lease, TryOutcome::Success, 0);
        }
        assert_eq!(seen[0] == seen[1], seen[0] == "two", "{seen:?}");
    }
}

#[test]
fn peers_are_replaced_by_identity_under_leases() {
    let spec = |numbers: &[usize]| {
        let peers = numbers.iter().map(|&number| PeerSpec { max_fails: 3, ..peer(number) }).collect();
        Arc::new(group(BalancerSpec::RoundRobin, peers))
    };
    let mut group = Group::new(spec(&[0, 1, 2]));
    let input = PickInput::default();
    let leases: Vec<Lease> = (0..3).map(|_| pick_once(&mut group, 0, &input).unwrap()).collect();
    let failed = pick_once(&mut group, 0, &input).unwrap();
    assert_eq!(&**group.peer(&failed).label(), "unix:/p0.sock");
    group.finish(failed, TryOutcome::Failed, 0);

    group.replace_peers(spec(&[3, 2, 0]));
    let counts: Vec<(u32, u32)> = group.peers().iter().map(|peer| (peer.conns(), peer.fails())).collect();
    assert_eq!(counts, [(0, 0), (1, 0), (1, 1)]);
    assert_eq!(group.departed().len(), 1);
    let labels: Vec<&str> = leases.iter().map(|lease| &**group.peer(lease).label()).collect();
    assert_eq!(labels, ["unix:/p0.sock", "unix:/p1.sock", "unix:/p2.sock"]);

    // The one that went comes back with its lease; then all end.
    group.replace_peers(spec(&[1, 0]));
    assert_eq!(group.peers()[0].conns(), 1);
    let mut leases = leases;
    let last = leases.pop().unwrap();
    for lease in leases {
        group.finish(lease, TryOutcome::Success, 0);
    }
    assert_eq!(group.departed().len(), 1);
    group.finish(last, TryOutcome::Failed, 0);
    assert!(group.departed().is_empty());
    assert!(group.peers().iter().all(|peer| peer.conns() == 0));
}

#[test]
fn a_changed_weight_resets_the_rotation_and_keeps_the_failures() {
    let spec = |weight| {
        let shaky = PeerSpec { weight, max_fails: 2, ..peer(0) };
        Arc::new(group(BalancerSpec::RoundRobin, vec![shaky, peer(1)]))
    };
    let mut group = Group::new(spec(1_000));
    let lease = pick_once(&mut group, 0, &PickInput::default()).unwrap();
    group.finish(lease, TryOutcome::Failed, 0);
    group.replace_peers(spec(2));
    assert_eq!(group.peers()[0].fails(), 1);
    let names: Vec<String> = (0..3).map(|_| visit(&mut group, 0, &PickInput::default())).collect();
    assert_eq!(names, ["unix:/p0.sock", "unix:/p1.sock", "unix:/p0.sock"]);
}

#[test]
fn a_server_listed_twice_stays_two_peers() {
    let spec = Arc::new(group(BalancerSpec::RoundRobin, vec![peer(0), peer(0), peer(1)]));
    let mut group = Group::new(spec.clone());
    let leases: Vec<Lease> =
        (0..3).map(|_| pick_once(&mut group, 0, &PickInput::default()).unwrap()).collect();
    group.replace_peers(spec);
    assert!(group.peers().iter().all(|peer| peer.conns() == 1) && group.departed().is_empty());
    for lease in leases {
        group.finish(lease, TryOutcome::Success, 0);
    }
}

#[test]
fn a_new_group_inherits_failures_and_rotation() {
    let spec = |numbers: &[usize]| {
        Arc::new(group(BalancerSpec::RoundRobin, numbers.iter().map(|&n| peer(n)).collect()))
    };
    let mut old = Group::new(spec(&[0, 1]));
    let input = PickInput::default();
    let failed = pick_once(&mut old, 50_000, &input).unwrap();
    old.finish(failed, TryOutcome::Failed, 50_000);
    let held = pick_once(&mut old, 50_000, &input).unwrap();

    let mut new = Group::new(spec(&[2, 1, 0]));
    new.carry_over(&old);
    assert!(new.peers().iter().all(|peer| peer.conns() == 0), "leases end where they began");
    for _ in 0..10 {
        assert_ne!(visit(&mut new, 50_001, &input), "unix:/p0.sock");
    }
    old.finish(held, TryOutcome::Success, 50_001);
}

#[test]
fn a_retry_continues_after_the_peers_were_replaced() {
    let mut group_of = Group::new(Arc::new(group(BalancerSpec::RoundRobin, vec![peer(0), peer(1)])));
    let mut tried = Tried::default();
    let input = PickInput::default();
    let lease = group_of.pick(0, &input, &mut tried, &mut { NO_RANDOM }).unwrap();
    group_of.replace_peers(Arc::new(group(BalancerSpec::LeastConn, vec![peer(5), peer(6), peer(7)])));
    group_of.finish(lease, TryOutcome::Failed, 0);
    assert_eq!(tried.tries_left(), 1);
    let lease = group_of.pick(0, &input, &mut tried, &mut { NO_RANDOM }).unwrap();
    assert_eq!(&**group_of.peer(&lease).label(), "unix:/p5.sock");
    assert_eq!(tried.tries_left(), 0);
    group_of.finish(lease, TryOutcome::Success, 0);
}

#[test]
fn a_single_remaining_peer_allows_no_retry() {
    let mut group_of = Group::new(Arc::new(group(BalancerSpec::RoundRobin, (0..5).map(peer).collect())));
    let mut tried = Tried::default();
    let first = group_of.pick(0, &PickInput::default(), &mut tried, &mut { NO_RANDOM }).unwrap();
    group_of.replace_peers(Arc::new(group(BalancerSpec::RoundRobin, vec![peer(9)])));
    let second = group_of.pick(0, &PickInput::default(), &mut tried, &mut { NO_RANDOM }).unwrap();
    assert_eq!(tried.tries_left(), 0, "the same peer would be tried over and over");
    group_of.finish(first, TryOutcome::Failed, 0);
    group_of.finish(second, TryOutcome::Failed, 0);
}

#[test]
fn a_group_can_be_shared_behind_a_mutex() {
    fn is_shareable<T: Send + Sync>() {}
    is_shareable::<std::sync::Mutex<Group>>();
}

#[test]
fn an_empty_group_says_so_until_it_has_a_server() {
    for balancer in BalancerSpec::ALL {
        let mut group = Group::new(Arc::new(group(balancer, Vec::new())));
        let input = PickInput { key: b"k", client: None };
        assert_eq!(pick_once(&mut group, 0, &input).unwrap_err(), PickError::Empty);
        group.replace_peers(Arc::new(seeded::group(
            balancer,
            vec![PeerSpec { weight: 0, ..peer(0) }, peer(1)],
        )));
        let mut random = Seeded::new(1);
        let lease = group.pick(0, &input, &mut Tried::default(), &mut || random.next()).unwrap();
        group.finish(lease, TryOutcome::Success, 0);
    }
}

#[test]
#[cfg(debug_assertions)]
#[should_panic = "dropped unfinished"]
fn a_lease_must_end() {
    let mut group = Group::new(Arc::new(group(BalancerSpec::RoundRobin, vec![peer(0)])));
    drop(pick_once(&mut group, 0, &PickInput::default()));
}
