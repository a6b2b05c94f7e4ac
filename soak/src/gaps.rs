//! The time without an answer after a kill of the worker process, and of the master, beside nginx in the same run.
//!
//! A probe asks over a new connection every millisecond. A gap is the longest time between two answers from the kill until
//! the service is complete again, so that it is never below the pause of the probe.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testkit::proc;

use crate::Plan;
use crate::durations::Durations;
use crate::server::{Program, SharedDir, address, prepare, signal, until};

const CONF: &str = "worker_processes 1;
pid logs/server.pid;
error_log logs/error.log;
events {}
http {
    access_log off;
    server { listen 127.0.0.1:{port:front}; return 200; }
}
";
/// Between two kills of a worker.
const KILL_PAUSE: Duration = Duration::from_millis(300);
/// Between the kill of a master and the next start, as a supervisor would wait.
const START_PAUSE: Duration = Duration::from_millis(100);
/// Between two requests of the probe.
const PROBE_PAUSE: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest gaps of pointsman that pass; far above what a busy machine needs.
const WORKER_LIMIT: Duration = Duration::from_millis(500);
const MASTER_LIMIT: Duration = Duration::from_millis(500);
const SHARES: [f64; 4] = [0.5, 0.9, 0.99, 1.0];

/// Runs the test; returns the distributions.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let kills = plan.kills.unwrap_or(30);
    let ours = Measured::of("pointsman", &plan.program(), kills, true)?;
    let nginx = Program { binary: PathBuf::from("/usr/sbin/nginx"), is_nginx: false };
    let peer = match nginx.binary.exists() {
        true => Measured::of("nginx", &nginx, kills, false)?.to_string(),
        false if std::env::var_os("CI").is_some_and(|ci| ci == "true") => {
            return Err("nginx is not installed".to_owned());
        }
        false => "nginx is not installed".to_owned(),
    };
    let text = format!("time without an answer after each of {kills} kills\n{ours}\n{peer}");
    let within = |gaps: &Gaps, limit: Duration| {
        gaps.refused == 0 && u128::from(gaps.all.quantile_us(1.0)) <= limit.as_micros()
    };
    match within(&ours.worker, WORKER_LIMIT) && within(&ours.master, MASTER_LIMIT) && ours.master.lost == 0 {
        true => Ok(text),
        false => Err(text),
    }
}

/// The gaps of one kind of kill.
struct Gaps {
    all: Durations,
    /// Connections that were refused, and requests that were accepted and not answered.
    refused: u64,
    lost: u64,
}

/// The figures of one server.
struct Measured {
    name: String,
    worker: Gaps,
    master: Gaps,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = |gaps: &Gaps| {
            format!(
                "{}; {} connections refused, {} requests lost",
                gaps.all.in_ms(&SHARES),
                gaps.refused,
                gaps.lost
            )
        };
        writeln!(
            out,
            "{}, worker killed every {} ms: {}",
            self.name,
            KILL_PAUSE.as_millis(),
            line(&self.worker)
        )?;
        write!(
            out,
            "{}, master killed, started again after {} ms: {}",
            self.name,
            START_PAUSE.as_millis(),
            line(&self.master)
        )
    }
}

impl Measured {
    fn of(name: &str, program: &Program, kills: u64, takes_over: bool) -> Result<Measured, String> {
        let version = Command::new(&program.binary).arg("-v").output().map_err(|e| format!("{name}: {e}"))?;
        let version = String::from_utf8_lossy(&version.stderr);
        let version = version.trim().rsplit('/').next().unwrap_or_default();
        let dir = prepare(CONF)?;
        let front = address(&dir, "front")?;
        let probe = Probe::default();
        std::thread::scope(|scope| {
            let mut masters = Masters { program, dir: &dir, front, takes_over, running: None };
            masters.start()?;
            scope.spawn(|| probe.run(front));
            let measured = (|| {
                let worker = probe.gaps(kills, || {
                    masters.kill_worker()?;
                    Ok(KILL_PAUSE)
                })?;
                let master = probe.gaps(kills, || {
                    masters.kill_master()?;
                    Ok(Duration::ZERO)
                })?;
                Ok(Measured { name: format!("{name} {version}"), worker, master })
            })();
            probe.stop.store(true, Ordering::SeqCst);
            measured
        })
    }
}

/// Asks all the time, and notes when it is answered.
#[derive(Default)]
struct Probe {
    answers: Mutex<Vec<Instant>>,
    refused: AtomicU64,
    lost: AtomicU64,
    stop: AtomicBool,
}

