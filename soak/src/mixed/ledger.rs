//! The results of a run: requests, failures, and the disturbances that overlapped each of them.
//!
//! Overlaps are found by counting, not by clocks: a request records at its start how many disturbances of each kind are
//! over and compares that at its end with how many have begun. Nothing else excuses a failure.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use super::verdicts::Verdict;
use crate::connection::{Fault, FaultKind};

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// Small answers on a connection that is kept.
    Small,
    /// The same with up to two seconds between.
    Thinking,
    /// Answers of some MiB, each byte compared.
    Large,
    /// Chunked bodies, each byte compared by the origin.
    Upload,
    /// A connection for each request.
    Fresh,
    /// A WebSocket whose frames come back.
    Tunnel,
    /// Through ports that reloads open and close.
    SidePort,
    /// Clients that misbehave, or request an origin that does.
    Misbehaving,
}

impl Traffic {
    pub(super) const ALL: [Traffic; 8] = [
        Traffic::Small,
        Traffic::Thinking,
        Traffic::Large,
        Traffic::Upload,
        Traffic::Fresh,
        Traffic::Tunnel,
        Traffic::SidePort,
        Traffic::Misbehaving,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Traffic::Small => "small",
            Traffic::Thinking => "think time",
            Traffic::Large => "large",
            Traffic::Upload => "chunked upload",
            Traffic::Fresh => "new connections",
            Traffic::Tunnel => "WebSocket",
            Traffic::SidePort => "side ports",
            Traffic::Misbehaving => "misbehaving",
        }
    }
}

/// A disturbance of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disturbance {
    Reload,
    Upgrade,
    Switch,
    Kill,
}

impl Disturbance {
    pub(super) const ALL: [Disturbance; 4] =
        [Disturbance::Reload, Disturbance::Upgrade, Disturbance::Switch, Disturbance::Kill];

    pub(super) fn name(self) -> &'static str {
        match self {
            Disturbance::Reload => "reload",
            Disturbance::Upgrade => "upgrade",
            Disturbance::Switch => "switch",
            Disturbance::Kill => "kill",
        }
    }
}

/// How long the old process of an upgrade may answer on its connections afterwards: `keepalive_min_timeout` of the
/// configuration, and as much again for the last answers.
const LAST_ANSWERS_MS: u64 = 6000;

/// How many disturbances of each kind were over when a request began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start([u64; 4]);

/// A request, or a tunnel, that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) traffic: Traffic,
    /// The disturbances that overlapped it.
    pub(super) during: [bool; 4],
    pub(super) fault: Fault,
    /// Milliseconds since the start of the run.
    pub(super) at_ms: u64,
}

impl Failure {
    /// Returns true if it overlapped a kill, and only lost its connection.
    pub(super) fn is_excused(&self) -> bool {
        self.during[Disturbance::Kill as usize]
            && matches!(self.fault.kind, FaultKind::Lost | FaultKind::Raced)
    }
}

/// Counts of one kind of disturbance.
#[derive(Debug, Default)]
struct DisturbanceCounts {
    begun: AtomicU64,
    done: AtomicU64,
    overlapped: AtomicU64,
}

/// Counts of one kind of traffic.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) succeeded: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// All counts of a run.
#[derive(Debug)]
pub(super) struct Ledger {
    started: Instant,
    disturbances: [DisturbanceCounts; 4],
    tallies: [Tally; 8],
    failures: Mutex<Vec<Failure>>,
    /// When the last upgrade was over.
    upgraded_ms: AtomicU64,
    /// Connections that the server closed between requests, noticed by the client before it sent.
    pub(super) closed_idle: AtomicU64,
    /// Answers from the one right group, during a switch of their key, and from a process that lagged behind; and the
    /// longest lag in ms.
    pub(super) judged: [AtomicU64; 4],
    /// The traffic should end.
    pub(super) stop: AtomicBool,
}

impl Ledger {
    pub(super) fn new() -> Ledger {
        Ledger {
            started: Instant::now(),
            disturbances: Default::default(),
            tallies: Default::default(),
            failures: Mutex::default(),
            upgraded_ms: AtomicU64::new(0),
            closed_idle: AtomicU64::new(0),
            judged: Default::default(),
            stop: AtomicBool::new(false),
        }
    }

    /// Records the begin of a request.
    pub(super) fn begin(&self) -> Start {
        Start(std::array::from_fn(|at| self.disturbances[at].done.load(SeqCst)))
    }

    /// Returns which kinds of disturbance have overlapped a request since its start.
    pub(super) fn during(&self, start: Start) -> [bool; 4] {
        std::array::from_fn(|at| self.disturbances[at].begun.load(SeqCst) > start.0[at])
    }

