//! The operating system's resources that one configuration holds: sockets, log files, directories, the pid file.
//!
//! Owns the steps that acquire them, in nginx's order, so that a reload can be prepared beside the running configuration
//! and abandoned without a trace if any step fails. Must never fork or signal.

use crate::given_folder;
use crate::log::{Level, LogFiles, NewLogs, open_append};
use crate::privileges::{self, WorkerUser};
use crate::process_log::{ProcessLog, Reported};
use crate::requirements::{Address, ListenSpec, Requirements};
use crate::sockets::{self, Listening};
use crate::source::Source;
use crate::upgrade;
use crate::worker_command::WithoutMaster;
use nix::errno::Errno;
use nix::unistd::{Uid, fchown};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The resources of the configuration in force.
#[derive(Clone, Debug)]
pub(crate) struct Resources {
    pub(crate) requirements: Requirements,
    /// The user of the worker process; `None` if it keeps the master's.
    pub(crate) owner: Option<WorkerUser>,
    pub(crate) listening: Vec<Listening>,
}

/// Resources that are acquired but not in use yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) resources: Resources,
    /// All log files, newly opened.
    pub(crate) logs: Vec<(PathBuf, OwnedFd)>,
}

impl Prepared {
    /// Acquires everything; sockets that are open already are kept for the same addresses.
    pub(crate) fn new(
        requirements: Requirements,
        source: &Source,
        open_before: &[Listening],
        log: &ProcessLog,
    ) -> Result<Prepared, Reported> {
        let owner = privileges::worker_user(requirements.user.as_ref(), log)?;
        make_dirs(&requirements, owner.as_ref(), log)?;
        let logs = open_logs(&requirements, source, log)?;
        let listening = sockets::open_all(&requirements.sockets(), requirements.threads, open_before, log)?;
        Ok(Prepared { resources: Resources { requirements, owner, listening }, logs })
    }

    /// Releases what was acquired, except what `kept` uses.
    pub(crate) fn abandon(self, kept: Option<&Resources>, log: &ProcessLog) {
        let kept = kept.map_or(&[] as &[Listening], |resources| &resources.listening);
        sockets::remove_files(&self.resources.listening, kept, log);
    }

    /// Replaces `before`, whose superfluous sockets close.
    pub(crate) fn commit(
        self,
        before: Option<Resources>,
        source: &Source,
        logs: &LogFiles,
        log: &mut ProcessLog,
    ) -> Resources {
        let wanted = self.resources.requirements.all_log_files(source);
        if let Err(error) = logs.adopt(NewLogs { files: self.logs }) {
            log.failed(Level::Alert, "dup3() of a log file", &error);
        }
        log.move_to(logs, &self.resources.requirements.main_error_logs(source));
        logs.keep_only(&wanted);
        if let Some(before) = before {
            sockets::remove_files(&before.listening, &self.resources.listening, log);
        }
        self.resources
    }
}

impl Resources {
    /// Returns what a worker process needs to know in case that its master dies.
    pub(crate) fn without_master(&self) -> WithoutMaster {
        WithoutMaster {
            timeout: self.requirements.orphan_timeout,
            pid_path: self.requirements.pid_path.clone(),
            files: upgrade::format_files(&self.listening),
        }
    }

    /// Closes the listening sockets and removes the files of the unix ones.
    pub(crate) fn close_sockets(&mut self, log: &ProcessLog) {
        sockets::remove_files(&self.listening, &[], log);
        self.leave_sockets();
    }

    /// Closes the listening sockets of a process that another one replaces; the files of the unix ones stay.
    pub(crate) fn leave_sockets(&mut self) {
        self.listening.clear();
    }
}

/// Opens every log file of a configuration.
pub(crate) fn open_logs(
    requirements: &Requirements,
    source: &Source,
    log: &ProcessLog,
) -> Result<Vec<(PathBuf, OwnedFd)>, Reported> {
    requirements
        .all_log_files(source)
        .into_iter()
        .map(|path| match open_append(&path) {
            Ok(fd) => Ok((path, fd)),
            Err(error) => {
                Err(log.failed(Level::Emerg, format_args!("open() \"{}\"", path.display()), &error))
            }
        })
        .collect()
}

/// Reopens the log files for USR1. One that cannot be opened stays as it is. The files are given to the worker's user,
/// as nginx does.
pub(crate) fn reopen_logs(
    resources: &Resources,
    source: &Source,
    log: &ProcessLog,
) -> Vec<(PathBuf, OwnedFd)> {
    let mut opened = Vec::new();
    for path in resources.requirements.all_log_files(source) {
        let made_ours = |fd: OwnedFd| match &resources.owner {
            Some(owner) => give_log_to(&path, fd, owner.uid),
            None => Ok(fd),
        };
        match open_append(&path).and_then(made_ours) {
            Ok(fd) => opened.push((path, fd)),
            Err(error) => {
                log.failed(Level::Emerg, format_args!("open() \"{}\"", path.display()), &error);
            }
        }
    }
    opened
}

