//! One try of one peer: connect, send the request, read the answer's head.

use super::Proxying;
use super::connect::{ConnectError, connect};
use super::pool::{Link, Picked};
use super::upload::{Upload, UploadError};
use crate::client::CUT;
use crate::host::with_env;
use crate::listeners::describe;
use engine::exchange::Body;
use engine::host::Level;
use engine::log_line;
use http::{BodyFraming, Progress, ResponseError, ResponseHead};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use upstream::retry::TryFailure;

pub(super) const CONNECTING: &str = "while connecting to upstream";
const SENDING: &str = "while sending request to upstream";
pub(super) const READING: &str = "while reading response header from upstream";
const CLIENT_GONE: &str =
    "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too";

/// How many interim answers (RFC 9110, section 15.2) may come before the answer.
const MAX_INTERIM: u32 = 100;

/// An answer's head, and the connection its body comes on.
pub(super) struct Answer {
    pub(super) link: Box<Link>,
    pub(super) head: Box<ResponseHead>,
    /// When the try began, in microseconds.
    pub(super) began_us: u64,
    /// All of the request was sent before the answer came.
    pub(super) uploaded: bool,
}

/// Why a try gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The client went away.
    ClientGone,
    /// The client's body is at fault: this status is the answer.
    Client(u16),
    /// The request is to end, whatever it waits for: its configuration's time is over, or its switch leads elsewhere.
    Cut,
    /// This process is out of connections, descriptors or memory. No peer is to blame, and none would fare better.
    Exhausted,
    /// The peer failed.
    Peer {
        failure: TryFailure,
        /// Any byte of the request went out.
        request_sent: bool,
        /// What was being done: nginx's words.
        doing: &'static str,
    },
}

/// Tries a peer, over an idle connection if there is one.
pub(super) async fn attempt(
    proxying: &mut Proxying<'_>,
    picked: &Picked,
    link: Option<Box<Link>>,
) -> Result<Answer, Failed> {
    let began_us = proxying.now_us();
    let mut result = run(proxying, picked, link, began_us).await;
    if result.is_err() && proxying.client.seat.is_cut() {
        // Its time was up at once, and no peer is to blame for that.
        proxying.say(Level::Info, CUT);
        result = Err(Failed::Cut);
    }
    if result.is_err() {
        let now_us = proxying.now_us();
        proxying.record().response_us = Some(now_us - began_us);
    }
    result
}

async fn run(
    proxying: &mut Proxying<'_>,
    picked: &Picked,
    link: Option<Box<Link>>,
    began_us: u64,
) -> Result<Answer, Failed> {
    let mut link = match link {
        Some(link) => link,
        None => open(proxying, picked).await?,
    };
    let now_us = proxying.now_us();
    proxying.record().connect_us = Some(now_us - began_us);
    link.head_bytes = 0;
    let mut head = proxying.client.worker.buffers.lease_head();
    let uploaded = talk(proxying, &mut link, &mut head).await?;
    let now_us = proxying.now_us();
    let record = proxying.record();
    record.header_us = Some(now_us - began_us);
    record.status = head.status;
    Ok(Answer { link, head, began_us, uploaded })
}

async fn open(proxying: &mut Proxying<'_>, picked: &Picked) -> Result<Box<Link>, Failed> {
    let settings =
        &proxying.generation.config.location(proxying.exchange.route.location).settings.proxy.connection;
    let (timeout_ms, keepalive) = (*settings.connect_timeout_ms, *settings.socket_keepalive);
    let worker = Rc::clone(&proxying.client.worker);
    if !worker.has_room() {
        worker.say_full();
        return Err(Failed::Exhausted);
    }
    let outward = worker.registry.outward();
    let watches = !*settings.ignore_client_abort;
    let crate::client::Client { stream: client, patience, .. } = &mut *proxying.client;
    let watched = watches.then_some(&*client);
    let stream = connect(&picked.address, timeout_ms, keepalive, patience, watched).await;
    let failure = match stream {
        Ok(stream) => return Ok(Box::new(Link::new(stream, proxying.now_us() / 1000, outward))),
        Err(ConnectError::TimedOut) => TryFailure::Timeout,
        Err(ConnectError::ClientGone) => {
            proxying.say(Level::Info, &format!("{CLIENT_GONE} {CONNECTING}"));
            return Err(Failed::ClientGone);
        }
        Err(ConnectError::Exhausted(error)) => {
            proxying.say(Level::Alert, &format!("socket() {} {CONNECTING}", told(&error)));
            return Err(Failed::Exhausted);
        }
        Err(ConnectError::Failed(error)) => {
            let text = match &picked.address {
                upstream::Address::Unix(path) => {
                    format!("connect() to unix:{} {} {CONNECTING}", path.display(), told(&error))
                }
                upstream::Address::Inet(_) => format!("connect() {} {CONNECTING}", told(&error)),
            };
            // As in nginx: what is no peer's usual way to refuse is critical.
            let level = match error.raw_os_error() {
                Some(libc::EADDRNOTAVAIL) => Level::Crit,
                _ => Level::Error,
            };
            proxying.say(level, &text);
            TryFailure::Error
        }
    };
    Err(Failed::Peer { failure, request_sent: false, doing: CONNECTING })
}

