//! One byte stream, over TCP, a unix socket, TLS or a connection that carries many, polled.
//!
//! The data path polls instead of awaiting, so that it can watch both sides of a relay at once and lease a buffer only when
//! there is something to read into it. What only TLS needs is boxed: a stream in clear has the size of its socket.

use crate::pipe::{FileTicket, PipeEnd};
use crate::socket::SocketAside;
pub use crate::socket::{BindFailed, Socket};
use crate::tls_stream::TlsStream;
use rustls::ServerConnection;
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};
use upstream::Address;

/// The most slices one write takes.
const MAX_SLICES: usize = 8;

/// A connected stream.
#[derive(Debug)]
pub enum Stream {
    /// In clear.
    Plain(Socket),
    /// Over TLS.
    Tls(Box<TlsStream>),
    /// In memory, to the connection that carries it.
    Piped(PipeEnd),
}

impl Stream {
    /// Connects to an address. `keepalive` sets SO_KEEPALIVE.
    ///
    /// # Errors
    /// Fails with the system's error.
    pub async fn connect(address: &Address, keepalive: bool) -> io::Result<Stream> {
        Ok(Stream::Plain(Socket::connect(address, keepalive).await?))
    }

    /// Connects to an address from another one, whose port may be 0. A failure to bind is a [`BindFailed`].
    ///
    /// # Errors
    /// Fails with the system's error.
    pub async fn connect_from(local: SocketAddr, address: &Address, keepalive: bool) -> io::Result<Stream> {
        Ok(Stream::Plain(Socket::connect_from(Some(local), address, keepalive).await?))
    }

