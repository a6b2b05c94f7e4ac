//! The health checks of a process: which servers are asked what, and their turns.
//!
//! Owns: the round of asking, recording and waiting. Must never: keep a server's state; that lies in its entry.

use crate::ask::{KeptConnection, ProbeAnswer, ProbeRequest, ask};
use crate::schedule::{Schedule, first_turn, next_turn};
use crate::shared::{HealthReport, Shared, random};
use engine::probe::CheckSpec;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tls::UpstreamContext;
use transport::buffers::Buffers;
use upstream::Address;
use upstream::health::{Health, LastCheck, ServerHealth};

/// The most checks under way at once: more of them wait for their turn.
const AT_ONCE: usize = 256;
/// How often it is looked whether servers have come.
const LOOK_MS: u64 = 50;
/// How often servers that have gone are looked for.
const SWEEP_MS: u64 = 5000;

/// The name under which checks ask.
const AGENT: &str = "pointsman (health check)";

/// A check of a configuration.
#[derive(Clone, Debug)]
pub(crate) struct ConfiguredCheck {
    pub(crate) group: Arc<str>,
    pub(crate) spec: Arc<CheckSpec>,
    pub(crate) probe: Arc<engine::probe::Probe>,
    pub(crate) context: Option<Arc<UpstreamContext>>,
}

/// One check of one server.
struct Job {
    /// Kept alive by the peers that refer to it; while this is here, no other entry has its address.
    server: Weak<ServerHealth>,
    check: Arc<ConfiguredCheck>,
    kept: Option<KeptConnection>,
    is_under_way: bool,
}

/// The result of a job: its number, when it began, the answer, and a connection to keep.
pub(crate) struct Done {
    job: u64,
    began_ms: u64,
    answer: ProbeAnswer,
    kept: Option<KeptConnection>,
}

/// All checks.
#[derive(Default)]
pub(crate) struct Checks {
    configured: Vec<Arc<ConfiguredCheck>>,
    jobs: HashMap<u64, Job>,
    /// By the entry of the server and the text of the check.
    numbers: HashMap<(usize, Arc<str>), u64>,
    next_number: u64,
    schedule: Schedule,
    under_way: usize,
    /// When servers were last looked for, and how many had come until then.
    looked: Option<(u64, u64)>,
}

impl Checks {
    /// Takes over the checks of a configuration.
    pub(crate) fn configure(&mut self, checks: Vec<ConfiguredCheck>) {
        self.configured = checks.into_iter().map(Arc::new).collect();
        self.looked = None;
    }

    /// Returns how long nothing is to be done, unless a job ends.
    pub(crate) fn rest(&self, now_ms: u64) -> Duration {
        let look = match (self.configured.is_empty(), self.looked) {
            (true, Some(_)) => return Duration::MAX,
            (_, None) => 0,
            (false, Some(_)) => LOOK_MS,
        };
        let due = match self.schedule.next_due_ms() {
            Some(due_ms) if self.under_way < AT_ONCE => due_ms.saturating_sub(now_ms),
            _ => look,
        };
        Duration::from_millis(look.min(due))
    }

