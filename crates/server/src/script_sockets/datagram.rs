//! One socket of datagrams of a script: each read takes one, each write sends one.

use super::timer::LazyTimer;
use crate::context::conn_state::ConnCount;
use engine::network::{DialedConnection, Direction, Handshake, HandshakeFault, HandshakeRequest};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, UnixAddr};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio::net::{UdpSocket, UnixDatagram};
use upstream::Address;

/// The peer's kind of address.
enum Kind {
    Inet(UdpSocket),
    Unix(UnixDatagram),
}

/// See the module.
pub(super) struct DatagramSocket {
    kind: Kind,
    reading: LazyTimer,
    /// It counts among the thread's connections.
    _count: ConnCount,
}

impl DatagramSocket {
    /// Makes one whose peer is at this address.
    ///
    /// # Errors
    /// Fails with the system's error.
    pub(super) fn new(
        address: &Address,
        local: Option<IpAddr>,
        count: ConnCount,
    ) -> io::Result<DatagramSocket> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let made = |family| socket::socket(family, SockType::Datagram, flags, None);
        let kind = match address {
            Address::Inet(peer) => {
                let fd = made(if peer.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 })?;
                if let Some(local) = local {
                    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(local, 0)))?;
                }
                socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(*peer))?;
                Kind::Inet(UdpSocket::from_std(fd.into())?)
            }
            Address::Unix(path) => {
                let fd = made(AddressFamily::Unix)?;
                // A name of its own, so that the peer can answer.
                socket::bind(fd.as_raw_fd(), &UnixAddr::new_unnamed())?;
                socket::connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
                Kind::Unix(UnixDatagram::from_std(fd.into())?)
            }
        };
        Ok(DatagramSocket { kind, reading: LazyTimer::default(), _count: count })
    }

    fn raw_fd(&self) -> RawFd {
        match &self.kind {
            Kind::Inet(socket) => socket.as_raw_fd(),
            Kind::Unix(socket) => socket.as_raw_fd(),
        }
    }
}

impl DialedConnection for DatagramSocket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        // That nothing listens there is an error that the event loop does not tell a reader of.
        match socket::recv(self.raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => {}
            received => return Poll::Ready(received.map_err(io::Error::from)),
        }
        let mut buffer = ReadBuf::new(buffer);
        match &self.kind {
            Kind::Inet(socket) => ready!(socket.poll_recv(cx, &mut buffer))?,
            Kind::Unix(socket) => ready!(socket.poll_recv(cx, &mut buffer))?,
        }
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // A datagram goes at once or not at all; the event loop need not know yet that it can.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        Poll::Ready(socket::send(self.raw_fd(), bytes, flags).map_err(io::Error::from))
    }

    fn poll_stirred(&mut self, _: &mut Context<'_>) -> Poll<bool> {
        Poll::Ready(false)
    }

    fn start_timer(&mut self, _: Direction, ms: u64) {
        self.reading.start(ms);
    }

    fn poll_timer(&mut self, _: Direction, cx: &mut Context<'_>) -> Poll<()> {
        self.reading.poll(cx)
    }

    fn begin_handshake(&mut self, _: &HandshakeRequest) -> Result<Handshake, HandshakeFault> {
        Err(HandshakeFault { text: "no TLS over datagrams".to_owned(), log: None })
    }
}
