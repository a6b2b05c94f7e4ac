//! Telling systemd how the service is (sd_notify(3)).
//!
//! Owns the socket that `NOTIFY_SOCKET` names and the words sent there: `READY=1`, `RELOADING=1`, `STOPPING=1`,
//! `MAINPID=`. Must never wait, or fail a start: where nobody listens, nothing is told.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who is told.
#[derive(Debug)]
pub(super) struct Notify {
    listener: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// Whoever `NOTIFY_SOCKET` names; nobody without it.
    pub(super) fn from_environment() -> Notify {
        Notify::to(std::env::var_os("NOTIFY_SOCKET"))
    }

    /// Nobody: what a worker process tells.
    pub(super) fn nobody() -> Notify {
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

    /// This process serves; it is the one to watch from now on.
    pub(super) fn ready(&self) {
        self.tell(format_args!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
    }

    /// The configuration is read anew; [`Notify::reloaded`] follows whatever comes of it.
    pub(super) fn reloading(&self) {
        // Type=notify-reload tells by this time which reload is meant.
        self.tell(format_args!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading", monotonic_us()));
    }

    /// A reload has ended.
    pub(super) fn reloaded(&self, done: bool) {
        let status = match done {
            true => "serving",
            false => "serving; the last reload was refused, see the error log",
        };
        self.tell(format_args!("READY=1\nSTATUS={status}"));
    }

    /// This process watches over the workers again: the one it had started in its place has died.
    pub(super) fn restored(&self) {
        self.tell(format_args!("READY=1\nMAINPID={}\nSTATUS=serving; an upgrade failed", std::process::id()));
    }

    /// Another process goes on in this one's place.
    pub(super) fn succeeded_by(&self, pid: i32) {
        self.tell(format_args!("MAINPID={pid}"));
    }

    /// The service ends.
    pub(super) fn stopping(&self) {
        self.tell(format_args!("STOPPING=1\nSTATUS=finishing what has begun"));
    }

    fn tell(&self, words: std::fmt::Arguments<'_>) {
        if let Some((socket, address)) = &self.listener {
            // A listener that has no room or is gone is not waited for.
            let _ = socket.send_to_addr(words.to_string().as_bytes(), address);
        }
    }
}

/// The system's monotonic clock, which another process can compare with its own; in microseconds.
fn monotonic_us() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to the place that is borrowed for the call.
    #[allow(unsafe_code)]
    unsafe {
        // This clock is always there.
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
    }
    now.tv_sec.cast_unsigned() * 1_000_000 + now.tv_nsec.cast_unsigned() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let read = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    #[test]
    fn words_reach_both_kinds_of_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(Some(path.into()));
        notify.ready();
        assert_eq!(hear(&socket), format!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
        notify.reloading();
        let words = hear(&socket);
        let time = words.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.split_once('\n').unwrap().0.parse::<u64>().unwrap() > 0, "{words}");

        let name = format!("pointsman-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Notify::to(Some(format!("@{name}").into())).stopping();
        assert!(hear(&socket).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn without_a_listener_nothing_happens() {
        Notify::to(None).ready();
        Notify::to(Some("/nonexistent/notify".into())).ready();
    }
}
