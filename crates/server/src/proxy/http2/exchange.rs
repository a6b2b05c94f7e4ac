//! The beginning of an exchange over HTTP/2: the request goes, and its response's head comes, both at once.

use super::H2Upload;
use super::wire::{H2Fault, H2Read};
use crate::proxy::client_body::UploadError;
use crate::proxy::early_hints::EarlyHints;
use crate::proxy::fault::{UpstreamFault, UpstreamStage};
use crate::proxy::upstream_conn::UpstreamConn;
use crate::request::client::Client;
use engine::modules::proxy::EARLY_HINTS;
use http::ResponseHead;
use std::future::poll_fn;
use std::task::{Context, Poll};

/// How many interim responses (RFC 9110, section 15.2) may come before the response.
const MAX_INTERIM: u32 = 100;

/// How long the parts of a request may take, and what ends it.
#[derive(Debug)]
pub(crate) struct H2Request {
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

/// The event that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum H2Awaited {
    /// The response's head; whether all of the request was sent.
    Head {
        /// It was.
        uploaded: bool,
    },
    /// An interim response that the client may want.
    Hints {
        /// The size of its block.
        bytes: u64,
    },
}

/// Waiting for the head of a response, while the request goes.
pub(crate) struct H2Awaiting {
    request: H2Request,
    interim: u32,
    /// For what the timer runs.
    waits_for: Option<(u64, bool, bool)>,
    /// The peer takes no more: it may have said why.
    is_broken: Option<std::io::Error>,
}

impl H2Awaiting {
    /// Begins the request with this header block. `is_bodiless` is so for HEAD: the response has no body, whatever its head
    /// says.
    pub(crate) fn begin(
        conn: &mut UpstreamConn,
        block: &[u8],
        is_bodiless: bool,
        upload: &H2Upload,
        request: H2Request,
    ) -> Result<H2Awaiting, Failed> {
        let Some(h2) = &mut conn.h2 else {
            return Err((UpstreamFault::Closed, UpstreamStage::SendingRequest));
        };
        if !h2.begin(block, upload.is_empty(), is_bodiless) {
            return Err((H2Fault::Unprocessed.into(), UpstreamStage::SendingRequest));
        }
        Ok(H2Awaiting { request, interim: 0, waits_for: None, is_broken: None })
    }

    /// Sends more of the request, and reads a head.
    pub(crate) async fn wait(
        &mut self,
        client: &mut Client,
        conn: &mut UpstreamConn,
        head: &mut ResponseHead,
        upload: &mut H2Upload,
        hints: &mut EarlyHints,
    ) -> Result<H2Awaited, Failed> {
        let mut has_more = !conn.read_buffer.is_empty();
        poll_fn(|cx| {
            hints.poll_send(cx, client);
            self.poll(cx, client, conn, head, upload, &mut has_more)
        })
        .await
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        conn: &mut UpstreamConn,
        head: &mut ResponseHead,
        upload: &mut H2Upload,
        has_more: &mut bool,
    ) -> Poll<Result<H2Awaited, Failed>> {
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
            // What came with an interim response is looked at first.
            let filled = match std::mem::take(has_more) {
                true => Poll::Ready(Ok(1)),
                false => read_buffer.poll_fill(cx, stream, &client.thread.buffers),
            };
            match filled {
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
                            return Poll::Ready(Ok(H2Awaited::Head { uploaded: h2.is_request_sent() }));
                        }
                        self.interim += 1;
                        if self.interim > MAX_INTERIM {
                            return reading(UpstreamFault::TooManyInterim);
                        }
                        if head.status == EARLY_HINTS {
                            return Poll::Ready(Ok(H2Awaited::Hints { bytes: block_bytes as u64 }));
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
