//! Requests that pick peers, try, fail, retry and keep connections, while time passes, peers come and go and idle
//! connections are closed.
//!
//! The simulation does what `server/proxy` does with the crate `upstream`, and keeps its own records: who holds which
//! lease, where each connection is, when a peer has failed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use pointsman_sim::{Scenario, Seeded, explore, holds, tell};
use upstream::retry::{NextUpstream, TryFailure, TryState, is_non_idempotent, may_retry};
use upstream::{
    Address, BalancerSpec, ConnectionUse, Finished, Group, GroupSpec, IdleKey, IdlePool, KeepaliveSpec,
    Lease, PeerSpec, PickError, PickInput, Ring, Tried, TryOutcome, TwoBy,
};

const BALANCERS: [BalancerSpec; 7] = [
    BalancerSpec::RoundRobin,
    BalancerSpec::LeastConn,
    BalancerSpec::IpHash,
    BalancerSpec::Hash { consistent: false },
    BalancerSpec::Hash { consistent: true },
    BalancerSpec::Random { two: None },
    BalancerSpec::Random { two: Some(TwoBy::LeastConn) },
];
const METHODS: [&[u8]; 4] = [b"GET", b"PUT", b"POST", b"PATCH"];
const FAILURES: [TryFailure; 7] = [
    TryFailure::Error,
    TryFailure::Timeout,
    TryFailure::InvalidHeader,
    TryFailure::Http500,
    TryFailure::Http503,
    TryFailure::Http404,
    TryFailure::Http429,
];

#[test]
fn peers() {
    explore(&Scenario {
        name: "peers",
        invariants: &[
            "lease-ends",
            "max-conns",
            "down-is-left",
            "no-peer-twice",
            "backups-last",
            "no-live-is-true",
            "failed-is-left",
            "one-probe",
            "tries-bounded",
            "retry-safe",
            "retry-due",
            "one-place",
            "idle-bound",
            "idle-fits",
            "idle-expires",
            "served-its-time",
        ],
        usual: 300,
        kept: &[],
        run: |seeded| World::new(seeded).run(),
    });
}

/// The place of a connection: always exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Idle { since_ms: u64, turn: u64 },
    Carrying,
    Closed,
}

#[derive(Debug)]
struct Connection {
    key: IdleKey,
    opened_ms: u64,
    requests: u32,
    at: At,
}

#[derive(Debug)]
struct Request {
    number: u64,
    tried: Tried,
    /// Names picked since the peers were last replaced.
    names: Vec<String>,
    picks: u32,
    refunds: u32,
    limit: u32,
    key: Vec<u8>,
    method: &'static [u8],
    streamed: bool,
    began_ms: u64,
    timeout_ms: u64,
    next: NextUpstream,
    lease: Option<Lease>,
    connection: Option<usize>,
    reused: bool,
}

/// The expectations of a peer that has failed.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// It is not picked up to and including this time.
    until_ms: u64,
    /// One request may probe whether it works again; this is its number, and until when others do not pick the peer.
    probe: Option<(u64, u64)>,
}

struct World {
    seeded: Seeded,
    group: Group,
    pool: IdlePool<usize>,
    now_ms: u64,
    requests: Vec<Request>,
    connections: Vec<Connection>,
    marks: HashMap<String, Mark>,
    begun: u64,
    turns: u64,
}

/// Returns true if a server takes new requests; asked of its parameters, not of the code under test.
fn is_in_use(spec: &PeerSpec) -> bool {
    !spec.down && !spec.drain
}

fn random_spec(seeded: &mut Seeded, balancer: BalancerSpec) -> GroupSpec {
    let count = if seeded.chance(4) { seeded.within(60..=70) } else { seeded.within(0..=6) };
    let mut peers = Vec::new();
    for number in 0..count {
        let path = format!("/p{number}.sock");
        let mut peer = PeerSpec::new(format!("unix:{path}"), Address::Unix(PathBuf::from(path)));
        peer.weight = if seeded.chance(40) { 1 } else { seeded.within(0..=7) as u32 };
        peer.max_fails = seeded.within(0..=3) as u32;
        peer.fail_timeout_ms = seeded.within(0..=1_500);
        peer.max_conns = if seeded.chance(35) { seeded.within(1..=3) as u32 } else { 0 };
        peer.down = seeded.chance(12);
        peer.drain = seeded.chance(8);
        peer.backup = number > 0 && balancer.allows_backup() && seeded.chance(25);
        peers.push(peer);
    }
    GroupSpec {
        name: "group".into(),
        peers,
        balancer,
        keepalive: random_keepalive(seeded),
        ring: Ring::default(),
    }
}

