//! What is at the paths of sockets, pid file, logs and directories: `process::test` and `process::run`.
//!
//! Compares the files before and after: a test of the configuration changes nothing; a start removes only what is its
//! own to replace, and removes what it made except logs and directories; it succeeds where the test does. The first byte
//! is how many files are put (two bytes each: name and kind), the next seven choose the name of each path, and the others
//! are steps.

#![allow(unsafe_code, reason = "a start acts on its whole process: it runs in a fork")]

use crate::store::folder;
use process::log::{Level, LogTarget};
use process::{
    Address, Application, Directories, Limits, ListenSpec, Loaded, Requirements, SocketAccess, Source,
    WorkerInit,
};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The names that files have and paths may share; the last one is below a directory that does not exist.
const NAMES: [&str; 8] = ["a", "b", "c", "d", "d/e", "d/f", "g", "none/h"];
const KINDS: [Kind; 9] = [
    Kind::File,
    Kind::Folder,
    Kind::LinkToFile,
    Kind::LinkToFolder,
    Kind::LinkToNothing,
    Kind::Fifo,
    Kind::LiveSocket,
    Kind::DeadSocket,
    Kind::OldNumber,
];
/// The paths of a configuration, by their names if nothing else is chosen.
const ROLES: [&str; 7] = ["listen.sock", "control.sock", "pid", "error.log", "access.log", "temp", "state"];
const SOCKETS: [usize; 2] = [0, 1];
const PID: usize = 2;
const LOGS: [usize; 2] = [3, 4];
const DIRS: [usize; 2] = [5, 6];
/// The most steps of an input.
const STEPS: usize = 6;
const PRECIOUS: &str = "precious";
const NUMBER: &str = "99999999\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    LinkToFile,
    LinkToFolder,
    LinkToNothing,
    Fifo,
    LiveSocket,
    DeadSocket,
    /// The pid file of a server that was killed.
    OldNumber,
}

/// An application that ends once it serves.
#[derive(Clone)]
struct Short(Requirements);

impl Application for Short {
    type Config = ();

    fn load(&self, _: &Source, _: &dyn conf::Loader) -> Loaded<()> {
        Loaded { findings: Vec::new(), outcome: Some((self.0.clone(), ())) }
    }

    fn work(&self, (): (), init: WorkerInit) -> i32 {
        init.master.reporter().ready();
        0
    }
}

/// A file as the system shows it, without the time of its last read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    changed: (i64, i64),
    len: u64,
}

/// Returns all files below a directory by their paths.
fn seen(dir: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        let found = path.symlink_metadata().unwrap();
        let is_dir = found.is_dir();
        let shown = Seen {
            inode: found.ino(),
            mode: found.mode(),
            owner: (found.uid(), found.gid()),
            changed: (found.ctime(), found.ctime_nsec()),
            len: found.len(),
        };
        all.insert(path.clone(), shown);
        if is_dir {
            all.extend(seen(&path));
        }
    }
    all
}

/// What was put at a path before the steps.
struct Put {
    kind: Kind,
    before: Seen,
    /// The file that a link leads to.
    aim: PathBuf,
    _live: Option<UnixListener>,
}

fn put(path: &Path, aim: PathBuf, kind: Kind) -> Option<Put> {
    let mut live = None;
    match kind {
        Kind::File => fs::write(path, PRECIOUS).ok()?,
        Kind::OldNumber => fs::write(path, NUMBER).ok()?,
        Kind::Folder => fs::create_dir(path).ok()?,
        Kind::LinkToFile => {
            symlink(&aim, path).ok()?;
            fs::write(&aim, PRECIOUS).unwrap();
        }
        Kind::LinkToFolder => {
            symlink(&aim, path).ok()?;
            fs::create_dir(&aim).unwrap();
        }
        Kind::LinkToNothing => symlink(&aim, path).ok()?,
        Kind::Fifo => {
            let name = std::ffi::CString::new(path.to_str()?).ok()?;
            // SAFETY: the name is a C string that lives through the call.
            (unsafe { libc::mkfifo(name.as_ptr(), 0o600) } == 0).then_some(())?;
        }
        Kind::LiveSocket => live = Some(UnixListener::bind(path).ok()?),
        Kind::DeadSocket => drop(UnixListener::bind(path).ok()?),
    }
    let before = seen(path.parent()?).remove(path)?;
    Some(Put { kind, before, aim, _live: live })
}

