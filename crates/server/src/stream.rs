//! One byte stream over TCP or a unix socket, polled.
//!
//! The data path polls instead of awaiting, so that it can watch both sides of a relay at once and lease a buffer
//! only when there is something to put into it.

use nix::sys::socket::{MsgFlags, recv};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected stream.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Ready when there is something to read, or the peer has closed. Costs no system call.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Reads what is there into `buffer`; 0 is the peer's end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(buffer);
        ready!(match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut into),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, &mut into),
        })?;
        Poll::Ready(Ok(into.filled().len()))
    }

    /// Writes from several buffers in one call; answers how many bytes went.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One part: send(2) does less on its way than writev(2).
        match (self, parts) {
            (Stream::Tcp(stream), [part]) => Pin::new(stream).poll_write(cx, part),
            (Stream::Unix(stream), [part]) => Pin::new(stream).poll_write(cx, part),
            (Stream::Tcp(stream), parts) => Pin::new(stream).poll_write_vectored(cx, parts),
            (Stream::Unix(stream), parts) => Pin::new(stream).poll_write_vectored(cx, parts),
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
        loop {
            ready!(match self {
                Stream::Tcp(stream) => stream.poll_write_ready(cx),
                Stream::Unix(stream) => stream.poll_write_ready(cx),
            })?;
            let mut at = *offset as i64;
            let mut send = |socket: BorrowedFd<'_>| {
                nix::sys::sendfile::sendfile64(socket, file, Some(&mut at), len).map_err(io::Error::from)
            };
            let sent = match self {
                Stream::Tcp(stream) => stream.try_io(Interest::WRITABLE, || send(stream.as_fd())),
                Stream::Unix(stream) => stream.try_io(Interest::WRITABLE, || send(stream.as_fd())),
            };
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
        let mut byte = [0];
        let fd = self.as_fd().as_raw_fd();
        let peek =
            || recv(fd, &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT).map_err(io::Error::from);
        let seen = match self {
            Stream::Tcp(stream) => stream.try_io(Interest::READABLE, peek),
            Stream::Unix(stream) => stream.try_io(Interest::READABLE, peek),
        };
        match seen {
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
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        matches!(recv(self.as_fd().as_raw_fd(), &mut [0], flags), Ok(1))
    }

    /// Ends our side: the peer sees the end of what we send.
    pub(crate) fn shut_down_write(&self) {
        // A peer that is gone already need not be told.
        let _ = nix::sys::socket::shutdown(self.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }

    /// Makes the close that follows a reset instead of an orderly end.
    pub(crate) fn reset_on_close(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = nix::sys::socket::setsockopt(&self.as_fd(), nix::sys::socket::sockopt::Linger, &linger);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}
