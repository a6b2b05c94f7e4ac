//! Listening sockets: opening, keeping over a reload, closing.
//!
//! Owns every socket the program listens on, and the files of unix sockets. Must never accept a connection.

use super::boot::{Address, ListenSpec, SocketAccess};
use super::journal::{Journal, Said, reason};
use super::log::Level;
use super::socket_file::{SocketFile, bind_to};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use nix::unistd::{Gid, Group};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// How often an address that is in use is tried, and how long to wait between (nginx: five times, 500 ms).
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// An address the master listens on.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    pub(super) spec: ListenSpec,
    /// One socket, or one for each thread with `reuseport`. Shared with the configuration that had them before.
    pub(super) sockets: Vec<Arc<OwnedFd>>,
    /// The file of a unix socket, which is removed with it.
    pub(super) file: Option<SocketFile>,
}

impl Listening {
    fn wanted(spec: &ListenSpec, threads: usize) -> usize {
        match spec.reuseport {
            true => threads.max(1),
            false => 1,
        }
    }
}

/// Opens what `specs` ask for; what `before` has open already is taken over.
pub(super) fn open_all(
    specs: &[ListenSpec],
    threads: usize,
    before: &[Listening],
    journal: &Journal,
) -> Result<Vec<Listening>, Said> {
    let mut all: Vec<Listening> =
        specs.iter().map(|spec| take_over(spec, threads, before, journal)).collect();
    for tries_left in (0..TRIES).rev() {
        let mut in_use = false;
        for one in &mut all {
            while one.sockets.len() < Listening::wanted(&one.spec, threads) {
                match open(&one.spec, journal) {
                    Ok((socket, file)) => {
                        one.sockets.push(Arc::new(socket));
                        one.file = file;
                    }
                    Err(Refused::InUse) => {
                        in_use = true;
                        break;
                    }
                    Err(Refused::Said(_)) if one.spec.optional => break,
                    Err(Refused::Said(said)) => {
                        remove_files(&all, before, journal);
                        return Err(said);
                    }
                }
            }
        }
        if !in_use {
            return Ok(give_up_optional(all, journal));
        }
        // nginx waits after the last try too; there is nothing to wait for.
        if tries_left > 0 {
            journal.say(Level::Notice, format_args!("try again to bind() after 500ms"));
            std::thread::sleep(BETWEEN_TRIES);
        }
    }
    let needed = |one: &Listening| one.sockets.is_empty() && !one.spec.optional;
    if !all.iter().any(needed) {
        return Ok(give_up_optional(all, journal));
    }
    journal.say(Level::Emerg, format_args!("still could not bind()"));
    remove_files(&all, before, journal);
    Err(Said)
}

/// Goes on without those that could not be opened and need not be.
fn give_up_optional(mut all: Vec<Listening>, journal: &Journal) -> Vec<Listening> {
    all.retain(|one| {
        if one.sockets.is_empty() {
            say_missing(&one.spec, journal);
        }
        !one.sockets.is_empty()
    });
    all
}

/// Says that the program goes on without a socket.
pub(super) fn say_missing(spec: &ListenSpec, journal: &Journal) {
    let address = &spec.address;
    journal.say(Level::Warn, format_args!("there is no socket for commands at {address}: see \"control\""));
}

/// Tries a TCP address and closes it again, for `-t`. An address in use is no fault: the server itself may hold it.
pub(super) fn try_inet(spec: &ListenSpec, journal: &Journal) -> Result<(), Said> {
    let plain = ListenSpec { reuseport: false, ..spec.clone() };
    match bound(&plain, journal) {
        Ok(_) | Err((_, Errno::EADDRINUSE)) => Ok(()),
        Err((call, error)) => Err(journal.failed(Level::Emerg, describe(call, spec), &error.into())),
    }
}

/// Deletes the files of unix sockets in `all` that `kept` does not have.
pub(super) fn remove_files(all: &[Listening], kept: &[Listening], journal: &Journal) {
    for one in all {
        let remains = kept.iter().any(|other| other.spec.address == one.spec.address);
        if let Some(file) = one.file.as_ref().filter(|_| !remains) {
            remove_file(&one.spec, file, journal);
        }
    }
}

fn remove_file(spec: &ListenSpec, file: &SocketFile, journal: &Journal) {
    match file.remove() {
        Ok(true) => {}
        Ok(false) => {
            let address = &spec.address;
            journal.say(
                Level::Warn,
                format_args!("{address} was replaced by another file, which is left there"),
            );
        }
        Err(error) => {
            journal.failed(Level::Emerg, format_args!("unlink() \"{}\"", file.path().display()), &error);
        }
    }
}

