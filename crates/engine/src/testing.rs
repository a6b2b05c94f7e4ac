//! A world for the tests of this crate: a stopped clock, files in a list, logs in memory.

use crate::config::{Config, Inputs, LogId, NameLookup, build};
use crate::exchange::{Body, Exchange};
use crate::host::{
    Counters, Env, FileError, Host, Level, Now, OpenRequest, Opened, ScriptCall, ScriptOutcome,
};
use crate::output::{self, HeadRefused};
use crate::phase::{self, Content, Effect, FilePart, Step, Wake};
use crate::routing::Routing;
use crate::start_request;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

/// 2001-09-09 01:46:40 UTC.
pub(crate) const NOW_S: u64 = 1_000_000_000;
/// The time of the tests' files: 2001-09-09 00:46:40 UTC.
pub(crate) const MODIFIED_S: u64 = NOW_S - 3600;
pub(crate) const MODIFIED: &str = "Sun, 09 Sep 2001 00:46:40 GMT";

/// The kind of file at a path.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    File(Vec<u8>),
    Directory,
    /// Something else: a socket, a device.
    Special,
    /// It cannot be opened: the system's error number.
    Locked(i32),
}

/// A script of a test.
type Script = Box<dyn FnMut(&mut Exchange, ScriptCall) -> ScriptOutcome>;

/// The world as a test has it.
pub(crate) struct TestHost {
    pub(crate) now: Now,
    pub(crate) files: BTreeMap<Vec<u8>, Node>,
    /// `[level] text`, in order.
    pub(crate) error_lines: Vec<String>,
    pub(crate) access_lines: Vec<String>,
    /// The paths that were opened: path, treatment of symlinks, trusted bytes.
    pub(crate) opened: Vec<(String, crate::host::Symlinks, usize)>,
    /// The scripts' code, if there are any.
    pub(crate) script: Option<Script>,
    /// The present publication.
    pub(crate) routing: Option<Rc<Routing>>,
    /// The counters for `stub_status`.
    pub(crate) counters: Counters,
    random: u64,
}

impl TestHost {
    /// Returns a world without files.
    pub(crate) fn new() -> TestHost {
        TestHost {
            now: Now { epoch_us: NOW_S * 1_000_000, monotonic_us: 5_000_000, utc_offset_s: 0 },
            files: BTreeMap::new(),
            error_lines: Vec::new(),
            access_lines: Vec::new(),
            opened: Vec::new(),
            script: None,
            routing: None,
            counters: Counters::default(),
            random: 0,
        }
    }

    /// Puts a file there, and the directories above it.
    pub(crate) fn file(mut self, path: &str, text: &str) -> TestHost {
        for (slash, _) in path.match_indices('/') {
            self.files.entry(path[..slash.max(1)].into()).or_insert(Node::Directory);
        }
        self.files.insert(path.into(), Node::File(text.into()));
        self
    }

    /// Puts something else there.
    pub(crate) fn node(mut self, path: &str, node: Node) -> TestHost {
        self.files.insert(path.into(), node);
        self
    }

    fn find(&self, path: &[u8]) -> Result<&Node, i32> {
        let (bare, wants_directory) = match path {
            [bare @ .., b'/'] if !bare.is_empty() => (bare, true),
            _ => (path, false),
        };
        // A path through a file or a locked directory fails as the system has it.
        for slash in memchr::memchr_iter(b'/', bare).filter(|slash| *slash > 0) {
            match self.files.get(&bare[..slash]) {
                Some(Node::File(_) | Node::Special) => return Err(libc::ENOTDIR),
                Some(Node::Locked(errno)) => return Err(*errno),
                _ => {}
            }
        }
        match self.files.get(bare) {
            None if bare.split(|byte| *byte == b'/').any(|name| name.len() > 255) => Err(libc::ENAMETOOLONG),
            None => Err(libc::ENOENT),
            Some(Node::File(_)) if wants_directory => Err(libc::ENOTDIR),
            Some(node) => Ok(node),
        }
    }
}

impl Host for TestHost {
    fn now(&self) -> Now {
        self.now
    }

    fn random(&mut self) -> u64 {
        self.random += 1;
        self.random
    }

