//! One workload from start to end: all sides are started, get their rounds in turn, then the extra measurements.
//!
//! Every side gets the same load in the same rounds, one after the other, each round in another order, so that a
//! disturbance of the machine hits all of them. A failed request fails the workload.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::proc::{CpuTime, Memory, core_busy_ns};

use crate::comparison::{Comparison, Measurements, QUANTILES};
use crate::cores::Cores;
use crate::idle_connections::IdleConnections;
use crate::load::{Load, Requests, Until};
use crate::origin::Origin;
use crate::peer::{Kind, Peer};
use crate::server::{Server, get};
use crate::syscalls::{Traced, Tracer};
use crate::workload::{Extra, Side, Workload};

/// Connections of the load.
pub(crate) const CONNECTIONS: usize = 64;
/// The share of the reference's highest rate that is offered to all.
pub(crate) const OFFERED_SHARE: f64 = 0.7;
const WORKERS_TO_SPREAD: usize = 2;
/// The longest that strace traces.
const COUNTING: Duration = Duration::from_secs(3);
/// How long a server rests before its memory with idle connections is read.
const REST: Duration = Duration::from_secs(6);
/// How often the rounds of a workload are repeated at most, if they disagree and there is time. Twice as many rounds
/// make an interval 30 % narrower.
pub(crate) const TIMES_AT_MOST: usize = 4;
/// How often starts and reloads are timed.
const RESTARTS: usize = 5;

/// The number and length of rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    /// Rounds at the highest rate that the server can serve.
    pub(crate) rounds: usize,
    /// Samples at the offered rate.
    pub(crate) offered_rounds: usize,
    /// The length of each round at the highest rate.
    pub(crate) round: Duration,
    /// The length of each round at the offered rate.
    pub(crate) offered_round: Duration,
    /// The time that all workloads together may use for more rounds.
    pub(crate) spare: Duration,
}

/// The reason why a workload has no result.
pub(crate) enum Stop {
    /// It cannot be run here.
    Skipped(String),
    Failed(String),
}

impl From<String> for Stop {
    fn from(error: String) -> Stop {
        Stop::Failed(error)
    }
}

/// The state shared by all workloads of a run.
pub(crate) struct Bench<'a> {
    pub(crate) peers: &'a [Peer],
    pub(crate) cores: Cores,
    pub(crate) pace: Pace,
    pub(crate) origin: Origin,
}

/// A side while it runs.
struct Contender<'r> {
    side: &'static Side,
    server: Server,
    load: Load<'r>,
    /// Idle connections.
    held: Option<IdleConnections>,
    measured: Measurements,
}

