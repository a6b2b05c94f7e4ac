//! Connecting to a peer.

use super::fault::UpstreamFault;
use crate::context::timeout::{TimedOut, Timeout};
use nix::errno::Errno;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use transport::stream::{BindFailed, Stream};
use upstream::Address;

/// How a connection is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectOptions {
    /// How long that may take.
    pub(super) timeout_ms: u64,
    /// SO_KEEPALIVE (`proxy_socket_keepalive`).
    pub(super) keepalive: bool,
    /// The address to connect from, the configuration's (`proxy_bind`) or a script's; `None` leaves it to the system.
    pub(super) local: Option<SocketAddr>,
}

/// Connects, unless the client that is watched, if one is, leaves first.
pub(super) async fn connect(
    address: &Address,
    options: ConnectOptions,
    timeout: &mut Timeout,
    client: Option<&Stream>,
) -> Result<Stream, UpstreamFault> {
    match timeout.wait(options.timeout_ms, unless_gone(client, open(address, options))).await {
        Ok(Some(Ok(stream))) => Ok(stream),
        Ok(Some(Err(error))) if let Some(errno) = bind_failed(&error) => {
            Err(UpstreamFault::Bind(options.local, errno.into()))
        }
        Ok(Some(Err(error))) if is_ours(&error) => Err(UpstreamFault::Exhausted(error)),
        Ok(Some(Err(error))) => Err(UpstreamFault::Connect(address.clone(), error)),
        Ok(None) => Err(UpstreamFault::ClientLeft),
        Err(TimedOut) => Err(UpstreamFault::TimedOut),
    }
}

/// Waits for `event`; returns `None` if the client leaves first. One that sends more is there, as far as can be known.
pub(super) async fn unless_gone<T>(mut client: Option<&Stream>, event: impl Future<Output = T>) -> Option<T> {
    let mut event = pin!(event);
    poll_fn(|cx| {
        if let Poll::Ready(value) = event.as_mut().poll(cx) {
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

/// Returns why the address to connect from cannot be had.
fn bind_failed(error: &io::Error) -> Option<Errno> {
    error.get_ref()?.downcast_ref().map(|BindFailed(errno)| *errno)
}

/// Returns true if this machine lacks descriptors or memory.
fn is_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

async fn open(address: &Address, options: ConnectOptions) -> io::Result<Stream> {
    #[cfg(test)]
    if let Some(connecting) = crate::simulation::connect(address) {
        return connecting.await;
    }
    match options.local {
        None => Stream::connect(address, options.keepalive).await,
        Some(local) => Stream::connect_from(local, address, options.keepalive).await,
    }
}
