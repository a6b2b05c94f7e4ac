//! One try of one peer: connect, send the request, read the response's head.

use super::client_body::UploadError;
use super::connect::{ConnectOptions, connect};
use super::early_hints::EarlyHints;
use super::fastcgi::HeadRead;
use super::fault::{UpstreamFault, UpstreamStage};
use super::gateways::{catches, log_stderr, read_head};
use super::http2::wire::H2Fault;
use super::http2::{self, H2Awaited, H2Awaiting, H2Upload};
use super::pool::Picked;
use super::request::ProxyRequest;
use super::tls::shake_hands;
use super::upload::{BodySource, Upload};
use super::upstream_conn::UpstreamConn;
use crate::request::client::Client;
use engine::exchange::Body;
use engine::modules::proxy;
use http::{BodyFraming, ResponseHead, Version};
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use upstream::retry::TryFailure;

/// How many interim responses (RFC 9110, section 15.2) may come before the response.
const MAX_INTERIM: u32 = 100;

/// A response's head, and the connection its body comes on.
pub(super) struct Response {
    pub(super) conn: Box<UpstreamConn>,
    pub(super) head: Box<ResponseHead>,
    /// When the try began, in microseconds.
    pub(super) began_us: u64,
    /// Whether all of the request was sent before the response came.
    pub(super) uploaded: bool,
    /// Over HTTP/2 the request's body, of which something may be left to send.
    pub(super) upload: Option<Box<H2Upload>>,
}

/// Why a try gave no response. It is logged, unless it is [`UpstreamFault::TimedOut`].
#[derive(Debug)]
pub(super) struct FailedTry {
    pub(super) fault: UpstreamFault,
    pub(super) stage: UpstreamStage,
    /// Whether any byte of the request went out.
    pub(super) request_sent: bool,
}

/// Tries a peer, over an idle connection if there is one.
pub(super) async fn attempt(
    request: &mut ProxyRequest<'_, '_>,
    picked: &Picked,
    conn: Option<Box<UpstreamConn>>,
) -> Result<Response, FailedTry> {
    let began_us = request.now_us();
    let mut result = run(request, picked, conn, began_us).await;
    if result.is_err() && request.cx.client.conn_state.is_cut() {
        // A cut makes every wait time out at once; no peer is to blame for that.
        result = Err(request.failed(UpstreamFault::Cut, UpstreamStage::ReadingHead, false));
    }
    if result.is_err() {
        let now_us = request.now_us();
        request.record().response_us = Some(now_us - began_us);
    }
    result
}

async fn run(
    request: &mut ProxyRequest<'_, '_>,
    picked: &Picked,
    conn: Option<Box<UpstreamConn>>,
    began_us: u64,
) -> Result<Response, FailedTry> {
    let mut conn = match conn {
        Some(conn) => conn,
        None => open(request, picked).await?,
    };
    let now_us = request.now_us();
    request.record().connect_us = Some(now_us - began_us);
    conn.head_bytes = 0;
    let mut head = request.cx.client.thread.buffers.lease_head();
    let mut upload = None;
    let uploaded = match conn.h2 {
        None => exchange_heads(request, &mut conn, &mut head).await?,
        // Boxed: a request over HTTP/1 does not pay for its room.
        Some(_) => Box::pin(exchange_h2_heads(request, &mut conn, &mut head, &mut upload)).await?,
    };
    let now_us = request.now_us();
    let record = request.record();
    record.header_us = Some(now_us - began_us);
    record.status = head.status;
    Ok(Response { conn, head, began_us, uploaded, upload })
}

impl ProxyRequest<'_, '_> {
    /// Logs why the try failed, as far as that is logged here.
    fn failed(&mut self, fault: UpstreamFault, stage: UpstreamStage, request_sent: bool) -> FailedTry {
        if !matches!(fault, UpstreamFault::TimedOut) {
            self.log_fault(&fault, stage);
        }
        FailedTry { fault, stage, request_sent }
    }
}

