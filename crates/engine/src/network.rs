//! What sockets of scripts need of the network; the server implements it ([`crate::Host::dial`]).
//!
//! Everything is polled: a script tries first, and waits only if it must. Nothing here knows a script.

use crate::config::ids::LocationId;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use upstream::Address;

/// Something that a script waits for. Its result is with the one who made it.
pub struct Waiting(Pin<Box<dyn Future<Output = ()>>>);

impl Waiting {
    /// Makes a wait of a future.
    pub fn new(event: impl Future<Output = ()> + 'static) -> Waiting {
        Waiting(Box::pin(event))
    }
}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Waiting")
    }
}

/// A wait is equal to itself alone.
impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(&raw const *self.0, &raw const *other.0)
    }
}

impl Eq for Waiting {}

/// The two sides of a connection, each with a timer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received bytes.
    Read,
    /// Sent bytes; the connection's beginning, too.
    Write,
}

/// An option of a socket that scripts may get and set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOption {
    /// SO_KEEPALIVE
    KeepAlive,
    /// SO_REUSEADDR
    ReuseAddress,
    /// TCP_NODELAY
    NoDelay,
    /// SO_SNDBUF
    SendBuffer,
    /// SO_RCVBUF
    ReceiveBuffer,
}

/// A connection that a script has opened. It counts against `worker_connections` as long as it exists.
pub trait DialedConnection {
    /// Reads what is there into `buffer`; 0 is the peer's end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Writes; returns how many bytes were written. After `Pending`, the next call must begin with the same bytes.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// Becomes ready with true when the peer has closed its side, and with false when it has sent something, which may be
    /// lost then.
    fn poll_stirred(&mut self, cx: &mut Context<'_>) -> Poll<bool>;
    /// Gets an option.
    ///
    /// # Errors
    /// Fails with the system's error, and if there are no options.
    fn option(&self, _option: SocketOption) -> io::Result<i32> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Sets an option.
    ///
    /// # Errors
    /// Fails with the system's error, and if there are no options.
    fn set_option(&self, _option: SocketOption, _value: i32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Starts a side's timer: it elapses in `ms`.
    fn start_timer(&mut self, direction: Direction, ms: u64);
    /// Becomes ready when the side's timer has elapsed.
    fn poll_timer(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<()>;
    /// Begins a handshake of TLS, unless it is over TLS already.
    ///
    /// # Errors
    /// Fails if there can be none.
    fn begin_handshake(&mut self, wanted: &HandshakeRequest) -> Result<Handshake, HandshakeFault>;
    /// Finishes the handshake, if there can be one.
    fn poll_handshake(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandshakeFault>> {
        Poll::Ready(Ok(()))
    }
}

/// A handshake of TLS that a script wants.
#[derive(Clone)]
pub struct HandshakeRequest {
    /// The name that is sent, and that the certificate must be for if it is verified; empty is none.
    pub name: Vec<u8>,
    /// Whether the peer's certificate is verified.
    pub verifies: bool,
    /// The session to resume, and where one is put that can be; [`crate::Host::tls_session`] makes it.
    pub session: Option<Rc<dyn Any>>,
    /// The certificate to show instead of `lua_ssl_certificate`; [`crate::Host::tls_certificate`] makes it.
    pub certificate: Option<Rc<dyn Any>>,
    /// The location whose `lua_ssl_…` count.
    pub location: LocationId,
}

/// The state of a connection whose script wants TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// It has begun.
    Begun,
    /// The connection is over TLS, as is wanted.
    Done,
    /// The connection is over TLS, but with another name, or verified otherwise: it is of no use.
    Other,
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFault {
    /// The text for the script.
    pub text: String,
    /// The line of the error log, if there is one.
    pub log: Option<String>,
}

/// Where a script wants to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address.
    Known(Address),
    /// A name, for the location's `resolver`, and a port.
    Name(String, u16),
}

/// A connection that a script wants.
#[derive(Clone, Debug)]
pub struct DialRequest {
    /// Where to.
    pub destination: Destination,
    /// How long to wait for the connection, apart from the name, in ms.
    pub timeout_ms: u64,
    /// The address to connect from.
    pub local: Option<IpAddr>,
    /// The location whose `resolver` counts.
    pub location: LocationId,
    /// Datagrams are wanted, and no stream.
    pub is_datagram: bool,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialFault {
    /// The text for the script.
    pub text: String,
    /// The line of the error log, if there is one.
    pub log: Option<String>,
    /// The line is critical, and not an error alone.
    pub is_critical: bool,
}

/// A connection that is being made, from when this is first polled on.
pub type Dialing = Pin<Box<dyn Future<Output = Result<Box<dyn DialedConnection>, DialFault>>>>;

/// A request's body on its way to the script that reads it (`ngx.req.socket`): the server puts in what comes while the script
/// waits, and only then. A raw one is all that the client sends, and takes what the script sends to it.
#[derive(Debug, Default)]
pub struct BodyTap {
    bytes: RefCell<Vec<u8>>,
    taken: Cell<usize>,
    end: Cell<Option<TapEnd>>,
    is_wanted: Cell<bool>,
    outgoing: Option<RefCell<Outgoing>>,
}

/// Bytes that a script has sent to its client past the answer, and the connection has not taken.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The client takes no more.
    pub has_failed: bool,
}

/// How much of that there may be.
const MOST_OUTGOING: usize = 64 << 10;

/// How a tapped body has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapEnd {
    /// It is whole.
    Whole,
    /// The client has left, or breaks the protocol.
    Aborted,
}

impl BodyTap {
    /// Makes a raw one, which sends these bytes first.
    pub fn raw(first: Vec<u8>) -> BodyTap {
        let outgoing = Outgoing { bytes: first, has_failed: false };
        BodyTap { outgoing: Some(RefCell::new(outgoing)), ..BodyTap::default() }
    }

    /// Returns true if the script has the client's whole connection.
    pub fn is_raw(&self) -> bool {
        self.outgoing.is_some()
    }

    /// Calls `act` with what is to be sent; `None` if nothing can be.
    pub fn with_outgoing<R>(&self, act: impl FnOnce(&mut Outgoing) -> R) -> Option<R> {
        self.outgoing.as_ref().map(|outgoing| act(&mut outgoing.borrow_mut()))
    }

    /// Takes bytes that the script sends, and returns how many. `None`: there is no room now.
    ///
    /// # Errors
    /// Fails if the client takes no more.
    pub fn send(&self, bytes: &[u8]) -> Option<Result<usize, TapEnd>> {
        let Some(outgoing) = &self.outgoing else { return Some(Err(TapEnd::Whole)) };
        let mut outgoing = outgoing.borrow_mut();
        if outgoing.has_failed {
            return Some(Err(TapEnd::Aborted));
        }
        let count = bytes.len().min(MOST_OUTGOING.saturating_sub(outgoing.bytes.len()));
        if count == 0 && !bytes.is_empty() {
            return None;
        }
        outgoing.bytes.extend_from_slice(&bytes[..count]);
        Some(Ok(count))
    }

    /// Returns true if the script waits for more.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted.get() && self.end.get().is_none()
    }

    /// Puts more of the body in.
    pub fn put(&self, bytes: &[u8]) {
        self.is_wanted.set(false);
        self.bytes.borrow_mut().extend_from_slice(bytes);
    }

    /// Ends the body.
    pub fn end(&self, end: TapEnd) {
        self.is_wanted.set(false);
        self.end.set(Some(end));
    }

    /// Takes bytes out; 0 is the end. `None`: there are none yet, and they are wanted now.
    pub fn take(&self, buffer: &mut [u8]) -> Option<Result<usize, TapEnd>> {
        let mut bytes = self.bytes.borrow_mut();
        let here = &bytes[self.taken.get()..];
        let count = here.len().min(buffer.len());
        if count == 0 {
            return match self.end.get() {
                None => {
                    self.is_wanted.set(true);
                    None
                }
                Some(TapEnd::Whole) => Some(Ok(0)),
                Some(TapEnd::Aborted) => Some(Err(TapEnd::Aborted)),
            };
        }
        buffer[..count].copy_from_slice(&here[..count]);
        self.taken.set(self.taken.get() + count);
        if self.taken.get() == bytes.len() {
            bytes.clear();
            self.taken.set(0);
        }
        Some(Ok(count))
    }
}