    fn open(&mut self, request: OpenRequest<'_>) -> Result<Opened, FileError> {
        let path = String::from_utf8_lossy(request.path).into_owned();
        self.opened.push((path, request.symlinks, request.trusted_prefix));
        let call = if request.stat_only { "stat()" } else { "open()" };
        let node = match self.find(request.path) {
            Ok(Node::Locked(errno)) if !request.stat_only => return Err(FileError { errno: *errno, call }),
            Ok(node) => node,
            Err(errno) => return Err(FileError { errno, call }),
        };
        let bytes = if let Node::File(bytes) = node { bytes.as_slice() } else { b"" };
        let is_file = matches!(node, Node::File(_) | Node::Locked(_));
        Ok(Opened {
            file: (is_file && !request.stat_only).then(|| Rc::new(real_file(bytes))),
            len: bytes.len() as u64,
            modified_s: MODIFIED_S,
            is_dir: matches!(node, Node::Directory),
            is_file,
            is_executable: false,
        })
    }

    fn read_file(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        match self.find(path) {
            Ok(Node::File(bytes)) => Ok(bytes.clone()),
            Ok(Node::Directory) => Err(FileError { errno: libc::EISDIR, call: "pread()" }),
            Ok(Node::Special) => Ok(Vec::new()),
            Ok(Node::Locked(errno)) => Err(FileError { errno: *errno, call: "open()" }),
            Err(errno) => Err(FileError { errno, call: "open()" }),
        }
    }

    fn removal(&mut self, _: &std::path::Path) -> std::rc::Rc<dyn std::any::Any> {
        std::rc::Rc::new(())
    }

    fn script(&mut self, _: &Config, exchange: &mut Exchange, call: ScriptCall) -> ScriptOutcome {
        match &mut self.script {
            Some(script) => script(exchange, call),
            None => ScriptOutcome::Finished,
        }
    }

    fn real_path(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        self.find(path).map(|_| path.to_vec()).map_err(|errno| FileError { errno, call: "realpath()" })
    }

    fn hostname(&self) -> &[u8] {
        b"test.local"
    }

    fn pid(&self) -> u32 {
        4711
    }

    fn access_log(&mut self, _: &Config, _: LogId, line: &[u8]) {
        self.access_lines.push(String::from_utf8_lossy(line).into_owned());
    }

    fn access_log_at(&mut self, path: &[u8], line: &[u8]) -> Result<(), FileError> {
        self.find(path).map_err(|errno| FileError { errno, call: "open()" })?;
        self.access_lines.push(String::from_utf8_lossy(line).into_owned());
        Ok(())
    }

    fn error_log(&mut self, _: &Config, _: LogId, level: Level, _: u64, text: &[u8]) {
        self.error_lines.push(format!("[{}] {}", level.name(), String::from_utf8_lossy(text)));
    }

