//! What one configuration holds of the operating system: sockets, log files, folders, the pid file.
//!
//! Owns the steps that make a loaded configuration real, in nginx's order, so that a reload can be prepared beside
//! the running one and dropped without a trace if any step fails. Must never fork or signal.

use super::boot::{Address, Boot, ListenSpec, Source};
use super::journal::{Journal, Said};
use super::log::{Level, LogFiles, NewLogs, open_append};
use super::privileges::{self, Owner};
use super::sockets::{self, Listening};
use nix::errno::Errno;
use nix::unistd::{Uid, chown, fchown};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What a configuration holds.
#[derive(Clone, Debug)]
pub(super) struct Estate {
    pub(super) boot: Boot,
    /// Who the worker process becomes; `None` when it stays who the master is.
    pub(super) owner: Option<Owner>,
    pub(super) listening: Vec<Listening>,
}

/// An estate that is not in use yet.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) estate: Estate,
    /// All log files, freshly opened.
    pub(super) logs: Vec<(PathBuf, OwnedFd)>,
}

impl Prepared {
    /// Makes everything ready; of the sockets that are open already, those of the same addresses are kept.
    pub(super) fn new(
        boot: Boot,
        source: &Source,
        open_before: &[Listening],
        journal: &Journal,
    ) -> Result<Prepared, Said> {
        let owner = privileges::owner(boot.user.as_ref(), journal)?;
        make_folders(&boot, owner.as_ref(), journal)?;
        let logs = open_logs(&boot, source, journal)?;
        let listening = sockets::open_all(&boot.sockets(), boot.threads, open_before, journal)?;
        Ok(Prepared { estate: Estate { boot, owner, listening }, logs })
    }

    /// Drops what was made ready. `kept` goes on.
    pub(super) fn abandon(self, kept: Option<&Estate>, journal: &Journal) {
        let kept = kept.map_or(&[] as &[Listening], |estate| &estate.listening);
        sockets::remove_files(&self.estate.listening, kept, journal);
    }

    /// Puts it in the place of `before`, whose superfluous sockets close.
    pub(super) fn commit(
        self,
        before: Option<Estate>,
        source: &Source,
        logs: &LogFiles,
        journal: &mut Journal,
    ) -> Estate {
        let wanted = self.estate.boot.all_log_files(source);
        if let Err(error) = logs.adopt(NewLogs { files: self.logs }) {
            journal.failed(Level::Alert, "dup3() of a log file", &error);
        }
        journal.move_to(logs, &self.estate.boot.main_error_logs(source));
        logs.keep_only(&wanted);
        if let Some(before) = before {
            sockets::remove_files(&before.listening, &self.estate.listening, journal);
        }
        self.estate
    }
}

impl Estate {
    /// Closes the listening sockets and deletes the files of the unix ones.
    pub(super) fn close_sockets(&mut self, journal: &Journal) {
        sockets::remove_files(&self.listening, &[], journal);
        self.leave_sockets();
    }

    /// Closes the listening sockets; another process goes on with them, and with the files of the unix ones.
    pub(super) fn leave_sockets(&mut self) {
        self.listening.clear();
    }
}

/// Opens every log file of a configuration.
pub(super) fn open_logs(
    boot: &Boot,
    source: &Source,
    journal: &Journal,
) -> Result<Vec<(PathBuf, OwnedFd)>, Said> {
    boot.all_log_files(source)
        .into_iter()
        .map(|path| match open_append(&path) {
            Ok(fd) => Ok((path, fd)),
            Err(error) => {
                Err(journal.failed(Level::Emerg, format_args!("open() \"{}\"", path.display()), &error))
            }
        })
        .collect()
}

/// Opens the log files anew for USR1. One that cannot be opened goes on as it is. The files are given to the worker's
/// user, which may have to open them itself one day (as nginx does).
pub(super) fn reopen_logs(estate: &Estate, source: &Source, journal: &Journal) -> Vec<(PathBuf, OwnedFd)> {
    let mut opened = Vec::new();
    for path in estate.boot.all_log_files(source) {
        let made_ours = |fd: OwnedFd| match &estate.owner {
            Some(owner) => give_log_to(&path, fd, owner.uid),
            None => Ok(fd),
        };
        match open_append(&path).and_then(made_ours) {
            Ok(fd) => opened.push((path, fd)),
            Err(error) => {
                journal.failed(Level::Emerg, format_args!("open() \"{}\"", path.display()), &error);
            }
        }
    }
    opened
}

