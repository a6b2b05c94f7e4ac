//! One connection of a script: a stream, a timer for each of its sides, and its place in the count.

use super::timer::LazyTimer;
use crate::context::conn_state::ConnCount;
use engine::network::{
    DialedConnection, Direction, Handshake, HandshakeFault, HandshakeRequest, SocketOption,
};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tls::{Contexts, ScriptCertificate, ScriptContext, ScriptHandshakeFault, ScriptSession, script_fault};
use transport::clock;
use transport::stream::Stream;
use transport::tls_stream::TlsStream;

/// See the module.
pub(super) struct ScriptConnection {
    /// Gone only while it changes over to TLS, or after that has failed.
    stream: Option<Stream>,
    /// The handshake under way, and what was wanted of the one that is over.
    tls: Option<TlsUse>,
    contexts: Arc<Contexts>,
    reading: LazyTimer,
    writing: LazyTimer,
    /// It counts among the thread's connections.
    _count: ConnCount,
}

/// How a connection is over TLS.
struct TlsUse {
    name: Vec<u8>,
    verifies: bool,
    certificate: Option<ScriptCertificate>,
    /// What it was made under.
    context: Arc<ScriptContext>,
    /// Until the handshake is over.
    opening: Option<Box<TlsStream>>,
}

impl ScriptConnection {
    pub(super) fn new(stream: Stream, contexts: Arc<Contexts>, count: ConnCount) -> ScriptConnection {
        let (reading, writing) = Default::default();
        ScriptConnection { stream: Some(stream), tls: None, contexts, reading, writing, _count: count }
    }

    fn stream(&mut self) -> io::Result<&mut Stream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        let stream = self.stream.as_ref().ok_or(io::Error::from(io::ErrorKind::NotConnected))?;
        Ok(stream.as_fd())
    }
}

fn fault(text: impl Into<String>) -> HandshakeFault {
    HandshakeFault { text: text.into(), log: None }
}

impl DialedConnection for ScriptConnection {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_read(cx, buffer)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_stirred(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut self.stream {
            None => Poll::Ready(true),
            // What has come may be a ticket, which no one reads.
            Some(Stream::Tls(tls)) => match tls.poll_read(cx, &mut [0]) {
                Poll::Ready(Ok(1)) => Poll::Ready(false),
                Poll::Ready(_) => Poll::Ready(true),
                Poll::Pending => Poll::Pending,
            },
            Some(stream) => stream.poll_closed(cx),
        }
    }

    fn option(&self, option: SocketOption) -> io::Result<i32> {
        let fd = &self.fd()?;
        let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        Ok(match option {
            SocketOption::KeepAlive => getsockopt(fd, sockopt::KeepAlive)?.into(),
            SocketOption::ReuseAddress => getsockopt(fd, sockopt::ReuseAddr)?.into(),
            SocketOption::NoDelay => getsockopt(fd, sockopt::TcpNoDelay)?.into(),
            SocketOption::SendBuffer => size(getsockopt(fd, sockopt::SndBuf)?),
            SocketOption::ReceiveBuffer => size(getsockopt(fd, sockopt::RcvBuf)?),
        })
    }

    fn set_option(&self, option: SocketOption, value: i32) -> io::Result<()> {
        let fd = &self.fd()?;
        let size = usize::try_from(value).unwrap_or(0);
        match option {
            SocketOption::KeepAlive => setsockopt(fd, sockopt::KeepAlive, &(value != 0))?,
            SocketOption::ReuseAddress => setsockopt(fd, sockopt::ReuseAddr, &(value != 0))?,
            SocketOption::NoDelay => setsockopt(fd, sockopt::TcpNoDelay, &(value != 0))?,
            SocketOption::SendBuffer => setsockopt(fd, sockopt::SndBuf, &size)?,
            SocketOption::ReceiveBuffer => setsockopt(fd, sockopt::RcvBuf, &size)?,
        }
        Ok(())
    }

    fn begin_handshake(&mut self, wanted: &HandshakeRequest) -> Result<Handshake, HandshakeFault> {
        let Some(context) = self.contexts.scripts.get(wanted.location) else { return Err(fault("no TLS")) };
        let certificate = wanted.certificate.as_ref();
        let certificate = certificate.and_then(|given| given.downcast_ref::<ScriptCertificate>()).cloned();
        if let Some(tls) = &self.tls {
            let shows_same = match (&tls.certificate, &certificate) {
                (None, None) => true,
                (Some(shown), Some(wanted)) => shown.is_same(wanted),
                _ => false,
            };
            let is_same = tls.name == wanted.name && tls.verifies == wanted.verifies && shows_same;
            return Ok(match is_same && Arc::ptr_eq(&tls.context, context) {
                true => Handshake::Done,
                false => Handshake::Other,
            });
        }
        let session = wanted.session.as_ref().and_then(|session| session.downcast_ref::<ScriptSession>());
        let opened =
            context.connect(&wanted.name, wanted.verifies, session, certificate.as_ref()).map_err(fault)?;
        let context = Arc::clone(context);
        match self.stream.take() {
            Some(Stream::Plain(socket)) => {
                let opening = Some(TlsStream::connect(socket, opened));
                let (name, verifies) = (wanted.name.clone(), wanted.verifies);
                self.tls = Some(TlsUse { name, verifies, certificate, context, opening });
                Ok(Handshake::Begun)
            }
            _ => Err(fault("closed")),
        }
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeFault>> {
        let Some(TlsUse { name, opening, .. }) = &mut self.tls else { return Poll::Ready(Ok(())) };
        let Some(tls) = opening else { return Poll::Ready(Ok(())) };
        let shaken = ready!(tls.poll_handshake(cx));
        let opened = opening.take();
        Poll::Ready(match shaken {
            Ok(()) => {
                self.stream = opened.map(Stream::Tls);
                Ok(())
            }
            Err(transport::tls_stream::HandshakeFault::Tls(error)) => {
                let ScriptHandshakeFault { text, log } = script_fault(&error, name);
                Err(HandshakeFault { text, log })
            }
            Err(_) => Err(fault("handshake failed")),
        })
    }

    fn start_timer(&mut self, direction: Direction, ms: u64) {
        match direction {
            Direction::Read => self.reading.start(ms),
            Direction::Write => self.writing.start(ms),
        }
    }

    fn poll_timer(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match direction {
            Direction::Read => &mut self.reading,
            Direction::Write => &mut self.writing,
        };
        let elapsed = timer.poll(cx);
        if elapsed.is_pending() {
            clock::turn();
        }
        elapsed
    }
}
