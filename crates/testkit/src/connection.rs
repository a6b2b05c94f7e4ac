//! One end of a socket with the bytes that came and were not claimed yet, and the loop that accepts connections.
//!
//! Clients and origins of cases, hostile messages and the fault matrix share it. No read lasts longer than a moment, so
//! that each of them can look at its own deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::tls::TlsLayer;

/// The longest that any one step of a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The longest that a read blocks.
pub(crate) const GLANCE: Duration = Duration::from_millis(20);

/// A connection of a client or of an origin.
pub(crate) struct Connection {
    socket: Socket,
    /// TLS, if it is not in clear.
    pub(crate) tls: Option<Box<TlsLayer>>,
    /// Bytes that came and that no expectation has claimed.
    pub(crate) buffer: Vec<u8>,
    /// How the peer ended its side, if it has.
    pub(crate) end: Option<PeerEnd>,
}

/// How a peer ends its side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerEnd {
    /// In an orderly way.
    Closed,
    /// By a reset.
    Reset,
    /// Without the closing alert of TLS.
    CutOff,
}

impl Connection {
    /// Connects to a TCP or unix address.
    pub(crate) fn connect(address: &SockAddr) -> std::io::Result<Connection> {
        let socket = Socket::new(address.domain(), Type::STREAM, None)?;
        socket.connect_timeout(address, PATIENCE)?;
        Connection::new(socket)
    }

    /// Takes over a connected socket.
    pub(crate) fn new(socket: Socket) -> std::io::Result<Connection> {
        socket.set_nonblocking(false)?;
        // Unix sockets have no such option.
        let _ = socket.set_tcp_nodelay(true);
        socket.set_read_timeout(Some(GLANCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { socket, tls: None, buffer: Vec::new(), end: None })
    }

    /// Returns the socket, for its options.
    pub(crate) fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.socket)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Sends all bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.tls {
            None => self.socket.write_all(bytes),
            Some(tls) => self.socket.write_all(&tls.encrypt(bytes)?),
        }
    }

    /// Shakes hands; a fault is left in the layer.
    pub(crate) fn shake_hands(&mut self, tls: TlsLayer) -> std::io::Result<()> {
        self.tls = Some(Box::new(tls));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            let out = tls.take_output()?;
            let is_over = !tls.is_shaking_hands();
            // A server that refuses may be gone already.
            let _ = self.socket.write_all(&out);
            if is_over || self.has_ended() {
                return Ok(());
            }
            if !self.read() && Instant::now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    /// Takes in bytes that came from the socket.
    fn take_in(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => self.buffer.extend_from_slice(bytes),
            Some(tls) => tls.decrypt(bytes, &mut self.buffer),
        }
    }

    /// Reads once; returns false if nothing came for a moment.
    pub(crate) fn read(&mut self) -> bool {
        let mut chunk = [0; 65536];
        match self.socket.read(&mut chunk) {
            Ok(0) => {
                let is_cut = self.tls.as_ref().is_some_and(|tls| !tls.has_ended && tls.fault.is_none());
                self.end = Some(if is_cut { PeerEnd::CutOff } else { PeerEnd::Closed });
            }
            Ok(count) => self.take_in(&chunk[..count]),
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                return false;
            }
            Err(_) => self.end = Some(PeerEnd::Reset),
        }
        true
    }

    /// Reads until a condition holds or the peer ends; returns false after `silence` without a byte.
    pub(crate) fn read_until(
        &mut self,
        silence: Duration,
        mut done: impl FnMut(&Connection) -> bool,
    ) -> bool {
        let mut deadline = Instant::now() + silence;
        while !done(self) && !self.has_ended() {
            if self.read() {
                deadline = Instant::now() + silence;
            } else if Instant::now() >= deadline {
                return false;
            }
        }
        true
    }

    /// Returns the bytes that came and were not claimed, without waiting for more.
    pub(crate) fn leftover(&mut self) -> &[u8] {
        if !self.has_ended() && self.socket.set_nonblocking(true).is_ok() {
            let mut chunk = [0u8; 4096];
            while let Ok(count @ 1..) = self.socket.read(&mut chunk) {
                self.take_in(&chunk[..count]);
            }
        }
        &self.buffer
    }

    /// Ends the sending side.
    pub(crate) fn half_close(&mut self) {
        if let Some(Ok(out)) = self.tls.as_mut().map(|tls| tls.end()) {
            let _ = self.socket.write_all(&out);
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Ends the connection at once, with a reset instead of an orderly end.
    pub(crate) fn reset(&mut self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
        // The reset goes out with the last descriptor.
        if let Ok(unconnected) = Socket::new(Domain::IPV4, Type::STREAM, None) {
            self.socket = unconnected;
        }
        self.end = Some(PeerEnd::Reset);
    }
}

/// Listens at a TCP or unix address, with a small receive buffer if one is given. The servers under test may run as
/// another user, so that all may connect.
pub(crate) fn listen(address: &SockAddr, receive_buffer: Option<usize>) -> std::io::Result<Socket> {
    let socket = Socket::new(address.domain(), Type::STREAM, None)?;
    if address.domain() != Domain::UNIX {
        socket.set_reuse_address(true)?;
    }
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(address)?;
    socket.listen(64)?;
    if let Some(path) = address.as_pathname() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    }
    Ok(socket)
}

/// Accepts until `is_over`, serves each connection on a thread of its own, and returns when all of them have ended.
/// `serve` gets the connection's number, from 0.
pub(crate) fn accept_all(
    listener: &Socket,
    is_over: impl Fn() -> bool,
    serve: impl Fn(Connection, usize) + Sync,
) {
    let _ = listener.set_nonblocking(true);
    let (serve, mut number) = (&serve, 0);
    std::thread::scope(|scope| {
        while !is_over() {
            let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::ZERO));
            while let Ok((socket, _)) = listener.accept() {
                // A socket that is broken already needs no service.
                if let Ok(connection) = Connection::new(socket) {
                    scope.spawn(move || serve(connection, number));
                    number += 1;
                }
            }
        }
    });
}
