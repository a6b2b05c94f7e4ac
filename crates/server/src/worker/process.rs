//! The program as the master sees it: reading a configuration, and being a worker process.

use crate::context::counters::ProcessCounters;
use crate::context::generation::GenerationDropGuard;
use crate::context::metrics;
use crate::context::shared_state::SharedState;
use crate::proxy::groups::SharedGroups;
use crate::switching::worker_bus::WorkerBus;
use crate::trace;
use crate::worker::acme::AcmeTask;
use crate::worker::cache_keeper::CacheKeeper;
use crate::worker::candidate::{Candidate, distribute, take_control_socket};
use crate::worker::message::{Message, collect};
use crate::worker::panics;
use crate::worker::reload_requests::ReloadRequests;
use crate::worker::requirements::{boot, temporary_folders};
use crate::worker::stapling::StaplingTask;
use crate::worker::system_names::SystemNames;
use crate::worker::thread::{Channel, WorkerThread};
use conf::Diagnostic;
use control::{ControlHandle, Setup};
use engine::config::Inputs;
use engine::modules::acme::AcmeLive;
use engine::modules::core::Identity;
use engine::{Config, Routing};
use prober::Prober;
use process::log::{ErrorLog, Level};
use process::{Application, Finding, Listener, Loaded, ReloadOutcome, Source, WorkerCommand, WorkerInit};
use statistics::{Collector, Layout};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use transport::files;

/// The program.
#[derive(Clone, Debug, Default)]
pub struct Pointsman {
    /// The server's name, in the `Server` field and at the foot of error pages.
    pub identity: Identity,
    /// Sessions of TLS, which outlive a configuration.
    pub sessions: tls::Sessions,
    /// Certificates that ACME has issued, which outlive one, too.
    pub issued: tls::Issued,
    /// The other parts of ACME that change meanwhile.
    pub acme: AcmeLive,
}

/// A configuration that was read, and what holds beside it.
#[derive(Debug)]
pub struct Built {
    pub(super) config: Config,
    pub(super) contexts: Arc<tls::Contexts>,
    /// Whether anything is measured.
    records: bool,
    /// The file for traces of requests.
    trace: Option<PathBuf>,
}

impl Built {
    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// The environment variable that switches metrics off if it is `off`, to see what they cost.
const STATISTICS: &str = "POINTSMAN_STATISTICS";

impl Application for Pointsman {
    type Config = Built;

    fn load(&self, source: &Source, loader: &dyn conf::Loader) -> Loaded<Built> {
        let parsed = conf::parse_with_option(&source.conf_file, source.globals.as_deref(), loader);
        let inputs = Inputs {
            loader,
            names: &SystemNames,
            prefix: source.prefix.clone(),
            file: source.conf_file.clone(),
            identity: self.identity.clone(),
        };
        let finding = |diagnostic: &Diagnostic| Finding {
            level: if diagnostic.is_error() { Level::Emerg } else { Level::Warn },
            line: diagnostic.nginx_line(&parsed.sources),
            picture: diagnostic.render(&parsed.sources, source.colour),
        };
        match engine::config::build(&parsed, &inputs) {
            Err(faults) => Loaded { findings: faults.iter().map(finding).collect(), outcome: None },
            Ok((mut config, mut diagnostics)) => {
                config.http.acme.live = self.acme.clone();
                let contexts = tls::Contexts::build(&config, &self.sessions, &self.issued, &mut diagnostics);
                config.http.certificates.clone_from(&contexts.certificates);
                let findings = diagnostics.iter().map(finding).collect();
                if diagnostics.iter().any(Diagnostic::is_error) {
                    return Loaded { findings, outcome: None };
                }
                let boot = boot(&config, source);
                #[cfg(debug_assertions)]
                panics::provoked::prepare();
                // A worker process has only the variables that `env` names, so the master looks.
                let records = std::env::var_os(STATISTICS).is_none_or(|value| value != "off");
                let trace = std::env::var_os(trace::VARIABLE).map(PathBuf::from);
                Loaded {
                    findings,
                    outcome: Some((boot, Built { config, contexts: Arc::new(contexts), records, trace })),
                }
            }
        }
    }

