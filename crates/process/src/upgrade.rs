//! Binary upgrade: the sockets that one master hands to the next.
//!
//! Owns how a new program is started beside the running one (USR2), how it gets the listening sockets, and the names of
//! the pid files meanwhile (<https://nginx.org/en/docs/control.html>). Must never decide which of the two masters
//! continues.
//!
//! An environment variable lists the descriptors, as numbers that each end with a semicolon; the kernel knows the address
//! of each. So an older or newer program understands it too.

use crate::log::{Level, reason};
use crate::process_log::ProcessLog;
use crate::requirements::{Address, ListenSpec, SocketAccess};
use crate::signals::SignalsBlocked;
use crate::socket_file::SocketFile;
use crate::sockets::Listening;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockaddrStorage, getsockname, getsockopt, sockopt};
use nix::unistd::{Pid, getppid};
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The environment variable with the descriptors (nginx: `NGINX`).
const SOCKETS: &str = "POINTSMAN_SOCKETS";
/// The environment variable with the files of unix sockets: descriptor, device and inode of each.
const SOCKET_FILES: &str = "POINTSMAN_SOCKET_FILES";
/// Longest path of a chosen program, in bytes.
const MAX_PATH: u64 = 4096;

/// The command that started this process.
#[derive(Clone, Debug)]
pub(crate) struct StartCommand {
    arguments: Vec<OsString>,
}

/// The master that started this process for a binary upgrade.
#[derive(Debug, Default)]
pub(crate) struct Predecessor {
    /// Its listening sockets. Their settings are unknown and must be applied again.
    pub(crate) listening: Vec<Listening>,
    /// Its process number; `None` if this process was not started by a master.
    pub(crate) pid: Option<Pid>,
    /// Errors in the variables, for the log.
    faults: Vec<String>,
}

/// Returns `PIDFILE.oldbin`, the pid file of the older of two masters.
pub(crate) fn old_pid_path(pid_path: &Path) -> PathBuf {
    ending(pid_path, ".oldbin")
}

/// Returns `PIDFILE.newbin`, which may name another program for the next upgrade.
pub(crate) fn choice_path(pid_path: &Path) -> PathBuf {
    ending(pid_path, ".newbin")
}

