//! A load that knows which group must answer while the group is switched.
//!
//! Counts of switches begun and done decide whether an answer came from the right group. A request during which no
//! switch was under way has one right group; the others may be answered by either.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use testkit::proc::Memory;

use crate::client::{Answer, Client};
use crate::connection::TIMEOUT;

const THREADS: u64 = 4;
const CONNECTIONS_PER_THREAD: usize = 64;

/// A load and the groups that may answer it.
pub(crate) struct Load {
    pub(crate) front: SocketAddr,
    /// The ports of the group at the start, and of the other one. Each answer's body is `server name PORT`.
    pub(crate) groups: [[u16; 2]; 2],
    pub(crate) requests: u64,
    pub(crate) switches: u64,
    /// How much higher memory may be at the end than after the warm-up, beside 2 %: garbage collection and statistics
    /// windows that fill are no leak.
    pub(crate) allowed_growth_kib: u64,
    /// The process id of the server's master.
    pub(crate) pid: u32,
}

/// The results of a load.
pub(crate) struct Results {
    answered: u64,
    /// Answers with one right group; the others came during a switch.
    judged: u64,
    switched: u64,
    seconds: f64,
    warm_kib: u64,
    end_kib: u64,
    peak_kib: u64,
}

impl std::fmt::Display for Results {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} answers in {:.1} s with {} switches, none failed; {} had one right group, the others came during a switch; \
             memory {} KiB after warm-up, {} KiB at the end, peak {} KiB",
            self.answered,
            self.seconds,
            self.switched,
            self.judged,
            self.warm_kib,
            self.end_kib,
            self.peak_kib
        )
    }
}

/// State shared by the load threads and the switching thread.
#[derive(Default)]
struct Run {
    answered: AtomicU64,
    begun: AtomicU64,
    done: AtomicU64,
    /// Answers with one right group.
    judged: AtomicU64,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Run {
    fn fail(&self, text: String) {
        let mut failures = self.failures.lock().unwrap_or_else(|e| e.into_inner());
        failures.push(text);
        // One is enough to fail; a few show the pattern.
        if failures.len() >= 10 {
            self.stop.store(true, Ordering::SeqCst);
        }
    }
}

impl Load {
    /// Sends all requests; `switch` moves the traffic to the group of that number (0 is the first) each time another
    /// share of the answers has arrived.
    pub(crate) fn run(&self, switch: &mut dyn FnMut(usize) -> Result<(), String>) -> Result<Results, String> {
        let started = Instant::now();
        let shared = Run::default();
        let share = self.requests / THREADS;
        let samples = std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    if let Err(error) = self.send(&shared, share) {
                        shared.fail(error);
                        shared.stop.store(true, Ordering::SeqCst);
                    }
                });
            }
            self.switch_on(&shared, share * THREADS, switch)
        });
        let answered = shared.answered.load(Ordering::SeqCst);
        let switched = shared.done.load(Ordering::SeqCst);
        let failures = shared.failures.into_inner().unwrap_or_else(|e| e.into_inner());
        if !failures.is_empty() {
            return Err(format!("after {answered} answers: {}", failures.join("; ")));
        }
        if answered < share * THREADS || switched < self.switches {
            return Err(format!("only {answered} answers and {switched} switches"));
        }
        let (warm_kib, end_kib) = growth(&samples, self.allowed_growth_kib)?;
        Ok(Results {
            answered,
            judged: shared.judged.load(Ordering::SeqCst),
            switched,
            seconds: started.elapsed().as_secs_f64(),
            warm_kib,
            end_kib,
            peak_kib: Memory::of(self.pid).peak_rss_kib,
        })
    }

    /// Switches whenever the next share of the answers has arrived; samples the memory each time.
    fn switch_on(
        &self,
        shared: &Run,
        total: u64,
        switch: &mut dyn FnMut(usize) -> Result<(), String>,
    ) -> Vec<Memory> {
        let mut samples = Vec::new();
        let mut last = Instant::now();
        let mut seen = 0;
        for number in 1..=self.switches {
            loop {
                let answered = shared.answered.load(Ordering::SeqCst);
                if answered >= total * number / (self.switches + 1) {
                    break;
                }
                if answered > seen {
                    (seen, last) = (answered, Instant::now());
                } else if last.elapsed() > TIMEOUT {
                    shared.fail("no more answers".to_owned());
                    shared.stop.store(true, Ordering::SeqCst);
                }
                if shared.stop.load(Ordering::SeqCst) {
                    return samples;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            samples.push(Memory::of(self.pid));
            shared.begun.store(number, Ordering::SeqCst);
            if let Err(error) = switch((number % 2) as usize) {
                shared.fail(format!("switch {number}: {error}"));
            }
            shared.done.store(number, Ordering::SeqCst);
        }
        samples
    }

    /// Sends the requests of one thread: one at a time on each of its connections.
    fn send(&self, shared: &Run, requests: u64) -> Result<(), String> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS_PER_THREAD {
            connections.push(Client::connect(self.front)?);
        }
        let mut left = requests;
        while left > 0 && !shared.stop.load(Ordering::SeqCst) {
            let round = left.min(connections.len() as u64);
            let before = shared.done.load(Ordering::SeqCst);
            for connection in connections.iter_mut().take(round as usize) {
                connection.send("/")?;
            }
            for connection in connections.iter_mut().take(round as usize) {
                let answer = connection.answer()?;
                let after = shared.begun.load(Ordering::SeqCst);
                if let Err(text) = judge(&answer, self.groups, before, after) {
                    shared.fail(text);
                }
                shared.judged.fetch_add(u64::from(before == after), Ordering::SeqCst);
                shared.answered.fetch_add(1, Ordering::SeqCst);
                if answer.closes {
                    *connection = Client::connect(self.front)?;
                }
            }
            left -= round;
        }
        Ok(())
    }
}