    fn work(&self, built: Built, init: WorkerInit) -> i32 {
        match WorkerProcess::start(self.clone(), built, init) {
            Ok(process) => process.follow_commands(),
            Err(code) => code,
        }
    }
}

/// The worker process: its threads, and what outlives a generation.
pub(super) struct WorkerProcess {
    pub(super) app: Pointsman,
    pub(super) init: WorkerInit,
    pub(super) shared: SharedState,
    /// The main error log, for the control plane.
    pub(super) office_log: Arc<Mutex<ErrorLog>>,
    pub(super) threads: Vec<WorkerThread>,
    pub(super) config: Arc<Config>,
    pub(super) groups: Arc<SharedGroups>,
    pub(super) dicts: lua::Dicts,
    /// Orders certificates, until this process makes room for another one.
    pub(super) acme: Option<AcmeTask>,
    /// Asks the responders of certificates.
    pub(super) stapling: StaplingTask,
    /// Keeps the zones of kept responses, once there are any.
    pub(super) cache_keeper: Option<CacheKeeper>,
}

/// How often scripts are checked for running too long.
const WATCHDOG_INTERVAL: Duration = Duration::from_millis(100);

/// How long a process that ends waits for the master's answer to a reload.
const LAST_ANSWER: Duration = Duration::from_millis(200);

/// How long a message to all threads waits for their answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

impl WorkerProcess {
    /// Starts the control plane and the threads. Reports a failure to the master; the error is the exit code.
    fn start(app: Pointsman, built: Built, mut init: WorkerInit) -> Result<WorkerProcess, i32> {
        let reporter = init.master.reporter();
        let generation = init.generation;
        let fail = |code| {
            let reporter = reporter.clone();
            move |fault: String| {
                reporter.failed(generation, &fault);
                code
            }
        };
        let mut listeners = std::mem::take(&mut init.listeners);
        let config = Arc::new(built.config);
        let control_socket = take_control_socket(&config, &mut listeners);
        let layout = Arc::new(metrics::layout(&config, &Default::default()));
        let channels = (0..init.threads).map(|_| unbounded_channel()).collect::<Vec<_>>();
        let senders = channels.iter().map(|(sender, _)| sender.clone()).collect();
        let office_log = Arc::new(Mutex::new(init.error_log.clone()));
        panics::log_to(Arc::clone(&office_log));
        sweep(&config, &init.error_log);
        if let Some(path) = &built.trace {
            install_trace(path, &init.error_log);
        }
        let start = ControlStart {
            config: &config,
            contexts: &built.contexts,
            layout: &layout,
            records: built.records,
            senders,
            log: &office_log,
            socket: control_socket,
        };
        // A store may have recovered, so a worker that is started after a crash is started once more.
        let (shared, routing) = start.run(&init).map_err(fail(1))?;
        let (issued, log) = (app.issued.clone(), Arc::clone(&office_log));
        let acme = AcmeTask::start(
            &shared.control,
            shared.on_demand_orders.clone(),
            Arc::clone(&config),
            issued,
            log,
        );
        let stapling =
            StaplingTask::start(&shared.control, Arc::clone(&built.contexts), Arc::clone(&office_log));
        let layout = Arc::new(metrics::layout(&config, &routing.groups));
        shared.collector.lock().unwrap_or_else(PoisonError::into_inner).arrange(Arc::clone(&layout));
        let mut process = WorkerProcess {
            acme: Some(acme),
            stapling,
            cache_keeper: None,
            app,
            groups: Arc::new(SharedGroups::new(&config, &routing, None, &shared.health)),
            dicts: lua::Dicts::new(&config.lua.dicts, None),
            config,
            shared,
            office_log,
            threads: Vec::new(),
            init,
        };
        let candidate = Candidate {
            number: generation,
            config: Arc::clone(&process.config),
            groups: Arc::clone(&process.groups),
            dicts: process.dicts.clone(),
            contexts: built.contexts,
            routing,
            layout,
            files: Arc::clone(&process.init.logs),
            command_line_log: process.init.source.error_log.clone(),
            error_log: process.init.error_log.clone(),
            drop_guard: process.drop_guard(generation),
            addresses: listeners.iter().map(|listener| listener.address.clone()).collect(),
        };
        let started = process.start_threads(&candidate, listeners, channels);
        // nginx does not start a worker again that could not be set up.
        started.inspect_err(|_| process.shared.control.stop()).map_err(fail(2))?;
        process.keep_caches();
        process.init.master.reporter().ready();
        Ok(process)
    }

    /// Starts the thread that keeps zones of responses, if there are any.
    pub(super) fn keep_caches(&mut self) {
        if self.config.http.caches.iter().next().is_none() {
            return;
        }
        match CacheKeeper::start(Arc::clone(&self.config), Arc::clone(&self.office_log)) {
            Ok(keeper) => self.cache_keeper = Some(keeper),
            Err(fault) => self.init.error_log.write(Level::Alert, 0, fault.as_bytes()),
        }
    }