/// Makes `uid` the owner of an open log file. A link is not followed, and a file with a second name is not given away:
/// whoever may write to the folder of the logs could have put a file of the system's there (nginx gives it away).
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

/// Makes the folders for temporary files, the worker's own and closed to others, as nginx does; and those that files
/// are kept in for good.
fn make_folders(boot: &Boot, owner: Option<&Owner>, journal: &Journal) -> Result<(), Said> {
    for folder in &boot.temp_dirs {
        make_folder(folder, 0o700, journal)?;
        give_folder(folder, owner, journal)?;
    }
    for folder in &boot.state_dirs {
        // Never one that was there: it may be /tmp, or the folder of the configuration.
        if make_folder(folder, 0o700, journal)? {
            give_folder(folder, owner, journal)?;
        }
    }
    if let Some(ListenSpec { address: Address::Unix(path), .. }) = &boot.control
        && let Some(folder) = path.parent()
    {
        // If it cannot be made, what comes next says so: bind() finds no folder.
        let _ = DirBuilder::new().mode(0o755).create(folder);
    }
    Ok(())
}

/// Makes a folder unless it is there. Answers whether it is new.
fn make_folder(folder: &Path, mode: u32, journal: &Journal) -> Result<bool, Said> {
    let failed = |error: &io::Error| {
        journal.failed(Level::Emerg, format_args!("mkdir() \"{}\"", folder.display()), error)
    };
    match DirBuilder::new().mode(mode).create(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            must_be_folder(folder).map(|()| false).map_err(|error| failed(&error))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// Fails if something else than a folder has the name: nothing that a configuration names by mistake is given away.
pub(super) fn must_be_folder(path: &Path) -> io::Result<()> {
    match path.metadata()?.is_dir() {
        true => Ok(()),
        false => Err(Errno::EEXIST.into()),
    }
}

fn give_folder(folder: &Path, owner: Option<&Owner>, journal: &Journal) -> Result<(), Said> {
    let Some(owner) = owner else { return Ok(()) };
    give_to(folder, owner.uid, 0o700).map_err(|error| {
        let what = format_args!("chown(\"{}\", {})", folder.display(), owner.uid);
        journal.failed(Level::Emerg, what, &error)
    })
}

/// Makes `uid` the owner of a path and gives the owner at least these rights.
fn give_to(path: &Path, uid: Uid, rights: u32) -> io::Result<()> {
    let found = std::fs::metadata(path)?;
    if found.uid() != uid.as_raw() {
        chown(path, Some(uid), None)?;
    }
    if found.mode() & rights != rights {
        std::fs::set_permissions(path, Permissions::from_mode(found.mode() & 0o7777 | rights))?;
    }
    Ok(())
}

/// Longest content of a pid file, in bytes: a number and the ends of a line.
const MAX_PID_FILE: u64 = 32;

/// Writes this process's number into the pid file.
pub(super) fn write_pid_file(path: &Path, journal: &Journal) -> Result<(), Said> {
    let written = is_pid_file(path).and_then(|()| {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(path)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    });
    written
        .map_err(|error| journal.failed(Level::Emerg, format_args!("open() \"{}\"", path.display()), &error))
}

/// Fails if there is a file at the path that is no pid file: what it holds would be lost (nginx overwrites it).
pub(super) fn is_pid_file(path: &Path) -> io::Result<()> {
    let Ok(found) = path.metadata() else { return Ok(()) };
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

/// Deletes the pid file, unless it names another process by now.
pub(super) fn remove_pid_file(path: &Path, journal: &Journal) {
    let ours = |text: Vec<u8>| text.trim_ascii() == std::process::id().to_string().as_bytes();
    let removed = match path.metadata() {
        Ok(found) if !found.is_file() => Ok(()),
        Ok(_) => {
            std::fs::read(path).and_then(|text| if ours(text) { std::fs::remove_file(path) } else { Ok(()) })
        }
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        journal.failed(Level::Alert, format_args!("unlink() \"{}\"", path.display()), &error);
    }
}

/// After a reload that names another pid file: writes the new one, then deletes the old.
pub(super) fn move_pid_file(old: &Path, new: &Path, journal: &Journal) {
    if old != new && write_pid_file(new, journal).is_ok() {
        remove_pid_file(old, journal);
    }
}