fn random_keepalive(seeded: &mut Seeded) -> KeepaliveSpec {
    KeepaliveSpec {
        max_idle: seeded.within(0..=6) as u32,
        local: false,
        requests: seeded.within(1..=8) as u32,
        time_ms: seeded.within(100..=4_000),
        timeout_ms: seeded.within(0..=900),
    }
}

impl World {
    fn new(mut seeded: Seeded) -> World {
        let balancer = *seeded.one_of(&BALANCERS);
        let spec = random_spec(&mut seeded, balancer);
        World {
            pool: IdlePool::new(spec.keepalive),
            group: Group::new(Arc::new(spec)),
            seeded,
            now_ms: 10_000,
            requests: Vec::new(),
            connections: Vec::new(),
            marks: HashMap::new(),
            begun: 0,
            turns: 0,
        }
    }

    fn run(mut self) {
        for _ in 0..90 {
            self.step();
            self.check_leases();
            self.check_pool();
        }
        while let Some(request) = self.requests.pop() {
            self.end(request, TryOutcome::Neutral);
        }
        self.check_leases();
        for peer in self.group.peers() {
            holds!(
                "lease-ends",
                peer.conns() == 0,
                "{} counts {} without requests",
                peer.spec().name,
                peer.conns()
            );
        }
        holds!("lease-ends", self.group.departed().is_empty(), "a removed peer waits for no request");
    }

    fn step(&mut self) {
        match self.seeded.below(100) {
            0..35 => self.arrive(),
            35..75 => self.progress(),
            75..88 => {
                // Mostly small steps; sometimes a jump, as after a suspend. A monotonic clock does not go back.
                let most = if self.seeded.chance(5) { 20_000 } else { 400 };
                self.now_ms += self.seeded.within(0..=most);
                tell!("it is {}", self.now_ms);
            }
            88..92 => self.sweep(),
            92..95 => self.peer_closes_idle(),
            95..98 => self.replace_peers(),
            _ => self.reconfigure(),
        }
    }

    fn arrive(&mut self) {
        self.begun += 1;
        let words = [
            NextUpstream::OFF,
            NextUpstream::default(),
            NextUpstream::default() | NextUpstream::NON_IDEMPOTENT,
            NextUpstream::default() | NextUpstream::INVALID_HEADER | NextUpstream::HTTP_500,
            NextUpstream::default()
                | NextUpstream::HTTP_503
                | NextUpstream::HTTP_404
                | NextUpstream::HTTP_429,
        ];
        let limit = self.seeded.within(0..=3) as u32;
        let request = Request {
            number: self.begun,
            tried: Tried::new(limit),
            names: Vec::new(),
            picks: 0,
            refunds: 0,
            limit,
            key: self.seeded.within(0..=99).to_string().into_bytes(),
            method: METHODS[self.seeded.below(METHODS.len())],
            streamed: self.seeded.chance(30),
            began_ms: self.now_ms,
            timeout_ms: if self.seeded.chance(30) { self.seeded.within(1..=600) } else { 0 },
            next: *self.seeded.one_of(&words),
            lease: None,
            connection: None,
            reused: false,
        };
        self.pick(request);
    }

    fn pick(&mut self, mut request: Request) {
        let eligible: Vec<bool> = self
            .group
            .peers()
            .iter()
            .map(|peer| peer.is_available(self.now_ms) && !request.names.contains(&peer.spec().name))
            .collect();
        let single = self.group.peers().len() == 1;
        let client = Some(std::net::IpAddr::from([10, 0, request.key[0], 9]));
        let input = PickInput { key: &request.key, client };
        let seeded = &mut self.seeded;
        let picked = self.group.pick(self.now_ms, &input, &mut request.tried, &mut || seeded.draw());
        let lease = match picked {
            Ok(lease) => lease,
            Err(PickError::Empty) => {
                holds!(
                    "no-live-is-true",
                    self.group.peers().is_empty(),
                    "a group with servers is called empty"
                );
                return;
            }
            Err(PickError::NoLive) => {
                tell!("request {} finds no peer", request.number);
                let on_backups = request.names.iter().any(|name| {
                    self.group.peers().iter().any(|peer| peer.spec().name == *name && peer.spec().backup)
                });
                let missed = self.group.peers().iter().zip(&eligible).find(|(peer, eligible)| {
                    let free = !single || is_in_use(peer.spec());
                    **eligible && free && (peer.spec().backup || !on_backups)
                });
                let missed = missed.map(|(peer, _)| peer.spec().name.as_str());
                holds!("no-live-is-true", missed.is_none(), "no peer is live, but {missed:?} is");
                return;
            }
        };
        request.picks += 1;
        self.check_pick(&request, &lease, &eligible, single);
        let address = self.group.peer(&lease).address().clone();
        request.names.push(self.group.peer(&lease).spec().name.clone());
        tell!("request {} picks {address}", request.number);
        request.lease = Some(lease);
        self.connect(&mut request, IdleKey { address, tag: 0 });
        self.requests.push(request);
    }

