//! The engine's interface to the outside: time, randomness, files, logs and scripts, all as one argument.

pub use crate::clock::Now;
use crate::config::Config;
use crate::exchange::Exchange;
use crate::modules::lua::script::ScriptId;
use crate::network::{BodyTap, DialRequest, DialedConnection, Dialing, Waiting};
use crate::output::wire::HeadRefused;
use crate::phase::verdict::{Effect, SwitchOrder};
use crate::routing::Routing;
use crate::subrequest::wanted::Subrequest;
use std::any::Any;
use std::fs::File;
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll};
use upstream::Peer;
use zeroize::Zeroizing;

/// The levels of the error log, most severe first, as nginx numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Written to standard error only.
    Stderr = 0,
    /// The server cannot start or go on.
    Emerg = 1,
    /// A failure that needs action at once.
    Alert = 2,
    /// A failure of one part.
    Crit = 3,
    /// A request failed.
    Error = 4,
    /// Something unusual.
    Warn = 5,
    /// Something worth knowing.
    Notice = 6,
    /// An action of a peer.
    Info = 7,
    /// For those who look inside.
    Debug = 8,
}

impl Level {
    /// The word in the configuration and, in brackets, in the log.
    pub const NAMES: [&'static str; 9] =
        ["stderr", "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"];

    /// Returns the level's word in the log; none for the first, as in nginx.
    pub fn name(self) -> &'static str {
        match self {
            Level::Stderr => "",
            level => Self::NAMES[level as usize],
        }
    }

    /// Returns the level of a number, for `ngx.log`.
    pub fn from_number(number: i64) -> Option<Level> {
        use Level::*;
        [Stderr, Emerg, Alert, Crit, Error, Warn, Notice, Info, Debug]
            .get(usize::try_from(number).ok()?)
            .copied()
    }

    /// Returns the level of a word in the configuration.
    pub fn from_name(name: &[u8]) -> Option<Level> {
        let number = Self::NAMES.iter().position(|known| known.as_bytes() == name)?;
        Self::from_number(number as i64)
    }
}

/// The reason why a file could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The system's error number.
    pub errno: i32,
    /// The call that failed, as nginx names it in the log: `open() "…" failed`.
    pub call: &'static str,
}

/// The result of opening a path.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The file, when it is a regular one and was asked for.
    pub file: Option<Rc<File>>,
    /// Length in bytes.
    pub len: u64,
    /// Seconds since the epoch of its last change.
    pub modified_s: u64,
    /// It is a directory.
    pub is_dir: bool,
    /// It is a regular file.
    pub is_file: bool,
    /// Its owner may execute it.
    pub is_executable: bool,
}

/// One entry of a directory; of a link what it leads to, unless that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// Length in bytes.
    pub len: u64,
    /// Seconds since the epoch of its last change.
    pub modified_s: u64,
    /// It is a directory.
    pub is_dir: bool,
    /// It is a regular file.
    pub is_file: bool,
}

/// The treatment of symlinks in a file's path (`disable_symlinks`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// Followed.
    #[default]
    Follow,
    /// Refused anywhere in the path.
    Refuse,
    /// Refused if link and target have different owners.
    RefuseOtherOwner,
}

/// How what is known of files is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptOpen {
    /// The number of the cache in the configuration.
    pub number: usize,
    /// The most files.
    pub max: usize,
    /// How long a file that is not asked for stays, in ms.
    pub inactive_ms: u64,
    /// How long what is known of a file is used, in ms.
    pub valid_ms: u64,
    /// The number of requests after which a file is kept open.
    pub min_uses: u64,
    /// It is kept, too, that a file cannot be opened.
    pub errors: bool,
}

/// A request to open a path.
#[derive(Clone, Copy, Debug)]
pub struct OpenRequest<'a> {
    /// The whole path.
    pub path: &'a [u8],
    /// Look only (`try_files`, `-f`): no descriptor is wanted.
    pub stat_only: bool,
    /// The treatment of symlinks.
    pub symlinks: Symlinks,
    /// With [`Symlinks`] other than `Follow`: how many bytes of the path are trusted (`from=`).
    pub trusted_prefix: usize,
    /// How it may be known from before (`open_file_cache`).
    pub kept: Option<KeptOpen>,
}