impl Bench<'_> {
    /// Runs a workload.
    pub(crate) fn run(&mut self, workload: &'static Workload) -> Result<Comparison, Stop> {
        let requests = workload.requests();
        let mut comparison = Comparison { workload, sides: Vec::new(), offered: None, absent: Vec::new() };
        let mut contenders = self.start_all(workload, &requests, &mut comparison.absent)?;
        for contender in &mut contenders {
            self.warm(contender)?;
        }
        let length = self.pace.round * (self.pace.rounds * contenders.len()) as u32;
        for _ in 0..TIMES_AT_MOST {
            self.closed_rounds(&mut contenders)?;
            comparison.sides = contenders.iter().map(|contender| contender.measured.clone()).collect();
            if comparison.uncertain().is_empty() {
                break;
            }
            let Some(spare) = self.pace.spare.checked_sub(length) else { break };
            self.pace.spare = spare;
        }
        let reference = contenders.iter().find(|c| c.measured.label == workload.reference);
        let rate = reference.and_then(|reference| reference.measured.rate.median());
        let rate = rate.ok_or_else(|| Stop::Failed(format!("{} has no rate", workload.reference)))?;
        comparison.offered = Some(rate * OFFERED_SHARE);
        self.offered_rounds(&mut contenders, rate * OFFERED_SHARE)?;
        for contender in &mut contenders {
            if let Err(error) = self.count_calls(contender, workload, &requests) {
                comparison.absent.push(format!("system calls of {}: {error}", contender.measured.label));
            }
            let memory = Memory::of(contender.server.pid());
            contender.measured.memory.peak_rss_kib = memory.peak_rss_kib;
            if let Some(line) = contender.server.complaint(&["alert", "emerg", "crit"]) {
                return Err(Stop::Failed(format!("{}: {line}", contender.measured.label)));
            }
        }
        comparison.sides = contenders.into_iter().map(|contender| contender.measured).collect();
        match workload.extra {
            Extra::Nothing => {}
            Extra::Accepts => self.accepts(workload, &requests, &mut comparison)?,
            Extra::Restarts => self.restarts(workload, &mut comparison)?,
        }
        Ok(comparison)
    }

    /// Returns the programs of a side, with the label of each.
    fn programs(&self, side: &Side) -> Vec<(Peer, String)> {
        let peers = self.peers.iter().filter(|peer| peer.kind == side.kind);
        peers.map(|peer| (peer.clone(), format!("{} {}", peer.name, side.suffix).trim().to_owned())).collect()
    }

    fn start_all<'r>(
        &mut self,
        workload: &'static Workload,
        requests: &'r Requests,
        absent: &mut Vec<String>,
    ) -> Result<Vec<Contender<'r>>, Stop> {
        let mut contenders = Vec::new();
        for side in workload.sides {
            for (peer, label) in self.programs(side) {
                let server = match self.start(&peer, side, &[]) {
                    Ok(server) => server,
                    Err(error) if peer.kind == Kind::Pointsman => {
                        return Err(Stop::Skipped(format!("{label}: {error}")));
                    }
                    Err(error) => {
                        absent.push(format!("{label}: {error}"));
                        continue;
                    }
                };
                let load = Load::new(server.front, requests, CONNECTIONS)?;
                let mut measured = Measurements { label, ..Measurements::default() };
                measured.memory.idle_kib = Memory::of(server.pid()).pss_kib;
                contenders.push(Contender { side, server, load, held: None, measured });
            }
        }
        if !contenders.iter().any(|contender| contender.measured.label == workload.reference) {
            return Err(Stop::Skipped(format!("{} is not there; {}", workload.reference, absent.join("; "))));
        }
        Ok(contenders)
    }

    /// Starts a program with a side's configuration on the server's core, or on both where several workers run.
    fn start(&mut self, peer: &Peer, side: &Side, with: &[(&str, &str)]) -> Result<Server, String> {
        let mut files = crate::conf::files(peer, side.conf)?;
        let origin = self.origin.address()?.port().to_string();
        let usual = [("{workers}", "1"), ("{generation}", "1"), ("{keepalive}", "")];
        let ports = [("{origin}", origin.as_str())];
        for (_, text) in &mut files {
            for (name, value) in with.iter().chain(&side.with).chain(&ports).chain(&usual) {
                *text = text.replace(name, value);
            }
        }
        let all = [self.cores.server, self.cores.load];
        let on = if with.iter().any(|(name, _)| *name == "{workers}") { &all[..] } else { &all[..1] };
        Server::start(peer, &files, (&self.cores, on))
    }

    /// Warms a server up while its memory is watched, and opens the idle connections.
    fn warm(&mut self, contender: &mut Contender) -> Result<(), String> {
        let origin = &mut self.origin;
        let pid = contender.server.pid();
        let over = AtomicBool::new(false);
        let length = Until::after(self.pace.round * 4);
        let (result, peak_kib) = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut peak_kib = 0;
                while !over.load(Ordering::Relaxed) {
                    peak_kib = Memory::of(pid).pss_kib.max(peak_kib);
                    std::thread::sleep(Duration::from_millis(20));
                }
                peak_kib
            });
            let result = contender.load.closed(length, &mut || origin.turn());
            over.store(true, Ordering::Relaxed);
            (result, watch.join().unwrap_or(0))
        });
        result.map_err(|error| format!("{}: {error}", contender.measured.label))?;
        contender.measured.memory.peak_kib = peak_kib;
        if contender.side.idle == 0 {
            return Ok(());
        }
        let before = at_rest(pid);
        let held = IdleConnections::open(contender.server.front, contender.side.idle, &mut || origin.turn())
            .map_err(|error| format!("{}, idle connections: {error}", contender.measured.label))?;
        let grown_kib = at_rest(pid) as f64 - before as f64;
        let count = contender.side.idle;
        contender.measured.memory.idle_connections = Some((count, grown_kib * 1024.0 / count as f64));
        contender.held = Some(held);
        Ok(())
    }

    fn closed_rounds(&mut self, contenders: &mut [Contender]) -> Result<(), String> {
        let origin = &mut self.origin;
        for round in 0..self.pace.rounds {
            for at in 0..contenders.len() {
                let at = (at + round) % contenders.len();
                let Contender { server, load, measured, .. } = &mut contenders[at];
                server.empty_logs();
                let busy_before = core_busy_ns(self.cores.server);
                let (before, begin) = (CpuTime::of(server.pid()), Instant::now());
                let closed = load
                    .closed(Until::after(self.pace.round), &mut || origin.turn())
                    .map_err(|error| format!("{}: {error}", measured.label))?;
                let spent = CpuTime::of(server.pid()).since(&before);
                let elapsed_ns = begin.elapsed().as_nanos() as f64;
                let busy_ns = core_busy_ns(self.cores.server) - busy_before;
                if closed.answers == 0 {
                    return Err(format!("{}: no answer in a whole round", measured.label));
                }
                measured.cost_us.0.push(spent.total_ns as f64 / 1e3 / closed.answers as f64);
                measured.user_share.0.push(spent.user_share);
                measured.rate.0.push(closed.answers as f64 / closed.seconds);
                measured.others_share.0.push(busy_ns.saturating_sub(spent.total_ns) as f64 / elapsed_ns);
                let memory = &mut measured.memory;
                memory.peak_kib = memory.peak_kib.max(Memory::of(server.pid()).pss_kib);
            }
        }
        Ok(())
    }

    fn offered_rounds(&mut self, contenders: &mut [Contender], rate: f64) -> Result<(), String> {
        let origin = &mut self.origin;
        for round in 0..self.pace.offered_rounds {
            for at in 0..contenders.len() {
                let at = (at + round) % contenders.len();
                let Contender { server, load, measured, .. } = &mut contenders[at];
                server.empty_logs();
                let before = CpuTime::of(server.pid());
                let open = load
                    .open(rate, self.pace.offered_round, round as u64, &mut || origin.turn())
                    .map_err(|error| format!("{}, at the offered rate: {error}", measured.label))?;
                let spent = CpuTime::of(server.pid()).since(&before);
                measured.unanswered += open.unanswered;
                let answers = open.latencies_ns.len() - open.unanswered as u64;
                if answers > 0 {
                    measured.offered_cost_us.0.push(spent.total_ns as f64 / 1e3 / answers as f64);
                }
                for (samples, share) in measured.latency_us.iter_mut().zip(QUANTILES) {
                    samples.0.extend(open.quantile_us(share));
                }
            }
        }
        Ok(())
    }

    /// Counts system calls per request, at one connection and at many.
    fn count_calls(
        &mut self,
        contender: &mut Contender,
        workload: &Workload,
        requests: &Requests,
    ) -> Result<(), String> {
        let origin = &mut self.origin;
        let count = workload.counted_requests();
        let mut calls = Vec::new();
        for connections in [1, CONNECTIONS] {
            let mut load = Load::new(contender.server.front, requests, connections)?;
            // Connections are opened before counting starts.
            load.closed(Until::answers(connections as u64), &mut || origin.turn())?;
            let counting = Tracer::attach(contender.server.pid(), Traced::ByName)?;
            let until = Until::answers(count).or_after(COUNTING);
            let answers = load.closed(until, &mut || origin.turn())?.answers;
            let counted = counting.finish()?;
            calls.push(counted.into_iter().map(|(name, n)| (name, n as f64 / answers as f64)).collect());
        }
        contender.measured.calls = calls.try_into().ok();
        Ok(())
    }

    /// Measures how the connections of a load spread over several workers.
    fn accepts(
        &mut self,
        workload: &'static Workload,
        requests: &Requests,
        comparison: &mut Comparison,
    ) -> Result<(), String> {
        for side in workload.sides {
            for (peer, label) in self.programs(side) {
                let Some(at) = comparison.sides.iter().position(|side| side.label == label) else { continue };
                let server = self.start(&peer, side, &[("{workers}", &WORKERS_TO_SPREAD.to_string())])?;
                let origin = &mut self.origin;
                let mut load = Load::new(server.front, requests, CONNECTIONS)?;
                // A master may listen before its workers run; a server that answers has them.
                load.closed(Until::answers(CONNECTIONS as u64), &mut || origin.turn())
                    .map_err(|error| format!("{label}, two workers: {error}"))?;
                let counting = match Tracer::attach(server.pid(), Traced::AcceptsByThread) {
                    Ok(counting) => counting,
                    Err(error) => {
                        comparison.absent.push(format!("accepts of {label}: {error}"));
                        continue;
                    }
                };
                load.closed(Until::answers(4_000).or_after(COUNTING), &mut || origin.turn())
                    .map_err(|error| format!("{label}, accepts: {error}"))?;
                let mut accepts: Vec<u64> = counting.finish()?.into_values().collect();
                // A worker that took none is not in the list.
                accepts.resize(accepts.len().max(WORKERS_TO_SPREAD), 0);
                comparison.sides[at].accepts = accepts;
            }
        }
        Ok(())
    }

    /// Times how long it takes until a server answers, and until it answers with another configuration.
    fn restarts(&mut self, workload: &'static Workload, comparison: &mut Comparison) -> Result<(), String> {
        for _ in 0..RESTARTS {
            for side in workload.sides {
                for (peer, label) in self.programs(side) {
                    let Some(at) = comparison.sides.iter().position(|side| side.label == label) else {
                        continue;
                    };
                    let conf = crate::conf::files(&peer, side.conf)?;
                    let Some((name, text)) = conf.iter().find(|(_, text)| text.contains("{generation}"))
                    else {
                        continue;
                    };
                    let begin = Instant::now();
                    let server = self.start(&peer, side, &[])?;
                    get(server.front, "/generation").map_err(|error| format!("{label}: {error}"))?;
                    comparison.sides[at].starts_ms.0.push(begin.elapsed().as_secs_f64() * 1e3);
                    let text = text
                        .replace("{workers}", "1")
                        .replace("{origin}", &self.origin.address()?.port().to_string())
                        .replace("{generation}", "2");
                    let took = server
                        .reload((name, &text), "/generation", "generation 2")
                        .map_err(|error| format!("{label}: {error}"))?;
                    comparison.sides[at].reloads_ms.0.push(took.as_secs_f64() * 1e3);
                }
            }
        }
        Ok(())
    }
}

