//! One workload from start to end: all sides started, rounds in turn, then what is measured besides.
//!
//! Every side gets the same load in the same rounds, one after the other, each round in another order, so that what
//! disturbs the machine disturbs them all. It must never tell a figure of a run in which a request failed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::account::{Cpu, Memory, core_busy_ns};
use super::calls::{Counting, What};
use super::cores::Cores;
use super::figures::quantile;
use super::held::Held;
use super::load::{Load, Requests, Until};
use super::origin::Origin;
use super::outcome::{Figures, Outcome, QUANTILES};
use super::peer::{Kind, Peer};
use super::running::{Running, ask, free_port};
use super::workload::{Besides, Side, Workload};

/// Connections of the load.
pub(super) const CONNECTIONS: usize = 64;
/// The share of the reference's top rate that is offered to all.
pub(super) const OFFERED_SHARE: f64 = 0.7;
const WORKERS_TO_SPREAD: usize = 2;
/// How long strace may look on at most.
const COUNTING: Duration = Duration::from_secs(3);
/// How long a server is left alone before its memory beside idle connections is read.
const REST: Duration = Duration::from_secs(6);
/// How often a workload's rounds are run at most, where they disagree and there is time: twice as many make an interval
/// smaller by three tenths.
pub(super) const TIMES_AT_MOST: usize = 4;
/// How often start and reload are timed.
const RESTARTS: usize = 5;

/// How much of each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    /// Rounds as fast as the server can.
    pub(super) rounds: usize,
    /// Rounds at the offered rate.
    pub(super) offered_rounds: usize,
    /// How long each of the first is.
    pub(super) round: Duration,
    /// How long each of the second is.
    pub(super) offered_round: Duration,
    /// What all workloads together may take for more rounds where theirs disagree.
    pub(super) spare: Duration,
}

/// Why a workload has no outcome.
pub(super) enum Stop {
    /// It cannot be run here.
    Skipped(String),
    Failed(String),
}

impl From<String> for Stop {
    fn from(error: String) -> Stop {
        Stop::Failed(error)
    }
}

/// What all workloads of a run share.
pub(super) struct Bench<'a> {
    pub(super) peers: &'a [Peer],
    pub(super) cores: Cores,
    pub(super) pace: Pace,
    pub(super) origin: Origin,
    pub(super) taken_ports: Vec<u16>,
}

/// A side while it runs.
struct Contender<'r> {
    side: &'static Side,
    server: Running,
    load: Load<'r>,
    /// Connections that stand idle.
    held: Option<Held>,
    figures: Figures,
}