async fn open(request: &mut ProxyRequest<'_, '_>, picked: &Picked) -> Result<Box<UpstreamConn>, FailedTry> {
    let local = request.local();
    let settings = &request.cx.settings().proxy.connection;
    let Client { stream: client, timeout, thread, .. } = &mut *request.cx.client;
    let mut stage = UpstreamStage::Connecting;
    let connected = if thread.has_room() {
        let count = thread.registry.add_upstream();
        let watched = (!*settings.ignore_client_abort).then_some(&*client);
        let timeout_ms = request.times.connect_ms;
        let options = ConnectOptions { timeout_ms, keepalive: *settings.socket_keepalive, local };
        let mut stream = connect(&picked.address, options, timeout, watched).await;
        if let (Ok(_), Some(tls)) = (&stream, &request.tls) {
            stage = UpstreamStage::Handshaking;
            stream = match stream {
                // Boxed: a request in clear does not pay for its room.
                Ok(plain) => {
                    Box::pin(shake_hands(
                        plain,
                        tls,
                        &picked.label,
                        timeout_ms,
                        timeout,
                        &thread.clock,
                        watched,
                    ))
                    .await
                }
                fault => fault,
            };
        }
        let opened_ms = thread.clock.now().monotonic_ms();
        let head_size = *request.cx.settings().proxy.buffers.head_size;
        let protocol = request.protocol;
        stream.map(|stream| Box::new(UpstreamConn::new(stream, opened_ms, count, protocol, head_size)))
    } else {
        thread.log_full();
        Err(UpstreamFault::NoRoom)
    };
    connected.map_err(|fault| {
        // As in nginx: nothing of the handshake has begun.
        let is_before = matches!(fault, UpstreamFault::Certificate(_));
        let stage = if is_before { UpstreamStage::Connecting } else { stage };
        request.failed(fault, stage, false)
    })
}

/// The next event while the request is sent and the response awaited.
enum Event {
    /// The head is whole; the request was sent to its end, or not.
    Head {
        uploaded: bool,
    },
    /// An interim response came that the client may want; so many bytes.
    Hints(u64),
    /// The response is invalid.
    Malformed(UpstreamFault),
    /// A program behind FastCGI complains.
    Stderr(Vec<u8>),
    TooManyInterim,
    Ended,
    ReadFailed(io::Error),
    UploadFailed(UploadError),
    ClientGone,
    ClientTimedOut,
    TimedOut {
        sending: bool,
    },
}

/// Sends the request and reads the response's head, both at once: a response may come before the request is sent.
/// Returns true if all of the request was sent.
async fn exchange_heads(
    request: &mut ProxyRequest<'_, '_>,
    conn: &mut UpstreamConn,
    head: &mut ResponseHead,
) -> Result<bool, FailedTry> {
    let settings = request.cx.settings();
    let (core, proxy) = (&settings.core, &settings.proxy);
    let limits = Limits {
        client_ms: *core.body.timeout_ms,
        send_ms: request.times.send_ms,
        read_ms: request.times.read_ms,
        max_head: *proxy.buffers.head_size as usize,
        watch_client: !*proxy.connection.ignore_client_abort && !request.streamed,
    };
    if request.streamed && request.cx.client.owes_continue && request.cx.send_continue().await.is_err() {
        // Logged by the send.
        return Err(FailedTry {
            fault: UpstreamFault::ClientLeft,
            stage: UpstreamStage::SendingRequest,
            request_sent: false,
        });
    }
    let pass_body = *proxy.request.pass_body && proxy.request.body.is_none();
    let body = std::mem::replace(&mut request.cx.exchange.request.body, Body::Streaming);
    if request.streamed || matches!(body, Body::File(_)) {
        conn.send_at_once();
    }
    let chunked = request.cx.exchange.request.framing == BodyFraming::Chunked;
    let source = match pass_body {
        false => BodySource::Nothing,
        true if request.streamed => BodySource::Client { chunked, max_body: *core.body.max_size },
        true => BodySource::Kept,
    };
    let mut upload = Upload::new(&request.head, &body, source, conn.fastcgi.is_some());
    if let Some(fastcgi) = &mut conn.fastcgi {
        fastcgi.restart(*proxy.cgi.keep_conn);
    }
    let mut state = Awaiting { limits, waits_for: None, interim: 0, broken: None };
    let mut hints = EarlyHints::default();
    let event = loop {
        match wait_for_head(request.cx.client, conn, head, &mut upload, &mut state, &mut hints).await {
            Event::Hints(bytes) => {
                hints.take(request.cx, head, bytes);
                head.clear();
            }
            Event::Stderr(text) => {
                log_stderr(request.cx, &text, UpstreamStage::ReadingHead);
                if catches(request.cx, &text) {
                    break Event::Malformed(UpstreamFault::NotAccepted(TryFailure::InvalidHeader));
                }
                // It may have any number of them.
                tokio::task::yield_now().await;
            }
            event => break event,
        }
    };
    let (sent, took) = (upload.sent, upload.took_from_client());
    request.cx.exchange.request.body = match body {
        Body::Unread if took => Body::Streaming,
        body => body,
    };
    request.body_taken |= took;
    request.record().sent = sent;
    hints.finish(request.cx).await;
    let (fault, stage) = match event {
        Event::Head { uploaded } => {
            request.record().received = conn.head_bytes;
            return Ok(uploaded);
        }
        event => judge(event),
    };
    Err(request.failed(fault, stage, sent > 0))
}

