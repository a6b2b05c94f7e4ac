//! Free loopback ports, each reserved for one case.
//!
//! Owns the reservation across processes: a port is taken by binding an abstract unix socket of its number, so that the
//! test suite and the oracle may run side by side. It must never hand out ports of the ephemeral range, which
//! outgoing connections use.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that no other case uses while this value lives.
#[derive(Debug)]
pub struct Port {
    /// Its number.
    pub number: u16,
    _promise: UnixListener,
}

/// Finds a port that is neither listened on nor reserved.
///
/// # Errors
/// Fails if all are taken.
pub fn reserve() -> Result<Port, String> {
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let number = FIRST + (std::process::id().wrapping_mul(613).wrapping_add(step)) % COUNT;
        let name = format!("pointsman-testkit-port-{number}");
        let promise = SocketAddr::from_abstract_name(name).and_then(|name| UnixListener::bind_addr(&name));
        let (Ok(promise), Ok(number)) = (promise, u16::try_from(number)) else { continue };
        let free =
            [("127.0.0.1", number), ("0.0.0.0", number)].iter().all(|at| TcpListener::bind(at).is_ok());
        if free {
            return Ok(Port { number, _promise: promise });
        }
    }
    Err("no free port".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ports_differ_and_are_free() {
        let (a, b) = (reserve().unwrap(), reserve().unwrap());
        assert_ne!(a.number, b.number);
        assert!(TcpListener::bind(("127.0.0.1", a.number)).is_ok());
    }
}