impl Probe {
    fn run(&self, front: SocketAddr) {
        while !self.stop.load(Ordering::SeqCst) {
            match TcpStream::connect_timeout(&front, TIMEOUT) {
                Err(_) => drop(self.refused.fetch_add(1, Ordering::SeqCst)),
                Ok(stream) if is_answered(&stream) => self.answers().push(Instant::now()),
                Ok(_) => drop(self.lost.fetch_add(1, Ordering::SeqCst)),
            }
            std::thread::sleep(PROBE_PAUSE);
        }
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Vec<Instant>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Disturbs the service so many times, waits each time as long as the disturbance says, and measures the gaps.
    fn gaps(
        &self,
        times: u64,
        mut disturb: impl FnMut() -> Result<Duration, String>,
    ) -> Result<Gaps, String> {
        let mut all = Durations::new()?;
        let before = (self.refused.load(Ordering::SeqCst), self.lost.load(Ordering::SeqCst));
        for _ in 0..times {
            self.await_answer(Instant::now())?;
            let begun = Instant::now();
            let pause = disturb()?;
            std::thread::sleep(pause.saturating_sub(begun.elapsed()));
            self.await_answer(Instant::now())?;
            let answers = self.answers();
            let first = answers.partition_point(|at| *at < begun).saturating_sub(1);
            let gap = answers[first..].windows(2).map(|pair| pair[1] - pair[0]).max();
            all.record(gap.unwrap_or_default());
        }
        Ok(Gaps {
            all,
            refused: self.refused.load(Ordering::SeqCst) - before.0,
            lost: self.lost.load(Ordering::SeqCst) - before.1,
        })
    }

    /// Waits for an answer after this time.
    fn await_answer(&self, since: Instant) -> Result<(), String> {
        until("an answer", || self.answers().last().is_some_and(|last| *last > since).then_some(()))
    }
}

fn is_answered(mut stream: &TcpStream) -> bool {
    let mut text = String::new();
    let exchange = stream
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| stream.write_all(b"GET / HTTP/1.0\r\n\r\n"))
        .and_then(|()| stream.read_to_string(&mut text));
    exchange.is_ok() && text.starts_with("HTTP/1.1 200 ")
}

/// The master process that runs at the moment, in the foreground.
struct Masters<'a> {
    program: &'a Program,
    dir: &'a SharedDir,
    front: SocketAddr,
    /// A start takes the sockets over from the worker of a dead master. nginx does not start while such workers have them.
    takes_over: bool,
    running: Option<Child>,
}

impl Masters<'_> {
    /// Starts a master, and waits for its worker.
    fn start(&mut self) -> Result<(), String> {
        let mut command = self.program.command(self.dir, false);
        let child = command.stderr(Stdio::null()).spawn().map_err(|e| e.to_string())?;
        let master = child.id();
        self.running = Some(child);
        until("a worker", || (!proc::children(master).is_empty()).then_some(()))?;
        until("the port", || TcpStream::connect(self.front).ok().map(drop))
    }

    fn master(&self) -> Result<u32, String> {
        self.running.as_ref().map(Child::id).ok_or_else(|| "no master runs".to_owned())
    }

    fn kill_worker(&mut self) -> Result<(), String> {
        let master = self.master()?;
        let worker = until("a worker", || proc::children(master).first().copied())?;
        signal(worker, Signal::SIGKILL)
    }

    /// Kills the master and starts another one, after the end of the workers if it does not take over.
    fn kill_master(&mut self) -> Result<(), String> {
        let master = self.master()?;
        let workers = until("a worker", || Some(proc::children(master)).filter(|all| !all.is_empty()))?;
        signal(master, Signal::SIGKILL)?;
        if let Some(mut child) = self.running.take() {
            child.wait().map_err(|e| e.to_string())?;
        }
        std::thread::sleep(START_PAUSE);
        if !self.takes_over {
            workers.iter().try_for_each(|worker| signal(*worker, Signal::SIGQUIT))?;
            until("the end of the workers", || {
                (!workers.iter().any(|one| proc::is_running(*one))).then_some(())
            })?;
        }
        self.start()?;
        until("the end of the old worker", || {
            (!workers.iter().any(|one| proc::is_running(*one))).then_some(())
        })
    }
}

impl Drop for Masters<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = signal(child.id(), Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}