    /// Returns true if either of two processes may have answered a request with this start.
    pub(super) fn had_two_processes(&self, start: Start) -> bool {
        let since_ms = self.elapsed_ms().saturating_sub(self.upgraded_ms.load(SeqCst));
        let (upgrades, _) = self.disturbances(Disturbance::Upgrade);
        self.during(start)[Disturbance::Upgrade as usize] || upgrades > 0 && since_ms <= LAST_ANSWERS_MS
    }

    /// Counts a request that succeeded.
    pub(super) fn succeeded(&self, traffic: Traffic, start: Start, bytes: u64) {
        let tally = &self.tallies[traffic as usize];
        tally.succeeded.fetch_add(1, SeqCst);
        tally.bytes.fetch_add(bytes, SeqCst);
        for (counts, during) in self.disturbances.iter().zip(self.during(start)) {
            counts.overlapped.fetch_add(u64::from(during), SeqCst);
        }
    }

    /// Counts a request that failed.
    pub(super) fn failed(&self, traffic: Traffic, start: Start, fault: Fault) {
        let failure = Failure { traffic, during: self.during(start), fault, at_ms: self.elapsed_ms() };
        self.failures.lock().unwrap_or_else(|e| e.into_inner()).push(failure);
    }

    /// Counts a verdict.
    pub(super) fn judged(&self, verdict: Verdict) {
        let [right, under_way, behind, max_lag_ms] = &self.judged;
        match verdict {
            Verdict::Right => right.fetch_add(1, SeqCst),
            Verdict::UnderWay => under_way.fetch_add(1, SeqCst),
            Verdict::Behind(ms) => {
                max_lag_ms.fetch_max(ms, SeqCst);
                behind.fetch_add(1, SeqCst)
            }
        };
    }

    /// Records the begin of a disturbance; it lasts until [`Ledger::done`].
    pub(super) fn disturb(&self, disturbance: Disturbance) {
        self.disturbances[disturbance as usize].begun.fetch_add(1, SeqCst);
    }

    /// Records the end of a disturbance.
    pub(super) fn done(&self, disturbance: Disturbance) {
        if disturbance == Disturbance::Upgrade {
            self.upgraded_ms.store(self.elapsed_ms(), SeqCst);
        }
        self.disturbances[disturbance as usize].done.fetch_add(1, SeqCst);
    }

    /// Returns the number of disturbances of a kind, and of successful requests that overlapped one.
    pub(super) fn disturbances(&self, disturbance: Disturbance) -> (u64, u64) {
        let counts = &self.disturbances[disturbance as usize];
        (counts.done.load(SeqCst), counts.overlapped.load(SeqCst))
    }

    pub(super) fn tally(&self, traffic: Traffic) -> &Tally {
        &self.tallies[traffic as usize]
    }

    pub(super) fn failures(&self) -> Vec<Failure> {
        self.failures.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Returns the number of requests that ended.
    pub(super) fn ended(&self) -> u64 {
        let succeeded: u64 = self.tallies.iter().map(|tally| tally.succeeded.load(SeqCst)).sum();
        succeeded + self.failures.lock().unwrap_or_else(|e| e.into_inner()).len() as u64
    }

    /// Milliseconds since the start of the run.
    pub(super) fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Returns true if the traffic should end.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> Fault {
        Fault { kind: FaultKind::Lost, text: "gone".to_owned() }
    }

    #[test]
    fn only_requests_under_way_at_a_kill_are_excused() {
        let ledger = Ledger::new();
        let early = ledger.begin();
        ledger.failed(Traffic::Small, early, lost());
        ledger.disturb(Disturbance::Kill);
        ledger.failed(Traffic::Small, early, lost());
        ledger.failed(Traffic::Small, early, Fault { kind: FaultKind::Refused, text: String::new() });
        let within = ledger.begin();
        ledger.done(Disturbance::Kill);
        ledger.failed(Traffic::Small, within, lost());
        ledger.failed(Traffic::Small, ledger.begin(), lost());
        let excused: Vec<bool> = ledger.failures().iter().map(Failure::is_excused).collect();
        assert_eq!(excused, [false, true, false, true, false]);
    }

    #[test]
    fn overlaps_are_counted() {
        let ledger = Ledger::new();
        let start = ledger.begin();
        ledger.disturb(Disturbance::Reload);
        ledger.done(Disturbance::Reload);
        ledger.succeeded(Traffic::Large, start, 10);
        ledger.succeeded(Traffic::Large, ledger.begin(), 10);
        assert_eq!(ledger.disturbances(Disturbance::Reload), (1, 1));
        assert_eq!(ledger.disturbances(Disturbance::Kill), (0, 0));
        assert!(!ledger.had_two_processes(ledger.begin()));
        ledger.disturb(Disturbance::Upgrade);
        ledger.done(Disturbance::Upgrade);
        assert!(ledger.had_two_processes(start) && ledger.had_two_processes(ledger.begin()));
        assert_eq!(ledger.tally(Traffic::Large).bytes.load(SeqCst), 20);
        assert_eq!(ledger.ended(), 2);
    }
}
