//! A byte stream over TLS, and the handshake that begins it.
//!
//! Owns the order of encryption, flushing and the closing alert. Must never choose a configuration: its caller does, after
//! the client's first message.

use crate::socket::{Socket, SocketAside};
use crate::tls_wire::{AsideWire, KeptWire, TlsWire};
use rustls::server::{Accepted, Acceptor, ReadEarlyData};
use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
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
    /// What the client has sent, if that is wanted.
    kept: Option<Vec<u8>>,
}

impl TlsOpening {
    /// Begins a handshake with what was read of it before. `keeps`: what the client sends first is kept, see
    /// [`TlsOpening::take_hello`].
    ///
    /// # Errors
    /// Fails if that is more than a message may be.
    pub fn new(socket: Socket, mut read: &[u8], keeps: bool) -> Result<TlsOpening, HandshakeFault> {
        let mut acceptor = Acceptor::default();
        let received = read.len();
        let kept = keeps.then(|| read.to_vec());
        while !read.is_empty() {
            acceptor.read_tls(&mut read).map_err(|_| HandshakeFault::TooLong)?;
        }
        Ok(TlsOpening { socket, acceptor, received, kept })
    }

    /// Returns what the client has sent up to its first message, if it was kept.
    pub fn take_hello(&mut self) -> Vec<u8> {
        self.kept.take().unwrap_or_default()
    }

    /// Reads the client's first message.
    pub fn poll_hello(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, HandshakeFault>> {
        loop {
            match self.acceptor.accept() {
                Ok(Some(accepted)) => return Poll::Ready(Ok(accepted)),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    // The client may be gone.
                    let _ = alert.write(&mut TlsWire { socket: &mut self.socket, cx });
                    return Poll::Ready(Err(HandshakeFault::Tls(error)));
                }
            }
            if self.received > MAX_HANDSHAKE {
                return Poll::Ready(Err(HandshakeFault::TooLong));
            }
            let wire = TlsWire { socket: &mut self.socket, cx };
            match self.acceptor.read_tls(&mut KeptWire { wire, kept: self.kept.as_mut() }) {
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
                    is_early: false,
                }))
            }
            Err((error, mut alert)) => {
                let mut cx = Context::from_waker(Waker::noop());
                let _ = alert.write(&mut TlsWire { socket: &mut self.socket, cx: &mut cx });
                Err(HandshakeFault::Tls(error))
            }
        }
    }

    /// Refuses the client: sends it a fatal alert of this number.
    pub fn refuse(mut self, alert: u8) {
        let mut cx = Context::from_waker(Waker::noop());
        let record = [21, 3, 3, 0, 2, 2, alert];
        let _ = TlsWire { socket: &mut self.socket, cx: &mut cx }.write(&record);
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
    /// Whether the client has sent data before the end of its handshake, and neither of them has been read to its end.
    is_early: bool,
}

impl TlsStream {
    /// Begins a handshake with an upstream. It is to be finished by [`TlsStream::poll_handshake`].
    pub fn connect(socket: Socket, mut connection: ClientConnection) -> Box<TlsStream> {
        connection.set_buffer_limit(Some(MAX_UNSENT));
        let (place, connection) = (Place::Open(socket), Connection::Client(connection));
        Box::new(TlsStream {
            place,
            connection,
            encrypted: 0,
            received: 0,
            max_handshake: MAX_UPSTREAM_HANDSHAKE,
            has_more: false,
            is_over: false,
            is_early: false,
        })
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

    /// Finishes the handshake, or its beginning if the client sends early data that is accepted: see [`TlsStream::is_early`].
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeFault>> {
        if !self.is_early && self.early().is_some() {
            self.is_early = true;
            // Some of it may have come with the first message.
            if let Err(error) = self.decrypt(cx) {
                return Poll::Ready(Err(HandshakeFault::Tls(error)));
            }
            self.has_more = true;
        }
        loop {
            ready!(self.poll_flush(cx))?;
            if !self.connection.is_handshaking() || self.is_early {
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

    /// Returns true while what is read was sent before the end of the handshake, or that is still to come: anyone who has seen
    /// the client's first bytes may have sent them again (RFC 8470).
    #[inline]
    pub fn is_early(&self) -> bool {
        self.is_early && self.connection.is_handshaking()
    }

    fn early(&mut self) -> Option<ReadEarlyData<'_>> {
        match &mut self.connection {
            Connection::Server(connection) => connection.early_data(),
            Connection::Client(_) => None,
        }
    }

    /// Becomes ready when the handshake is over, and true unless the client has ended the connection; early data may still be
    /// left to read.
    ///
    /// # Errors
    /// Fails if the connection does, or the client breaks the protocol.
    pub fn poll_secured(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.connection.is_handshaking() {
            match self.read_records(cx) {
                Ok(0) => return Poll::Ready(Ok(false)),
                Ok(_) => self.has_more = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => {
                    self.is_over = true;
                    return Poll::Ready(Err(error));
                }
            }
            self.decrypt_more(cx)?;
        }
        Poll::Ready(Ok(true))
    }

    /// Decrypts what was read after the handshake, or its beginning, and answers what is to be answered.
    fn decrypt_more(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.decrypt(cx).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        // An answer to a change of keys, or tickets. What does not go now goes with the next write.
        if self.encrypted == 0 && self.connection.wants_write() {
            let _ = self.poll_flush(cx);
        }
        Ok(())
    }

    /// Reads early data; `None` if none is left.
    fn read_early(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let is_handshaking = self.connection.is_handshaking();
        let count = self.early().and_then(|mut early| early.read(buffer).ok()).unwrap_or_default();
        self.is_early = count > 0 || is_handshaking;
        (count > 0).then_some(count)
    }

    fn read_records(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        let Place::Open(socket) = &mut self.place else { return Err(io::ErrorKind::NotConnected.into()) };
        self.connection.read_tls(&mut TlsWire { socket, cx })
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
            match self.connection.write_tls(&mut TlsWire { socket, cx }) {
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
            if self.is_early
                && !buffer.is_empty()
                && let Some(count) = self.read_early(buffer)
            {
                self.has_more = true;
                return Poll::Ready(Ok(count));
            }
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
                // It has ended within the handshake: nothing else would say so.
                Ok(0) if self.is_early => return Poll::Ready(Ok(0)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => {
                    self.is_over = true;
                    return Poll::Ready(Err(error));
                }
            }
            self.decrypt_more(cx)?;
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
