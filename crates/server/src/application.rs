//! The program as the master sees it: reading a configuration, and being a worker process.

use crate::counters::Counters;
use crate::demands::{boot, temporary_folders};
use crate::files;
use crate::generation::{Departure, same};
use crate::names::SystemNames;
use crate::panics;
use crate::process::log::{ErrorLog, Level};
use crate::process::{Address, Application, Finding, Listener, Loaded, Order, Ports, Reload, Source};
use crate::proxy::pool::SharedGroups;
use crate::recording;
use crate::reloads::Reloads;
use crate::switching::Crossing;
use crate::threads::{Crew, Message, NewGeneration, Thread};
use conf::Diagnostic;
use control::{Office, Setup};
use engine::Config;
use engine::config::Inputs;
use engine::modules::core::Identity;
use statistics::{Collector, Layout};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use switch::Tables;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// pointsman.
#[derive(Clone, Debug, Default)]
pub struct Pointsman {
    /// What the server calls itself, in the `Server` field and at the foot of its error pages.
    pub identity: Identity,
}

/// A configuration and what was found out while it was read.
#[derive(Debug)]
pub struct Built {
    config: Config,
    /// Whether anything is measured.
    records: bool,
}

/// The variable of the environment that, set to `off`, switches measuring off: to see what it costs.
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
            Ok((config, warnings)) => {
                let findings = warnings.iter().map(finding).collect();
                let boot = boot(&config, source);
                #[cfg(debug_assertions)]
                panics::provoked::prepare();
                // A worker process has only the variables that `env` names; what holds is what the master saw.
                let records = std::env::var_os(STATISTICS).is_none_or(|value| value != "off");
                Loaded { findings, outcome: Some((boot, Built { config, records })) }
            }
        }
    }

    fn work(&self, built: Built, ports: Ports) -> i32 {
        match Process::start(self.clone(), built, ports) {
            Ok(process) => process.follow_orders(),
            Err(code) => code,
        }
    }
}

/// The worker process: its threads, and what outlives a generation.
struct Process {
    app: Pointsman,
    ports: Ports,
    crew: Crew,
    /// Where the control plane writes: the main error log, whichever that is.
    office_log: Arc<Mutex<ErrorLog>>,
    threads: Vec<Thread>,
    config: Arc<Config>,
    groups: Arc<SharedGroups>,
    dicts: lua::Dicts,
}

/// How often somebody looks whether a script runs for too long.
const LOOK_AFTER_SCRIPTS: Duration = Duration::from_millis(100);

/// How long a process that ends waits for the master's answer to a reload.
const LAST_ANSWER: Duration = Duration::from_millis(200);

/// A generation before it is handed to the threads.
struct Candidate {
    number: u64,
    config: Arc<Config>,
    groups: Arc<SharedGroups>,
    dicts: lua::Dicts,
    tables: Arc<Tables>,
    layout: Arc<Layout>,
    addresses: Vec<Address>,
}

impl Process {
    /// Starts the control plane and the threads. What stops them is told to the master; the error is the exit code.
    fn start(app: Pointsman, built: Built, mut ports: Ports) -> Result<Process, i32> {
        let reporter = ports.control.reporter();
        let generation = ports.generation;
        let fail = |code| {
            let reporter = reporter.clone();
            move |fault: String| {
                reporter.failed(generation, &fault);
                code
            }
        };
        let mut listeners = std::mem::take(&mut ports.listeners);
        let config = Arc::new(built.config);
        let commands = take_control_socket(&config, &mut listeners);
        let layout = Arc::new(recording::layout(&config));
        let channels = (0..ports.threads).map(|_| unbounded_channel()).collect::<Vec<_>>();
        let senders = channels.iter().map(|(sender, _)| sender.clone()).collect();
        let office_log = Arc::new(Mutex::new(ports.error_log.clone()));
        panics::tell_in(Arc::clone(&office_log));
        sweep(&config, &ports.error_log);
        let crossing = (senders, &office_log);
        let started = crew(&ports, (&config, &layout), built.records, crossing, commands);
        // A store may be well again: a worker that is started after a crash is started once more.
        let (crew, tables) = started.map_err(fail(1))?;
        let candidate = Candidate {
            number: ports.generation,
            groups: Arc::new(SharedGroups::new(&config, None)),
            dicts: lua::Dicts::new(&config.lua.dicts, None),
            tables,
            layout,
            addresses: listeners.iter().map(|listener| listener.address.clone()).collect(),
            config,
        };
        let mut process = Process {
            app,
            crew,
            office_log,
            threads: Vec::new(),
            config: Arc::clone(&candidate.config),
            groups: Arc::clone(&candidate.groups),
            dicts: candidate.dicts.clone(),
            ports,
        };
        let started = process.start_threads(&candidate, listeners, channels);
        // nginx does not start a worker again that could not be set up.
        started.inspect_err(|_| process.crew.office.stop()).map_err(fail(2))?;
        process.ports.control.reporter().ready();
        Ok(process)
    }

