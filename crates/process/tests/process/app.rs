//! The smallest application: it answers a line with the word of its configuration, the generation and its process.
//!
//! Its configuration looks like nginx's: `name value …;`, a line each. Served lines are written to an access log.

use pointsman_process::log::{ErrorLog, Level, LogFiles, LogTarget};
use pointsman_process::{
    Address, Application, Directories, EnvRule, Finding, Limits, ListenSpec, Listener, Loaded, MasterCommand,
    MasterLink, Reload, Requirements, SocketAccess, Source, UserSpec, Waker, WorkerCommand, WorkerInit,
};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Acts on a command line: `PREFIX [test|dump|stop|quit|reload|reopen]`.
pub fn main(arguments: Vec<String>) -> i32 {
    let prefix = PathBuf::from(&arguments[0]);
    let source = Source {
        conf_file: prefix.join("nginx.conf"),
        error_log: LogTarget::File(prefix.join("first.log")),
        prefix,
        globals: None,
        colour: false,
    };
    let app = LineApp;
    match arguments.get(1).map(String::as_str) {
        None => pointsman_process::run(&app, &source),
        Some("test") => pointsman_process::test(&app, &source, false, false, |_| Ok(Vec::new())),
        Some("dump") => pointsman_process::test(&app, &source, true, true, |_| Ok(Vec::new())),
        Some("stop") => pointsman_process::signal_master(&app, &source, MasterCommand::Stop),
        Some("quit") => pointsman_process::signal_master(&app, &source, MasterCommand::Quit),
        Some("reload") => pointsman_process::signal_master(&app, &source, MasterCommand::Reload),
        Some("reopen") => pointsman_process::signal_master(&app, &source, MasterCommand::Reopen),
        Some(other) => panic!("{other}?"),
    }
}

#[derive(Clone)]
struct LineApp;

/// A configuration.
#[derive(Clone, Debug)]
struct Config {
    word: String,
    /// The start fails with this error.
    init_fails: Option<String>,
    /// The worker is not ready before this file exists.
    init_waits: Option<PathBuf>,
    /// The worker aborts at its start while this file exists.
    dies_while: Option<PathBuf>,
    /// A reload fails in the worker with this error.
    reload_fails: Option<String>,
    access_log: PathBuf,
    requirements: Requirements,
}

impl Application for LineApp {
    type Config = Config;

    fn load(&self, source: &Source, loader: &dyn conf::Loader) -> Loaded<Config> {
        let mut findings = Vec::new();
        let mut config = Config {
            word: String::new(),
            init_fails: None,
            init_waits: None,
            dies_while: None,
            reload_fails: None,
            access_log: source.prefix.join("access.log"),
            requirements: Requirements {
                pid_path: source.prefix.join("pid"),
                daemon: true,
                master_process: true,
                threads: 1,
                user: None,
                connections: 512,
                limits: Limits::default(),
                environment: Vec::new(),
                listeners: Vec::new(),
                error_logs: Vec::new(),
                log_files: Vec::new(),
                dirs: Directories::default(),
                control: None,
                late_files: Vec::new(),
                orphan_timeout: Duration::ZERO,
            },
        };
        config.requirements.log_files.push(config.access_log.clone());
        read(&mut config, &mut findings, source, &source.conf_file, loader);
        let faulty = findings.iter().any(|finding| finding.level == Level::Emerg);
        Loaded { findings, outcome: (!faulty).then(|| (config.requirements.clone(), config)) }
    }

