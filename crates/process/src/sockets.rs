//! Listening sockets: opening, keeping over a reload, closing.
//!
//! Owns every socket that the program listens on. Must never accept a connection.

use crate::log::{Level, reason};
use crate::process_log::{ProcessLog, Reported};
use crate::requirements::{Address, ListenSpec, SocketAccess};
use crate::socket_file::{SocketFile, bind_to};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use nix::unistd::{Gid, Group};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Attempts to bind an address that is in use, and the pause between two (nginx: five, 500 ms).
const TRIES: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// An address that the master listens on.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    pub(crate) spec: ListenSpec,
    /// One socket, or one for each thread with `reuseport`. Shared with the configuration that had them before.
    pub(crate) sockets: Vec<Arc<OwnedFd>>,
    /// The file of a unix socket, which is removed with it.
    pub(crate) file: Option<SocketFile>,
}

impl Listening {
    fn wanted(spec: &ListenSpec, threads: usize) -> usize {
        match spec.reuseport {
            true => threads.max(1),
            false => 1,
        }
    }
}

/// Opens a socket for each spec; those that `before` has open already are kept.
pub(crate) fn open_all(
    specs: &[ListenSpec],
    threads: usize,
    before: &[Listening],
    log: &ProcessLog,
) -> Result<Vec<Listening>, Reported> {
    let mut all: Vec<Listening> = specs.iter().map(|spec| take_over(spec, threads, before, log)).collect();
    for tries_left in (0..TRIES).rev() {
        let mut in_use = false;
        for one in &mut all {
            while one.sockets.len() < Listening::wanted(&one.spec, threads) {
                match open(&one.spec, log) {
                    Ok((socket, file)) => {
                        one.sockets.push(Arc::new(socket));
                        one.file = file;
                    }
                    Err(OpenError::InUse) => {
                        in_use = true;
                        break;
                    }
                    Err(OpenError::Other(_)) if one.spec.optional.is_some() => break,
                    Err(OpenError::Other(reported)) => {
                        remove_files(&all, before, log);
                        return Err(reported);
                    }
                }
            }
        }
        if !in_use {
            return Ok(drop_optional(all, log));
        }
        // nginx pauses after the last attempt too, which is of no use.
        if tries_left > 0 {
            log.write(Level::Notice, format_args!("try again to bind() after 500ms"));
            std::thread::sleep(RETRY_PAUSE);
        }
    }
    let needed = |one: &Listening| one.sockets.is_empty() && one.spec.optional.is_none();
    if !all.iter().any(needed) {
        return Ok(drop_optional(all, log));
    }
    log.write(Level::Emerg, format_args!("still could not bind()"));
    remove_files(&all, before, log);
    Err(Reported)
}

/// Drops optional addresses that could not be opened.
fn drop_optional(mut all: Vec<Listening>, log: &ProcessLog) -> Vec<Listening> {
    all.retain(|one| {
        if one.sockets.is_empty() {
            log_missing(&one.spec, log);
        }
        !one.sockets.is_empty()
    });
    all
}

/// Logs that the program runs without an optional socket.
pub(crate) fn log_missing(spec: &ListenSpec, log: &ProcessLog) {
    let address = &spec.address;
    let directive = spec.optional.unwrap_or_default();
    log.write(
        Level::Warn,
        format_args!("the {directive} socket {address} is not available: see the directive \"{directive}\""),
    );
}

/// Binds a TCP address and closes it again, for `-t`. An address in use is no error: the running server may hold it.
pub(crate) fn try_inet(spec: &ListenSpec, log: &ProcessLog) -> Result<(), Reported> {
    let plain = ListenSpec { reuseport: false, ..spec.clone() };
    match bound(&plain, log) {
        Ok(_) | Err((_, Errno::EADDRINUSE)) => Ok(()),
        Err((call, error)) => Err(log.failed(Level::Emerg, describe(call, spec), &error.into())),
    }
}

/// Removes the files of unix sockets in `all` whose addresses `kept` does not have.
pub(crate) fn remove_files(all: &[Listening], kept: &[Listening], log: &ProcessLog) {
    for one in all {
        let remains = kept.iter().any(|other| other.spec.address == one.spec.address);
        if let Some(file) = one.file.as_ref().filter(|_| !remains) {
            remove_file(&one.spec, file, log);
        }
    }
}

