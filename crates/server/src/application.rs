//! The program as the master sees it: reading a configuration, and being a worker process.

use crate::counters::Counters;
use crate::generation::Departure;
use crate::logs::process_target;
use crate::names::SystemNames;
use crate::process::log::{Level, LogTarget};
use crate::process::{
    Address, Application, Boot, EnvRule, Finding, Limits, ListenSpec, Listener, Loaded, Order, Ports, Reload,
    SocketAccess, Source, UserSpec,
};
use crate::proxy::pool::SharedGroups;
use crate::threads::{Crew, Message, NewGeneration, Thread};
use conf::Diagnostic;
use engine::Config;
use engine::config::{Inputs, ListenAddress};
use engine::modules::core::Identity;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

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
}

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
                Loaded { findings, outcome: Some((boot, Built { config })) }
            }
        }
    }

    fn work(&self, built: Built, ports: Ports) -> i32 {
        match Process::start(self.clone(), built, ports) {
            Ok(process) => process.follow_orders(),
            Err(()) => 2,
        }
    }
}

/// What the configuration asks of the operating system.
fn boot(config: &Config, source: &Source) -> Boot {
    let main = &config.main;
    let listeners = config.listeners.iter().map(|listener| {
        let options = &listener.options;
        ListenSpec {
            backlog: options.backlog,
            reuseport: options.reuseport,
            ipv6only: options.ipv6only,
            deferred: options.deferred,
            rcvbuf: options.rcvbuf,
            sndbuf: options.sndbuf,
            keepalive: options.so_keepalive.map(|on| crate::process::Keepalive {
                on,
                idle_s: None,
                interval_s: None,
                count: None,
            }),
            ..ListenSpec::new(address(&listener.address))
        }
    });
    Boot {
        pid_path: main.pid.as_ref().cloned().unwrap_or_else(|| source.prefix.join("logs/pointsman.pid")),
        daemon: *main.daemon,
        master_process: *main.master_process,
        threads: main.worker_processes.unwrap_or_else(processors),
        user: main.user.as_ref().map(|(user, group)| UserSpec {
            user: user.clone(),
            group: group.clone(),
            place: source.conf_file.display().to_string(),
        }),
        limits: Limits { open_files: *main.worker_rlimit_nofile, ..Limits::default() },
        environment: main
            .env
            .iter()
            .map(|(name, value)| EnvRule { name: name.into(), value: value.as_ref().map(Into::into) })
            .collect(),
        listeners: listeners.collect(),
        error_logs: main
            .error_log
            .iter()
            .map(|(log, level)| {
                (process_target(&config.logs[log.0 as usize].target, &source.error_log), *level)
            })
            .collect(),
        log_files: config
            .logs
            .iter()
            .filter_map(|log| match process_target(&log.target, &source.error_log) {
                LogTarget::File(path) => Some(path),
                LogTarget::Stderr => None,
            })
            .collect(),
        temp_dirs: temporary_folders(config),
        control: control_socket(config),
        state_dirs: Vec::new(),
    }
}

