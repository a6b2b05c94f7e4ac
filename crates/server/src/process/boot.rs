//! What the master needs to know of a configuration, and what it needs from whoever reads and runs one.
//!
//! Owns the plain values between this module and the rest: [`Source`] (what to load), [`Boot`] (what the operating
//! system must provide), [`Application`] (the rest of the program). Must never know a directive's meaning.

use super::control::Ports;
use super::log::{ErrorLog, Level, LogFiles, LogTarget};
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What configuration to load: the command line, made absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The folder that relative paths of the configuration start from (`-p`).
    pub prefix: PathBuf,
    /// The configuration file (`-c`).
    pub conf_file: PathBuf,
    /// The error log until the configuration names one, and after that if it names none (`-e`).
    pub error_log: LogTarget,
    /// Directives in front of the configuration file (`-g`).
    pub globals: Option<Vec<u8>>,
    /// Whether pictures of faults are drawn in colour.
    pub colour: bool,
}

/// The rest of the program, as this module sees it.
///
/// A clone must be as good as the original; nothing may hold a thread or a descriptor, because processes are forked
/// off with what is in memory.
pub trait Application: Clone + 'static {
    /// A configuration that can be worked with.
    type Config;

    /// Reads and checks a configuration. It runs in the master, where no thread may be started, and again in the
    /// worker process on recorded bytes when the configuration is reloaded.
    fn load(&self, source: &Source, loader: &dyn conf::Loader) -> Loaded<Self::Config>;

    /// Serves until ordered to end, and answers the exit code of the worker process: 0 when it ended as ordered,
    /// 2 when it must not be started again (as nginx's workers do).
    ///
    /// It calls [`super::Reporter::ready`] once it can take connections and then follows [`super::Control::next`].
    fn work(&self, config: Self::Config, ports: Ports) -> i32;
}

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Loaded<C> {
    /// Faults and warnings, in the order of the text.
    pub findings: Vec<Finding>,
    /// The configuration, unless a finding forbids it.
    pub outcome: Option<(Boot, C)>,
}

/// A fault or a warning in a configuration, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// [`Level::Emerg`] for a fault, [`Level::Warn`] for a warning.
    pub level: Level,
    /// nginx's line: `unknown directive "x" in /etc/nginx/nginx.conf:7`.
    pub line: String,
    /// For people: file, line, column, the line itself and the mend, over several lines; empty if there is nothing
    /// to add.
    pub picture: String,
}

/// What a configuration asks of the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The file that holds the master's process number (`pid`).
    pub pid_path: PathBuf,
    /// Whether to leave the terminal (`daemon`, on by default).
    pub daemon: bool,
    /// Whether a master watches over the worker process (`master_process`, on by default).
    pub master_process: bool,
    /// Threads of the worker process (`worker_processes`; `auto` already counted).
    pub threads: usize,
    /// Whose rights the worker process has (`user`); only asked for when started as root.
    pub user: Option<UserSpec>,
    /// How many connections it may have open, all threads together (`worker_connections`).
    pub connections: u64,
    /// The worker process's settings that cannot be changed while it lives.
    pub limits: Limits,
    /// The variables the worker process sees beside `TZ` (`env`).
    pub environment: Vec<EnvRule>,
    /// The sockets to listen on, each address once.
    pub listeners: Vec<ListenSpec>,
    /// The main error logs (`error_log` outside every block), empty for the default one.
    pub error_logs: Vec<(LogTarget, Level)>,
    /// Every other file that log lines are appended to, absolute: access logs, error logs of inner blocks.
    pub log_files: Vec<PathBuf>,
    /// Folders for temporary files (`client_body_temp_path`, `proxy_temp_path`), absolute.
    pub temp_dirs: Vec<PathBuf>,
    /// The socket for commands (`control`), which the worker process is given beside the others.
    pub control: Option<ListenSpec>,
    /// Folders that the worker process keeps files in for good, absolute. One that is missing is made, and is the
    /// worker's; one that is there stays as it is, since it may hold what others have put there.
    pub state_dirs: Vec<PathBuf>,
}

impl Boot {
    /// The main error logs in force: those of the configuration, else the one of the command line at nginx's default
    /// level.
    pub fn main_error_logs(&self, source: &Source) -> Vec<(LogTarget, Level)> {
        match self.error_logs.is_empty() {
            true => vec![(source.error_log.clone(), Level::Error)],
            false => self.error_logs.clone(),
        }
    }

    /// The main error log in force, over files that are open.
    pub fn error_log(&self, source: &Source, logs: &LogFiles) -> ErrorLog {
        logs.error_log(&self.main_error_logs(source))
    }

    /// Every socket to open: those for clients, and the one for commands.
    pub(super) fn sockets(&self) -> Vec<ListenSpec> {
        self.listeners.iter().chain(&self.control).cloned().collect()
    }

