//! Asks name servers one query until one of them answers.
//!
//! Owns the sockets of the query. Must never give up while a caller waits: callers decide for how long.

use super::fault::ResolveFault;
use super::message::{Answer, Query, Reply};
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep_until};

/// After how long without an answer the next server is asked; fixed in nginx.
const REPEAT_AFTER: Duration = Duration::from_secs(5);

/// Octets that a datagram may have. Without EDNS a server sends 512; nginx leaves as much room.
const DATAGRAM: usize = 4096;

/// A server's answer, or its refusal.
pub(super) type Said = Result<Answer, ResolveFault>;

/// No caller waits for the answer any more.
#[derive(Debug)]
pub(super) struct Abandoned;

/// A query to one server; `None` if the reply is of no use.
type Attempt<'a> = Pin<Box<dyn Future<Output = Option<Said>> + 'a>>;

/// Asks one server after the other, beginning with the one of this number: every five seconds the next, and at once
/// when one is out of order. When each is out of order, they are asked again after the five seconds. The last server
/// but one may still answer.
///
/// Ends unanswered when it would be time to repeat the query and it is not `wanted` any more.
pub(super) async fn ask(
    servers: &[SocketAddr],
    first: usize,
    query: &Query,
    wanted: impl Fn() -> bool,
) -> Result<Said, Abandoned> {
    let mut turns = servers.iter().cycle().skip(first);
    let mut attempt = || turns.next().map(|server| -> Attempt<'_> { Box::pin(ask_one(*server, query)) });
    let mut current = attempt();
    let mut earlier = None;
    let mut untried = servers.len().saturating_sub(1);
    let mut repeat_at = Instant::now() + REPEAT_AFTER;
    loop {
        tokio::select! {
            said = end_of(&mut current) => {
                current = None;
                match said {
                    Some(said) => return Ok(said),
                    None if untried == 0 => continue,
                    None => untried -= 1,
                }
            }
            said = end_of(&mut earlier) => {
                earlier = None;
                match said {
                    Some(said) => return Ok(said),
                    None => continue,
                }
            }
            () = sleep_until(repeat_at) => {
                if !wanted() {
                    return Err(Abandoned);
                }
                untried = servers.len().saturating_sub(1);
            }
        }
        if current.is_some() {
            earlier = current;
        }
        current = attempt();
        repeat_at = Instant::now() + REPEAT_AFTER;
    }
}

async fn end_of(attempt: &mut Option<Attempt<'_>>) -> Option<Said> {
    match attempt {
        Some(attempt) => attempt.await,
        None => pending().await,
    }
}

async fn ask_one(server: SocketAddr, query: &Query) -> Option<Said> {
    let reply = match by_datagram(server, query).await.ok()? {
        Reply::Truncated => by_stream(server, query).await.ok()?,
        reply => reply,
    };
    match reply {
        Reply::Answer(answer) => Some(Ok(answer)),
        Reply::Fault(fault) => Some(Err(fault)),
        Reply::Truncated | Reply::Useless => None,
    }
}

/// Returns each query has a socket to itself: its port is one more thing that a forger must guess (RFC 5452, section 9.2),
/// and that nothing listens at the server shows at once.
async fn by_datagram(server: SocketAddr, query: &Query) -> io::Result<Reply> {
    let any = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query.datagram()).await?;
    let mut message = [0; DATAGRAM];
    loop {
        let length = socket.recv(&mut message).await?;
        if let Some(reply) = query.read(&message[..length]) {
            return Ok(reply);
        }
    }
}

async fn by_stream(server: SocketAddr, query: &Query) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(query.framed()).await?;
    loop {
        let mut message = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut message).await?;
        if let Some(reply) = query.read(&message) {
            return Ok(reply);
        }
    }
}