/// Returns the same over HTTP/2. The body goes to `kept`, because it may still be sent when the head has come.
async fn exchange_h2_heads(
    request: &mut ProxyRequest<'_, '_>,
    conn: &mut UpstreamConn,
    head: &mut ResponseHead,
    kept: &mut Option<Box<H2Upload>>,
) -> Result<bool, FailedTry> {
    if request.streamed && request.cx.client.owes_continue && request.cx.send_continue().await.is_err() {
        // Logged by the send.
        let (fault, stage) = (UpstreamFault::ClientLeft, UpstreamStage::SendingRequest);
        return Err(FailedTry { fault, stage, request_sent: false });
    }
    let is_bodiless = request.cx.engine(proxy::sends_head);
    let settings = request.cx.settings();
    let (core, proxy) = (&settings.core, &settings.proxy);
    let (block, rest) = request.head.split_at(request.head_len);
    let made = proxy.request.body.is_some().then(|| rest.to_vec());
    let passes = *proxy.request.pass_body && made.is_none();
    let is_chunked = request.cx.exchange.request.framing == BodyFraming::Chunked;
    let body = std::mem::replace(&mut request.cx.exchange.request.body, Body::Streaming);
    let mut upload =
        Box::new(match passes && request.streamed && matches!(body, Body::Unread | Body::Streaming) {
            true => H2Upload::streaming(body, if is_chunked { *core.body.max_size } else { 0 }),
            false => H2Upload::new(body, made, passes),
        });
    let asked = http2::H2Request {
        client_ms: *core.body.timeout_ms,
        send_ms: request.times.send_ms,
        read_ms: request.times.read_ms,
        max_head: *proxy.buffers.head_size as usize,
        watch_client: !*proxy.connection.ignore_client_abort && request.cx.client.watches_while_reading(),
    };
    let mut hints = EarlyHints::default();
    let result = match H2Awaiting::begin(conn, block, is_bodiless, &upload, asked) {
        Ok(mut awaiting) => loop {
            let client = &mut *request.cx.client;
            match awaiting.wait(client, conn, head, &mut upload, &mut hints).await {
                Ok(H2Awaited::Hints { bytes }) => {
                    hints.take(request.cx, head, bytes);
                    head.clear();
                }
                Ok(H2Awaited::Head { uploaded }) => break Ok(uploaded),
                Err(failed) => break Err(failed),
            }
        },
        Err(failed) => Err(failed),
    };
    hints.finish(request.cx).await;
    request.body_taken |= upload.took_from_client();
    request.record().sent = request.head_len as u64 + upload.sent;
    match result {
        Ok(uploaded) => {
            request.record().received = conn.head_bytes;
            // The response's head may show the body, unless that is still on its way.
            match upload.is_framed() {
                true => request.take_body_back(Some(upload)),
                false => *kept = Some(upload),
            }
            Ok(uploaded)
        }
        Err((fault, stage)) => {
            request.take_body_back(Some(upload));
            let request_sent = !matches!(fault, UpstreamFault::H2(H2Fault::Unprocessed));
            Err(request.failed(fault, stage, request_sent))
        }
    }
}

impl ProxyRequest<'_, '_> {
    /// Takes the request's body back, which is not sent any more.
    pub(super) fn take_body_back(&mut self, upload: Option<Box<H2Upload>>) {
        if let Some(upload) = upload {
            self.cx.exchange.request.body = upload.into_body();
        }
    }
}

struct Limits {
    client_ms: u64,
    send_ms: u64,
    read_ms: u64,
    max_head: usize,
    watch_client: bool,
}

/// Waiting for a head.
struct Awaiting {
    limits: Limits,
    /// For what the timer runs.
    waits_for: Option<(u64, bool, bool)>,
    interim: u32,
    /// The peer takes no more. It may have said why: its response is on its way, or the connection is over.
    broken: Option<UploadError>,
}