impl Bench<'_> {
    /// Runs a workload.
    pub(super) fn run(&mut self, workload: &'static Workload) -> Result<Outcome, Stop> {
        let requests = workload.requests();
        let mut outcome = Outcome { workload, sides: Vec::new(), offered: None, absent: Vec::new() };
        let mut contenders = self.start_all(workload, &requests, &mut outcome.absent)?;
        for contender in &mut contenders {
            self.warm(contender)?;
        }
        let length = self.pace.round * (self.pace.rounds * contenders.len()) as u32;
        for _ in 0..TIMES_AT_MOST {
            self.closed_rounds(&mut contenders)?;
            outcome.sides = contenders.iter().map(|contender| contender.figures.clone()).collect();
            if outcome.uncertain().is_empty() {
                break;
            }
            let Some(spare) = self.pace.spare.checked_sub(length) else { break };
            self.pace.spare = spare;
        }
        let reference = contenders.iter().find(|c| c.figures.label == workload.reference);
        let rate = reference.and_then(|reference| reference.figures.rate.median());
        let rate = rate.ok_or_else(|| Stop::Failed(format!("{} has no rate", workload.reference)))?;
        outcome.offered = Some(rate * OFFERED_SHARE);
        self.offered_rounds(&mut contenders, rate * OFFERED_SHARE)?;
        for contender in &mut contenders {
            if let Err(error) = self.count_calls(contender, workload, &requests) {
                outcome.absent.push(format!("system calls of {}: {error}", contender.figures.label));
            }
            let memory = Memory::of(contender.server.pid());
            contender.figures.memory.peak_rss_kib = memory.peak_rss_kib;
            if let Some(line) = contender.server.complaint(&["alert", "emerg", "crit"]) {
                return Err(Stop::Failed(format!("{}: {line}", contender.figures.label)));
            }
        }
        outcome.sides = contenders.into_iter().map(|contender| contender.figures).collect();
        match workload.besides {
            Besides::Nothing => {}
            Besides::Accepts => self.accepts(workload, &requests, &mut outcome)?,
            Besides::Restarts => self.restarts(workload, &mut outcome)?,
        }
        Ok(outcome)
    }

    /// The programs that a side means, with the label of each.
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
                let mut figures = Figures { label, ..Figures::default() };
                figures.memory.idle_kib = Memory::of(server.pid()).pss_kib;
                contenders.push(Contender { side, server, load, held: None, figures });
            }
        }
        if !contenders.iter().any(|contender| contender.figures.label == workload.reference) {
            return Err(Stop::Skipped(format!("{} is not there; {}", workload.reference, absent.join("; "))));
        }
        Ok(contenders)
    }

    /// Starts a program with a side's configuration on the server's core, or on both where several workers run.
    fn start(&mut self, peer: &Peer, side: &Side, with: &[(&str, &str)]) -> Result<Running, String> {
        let port = free_port(&mut self.taken_ports)?;
        let mut files = super::conf::files(peer, side.conf)?;
        let origin = self.origin.address()?.port().to_string();
        let front = port.to_string();
        let usual = [("{workers}", "1"), ("{generation}", "1"), ("{keepalive}", "")];
        let ports = [("{front}", front.as_str()), ("{origin}", origin.as_str())];
        for (_, text) in &mut files {
            for (name, value) in with.iter().chain(&side.with).chain(&ports).chain(&usual) {
                *text = text.replace(name, value);
            }
        }
        let all = [self.cores.server, self.cores.load];
        let on = if with.iter().any(|(name, _)| *name == "{workers}") { &all[..] } else { &all[..1] };
        let name = format!("{}-{port}", peer.name.replace(' ', "-"));
        Running::start(peer, &name, &files, port, (&self.cores, on))
    }

    /// First requests, a short round that nobody counts while memory is watched, and the idle connections.
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
        result.map_err(|error| format!("{}: {error}", contender.figures.label))?;
        contender.figures.memory.peak_kib = peak_kib;
        if contender.side.idle == 0 {
            return Ok(());
        }
        let before = at_rest(pid);
        let held = Held::open(contender.server.front, contender.side.idle, &mut || origin.turn())
            .map_err(|error| format!("{}, idle connections: {error}", contender.figures.label))?;
        let grown_kib = at_rest(pid) as f64 - before as f64;
        let count = contender.side.idle;
        contender.figures.memory.idle_connections = Some((count, grown_kib * 1024.0 / count as f64));
        contender.held = Some(held);
        Ok(())
    }

    fn closed_rounds(&mut self, contenders: &mut [Contender]) -> Result<(), String> {
        let origin = &mut self.origin;
        for round in 0..self.pace.rounds {
            for at in 0..contenders.len() {
                let at = (at + round) % contenders.len();
                let Contender { server, load, figures, .. } = &mut contenders[at];
                server.empty_logs();
                let busy_before = core_busy_ns(self.cores.server);
                let (before, begin) = (Cpu::of(server.pid()), Instant::now());
                let closed = load
                    .closed(Until::after(self.pace.round), &mut || origin.turn())
                    .map_err(|error| format!("{}: {error}", figures.label))?;
                let spent = Cpu::of(server.pid()).since(&before);
                let elapsed_ns = begin.elapsed().as_nanos() as f64;
                let busy_ns = core_busy_ns(self.cores.server) - busy_before;
                if closed.answers == 0 {
                    return Err(format!("{}: no answer in a whole round", figures.label));
                }
                figures.cost_us.0.push(spent.total_ns as f64 / 1e3 / closed.answers as f64);
                figures.user_share.0.push(spent.user_share);
                figures.rate.0.push(closed.answers as f64 / closed.seconds);
                figures.others_share.0.push(busy_ns.saturating_sub(spent.total_ns) as f64 / elapsed_ns);
                let memory = &mut figures.memory;
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
                let Contender { server, load, figures, .. } = &mut contenders[at];
                server.empty_logs();
                let before = Cpu::of(server.pid());
                let open = load
                    .open(rate, self.pace.offered_round, round as u64, &mut || origin.turn())
                    .map_err(|error| format!("{}, at the offered rate: {error}", figures.label))?;
                let spent = Cpu::of(server.pid()).since(&before);
                figures.unanswered += open.unanswered;
                let answers = open.latencies_ns.len() - open.unanswered;
                if answers > 0 {
                    figures.offered_cost_us.0.push(spent.total_ns as f64 / 1e3 / answers as f64);
                }
                for (rounds, share) in figures.latency_us.iter_mut().zip(QUANTILES) {
                    let found = quantile(&open.latencies_ns, share);
                    rounds.0.extend(found.map(|latency_ns| latency_ns as f64 / 1e3));
                }
            }
        }
        Ok(())
    }

    /// System calls per request, at one connection and at many.
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
            // Connections are there before anybody counts.
            load.closed(Until::answers(connections as u64), &mut || origin.turn())?;
            let counting = Counting::attach(contender.server.pid(), What::ByName)?;
            let until = Until::answers(count).or_after(COUNTING);
            let answers = load.closed(until, &mut || origin.turn())?.answers;
            let counted = counting.finish()?;
            calls.push(counted.into_iter().map(|(name, n)| (name, n as f64 / answers as f64)).collect());
        }
        contender.figures.calls = calls.try_into().ok();
        Ok(())
    }

    /// How the connections of a load spread over several workers.
    fn accepts(
        &mut self,
        workload: &'static Workload,
        requests: &Requests,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        for side in workload.sides {
            for (peer, label) in self.programs(side) {
                let Some(at) = outcome.sides.iter().position(|side| side.label == label) else { continue };
                let server = self.start(&peer, side, &[("{workers}", &WORKERS_TO_SPREAD.to_string())])?;
                let origin = &mut self.origin;
                let mut load = Load::new(server.front, requests, CONNECTIONS)?;
                // A master may listen before its workers are there: whoever serves requests has them.
                load.closed(Until::answers(CONNECTIONS as u64), &mut || origin.turn())
                    .map_err(|error| format!("{label}, two workers: {error}"))?;
                let counting = match Counting::attach(server.pid(), What::AcceptsByThread) {
                    Ok(counting) => counting,
                    Err(error) => {
                        outcome.absent.push(format!("accepts of {label}: {error}"));
                        continue;
                    }
                };
                load.closed(Until::answers(4_000).or_after(COUNTING), &mut || origin.turn())
                    .map_err(|error| format!("{label}, accepts: {error}"))?;
                let mut accepts: Vec<u64> = counting.finish()?.into_values().collect();
                // A worker that took none is not in the list.
                accepts.resize(accepts.len().max(WORKERS_TO_SPREAD), 0);
                outcome.sides[at].accepts = accepts;
            }
        }
        Ok(())
    }

    /// How long it takes until a server answers, and until it answers by another configuration.
    fn restarts(&mut self, workload: &'static Workload, outcome: &mut Outcome) -> Result<(), String> {
        for _ in 0..RESTARTS {
            for side in workload.sides {
                for (peer, label) in self.programs(side) {
                    let Some(at) = outcome.sides.iter().position(|side| side.label == label) else {
                        continue;
                    };
                    let conf = super::conf::files(&peer, side.conf)?;
                    let Some((name, text)) = conf.iter().find(|(_, text)| text.contains("{generation}"))
                    else {
                        continue;
                    };
                    let begin = Instant::now();
                    let server = self.start(&peer, side, &[])?;
                    ask(server.front, "/generation").map_err(|error| format!("{label}: {error}"))?;
                    outcome.sides[at].starts_ms.0.push(begin.elapsed().as_secs_f64() * 1e3);
                    let text = text
                        .replace("{workers}", "1")
                        .replace("{front}", &server.front.port().to_string())
                        .replace("{origin}", &self.origin.address()?.port().to_string())
                        .replace("{generation}", "2");
                    let took = server
                        .reload((name, &text), "/generation", "generation 2")
                        .map_err(|error| format!("{label}: {error}"))?;
                    outcome.sides[at].reloads_ms.0.push(took.as_secs_f64() * 1e3);
                }
            }
        }
        Ok(())
    }
}

