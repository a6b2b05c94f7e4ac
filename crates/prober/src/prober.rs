//! The handle of the prober, and its thread.
//!
//! Owns: the thread, which begins with the first probe or check and ends with the last handle. Must never: let probes
//! of gates wait behind checks; each kind has a bound of its own.

use crate::ask::{ProbeAnswer, ProbeRequest, ask};
use crate::checks::{Checks, ConfiguredCheck, Done};
use crate::shared::{Observer, Shared, lock};
use engine::Config;
use engine::probe::ProbeTls;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tls::{Contexts, UpstreamContext};
use tokio::sync::{Semaphore, mpsc, oneshot};
use transport::buffers::Buffers;
use upstream::GroupSets;
use upstream::health::HealthTable;

/// The maximum number of gates' probes under way at once.
const AT_ONCE: usize = 64;

enum Task {
    Ask(Box<ProbeRequest>, oneshot::Sender<ProbeAnswer>),
    Configure(Vec<ConfiguredCheck>),
}

/// Asks servers whether they are well.
#[derive(Clone)]
pub struct Prober {
    inner: Arc<Shared>,
    tasks: Arc<Mutex<Option<mpsc::UnboundedSender<Task>>>>,
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Prober").finish_non_exhaustive()
    }
}

impl Prober {
    /// Creates a prober. `began` is the zero of the clock in which the entries of servers have their times.
    pub fn new(began: Instant) -> Prober {
        let inner =
            Shared { began, health: Arc::default(), observer: OnceLock::new(), contexts: Mutex::default() };
        Prober { inner: Arc::new(inner), tasks: Arc::default() }
    }

    /// Reports each change of a server's health from now on; to be called once.
    pub fn observe(&self, observer: Observer) {
        // A second one is not expected.
        let _ = self.inner.observer.set(observer);
    }

    /// Returns what the checks have found out.
    pub fn health(&self) -> &Arc<HealthTable> {
        &self.inner.health
    }

    /// Returns the time of the entries, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.inner.now_ms()
    }

    /// Notes the TLS of a configuration, for probes that are asked with it.
    pub fn know(&self, config: &Arc<Config>, contexts: &Arc<Contexts>) {
        let mut known = lock(&self.inner.contexts);
        known.retain(|(config, _)| config.strong_count() > 0);
        known.push((Arc::downgrade(config), Arc::clone(contexts)));
    }

    /// Returns the context of a probe's TLS.
    ///
    /// # Errors
    /// The configuration's TLS is not known; the text says so.
    pub fn context(
        &self,
        config: &Arc<Config>,
        tls: &ProbeTls,
        over_http2: bool,
    ) -> Result<Arc<UpstreamContext>, String> {
        let known = lock(&self.inner.contexts);
        let contexts = known.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(config));
        let context =
            contexts.and_then(|(_, contexts)| contexts.upstreams.of_probes(tls.location, over_http2));
        context.cloned().ok_or_else(|| "its TLS is not set up".to_owned())
    }

    /// Puts the checks of a configuration in force: in the entries at once, so that groups that are made next have them.
    /// A group of `groups` that was made at run time has those of the group that it is like.
    pub fn configure(&self, config: &Arc<Config>, groups: &GroupSets) {
        let mut rules: HashMap<&str, Vec<_>> = HashMap::new();
        let mut checks = Vec::new();
        let entry = |name: &str| config.groups.get(config.group(name.as_bytes())?);
        let made = groups.iter().filter(|set| entry(&set.spec.name).is_none());
        let made = made.filter_map(|set| Some((set.spec.name.as_str(), entry(set.like.as_deref()?)?)));
        let configured = config.groups.iter().map(|entry| (entry.spec.name.as_str(), entry));
        for (name, entry) in configured.chain(made) {
            let group: Arc<str> = name.into();
            for spec in &entry.checks {
                rules.entry(name).or_default().push((Arc::clone(&spec.text), spec.rules));
                checks.push(ConfiguredCheck {
                    group: Arc::clone(&group),
                    context: spec
                        .tls
                        .as_ref()
                        .and_then(|tls| self.context(config, tls, spec.probe.is_over_http2()).ok()),
                    probe: Arc::new(spec.probe.clone()),
                    spec: Arc::new(spec.clone()),
                });
            }
        }
        self.inner.health.configure(rules, self.now_ms());
        // Without checks, now and before, no thread is needed.
        if !checks.is_empty() || lock(&self.tasks).is_some() {
            self.send(Task::Configure(checks));
        }
    }

    /// Asks a server. Dropping the receiver does not stop it.
    pub fn ask(&self, probe_request: ProbeRequest) -> oneshot::Receiver<ProbeAnswer> {
        let (sender, answer) = oneshot::channel();
        self.send(Task::Ask(Box::new(probe_request), sender));
        answer
    }

    fn send(&self, task: Task) {
        let mut tasks = lock(&self.tasks);
        let sender = tasks.get_or_insert_with(|| {
            let (sender, inbox) = mpsc::unbounded_channel();
            let inner = Arc::clone(&self.inner);
            let thread = std::thread::Builder::new().name("prober".into()).spawn(move || run(&inner, inbox));
            // Without a thread nothing is answered, and those who wait learn that.
            drop(thread);
            sender
        });
        let _ = sender.send(task);
    }
}

fn run(inner: &Arc<Shared>, mut inbox: mpsc::UnboundedReceiver<Task>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let buffers = Rc::new(Buffers::default());
        let permits = Rc::new(Semaphore::new(AT_ONCE));
        let (ended, mut endings) = mpsc::unbounded_channel::<Done>();
        let mut checks = Checks::default();
        loop {
            let now_ms = inner.now_ms();
            checks.look(inner, now_ms);
            while let Some(check) = checks.begin(&buffers, now_ms) {
                let ended = ended.clone();
                // Fails when the thread ends.
                tokio::task::spawn_local(async move { drop(ended.send(check.await)) });
            }
            // The longest pause is one that the timer takes.
            let rest = checks.rest(inner.now_ms()).min(Duration::from_secs(3600));
            tokio::select! {
                task = inbox.recv() => match task {
                    None => return,
                    Some(Task::Configure(new)) => checks.configure(new),
                    Some(Task::Ask(probe_request, answer)) => {
                        let (buffers, permits) = (Rc::clone(&buffers), Rc::clone(&permits));
                        tokio::task::spawn_local(async move {
                            // The semaphore is never closed.
                            let _permit = permits.acquire().await;
                            let (answered, _) = ask(&probe_request, &buffers, None).await;
                            let _ = answer.send(answered);
                        });
                    }
                },
                Some(done) = endings.recv() => checks.end(inner, done, inner.now_ms()),
                () = tokio::time::sleep(rest) => {}
            }
        }
    });
}