    fn check_pick(&mut self, request: &Request, lease: &Lease, eligible: &[bool], single: bool) {
        let peer = self.group.peer(lease);
        let spec = peer.spec();
        let place = self.group.peers().iter().position(|other| other.spec().name == spec.name).unwrap();
        holds!("down-is-left", is_in_use(spec), "{} is down or draining", spec.name);
        let room = spec.max_conns == 0 || peer.conns() <= spec.max_conns;
        holds!("max-conns", room, "{} has {} of {}", spec.name, peer.conns(), spec.max_conns);
        let fresh = single || !request.names.contains(&spec.name);
        holds!("no-peer-twice", fresh, "request {} tries {} again", request.number, spec.name);
        if spec.backup {
            let primary =
                self.group.peers().iter().zip(eligible).position(|(peer, &fit)| fit && !peer.spec().backup);
            let is_first = request.names.iter().all(|name| {
                self.group.peers().iter().all(|peer| peer.spec().name != *name || !peer.spec().backup)
            });
            holds!("backups-last", primary.is_none() || !is_first, "a backup before primary {primary:?}");
        }
        let bound = match request.limit {
            0 => self.group.peers().len() as u32 + 70,
            limit => limit,
        };
        let picks = request.picks.saturating_sub(request.refunds);
        holds!("tries-bounded", picks <= bound, "{picks} tries of {bound}");
        holds!("no-peer-twice", place < eligible.len(), "a peer that is not in the list");
        if single {
            return;
        }
        let (now_ms, number, timeout_ms) = (self.now_ms, request.number, spec.fail_timeout_ms);
        let Some(mark) = self.marks.get_mut(&spec.name) else { return };
        holds!(
            "failed-is-left",
            now_ms > mark.until_ms,
            "{} failed and is picked at {now_ms}, before {}",
            spec.name,
            mark.until_ms
        );
        if let Some((by, until_ms)) = mark.probe {
            let free = now_ms > until_ms;
            holds!("one-probe", free, "{} is probed by {by}, and by {number} at {now_ms}", spec.name);
        }
        mark.probe = Some((number, now_ms.saturating_add(timeout_ms)));
    }

    /// An idle connection, or a new one.
    fn connect(&mut self, request: &mut Request, key: IdleKey) {
        let expected = self.newest_idle(&key);
        let taken = self.pool.take(&key, self.now_ms);
        let spec = *self.pool.spec();
        if let Some(number) = taken {
            let connection = &mut self.connections[number];
            let At::Idle { since_ms, .. } = connection.at else {
                pointsman_sim::violated("one-place", format!("{connection:?} was taken out of the pool"));
            };
            let idle_ms = self.now_ms - since_ms;
            let fits = connection.key == key && idle_ms < spec.timeout_ms;
            holds!("idle-fits", fits, "{connection:?} for {key:?} after {idle_ms} ms");
            connection.at = At::Carrying;
        }
        holds!("idle-fits", taken == expected, "{taken:?} was taken, {expected:?} was used last");
        request.reused = taken.is_some();
        request.connection = Some(taken.unwrap_or_else(|| {
            self.connections.push(Connection { key, opened_ms: self.now_ms, requests: 0, at: At::Carrying });
            self.connections.len() - 1
        }));
    }

    fn newest_idle(&self, key: &IdleKey) -> Option<usize> {
        let timeout_ms = self.pool.spec().timeout_ms;
        let fits = |(number, connection): (usize, &Connection)| match connection.at {
            At::Idle { since_ms, turn } if connection.key == *key && self.now_ms - since_ms < timeout_ms => {
                Some((turn, number))
            }
            _ => None,
        };
        self.connections.iter().enumerate().filter_map(fits).max().map(|(_, number)| number)
    }

