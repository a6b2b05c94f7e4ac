//! One byte stream over TCP or a unix socket, polled.
//!
//! The data path polls instead of awaiting, so that it can watch both sides of a relay at once and lease a buffer
//! only when there is something to put into it.

use nix::sys::socket::{MsgFlags, recv, send, sendmsg};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A connected stream.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
    /// In a simulated world.
    #[cfg(test)]
    Simulated(crate::simulation::Wire),
}

impl Stream {
    /// Ready when there is something to read, or the peer has closed. Costs no system call.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
            #[cfg(test)]
            Stream::Simulated(wire) => wire.poll_readable(cx),
        }
    }

    /// Reads what is there into `buffer`; 0 is the peer's end.
    ///
    /// The readiness that is known is enough to try; who would have to wait asks for being woken. A read that leaves
    /// room in the buffer has taken all there was: nobody need try again before there is more.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        #[cfg(test)]
        if let Stream::Simulated(wire) = self {
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

    /// Writes from several buffers in one call; answers how many bytes went.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        #[cfg(test)]
        if let Stream::Simulated(wire) = self {
            return wire.poll_write(cx, parts);
        }
        let fd = self.as_fd().as_raw_fd();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        loop {
            let mut went = None;
            let written = self.try_io(Interest::WRITABLE, || {
                let count = match parts {
                    // One part: send(2) does less on its way than sendmsg(2).
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
            Stream::Tcp(stream) => stream.poll_write_ready(cx),
            Stream::Unix(stream) => stream.poll_write_ready(cx),
            #[cfg(test)]
            Stream::Simulated(wire) => wire.poll_writable(cx),
        }
    }

    /// Does `call` if the socket is known to be ready for it. `WouldBlock` from it says that it is not after all.
    fn try_io<T>(&self, interest: Interest, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self {
            Stream::Tcp(stream) => stream.try_io(interest, call),
            Stream::Unix(stream) => stream.try_io(interest, call),
            // Its own ways were gone before.
            #[cfg(test)]
            Stream::Simulated(_) => call(),
        }
    }

    /// Sends from a file without copying (sendfile(2)); moves `offset` on; answers how many bytes went.
    pub(crate) fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &File,
        offset: &mut u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        #[cfg(test)]
        if let Stream::Simulated(wire) = self {
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

    /// Has the peer closed its side? Looks without taking anything: `Pending` while it is silent, `false` when
    /// there are bytes to read.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<bool> {
        if ready!(self.poll_readable(cx)).is_err() {
            return Poll::Ready(true);
        }
        match self.peek() {
            Ok(0) => Poll::Ready(true),
            Ok(_) => Poll::Ready(false),
            // The readiness was stale; it is cleared now, so that asking again waits.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.poll_readable(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(_) => Poll::Ready(false),
            },
            Err(_) => Poll::Ready(true),
        }
    }

    /// Are there bytes to read at this instant? Asks the system, because the event loop hears of them only with its
    /// next turn.
    pub(crate) fn has_bytes(&self) -> bool {
        #[cfg(test)]
        if let Stream::Simulated(wire) = self {
            return matches!(wire.peek(), Ok(1));
        }
        has_bytes(self)
    }

    /// Is the peer silent, as far as is known? Registers nothing.
    pub(crate) fn is_silent(&self) -> bool {
        self.peek().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// How many bytes there are to read, up to one; 0 is the peer's end. Without known readiness no system call.
    fn peek(&self) -> io::Result<usize> {
        #[cfg(test)]
        if let Stream::Simulated(wire) = self {
            return wire.peek();
        }
        let fd = self.as_fd().as_raw_fd();
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        self.try_io(Interest::READABLE, || recv(fd, &mut [0], flags).map_err(io::Error::from))
    }

    /// Takes it out of the event loop.
    ///
    /// # Errors
    /// The event loop cannot let go of it; it is closed then.
    pub(crate) fn set_aside(self) -> io::Result<Aside> {
        Ok(match self {
            Stream::Tcp(stream) => Aside::Tcp(stream.into_std()?),
            Stream::Unix(stream) => Aside::Unix(stream.into_std()?),
            #[cfg(test)]
            Stream::Simulated(_) => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    /// Puts it back into the event loop.
    ///
    /// # Errors
    /// The event loop cannot watch it; it is closed then.
    pub(crate) fn resume(aside: Aside) -> io::Result<Stream> {
        Ok(match aside {
            Aside::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Aside::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }

    /// Small pieces do not wait for acknowledgements of earlier ones (TCP_NODELAY).
    pub(crate) fn send_at_once(&self) {
        if let Stream::Tcp(stream) = self {
            // Without it small pieces are late, and that is all.
            let _ = stream.set_nodelay(true);
        }
    }

    /// Ends our side: the peer sees the end of what we send.
    pub(crate) fn shut_down_write(&self) {
        #[cfg(test)]
        if let Stream::Simulated(wire) = self {
            return wire.shut_down_write();
        }
        // A peer that is gone already need not be told.
        let _ = nix::sys::socket::shutdown(self.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }

    /// Makes the close that follows a reset instead of an orderly end.
    pub(crate) fn reset_on_close(&self) {
        #[cfg(test)]
        if let Stream::Simulated(wire) = self {
            return wire.reset_on_close();
        }
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = nix::sys::socket::setsockopt(&self.as_fd(), nix::sys::socket::sockopt::Linger, &linger);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            #[cfg(test)]
            Stream::Simulated(_) => unreachable!("what is simulated has no descriptor"),
        }
    }
}

/// Are there bytes to read at this instant?
fn has_bytes(stream: &impl AsFd) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    matches!(recv(stream.as_fd().as_raw_fd(), &mut [0], flags), Ok(1))
}

/// A stream that no event loop knows of.
#[derive(Debug)]
pub(crate) enum Aside {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over a unix socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Aside {
    /// Are there bytes to read at this instant?
    pub(crate) fn has_bytes(&self) -> bool {
        has_bytes(self)
    }
}

impl AsFd for Aside {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Aside::Tcp(stream) => stream.as_fd(),
            Aside::Unix(stream) => stream.as_fd(),
        }
    }
}