/// nginx's form for a failed system call: `failed (111: Connection refused)`.
pub(super) fn told(error: &io::Error) -> String {
    let code = error.raw_os_error().unwrap_or_default();
    format!("failed ({code}: {})", describe(code))
}

/// What happened next while the request was sent and the answer awaited.
enum Event {
    /// The head is whole; the request was sent to its end, or not.
    Head {
        uploaded: bool,
    },
    Broken(ResponseError),
    /// Interim answers, and no end of them.
    Storm,
    Ended,
    ReadFailed(io::Error),
    UploadFailed(UploadError),
    ClientGone,
    ClientTimedOut,
    TimedOut {
        sending: bool,
    },
}

/// Sends the request and reads the answer's head, both at once: an answer may come before the request is sent.
async fn talk(proxying: &mut Proxying<'_>, link: &mut Link, head: &mut ResponseHead) -> Result<bool, Failed> {
    let generation = Rc::clone(proxying.generation);
    let settings = &generation.config.location(proxying.exchange.route.location).settings;
    let client_ms = *settings.core.body.timeout_ms;
    let max_body = *settings.core.body.max_size;
    let settings = &settings.proxy;
    let (send_ms, read_ms) = (*settings.connection.send_timeout_ms, *settings.connection.read_timeout_ms);
    let max_head = *settings.buffers.head_size as usize;
    let watch_client = !*settings.connection.ignore_client_abort && !proxying.streamed;
    if proxying.streamed && proxying.client.owes_continue {
        let sent = proxying.client.say_continue(proxying.exchange, &generation).await;
        sent.map_err(|_| Failed::ClientGone)?;
    }
    let pass_body = *settings.request.pass_body && settings.request.body.is_none();
    let chunked = (proxying.exchange.request.framing == BodyFraming::Chunked).then_some(max_body);
    let body = std::mem::replace(&mut proxying.exchange.request.body, Body::Streaming);
    if proxying.streamed || matches!(body, Body::File(_)) {
        link.send_at_once();
    }
    let mut upload = Upload::new(&proxying.head, &body, pass_body, proxying.streamed, chunked);
    let event = wait_for_head(
        proxying.client,
        link,
        head,
        &mut upload,
        Limits { client_ms, send_ms, read_ms, max_head, watch_client },
    )
    .await;
    let (sent, took) = (upload.sent, upload.took_from_client());
    proxying.exchange.request.body = match body {
        Body::Unread if took => Body::Streaming,
        body => body,
    };
    proxying.body_taken |= took;
    proxying.record().sent = sent;
    judge(proxying, link, head, event, sent > 0)
}

struct Limits {
    client_ms: u64,
    send_ms: u64,
    read_ms: u64,
    max_head: usize,
    watch_client: bool,
}