/// A script to run for a request, or to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptCall {
    /// Start this script.
    Start(ScriptId),
    /// Go on with the one that waits.
    Resume,
    /// Run the body filter on [`Exchange`]'s `script.chunk`.
    BodyFilter(ScriptId),
}

/// A part of what a server shows in a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPart {
    /// Certificates, its own first.
    Chain,
    /// The private key of its own.
    Key,
}

/// The result of a script.
#[derive(Debug)]
pub enum ScriptOutcome {
    /// It ran to its end.
    Finished,
    /// It called `ngx.exit(code)` (also through `ngx.redirect`).
    Exit(i32),
    /// It called `ngx.exec(uri, args)`: a named location when the URI begins with `@`.
    Exec {
        /// The target.
        uri: Vec<u8>,
        /// The query.
        args: Vec<u8>,
    },
    /// It waits for this.
    Wait(Effect),
    /// It raised an error, already logged.
    Failed,
    /// It came to its end, but a header filter has refused the head of what it wrote.
    HeadRefused(HeadRefused),
}

/// Everything outside the engine that a request may need at once. Waiting is not here: see [`crate::phase::Effect`].
pub trait Host {
    /// Returns the time of this turn of the loop.
    fn now(&self) -> Now;
    /// Reads the clock anew, for `ngx.update_time`; a host whose clock is always fresh has nothing to do.
    fn refresh_time(&mut self) {}
    /// Sixty-four random bits.
    fn random(&mut self) -> u64;
    /// Opens or looks at a file; blocking, as in nginx.
    fn open(&mut self, request: OpenRequest<'_>) -> Result<Opened, FileError>;
    /// Reads a small file whole; blocking, as in nginx. The call that failed is `open()` or `pread()`.
    fn read_file(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError>;
    /// Reads a directory; blocking, as in nginx.
    fn read_folder(&mut self, path: &[u8]) -> Result<Vec<FolderEntry>, FileError> {
        let _ = path;
        Ok(Vec::new())
    }
    /// Returns a guard that removes a file when it is dropped, for the file of a request's body
    /// (`ngx.req.set_body_file`).
    fn removal(&mut self, path: &Path) -> Rc<dyn Any>;
    /// Runs a script for a request.
    fn script(&mut self, config: &Config, exchange: &mut Exchange, call: ScriptCall) -> ScriptOutcome;
    /// Returns the path without symlinks, `.` and `..`, as realpath(3) gives it.
    fn real_path(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError>;
    /// Returns the machine's name, in lower case (`$hostname`).
    fn hostname(&self) -> &[u8];
    /// Returns the worker process's number (`$pid`).
    fn pid(&self) -> u32;
    /// Writes a finished line, its newline included, to one of the configuration's access logs; it may wait in that
    /// log's buffer.
    fn access_log(&mut self, config: &Config, log: crate::config::LogId, line: &[u8]);
    /// Appends a finished line to the file of this path, which is made if it is missing: an access log whose path
    /// has variables in it.
    fn access_log_at(&mut self, path: &[u8], line: &[u8]) -> Result<(), FileError>;
    /// Writes a line to one of the configuration's error logs; the host adds time, level, pid and connection.
    fn error_log(
        &mut self,
        config: &Config,
        log: crate::config::LogId,
        level: Level,
        connection: u64,
        text: &[u8],
    );
    /// Returns the connection counters of `stub_status`.
    fn counters(&self) -> Counters;
    /// Returns what is published now: the tables of the switches, and the groups.
    fn routing(&self) -> Option<Rc<Routing>> {
        None
    }
    /// Returns true if they hold any key. Asked with each request to an upstream.
    fn has_holds(&self) -> bool {
        self.routing().is_some_and(|routing| !routing.tables.holds.is_empty())
    }
    /// Carries out an order that belongs to no request (that of a timer's function), and answers on this thread: the
    /// new revision, or why it was refused. A request's is [`crate::phase::Effect::Switch`].
    fn order(&mut self, order: SwitchOrder, answer: SwitchAnswer) {
        let _ = order;
        answer(Err("there is no control plane".to_owned()));
    }
    /// Returns the peers of a group as this thread sees them, the backups last; `None` if there is no group of this name.
    fn peers(&self, config: &Config, group: &[u8]) -> Option<Vec<Peer>> {
        let _ = (config, group);
        None
    }
    /// Carries out a script's order on a server of a group, and answers on this thread as for [`Host::order`].
    fn order_server(&mut self, change: ServerChange, answer: SwitchAnswer) {
        let _ = change;
        answer(Err("there is no control plane".to_owned()));
    }
    /// Prepares to connect for a script; nothing happens before the result is polled. `None`: there is no network.
    fn dial(&mut self, config: &Config, request: DialRequest) -> Option<Dialing> {
        let _ = (config, request);
        None
    }
    /// Begins requests inside a request whose script has other threads that go on meanwhile. They share no variables. `None`:
    /// they are too deep inside each other, which is logged.
    fn begin_subrequests(
        &mut self,
        exchange: &mut Exchange,
        wanted: Vec<Subrequest>,
    ) -> Option<Box<dyn RunningRequests>> {
        let _ = (exchange, wanted);
        None
    }
    /// Makes what a script reads the body of its request from.
    fn tap(&mut self, tap: Rc<BodyTap>) -> Option<Box<dyn DialedConnection>> {
        drop(tap);
        None
    }
    /// Makes what a session of TLS is kept in, for [`crate::network::HandshakeRequest`].
    fn tls_session(&self) -> Option<Rc<dyn Any>> {
        None
    }
    /// Makes a client's certificate of its chain and key in PEM, for [`crate::network::HandshakeRequest`].
    ///
    /// # Errors
    /// Fails if they are broken, or do not belong together; the text is for the script.
    fn tls_certificate(&self, chain: &[u8], key: &[u8]) -> Result<Rc<dyn Any>, String> {
        let _ = (chain, key);
        Err("there is no TLS".to_owned())
    }
    /// Makes what a handshake uses of a chain of certificates, or of a key, in DER; `None` if it is none.
    fn tls_part(&self, part: TlsPart, der: &[u8]) -> Option<Rc<dyn Any>> {
        let _ = (part, der);
        None
    }
    /// Returns the DER of a chain of certificates, or of a key, in PEM; `None` if there is none in it, or the password is wrong.
    fn pem_to_der(&self, part: TlsPart, pem: &[u8], password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let _ = (part, pem, password);
        None
    }
    /// Waits so many milliseconds.
    fn alarm(&mut self, ms: u64) -> Waiting {
        let _ = ms;
        Waiting::new(std::future::ready(()))
    }
    /// Polls something on this thread until it is done, whatever becomes of the request.
    fn spawn(&mut self, waiting: Waiting) {
        drop(waiting);
    }
}

/// Requests inside a request, while they are served. Dropping them ends them.
pub trait RunningRequests {
    /// Serves them on. Ready when all have ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// Puts their answers into the request's `subrequests.ended`, in the order in which they were wanted.
    fn finish(self: Box<Self>, exchange: &mut Exchange);
}

/// A script's order on a server (`ngx.upstream.set_peer_down`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerChange {
    /// The group.
    pub group: String,
    /// The server's address.
    pub server: String,
    /// It gets no request from now on, or gets requests again.
    pub is_down: bool,
    /// The actor: `lua:FILE:LINE`.
    pub actor: String,
}

/// Takes what became of an order. Dropping it unanswered is good for a worker that ends.
pub type SwitchAnswer = Box<dyn FnOnce(Result<u64, String>)>;

/// The counters of `stub_status`, and others of the whole process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Client connections open now, the idle ones included.
    pub active: u64,
    /// Client connections accepted.
    pub accepted: u64,
    /// Client connections served.
    pub handled: u64,
    /// Requests begun.
    pub requests: u64,
    /// Connections whose request head is being read.
    pub reading: u64,
    /// Connections being answered.
    pub writing: u64,
    /// Connections that wait for a next request.
    pub waiting: u64,
    /// Lines of access logs that their files have not taken.
    pub log_lines_lost: u64,
}

/// The configuration a request is pinned to, and the world.
pub struct Env<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The world.
    pub host: &'a mut dyn Host,
}