    /// Advances a request under way.
    fn progress(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let place = self.seeded.below(self.requests.len());
        let request = self.requests.swap_remove(place);
        match self.seeded.below(10) {
            0..5 => {
                let clean = self.seeded.chance(85);
                self.answer(request, clean);
            }
            5 => self.end(request, TryOutcome::Neutral),
            _ => {
                let failure = *self.seeded.one_of(&FAILURES);
                self.fail(request, failure);
            }
        }
    }

    fn answer(&mut self, mut request: Request, clean: bool) {
        let number = request.connection.take().unwrap();
        self.finish(&mut request, TryOutcome::Success);
        let connection = &mut self.connections[number];
        connection.requests += 1;
        if !clean {
            connection.at = At::Closed;
            return;
        }
        let used = ConnectionUse { requests: connection.requests, opened_ms: connection.opened_ms };
        let spec = *self.pool.spec();
        let served = used.requests >= spec.requests || self.now_ms - used.opened_ms > spec.time_ms;
        self.turns += 1;
        connection.at = At::Idle { since_ms: self.now_ms, turn: self.turns };
        let evicted = self.pool.put(connection.key.clone(), number, self.now_ms, used);
        let keeps = spec.max_idle > 0 && spec.timeout_ms > 0;
        if served {
            holds!("served-its-time", evicted == Some(number), "{connection:?} is kept under {spec:?}");
        } else if keeps && evicted == Some(number) {
            pointsman_sim::violated("served-its-time", format!("{connection:?} is not kept under {spec:?}"));
        }
        if let Some(evicted) = evicted {
            let at = self.connections[evicted].at;
            holds!(
                "one-place",
                matches!(at, At::Idle { .. }),
                "connection {evicted} leaves the pool from {at:?}"
            );
            self.connections[evicted].at = At::Closed;
        }
    }

    fn end(&mut self, mut request: Request, outcome: TryOutcome) {
        if let Some(number) = request.connection.take() {
            self.connections[number].at = At::Closed;
        }
        self.finish(&mut request, outcome);
    }

    fn finish(&mut self, request: &mut Request, outcome: TryOutcome) {
        let lease = request.lease.take().unwrap();
        let spec = self.group.peer(&lease).spec().clone();
        let finished = self.group.finish(lease, outcome, self.now_ms);
        tell!("request {} ends at {}: {outcome:?}, {finished:?}", request.number, spec.name);
        // A success after the new window began shows that the peer works: nginx's rule, probe or not.
        let is_probed = self.marks.get(&spec.name).is_some_and(|mark| mark.probe.is_some());
        if finished == Finished::Disabled {
            let until_ms = self.now_ms.saturating_add(spec.fail_timeout_ms);
            self.marks.insert(spec.name, Mark { until_ms, probe: None });
        } else if is_probed && outcome != TryOutcome::Failed {
            self.marks.remove(&spec.name);
        }
    }

    fn fail(&mut self, mut request: Request, failure: TryFailure) {
        let number = request.connection.take().unwrap();
        self.connections[number].at = At::Closed;
        let answered = !matches!(failure, TryFailure::Error | TryFailure::Timeout);
        let request_sent = answered || request.reused || self.seeded.chance(60);
        let body_streamed = request.streamed && request_sent && self.seeded.chance(70);
        self.finish(&mut request, failure.outcome());
        if request.reused && failure == TryFailure::Error {
            request.tried.refund();
            request.refunds += 1;
        }
        let state = TryState {
            non_idempotent: is_non_idempotent(request.method),
            request_sent,
            body_streamed,
            tries_left: request.tried.tries_left(),
            elapsed_ms: self.now_ms - request.began_ms,
            timeout_ms: request.timeout_ms,
        };
        let again = may_retry(request.next, failure, &state);
        let harmless = !request_sent
            || (matches!(request.method, b"GET" | b"PUT")
                || request.next.contains(NextUpstream::NON_IDEMPOTENT));
        let whole = !(request_sent && body_streamed);
        let in_time = request.timeout_ms == 0 || state.elapsed_ms < request.timeout_ms;
        let word = match failure {
            TryFailure::Error => NextUpstream::ERROR,
            TryFailure::Timeout => NextUpstream::TIMEOUT,
            TryFailure::InvalidHeader => NextUpstream::INVALID_HEADER,
            TryFailure::Http500 => NextUpstream::HTTP_500,
            TryFailure::Http503 => NextUpstream::HTTP_503,
            TryFailure::Http404 => NextUpstream::HTTP_404,
            _ => NextUpstream::HTTP_429,
        };
        let wanted = request.next.contains(word) && state.tries_left > 0;
        if again {
            holds!("retry-safe", harmless && whole, "request {} goes out again: {state:?}", request.number);
            holds!("tries-bounded", in_time && wanted, "another try of {failure:?}: {state:?}");
            self.pick(request);
        } else {
            let due = harmless && whole && in_time && wanted;
            holds!("retry-due", !due, "{failure:?} is not tried again: {state:?}");
        }
    }