    fn routing(&self) -> Option<Rc<Routing>> {
        self.routing.clone()
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

/// Returns a nameless file with these bytes: content is handed over as an open file.
fn real_file(bytes: &[u8]) -> File {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("pointsman-engine-test-{}-{serial}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Path and text of the files that a configuration may name.
struct TextFiles<'f>(&'f [(&'f str, &'f str)]);

impl conf::Loader for TextFiles<'_> {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        let known = self.0.iter().find(|(known, _)| Path::new(known) == path);
        known.map(|(_, text)| text.as_bytes().to_vec()).ok_or(std::io::Error::from_raw_os_error(libc::ENOENT))
    }
    fn glob(&self, _: &Path) -> std::io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

struct LocalNames;

impl NameLookup for LocalNames {
    fn lookup(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        match host {
            "localhost" => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
            _ => Err("Name or service not known".to_owned()),
        }
    }
}

fn inputs<'a>(files: &'a TextFiles<'_>) -> Inputs<'a> {
    Inputs {
        loader: files,
        names: &LocalNames,
        prefix: PathBuf::from("/prefix"),
        file: PathBuf::from("/etc/pointsman/nginx.conf"),
        identity: Default::default(),
    }
}

fn built(text: &str, files: &[(&str, &str)]) -> Result<(Config, Vec<String>), Vec<String>> {
    let files = TextFiles(files);
    // Every configuration has an `events` block; in front, on the same line, it leaves the line numbers alone.
    let text = if text.contains("events") { text.to_owned() } else { format!("events {{}} {text}") };
    let parsed = conf::parse_text("/etc/pointsman/nginx.conf", text, &files);
    let shown = |faults: Vec<conf::Diagnostic>| {
        faults.iter().map(|fault| fault.nginx_line(&parsed.sources)).collect::<Vec<_>>()
    };
    match build(&parsed, &inputs(&files)) {
        Ok((config, warnings)) => Ok((config, shown(warnings))),
        Err(faults) => Err(shown(faults)),
    }
}

/// Returns the configuration of a whole text.
pub(crate) fn config_of(text: &str) -> Config {
    match built(text, &[]) {
        Ok((config, _)) => config,
        Err(faults) => panic!("{}\n{text}", faults.join("\n")),
    }
}

/// Returns the configuration of a whole text that names files (path and text of each), or its faults.
pub(crate) fn with_files(text: &str, files: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    built(text, files).map(|(config, _)| config)
}

/// Returns the configuration of one server's inside.
pub(crate) fn server_of(text: &str) -> Config {
    config_of(&format!("http {{ server {{ listen 80; {text} }} }}"))
}

/// Errors and warnings of a text, as nginx's one line.
pub(crate) fn faults_of(text: &str) -> Vec<String> {
    match built(text, &[]) {
        Ok((_, warnings)) => warnings,
        Err(faults) => faults,
    }
}

/// Errors and warnings of a text as people see them.
pub(crate) fn shown_to_people(text: &str) -> String {
    let text = format!("events {{}} {text}");
    let files = TextFiles(&[]);
    let parsed = conf::parse_text("/etc/pointsman/nginx.conf", text, &files);
    let faults = match build(&parsed, &inputs(&files)) {
        Ok((_, warnings)) => warnings,
        Err(faults) => faults,
    };
    faults.iter().map(|fault| fault.render(&parsed.sources, false)).collect()
}

/// Returns a request that has begun: its head is decoded and the server chosen.
pub(crate) fn exchange(config: &Config, host: &mut TestHost, request: &str) -> Exchange {
    let mut exchange = Exchange::default();
    exchange.connection.serial = 1;
    exchange.connection.remote = Some(SocketAddr::from(([127, 0, 0, 1], 40000)));
    exchange.connection.local = Some(SocketAddr::from(([127, 0, 0, 1], 80)));
    exchange.reset(config, host.now);
    let limits = start_request::head_limits(config, 0);
    let progress = exchange.request.head.decode(request.as_bytes(), &limits);
    assert!(matches!(progress, Ok(http::Progress::Complete { .. })), "{progress:?} for {request:?}");
    let mut env = Env { config, host };
    assert_eq!(start_request::start(&mut exchange, &mut env), Ok(()), "{request:?}");
    exchange
}

/// Returns everything that is sent for a request; of an upstream, `<proxy>`.
pub(crate) fn answer(config: &Config, host: &mut TestHost, request: &str) -> String {
    let mut exchange = exchange(config, host, request);
    let mut env = Env { config, host };
    let mut step = phase::advance(&mut exchange, &mut env);
    loop {
        let content = match step {
            Step::Wait(Effect::ReadBody | Effect::DiscardBody) => {
                exchange.request.body = Body::Memory(Vec::new());
                exchange.route.wake = Some(Wake::Done);
                step = phase::advance(&mut exchange, &mut env);
                continue;
            }
            Step::Wait(_) => {
                exchange.route.wake = Some(Wake::Done);
                step = phase::advance(&mut exchange, &mut env);
                continue;
            }
            Step::Written => break,
            Step::Drop => return "<drop>".to_owned(),
            Step::Serve(Content::Proxy) => return "<proxy>".to_owned(),
            Step::Serve(content @ (Content::Control(_) | Content::Report(_))) => {
                return format!("<{content:?}>");
            }
            Step::Serve(content) => content,
        };
        match send(&mut exchange, &mut env, content) {
            Ok(()) => break,
            Err(HeadRefused::Refuse(status)) => step = phase::refuse(&mut exchange, &mut env, status),
            Err(HeadRefused::Replace(status)) => step = phase::replace(&mut exchange, &mut env, status),
            Err(HeadRefused::Close) => return "<drop>".to_owned(),
        }
    }
    String::from_utf8_lossy(&exchange.output.wire).into_owned()
}

/// As the server sends.
fn send(exchange: &mut Exchange, env: &mut Env<'_>, content: Content) -> Result<(), HeadRefused> {
    output::write_head(exchange, env)?;
    match content {
        Content::Bytes(bytes) => output::write_body(exchange, env, &bytes, false).unwrap(),
        Content::File { file, parts } => {
            let chosen = std::mem::take(&mut exchange.response.parts);
            for part in if chosen.is_empty() { parts } else { chosen } {
                let bytes = match part {
                    FilePart::Text(text) => text,
                    FilePart::Range { offset, len } => {
                        let mut bytes = vec![0; len as usize];
                        file.read_exact_at(&mut bytes, offset).unwrap();
                        bytes
                    }
                };
                output::write_body(exchange, env, &bytes, false).unwrap();
            }
        }
        Content::Proxy | Content::Control(_) | Content::Report(_) | Content::Empty => {}
    }
    output::write_body(exchange, env, b"", true).unwrap();
    Ok(())
}