/// Makes `uid` the owner of an open log file. Links are not followed, and a file with a second name keeps its owner:
/// a user who may write to the directory of the logs could have linked a system file there (nginx gives it away).
fn give_log_to(path: &Path, fd: OwnedFd, uid: Uid) -> io::Result<OwnedFd> {
    let file = File::from(fd);
    let found = file.metadata()?;
    let named = path.symlink_metadata()?;
    let same = (found.dev(), found.ino()) == (named.dev(), named.ino());
    if same && found.is_file() && found.nlink() == 1 {
        if found.uid() != uid.as_raw() {
            fchown(&file, Some(uid), None)?;
        }
        if found.mode() & 0o600 != 0o600 {
            file.set_permissions(Permissions::from_mode(found.mode() & 0o7777 | 0o600))?;
        }
    }
    Ok(file.into())
}

/// Creates the directories for temporary files, owned by the worker's user and closed to others, as nginx does; and those
/// for permanent files.
fn make_dirs(
    requirements: &Requirements,
    owner: Option<&WorkerUser>,
    log: &ProcessLog,
) -> Result<(), Reported> {
    let failed =
        |dir: &Path, error| log.failed(Level::Emerg, format_args!("mkdir() \"{}\"", dir.display()), &error);
    for dir in &requirements.dirs.temp {
        make_dir(dir, owner, true).map_err(|error| failed(dir, error))?;
    }
    for dir in &requirements.dirs.state {
        // An existing one may be /tmp, or the directory of the configuration.
        match make_dir(dir, owner, false) {
            // Only what keeps its state there goes without.
            Err(error) if dir.symlink_metadata().is_ok() => {
                log.failed(Level::Crit, format_args!("mkdir() \"{}\"", dir.display()), &error);
            }
            made => made.map_err(|error| failed(dir, error))?,
        }
    }
    // Without another user the worker process makes them itself.
    if owner.is_some() {
        for dir in &requirements.dirs.optional {
            let _ = make_dir(dir, owner, false);
        }
    }
    if let Some(ListenSpec { address: Address::Unix(path), .. }) = &requirements.control
        && let Some(dir) = path.parent()
    {
        // If this fails, bind() reports the missing directory.
        let _ = DirBuilder::new().mode(0o755).create(dir);
    }
    Ok(())
}

/// Creates a directory unless it exists, for the worker's user; `takes_over` gives it an existing one too.
fn make_dir(dir: &Path, owner: Option<&WorkerUser>, takes_over: bool) -> io::Result<()> {
    if let Some(owner) = owner {
        return given_folder::give(dir, owner.uid, takes_over).map(drop);
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => must_be_dir(dir),
        made => made,
    }
}

/// Fails if a path is not a directory, so that no other file is given away by a mistake in a configuration.
pub(crate) fn must_be_dir(path: &Path) -> io::Result<()> {
    match path.metadata()?.is_dir() {
        true => Ok(()),
        false => Err(Errno::EEXIST.into()),
    }
}

/// Longest content of a pid file, in bytes: a number and a line end.
const MAX_PID_FILE: u64 = 32;

/// Writes the number of this process to the pid file.
pub(crate) fn write_pid_file(path: &Path, log: &ProcessLog) -> Result<(), Reported> {
    let written = is_pid_file(path).and_then(|()| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(path)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    });
    written.map_err(|error| log.failed(Level::Emerg, format_args!("open() \"{}\"", path.display()), &error))
}

/// Fails if the path is a file that is no pid file, whose content would be lost (nginx overwrites it), or something that
/// is no file: a link may lead anywhere, and opening a FIFO would block. A device, such as /dev/null, stays possible.
pub(crate) fn is_pid_file(path: &Path) -> io::Result<()> {
    let Ok(found) = path.symlink_metadata() else { return Ok(()) };
    let kind = found.file_type();
    if kind.is_symlink() || kind.is_fifo() || kind.is_socket() {
        return Err(Errno::EEXIST.into());
    }
    let looks_like_one = || {
        let text = std::fs::read(path)?;
        let of_one = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_whitespace();
        Ok::<bool, io::Error>(text.iter().all(of_one))
    };
    match found.is_file() && (found.len() > MAX_PID_FILE || !looks_like_one()?) {
        true => Err(Errno::EEXIST.into()),
        false => Ok(()),
    }
}

/// Removes the pid file, unless it names another process by now.
pub(crate) fn remove_pid_file(path: &Path, log: &ProcessLog) {
    let ours = |text: Vec<u8>| text.trim_ascii() == std::process::id().to_string().as_bytes();
    let removed = match path.symlink_metadata() {
        Ok(found) if !found.is_file() => Ok(()),
        Ok(_) => {
            std::fs::read(path).and_then(|text| if ours(text) { std::fs::remove_file(path) } else { Ok(()) })
        }
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        log.failed(Level::Alert, format_args!("unlink() \"{}\"", path.display()), &error);
    }
}

/// Moves to another pid file after a reload: writes the new one, then removes the old one.
pub(crate) fn move_pid_file(old: &Path, new: &Path, log: &ProcessLog) {
    if old != new && write_pid_file(new, log).is_ok() {
        remove_pid_file(old, log);
    }
}