fn requirements(paths: &[PathBuf]) -> Requirements {
    let socket = |role: usize| ListenSpec::new(Address::Unix(paths[role].clone()));
    Requirements {
        pid_path: paths[PID].clone(),
        daemon: false,
        master_process: false,
        threads: 1,
        user: None,
        connections: 16,
        limits: Limits::default(),
        environment: Vec::new(),
        listeners: vec![socket(SOCKETS[0])],
        error_logs: vec![(LogTarget::File(paths[LOGS[0]].clone()), Level::Notice)],
        log_files: vec![paths[LOGS[1]].clone()],
        dirs: Directories {
            temp: vec![paths[DIRS[0]].clone()],
            state: vec![paths[DIRS[1]].clone()],
            optional: Vec::new(),
        },
        control: Some(ListenSpec {
            access: Some(SocketAccess { mode: 0o600, group: None }),
            ..socket(SOCKETS[1])
        }),
        late_files: Vec::new(),
        orphan_timeout: Duration::ZERO,
    }
}

/// Runs a function with standard error closed to the console: a fault's text would hide what a finding says.
fn silent<T>(function: impl FnOnce() -> T) -> T {
    let nothing = fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    // SAFETY: both descriptors are open, and the copy is put back before anything else is written.
    unsafe {
        let kept = libc::dup(2);
        libc::dup2(nothing.as_raw_fd(), 2);
        let result = function();
        libc::dup2(kept, 2);
        libc::close(kept);
        result
    }
}

/// Starts a server that ends at once. Returns its exit code.
fn start(app: &Short, source: &Source) -> i32 {
    // SAFETY: the child runs the program's own start, which expects a process without threads, and ends without
    // unwinding.
    unsafe {
        match libc::fork() {
            0 => {
                let code = std::panic::catch_unwind(|| silent(|| process::run(app, source)));
                libc::_exit(code.unwrap_or(101))
            }
            child => {
                let mut status = 0;
                // The fuzzer's clock interrupts it.
                while libc::waitpid(child, &mut status, 0) != child {
                    assert_eq!(std::io::Error::last_os_error().kind(), std::io::ErrorKind::Interrupted);
                }
                assert!(libc::WIFEXITED(status), "ended by a signal: {status}");
                libc::WEXITSTATUS(status)
            }
        }
    }
}

struct World {
    root: PathBuf,
    paths: Vec<PathBuf>,
    put: BTreeMap<PathBuf, Put>,
}

impl World {
    fn has_role(&self, path: &Path, roles: &[usize]) -> bool {
        roles.iter().any(|role| self.paths[*role] == path)
    }

    /// Panics if a start has lost or given away a file that is not its own.
    fn judge_start(&self) {
        let now = seen(&self.root);
        for (path, put) in &self.put {
            let is_log = self.has_role(path, &LOGS);
            let found = now.get(path);
            let is_replaced = match put.kind {
                Kind::DeadSocket => self.has_role(path, &SOCKETS),
                Kind::OldNumber => self.has_role(path, &[PID]),
                _ => false,
            };
            if is_replaced {
                continue;
            }
            let found = found.unwrap_or_else(|| panic!("{:?} at {} is gone", put.kind, path.display()));
            assert_eq!(found.inode, put.before.inode, "{:?} at {}", put.kind, path.display());
            // Logs and temporary directories are the worker's, as in nginx.
            if !is_log && !self.has_role(path, &DIRS[..1]) {
                let kept = (put.before.mode, put.before.owner);
                assert_eq!((found.mode, found.owner), kept, "{:?} at {}", put.kind, path.display());
            }
            let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
            let holds = |path: &Path, wanted: &str| {
                let text = text(path);
                assert!(text == wanted || is_log && text.starts_with(wanted), "{}: {text}", path.display());
            };
            match put.kind {
                Kind::File => holds(path, PRECIOUS),
                Kind::OldNumber => holds(path, NUMBER),
                Kind::LinkToFile => holds(&put.aim, PRECIOUS),
                Kind::LinkToNothing => assert!(is_log || !put.aim.exists(), "{}", put.aim.display()),
                _ => {}
            }
        }
    }