    /// Whether a worker process that runs `self` can go on with `newer`, or a new one must be started.
    pub(super) fn same_process(&self, newer: &Boot) -> bool {
        self.threads == newer.threads
            && self.limits == newer.limits
            && self.environment == newer.environment
            && self.user.as_ref().map(UserSpec::names) == newer.user.as_ref().map(UserSpec::names)
            // Whoever takes commands does so on one socket for life.
            && self.control_address() == newer.control_address()
    }

    /// Where commands come in.
    pub(super) fn control_address(&self) -> Option<&Address> {
        self.control.as_ref().map(|spec| &spec.address)
    }

    /// Every file that log lines are appended to, each once.
    pub(super) fn all_log_files(&self, source: &Source) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = Vec::new();
        let main = self.main_error_logs(source).into_iter().filter_map(|(target, _)| match target {
            LogTarget::File(path) => Some(path),
            LogTarget::Stderr => None,
        });
        for path in main.chain(self.log_files.iter().cloned()) {
            if !all.contains(&path) {
                all.push(path);
            }
        }
        all
    }
}

/// Limits of the worker process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open files (`worker_rlimit_nofile`).
    pub open_files: Option<u64>,
    /// Bytes of a core file (`worker_rlimit_core`).
    pub core_bytes: Option<u64>,
    /// Scheduling priority, −20 to 20 (`worker_priority`).
    pub priority: i32,
    /// The folder it works in (`working_directory`).
    pub working_directory: Option<PathBuf>,
    /// What the kernel is to refuse it.
    pub sandbox: Sandbox,
}

/// What the kernel is to refuse a worker process (`sandbox`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Nothing beyond what its user may not do.
    #[default]
    Off,
    /// What no worker needs.
    On,
    /// That, and starting programs.
    NoPrograms,
}

/// `user NAME [GROUP]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSpec {
    /// The user's name.
    pub user: String,
    /// The group's name; the user's when left out.
    pub group: Option<String>,
    /// `FILE:LINE` of the directive, for messages.
    pub place: String,
}

impl UserSpec {
    fn names(&self) -> (&str, Option<&str>) {
        (&self.user, self.group.as_deref())
    }
}

/// `env NAME` (value kept from the master's environment) or `env NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvRule {
    /// The variable.
    pub name: OsString,
    /// Its value, if the directive gives one.
    pub value: Option<OsString>,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// IPv4 or IPv6, with port.
    Inet(SocketAddr),
    /// A unix socket's path.
    Unix(PathBuf),
}

/// As in nginx's messages: `0.0.0.0:80`, `[::]:80`, `unix:/run/x.sock`.
impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => write!(out, "{address}"),
            Address::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// One listening socket as the `listen` directives of an address describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSpec {
    /// Where.
    pub address: Address,
    /// Length of the queue of connections not yet accepted (`backlog`; nginx's default is 511).
    pub backlog: i32,
    /// One socket for each thread (`reuseport`).
    pub reuseport: bool,
    /// An IPv6 socket takes no IPv4 connection (`ipv6only`, on by default).
    pub ipv6only: bool,
    /// Wake only once the client has sent something (`deferred`).
    pub deferred: bool,
    /// Queue of `TCP_FASTOPEN` (`fastopen`).
    pub fastopen: Option<i32>,
    /// Bytes of the receive buffer (`rcvbuf`).
    pub rcvbuf: Option<usize>,
    /// Bytes of the send buffer (`sndbuf`).
    pub sndbuf: Option<usize>,
    /// TCP keep-alive probes (`so_keepalive`); `None` leaves the system's setting.
    pub keepalive: Option<Keepalive>,
    /// Who may connect to a unix socket; without it everyone who reaches the folder may, as with nginx.
    pub access: Option<SocketAccess>,
    /// The program goes on without this socket if it cannot be opened: nobody has asked for it in so many words.
    pub optional: bool,
}

/// Who may connect to a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketAccess {
    /// The rights of its file.
    pub mode: u32,
    /// The group its file belongs to; the master's own if there is none.
    pub group: Option<String>,
}

impl ListenSpec {
    /// A plain socket with nginx's defaults.
    pub fn new(address: Address) -> ListenSpec {
        ListenSpec {
            address,
            backlog: 511,
            reuseport: false,
            ipv6only: true,
            deferred: false,
            fastopen: None,
            rcvbuf: None,
            sndbuf: None,
            keepalive: None,
            access: None,
            optional: false,
        }
    }
}

/// `so_keepalive=on|off|[keepidle]:[keepintvl]:[keepcnt]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether probes are sent.
    pub on: bool,
    /// Seconds of silence before the first.
    pub idle_s: Option<u32>,
    /// Seconds between two.
    pub interval_s: Option<u32>,
    /// How many unanswered ones end the connection.
    pub count: Option<u32>,
}
