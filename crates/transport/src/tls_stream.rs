//! A byte stream over TLS, and the handshake that begins it.
//!
//! Owns the order of encryption, flushing and the closing alert. Must never choose a configuration: its caller does, after
//! the client's first message.

use crate::socket::{Socket, SocketAside};
use rustls::server::{Accepted, Acceptor};
use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

/// The most that a handshake may hold of what a client has sent.
const MAX_HANDSHAKE: usize = 32 << 10;

/// The same for what an upstream has sent: long chains, and names of authorities.
const MAX_UPSTREAM_HANDSHAKE: usize = 128 << 10;

/// The most plaintext that is encrypted before it is sent: two records.
const MAX_UNSENT: usize = 32 << 10;

/// Why a handshake failed.
#[derive(Debug)]
pub enum HandshakeFault {
    /// The peer has ended the connection.
    Closed,
    /// The connection failed.
    Io(io::Error),
    /// The peer breaks the protocol, wants what is not configured, or has refused.
    Tls(rustls::Error),
    /// The peer's messages are too long.
    TooLong,
}

impl From<io::Error> for HandshakeFault {
    fn from(error: io::Error) -> Self {
        HandshakeFault::Io(error)
    }
}

/// A connection whose client has not sent its first message yet.
pub struct TlsOpening {
    socket: Socket,
    acceptor: Acceptor,
    received: usize,
}

impl TlsOpening {
    /// Begins a handshake with what was read of it before.
    ///
    /// # Errors
    /// Fails if that is more than a message may be.
    pub fn new(socket: Socket, mut read: &[u8]) -> Result<TlsOpening, HandshakeFault> {
        let mut acceptor = Acceptor::default();
        let received = read.len();
        while !read.is_empty() {
            acceptor.read_tls(&mut read).map_err(|_| HandshakeFault::TooLong)?;
        }
        Ok(TlsOpening { socket, acceptor, received })
    }