/// The sockets of the same address from before, adjusted to what is asked now.
fn take_over(spec: &ListenSpec, threads: usize, before: &[Listening], journal: &Journal) -> Listening {
    let mut taken = Listening { spec: spec.clone(), sockets: Vec::new(), file: None };
    let Some(old) = before.iter().find(|old| old.spec.address == spec.address) else { return taken };
    taken.sockets = old.sockets.clone();
    taken.file = old.file.clone();
    // A socket that no thread accepts from would swallow its share of the connections.
    taken.sockets.truncate(Listening::wanted(spec, threads));
    for socket in &taken.sockets {
        if spec.reuseport && !old.spec.reuseport {
            // Without this the further sockets of the address could not be bound.
            warn(setsockopt(&**socket, sockopt::ReusePort, &true), "SO_REUSEPORT", spec, journal);
        }
        if spec.backlog != old.spec.backlog
            && let Err(error) = listen(socket, spec)
        {
            let what = format_args!("listen() to {}, backlog {}", spec.address, spec.backlog);
            journal.failed(Level::Alert, what, &error.into());
        }
        if spec.deferred != old.spec.deferred {
            defer(socket, spec, journal);
        }
        configure(socket, spec, journal);
    }
    if spec.access != old.spec.access
        && let Some(file) = &taken.file
        && let Err((what, error)) = open_to(file, spec.access.as_ref())
    {
        journal.failed(Level::Alert, format_args!("{what} {}", spec.address), &error);
    }
    taken
}

/// Why a socket was not opened.
enum Refused {
    /// The address is in use: worth another try.
    InUse,
    /// For good.
    Said(Said),
}

/// One new listening socket, and its file if it has one.
fn open(spec: &ListenSpec, journal: &Journal) -> Result<(OwnedFd, Option<SocketFile>), Refused> {
    let level = if spec.optional { Level::Warn } else { Level::Emerg };
    let (socket, file) = match bound(spec, journal) {
        Ok(made) => made,
        Err((call, error)) => {
            let said = journal.failed(level, describe(call, spec), &error.into());
            return Err(if error == Errno::EADDRINUSE { Refused::InUse } else { Refused::Said(said) });
        }
    };
    if let Some(length) = spec.fastopen {
        let set = set_tcp_option(&socket, libc::TCP_FASTOPEN, length);
        warn(set, "TCP_FASTOPEN", spec, journal);
    }
    if spec.deferred {
        defer(&socket, spec, journal);
    }
    configure(&socket, spec, journal);
    if let Err(error) = listen(&socket, spec) {
        let what = format_args!("listen() to {}, backlog {}", spec.address, spec.backlog);
        let said = journal.failed(Level::Emerg, what, &error.into());
        if let Some(file) = &file {
            remove_file(spec, file, journal);
        }
        return Err(if error == Errno::EADDRINUSE { Refused::InUse } else { Refused::Said(said) });
    }
    Ok((socket, file))
}