    fn start_threads(
        &mut self,
        candidate: &Candidate,
        listeners: Vec<Listener>,
        channels: Vec<Channel>,
    ) -> Result<(), String> {
        let hands = deal(listeners, self.crew.threads).map_err(|error| error.to_string())?;
        let (word, words) = mpsc::channel();
        let departure = self.departure(candidate.number);
        for (number, (sockets, channel)) in hands.into_iter().zip(channels).enumerate() {
            let new = self.generation_for(candidate, sockets, &departure);
            let waker = self.ports.control.waker();
            let ended = move || waker.wake();
            let thread = Thread::start(number, self.crew.clone(), new, channel, word.clone(), ended)
                .map_err(|error| format!("a worker thread cannot be started: {error}"))?;
            self.threads.push(thread);
        }
        drop(word);
        collect(&words, self.crew.threads)
    }

    fn departure(&self, number: u64) -> Arc<Departure> {
        Arc::new(Departure { number, reporter: self.ports.control.reporter() })
    }

    fn generation_for(
        &self,
        candidate: &Candidate,
        sockets: Vec<(Address, OwnedFd)>,
        departure: &Arc<Departure>,
    ) -> NewGeneration {
        NewGeneration {
            number: candidate.number,
            config: Arc::clone(&candidate.config),
            files: Arc::clone(&self.ports.logs),
            command_line_log: self.ports.source.error_log.clone(),
            error_log: self.ports.error_log.clone(),
            groups: Arc::clone(&candidate.groups),
            dicts: candidate.dicts.clone(),
            tables: Arc::clone(&candidate.tables),
            layout: Arc::clone(&candidate.layout),
            addresses: candidate.addresses.clone(),
            sockets,
            departure: Arc::clone(departure),
        }
    }

    /// Does what it is told until it is told to end, and answers the exit code.
    fn follow_orders(mut self) -> i32 {
        loop {
            match self.ports.control.next(self.watch_scripts()) {
                Some(Order::Reload(reload)) => self.reload(reload),
                Some(Order::Reopen(logs)) => {
                    self.flush_logs();
                    if let Err(error) = self.ports.logs.adopt(logs) {
                        self.ports.error_log.write(Level::Alert, 0, format!("log files: {error}").as_bytes());
                    }
                }
                Some(Order::Answered(answer)) => self.crew.crossing.reloads().answered(answer),
                Some(Order::Quit) => return self.quit(),
                Some(Order::Terminate) => return self.terminate(),
                // A thread ends only when it is told to: anything else is a fault that the master mends.
                Some(Order::Woken) if self.threads.iter().any(Thread::has_ended) => {
                    self.ports.error_log.write(Level::Alert, 0, b"a worker thread ended unasked");
                    return 1;
                }
                Some(Order::Woken) | None => {}
            }
        }
    }

    /// Stops scripts that have run for too long, and says when to look again.
    fn watch_scripts(&self) -> Option<Duration> {
        let mut watchdogs = self.crew.watchdogs.lock().unwrap_or_else(PoisonError::into_inner);
        watchdogs.retain(|(generation, _)| generation.strong_count() > 0);
        let now_ms = self.crew.began.elapsed().as_millis() as u64;
        for (_, watchdog) in watchdogs.iter_mut() {
            watchdog.look(now_ms);
        }
        (!watchdogs.is_empty()).then_some(LOOK_AFTER_SCRIPTS)
    }

    fn reload(&mut self, reload: Reload) {
        let (number, reporter) = (reload.generation, self.ports.control.reporter());
        match self.go_over(reload) {
            Ok(()) => reporter.reloaded(number),
            Err(fault) => reporter.failed(number, &fault),
        }
    }

