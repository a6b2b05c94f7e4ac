//! What was asked, what came of it, and what was going on meanwhile.
//!
//! Owns the counts and the failures. Time is kept by counting, not by clocks: whoever begins notes how many
//! disturbances of each kind are over, whoever ends looks how many have begun, and one that has begun and was not over
//! has overlapped. Must never decide whether a failure is excused for any other reason.

use super::boards::Verdict;
use super::wire::{Fault, What};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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
    /// Through doors that reloads open and shut.
    Side,
    /// What misbehaves, or asks for an origin that does.
    Rough,
}

impl Kind {
    pub(super) const ALL: [Kind; 8] = [
        Kind::Small,
        Kind::Thinking,
        Kind::Large,
        Kind::Upload,
        Kind::Fresh,
        Kind::Tunnel,
        Kind::Side,
        Kind::Rough,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Small => "small",
            Kind::Thinking => "think time",
            Kind::Large => "large",
            Kind::Upload => "chunked upload",
            Kind::Fresh => "new connections",
            Kind::Tunnel => "WebSocket",
            Kind::Side => "side doors",
            Kind::Rough => "misbehaving",
        }
    }
}

/// What is done to the server meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Reload,
    Upgrade,
    Switch,
    Kill,
}

impl Doing {
    pub(super) const ALL: [Doing; 4] = [Doing::Reload, Doing::Upgrade, Doing::Switch, Doing::Kill];

    pub(super) fn name(self) -> &'static str {
        match self {
            Doing::Reload => "reload",
            Doing::Upgrade => "upgrade",
            Doing::Switch => "switch",
            Doing::Kill => "kill",
        }
    }
}

/// How long the old process of an upgrade may answer on connections that it has, after the upgrade: the configuration's
/// `keepalive_min_timeout`, and as much again for the last answers.
const LAST_ANSWERS_MS: u64 = 6000;

/// How many disturbances of each kind were over when something began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen([u64; 4]);

/// A request, or a tunnel, that did not end well.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    /// Which disturbances overlapped it.
    pub(super) during: [bool; 4],
    pub(super) fault: Fault,
    /// Since the start of the run.
    pub(super) at_ms: u64,
}

impl Failure {
    /// It was under way when the process that had it was killed, and lost nothing but its connection.
    pub(super) fn is_excused(&self) -> bool {
        self.during[Doing::Kill as usize] && matches!(self.fault.what, What::Lost | What::Raced)
    }
}

#[derive(Debug, Default)]
struct Mark {
    begun: AtomicU64,
    done: AtomicU64,
    overlapped: AtomicU64,
}

/// What came of one kind of traffic.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) ended_well: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Ledger {
    started: Instant,
    marks: [Mark; 4],
    tallies: [Tally; 8],
    failures: Mutex<Vec<Failure>>,
    /// When the last upgrade was over.
    upgraded_ms: AtomicU64,
    /// Connections that the server closed between requests, and the client saw it before it sent.
    pub(super) closed_idle: AtomicU64,
    /// Answers that came from the one right group; those during a switch of their key; those of a process that was
    /// behind; and how far the last of these was, in ms.
    pub(super) judged: [AtomicU64; 4],
    /// Traffic is to end.
    pub(super) stop: AtomicBool,
}

impl Ledger {
    pub(super) fn new() -> Ledger {
        Ledger {
            started: Instant::now(),
            marks: Default::default(),
            tallies: Default::default(),
            failures: Mutex::default(),
            upgraded_ms: AtomicU64::new(0),
            closed_idle: AtomicU64::new(0),
            judged: Default::default(),
            stop: AtomicBool::new(false),
        }
    }

    /// Something begins that may be disturbed.
    pub(super) fn begin(&self) -> Seen {
        Seen(std::array::from_fn(|doing| self.marks[doing].done.load(SeqCst)))
    }

    /// Which disturbances have overlapped what began then.
    pub(super) fn during(&self, seen: Seen) -> [bool; 4] {
        std::array::from_fn(|doing| self.marks[doing].begun.load(SeqCst) > seen.0[doing])
    }

    /// May either of two processes have answered what began then?
    pub(super) fn had_two_processes(&self, seen: Seen) -> bool {
        let since_ms = self.elapsed_ms().saturating_sub(self.upgraded_ms.load(SeqCst));
        let (upgrades, _) = self.mark(Doing::Upgrade);
        self.during(seen)[Doing::Upgrade as usize] || upgrades > 0 && since_ms <= LAST_ANSWERS_MS
    }