    /// Panics if a server that has ended left more than logs and directories.
    fn judge_rest(&self, before: &BTreeMap<PathBuf, Seen>) {
        for path in seen(&self.root).keys().filter(|path| !before.contains_key(*path)) {
            let is_kept = self.has_role(path, &LOGS) || self.has_role(path, &DIRS);
            let is_aim = path.starts_with(self.root.join("aims"));
            let is_above = self.paths.iter().any(|role| role.starts_with(path));
            assert!(is_kept || is_aim || is_above, "{} was left", path.display());
        }
    }

    /// Returns true if nothing but dead sockets is at the paths of sockets: a start tries for two seconds
    /// to take what is in use, and the tests of the crate see to that.
    fn can_start(&self) -> bool {
        let is_free = |role: &usize| {
            let path = &self.paths[*role];
            self.paths.iter().filter(|other| *other == path).count() == 1
                && self.put.get(path).is_none_or(|put| put.kind == Kind::DeadSocket)
        };
        SOCKETS.iter().all(is_free)
    }

    /// Returns true if no path is another's or in another's, and none is a FIFO, whose reader decides.
    fn is_plain(&self) -> bool {
        let overlap =
            |one: usize, other: usize| one != other && self.paths[one].starts_with(&self.paths[other]);
        let all = 0..self.paths.len();
        let is_fifo = |path: &PathBuf| {
            path.metadata().is_ok_and(|found| found.file_type().is_fifo() || found.file_type().is_socket())
        };
        !all.clone().any(|one| all.clone().any(|other| overlap(one, other)))
            && !LOGS.iter().chain(&[PID]).any(|role| is_fifo(&self.paths[*role]))
    }
}

pub(crate) fn check(data: &[u8]) {
    let Some((count, mut rest)) = data.split_first() else { return };
    let folder = folder();
    let root = folder.path().to_owned();
    for name in ["d", "aims"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    let mut world = World { root: root.clone(), paths: Vec::new(), put: BTreeMap::new() };
    for number in 0..usize::from(count % 5) {
        let [name, kind, others @ ..] = rest else { return };
        rest = others;
        let path = root.join(NAMES[usize::from(*name) % NAMES.len()]);
        let kind = KINDS[usize::from(*kind) % KINDS.len()];
        if let Some(put) = put(&path, root.join("aims").join(number.to_string()), kind) {
            world.put.insert(path, put);
        }
    }
    let Some((roles, steps)) = rest.split_at_checked(ROLES.len()) else { return };
    // Most paths are to be free, so that most starts succeed.
    let named =
        |(role, choice): (&str, &u8)| root.join(NAMES.get(usize::from(*choice)).copied().unwrap_or(role));
    world.paths = ROLES.into_iter().zip(roles).map(named).collect();
    let app = Short(requirements(&world.paths));
    let source = Source {
        prefix: root.clone(),
        conf_file: root.join("nginx.conf"),
        error_log: LogTarget::Stderr,
        globals: None,
        colour: false,
    };
    for step in steps.iter().take(STEPS) {
        let before = seen(&root);
        let tested = silent(|| process::test(&app, &source, true, false, |()| Ok(Vec::new())));
        assert_eq!(seen(&root), before, "a test changed something");
        if step % 2 == 0 || !world.can_start() {
            continue;
        }
        let is_plain = world.is_plain();
        let started = start(&app, &source);
        assert_ne!(started, 101, "the start panicked");
        world.judge_start();
        if started == 0 {
            world.judge_rest(&before);
        }
        assert!(!is_plain || (started == 0) == (tested == 0), "-t: {tested}, start: {started}");
    }
}
