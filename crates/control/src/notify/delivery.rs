//! The way of notices to one place.
//!
//! Owns their queue, and when one is sent again. What a place has not taken when the queue is full is given up, and counted
//! in the next notice.

use super::notice::HeadNotice;
use crate::discovery::AbortOnDrop;
use crate::setup::Log;
use engine::host::Level;
use engine::modules::control::{NotifyPlace, SyslogPlace};
use engine::modules::upstream::UrlPlace;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use upstream::Address;

/// The most notices that wait.
const MAX_WAITING: usize = 1000;
/// The first and the longest pause before a notice is sent again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Who sends.
const AGENT: &str = concat!("pointsman/", env!("CARGO_PKG_VERSION"));

/// Sends notices to one place for as long as it lives.
pub(crate) struct Delivery {
    place: NotifyPlace,
    queue: Rc<Queue>,
    task: JoinHandle<()>,
}

/// Notices that wait, each with its number.
#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<(u64, HeadNotice)>>,
    numbers: RefCell<u64>,
    more: Notify,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Delivery {
    /// Begins to send to a place. Must be called on the control thread.
    pub(crate) fn start(place: &NotifyPlace, log: Log, now_ms: fn() -> u64) -> Delivery {
        let queue = Rc::new(Queue::default());
        let work = deliver(place.clone(), queue.clone(), log, now_ms);
        Delivery { place: place.clone(), queue, task: tokio::task::spawn_local(work) }
    }

    /// Returns the place.
    pub(crate) fn place(&self) -> &NotifyPlace {
        &self.place
    }

    /// Sends a notice behind those that wait. Never waits.
    pub(crate) fn send(&self, notice: HeadNotice) {
        self.queue.push(notice);
    }
}

impl Queue {
    fn push(&self, notice: HeadNotice) {
        let (mut waiting, mut numbers) = (self.waiting.borrow_mut(), self.numbers.borrow_mut());
        *numbers += 1;
        waiting.push_back((*numbers, notice));
        if waiting.len() > MAX_WAITING {
            let missed = waiting.pop_front().map_or(0, |(_, oldest)| oldest.missed + 1);
            if let Some((_, next)) = waiting.front_mut() {
                next.missed += missed;
            }
        }
        self.more.notify_one();
    }

    fn first(&self) -> Option<(u64, HeadNotice)> {
        self.waiting.borrow().front().cloned()
    }

    /// Takes a notice out that was sent, unless it was given up meanwhile.
    fn sent(&self, number: u64) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.front().is_some_and(|(first, _)| *first == number) {
            waiting.pop_front();
        }
    }
}

/// Sends what waits, one after the other.
async fn deliver(place: NotifyPlace, queue: Rc<Queue>, log: Log, now_ms: fn() -> u64) {
    let (mut pause, mut turn) = (PAUSES.0, 0);
    loop {
        let Some((number, notice)) = queue.first() else {
            queue.more.notified().await;
            continue;
        };
        let sent = match &place {
            NotifyPlace::Url(url) => post(url, &notice, &mut turn).await,
            NotifyPlace::Syslog(syslog) => {
                tell_syslog(syslog, &notice, now_ms()).await.map_err(|e| e.to_string())
            }
        };
        let name = notice.name();
        match sent {
            Ok(()) => {
                if pause > PAUSES.0 {
                    log(Level::Notice, &format!("notify {}: {name} has arrived", place.text()));
                }
                pause = PAUSES.0;
                queue.sent(number);
            }
            Err(why) => {
                if pause == PAUSES.0 {
                    let text = format!(
                        "notify {}: {name} could not be sent: {why}; it is tried again",
                        place.text()
                    );
                    log(Level::Error, &text);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Sends a notice to a URL. Returns why it was not taken.
async fn post(place: &UrlPlace, notice: &HeadNotice, turn: &mut usize) -> Result<(), String> {
    let broke = |error: io::Error| format!("connection failed: {error}");
    let address = &place.addresses[*turn % place.addresses.len()];
    let asked = async {
        match address {
            Address::Inet(address) => {
                converse(place, notice, TcpStream::connect(address).await.map_err(broke)?).await
            }
            Address::Unix(path) => {
                converse(place, notice, UnixStream::connect(path).await.map_err(broke)?).await
            }
        }
    };
    let limit = Duration::from_millis(place.timeout_ms);
    let answered = tokio::time::timeout(limit, asked).await;
    let answered = answered.unwrap_or_else(|_| Err(format!("no answer within {} ms", limit.as_millis())));
    // Another address may do better.
    *turn += usize::from(answered.is_err());
    answered
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    place: &UrlPlace,
    notice: &HeadNotice,
    stream: S,
) -> Result<(), String> {
    let broke = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let _connection = AbortOnDrop(tokio::task::spawn_local(async move { drop(connection.await) }));
    let request = Request::post(&*place.uri)
        .header(header::HOST, &*place.host)
        .header(header::USER_AGENT, AGENT)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(notice.json())))
        .map_err(|error| error.to_string())?;
    match sender.send_request(request).await.map_err(broke)?.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answered {}", status.as_u16())),
    }
}

/// Sends a notice to a syslog server, which does not answer.
async fn tell_syslog(place: &SyslogPlace, notice: &HeadNotice, now_ms: u64) -> io::Result<()> {
    let message = notice.syslog(place, now_ms);
    match place.addresses.first() {
        Some(Address::Inet(address)) => {
            let any: SocketAddr = match address {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            UdpSocket::bind(any).await?.send_to(message.as_bytes(), address).await.map(drop)
        }
        Some(Address::Unix(path)) => {
            UnixDatagram::unbound()?.send_to(message.as_bytes(), path).await.map(drop)
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switch::Hash;

    #[test]
    fn a_full_queue_gives_the_oldest_up_and_counts_it() {
        let queue = Queue::default();
        let notice = |revision| HeadNotice::of_head("live", revision, Hash::ZERO);
        for revision in 0..MAX_WAITING as u64 + 3 {
            queue.push(notice(revision));
        }
        let (number, first) = queue.first().unwrap();
        assert_eq!((first.name(), first.missed, number), ("revision 3 of live".to_owned(), 3, 4));
        // One that was given up while it was sent takes no other with it.
        queue.sent(number - 1);
        assert_eq!(queue.first().unwrap().0, number);
        queue.sent(number);
        assert_eq!(queue.first().unwrap().1, notice(4));
    }
}