async fn wait_for_head(
    client: &mut crate::client::Client,
    link: &mut Link,
    head: &mut ResponseHead,
    upload: &mut Upload<'_>,
    limits: Limits,
) -> Event {
    let mut watch_client = limits.watch_client;
    let mut waits_for = None;
    let mut interim = 0;
    // A peer that takes no more may have said why: its answer is on its way, or the connection is over.
    let mut broken = None;
    poll_fn(|cx| {
        if !upload.is_done()
            && broken.is_none()
            && let Poll::Ready(Err(error)) = upload.poll(cx, client, link)
        {
            match error {
                UploadError::Peer(error) => broken = Some(UploadError::Peer(error)),
                error => return Poll::Ready(Event::UploadFailed(error)),
            }
        }
        loop {
            match (link.input.poll_fill(cx, &mut link.stream, &client.worker.buffers), broken.take()) {
                (Poll::Pending, error) => {
                    broken = error;
                    break;
                }
                (Poll::Ready(Ok(1..)), error) => broken = error,
                (Poll::Ready(_), Some(error)) => return Poll::Ready(Event::UploadFailed(error)),
                (Poll::Ready(Ok(0)), None) => return Poll::Ready(Event::Ended),
                (Poll::Ready(Err(error)), None) => return Poll::Ready(Event::ReadFailed(error)),
            }
            loop {
                match head.decode(link.input.unread(), limits.max_head) {
                    Ok(Progress::Partial) => break,
                    Err(error) => return Poll::Ready(Event::Broken(error)),
                    Ok(Progress::Complete { consumed }) => {
                        link.input.consume(consumed);
                        link.head_bytes += consumed as u64;
                        if head.is_interim() {
                            interim += 1;
                            if interim > MAX_INTERIM {
                                return Poll::Ready(Event::Storm);
                            }
                            head.clear();
                            continue;
                        }
                        return Poll::Ready(Event::Head { uploaded: upload.is_done() });
                    }
                }
            }
        }
        if watch_client {
            match client.stream.poll_closed(cx) {
                Poll::Ready(true) => return Poll::Ready(Event::ClientGone),
                Poll::Ready(false) => watch_client = false,
                Poll::Pending => {}
            }
        }
        // The time begins anew whenever something moves, and when the last byte is sent.
        let now = Some((upload.sent, upload.is_done(), upload.waits_for_client));
        if waits_for != now {
            waits_for = now;
            client.patience.start(match (upload.is_done(), upload.waits_for_client) {
                (true, _) => limits.read_ms,
                (false, true) => limits.client_ms,
                (false, false) => limits.send_ms,
            });
        }
        client.patience.poll_up(cx).map(|_| match (upload.is_done(), upload.waits_for_client) {
            (false, true) => Event::ClientTimedOut,
            (done, _) => Event::TimedOut { sending: !done },
        })
    })
    .await
}

/// What an event comes to: an answer, or a failure that is logged in nginx's words.
fn judge(
    proxying: &mut Proxying<'_>,
    link: &mut Link,
    head: &ResponseHead,
    event: Event,
    request_sent: bool,
) -> Result<bool, Failed> {
    let (failure, doing, text) = match event {
        Event::Head { uploaded } => {
            proxying.record().received = link.head_bytes;
            return Ok(uploaded);
        }
        Event::Ended => {
            (TryFailure::Error, READING, format!("upstream prematurely closed connection {READING}"))
        }
        Event::ReadFailed(error) => {
            (TryFailure::Error, READING, format!("recv() {} {READING}", told(&error)))
        }
        Event::TimedOut { sending } => {
            let doing = if sending { SENDING } else { READING };
            return Err(Failed::Peer { failure: TryFailure::Timeout, request_sent, doing });
        }
        Event::Storm => (
            TryFailure::InvalidHeader,
            READING,
            format!("upstream sent too many interim responses {READING}"),
        ),
        Event::UploadFailed(UploadError::Peer(error)) => {
            (TryFailure::Error, SENDING, format!("writev() {} {SENDING}", told(&error)))
        }
        Event::UploadFailed(UploadError::ClientGone) => {
            proxying.say(Level::Info, &format!("client prematurely closed connection {SENDING}"));
            return Err(Failed::Client(400));
        }
        Event::ClientTimedOut => {
            let text = format!("client timed out (110: Connection timed out) {SENDING}");
            proxying.say(Level::Info, &text);
            return Err(Failed::Client(408));
        }
        Event::UploadFailed(UploadError::TooLarge(before, chunk)) => {
            let text =
                format!("client intended to send too large chunked body: {before}+{chunk} bytes {SENDING}");
            proxying.say(Level::Error, &text);
            return Err(Failed::Client(413));
        }
        Event::UploadFailed(UploadError::BadBody) => {
            proxying.say(Level::Error, &format!("client sent invalid chunked body {SENDING}"));
            return Err(Failed::Client(400));
        }
        Event::ClientGone => {
            proxying.say(Level::Info, &format!("{CLIENT_GONE} {SENDING}"));
            return Err(Failed::ClientGone);
        }
        Event::Broken(error) => {
            let worker = Rc::clone(&proxying.client.worker);
            let mut line = Vec::new();
            head.explain(error, link.input.unread(), &mut line);
            line.extend_from_slice(b" ");
            line.extend_from_slice(READING.as_bytes());
            with_env(&worker, proxying.generation, |env| {
                log_line::error(proxying.exchange, env, Level::Error, &line);
            });
            return Err(Failed::Peer { failure: TryFailure::InvalidHeader, request_sent, doing: READING });
        }
    };
    proxying.say(Level::Error, &text);
    Err(Failed::Peer { failure, request_sent, doing })
}
