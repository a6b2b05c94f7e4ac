//! A connected socket, TCP or unix, polled: the bytes as the peer sends them.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{IpBindAddressNoPort, KeepAlive};
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, recv, send, sendmsg,
};
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use upstream::Address;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
    /// In a simulated world.
    #[cfg(feature = "simulation")]
    Simulated(Box<dyn crate::simulated::SimulatedStream>),
}

/// The address to connect from cannot be had.
#[derive(Debug)]
pub struct BindFailed(pub Errno);

impl fmt::Display for BindFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bind() failed: {}", self.0)
    }
}

impl std::error::Error for BindFailed {}

/// Binds a socket that is to connect. A port is chosen when it connects, so that one port can serve several destinations.
fn bind(socket: &OwnedFd, local: SocketAddr) -> nix::Result<()> {
    if local.port() == 0 {
        // Where the system does not know it, the port is chosen now.
        let _ = socket::setsockopt(socket, IpBindAddressNoPort, &true);
    }
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(local))
}

impl Socket {
    /// Connects to an address. `keepalive` sets SO_KEEPALIVE.
    ///
    /// # Errors
    /// Fails with the system's error.
    pub async fn connect(address: &Address, keepalive: bool) -> io::Result<Socket> {
        Socket::connect_from(None, address, keepalive).await
    }