fn remove_file(spec: &ListenSpec, file: &SocketFile, log: &ProcessLog) {
    match file.remove() {
        Ok(true) => {}
        Ok(false) => {
            let address = &spec.address;
            log.write(
                Level::Warn,
                format_args!("{address} was replaced by another file, which is not removed"),
            );
        }
        Err(error) => {
            log.failed(Level::Emerg, format_args!("unlink() \"{}\"", file.path().display()), &error);
        }
    }
}

/// Returns the open sockets of the same address, adjusted to a new spec.
fn take_over(spec: &ListenSpec, threads: usize, before: &[Listening], log: &ProcessLog) -> Listening {
    let mut taken = Listening { spec: spec.clone(), sockets: Vec::new(), file: None };
    let Some(old) = before.iter().find(|old| old.spec.address == spec.address) else { return taken };
    taken.sockets = old.sockets.clone();
    taken.file = old.file.clone();
    // A socket that no thread accepts from would swallow its share of the connections.
    taken.sockets.truncate(Listening::wanted(spec, threads));
    for socket in &taken.sockets {
        if spec.reuseport && !old.spec.reuseport {
            // Without this further sockets of the address could not be bound.
            log_option(setsockopt(&**socket, sockopt::ReusePort, &true), "SO_REUSEPORT", spec, log);
        }
        if spec.backlog != old.spec.backlog
            && let Err(error) = listen(socket, spec)
        {
            let what = format_args!("listen() to {}, backlog {}", spec.address, spec.backlog);
            log.failed(Level::Alert, what, &error.into());
        }
        if spec.deferred != old.spec.deferred {
            defer(socket, spec, log);
        }
        configure(socket, spec, log);
    }
    if spec.access != old.spec.access
        && let Some(file) = &taken.file
        && let Err((what, error)) = grant(file, spec.access.as_ref())
    {
        log.failed(Level::Alert, format_args!("{what} {}", spec.address), &error);
    }
    taken
}

/// The error of opening a socket.
enum OpenError {
    /// The address is in use: another attempt may succeed.
    InUse,
    /// Any other error.
    Other(Reported),
}

/// Opens a listening socket. Returns it with its file if it is a unix socket.
fn open(spec: &ListenSpec, log: &ProcessLog) -> Result<(OwnedFd, Option<SocketFile>), OpenError> {
    let level = if spec.optional.is_some() { Level::Warn } else { Level::Emerg };
    let (socket, file) = match bound(spec, log) {
        Ok(made) => made,
        Err((call, error)) => {
            let reported = log.failed(level, describe(call, spec), &error.into());
            return Err(if error == Errno::EADDRINUSE {
                OpenError::InUse
            } else {
                OpenError::Other(reported)
            });
        }
    };
    if let Some(length) = spec.fastopen {
        let set = set_tcp_option(&socket, libc::TCP_FASTOPEN, length);
        log_option(set, "TCP_FASTOPEN", spec, log);
    }
    if spec.deferred {
        defer(&socket, spec, log);
    }
    configure(&socket, spec, log);
    if let Err(error) = listen(&socket, spec) {
        let what = format_args!("listen() to {}, backlog {}", spec.address, spec.backlog);
        let reported = log.failed(Level::Emerg, what, &error.into());
        if let Some(file) = &file {
            remove_file(spec, file, log);
        }
        return Err(if error == Errno::EADDRINUSE { OpenError::InUse } else { OpenError::Other(reported) });
    }
    Ok((socket, file))
}