    fn start_threads(
        &mut self,
        candidate: &Candidate,
        listeners: Vec<Listener>,
        channels: Vec<Channel>,
    ) -> Result<(), String> {
        let shares = distribute(listeners, self.shared.threads).map_err(|error| error.to_string())?;
        let (ready, answers) = mpsc::channel();
        for (number, (sockets, channel)) in shares.into_iter().zip(channels).enumerate() {
            let new = candidate.for_thread(sockets);
            let waker = self.init.master.waker();
            let ended = move || waker.wake();
            let thread = WorkerThread::start(number, self.shared.clone(), new, channel, ready.clone(), ended)
                .map_err(|error| format!("a worker thread cannot be started: {error}"))?;
            self.threads.push(thread);
        }
        drop(ready);
        collect(&answers, self.shared.threads)
    }

    /// Returns the guard that reports the end of a generation to the master.
    pub(super) fn drop_guard(&self, number: u64) -> Arc<GenerationDropGuard> {
        Arc::new(GenerationDropGuard { number, reporter: self.init.master.reporter() })
    }

    /// Follows the master's commands until one ends the process; returns the exit code.
    fn follow_commands(mut self) -> i32 {
        loop {
            match self.init.master.next(self.watch_scripts()) {
                Some(WorkerCommand::Reload(reload)) => self.reload(reload),
                Some(WorkerCommand::Reopen(logs)) => {
                    self.flush_logs();
                    if let Err(error) = self.init.logs.adopt(logs) {
                        self.init.error_log.write(Level::Alert, 0, format!("log files: {error}").as_bytes());
                    }
                }
                Some(WorkerCommand::ReloadEnded(answer)) if answer.ticket == ReloadOutcome::BY_SIGNAL => {
                    self.shared.control.note_reload("signal", Err(&answer.findings.join("; ")));
                }
                Some(WorkerCommand::ReloadEnded(answer)) => {
                    self.shared.bus.reload_requests().answered(answer)
                }
                Some(WorkerCommand::Orphaned(left)) => {
                    self.shared.control.refuse_orders(left);
                    self.shared.bus.reload_requests().orphaned();
                }
                Some(WorkerCommand::Quit) => return self.quit(),
                Some(WorkerCommand::Terminate) => return self.terminate(),
                // A thread ends only when it is asked to: anything else is a fault, and the master starts a new process.
                Some(WorkerCommand::Woken) if self.threads.iter().any(WorkerThread::has_ended) => {
                    self.init.error_log.write(Level::Alert, 0, b"a worker thread ended unexpectedly");
                    return 1;
                }
                Some(WorkerCommand::Woken) | None => {}
            }
        }
    }

    /// Stops scripts that have run for too long, and returns when to check again.
    fn watch_scripts(&self) -> Option<Duration> {
        let mut watchdogs = self.shared.watchdogs.lock().unwrap_or_else(PoisonError::into_inner);
        watchdogs.retain(|(generation, _)| generation.strong_count() > 0);
        let now_ms = self.shared.began.elapsed().as_millis() as u64;
        for (_, watchdog) in watchdogs.iter_mut() {
            watchdog.look(now_ms);
        }
        (!watchdogs.is_empty()).then_some(WATCHDOG_INTERVAL)
    }

    /// Writes buffered log lines out. The lines of a thread that is busy for long go to the old file, which does no harm.
    pub(super) fn flush_logs(&self) {
        self.send_all(Message::FlushLogs);
    }

    /// Sends every thread a message and waits until it is done, but not for a thread that is busy for long, with a
    /// script: that one does it later.
    pub(super) fn send_all(&self, message: impl Fn(mpsc::Sender<()>) -> Message) {
        let (done, all) = mpsc::channel();
        self.threads.iter().for_each(|thread| thread.send(message(done.clone())));
        drop(done);
        // Counted: a thread that has answered may keep its end of the channel.
        for _ in &self.threads {
            if all.recv_timeout(ANSWER_TIMEOUT).is_err() {
                return;
            }
        }
    }

    /// Finishes what has begun. A command to end at once is still followed.
    fn quit(&mut self) -> i32 {
        self.acme = None;
        let limit_ms = *self.config.main.worker_shutdown_timeout_ms;
        let limit = (limit_ms > 0).then(|| Duration::from_millis(limit_ms));
        self.send_all(|closed| Message::Quit(limit, closed));
        // A reload that started another process is answered through this one; the answer is on its way.
        while self.shared.bus.reload_requests().are_awaited() {
            match self.init.master.next(Some(LAST_ANSWER)) {
                Some(WorkerCommand::ReloadEnded(answer)) => {
                    self.shared.bus.reload_requests().answered(answer)
                }
                Some(WorkerCommand::Terminate) => return self.terminate(),
                Some(WorkerCommand::Reopen(logs)) => drop(self.init.logs.adopt(logs)),
                Some(_) => {}
                None => break,
            }
        }
        // Another process may be at work already: from here on it takes the orders. Requests that still come here must
        // see what it commits.
        self.shared.control.retire();
        while !self.threads.iter().all(WorkerThread::has_ended) {
            match self.init.master.next(Some(Duration::from_millis(200))) {
                Some(WorkerCommand::Terminate) => return self.terminate(),
                Some(WorkerCommand::Reopen(logs)) => drop(self.init.logs.adopt(logs)),
                _ => {}
            }
        }
        self.shared.control.stop();
        0
    }

