//! Connecting to a peer.

use crate::patience::{Patience, TimedOut};
use crate::stream::Stream;
use nix::errno::Errno;
use nix::sys::socket::sockopt::KeepAlive;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::task::Poll;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use upstream::Address;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The system's word.
    Failed(io::Error),
    /// This machine is out of something: the peer was not even asked.
    Exhausted(io::Error),
    /// It took too long.
    TimedOut,
    /// The client that wanted it is gone.
    ClientGone,
}

/// Connects within so many milliseconds, as long as the client that is watched, if one is, does not go.
/// `keepalive` is SO_KEEPALIVE (`proxy_socket_keepalive`).
pub(crate) async fn connect(
    address: &Address,
    timeout_ms: u64,
    keepalive: bool,
    patience: &mut Patience,
    client: Option<&Stream>,
) -> Result<Stream, ConnectError> {
    let connected = patience.wait(timeout_ms, unless_gone(client, open(address, keepalive))).await;
    match connected {
        Ok(Some(Ok(stream))) => Ok(stream),
        Ok(Some(Err(error))) if is_ours(&error) => Err(ConnectError::Exhausted(error)),
        Ok(Some(Err(error))) => Err(ConnectError::Failed(error)),
        Ok(None) => Err(ConnectError::ClientGone),
        Err(TimedOut) => Err(ConnectError::TimedOut),
    }
}

/// What comes of `what`, or nothing if the client goes before. One that sends more stays, for all that can be known.
pub(crate) async fn unless_gone<T>(mut client: Option<&Stream>, what: impl Future<Output = T>) -> Option<T> {
    let mut what = pin!(what);
    poll_fn(|cx| {
        if let Poll::Ready(value) = what.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        match client.map(|client| client.poll_closed(cx)) {
            Some(Poll::Ready(true)) => return Poll::Ready(None),
            Some(Poll::Ready(false)) => client = None,
            Some(Poll::Pending) | None => {}
        }
        Poll::Pending
    })
    .await
}

/// Is it a lack of descriptors or memory here?
fn is_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

async fn open(address: &Address, keepalive: bool) -> io::Result<Stream> {
    #[cfg(test)]
    if let Some(connecting) = crate::simulation::connect(address) {
        return connecting.await;
    }
    match address {
        Address::Inet(address) => {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            let socket = socket::socket(family, SockType::Stream, flags, None)?;
            if keepalive {
                socket::setsockopt(&socket, KeepAlive, &true)?;
            }
            match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(*address)) {
                Ok(()) | Err(Errno::EINPROGRESS) => {}
                Err(error) => return Err(error.into()),
            }
            let stream = TcpStream::from_std(socket.into())?;
            // A connection that failed is told as closed, so that only then the socket need be asked why.
            if stream.ready(Interest::WRITABLE).await?.is_write_closed()
                && let Some(error) = stream.take_error()?
            {
                return Err(error);
            }
            Ok(Stream::Tcp(stream))
        }
        Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
    }
}