    fn sweep(&mut self) {
        let due = self.pool.next_expiry_ms();
        let mut gone = Vec::new();
        self.pool.expire(self.now_ms, |number| gone.push(number));
        holds!(
            "idle-expires",
            gone.is_empty() || due.is_some_and(|due_ms| due_ms <= self.now_ms),
            "connections expire at {}, and {due:?} was returned",
            self.now_ms
        );
        self.close_idle(&gone);
        let timeout_ms = self.pool.spec().timeout_ms;
        let stale = self
            .connections
            .iter()
            .find(|one| matches!(one.at, At::Idle { since_ms, .. } if self.now_ms - since_ms >= timeout_ms));
        holds!("idle-expires", stale.is_none(), "{stale:?} is left after a sweep at {}", self.now_ms);
    }

    fn close_idle(&mut self, gone: &[usize]) {
        for &number in gone {
            let at = self.connections[number].at;
            holds!(
                "one-place",
                matches!(at, At::Idle { .. }),
                "connection {number} leaves the pool from {at:?}"
            );
            self.connections[number].at = At::Closed;
        }
    }

    fn peer_closes_idle(&mut self) {
        let idle: Vec<usize> = (0..self.connections.len())
            .filter(|&number| matches!(self.connections[number].at, At::Idle { .. }))
            .collect();
        if idle.is_empty() {
            return;
        }
        let number = *self.seeded.one_of(&idle);
        let removed = self.pool.remove_where(|kept| *kept == number);
        holds!("one-place", removed == Some(number), "{number} was to leave the pool, {removed:?} did");
        self.connections[number].at = At::Closed;
    }

    fn replace_peers(&mut self) {
        tell!("the peers are replaced");
        let balancer = self.group.spec().balancer;
        let mut spec = random_spec(&mut self.seeded, balancer);
        spec.keepalive = *self.pool.spec();
        self.group.replace_peers(Arc::new(spec));
        // Another list: tried peers are counted anew, and failures stay with the servers.
        for request in &mut self.requests {
            request.names.clear();
        }
        self.marks.clear();
        let staying: Vec<Address> = self.group.peers().iter().map(|peer| peer.address().clone()).collect();
        let mut gone = Vec::new();
        self.pool.drain_where(|key| !staying.contains(&key.address), |number| gone.push(number));
        self.close_idle(&gone);
        let left = self
            .connections
            .iter()
            .find(|one| matches!(one.at, At::Idle { .. }) && !staying.contains(&one.key.address));
        holds!("idle-fits", left.is_none(), "{left:?} is kept for a peer that is gone");
    }

    fn reconfigure(&mut self) {
        let spec = random_keepalive(&mut self.seeded);
        tell!("the pool gets {spec:?}");
        let mut gone = Vec::new();
        self.pool.reconfigure(spec, self.now_ms, |number| gone.push(number));
        self.close_idle(&gone);
    }

    /// Checks that each lease under way is counted once, on its peer, and nothing else.
    fn check_leases(&self) {
        let mut held: HashMap<&str, u32> = HashMap::new();
        for request in &self.requests {
            if let Some(lease) = &request.lease {
                *held.entry(&self.group.peer(lease).spec().name).or_default() += 1;
            }
        }
        for peer in self.group.peers().iter().chain(self.group.departed()) {
            let (name, count) = (peer.spec().name.as_str(), peer.conns());
            let expected = held.remove(name).unwrap_or(0);
            holds!("lease-ends", count == expected, "{name} counts {count} connections and has {expected}");
        }
        holds!("lease-ends", held.is_empty(), "leases on unknown peers: {held:?}");
    }

    /// Checks that the pool has exactly the idle connections, and no more than allowed.
    fn check_pool(&self) {
        let idle = self.connections.iter().filter(|one| matches!(one.at, At::Idle { .. })).count();
        let (len, most) = (self.pool.len(), self.pool.spec().max_idle);
        holds!("one-place", len as usize == idle, "the pool has {len}, and {idle} lie idle");
        holds!("idle-bound", len <= most, "the pool has {len} of {most}");
    }
}