async fn wait_for_head(
    client: &mut Client,
    conn: &mut UpstreamConn,
    head: &mut ResponseHead,
    upload: &mut Upload<'_>,
    state: &mut Awaiting,
    hints: &mut EarlyHints,
) -> Event {
    let Awaiting { limits, waits_for, interim, broken } = state;
    poll_fn(|cx| {
        hints.poll_send(cx, client);
        if !upload.is_done()
            && broken.is_none()
            && let Poll::Ready(Err(error)) = upload.poll(cx, client, conn)
        {
            match error {
                UploadError::Peer(error) => *broken = Some(UploadError::Peer(error)),
                error => return Poll::Ready(Event::UploadFailed(error)),
            }
        }
        // What was read before a complaint was logged is looked at first.
        let mut has_more = !conn.read_buffer.is_empty();
        loop {
            if !std::mem::take(&mut has_more) {
                match (
                    conn.read_buffer.poll_fill(cx, &mut conn.stream, &client.thread.buffers),
                    broken.take(),
                ) {
                    (Poll::Pending, error) => {
                        *broken = error;
                        break;
                    }
                    (Poll::Ready(Ok(1..)), error) => *broken = error,
                    (Poll::Ready(_), Some(error)) => return Poll::Ready(Event::UploadFailed(error)),
                    (Poll::Ready(Ok(0)), None) => return Poll::Ready(Event::Ended),
                    (Poll::Ready(Err(error)), None) => return Poll::Ready(Event::ReadFailed(error)),
                }
            }
            loop {
                let before = conn.head_bytes;
                match read_head(conn, head, limits.max_head) {
                    Ok(HeadRead::Partial) => break,
                    Ok(HeadRead::Stderr(text)) => return Poll::Ready(Event::Stderr(text)),
                    Err(fault) => return Poll::Ready(Event::Malformed(fault)),
                    Ok(HeadRead::Whole) if head.is_interim() => {
                        *interim += 1;
                        if *interim > MAX_INTERIM {
                            return Poll::Ready(Event::TooManyInterim);
                        }
                        if head.status == proxy::EARLY_HINTS {
                            return Poll::Ready(hinted(head, conn.head_bytes - before));
                        }
                        head.clear();
                    }
                    Ok(HeadRead::Whole) => return Poll::Ready(Event::Head { uploaded: upload.is_done() }),
                }
            }
        }
        if limits.watch_client {
            match client.stream.poll_closed(cx) {
                Poll::Ready(true) => return Poll::Ready(Event::ClientGone),
                Poll::Ready(false) => limits.watch_client = false,
                Poll::Pending => {}
            }
        }
        // The time starts anew whenever something moves, and when the last byte is sent.
        let now = Some((upload.sent, upload.is_done(), upload.waits_for_client));
        if *waits_for != now {
            *waits_for = now;
            client.timeout.start(match (upload.is_done(), upload.waits_for_client) {
                (true, _) => limits.read_ms,
                (false, true) => limits.client_ms,
                (false, false) => limits.send_ms,
            });
        }
        client.timeout.poll_elapsed(cx).map(|_| match (upload.is_done(), upload.waits_for_client) {
            (false, true) => Event::ClientTimedOut,
            (done, _) => Event::TimedOut { sending: !done },
        })
    })
    .await
}

/// Returns the event of hints that have come in so many bytes.
#[cold]
fn hinted(head: &ResponseHead, bytes: u64) -> Event {
    match head.version {
        Version::Http10 => Event::Malformed(UpstreamFault::BadHead(
            b"upstream sent HTTP/1.0 response with early hints".to_vec(),
        )),
        _ => Event::Hints(bytes),
    }
}

/// Returns the fault that an event is, and its stage.
fn judge(event: Event) -> (UpstreamFault, UpstreamStage) {
    use UpstreamFault as Fault;
    use UpstreamStage::{ReadingHead, SendingRequest};
    match event {
        // The first two are none.
        Event::Head { .. } | Event::Hints(_) | Event::Ended => (Fault::Closed, ReadingHead),
        Event::ReadFailed(error) => (Fault::Read(error), ReadingHead),
        Event::TimedOut { sending: true } => (Fault::TimedOut, SendingRequest),
        Event::TimedOut { sending: false } => (Fault::TimedOut, ReadingHead),
        Event::TooManyInterim => (Fault::TooManyInterim, ReadingHead),
        Event::UploadFailed(error) => (error.into(), SendingRequest),
        Event::ClientTimedOut => (Fault::ClientTimedOut, SendingRequest),
        Event::ClientGone => (Fault::ClientLeft, SendingRequest),
        Event::Malformed(fault) => (fault, ReadingHead),
        Event::Stderr(text) => (Fault::BadRecords(text), ReadingHead),
    }
}