/// The system calls on the way to a bound socket, as nginx names them.
#[derive(Clone, Copy)]
enum Call {
    Socket,
    Option(&'static str),
    Bind,
    Permissions,
}

fn describe(call: Call, spec: &ListenSpec) -> String {
    match call {
        Call::Socket => format!("socket() {}", spec.address),
        Call::Option(name) => format!("setsockopt({name}) {}", spec.address),
        Call::Bind => format!("bind() to {}", spec.address),
        Call::Permissions => format!("setting permissions of {}", spec.address),
    }
}

/// Binds a socket that does not listen yet. Returns it with its file if it is a unix socket.
fn bound(spec: &ListenSpec, log: &ProcessLog) -> Result<(OwnedFd, Option<SocketFile>), (Call, Errno)> {
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
                log_option(setsockopt(&fd, sockopt::Ipv6V6Only, &spec.ipv6only), "IPV6_V6ONLY", spec, log);
            }
            bind(fd.as_raw_fd(), &SockaddrStorage::from(*address)).map_err(|error| (Call::Bind, error))?;
        }
        Address::Unix(path) => {
            let file = bind_to(&fd, path).map_err(|error| (Call::Bind, error))?;
            // Connections are refused before listen(), whatever the permissions are.
            if let Some(made) = &file
                && let Err((what, error)) = grant(made, spec.access.as_ref())
            {
                log.failed(Level::Emerg, format_args!("{what} \"{}\"", path.display()), &error);
                if spec.access.is_some() {
                    remove_file(spec, made, log);
                    return Err((Call::Permissions, Errno::EPERM));
                }
            }
            return Ok((fd, file));
        }
    }
    Ok((fd, None))
}

/// Sets the permissions of a unix socket. By default everyone who can reach the directory may connect, as with nginx.
/// Returns the call that failed.
fn grant(file: &SocketFile, access: Option<&SocketAccess>) -> Result<(), (&'static str, io::Error)> {
    let group = access.map(group).transpose()?.flatten();
    file.set_access(access.map_or(0o666, |access| access.mode), group)
}

/// Looks up the group of a unix socket, if one is named.
pub(crate) fn group(access: &SocketAccess) -> Result<Option<Gid>, (&'static str, io::Error)> {
    let Some(name) = access.group.as_deref() else { return Ok(None) };
    let found = Group::from_name(name).map_err(|error| ("getgrnam() for", error.into()))?;
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("there is no group \"{name}\""));
    found.map(|group| Some(group.gid)).ok_or_else(|| ("getgrnam() for", missing()))
}

/// Applies settings that may change while a socket listens. Errors are logged and do not fail the start.
fn configure(socket: &OwnedFd, spec: &ListenSpec, log: &ProcessLog) {
    if let Some(bytes) = spec.rcvbuf {
        log_option(setsockopt(socket, sockopt::RcvBuf, &bytes), "SO_RCVBUF", spec, log);
    }
    if let Some(bytes) = spec.sndbuf {
        log_option(setsockopt(socket, sockopt::SndBuf, &bytes), "SO_SNDBUF", spec, log);
    }
    let Some(keepalive) = spec.keepalive else { return };
    log_option(setsockopt(socket, sockopt::KeepAlive, &keepalive.on), "SO_KEEPALIVE", spec, log);
    if let Some(seconds) = keepalive.idle_s {
        log_option(setsockopt(socket, sockopt::TcpKeepIdle, &seconds), "TCP_KEEPIDLE", spec, log);
    }
    if let Some(seconds) = keepalive.interval_s {
        log_option(setsockopt(socket, sockopt::TcpKeepInterval, &seconds), "TCP_KEEPINTVL", spec, log);
    }
    if let Some(count) = keepalive.count {
        log_option(setsockopt(socket, sockopt::TcpKeepCount, &count), "TCP_KEEPCNT", spec, log);
    }
}

fn defer(socket: &OwnedFd, spec: &ListenSpec, log: &ProcessLog) {
    // The value is seconds to wait for data; nginx sets 1.
    let set = set_tcp_option(socket, libc::TCP_DEFER_ACCEPT, i32::from(spec.deferred));
    log_option(set, "TCP_DEFER_ACCEPT", spec, log);
}

fn log_option(result: Result<(), Errno>, option: &str, spec: &ListenSpec, log: &ProcessLog) {
    if let Err(error) = result {
        let reason = reason(&io::Error::from(error));
        log.write(
            Level::Alert,
            format_args!("setsockopt({option}) {} failed, ignored {reason}", spec.address),
        );
    }
}

