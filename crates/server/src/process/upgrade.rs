//! Binary upgrade: what one master hands to the next one.
//!
//! Owns how a new program is started beside the running one (USR2), how its listening sockets get there, and what the
//! pid file is called meanwhile (<https://nginx.org/en/docs/control.html>). Must never decide which of the two masters
//! goes on.
//!
//! The descriptors stand in an environment variable, as numbers that each end with a semicolon; which address one
//! belongs to, the kernel knows. So an older or newer program understands it too.

use super::boot::{Address, ListenSpec, SocketAccess};
use super::journal::{Journal, reason};
use super::log::Level;
use super::signals::Blocked;
use super::socket_file::SocketFile;
use super::sockets::Listening;
use nix::errno::Errno;
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

/// The environment variable with the descriptors (nginx calls its own `NGINX`).
const SOCKETS: &str = "POINTSMAN_SOCKETS";
/// The environment variable with the files of those that are unix sockets: descriptor, device and inode of each.
const SOCKET_FILES: &str = "POINTSMAN_SOCKET_FILES";
/// Longest path of a program that the file beside the pid file may name, in bytes.
const MAX_PATH: u64 = 4096;

/// The command that started this process.
#[derive(Clone, Debug)]
pub(super) struct Program {
    arguments: Vec<OsString>,
}

/// What the master before this one has left.
#[derive(Debug, Default)]
pub(super) struct Heritage {
    /// Its listening sockets. Their settings are not known: whoever takes one over sets them anew.
    pub(super) listening: Vec<Listening>,
    /// Its process number.
    pub(super) from: Option<Pid>,
    /// What was wrong with the variable, for the log.
    faults: Vec<String>,
}

/// `PIDFILE.oldbin`: the pid file of the older of two masters.
pub(super) fn old_pid_path(pid_path: &Path) -> PathBuf {
    ending(pid_path, ".oldbin")
}

/// `PIDFILE.newbin`: may name another program for the next upgrade than the one that runs.
pub(super) fn choice_path(pid_path: &Path) -> PathBuf {
    ending(pid_path, ".newbin")
}

fn ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Program {
    /// The one that runs. Must be called before the title is set, which is written over the arguments.
    pub(super) fn running() -> Program {
        Program { arguments: std::env::args_os().collect() }
    }

    /// The same command with another program, if one was chosen by [`choice_path`]. The choice holds once. Only the
    /// user of this process can make one: whoever could, would run programs with the master's rights.
    pub(super) fn chosen(&self, pid_path: &Path, journal: &Journal) -> Program {
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
                journal.failed(Level::Alert, format_args!("read() \"{}\"", path.display()), &error);
            }
        }
        program
    }

    /// How it was called: a path, or a name that is looked for in `PATH`.
    pub(super) fn name(&self) -> &Path {
        self.arguments.first().map_or(Path::new(""), Path::new)
    }

    /// Starts it with these listening sockets, and answers its process number.
    ///
    /// # Errors
    /// The program cannot be executed; nothing was started.
    pub(super) fn start(&self, listening: &[&Listening]) -> io::Result<Pid> {
        let sockets = listening.iter().flat_map(|one| &one.sockets);
        let mut numbers: Vec<RawFd> = sockets.map(AsRawFd::as_raw_fd).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let text: String = numbers.iter().map(|number| format!("{number};")).collect();
        let files: String = listening.iter().filter_map(|one| described(one)).collect();
        let mut command = Command::new(self.name());
        command.arg0(self.name()).args(self.arguments.iter().skip(1));
        command.env(SOCKETS, text).env(SOCKET_FILES, files);
        let keep_open = move || {
            for number in &numbers {
                // SAFETY: fcntl with F_SETFD takes numbers and touches no memory.
                #[allow(unsafe_code)]
                let result = unsafe { libc::fcntl(*number, libc::F_SETFD, 0) };
                Errno::result(result)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls alone; it neither allocates nor locks.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(keep_open);
        }
        // A signal for the child must not end up in this process's pipe. The child itself begins with none blocked.
        let _blocked = Blocked::new()?;
        let child = command.spawn()?;
        Ok(Pid::from_raw(child.id().cast_signed()))
    }
}

/// The file of a unix socket, in the form of the variable.
fn described(one: &Listening) -> Option<String> {
    let (device, inode) = one.file.as_ref()?.numbers();
    Some(format!("{}:{device}:{inode};", one.sockets.first()?.as_raw_fd()))
}

/// Device and inode of the file of this descriptor's socket, out of the variable.
fn numbers(files: &str, number: RawFd) -> Option<(u64, u64)> {
    files.split_terminator(';').find_map(|word| {
        let mut parts = word.split(':').map(|part| part.parse::<u64>().ok());
        let same = parts.next()?? == u64::try_from(number).ok()?;
        let (device, inode) = (parts.next()??, parts.next()??);
        same.then_some((device, inode))
    })
}