    /// Reads the client's first message.
    pub fn poll_hello(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, HandshakeFault>> {
        loop {
            match self.acceptor.accept() {
                Ok(Some(accepted)) => return Poll::Ready(Ok(accepted)),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    // The client may be gone.
                    let _ = alert.write(&mut Wire { socket: &mut self.socket, cx });
                    return Poll::Ready(Err(HandshakeFault::Tls(error)));
                }
            }
            if self.received > MAX_HANDSHAKE {
                return Poll::Ready(Err(HandshakeFault::TooLong));
            }
            match self.acceptor.read_tls(&mut Wire { socket: &mut self.socket, cx }) {
                Ok(0) => return Poll::Ready(Err(HandshakeFault::Closed)),
                Ok(count) => self.received += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Goes on under this configuration. The handshake is to be finished by [`TlsStream::poll_handshake`].
    ///
    /// # Errors
    /// Fails if nothing that the client offers is configured; it gets the alert.
    pub fn accept(
        mut self,
        accepted: Accepted,
        config: Arc<ServerConfig>,
    ) -> Result<Box<TlsStream>, HandshakeFault> {
        match accepted.into_connection(config) {
            Ok(mut connection) => {
                connection.set_buffer_limit(Some(MAX_UNSENT));
                let place = Place::Open(self.socket);
                let connection = Connection::Server(connection);
                Ok(Box::new(TlsStream {
                    place,
                    connection,
                    encrypted: 0,
                    received: self.received,
                    max_handshake: MAX_HANDSHAKE,
                    has_more: false,
                    is_over: false,
                }))
            }
            Err((error, mut alert)) => {
                let mut cx = Context::from_waker(Waker::noop());
                let _ = alert.write(&mut Wire { socket: &mut self.socket, cx: &mut cx });
                Err(HandshakeFault::Tls(error))
            }
        }
    }

    /// Refuses the client: sends it a fatal alert of this number.
    pub fn refuse(mut self, alert: u8) {
        let mut cx = Context::from_waker(Waker::noop());
        let record = [21, 3, 3, 0, 2, 2, alert];
        let _ = Wire { socket: &mut self.socket, cx: &mut cx }.write(&record);
    }
}

/// Whether the socket is in the event loop.
#[derive(Debug)]
enum Place {
    Open(Socket),
    Aside(SocketAside),
    /// It was closed while it changed its place.
    Gone,
}

/// A stream over TLS.
#[derive(Debug)]
pub struct TlsStream {
    place: Place,
    connection: Connection,
    /// Bytes of the write under way that are encrypted and not all sent.
    encrypted: usize,
    /// Bytes received during the handshake.
    received: usize,
    /// The most that they may be.
    max_handshake: usize,
    /// Whether decrypted bytes may be left.
    has_more: bool,
    /// Whether nothing more may be sent, not even the closing alert.
    is_over: bool,
}

impl TlsStream {
    /// Begins a handshake with an upstream. It is to be finished by [`TlsStream::poll_handshake`].
    pub fn connect(socket: Socket, mut connection: ClientConnection) -> Box<TlsStream> {
        connection.set_buffer_limit(Some(MAX_UNSENT));
        let (encrypted, received, has_more, is_over) = Default::default();
        let (place, connection) = (Place::Open(socket), Connection::Client(connection));
        let max_handshake = MAX_UPSTREAM_HANDSHAKE;
        Box::new(TlsStream { place, connection, encrypted, received, max_handshake, has_more, is_over })
    }

    /// Returns what the handshake with a client agreed on; `None` with an upstream.
    pub fn connection(&self) -> Option<&ServerConnection> {
        match &self.connection {
            Connection::Server(connection) => Some(connection),
            Connection::Client(_) => None,
        }
    }

    /// Returns the connection with a client, to be prepared before its handshake goes on.
    pub fn connection_mut(&mut self) -> Option<&mut ServerConnection> {
        match &mut self.connection {
            Connection::Server(connection) => Some(connection),
            Connection::Client(_) => None,
        }
    }

    /// Finishes the handshake.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeFault>> {
        loop {
            ready!(self.poll_flush(cx))?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.received > self.max_handshake {
                self.is_over = true;
                return Poll::Ready(Err(HandshakeFault::TooLong));
            }
            match self.read_records(cx) {
                Ok(0) => {
                    self.is_over = true;
                    return Poll::Ready(Err(HandshakeFault::Closed));
                }
                Ok(count) => self.received += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => {
                    self.is_over = true;
                    return Poll::Ready(Err(error.into()));
                }
            }
            if let Err(error) = self.decrypt(cx) {
                return Poll::Ready(Err(HandshakeFault::Tls(error)));
            }
            self.has_more = true;
        }
    }

    fn read_records(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        let Place::Open(socket) = &mut self.place else { return Err(io::ErrorKind::NotConnected.into()) };
        self.connection.read_tls(&mut Wire { socket, cx })
    }

    /// Decrypts what was read. After a fault the peer has the alert, and nothing more is sent.
    fn decrypt(&mut self, cx: &mut Context<'_>) -> Result<(), rustls::Error> {
        let result = self.connection.process_new_packets().map(drop);
        if result.is_err() {
            let _ = self.poll_flush(cx);
            self.is_over = true;
        }
        result
    }

    /// Sends what is encrypted.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Place::Open(socket) = &mut self.place else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Wire { socket, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => {
                    self.is_over = true;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.place {
            _ if self.has_more => Poll::Ready(Ok(())),
            Place::Open(socket) => socket.poll_readable(cx),
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Reads decrypted bytes into `buffer`; 0 is the peer's end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.connection.reader().read(buffer) {
                Ok(count) => {
                    self.has_more = count == buffer.len();
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.has_more = false,
                // A close without the closing alert: nginx takes it as the end, too.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.read_records(cx) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => {
                    self.is_over = true;
                    return Poll::Ready(Err(error));
                }
            }
            if let Err(error) = self.decrypt(cx) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            // An answer to a change of keys. What does not go now goes with the next write.
            if self.encrypted == 0 && self.connection.wants_write() {
                let _ = self.poll_flush(cx);
            }
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.encrypted == 0 {
            self.encrypted = self.connection.writer().write_vectored(parts)?;
        }
        ready!(self.poll_flush(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.encrypted)))
    }