    fn go_over(&mut self, mut reload: Reload) -> Result<(), String> {
        self.flush_logs();
        self.ports.logs.adopt(reload.logs).map_err(|error| format!("log files: {error}"))?;
        let bundle =
            conf::Bundle::from_bytes(&reload.bundle).ok_or("the configuration did not arrive whole")?;
        let loaded = self.app.load(&self.ports.source, &bundle);
        let Some((boot, built)) = loaded.outcome else {
            let lines: Vec<_> = loaded.findings.iter().map(|finding| finding.line.as_str()).collect();
            return Err(lines.join("; "));
        };
        let mut config = built.config;
        config.limits.carry_over(&self.config.limits)?;
        let config = Arc::new(config);
        drop(take_control_socket(&config, &mut reload.listeners));
        // From here on nothing is committed until the new configuration holds, or is given up.
        let admission = self.crew.office.admit(&config)?;
        let candidate = Candidate {
            number: reload.generation,
            tables: Arc::clone(admission.tables()),
            layout: Arc::new(recording::layout(&config)),
            groups: Arc::new(SharedGroups::new(&config, Some((&self.config, &self.groups)))),
            dicts: lua::Dicts::new(&config.lua.dicts, Some(&self.dicts)),
            addresses: reload.listeners.iter().map(|listener| listener.address.clone()).collect(),
            config,
        };
        let mut hands = deal(reload.listeners, self.crew.threads).map_err(|error| error.to_string())?;
        let departure = self.departure(reload.generation);
        let error_log = std::mem::replace(
            &mut self.ports.error_log,
            boot.error_log(&self.ports.source, &self.ports.logs),
        );
        let (word, words) = mpsc::channel();
        for (number, thread) in self.threads.iter().enumerate() {
            let new = self.generation_for(&candidate, std::mem::take(&mut hands[number]), &departure);
            thread.tell(Message::Prepare(Box::new(new), word.clone()));
        }
        drop((word, departure));
        if let Err(fault) = collect(&words, self.threads.len()) {
            self.threads.iter().for_each(|thread| thread.tell(Message::Abandon));
            self.ports.error_log = error_log;
            return Err(fault);
        }
        self.tell_all(Message::Commit);
        self.crew.collector.lock().unwrap_or_else(PoisonError::into_inner).arrange(candidate.layout);
        admission.finish();
        self.config = candidate.config;
        self.groups = candidate.groups;
        self.dicts = candidate.dicts;
        *self.office_log.lock().unwrap_or_else(PoisonError::into_inner) = self.ports.error_log.clone();
        self.ports.control.log_to(self.ports.error_log.clone());
        Ok(())
    }

    /// A thread that is busy for long has lines that go to the old file; no harm is done.
    fn flush_logs(&self) {
        self.tell_all(Message::FlushLogs);
    }

    /// Tells every thread something and waits until it is done, but not for a thread that is busy for long, with a
    /// script: that one does it later.
    fn tell_all(&self, message: impl Fn(mpsc::Sender<()>) -> Message) {
        let (done, all) = mpsc::channel();
        self.threads.iter().for_each(|thread| thread.tell(message(done.clone())));
        drop(done);
        // By number: one that goes on with what it was told keeps its end of the channel.
        for _ in &self.threads {
            if all.recv_timeout(Duration::from_secs(1)).is_err() {
                return;
            }
        }
    }

    /// Finishes what has begun. An order to end at once is still followed.
    fn quit(&mut self) -> i32 {
        let limit_ms = *self.config.main.worker_shutdown_timeout_ms;
        let limit = (limit_ms > 0).then(|| Duration::from_millis(limit_ms));
        self.tell_all(|closed| Message::Quit(limit, closed));
        // The reload that another process was started for is answered through this one; the answer is on its way.
        while self.crew.crossing.reloads().are_awaited() {
            match self.ports.control.next(Some(LAST_ANSWER)) {
                Some(Order::Answered(answer)) => self.crew.crossing.reloads().answered(answer),
                Some(Order::Terminate) => return self.terminate(),
                Some(Order::Reopen(logs)) => drop(self.ports.logs.adopt(logs)),
                Some(_) => {}
                None => break,
            }
        }
        // Another process may be at work already: from here on orders are its to take. Requests that come here still are to
        // find what that one commits.
        self.crew.office.retire();
        while !self.threads.iter().all(Thread::has_ended) {
            match self.ports.control.next(Some(Duration::from_millis(200))) {
                Some(Order::Terminate) => return self.terminate(),
                Some(Order::Reopen(logs)) => drop(self.ports.logs.adopt(logs)),
                _ => {}
            }
        }
        self.crew.office.stop();
        0
    }