    fn work(&self, config: Config, init: WorkerInit) -> i32 {
        let WorkerInit { generation, source, listeners, logs, error_log, master: mut link, .. } = init;
        if let Some(why) = &config.init_fails {
            link.reporter().failed(generation, why);
            return 1;
        }
        if config.dies_while.as_ref().is_some_and(|file| file.exists()) {
            std::process::abort();
        }
        let master = nix::unistd::getppid();
        while let Some(file) = config.init_waits.as_ref().filter(|file| !file.exists()) {
            // The master is gone, or it was gone before this worker knew it and the test has ended by now.
            if nix::unistd::getppid() != master || !file.parent().is_some_and(Path::exists) {
                return 1;
            }
            crate::test_server::pause();
        }
        let mut acceptors = Acceptors {
            open: BTreeMap::new(),
            current: Arc::new(Mutex::new((generation, config.word.clone()))),
            busy: Arc::default(),
            waker: link.waker(),
            logs: Arc::clone(&logs),
            access_log: config.access_log.clone(),
        };
        acceptors.listen_to(listeners);
        error_log.write(Level::Notice, 0, b"ready to serve");
        link.reporter().ready();
        let mut quitting = false;
        loop {
            if quitting && acceptors.busy.load(Ordering::SeqCst) == 0 {
                return 0;
            }
            match link.next(None) {
                Some(WorkerCommand::Reload(reload)) => {
                    self.reload(&source, &mut acceptors, &mut link, reload)
                }
                Some(WorkerCommand::Reopen(newer)) => logs.adopt(newer).unwrap(),
                Some(WorkerCommand::Quit) => {
                    quitting = true;
                    acceptors.close();
                }
                Some(WorkerCommand::Terminate) => return 0,
                Some(WorkerCommand::ReloadEnded(_) | WorkerCommand::Orphaned(_) | WorkerCommand::Woken)
                | None => {}
            }
        }
    }
}

impl LineApp {
    fn reload(&self, source: &Source, acceptors: &mut Acceptors, link: &mut MasterLink, reload: Reload) {
        let Reload { generation, bundle, listeners, logs } = reload;
        acceptors.logs.adopt(logs).unwrap();
        let bundle = conf::Bundle::from_bytes(&bundle).unwrap();
        let (requirements, config) = self.load(source, &bundle).outcome.expect("the master has checked it");
        if let Some(why) = config.reload_fails {
            return link.reporter().failed(generation, &why);
        }
        let log: ErrorLog = requirements.error_log(source, &acceptors.logs);
        log.write(Level::Notice, 0, format!("generation {generation} is here").as_bytes());
        link.switch_to(log);
        let before = std::mem::replace(&mut *acceptors.current.lock().unwrap(), (generation, config.word));
        acceptors.listen_to(listeners);
        link.reporter().reloaded(generation);
        link.reporter().generation_gone(before.0);
    }
}

fn read(
    config: &mut Config,
    findings: &mut Vec<Finding>,
    source: &Source,
    path: &Path,
    loader: &dyn conf::Loader,
) {
    let mut fault = |level, line: String| {
        let picture = format!("PICTURE of {line}");
        findings.push(Finding { level, line, picture });
    };
    let text = match loader.read(path) {
        Ok(text) => String::from_utf8(text).unwrap(),
        Err(error) => return fault(Level::Emerg, format!("open() \"{}\" failed ({error})", path.display())),
    };
    let absolute = |name: &str| source.prefix.join(name);
    for (number, line) in text.lines().enumerate() {
        let place = format!("{}:{}", path.display(), number + 1);
        let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
        let requirements = &mut config.requirements;
        match words.as_slice() {
            [] => {}
            ["word", word] => config.word = (*word).to_owned(),
            ["init_fails", why] => config.init_fails = Some((*why).to_owned()),
            ["reload_fails", why] => config.reload_fails = Some((*why).to_owned()),
            ["init_waits", name] => config.init_waits = Some(absolute(name)),
            ["dies_while", name] => config.dies_while = Some(absolute(name)),
            ["pid", name] => requirements.pid_path = absolute(name),
            ["daemon", flag] => requirements.daemon = *flag == "on",
            ["master_process", flag] => requirements.master_process = *flag == "on",
            ["threads", number] => requirements.threads = number.parse().unwrap(),
            ["orphan_timeout", seconds] => {
                requirements.orphan_timeout = Duration::from_secs(seconds.parse().unwrap());
            }
            ["open_files", number] => requirements.limits.open_files = number.parse().ok(),
            ["user", user] => {
                requirements.user = Some(UserSpec { user: (*user).to_owned(), group: None, place });
            }
            ["env", name] => requirements.environment.push(EnvRule { name: name.into(), value: None }),
            ["env", name, value] => {
                requirements.environment.push(EnvRule { name: name.into(), value: Some(value.into()) });
            }
            ["listen", address] => {
                requirements.listeners.push(ListenSpec::new(match address.strip_prefix("unix:") {
                    Some(name) => Address::Unix(absolute(name)),
                    None => Address::Inet(address.parse().unwrap()),
                }))
            }
            ["error_log", "stderr"] => requirements.error_logs.push((LogTarget::Stderr, Level::Notice)),
            ["error_log", name] => {
                requirements.error_logs.push((LogTarget::File(absolute(name)), Level::Notice))
            }
            ["log", name] => requirements.log_files.push(absolute(name)),
            ["control", name, mode] => {
                let mode = u32::from_str_radix(mode, 8).unwrap();
                requirements.control = Some(ListenSpec {
                    access: Some(SocketAccess { mode, group: None }),
                    ..ListenSpec::new(Address::Unix(absolute(name)))
                });
            }
            ["state", name] => requirements.dirs.state.push(absolute(name)),
            ["temp", name] => requirements.dirs.temp.push(absolute(name)),
            ["warn", text] => fault(Level::Warn, format!("{text} in {place}")),
            [name, ..] => fault(Level::Emerg, format!("unknown directive \"{name}\" in {place}")),
        }
    }
}