    pub(crate) fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &File,
        offset: &mut u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        if self.encrypted == 0 {
            let mut buffer = [0; MAX_UNSENT];
            let want = len.min(buffer.len());
            match file.read_at(&mut buffer[..want], *offset)? {
                0 => return Poll::Ready(Ok(0)),
                count => self.encrypted = self.connection.writer().write(&buffer[..count])?,
            }
        }
        ready!(self.poll_flush(cx))?;
        let sent = std::mem::take(&mut self.encrypted);
        *offset += sent as u64;
        Poll::Ready(Ok(sent))
    }

    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<bool> {
        match &self.place {
            // The closing alert comes before the end.
            Place::Open(socket) => socket.poll_closed(cx).map(|closed| closed || socket.has_peer_ended()),
            _ => Poll::Ready(true),
        }
    }

    pub(crate) fn has_bytes(&self) -> bool {
        self.has_more
            || match &self.place {
                Place::Open(socket) => socket.has_bytes(),
                Place::Aside(socket) => socket.has_bytes(),
                Place::Gone => false,
            }
    }

    pub(crate) fn is_silent(&self) -> bool {
        !self.has_more && matches!(&self.place, Place::Open(socket) if socket.is_silent())
    }

    pub(crate) fn set_aside(mut self: Box<Self>) -> io::Result<Box<Self>> {
        if let Place::Open(socket) = std::mem::replace(&mut self.place, Place::Gone) {
            self.place = Place::Aside(socket.set_aside()?);
        }
        Ok(self)
    }

    pub(crate) fn resume(mut self: Box<Self>) -> io::Result<Box<Self>> {
        if let Place::Aside(socket) = std::mem::replace(&mut self.place, Place::Gone) {
            self.place = Place::Open(Socket::resume(socket)?);
        }
        Ok(self)
    }

    pub(crate) fn shut_down_write(&mut self) {
        self.send_close();
        if let Place::Open(socket) = &self.place {
            socket.shut_down_write();
        }
    }

    pub(crate) fn reset_on_close(&mut self) {
        self.is_over = true;
        if let Place::Open(socket) = &self.place {
            socket.reset_on_close();
        }
    }

    /// Sends the closing alert, unless it was sent, a write is under way, or the connection has failed.
    fn send_close(&mut self) {
        if std::mem::replace(&mut self.is_over, true)
            || self.connection.is_handshaking()
            || self.encrypted > 0
        {
            return;
        }
        self.connection.send_close_notify();
        // What does not go at once is not waited for.
        match &mut self.place {
            Place::Open(_) => {
                let _ = self.poll_flush(&mut Context::from_waker(Waker::noop()));
            }
            Place::Aside(socket) => {
                let _ = self.connection.write_tls(&mut AsideWire(socket));
            }
            Place::Gone => {}
        }
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        self.send_close();
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.place {
            Place::Open(socket) => socket.as_fd(),
            Place::Aside(socket) => socket.as_fd(),
            Place::Gone => unreachable!("a stream whose socket is gone was dropped with it"),
        }
    }
}

/// The socket as rustls reads and writes it; what would wait registers the task.
struct Wire<'a, 'b, 'c> {
    socket: &'a mut Socket,
    cx: &'b mut Context<'c>,
}

fn at_once(poll: Poll<io::Result<usize>>) -> io::Result<usize> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Wire<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        at_once(self.socket.poll_read(self.cx, buffer))
    }
}

impl Write for Wire<'_, '_, '_> {
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
struct AsideWire<'a>(&'a SocketAside);

impl Write for AsideWire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = nix::sys::socket::MsgFlags::MSG_NOSIGNAL | nix::sys::socket::MsgFlags::MSG_DONTWAIT;
        Ok(nix::sys::socket::send(self.0.as_fd().as_raw_fd(), bytes, flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
