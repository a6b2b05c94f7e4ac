//! Connecting to a peer.

use crate::patience::{Patience, TimedOut};
use crate::stream::Stream;
use std::io;
use tokio::net::{TcpSocket, UnixStream};
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
}

/// Connects within so many milliseconds. `keepalive` is SO_KEEPALIVE (`proxy_socket_keepalive`).
pub(crate) async fn connect(
    address: &Address,
    timeout_ms: u64,
    keepalive: bool,
    patience: &mut Patience,
) -> Result<Stream, ConnectError> {
    let connected = patience.wait(timeout_ms, open(address, keepalive)).await;
    match connected {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if is_ours(&error) => Err(ConnectError::Exhausted(error)),
        Ok(Err(error)) => Err(ConnectError::Failed(error)),
        Err(TimedOut) => Err(ConnectError::TimedOut),
    }
}

/// Is it a lack of descriptors or memory here?
fn is_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

async fn open(address: &Address, keepalive: bool) -> io::Result<Stream> {
    match address {
        Address::Inet(address) => {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_nodelay(true)?;
            if keepalive {
                socket.set_keepalive(true)?;
            }
            Ok(Stream::Tcp(socket.connect(*address).await?))
        }
        Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
    }
}