/// The system calls on the way to a bound socket, as nginx names them.
#[derive(Clone, Copy)]
enum Call {
    Socket,
    Option(&'static str),
    Bind,
    Rights,
}

fn describe(call: Call, spec: &ListenSpec) -> String {
    match call {
        Call::Socket => format!("socket() {}", spec.address),
        Call::Option(name) => format!("setsockopt({name}) {}", spec.address),
        Call::Bind => format!("bind() to {}", spec.address),
        Call::Rights => format!("giving rights to {}", spec.address),
    }
}

/// A socket bound to the address, not yet listening; and its file if it has one.
fn bound(spec: &ListenSpec, journal: &Journal) -> Result<(OwnedFd, Option<SocketFile>), (Call, Errno)> {
    let family = match &spec.address {
        Address::Inet(address) if address.is_ipv6() => AddressFamily::Inet6,
        Address::Inet(_) => AddressFamily::Inet,
        Address::Unix(_) => AddressFamily::Unix,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None).map_err(|error| (Call::Socket, error))?;
    setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(|error| (Call::Option("SO_REUSEADDR"), error))?;
    if spec.reuseport {
        setsockopt(&fd, sockopt::ReusePort, &true).map_err(|error| (Call::Option("SO_REUSEPORT"), error))?;
    }
    match &spec.address {
        Address::Inet(address) => {
            if address.is_ipv6() {
                warn(setsockopt(&fd, sockopt::Ipv6V6Only, &spec.ipv6only), "IPV6_V6ONLY", spec, journal);
            }
            bind(fd.as_raw_fd(), &SockaddrStorage::from(*address)).map_err(|error| (Call::Bind, error))?;
        }
        Address::Unix(path) => {
            let file = bind_to(&fd, path).map_err(|error| (Call::Bind, error))?;
            // Nobody can connect yet, whatever the rights are: the socket does not listen.
            if let Some(made) = &file
                && let Err((what, error)) = open_to(made, spec.access.as_ref())
            {
                journal.failed(Level::Emerg, format_args!("{what} \"{}\"", path.display()), &error);
                if spec.access.is_some() {
                    remove_file(spec, made, journal);
                    return Err((Call::Rights, Errno::EPERM));
                }
            }
            return Ok((fd, file));
        }
    }
    Ok((fd, None))
}

/// Gives the file of a unix socket its rights; without any said, whoever may reach the folder may connect, as with
/// nginx. Answers the call that failed.
fn open_to(file: &SocketFile, access: Option<&SocketAccess>) -> Result<(), (&'static str, io::Error)> {
    let group = access.map(group).transpose()?.flatten();
    file.open_to(access.map_or(0o666, |access| access.mode), group)
}

/// The group that a socket's file is to belong to, if one is named.
pub(super) fn group(access: &SocketAccess) -> Result<Option<Gid>, (&'static str, io::Error)> {
    let Some(name) = access.group.as_deref() else { return Ok(None) };
    let found = Group::from_name(name).map_err(|error| ("getgrnam() for", error.into()))?;
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("there is no group \"{name}\""));
    found.map(|group| Some(group.gid)).ok_or_else(|| ("getgrnam() for", missing()))
}

/// Settings that may be changed while a socket listens; a refusal is worth a line, not a failed start.
fn configure(socket: &OwnedFd, spec: &ListenSpec, journal: &Journal) {
    if let Some(bytes) = spec.rcvbuf {
        warn(setsockopt(socket, sockopt::RcvBuf, &bytes), "SO_RCVBUF", spec, journal);
    }
    if let Some(bytes) = spec.sndbuf {
        warn(setsockopt(socket, sockopt::SndBuf, &bytes), "SO_SNDBUF", spec, journal);
    }
    let Some(keepalive) = spec.keepalive else { return };
    warn(setsockopt(socket, sockopt::KeepAlive, &keepalive.on), "SO_KEEPALIVE", spec, journal);
    if let Some(seconds) = keepalive.idle_s {
        warn(setsockopt(socket, sockopt::TcpKeepIdle, &seconds), "TCP_KEEPIDLE", spec, journal);
    }
    if let Some(seconds) = keepalive.interval_s {
        warn(setsockopt(socket, sockopt::TcpKeepInterval, &seconds), "TCP_KEEPINTVL", spec, journal);
    }
    if let Some(count) = keepalive.count {
        warn(setsockopt(socket, sockopt::TcpKeepCount, &count), "TCP_KEEPCNT", spec, journal);
    }
}

fn defer(socket: &OwnedFd, spec: &ListenSpec, journal: &Journal) {
    // The value is seconds to wait for data; nginx sets 1.
    let set = set_tcp_option(socket, libc::TCP_DEFER_ACCEPT, i32::from(spec.deferred));
    warn(set, "TCP_DEFER_ACCEPT", spec, journal);
}

fn warn(result: Result<(), Errno>, option: &str, spec: &ListenSpec, journal: &Journal) {
    if let Err(error) = result {
        let reason = reason(&io::Error::from(error));
        journal.say(
            Level::Alert,
            format_args!("setsockopt({option}) {} failed, ignored {reason}", spec.address),
        );
    }
}

/// Starts to listen, or changes the queue's length. nix would refuse a longer queue than the kernel's default limit,
/// which an administrator may have raised.
fn listen(socket: &OwnedFd, spec: &ListenSpec) -> Result<(), Errno> {
    // SAFETY: listen takes two numbers and touches no memory; the descriptor is borrowed for the length of the call.
    #[allow(unsafe_code)]
    let result = unsafe { libc::listen(socket.as_raw_fd(), spec.backlog) };
    Errno::result(result).map(drop)
}