fn ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl StartCommand {
    /// Returns the running program. Must be called before the title is set, which overwrites the arguments.
    pub(crate) fn running() -> StartCommand {
        StartCommand { arguments: std::env::args_os().collect() }
    }

    /// Returns the same command with another program, if [`choice_path`] names one; that choice is used once. It must belong
    /// to the user of this process, since the program runs with the master's privileges.
    pub(crate) fn chosen(&self, pid_path: &Path, log: &ProcessLog) -> StartCommand {
        let path = choice_path(pid_path);
        let Ok(found) = std::fs::symlink_metadata(&path) else { return self.clone() };
        let ours = found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o022 == 0;
        let text = match ours && found.is_file() && found.len() <= MAX_PATH {
            true => std::fs::read(&path),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        };
        let _ = std::fs::remove_file(&path);
        let mut program = self.clone();
        match text {
            Ok(text) => {
                let name = std::os::unix::ffi::OsStringExt::from_vec(text.trim_ascii().to_vec());
                program.arguments.splice(..program.arguments.len().min(1), [name]);
            }
            Err(error) => {
                log.failed(Level::Alert, format_args!("read() \"{}\"", path.display()), &error);
            }
        }
        program
    }

    /// Returns how it was called: a path, or a name that is looked up in `PATH`.
    pub(crate) fn name(&self) -> &Path {
        self.arguments.first().map_or(Path::new(""), Path::new)
    }

    /// Starts it with these listening sockets, and returns its process number.
    ///
    /// # Errors
    /// Fails if the program cannot be executed.
    pub(crate) fn start(&self, listening: &[&Listening]) -> io::Result<Pid> {
        let sockets = listening.iter().flat_map(|one| &one.sockets);
        let mut sockets: Vec<Arc<OwnedFd>> = sockets.map(Arc::clone).collect();
        sockets.sort_unstable_by_key(|socket| socket.as_raw_fd());
        sockets.dedup_by_key(|socket| socket.as_raw_fd());
        let text: String = sockets.iter().map(|socket| format!("{};", socket.as_raw_fd())).collect();
        let number = |one: &Listening| one.sockets.first().map(|socket| socket.as_raw_fd() as u64);
        let files: String =
            listening.iter().filter_map(|one| Some(format_file(one.file.as_ref()?, number(one)?))).collect();
        let mut command = Command::new(self.name());
        command.arg0(self.name()).args(self.arguments.iter().skip(1));
        command.env(SOCKETS, text).env(SOCKET_FILES, files);
        let keep_open = move || {
            for socket in &sockets {
                fcntl(&**socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls alone; it neither allocates nor locks.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(keep_open);
        }
        // A signal to the child must not be written to this process's pipe. Command starts the child with an empty mask.
        let _blocked = SignalsBlocked::new()?;
        let child = command.spawn()?;
        Ok(Pid::from_raw(child.id().cast_signed()))
    }
}

/// Formats the file of a unix socket for the next master, which gets the socket with this number.
fn format_file(file: &SocketFile, number: u64) -> String {
    let (device, inode) = file.numbers();
    format!("{number}:{device}:{inode};")
}

/// Formats the files of all unix sockets, which are numbered from 0.
pub(crate) fn format_files(listening: &[Listening]) -> String {
    let mut files = String::new();
    let mut number = 0;
    for one in listening {
        files.extend(one.file.as_ref().map(|file| format_file(file, number)));
        number += one.sockets.len() as u64;
    }
    files
}

/// Parses device and inode of the file of a socket with this number.
fn parse_file(files: &str, number: u64) -> Option<(u64, u64)> {
    files.split_terminator(';').find_map(|word| {
        let mut parts = word.split(':').map(|part| part.parse::<u64>().ok());
        let same = parts.next()?? == number;
        let (device, inode) = (parts.next()??, parts.next()??);
        same.then_some((device, inode))
    })
}

impl Predecessor {
    /// Takes ownership of the descriptors that the variable names, and removes it from the environment. Must be called
    /// before this process has opened anything, and before it has a second thread.
    pub(crate) fn inherit() -> Predecessor {
        let Some(text) = std::env::var_os(SOCKETS) else { return Predecessor::default() };
        let files = std::env::var(SOCKET_FILES).unwrap_or_default();
        // SAFETY: this process has a single thread (the function's rule), so that nothing reads the environment meanwhile.
        #[allow(unsafe_code)]
        unsafe {
            std::env::remove_var(SOCKETS);
            std::env::remove_var(SOCKET_FILES);
        }
        let mut predecessor = Predecessor { pid: Some(getppid()), ..Predecessor::default() };
        predecessor.read(&text.to_string_lossy(), &files);
        predecessor
    }

    fn read(&mut self, text: &str, files: &str) {
        let mut taken: Vec<RawFd> = Vec::new();
        for word in text.split_terminator(';') {
            let number = word.parse::<RawFd>().ok();
            // Standard streams are not inherited; a repeated number has one owner.
            let Some(number) = number.filter(|number| *number > 2 && !taken.contains(number)) else {
                self.faults.push(format!("invalid socket number \"{word}\" in {SOCKETS}, ignored"));
                continue;
            };
            taken.push(number);
            if let Err(error) = inherited(number).and_then(|socket| self.adopt(socket, number as u64, files))
            {
                let why = reason(&error);
                self.faults.push(format!("socket {number} in {SOCKETS} cannot be used, ignored {why}"));
            }
        }
    }

    /// Takes a socket over if it listens. Its number is the one that the files have.
    pub(crate) fn adopt(&mut self, socket: OwnedFd, number: u64, files: &str) -> io::Result<()> {
        if !getsockopt(&socket, sockopt::AcceptConn)? {
            return Err(Errno::EINVAL.into());
        }
        let address = address(&socket)?;
        let shares = getsockopt(&socket, sockopt::ReusePort).unwrap_or(false);
        let socket = Arc::new(socket);
        match self.listening.iter_mut().find(|known| known.spec.address == address) {
            Some(known) => known.sockets.push(socket),
            None => {
                let file = match &address {
                    Address::Inet(_) => None,
                    // A program older than 0.1.1 does not hand it over.
                    Address::Unix(path) => match parse_file(files, number) {
                        Some((device, inode)) => Some(SocketFile::known(path, device, inode)),
                        None => SocketFile::at(path),
                    },
                };
                let spec = ListenSpec { reuseport: shares, ..unknown(address) };
                self.listening.push(Listening { spec, sockets: vec![socket], file });
            }
        }
        Ok(())
    }

    /// Logs the inherited sockets.
    pub(crate) fn log(&self, log: &ProcessLog) {
        for fault in &self.faults {
            log.write(Level::Emerg, format_args!("{fault}"));
        }
        if let Some(from) = self.pid {
            let count: usize = self.listening.iter().map(|one| one.sockets.len()).sum();
            log.write(Level::Notice, format_args!("using {count} inherited sockets of process {from}"));
        }
    }
}

/// Takes ownership of an inherited descriptor, which programs that are started later must not inherit.
fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_SETFD takes numbers and touches no memory; it fails where nothing is open.
    #[allow(unsafe_code)]
    let marked = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    Errno::result(marked)?;
    // SAFETY: it is open, as the call above has shown. It was handed to this process under this number, which has
    // opened nothing itself yet (the rule of Predecessor::inherit), and each number is taken once: nothing else owns it.
    #[allow(unsafe_code)]
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    Ok(socket)
}

/// Returns settings that differ from every possible spec, so that each is applied.
fn unknown(address: Address) -> ListenSpec {
    ListenSpec {
        backlog: -1,
        deferred: matches!(address, Address::Inet(_)),
        access: Some(SocketAccess { mode: u32::MAX, group: None }),
        ..ListenSpec::new(address)
    }
}

/// Returns the address of a listening socket.
fn address(socket: &OwnedFd) -> io::Result<Address> {
    let storage: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    if let Some(v4) = storage.as_sockaddr_in() {
        return Ok(Address::Inet(SocketAddr::V4((*v4).into())));
    }
    if let Some(v6) = storage.as_sockaddr_in6() {
        return Ok(Address::Inet(SocketAddr::V6((*v6).into())));
    }
    let path = storage.as_unix_addr().and_then(|unix| unix.path());
    path.map(|path| Address::Unix(path.to_owned())).ok_or_else(|| Errno::EAFNOSUPPORT.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixListener;

    #[test]
    fn inherited_sockets_are_identified_by_their_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = tcp.local_addr().unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let (one, other) = (tcp.into_raw_fd(), unix.into_raw_fd());
        let mut predecessor = Predecessor::default();
        predecessor.read(&format!("{one};{other};"), &format!("{one}:x;{other}:7:8;"));
        assert!(predecessor.faults.is_empty(), "{:?}", predecessor.faults);
        let addresses: Vec<&Address> = predecessor.listening.iter().map(|one| &one.spec.address).collect();
        assert_eq!(addresses, [&Address::Inet(at), &Address::Unix(path)]);
        let files: Vec<_> =
            predecessor.listening.iter().map(|one| Some(one.file.as_ref()?.numbers())).collect();
        assert_eq!(files, [None, Some((7, 8))]);
        for one in &predecessor.listening {
            let flags = fcntl(&*one.sockets[0], FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags, libc::FD_CLOEXEC, "programs that are started later must not inherit it");
        }
    }

    #[test]
    fn numbers_that_are_no_listening_sockets_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("x")).unwrap().into_raw_fd();
        let mut predecessor = Predecessor::default();
        predecessor.read(&format!("1;x;-4;{file};{file};1000000;"), "");
        assert!(predecessor.listening.is_empty());
        assert_eq!(predecessor.faults.len(), 6, "{:?}", predecessor.faults);
    }

    #[test]
    fn a_program_is_chosen_once_and_by_the_same_user() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let running = StartCommand { arguments: vec!["old".into(), "-p".into(), "/x".into()] };
        let log = ProcessLog::silent();
        assert_eq!(running.chosen(&pid, &log).arguments, running.arguments);
        std::fs::write(choice_path(&pid), "/new/pointsman\n").unwrap();
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(choice_path(&pid), mode(0o644)).unwrap();
        assert_eq!(running.chosen(&pid, &log).arguments, ["/new/pointsman", "-p", "/x"]);
        assert_eq!(running.chosen(&pid, &log).arguments, running.arguments);
        std::fs::write(choice_path(&pid), "/evil").unwrap();
        std::fs::set_permissions(choice_path(&pid), mode(0o666)).unwrap();
        assert_eq!(running.chosen(&pid, &log).arguments, running.arguments);
        assert!(!choice_path(&pid).exists());
    }
}