impl Pace {
    /// Rounds as long as the time allows for so many sides, an eighth of it kept for more rounds.
    ///
    /// Many short ones, since it is their turns that make two sides comparable: what disturbs a machine rarely comes and
    /// goes within a quarter of a second.
    pub(super) fn fit(quick: bool, sides: usize, budget: Duration) -> Pace {
        // What a side takes besides its rounds: start, warming, strace, end, and rounds that go on until all is answered.
        const BESIDES_SECONDS: f64 = 7.0;
        // A round at a rate must hold enough requests for its 99.9th percentile.
        const OFFERED_TIMES: f64 = 4.0;
        let (rounds, offered_rounds, longest) = if quick { (6, 1, 0.15) } else { (30, 5, 0.25) };
        let rounds_of_all = sides.max(1) as f64 * (rounds as f64 + OFFERED_TIMES * offered_rounds as f64);
        let spare = budget / 8;
        let free_seconds = (budget - spare).as_secs_f64() - BESIDES_SECONDS * sides as f64;
        let round = Duration::from_secs_f64((free_seconds / rounds_of_all).clamp(0.1, longest));
        Pace { rounds, offered_rounds, round, offered_round: round.mul_f64(OFFERED_TIMES), spare }
    }
}

/// A server's memory in KiB once nobody has asked anything for some seconds: what the work before needed may have been
/// given back by then.
fn at_rest(pid: u32) -> u64 {
    std::thread::sleep(REST);
    Memory::of(pid).pss_kib
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_get_the_time_that_there_is() {
        let pace = |quick, sides, minutes: u64| Pace::fit(quick, sides, Duration::from_secs(60 * minutes));
        assert_eq!(pace(true, 50, 14).round, Duration::from_millis(150));
        assert_eq!(pace(false, 3, 14).round, Duration::from_millis(250));
        let full = pace(false, 50, 14);
        let rounds = 30.0 * full.round.as_secs_f64() + 5.0 * full.offered_round.as_secs_f64();
        let seconds = 50.0 * (rounds + 7.0) + full.spare.as_secs_f64();
        assert!((830.0..850.0).contains(&seconds), "{seconds}");
    }
}