/// Returns the highest memory after the warm-up and at the end; fails if it grew.
fn growth(samples: &[Memory], allowed_growth_kib: u64) -> Result<(u64, u64), String> {
    let part = |from: usize, to: usize| {
        let (from, to) = (samples.len() * from / 10, samples.len() * to / 10);
        samples[from..to].iter().map(|sample| sample.rss_kib).max().unwrap_or(0)
    };
    let (warm, end) = (part(2, 5), part(7, 10));
    if warm == 0 || end > warm + warm / 50 + allowed_growth_kib {
        return Err(format!("memory grew from {warm} KiB after warm-up to {end} KiB"));
    }
    Ok((warm, end))
}

/// Checks that an answer came from a group that was current between `before` switches done and `after` switches begun.
fn judge(answer: &Answer, groups: [[u16; 2]; 2], before: u64, after: u64) -> Result<(), String> {
    if answer.status != 200 {
        return Err(format!("status {}: {}", answer.status, answer.body));
    }
    let port = answer.body.trim_end().strip_prefix("server name ").and_then(|port| port.parse().ok());
    let group = port.and_then(|port| groups.iter().position(|group| group.contains(&port)));
    match group {
        Some(group) if after > before || group as u64 == before % 2 => Ok(()),
        Some(group) => Err(format!("after switch {before} group {group} answered")),
        None => Err(format!("unknown server in {:?}", answer.body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: [[u16; 2]; 2] = [[1, 2], [3, 4]];

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.to_owned(), closes: false }
    }

    #[test]
    fn the_previous_group_is_right_only_during_a_switch() {
        let old = answer(200, "server name 2\n");
        assert!(judge(&old, PORTS, 0, 0).is_ok());
        assert!(judge(&old, PORTS, 0, 1).is_ok());
        assert!(judge(&old, PORTS, 1, 1).is_err());
        assert!(judge(&old, PORTS, 2, 2).is_ok());
        assert!(judge(&answer(200, "server name 3\n"), PORTS, 1, 1).is_ok());
        assert!(judge(&answer(200, "server name 9\n"), PORTS, 0, 1).is_err());
        assert!(judge(&answer(502, "server name 2\n"), PORTS, 0, 0).is_err());
    }

    #[test]
    fn a_leak_differs_from_waves() {
        let of = |rss_kib| Memory { rss_kib, ..Memory::default() };
        let flat: Vec<Memory> = (0..50).map(|i| of(10_000 + i % 3 * 300)).collect();
        assert!(growth(&flat, 1024).is_ok());
        let leak: Vec<Memory> = (0..50).map(|i| of(10_000 + i * 100)).collect();
        assert!(growth(&leak, 1024).is_err());
        assert!(growth(&[], 1024).is_err());
    }
}