impl Heritage {
    /// Takes the descriptors that the variable names, and the variable out of the environment. Must be called before
    /// this process has opened anything, and before it has a second thread.
    pub(super) fn take() -> Heritage {
        let Some(text) = std::env::var_os(SOCKETS) else { return Heritage::default() };
        let files = std::env::var(SOCKET_FILES).unwrap_or_default();
        // SAFETY: this process has a single thread (the function's rule), so nobody reads the environment meanwhile.
        #[allow(unsafe_code)]
        unsafe {
            std::env::remove_var(SOCKETS);
            std::env::remove_var(SOCKET_FILES);
        }
        let mut heritage = Heritage { from: Some(getppid()), ..Heritage::default() };
        heritage.read(&text.to_string_lossy(), &files);
        heritage
    }

    fn read(&mut self, text: &str, files: &str) {
        let mut taken: Vec<RawFd> = Vec::new();
        for word in text.split_terminator(';') {
            let number = word.parse::<RawFd>().ok();
            // Standard input and output are nobody's to inherit; a number that stands twice has one owner.
            let Some(number) = number.filter(|number| *number > 2 && !taken.contains(number)) else {
                self.faults.push(format!("invalid socket number \"{word}\" in {SOCKETS}, ignored"));
                continue;
            };
            taken.push(number);
            if let Err(error) = self.adopt(number, files) {
                let why = reason(&error);
                self.faults.push(format!("socket {number} in {SOCKETS} cannot be used, ignored {why}"));
            }
        }
    }

    fn adopt(&mut self, number: RawFd, files: &str) -> io::Result<()> {
        // SAFETY: fcntl with F_SETFD takes numbers and touches no memory; it fails where nothing is open.
        #[allow(unsafe_code)]
        let marked = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        Errno::result(marked)?;
        // SAFETY: it is open, as the call above has shown. It was handed to this process under this number, which has
        // opened nothing itself yet (the caller's rule), and each number is taken once: nobody else owns it.
        #[allow(unsafe_code)]
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
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
                    // A program of before 0.1.1 does not say which file it made.
                    Address::Unix(path) => match numbers(files, number) {
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

    /// Says what was inherited.
    pub(super) fn tell(&self, journal: &Journal) {
        for fault in &self.faults {
            journal.say(Level::Emerg, format_args!("{fault}"));
        }
        if let Some(from) = self.from {
            let count: usize = self.listening.iter().map(|one| one.sockets.len()).sum();
            journal.say(Level::Notice, format_args!("using {count} inherited sockets of process {from}"));
        }
    }
}

/// Settings that differ from all that can be asked for, so that each is set.
fn unknown(address: Address) -> ListenSpec {
    ListenSpec {
        backlog: -1,
        deferred: matches!(address, Address::Inet(_)),
        access: Some(SocketAccess { mode: u32::MAX, group: None }),
        ..ListenSpec::new(address)
    }
}

/// Where a socket listens.
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
    use nix::fcntl::{FcntlArg, fcntl};
    use std::net::TcpListener;
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixListener;

    #[test]
    fn sockets_are_known_by_their_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = tcp.local_addr().unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let (one, other) = (tcp.into_raw_fd(), unix.into_raw_fd());
        let mut heritage = Heritage::default();
        heritage.read(&format!("{one};{other};"), &format!("{one}:x;{other}:7:8;"));
        assert!(heritage.faults.is_empty(), "{:?}", heritage.faults);
        let addresses: Vec<&Address> = heritage.listening.iter().map(|one| &one.spec.address).collect();
        assert_eq!(addresses, [&Address::Inet(at), &Address::Unix(path)]);
        let files: Vec<_> = heritage.listening.iter().map(|one| Some(one.file.as_ref()?.numbers())).collect();
        assert_eq!(files, [None, Some((7, 8))]);
        for one in &heritage.listening {
            let flags = fcntl(&*one.sockets[0], FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags, libc::FD_CLOEXEC, "what is started later must not inherit it by chance");
        }
    }

    #[test]
    fn what_is_no_listening_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("x")).unwrap().into_raw_fd();
        let mut heritage = Heritage::default();
        heritage.read(&format!("1;x;-4;{file};{file};1000000;"), "");
        assert!(heritage.listening.is_empty());
        assert_eq!(heritage.faults.len(), 6, "{:?}", heritage.faults);
    }

    #[test]
    fn another_program_is_chosen_once_and_by_the_right_one() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let running = Program { arguments: vec!["old".into(), "-p".into(), "/x".into()] };
        let journal = Journal::silent();
        assert_eq!(running.chosen(&pid, &journal).arguments, running.arguments);
        std::fs::write(choice_path(&pid), "/new/pointsman\n").unwrap();
        let rights = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(choice_path(&pid), rights(0o644)).unwrap();
        assert_eq!(running.chosen(&pid, &journal).arguments, ["/new/pointsman", "-p", "/x"]);
        assert_eq!(running.chosen(&pid, &journal).arguments, running.arguments);
        std::fs::write(choice_path(&pid), "/evil").unwrap();
        std::fs::set_permissions(choice_path(&pid), rights(0o666)).unwrap();
        assert_eq!(running.chosen(&pid, &journal).arguments, running.arguments);
        assert!(!choice_path(&pid).exists());
    }
}