/// The threads that accept connections.
struct Acceptors {
    /// Dropping the stream of an entry ends its thread.
    open: BTreeMap<Address, (UnixStream, std::thread::JoinHandle<()>)>,
    current: Arc<Mutex<(u64, String)>>,
    busy: Arc<AtomicUsize>,
    waker: Waker,
    logs: Arc<LogFiles>,
    access_log: PathBuf,
}

impl Acceptors {
    fn listen_to(&mut self, listeners: Vec<Listener>) {
        let wanted: Vec<Address> = listeners.iter().map(|listener| listener.address.clone()).collect();
        self.open.retain(|address, _| wanted.contains(address));
        for Listener { address, mut sockets } in listeners {
            if self.open.contains_key(&address) {
                continue;
            }
            let (ours, stop) = UnixStream::pair().unwrap();
            let socket = sockets.remove(0);
            let service = Service {
                current: Arc::clone(&self.current),
                busy: Arc::clone(&self.busy),
                waker: self.waker.clone(),
                log: self.logs.get(&LogTarget::File(self.access_log.clone())).unwrap(),
            };
            let unix = matches!(address, Address::Unix(_));
            let thread = std::thread::spawn(move || accept(&socket, unix, &stop, &service));
            self.open.insert(address, (ours, thread));
        }
    }

    /// Ends all threads. Accepted connections are counted when this returns.
    fn close(&mut self) {
        for (stream, thread) in std::mem::take(&mut self.open).into_values() {
            drop(stream);
            thread.join().unwrap();
        }
    }
}

#[derive(Clone)]
struct Service {
    current: Arc<Mutex<(u64, String)>>,
    busy: Arc<AtomicUsize>,
    waker: Waker,
    log: Arc<pointsman_process::log::LogFile>,
}

trait Line: std::io::Read + Write + Send {}
impl<T: std::io::Read + Write + Send> Line for T {}

fn accept(socket: &OwnedFd, unix: bool, stop: &UnixStream, service: &Service) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    loop {
        let mut fds =
            [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::NONE);
        if fds[1].any() == Some(true) {
            return;
        }
        let copy = socket.try_clone().unwrap();
        let accepted: std::io::Result<Box<dyn Line>> = match unix {
            true => UnixListener::from(copy).accept().map(|(stream, _)| {
                stream.set_nonblocking(false).unwrap();
                Box::new(stream) as Box<dyn Line>
            }),
            false => TcpListener::from(copy).accept().map(|(stream, _)| {
                stream.set_nonblocking(false).unwrap();
                Box::new(stream) as Box<dyn Line>
            }),
        };
        if let Ok(stream) = accepted {
            service.busy.fetch_add(1, Ordering::SeqCst);
            let service = service.clone();
            std::thread::spawn(move || {
                talk(stream, &service);
                service.busy.fetch_sub(1, Ordering::SeqCst);
                service.waker.wake();
            });
        }
    }
}

fn talk(stream: Box<dyn Line>, service: &Service) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line).is_err() || line.is_empty() {
        return;
    }
    let (generation, word) = service.current.lock().unwrap().clone();
    let environment: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    let answer = format!(
        "{word} generation={generation} pid={} uid={} env={}\n",
        std::process::id(),
        nix::unistd::geteuid(),
        environment.join(",")
    );
    service.log.write(format!("served {word}\n").as_bytes()).unwrap();
    eprintln!("on stderr in generation {generation}");
    let _ = stream.get_mut().write_all(answer.as_bytes());
}