    /// It ended as it should.
    pub(super) fn ended_well(&self, kind: Kind, seen: Seen, bytes: u64) {
        let tally = &self.tallies[kind as usize];
        tally.ended_well.fetch_add(1, SeqCst);
        tally.bytes.fetch_add(bytes, SeqCst);
        for (mark, during) in self.marks.iter().zip(self.during(seen)) {
            mark.overlapped.fetch_add(u64::from(during), SeqCst);
        }
    }

    /// It did not.
    pub(super) fn failed(&self, kind: Kind, seen: Seen, fault: Fault) {
        let failure = Failure { kind, during: self.during(seen), fault, at_ms: self.elapsed_ms() };
        self.failures.lock().unwrap_or_else(|e| e.into_inner()).push(failure);
    }

    /// An answer's group was looked at.
    pub(super) fn judged(&self, verdict: Verdict) {
        let [right, under_way, behind, most_ms] = &self.judged;
        match verdict {
            Verdict::Right => right.fetch_add(1, SeqCst),
            Verdict::UnderWay => under_way.fetch_add(1, SeqCst),
            Verdict::Behind(ms) => {
                most_ms.fetch_max(ms, SeqCst);
                behind.fetch_add(1, SeqCst)
            }
        };
    }

    /// A disturbance begins; it lasts until [`Ledger::done`].
    pub(super) fn doing(&self, doing: Doing) {
        self.marks[doing as usize].begun.fetch_add(1, SeqCst);
    }

    /// It is over.
    pub(super) fn done(&self, doing: Doing) {
        if doing == Doing::Upgrade {
            self.upgraded_ms.store(self.elapsed_ms(), SeqCst);
        }
        self.marks[doing as usize].done.fetch_add(1, SeqCst);
    }

    /// How many disturbances of a kind there were, and how many requests that ended well overlapped one.
    pub(super) fn mark(&self, doing: Doing) -> (u64, u64) {
        let mark = &self.marks[doing as usize];
        (mark.done.load(SeqCst), mark.overlapped.load(SeqCst))
    }

    pub(super) fn tally(&self, kind: Kind) -> &Tally {
        &self.tallies[kind as usize]
    }

    pub(super) fn failures(&self) -> Vec<Failure> {
        self.failures.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Requests that ended, well or not.
    pub(super) fn ended(&self) -> u64 {
        let well: u64 = self.tallies.iter().map(|tally| tally.ended_well.load(SeqCst)).sum();
        well + self.failures.lock().unwrap_or_else(|e| e.into_inner()).len() as u64
    }

    /// Since the start of the run.
    pub(super) fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Is the traffic to end?
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> Fault {
        Fault { what: What::Lost, text: "gone".to_owned() }
    }

    #[test]
    fn only_what_was_under_way_at_a_kill_is_excused() {
        let ledger = Ledger::new();
        let early = ledger.begin();
        ledger.failed(Kind::Small, early, lost());
        ledger.doing(Doing::Kill);
        ledger.failed(Kind::Small, early, lost());
        ledger.failed(Kind::Small, early, Fault { what: What::Refused, text: String::new() });
        let within = ledger.begin();
        ledger.done(Doing::Kill);
        ledger.failed(Kind::Small, within, lost());
        ledger.failed(Kind::Small, ledger.begin(), lost());
        let excused: Vec<bool> = ledger.failures().iter().map(Failure::is_excused).collect();
        assert_eq!(excused, [false, true, false, true, false]);
    }

    #[test]
    fn overlaps_are_counted() {
        let ledger = Ledger::new();
        let seen = ledger.begin();
        ledger.doing(Doing::Reload);
        ledger.done(Doing::Reload);
        ledger.ended_well(Kind::Large, seen, 10);
        ledger.ended_well(Kind::Large, ledger.begin(), 10);
        assert_eq!(ledger.mark(Doing::Reload), (1, 1));
        assert_eq!(ledger.mark(Doing::Kill), (0, 0));
        assert!(!ledger.had_two_processes(ledger.begin()));
        ledger.doing(Doing::Upgrade);
        ledger.done(Doing::Upgrade);
        assert!(ledger.had_two_processes(seen) && ledger.had_two_processes(ledger.begin()));
        assert_eq!(ledger.tally(Kind::Large).bytes.load(SeqCst), 20);
        assert_eq!(ledger.ended(), 2);
    }
}