    /// Returns the same from an address, if one is given.
    ///
    /// # Errors
    /// Fails with the system's error, or with [`BindFailed`].
    pub async fn connect_from(
        local: Option<SocketAddr>,
        address: &Address,
        keepalive: bool,
    ) -> io::Result<Socket> {
        match address {
            Address::Inet(address) => {
                let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
                let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
                let socket = socket::socket(family, SockType::Stream, flags, None)?;
                if keepalive {
                    socket::setsockopt(&socket, KeepAlive, &true)?;
                }
                if let Some(local) = local {
                    bind(&socket, local).map_err(|error| io::Error::other(BindFailed(error)))?;
                }
                match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(*address)) {
                    Ok(()) | Err(Errno::EINPROGRESS) => {}
                    Err(error) => return Err(error.into()),
                }
                let stream = TcpStream::from_std(socket.into())?;
                // A failed connection is reported as closed: only then the socket is asked for the error.
                if stream.ready(Interest::WRITABLE).await?.is_write_closed()
                    && let Some(error) = stream.take_error()?
                {
                    return Err(error);
                }
                Ok(Socket::Tcp(stream))
            }
            Address::Unix(_) if local.is_some() => Err(io::Error::other(BindFailed(Errno::EINVAL))),
            Address::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Becomes ready when there is something to read, or the peer has closed. Costs no system call.
    #[inline]
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_read_ready(cx),
            Socket::Unix(stream) => stream.poll_read_ready(cx),
            #[cfg(feature = "simulation")]
            Socket::Simulated(wire) => wire.poll_readable(cx),
        }
    }

    /// Reads what is there into `buffer`; 0 is the peer's end.
    ///
    /// Tries at once if the stream is known to be readable, else registers the task. A read that leaves room in the buffer
    /// has taken all there was, so that the next one waits.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        #[cfg(feature = "simulation")]
        if let Socket::Simulated(wire) = self {
            return wire.poll_read(cx, buffer);
        }
        let fd = self.as_fd().as_raw_fd();
        loop {
            let mut taken = 0;
            let read = self.try_io(Interest::READABLE, || {
                taken = recv(fd, buffer, MsgFlags::empty())?;
                if (1..buffer.len()).contains(&taken) {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(())
                }
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken == 0 => {
                    ready!(self.poll_readable(cx))?;
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                _ => return Poll::Ready(Ok(taken)),
            }
        }
    }

    /// Writes from several buffers in one call; returns how many bytes were written.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        #[cfg(feature = "simulation")]
        if let Socket::Simulated(wire) = self {
            return wire.poll_write(cx, parts);
        }
        let fd = self.as_fd().as_raw_fd();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        loop {
            let mut went = None;
            let written = self.try_io(Interest::WRITABLE, || {
                let count = match parts {
                    // For one part, send(2) is cheaper than sendmsg(2).
                    [part] => send(fd, part, MsgFlags::MSG_NOSIGNAL)?,
                    parts => sendmsg::<()>(fd, parts, &[], MsgFlags::MSG_NOSIGNAL, None)?,
                };
                went = Some(count);
                if (1..len).contains(&count) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (written, went) {
                (_, Some(count)) => return Poll::Ready(Ok(count)),
                (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_writable(cx))?;
                }
                (Err(error), None) => return Poll::Ready(Err(error)),
                (Ok(()), None) => return Poll::Ready(Ok(0)),
            }
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_write_ready(cx),
            Socket::Unix(stream) => stream.poll_write_ready(cx),
            #[cfg(feature = "simulation")]
            Socket::Simulated(wire) => wire.poll_writable(cx),
        }
    }

    /// Does `call` if the socket is known to be ready for it. `WouldBlock` from it means that it is not after all.
    fn try_io<T>(&self, interest: Interest, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self {
            Socket::Tcp(stream) => stream.try_io(interest, call),
            Socket::Unix(stream) => stream.try_io(interest, call),
            // Handled by the callers.
            #[cfg(feature = "simulation")]
            Socket::Simulated(_) => call(),
        }
    }

    /// Sends from a file without copying (sendfile(2)), and moves `offset` on; returns how many bytes were sent.
    pub fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &File,
        offset: &mut u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        #[cfg(feature = "simulation")]
        if let Socket::Simulated(wire) = self {
            return wire.poll_send_file(cx, file, offset, len);
        }
        loop {
            ready!(self.poll_writable(cx))?;
            let mut at = *offset as i64;
            let sent = self.try_io(Interest::WRITABLE, || {
                nix::sys::sendfile::sendfile64(self.as_fd(), file, Some(&mut at), len)
                    .map_err(io::Error::from)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(sent) => {
                    *offset += sent as u64;
                    return Poll::Ready(Ok(sent));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Returns true if the peer has ended its side, even if there are bytes to read before that end.
    pub(crate) fn has_peer_ended(&self) -> bool {
        #[cfg(feature = "simulation")]
        if let Socket::Simulated(wire) = self {
            return matches!(wire.peek(), Ok(0));
        }
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::from_bits_retain(nix::libc::POLLRDHUP))];
        poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].any().unwrap_or(false)
    }

    /// Returns the next byte without taking it; `None` is the peer's end.
    pub(crate) fn poll_first_byte(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        loop {
            ready!(self.poll_readable(cx))?;
            let fd = self.as_fd().as_raw_fd();
            let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
            let mut first = [0];
            match self.try_io(Interest::READABLE, || Ok(recv(fd, &mut first, flags)?)) {
                Ok(0) => return Poll::Ready(Ok(None)),
                Ok(_) => return Poll::Ready(Ok(Some(first[0]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Becomes ready with true if the peer has closed its side, and with false if there are bytes to read. Takes none.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<bool> {
        if ready!(self.poll_readable(cx)).is_err() {
            return Poll::Ready(true);
        }
        match self.peek() {
            Ok(0) => Poll::Ready(true),
            Ok(_) => Poll::Ready(false),
            // The readiness was stale; it is cleared now, so that polling again waits.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.poll_readable(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(_) => Poll::Ready(false),
            },
            Err(_) => Poll::Ready(true),
        }
    }

    /// Returns true if there are bytes to read at this instant. Asks the system, because the event loop learns of them only
    /// with its next turn.
    pub fn has_bytes(&self) -> bool {
        #[cfg(feature = "simulation")]
        if let Socket::Simulated(wire) = self {
            return matches!(wire.peek(), Ok(1));
        }
        has_bytes(self)
    }

    /// Returns true if the peer is silent, as far as is known. Registers nothing.
    pub fn is_silent(&self) -> bool {
        self.peek().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Returns how many bytes there are to read, up to one; 0 is the peer's end. Makes no system call without known readiness.
    fn peek(&self) -> io::Result<usize> {
        #[cfg(feature = "simulation")]
        if let Socket::Simulated(wire) = self {
            return wire.peek();
        }
        let fd = self.as_fd().as_raw_fd();
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        self.try_io(Interest::READABLE, || recv(fd, &mut [0], flags).map_err(io::Error::from))
    }

    /// Takes it out of the event loop.
    ///
    /// # Errors
    /// Fails if the event loop cannot release it; then it is closed.
    pub fn set_aside(self) -> io::Result<SocketAside> {
        Ok(match self {
            Socket::Tcp(stream) => SocketAside::Tcp(stream.into_std()?),
            Socket::Unix(stream) => SocketAside::Unix(stream.into_std()?),
            #[cfg(feature = "simulation")]
            Socket::Simulated(_) => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    /// Puts it back into the event loop.
    ///
    /// # Errors
    /// Fails if the event loop cannot watch it; then it is closed.
    pub fn resume(aside: SocketAside) -> io::Result<Socket> {
        Ok(match aside {
            SocketAside::Tcp(stream) => Socket::Tcp(TcpStream::from_std(stream)?),
            SocketAside::Unix(stream) => Socket::Unix(UnixStream::from_std(stream)?),
        })
    }

    /// Sets TCP_NODELAY: small pieces do not wait for acknowledgements of earlier ones.
    pub fn send_at_once(&self) {
        if let Socket::Tcp(stream) = self {
            // Without it small pieces are late, and nothing worse.
            let _ = stream.set_nodelay(true);
        }
    }

    /// Ends our side: the peer sees the end of what we send.
    pub fn shut_down_write(&self) {
        #[cfg(feature = "simulation")]
        if let Socket::Simulated(wire) = self {
            return wire.shut_down_write();
        }
        // It fails if the peer is already gone, which is fine.
        let _ = nix::sys::socket::shutdown(self.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }

    /// Makes the close that follows a reset instead of an orderly end.
    pub fn reset_on_close(&self) {
        #[cfg(feature = "simulation")]
        if let Socket::Simulated(wire) = self {
            return wire.reset_on_close();
        }
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = nix::sys::socket::setsockopt(&self.as_fd(), nix::sys::socket::sockopt::Linger, &linger);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
            #[cfg(feature = "simulation")]
            Socket::Simulated(_) => unreachable!("a simulated stream has no descriptor"),
        }
    }
}

/// Returns true if there are bytes to read at this instant.
fn has_bytes(stream: &impl AsFd) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    matches!(recv(stream.as_fd().as_raw_fd(), &mut [0], flags), Ok(1))
}

/// A socket outside of the event loop.
#[derive(Debug)]
pub enum SocketAside {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over a unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl SocketAside {
    /// Returns true if there are bytes to read at this instant.
    pub fn has_bytes(&self) -> bool {
        has_bytes(self)
    }
}

impl AsFd for SocketAside {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            SocketAside::Tcp(stream) => stream.as_fd(),
            SocketAside::Unix(stream) => stream.as_fd(),
        }
    }
}
