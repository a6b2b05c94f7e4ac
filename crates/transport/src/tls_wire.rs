//! A socket as rustls reads and writes it.

use crate::socket::{Socket, SocketAside};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::task::{Context, Poll};

/// The socket as rustls reads and writes it; what would wait registers the task.
pub(crate) struct TlsWire<'a, 'b, 'c> {
    pub(crate) socket: &'a mut Socket,
    pub(crate) cx: &'b mut Context<'c>,
}

fn at_once(poll: Poll<io::Result<usize>>) -> io::Result<usize> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for TlsWire<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        at_once(self.socket.poll_read(self.cx, buffer))
    }
}

/// The socket, whose bytes are kept as they are read, if that is wanted.
pub(crate) struct KeptWire<'a, 'b, 'c> {
    pub(crate) wire: TlsWire<'a, 'b, 'c>,
    pub(crate) kept: Option<&'a mut Vec<u8>>,
}

impl Read for KeptWire<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.wire.read(buffer)?;
        if let (Some(kept), Some(read)) = (&mut self.kept, buffer.get(..count)) {
            kept.extend_from_slice(read);
        }
        Ok(count)
    }
}

impl Write for TlsWire<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        at_once(self.socket.poll_write(self.cx, parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same for a socket outside of the event loop.
pub(crate) struct AsideWire<'a>(pub(crate) &'a SocketAside);

impl Write for AsideWire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = nix::sys::socket::MsgFlags::MSG_NOSIGNAL | nix::sys::socket::MsgFlags::MSG_DONTWAIT;
        Ok(nix::sys::socket::send(self.0.as_fd().as_raw_fd(), bytes, flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
