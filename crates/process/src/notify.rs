//! Service notifications to systemd (sd_notify(3)).
//!
//! Owns the socket that `NOTIFY_SOCKET` names and the states sent there: `READY=1`, `RELOADING=1`, `STOPPING=1`,
//! `MAINPID=`. Must never block or fail a start; without a listener nothing is sent. (The crate `sd-notify` 0.5 blocks
//! when the listener's queue is full, and does not know abstract sockets.)

use nix::time::{ClockId, clock_gettime};
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The connection to the service manager.
#[derive(Debug)]
pub(crate) struct Notify {
    listener: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// Returns the connection that `NOTIFY_SOCKET` names.
    pub(crate) fn from_environment() -> Notify {
        Notify::to(std::env::var_os("NOTIFY_SOCKET"))
    }

    /// Returns a connection to no service manager, for worker processes.
    pub(crate) fn disconnected() -> Notify {
        Notify { listener: None }
    }

    fn to(name: Option<OsString>) -> Notify {
        let open = |name: OsString| -> io::Result<(UnixDatagram, SocketAddr)> {
            let address = match name.as_bytes() {
                [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
                path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        };
        Notify { listener: name.and_then(|name| open(name).ok()) }
    }

    /// Reports that this process serves and is the one to supervise.
    pub(crate) fn ready(&self) {
        self.send(format_args!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
    }

    /// Reports that a reload has begun; [`Notify::reloaded`] must follow.
    pub(crate) fn reloading(&self) {
        // Type=notify-reload recognises the reload by this time.
        self.send(format_args!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading", monotonic_us()));
    }

    /// Reports that a reload has ended.
    pub(crate) fn reloaded(&self, done: bool) {
        let status = match done {
            true => "serving",
            false => "serving; the last reload was refused, see the error log",
        };
        self.send(format_args!("READY=1\nSTATUS={status}"));
    }

    /// Reports that this process is the one to supervise again: the new master of an upgrade has died.
    pub(crate) fn restored(&self) {
        self.send(format_args!("READY=1\nMAINPID={}\nSTATUS=serving; an upgrade failed", std::process::id()));
    }

    /// Reports that another process takes over.
    pub(crate) fn succeeded_by(&self, pid: i32) {
        self.send(format_args!("MAINPID={pid}"));
    }

    /// Reports that the service ends.
    pub(crate) fn stopping(&self) {
        self.send(format_args!("STOPPING=1\nSTATUS=finishing open requests"));
    }

    fn send(&self, state: std::fmt::Arguments<'_>) {
        if let Some((socket, address)) = &self.listener {
            // A full queue or a listener that is gone must not stop this process.
            let _ = socket.send_to_addr(state.to_string().as_bytes(), address);
        }
    }
}

/// Returns the monotonic clock, which other processes can compare with their own, in microseconds.
fn monotonic_us() -> i64 {
    // This clock is always there.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let read = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    #[test]
    fn states_reach_path_and_abstract_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(Some(path.into()));
        notify.ready();
        assert_eq!(receive(&socket), format!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
        notify.reloading();
        let state = receive(&socket);
        let time = state.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.split_once('\n').unwrap().0.parse::<u64>().unwrap() > 0, "{state}");

        let name = format!("pointsman-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Notify::to(Some(format!("@{name}").into())).stopping();
        assert!(receive(&socket).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn a_full_queue_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _never_reads = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(Some(path.into()));
        // net.unix.max_dgram_qlen is 10 on a plain kernel, and a sender's buffer holds some hundred of these.
        (0..5_000).for_each(|_| notify.ready());
    }

    #[test]
    fn without_a_listener_nothing_is_sent() {
        Notify::to(None).ready();
        Notify::to(Some("/nonexistent/notify".into())).ready();
    }
}