impl Pace {
    /// Returns rounds as long as the time allows for so many sides; an eighth of it is kept for more rounds.
    ///
    /// Many short ones, since it is their turns that make two sides comparable: what disturbs a machine rarely comes and
    /// goes within a quarter of a second.
    pub(crate) fn fit(quick: bool, sides: usize, budget: Duration) -> Pace {
        // The time of a side beside its rounds: start, warm-up, strace, end, and waiting for late answers.
        const EXTRA_SECONDS: f64 = 7.0;
        // A round at a rate must hold enough requests for its 99.9th percentile.
        const OFFERED_TIMES: f64 = 4.0;
        let (rounds, offered_rounds, longest) = if quick { (6, 1, 0.15) } else { (30, 5, 0.25) };
        let rounds_of_all = sides.max(1) as f64 * (rounds as f64 + OFFERED_TIMES * offered_rounds as f64);
        let spare = budget / 8;
        let free_seconds = (budget - spare).as_secs_f64() - EXTRA_SECONDS * sides as f64;
        let round = Duration::from_secs_f64((free_seconds / rounds_of_all).clamp(0.1, longest));
        Pace { rounds, offered_rounds, round, offered_round: round.mul_f64(OFFERED_TIMES), spare }
    }
}

/// Returns the memory of a server in KiB after a rest, in which it may give back what the work before needed.
fn at_rest(pid: u32) -> u64 {
    std::thread::sleep(REST);
    Memory::of(pid).pss_kib
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_fit_into_the_time() {
        let pace = |quick, sides, minutes: u64| Pace::fit(quick, sides, Duration::from_secs(60 * minutes));
        assert_eq!(pace(true, 50, 14).round, Duration::from_millis(150));
        assert_eq!(pace(false, 3, 14).round, Duration::from_millis(250));
        let full = pace(false, 50, 14);
        let rounds = 30.0 * full.round.as_secs_f64() + 5.0 * full.offered_round.as_secs_f64();
        let seconds = 50.0 * (rounds + 7.0) + full.spare.as_secs_f64();
        assert!((830.0..850.0).contains(&seconds), "{seconds}");
    }
}