/// Sets a TCP option that nix has no name for.
fn set_tcp_option(socket: &OwnedFd, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let value: *const libc::c_int = &value;
    // SAFETY: the kernel reads `length` bytes from `value`, which points at a c_int that outlives the call; the
    // descriptor is borrowed for as long.
    #[allow(unsafe_code)]
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, value.cast(), length) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{getsockname, getsockopt};
    use std::net::SocketAddr;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn any_port() -> ListenSpec {
        ListenSpec::new(Address::Inet(SocketAddr::from(([127, 0, 0, 1], 0))))
    }

    #[test]
    fn reuseport_opens_a_socket_for_each_thread() {
        // A fixed address is needed to bind it more than once: take a free one.
        let first = open_all(&[any_port()], 1, &[], &Journal::silent()).unwrap();
        let storage: SockaddrStorage = getsockname(first[0].sockets[0].as_raw_fd()).unwrap();
        let port = storage.as_sockaddr_in().unwrap().port();
        drop(first);
        let address = Address::Inet(SocketAddr::from(([127, 0, 0, 1], port)));
        let spec = ListenSpec { reuseport: true, ..ListenSpec::new(address) };
        let all = open_all(std::slice::from_ref(&spec), 3, &[], &Journal::silent()).unwrap();
        assert_eq!(all[0].sockets.len(), 3);
        // Fewer threads: no socket may stay behind without anybody to accept from it.
        let fewer = open_all(&[spec], 2, &all, &Journal::silent()).unwrap();
        assert_eq!(fewer[0].sockets.len(), 2);
        assert!(Arc::ptr_eq(&fewer[0].sockets[0], &all[0].sockets[0]));
    }

    #[test]
    fn a_reload_keeps_the_socket_and_changes_its_settings() {
        let first = open_all(&[any_port()], 1, &[], &Journal::silent()).unwrap();
        let wanted = ListenSpec { backlog: 7, rcvbuf: Some(64 * 1024), ..any_port() };
        let second = open_all(&[wanted], 1, &first, &Journal::silent()).unwrap();
        assert!(Arc::ptr_eq(&second[0].sockets[0], &first[0].sockets[0]));
        // Linux doubles what is asked for.
        assert_eq!(getsockopt(&*second[0].sockets[0], sockopt::RcvBuf).unwrap(), 128 * 1024);
    }

    #[test]
    fn an_ipv6_socket_keeps_to_itself_unless_told_otherwise() {
        let everywhere = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
        if std::net::TcpListener::bind(everywhere).is_err() {
            // A machine without IPv6 has nothing to keep apart.
            return;
        }
        for ipv6only in [true, false] {
            let spec = ListenSpec { ipv6only, ..ListenSpec::new(Address::Inet(everywhere)) };
            let all = open_all(&[spec], 1, &[], &Journal::silent()).unwrap();
            let storage: SockaddrStorage = getsockname(all[0].sockets[0].as_raw_fd()).unwrap();
            let port = storage.as_sockaddr_in6().unwrap().port();
            let reached = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            assert_eq!(reached, !ipv6only);
        }
    }

    #[test]
    fn a_dead_unix_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.sock");
        drop(UnixListener::bind(&path).unwrap());
        let spec = ListenSpec::new(Address::Unix(path.clone()));
        let all = open_all(std::slice::from_ref(&spec), 1, &[], &Journal::silent()).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        // A second server finds it alive.
        assert!(matches!(open(&spec, &Journal::silent()), Err(Refused::InUse)));
        remove_files(&all, &[], &Journal::silent());
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_for_commands_is_its_owners_and_may_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("commands.sock");
        let access = |mode| Some(SocketAccess { mode, group: None });
        let spec = ListenSpec { access: access(0o600), ..ListenSpec::new(Address::Unix(path.clone())) };
        let rights = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let first = open_all(std::slice::from_ref(&spec), 1, &[], &Journal::silent()).unwrap();
        assert_eq!(rights(), 0o600);
        let wider = ListenSpec { access: access(0o660), ..spec.clone() };
        let second = open_all(&[wider], 1, &first, &Journal::silent()).unwrap();
        assert_eq!(rights(), 0o660);
        assert!(Arc::ptr_eq(&first[0].sockets[0], &second[0].sockets[0]));

        let nowhere = Address::Unix(folder.path().join("missing/commands.sock"));
        let optional = ListenSpec { optional: true, ..ListenSpec::new(nowhere.clone()) };
        assert!(open_all(&[optional], 1, &[], &Journal::silent()).unwrap().is_empty());
        assert!(open_all(&[ListenSpec::new(nowhere)], 1, &[], &Journal::silent()).is_err());
        let group = SocketAccess { mode: 0o660, group: Some("no such group".to_owned()) };
        let other = Address::Unix(folder.path().join("other.sock"));
        let spec = ListenSpec { access: Some(group), ..ListenSpec::new(other) };
        assert!(open_all(&[spec], 1, &[], &Journal::silent()).is_err());
        assert!(!folder.path().join("other.sock").exists());
    }
}