    /// Becomes ready when there is something to read, or the peer has closed. Costs no system call. Over TLS, what there is
    /// may turn out to be no data.
    #[inline]
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(socket) => socket.poll_readable(cx),
            Stream::Tls(tls) => tls.poll_readable(cx),
            Stream::Piped(pipe) => pipe.poll_readable(cx),
        }
    }

    /// Reads what is there into `buffer`; 0 is the peer's end.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(socket) => socket.poll_read(cx, buffer),
            Stream::Tls(tls) => tls.poll_read(cx, buffer),
            Stream::Piped(pipe) => pipe.poll_read(cx, buffer),
        }
    }

    /// Writes from several buffers in one call; returns how many bytes were written. After `Pending`, the next call must
    /// begin with the same bytes: over TLS they may be encrypted already.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(socket) => socket.poll_write(cx, parts),
            Stream::Tls(tls) => tls.poll_write(cx, parts),
            Stream::Piped(pipe) => pipe.poll_write(cx, parts),
        }
    }

    /// Writes all of `parts`, from byte `done` on, several slices in one call; moves `done` on.
    #[inline]
    pub fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[&[u8]],
        done: &mut usize,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut slices = [IoSlice::new(b""); MAX_SLICES];
            let mut count = 0;
            let mut skip = *done;
            for part in parts {
                if skip >= part.len() {
                    skip -= part.len();
                    continue;
                }
                if count < MAX_SLICES {
                    slices[count] = IoSlice::new(&part[skip..]);
                    count += 1;
                }
                skip = 0;
            }
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_write(cx, &slices[..count]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => *done += sent,
            }
        }
    }

    /// Sends from a file and moves `offset` on; returns how many bytes were sent. In clear nothing is copied (sendfile(2)).
    pub fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &File,
        offset: &mut u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(socket) => socket.poll_send_file(cx, file, offset, len),
            Stream::Tls(tls) => tls.poll_send_file(cx, file, offset, len),
            Stream::Piped(pipe) => pipe.poll_send_file(cx, file, offset, len),
        }
    }

    /// Returns the right to keep a file open while this stream's peer takes nothing; `None` if other streams of its connection
    /// have it.
    pub fn file_ticket(&self) -> Option<FileTicket> {
        match self {
            Stream::Piped(pipe) => pipe.file_ticket(),
            Stream::Plain(_) | Stream::Tls(_) => Some(FileTicket::of_connection()),
        }
    }

    /// Becomes ready when a stream in memory has room. Others say so when they are written to.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Piped(pipe) => pipe.poll_writable(cx),
            Stream::Plain(_) | Stream::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    /// Returns true if a stream in memory takes so many bytes at once, and for others.
    pub fn has_room(&self, bytes: usize) -> bool {
        match self {
            Stream::Piped(pipe) => pipe.has_room(bytes),
            Stream::Plain(_) | Stream::Tls(_) => true,
        }
    }

    /// Becomes ready with true if the peer has closed its side, and with false if there are bytes to read. Takes none.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<bool> {
        match self {
            Stream::Plain(socket) => socket.poll_closed(cx),
            Stream::Tls(tls) => tls.poll_closed(cx),
            Stream::Piped(pipe) => pipe.poll_closed(cx),
        }
    }

    /// Returns true if there are bytes to read at this instant. Asks the system, because the event loop learns of them only
    /// with its next turn.
    pub fn has_bytes(&self) -> bool {
        match self {
            Stream::Plain(socket) => socket.has_bytes(),
            Stream::Tls(tls) => tls.has_bytes(),
            Stream::Piped(pipe) => pipe.has_bytes(),
        }
    }

    /// Returns true if the peer is silent, as far as is known. Registers nothing.
    pub fn is_silent(&self) -> bool {
        match self {
            Stream::Plain(socket) => socket.is_silent(),
            Stream::Tls(tls) => tls.is_silent(),
            Stream::Piped(pipe) => !pipe.has_bytes(),
        }
    }

    /// Takes it out of the event loop.
    ///
    /// # Errors
    /// Fails if the event loop cannot release it; then it is closed.
    pub fn set_aside(self) -> io::Result<Aside> {
        Ok(match self {
            Stream::Plain(socket) => Aside::Plain(socket.set_aside()?),
            Stream::Tls(tls) => Aside::Tls(tls.set_aside()?),
            Stream::Piped(_) => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    /// Puts it back into the event loop.
    ///
    /// # Errors
    /// Fails if the event loop cannot watch it; then it is closed.
    pub fn resume(aside: Aside) -> io::Result<Stream> {
        Ok(match aside {
            Aside::Plain(socket) => Stream::Plain(Socket::resume(socket)?),
            Aside::Tls(tls) => Stream::Tls(tls.resume()?),
        })
    }

    /// Sets TCP_NODELAY: small pieces do not wait for acknowledgements of earlier ones.
    pub fn send_at_once(&self) {
        if let Stream::Plain(socket) = self {
            socket.send_at_once();
        }
    }

    /// Ends our side: the peer sees the end of what we send.
    pub fn shut_down_write(&mut self) {
        match self {
            Stream::Plain(socket) => socket.shut_down_write(),
            Stream::Tls(tls) => tls.shut_down_write(),
            // The end of what is sent is one of the pieces.
            Stream::Piped(_) => {}
        }
    }

    /// Makes the close that follows a reset instead of an orderly end.
    pub fn reset_on_close(&mut self) {
        match self {
            Stream::Plain(socket) => socket.reset_on_close(),
            Stream::Tls(tls) => tls.reset_on_close(),
            Stream::Piped(_) => {}
        }
    }

    /// Returns the next byte without taking it; `None` is the peer's end. For a stream in clear.
    pub fn poll_first_byte(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
        match self {
            Stream::Plain(socket) => socket.poll_first_byte(cx),
            Stream::Tls(_) | Stream::Piped(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Becomes ready with the number of bytes that were written and have not gone yet, once that differs from `known`. Only a
    /// stream in memory knows of any.
    pub fn poll_unsent(&self, cx: &mut Context<'_>, known: usize) -> Poll<io::Result<usize>> {
        match self {
            Stream::Piped(pipe) => pipe.poll_unsent(cx, known),
            _ => Poll::Ready(Ok(0)),
        }
    }

    /// Returns true if the next read will find the end, as far as is known. Only a stream in memory knows.
    pub fn is_at_end(&self) -> bool {
        matches!(self, Stream::Piped(pipe) if pipe.is_at_end())
    }

    /// Returns true while what is read may have been sent before, by anyone: see [`TlsStream::is_early`].
    #[inline]
    pub fn is_early(&self) -> bool {
        matches!(self, Stream::Tls(tls) if tls.is_early())
    }

    /// Becomes ready when the handshake is over, and true unless the client has ended the connection before.
    ///
    /// # Errors
    /// Fails if the connection does, or the client breaks the protocol.
    pub fn poll_secured(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match self {
            Stream::Tls(tls) => tls.poll_secured(cx),
            Stream::Plain(_) | Stream::Piped(_) => Poll::Ready(Ok(true)),
        }
    }

    /// Returns the TLS connection with a client, if it is one.
    pub fn tls(&self) -> Option<&ServerConnection> {
        match self {
            Stream::Plain(_) | Stream::Piped(_) => None,
            Stream::Tls(tls) => tls.connection(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Plain(socket) => socket.as_fd(),
            Stream::Tls(tls) => tls.as_fd(),
            Stream::Piped(_) => unreachable!("a stream in memory is not watched by the event loop"),
        }
    }
}

/// A stream outside of the event loop.
#[derive(Debug)]
pub enum Aside {
    /// In clear.
    Plain(SocketAside),
    /// Over TLS.
    Tls(Box<TlsStream>),
}

impl Aside {
    /// Returns true if there are bytes to read at this instant.
    pub fn has_bytes(&self) -> bool {
        match self {
            Aside::Plain(socket) => socket.has_bytes(),
            Aside::Tls(tls) => tls.has_bytes(),
        }
    }
}

impl AsFd for Aside {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Aside::Plain(socket) => socket.as_fd(),
            Aside::Tls(tls) => tls.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_costs_a_plain_stream_nothing() {
        assert_eq!(size_of::<Stream>(), size_of::<Socket>());
    }
}