    fn terminate(&self) -> i32 {
        self.threads.iter().for_each(|thread| thread.send(Message::Terminate));
        // A thread in a long script does not read messages: the process ends without it.
        let until = Instant::now() + Duration::from_secs(1);
        while !self.threads.iter().all(WorkerThread::has_ended) && Instant::now() < until {
            std::thread::yield_now();
            std::thread::sleep(Duration::from_millis(1));
        }
        0
    }
}

/// Removes what a killed process has left in the folders for temporary files.
fn sweep(config: &Config, log: &ErrorLog) {
    for folder in temporary_folders(config) {
        let count = files::swept(&folder);
        if count > 0 {
            let text =
                format!("{count} temporary files of ended processes removed from \"{}\"", folder.display());
            log.write(Level::Notice, 0, text.as_bytes());
        }
    }
}

/// Starts to trace requests. Without the file the server serves all the same.
fn install_trace(path: &Path, log: &ErrorLog) {
    if let Err(error) = trace::install(path) {
        let (name, path) = (trace::VARIABLE, path.display());
        let text = format!("{name}: \"{path}\" cannot be opened: {error}; requests are not traced");
        log.write(Level::Error, 0, text.as_bytes());
    }
}

/// The parts that the control plane is started with.
struct ControlStart<'a> {
    config: &'a Arc<Config>,
    contexts: &'a Arc<tls::Contexts>,
    layout: &'a Arc<Layout>,
    records: bool,
    /// The messages of the threads.
    senders: Vec<UnboundedSender<Message>>,
    log: &'a Arc<Mutex<ErrorLog>>,
    socket: Option<UnixListener>,
}

impl ControlStart<'_> {
    /// Starts the control plane, and creates what all threads share. A store that cannot be used is an error; nothing is
    /// guessed.
    fn run(self, init: &WorkerInit) -> Result<(SharedState, Arc<Routing>), String> {
        let began = Instant::now();
        let counters = Arc::new(ProcessCounters::new(init.threads));
        let collector = Arc::new(Mutex::new(Collector::new(Arc::clone(self.layout), 0)));
        let reloads = ReloadRequests::new(init.master.has_master().then(|| init.master.reporter()));
        let prober = Prober::new(began);
        prober.know(self.config, self.contexts);
        // Before there are groups: servers that must pass first are not used until they have.
        prober.configure(self.config, &Default::default());
        let health = Arc::clone(prober.health());
        let on_demand_orders = acme::OnDemandOrders::default();
        let bus = WorkerBus::new(
            self.senders,
            Arc::clone(&counters),
            Arc::clone(&collector),
            reloads,
            prober.clone(),
            on_demand_orders.clone(),
        );
        let bus = Arc::new(bus);
        let log = Arc::clone(self.log);
        let (control, routing) = ControlHandle::start(Setup {
            config: Arc::clone(self.config),
            listener: self.socket,
            refused_peer: Some(std::process::id()),
            data_plane: Arc::clone(&bus) as Arc<dyn control::DataPlane>,
            clock_ms: Arc::new(move || began.elapsed().as_millis() as u64),
            log: Arc::new(move |level, text| {
                log.lock().unwrap_or_else(PoisonError::into_inner).write(level, 0, text.as_bytes());
            }),
            upgrades: init.upgrades,
            file_default: match (init.is_former, init.generation) {
                (true, _) => control::FileDefault::Ignored,
                (false, 0 | 1) => control::FileDefault::Counts,
                // Another process serves, or has just done.
                _ => control::FileDefault::Gated,
            },
            window_times: control::WindowTimes::default(),
        })?;
        if !routing.groups.is_empty() {
            prober.configure(self.config, &routing.groups);
        }
        let shared = SharedState {
            threads: init.threads,
            counters,
            watchdogs: Arc::default(),
            began,
            records: self.records,
            collector,
            control: control.clone(),
            bus,
            health,
            on_demand_orders,
        };
        prober.observe(Box::new(move |report| control.note_health(report)));
        Ok((shared, routing))
    }
}