/// The folders for temporary files that some location uses.
fn temporary_folders(config: &Config) -> Vec<PathBuf> {
    let set = |path: &Option<PathBuf>, name: &str| path.clone().unwrap_or_else(|| config.prefix.join(name));
    let mut folders = vec![set(&config.http.client_body_temp_path, "client_body_temp")];
    for location in &config.locations {
        let folder = set(&location.settings.proxy.buffers.temp_path, "proxy_temp");
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// The socket for commands. A server that was not told to have one runs without it where it cannot be had.
fn control_socket(config: &Config) -> Option<ListenSpec> {
    let socket = config.control.socket.as_ref()?;
    Some(ListenSpec {
        access: Some(SocketAccess { mode: socket.mode, group: socket.group.clone() }),
        optional: !config.control.socket.written(),
        ..ListenSpec::new(Address::Unix(socket.path.clone()))
    })
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn address(listen: &ListenAddress) -> Address {
    match listen {
        ListenAddress::Inet(address) => Address::Inet(*address),
        ListenAddress::Unix(path) => Address::Unix(path.clone()),
    }
}

/// The worker process: its threads, and what outlives a generation.
struct Process {
    app: Pointsman,
    ports: Ports,
    crew: Crew,
    threads: Vec<Thread>,
    began: Instant,
    config: Arc<Config>,
    groups: Arc<SharedGroups>,
    dicts: lua::Dicts,
}

/// How often somebody looks whether a script runs for too long.
const LOOK_AFTER_SCRIPTS: Duration = Duration::from_millis(100);

/// A generation before it is handed to the threads.
struct Candidate {
    number: u64,
    config: Arc<Config>,
    groups: Arc<SharedGroups>,
    dicts: lua::Dicts,
    addresses: Vec<Address>,
}

impl Process {
    /// Starts the threads. What stops them is told to the master.
    fn start(app: Pointsman, built: Built, mut ports: Ports) -> Result<Process, ()> {
        let listeners = std::mem::take(&mut ports.listeners);
        let crew = Crew {
            threads: ports.threads,
            counters: Arc::new(Counters::new(ports.threads)),
            connection_serial: Arc::default(),
            watchdogs: Arc::default(),
        };
        let config = Arc::new(built.config);
        let candidate = Candidate {
            number: ports.generation,
            groups: Arc::new(SharedGroups::new(&config, None)),
            dicts: lua::Dicts::new(&config.lua.dicts, None),
            addresses: listeners.iter().map(|listener| listener.address.clone()).collect(),
            config,
        };
        let mut process = Process {
            app,
            crew,
            threads: Vec::new(),
            began: Instant::now(),
            config: Arc::clone(&candidate.config),
            groups: Arc::clone(&candidate.groups),
            dicts: candidate.dicts.clone(),
            ports,
        };
        process.start_threads(&candidate, listeners).map_err(|fault| {
            process.ports.control.reporter().failed(process.ports.generation, &fault);
        })?;
        process.ports.control.reporter().ready();
        Ok(process)
    }

    fn start_threads(&mut self, candidate: &Candidate, listeners: Vec<Listener>) -> Result<(), String> {
        let hands = deal(listeners, self.crew.threads).map_err(|error| error.to_string())?;
        let (word, words) = mpsc::channel();
        let departure = self.departure(candidate.number);
        for (number, sockets) in hands.into_iter().enumerate() {
            let new = self.generation_for(candidate, sockets, &departure);
            let waker = self.ports.control.waker();
            let ended = move || waker.wake();
            let thread = Thread::start(number, self.crew.clone(), new, word.clone(), ended)
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
        let now_ms = self.began.elapsed().as_millis() as u64;
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

    fn go_over(&mut self, reload: Reload) -> Result<(), String> {
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
        let candidate = Candidate {
            number: reload.generation,
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
        self.threads.iter().for_each(|thread| thread.tell(Message::Commit));
        self.config = candidate.config;
        self.groups = candidate.groups;
        self.dicts = candidate.dicts;
        self.ports.control.log_to(self.ports.error_log.clone());
        Ok(())
    }

    fn flush_logs(&self) {
        let (done, all) = mpsc::channel();
        self.threads.iter().for_each(|thread| thread.tell(Message::FlushLogs(done.clone())));
        drop(done);
        // A thread that is busy for this long has lines that go to the old file; no harm is done.
        while all.recv_timeout(Duration::from_secs(1)).is_ok() {}
    }

    /// Finishes what has begun. An order to end at once is still followed.
    fn quit(&mut self) -> i32 {
        let limit_ms = *self.config.main.worker_shutdown_timeout_ms;
        let limit = (limit_ms > 0).then(|| Duration::from_millis(limit_ms));
        self.threads.iter().for_each(|thread| thread.tell(Message::Quit(limit)));
        while !self.threads.iter().all(Thread::has_ended) {
            match self.ports.control.next(Some(Duration::from_millis(200))) {
                Some(Order::Terminate) => return self.terminate(),
                Some(Order::Reopen(logs)) => drop(self.ports.logs.adopt(logs)),
                _ => {}
            }
        }
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