    /// Looks for servers that have come or gone, if it is time.
    pub(crate) fn look(&mut self, inner: &Shared, now_ms: u64) {
        let arrivals = inner.health.arrivals();
        let is_recent = |(looked_ms, known)| known == arrivals && now_ms < looked_ms + SWEEP_MS;
        if self.looked.is_some_and(is_recent) {
            return;
        }
        self.looked = Some((now_ms, arrivals));
        let mut numbers = HashMap::new();
        for check in &self.configured {
            let group = inner.health.find(&check.group);
            for server in group.map(|group| group.servers()).unwrap_or_default() {
                let key = (Arc::as_ptr(&server).addr(), Arc::clone(&check.spec.text));
                let number = match self.numbers.get(&key) {
                    Some(number) => *number,
                    None => {
                        self.next_number += 1;
                        let waits = server.health() != Health::Healthy;
                        let due_ms = first_turn(&check.spec.times, waits, now_ms, random());
                        self.schedule.set(self.next_number, due_ms);
                        self.next_number
                    }
                };
                match self.jobs.get_mut(&number) {
                    Some(job) => job.check = Arc::clone(check),
                    None => {
                        let (server, check) = (Arc::downgrade(&server), Arc::clone(check));
                        self.jobs.insert(number, Job { server, check, kept: None, is_under_way: false });
                    }
                }
                numbers.insert(key, number);
            }
        }
        self.numbers = numbers;
        let known: HashSet<u64> = self.numbers.values().copied().collect();
        let gone: Vec<u64> = self.jobs.keys().copied().filter(|number| !known.contains(number)).collect();
        for number in gone {
            self.schedule.remove(number);
            if let Some(job) = self.jobs.remove(&number) {
                self.under_way -= usize::from(job.is_under_way);
            }
        }
    }

    /// Begins a check whose turn has come.
    pub(crate) fn begin(
        &mut self,
        buffers: &Rc<Buffers>,
        now_ms: u64,
    ) -> Option<impl Future<Output = Done> + 'static> {
        if self.under_way >= AT_ONCE {
            return None;
        }
        // One whose server has gone has no more turns; it is swept.
        let (number, job, server) = loop {
            let number = self.schedule.take_due(now_ms)?;
            if let Some(job) = self.jobs.get(&number)
                && let Some(server) = job.server.upgrade()
            {
                break (number, self.jobs.get_mut(&number)?, server);
            }
        };
        job.is_under_way = true;
        self.under_way += 1;
        let (probe_request, kept, buffers) =
            (probe_request(job, &server), job.kept.take(), Rc::clone(buffers));
        Some(async move {
            let (answer, kept) = ask(&probe_request, &buffers, kept).await;
            Done { job: number, began_ms: now_ms, answer, kept }
        })
    }

    /// Records the result of a check, and gives its server the next turn.
    pub(crate) fn end(&mut self, inner: &Shared, done: Done, now_ms: u64) {
        let Some(job) = self.jobs.get_mut(&done.job) else { return };
        self.under_way -= 1;
        job.is_under_way = false;
        job.kept = done.kept;
        let Some(server) = job.server.upgrade() else { return };
        let spec = &job.check.spec;
        let (passed, reason) = match done.answer.outcome {
            Ok(reason) => (true, reason),
            Err(reason) => (false, reason),
        };
        let reason: Arc<str> = reason.into();
        let took_us = done.answer.took.as_micros() as u64;
        let last = LastCheck { at_ms: now_ms, took_us, passed, reason: Arc::clone(&reason) };
        if let Some(change) = server.record(&spec.text, &spec.rules, last) {
            inner.report(&HealthReport {
                group: Arc::clone(&job.check.group),
                address: server.address().to_string(),
                check: Arc::clone(&spec.text),
                from: change.from,
                to: change.to,
                reason,
            });
        }
        self.schedule.set(done.job, next_turn(&spec.times, done.began_ms, now_ms, random()));
    }
}

fn probe_request(job: &Job, server: &ServerHealth) -> ProbeRequest {
    let spec = &job.check.spec;
    let times = spec.times;
    let name = spec.tls.as_ref().and_then(|tls| tls.name.clone());
    ProbeRequest {
        address: with_port(server.address(), spec.port),
        probe: Arc::clone(&job.check.probe),
        host: spec.host.clone(),
        agent: AGENT,
        tls: job.check.context.clone().map(|context| (context, name)),
        connect: Some(Duration::from_millis(times.connect)),
        total: Duration::from_millis(times.total),
        keepalive: Duration::from_millis(times.keepalive),
    }
}

fn with_port(address: &Address, port: Option<u16>) -> Address {
    match (address, port) {
        (Address::Inet(address), Some(port)) => {
            let mut address = *address;
            address.set_port(port);
            Address::Inet(address)
        }
        _ => address.clone(),
    }
}
