//! The requirements of a configuration: what the operating system must provide for it.
//!
//! Owns plain values that the application fills in and the master makes real. Must never know a directive's meaning.

use crate::log::{ErrorLog, Level, LogFiles, LogTarget};
use crate::source::Source;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The requirements of a configuration on the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// The file that holds the master's process number (`pid`).
    pub pid_path: PathBuf,
    /// Whether to become a daemon (`daemon`, on by default).
    pub daemon: bool,
    /// Whether a master supervises the worker process (`master_process`, on by default).
    pub master_process: bool,
    /// Threads of the worker process (`worker_processes`; `auto` already counted).
    pub threads: usize,
    /// The user that the worker process runs as (`user`); without effect unless started as root.
    pub user: Option<UserSpec>,
    /// Connections that it may have open, in all threads together (`worker_connections`).
    pub connections: u64,
    /// Settings of the worker process that cannot change while it runs.
    pub limits: Limits,
    /// The variables in the environment of the worker process, beside `TZ` (`env`).
    pub environment: Vec<EnvRule>,
    /// The sockets to listen on, each address once.
    pub listeners: Vec<ListenSpec>,
    /// The main error logs (`error_log` outside every block); empty for the default one.
    pub error_logs: Vec<(LogTarget, Level)>,
    /// Every other file that log lines are appended to, absolute: access logs, error logs of inner blocks.
    pub log_files: Vec<PathBuf>,
    /// The directories that it needs.
    pub dirs: Directories,
    /// The control socket (`control`), which the worker process gets beside the others.
    pub control: Option<ListenSpec>,
    /// Files that the worker process reads while it serves.
    pub late_files: Vec<LateFiles>,
    /// How long the worker process serves on after the death of its master (`orphan_timeout`); zero if not at all.
    pub orphan_timeout: Duration,
}

/// Directories of the worker process, absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directories {
    /// For temporary files (`client_body_temp_path`, `proxy_temp_path`).
    pub temp: Vec<PathBuf>,
    /// For permanent files. A missing one is created and given to the worker's user; an existing one stays as it is, since it
    /// may hold files of others.
    pub state: Vec<PathBuf>,
    /// Like these, but they may be needed later: where one cannot be made, what needs it says so then.
    pub optional: Vec<PathBuf>,
}

/// Files that the worker process reads while it serves, as its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateFiles {
    /// The directive that names them.
    pub named_by: String,
    /// Which they may be, as for glob(7).
    pub pattern: PathBuf,
}

impl Requirements {
    /// Returns the main error logs in force: those of the configuration, else the one of the command line at nginx's
    /// default level.
    pub fn main_error_logs(&self, source: &Source) -> Vec<(LogTarget, Level)> {
        match self.error_logs.is_empty() {
            true => vec![(source.error_log.clone(), Level::Error)],
            false => self.error_logs.clone(),
        }
    }

    /// Returns the main error log in force, over files that are open.
    pub fn error_log(&self, source: &Source, logs: &LogFiles) -> ErrorLog {
        logs.error_log(&self.main_error_logs(source))
    }

    /// Returns every socket to open: those for clients, the control socket, and the one on which a worker process hands
    /// all of them to the next master.
    pub(crate) fn sockets(&self) -> Vec<ListenSpec> {
        let handover = (self.master_process && !self.orphan_timeout.is_zero()).then(|| ListenSpec {
            access: Some(SocketAccess { mode: 0o600, group: None }),
            optional: Some("orphan_timeout"),
            ..ListenSpec::new(Address::Unix(handover_path(&self.pid_path)))
        });
        self.listeners.iter().chain(&self.control).cloned().chain(handover).collect()
    }

    /// Returns true if a worker process that runs with `self` can switch to `newer`, false if a new one is needed.
    pub(crate) fn same_process(&self, newer: &Requirements) -> bool {
        self.threads == newer.threads
            && self.limits == newer.limits
            && self.environment == newer.environment
            && self.user.as_ref().map(UserSpec::names) == newer.user.as_ref().map(UserSpec::names)
            // A worker serves its control socket for life.
            && self.control_address() == newer.control_address()
    }

    /// Returns the address of the control socket.
    pub(crate) fn control_address(&self) -> Option<&Address> {
        self.control.as_ref().map(|spec| &spec.address)
    }

    /// Returns every file that log lines are appended to, each once.
    pub(crate) fn all_log_files(&self, source: &Source) -> Vec<PathBuf> {
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

/// Returns `PIDFILE.handover`, the socket on which a worker process without a master waits for the next one.
pub(crate) fn handover_path(pid_path: &Path) -> PathBuf {
    let mut name = pid_path.as_os_str().to_owned();
    name.push(".handover");
    name.into()
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
    /// Working directory (`working_directory`).
    pub working_directory: Option<PathBuf>,
    /// System calls that the kernel refuses it.
    pub sandbox: Sandbox,
}

/// Which system calls the kernel refuses a worker process (`sandbox`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// None beyond those that its user may not make.
    #[default]
    Off,
    /// Those that no worker needs.
    On,
    /// Those, and the ones that start programs.
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

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// IPv4 or IPv6, with port.
    Inet(SocketAddr),
    /// A unix socket's path.
    Unix(PathBuf),
}

/// Formats the address as nginx's messages do: `0.0.0.0:80`, `[::]:80`, `unix:/run/x.sock`.
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
    /// The address.
    pub address: Address,
    /// Length of the queue of connections that are not accepted yet (`backlog`; nginx's default is 511).
    pub backlog: i32,
    /// One socket for each thread (`reuseport`).
    pub reuseport: bool,
    /// An IPv6 socket takes no IPv4 connection (`ipv6only`, on by default).
    pub ipv6only: bool,
    /// Accept only once the client has sent something (`deferred`).
    pub deferred: bool,
    /// Queue of `TCP_FASTOPEN` (`fastopen`).
    pub fastopen: Option<i32>,
    /// Bytes of the receive buffer (`rcvbuf`).
    pub rcvbuf: Option<usize>,
    /// Bytes of the send buffer (`sndbuf`).
    pub sndbuf: Option<usize>,
    /// TCP keep-alive probes (`so_keepalive`); `None` leaves the system's setting.
    pub keepalive: Option<Keepalive>,
    /// Who may connect to a unix socket; without it everyone who can reach the directory, as with nginx.
    pub access: Option<SocketAccess>,
    /// The directive that it is a default of, if the program runs without it when it cannot be opened.
    pub optional: Option<&'static str>,
}

/// Who may connect to a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketAccess {
    /// Permissions of its file.
    pub mode: u32,
    /// Group of its file; the master's own if there is none.
    pub group: Option<String>,
}

impl ListenSpec {
    /// Returns a plain socket with nginx's defaults.
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
            optional: None,
        }
    }
}

/// `so_keepalive=on|off|[keepidle]:[keepintvl]:[keepcnt]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether probes are sent.
    pub on: bool,
    /// Seconds of silence before the first probe.
    pub idle_s: Option<u32>,
    /// Seconds between two probes.
    pub interval_s: Option<u32>,
    /// Number of unanswered probes after which the connection is closed.
    pub count: Option<u32>,
}
