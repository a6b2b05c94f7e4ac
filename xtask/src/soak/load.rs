//! A load that knows which group must answer while the group is switched under it.
//!
//! Whether an answer came from the right group is decided by counting: switches begun and switches done. A request
//! that saw no switch begin between its start and its end has one right group; one that did may be answered by either.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::client::{Answer, Connection, PATIENCE};
use super::memory::{self, Memory};

const THREADS: u64 = 4;
const CONNECTIONS_PER_THREAD: usize = 64;

/// What is sent, and who may answer.
pub(super) struct Load {
    pub(super) front: SocketAddr,
    /// The ports of the group at the start, and of the other one. Each answer's body is `server name PORT`.
    pub(super) groups: [[u16; 2]; 2],
    pub(super) requests: u64,
    pub(super) switches: u64,
    /// Memory may be so much higher at the end than after the warm-up, beside 2 %: a collector's waves, windows of
    /// figures that fill, not a leak.
    pub(super) waves_kib: u64,
    /// The server's master.
    pub(super) pid: u32,
}

/// What came of it.
pub(super) struct Figures {
    pub(super) answered: u64,
    /// Answers that had one right group; the others ran while a switch was under way.
    judged: u64,
    switched: u64,
    seconds: f64,
    warm_kib: u64,
    end_kib: u64,
    peak_kib: u64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} answers in {:.1} s, {} switches under way, {} answers with one right group and the rest during a switch, \
             none failed; memory {} KiB after warm-up, {} KiB at the end, peak {} KiB",
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

/// What the load threads and the switching thread share.
#[derive(Default)]
struct Run {
    answered: AtomicU64,
    begun: AtomicU64,
    done: AtomicU64,
    /// Answers that had one right group; the others ran while a switch was under way.
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
    /// Sends it all; `switch` moves the traffic to the group of that number (0 is the first) each time a share of the
    /// answers is in.
    pub(super) fn run(&self, switch: &mut dyn FnMut(usize) -> Result<(), String>) -> Result<Figures, String> {
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
        let (warm_kib, end_kib) = growth(&samples, self.waves_kib)?;
        Ok(Figures {
            answered,
            judged: shared.judged.load(Ordering::SeqCst),
            switched,
            seconds: started.elapsed().as_secs_f64(),
            warm_kib,
            end_kib,
            peak_kib: memory::of_tree(self.pid).peak_kib,
        })
    }

    /// Switches whenever the next share of the answers is in, and looks at the memory each time.
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
                } else if last.elapsed() > PATIENCE {
                    shared.fail("no answer any more".to_owned());
                    shared.stop.store(true, Ordering::SeqCst);
                }
                if shared.stop.load(Ordering::SeqCst) {
                    return samples;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            samples.push(memory::of_tree(self.pid));
            shared.begun.store(number, Ordering::SeqCst);
            if let Err(error) = switch((number % 2) as usize) {
                shared.fail(format!("switch {number}: {error}"));
            }
            shared.done.store(number, Ordering::SeqCst);
        }
        samples
    }

    /// One thread's requests: one under way on each of its connections.
    fn send(&self, shared: &Run, requests: u64) -> Result<(), String> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS_PER_THREAD {
            connections.push(Connection::open(self.front)?);
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
                    *connection = Connection::open(self.front)?;
                }
            }
            left -= round;
        }
        Ok(())
    }
}

/// The highest memory soon after the warm-up and at the end; an error if it grew.
fn growth(samples: &[Memory], waves_kib: u64) -> Result<(u64, u64), String> {
    let part = |from: usize, to: usize| {
        let (from, to) = (samples.len() * from / 10, samples.len() * to / 10);
        samples[from..to].iter().map(|sample| sample.resident_kib).max().unwrap_or(0)
    };
    let (warm, end) = (part(2, 5), part(7, 10));
    if warm == 0 || end > warm + warm / 50 + waves_kib {
        return Err(format!("memory grew from {warm} KiB after warm-up to {end} KiB"));
    }
    Ok((warm, end))
}

/// Is it an answer of a group that was current between `before` switches done and `after` switches begun?
fn judge(answer: &Answer, groups: [[u16; 2]; 2], before: u64, after: u64) -> Result<(), String> {
    if answer.status != 200 {
        return Err(format!("status {}: {}", answer.status, answer.body));
    }
    let port = answer.body.trim_end().strip_prefix("server name ").and_then(|port| port.parse().ok());
    let group = port.and_then(|port| groups.iter().position(|group| group.contains(&port)));
    match group {
        Some(group) if after > before || group as u64 == before % 2 => Ok(()),
        Some(group) => Err(format!("after switch {before} group {group} answered")),
        None => Err(format!("no server says {:?}", answer.body)),
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
    fn an_answer_of_the_group_before_is_right_only_while_the_switch_is_under_way() {
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
    fn growth_is_told_from_waves() {
        let of = |resident_kib| Memory { resident_kib, peak_kib: 0 };
        let flat: Vec<Memory> = (0..50).map(|i| of(10_000 + i % 3 * 300)).collect();
        assert!(growth(&flat, 1024).is_ok());
        let leak: Vec<Memory> = (0..50).map(|i| of(10_000 + i * 100)).collect();
        assert!(growth(&leak, 1024).is_err());
        assert!(growth(&[], 1024).is_err());
    }
}