/// Starts to listen, or changes the length of the queue. nix refuses a queue longer than the kernel's default limit,
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
        let first = open_all(&[any_port()], 1, &[], &ProcessLog::silent()).unwrap();
        let storage: SockaddrStorage = getsockname(first[0].sockets[0].as_raw_fd()).unwrap();
        let port = storage.as_sockaddr_in().unwrap().port();
        drop(first);
        let address = Address::Inet(SocketAddr::from(([127, 0, 0, 1], port)));
        let spec = ListenSpec { reuseport: true, ..ListenSpec::new(address) };
        let all = open_all(std::slice::from_ref(&spec), 3, &[], &ProcessLog::silent()).unwrap();
        assert_eq!(all[0].sockets.len(), 3);
        // With fewer threads no socket may stay open that no thread accepts from.
        let fewer = open_all(&[spec], 2, &all, &ProcessLog::silent()).unwrap();
        assert_eq!(fewer[0].sockets.len(), 2);
        assert!(Arc::ptr_eq(&fewer[0].sockets[0], &all[0].sockets[0]));
    }

    #[test]
    fn a_reload_keeps_the_socket_and_applies_new_settings() {
        let first = open_all(&[any_port()], 1, &[], &ProcessLog::silent()).unwrap();
        let wanted = ListenSpec { backlog: 7, rcvbuf: Some(64 * 1024), ..any_port() };
        let second = open_all(&[wanted], 1, &first, &ProcessLog::silent()).unwrap();
        assert!(Arc::ptr_eq(&second[0].sockets[0], &first[0].sockets[0]));
        // Linux doubles what is asked for.
        assert_eq!(getsockopt(&*second[0].sockets[0], sockopt::RcvBuf).unwrap(), 128 * 1024);
    }

    #[test]
    fn an_ipv6_socket_takes_no_ipv4_unless_ipv6only_is_off() {
        let everywhere = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
        if std::net::TcpListener::bind(everywhere).is_err() {
            // A machine without IPv6.
            return;
        }
        for ipv6only in [true, false] {
            let spec = ListenSpec { ipv6only, ..ListenSpec::new(Address::Inet(everywhere)) };
            let all = open_all(&[spec], 1, &[], &ProcessLog::silent()).unwrap();
            let storage: SockaddrStorage = getsockname(all[0].sockets[0].as_raw_fd()).unwrap();
            let port = storage.as_sockaddr_in6().unwrap().port();
            let reached = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            assert_eq!(reached, !ipv6only);
        }
    }

    #[test]
    fn a_dead_unix_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead.sock");
        drop(UnixListener::bind(&path).unwrap());
        let spec = ListenSpec::new(Address::Unix(path.clone()));
        let all = open_all(std::slice::from_ref(&spec), 1, &[], &ProcessLog::silent()).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        // A second server finds it in use.
        assert!(matches!(open(&spec, &ProcessLog::silent()), Err(OpenError::InUse)));
        remove_files(&all, &[], &ProcessLog::silent());
        assert!(!path.exists());
    }

    #[test]
    fn the_control_socket_has_its_permissions_and_is_optional() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let access = |mode| Some(SocketAccess { mode, group: None });
        let spec = ListenSpec { access: access(0o600), ..ListenSpec::new(Address::Unix(path.clone())) };
        let mode_of = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let first = open_all(std::slice::from_ref(&spec), 1, &[], &ProcessLog::silent()).unwrap();
        assert_eq!(mode_of(), 0o600);
        let wider = ListenSpec { access: access(0o660), ..spec.clone() };
        let second = open_all(&[wider], 1, &first, &ProcessLog::silent()).unwrap();
        assert_eq!(mode_of(), 0o660);
        assert!(Arc::ptr_eq(&first[0].sockets[0], &second[0].sockets[0]));

        let nowhere = Address::Unix(dir.path().join("missing/control.sock"));
        let optional = ListenSpec { optional: Some("control"), ..ListenSpec::new(nowhere.clone()) };
        assert!(open_all(&[optional], 1, &[], &ProcessLog::silent()).unwrap().is_empty());
        assert!(open_all(&[ListenSpec::new(nowhere)], 1, &[], &ProcessLog::silent()).is_err());
        let group = SocketAccess { mode: 0o660, group: Some("no such group".to_owned()) };
        let other = Address::Unix(dir.path().join("other.sock"));
        let spec = ListenSpec { access: Some(group), ..ListenSpec::new(other) };
        assert!(open_all(&[spec], 1, &[], &ProcessLog::silent()).is_err());
        assert!(!dir.path().join("other.sock").exists());
    }
}