    fn terminate(&self) -> i32 {
        self.threads.iter().for_each(|thread| thread.tell(Message::Terminate));
        // A thread in a long script does not hear: the process ends without it.
        let until = Instant::now() + Duration::from_secs(1);
        while !self.threads.iter().all(Thread::has_ended) && Instant::now() < until {
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

/// Both ends of a thread's orders.
type Channel = (UnboundedSender<Message>, UnboundedReceiver<Message>);

/// Starts the control plane, and puts together what all threads have in common. A store that cannot be used is a
/// fault; nothing is guessed.
fn crew(
    ports: &Ports,
    (config, layout): (&Arc<Config>, &Arc<Layout>),
    records: bool,
    (senders, log): (Vec<UnboundedSender<Message>>, &Arc<Mutex<ErrorLog>>),
    commands: Option<UnixListener>,
) -> Result<(Crew, Arc<Tables>), String> {
    let began = Instant::now();
    let counters = Arc::new(Counters::new(ports.threads));
    let collector = Arc::new(Mutex::new(Collector::new(Arc::clone(layout), 0)));
    let reloads = Reloads::new(ports.control.has_master().then(|| ports.control.reporter()));
    let crossing = Crossing::new(senders, Arc::clone(&counters), Arc::clone(&collector), reloads);
    let crossing = Arc::new(crossing);
    let log = Arc::clone(log);
    let (office, tables) = Office::start(Setup {
        config: Arc::clone(config),
        listener: commands,
        traffic: Arc::clone(&crossing) as Arc<dyn control::Traffic>,
        clock_ms: Arc::new(move || began.elapsed().as_millis() as u64),
        log: Arc::new(move |level, text| {
            log.lock().unwrap_or_else(PoisonError::into_inner).write(level, 0, text.as_bytes());
        }),
    })?;
    let crew = Crew {
        threads: ports.threads,
        counters,
        watchdogs: Arc::default(),
        began,
        records,
        collector,
        office,
        crossing,
    };
    Ok((crew, tables))
}

/// Takes the socket for commands out of those that clients are accepted from.
fn take_control_socket(config: &Config, listeners: &mut Vec<Listener>) -> Option<UnixListener> {
    let is_commands = |listener: &Listener| {
        let socket = config.control.socket.as_ref();
        socket.is_some_and(|socket| listener.address == Address::Unix(socket.path.clone()))
    };
    let commands = listeners.iter().position(is_commands).map(|place| listeners.remove(place));
    // A single process goes on with the one it began with, whatever a later configuration says.
    listeners.retain(|listener| config.listeners.iter().any(|known| same(&known.address, &listener.address)));
    commands?.sockets.pop().map(UnixListener::from)
}

/// Every thread's own descriptors of the listening sockets: one of its own with `reuseport`, else a duplicate.
fn deal(listeners: Vec<Listener>, threads: usize) -> std::io::Result<Vec<Vec<(Address, OwnedFd)>>> {
    let mut hands: Vec<Vec<(Address, OwnedFd)>> = (0..threads).map(|_| Vec::new()).collect();
    for listener in listeners {
        let count = listener.sockets.len();
        if count >= threads {
            for (number, socket) in listener.sockets.into_iter().take(threads).enumerate() {
                hands[number].push((listener.address.clone(), socket));
            }
            continue;
        }
        for (number, hand) in hands.iter_mut().enumerate() {
            let Some(socket) = listener.sockets.get(number % count.max(1)) else { continue };
            hand.push((listener.address.clone(), socket.try_clone()?));
        }
    }
    Ok(hands)
}

/// Waits for every thread's word; the first complaint is the answer.
fn collect(words: &mpsc::Receiver<Result<(), String>>, threads: usize) -> Result<(), String> {
    let mut result = Ok(());
    for _ in 0..threads {
        match words.recv() {
            Ok(word) => result = result.and(word),
            Err(_) => return result.and(Err("a worker thread ended while it was started".to_owned())),
        }
    }
    result
}
