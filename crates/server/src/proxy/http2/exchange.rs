//! The beginning of an exchange over HTTP/2: the request goes, and its response's head comes, both at once.

use super::H2Upload;
use super::wire::{H2Fault, H2Read};
use crate::proxy::client_body::UploadError;
use crate::proxy::fault::{UpstreamFault, UpstreamStage};
use crate::proxy::pool::UpstreamConn;
use crate::request::client::Client;
use http::ResponseHead;
use std::future::poll_fn;
use std::task::{Context, Poll};

/// How many interim responses (RFC 9110, section 15.2) may come before the response.
const MAX_INTERIM: u32 = 100;

/// The request, and how long its parts may take.
#[derive(Debug)]
pub(crate) struct H2Request<'a> {
    /// Its header block.
    pub(crate) block: &'a [u8],
    /// The response has no body, whatever its head says (HEAD).
    pub(crate) is_bodiless: bool,
    /// How long the client may take to send more, in ms.
    pub(crate) client_ms: u64,
    /// How long the peer may take nothing, in ms.
    pub(crate) send_ms: u64,
    /// How long the peer may say nothing, in ms.
    pub(crate) read_ms: u64,
    /// The largest header block of a response.
    pub(crate) max_head: usize,
    /// The request ends if the client leaves.
    pub(crate) watch_client: bool,
}

type Failed = (UpstreamFault, UpstreamStage);

/// Sends the request and reads the head of its response. Returns true if all of the request was sent.
pub(crate) async fn exchange_heads(
    client: &mut Client,
    conn: &mut UpstreamConn,
    head: &mut ResponseHead,
    upload: &mut H2Upload,
    request: H2Request<'_>,
) -> Result<bool, Failed> {
    let Some(h2) = &mut conn.h2 else { return Err((UpstreamFault::Closed, UpstreamStage::SendingRequest)) };
    if !h2.begin(request.block, upload.is_empty(), request.is_bodiless) {
        return Err((H2Fault::Unprocessed.into(), UpstreamStage::SendingRequest));
    }
    let mut state = Awaiting { request, interim: 0, waits_for: None, is_broken: None };
    poll_fn(|cx| state.poll(cx, client, conn, head, upload)).await
}

/// Waiting for a head.
struct Awaiting<'a> {
    request: H2Request<'a>,
    interim: u32,
    /// For what the timer runs.
    waits_for: Option<(u64, bool, bool)>,
    /// The peer takes no more: it may have said why.
    is_broken: Option<std::io::Error>,
}

impl Awaiting<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        conn: &mut UpstreamConn,
        head: &mut ResponseHead,
        upload: &mut H2Upload,
    ) -> Poll<Result<bool, Failed>> {
        let reading = |fault| Poll::Ready(Err((fault, UpstreamStage::ReadingHead)));
        let sending = |fault| Poll::Ready(Err((fault, UpstreamStage::SendingRequest)));
        let now_ms = client.thread.clock.now().monotonic_ms();
        loop {
            let UpstreamConn { h2: Some(h2), stream, read_buffer, head_bytes, .. } = conn else {
                return reading(UpstreamFault::Closed);
            };
            if self.is_broken.is_none()
                && let Poll::Ready(Err(error)) = upload.poll(cx, client, h2, stream)
            {
                match error {
                    UploadError::Peer(error) => self.is_broken = Some(error),
                    error => return sending(error.into()),
                }
            }
            match read_buffer.poll_fill(cx, stream, &client.thread.buffers) {
                Poll::Pending => break,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(ended) => {
                    return match (self.is_broken.take(), ended) {
                        (Some(error), _) => sending(UpstreamFault::Write(error)),
                        (None, Err(error)) => reading(UpstreamFault::Read(error)),
                        (None, Ok(_)) => reading(UpstreamFault::Closed),
                    };
                }
            }
            loop {
                match h2.next(read_buffer, head, now_ms) {
                    Ok(H2Read::Partial) => break,
                    Ok(H2Read::Head { block_bytes }) => {
                        *head_bytes += block_bytes as u64;
                        if block_bytes > self.request.max_head {
                            return reading(H2Fault::BadFrames("sent too big header").into());
                        }
                        if !head.is_interim() {
                            return Poll::Ready(Ok(h2.is_request_sent()));
                        }
                        self.interim += 1;
                        if self.interim > MAX_INTERIM {
                            return reading(UpstreamFault::TooManyInterim);
                        }
                        head.clear();
                    }
                    Ok(H2Read::Data { .. } | H2Read::End) => {
                        return reading(H2Fault::BadFrames("sent a body before the head").into());
                    }
                    Err(fault) => return reading(fault.into()),
                }
            }
        }
        if self.request.watch_client {
            match client.stream.poll_closed(cx) {
                Poll::Ready(true) => return sending(UpstreamFault::ClientLeft),
                Poll::Ready(false) => self.request.watch_client = false,
                Poll::Pending => {}
            }
        }
        let Some(h2) = &conn.h2 else { return Poll::Pending };
        // The time starts anew whenever something moves, and when the last byte is sent.
        let (is_sent, waits_for_client) = (h2.is_request_sent(), upload.waits_for_client);
        let now = (upload.sent, is_sent, waits_for_client);
        if self.waits_for != Some(now) {
            self.waits_for = Some(now);
            client.timeout.start(match (is_sent, waits_for_client) {
                (true, _) => self.request.read_ms,
                (false, true) => self.request.client_ms,
                (false, false) => self.request.send_ms,
            });
        }
        client.timeout.poll_elapsed(cx).map(|_| {
            Err(match (is_sent, waits_for_client) {
                (true, _) => (UpstreamFault::TimedOut, UpstreamStage::ReadingHead),
                (false, true) => (UpstreamFault::ClientTimedOut, UpstreamStage::SendingRequest),
                (false, false) => (UpstreamFault::TimedOut, UpstreamStage::SendingRequest),
            })
        })
    }
}
