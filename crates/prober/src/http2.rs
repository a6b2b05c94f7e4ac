//! A probe over HTTP/2: the request in one stream, and what comes on it.
//!
//! Owns the frames of a connection that asks. Must never judge an answer.

use crate::fault::ProbeFault;
use engine::probe::{GrpcProbe, HttpProbe};
use http::h2::hpack::{Pseudo, encode_pseudo, encode_valid_field};
use http::h2::{ErrorCode, H2Connection, H2Limits, HeadSlot, ReadContext, Received};
use http::{Headers, Known, ResponseHead};
use std::future::poll_fn;
use std::time::{Duration, Instant};
use transport::buffers::{BufferSize, Buffers};
use transport::read_buffer::ReadBuffer;
use transport::stream::Stream;

/// The answer to a probe over HTTP/2.
#[derive(Debug)]
pub(crate) struct Http2Answer {
    pub(crate) head: ResponseHead,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
}

/// The request to send.
pub(crate) struct Http2Request {
    block: Vec<u8>,
    /// The body, if there is one.
    message: Option<Vec<u8>>,
}

/// A connection that carries one probe after another.
#[derive(Debug)]
pub(crate) struct Http2Asker {
    codec: H2Connection,
    read: ReadBuffer,
    began: Instant,
    /// The server takes no more requests.
    is_last: bool,
}

impl Http2Request {
    fn new(method: &[u8], path: &[u8], host: &str, over_tls: bool, agent: &str) -> Http2Request {
        let mut block = Vec::new();
        encode_pseudo(&mut block, Pseudo::Method, method);
        encode_pseudo(&mut block, Pseudo::Scheme, if over_tls { b"https" } else { b"http" });
        encode_pseudo(&mut block, Pseudo::Path, path);
        encode_pseudo(&mut block, Pseudo::Authority, host.as_bytes());
        let mut request = Http2Request { block, message: None };
        request.field("user-agent", agent);
        request
    }

    fn field(&mut self, name: &str, value: &str) {
        let known = Known::from_bytes(name.as_bytes());
        encode_valid_field(&mut self.block, known, name.as_bytes(), value.as_bytes());
    }

    /// Returns a GET.
    pub(crate) fn get(probe: &HttpProbe, host: &str, over_tls: bool, agent: &str) -> Http2Request {
        let mut request = Http2Request::new(b"GET", probe.uri.as_bytes(), host, over_tls, agent);
        for (name, value) in &probe.headers {
            request.field(name, value);
        }
        request
    }

    /// Returns a call of gRPC's health service, which may take so long.
    pub(crate) fn call(
        probe: &GrpcProbe,
        host: &str,
        over_tls: bool,
        agent: &str,
        total: Duration,
    ) -> Http2Request {
        let mut request = Http2Request::new(b"POST", b"/grpc.health.v1.Health/Check", host, over_tls, agent);
        request.field("te", "trailers");
        request.field("content-type", "application/grpc");
        request.field("grpc-timeout", &format!("{}m", total.as_millis().clamp(1, 99_999_999)));
        // HealthCheckRequest: the service is field 1, a string; its length is a varint.
        let mut body = Vec::new();
        if !probe.service.is_empty() {
            body.push(0x0a);
            let mut len = probe.service.len();
            while len >= 0x80 {
                body.push(len as u8 | 0x80);
                len >>= 7;
            }
            body.push(len as u8);
            body.extend_from_slice(probe.service.as_bytes());
        }
        let mut message = vec![0];
        message.extend_from_slice(&(body.len() as u32).to_be_bytes());
        message.extend_from_slice(&body);
        request.message = Some(message);
        request
    }
}

impl Http2Asker {
    /// Creates one for a new connection.
    pub(crate) fn new() -> Http2Asker {
        Http2Asker {
            codec: H2Connection::client(H2Limits::default()),
            read: ReadBuffer::with_size(BufferSize::Answer),
            began: Instant::now(),
            is_last: false,
        }
    }

    /// Returns true if the connection may carry another probe.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_last && self.codec.open_streams() == 0
    }

    /// Asks. Of the body, so many bytes are enough.
    pub(crate) async fn ask(
        &mut self,
        stream: &mut Stream,
        buffers: &Buffers,
        request: &Http2Request,
        most: usize,
    ) -> Result<Http2Answer, ProbeFault> {
        let mut out = std::mem::take(self.codec.control());
        let ends = request.message.is_none();
        let Some(id) = self.codec.request(&request.block, ends, false, &mut out) else {
            return Err(ProbeFault::Unanswered("takes no more requests on its connection".to_owned()));
        };
        if let Some(message) = &request.message {
            // No server's first window is smaller than a probe; one that is says so too late.
            let count = message.len().min(self.codec.send_room(id));
            self.codec.write_data(id, &message[..count], count == message.len(), &mut out);
        }
        let sent = send(stream, &out).await;
        let mut answer =
            Http2Answer { head: ResponseHead::new(), body: Vec::new(), trailers: Headers::new() };
        let mut has_come = false;
        loop {
            if self.take(id, &mut answer, most, &mut has_come)? {
                break;
            }
            // That they cannot go is seen by what is read.
            let out = std::mem::take(self.codec.control());
            let _ = send(stream, &out).await;
            let fault = match poll_fn(|cx| self.read.poll_fill(cx, stream, buffers)).await {
                Ok(1..) => continue,
                Ok(0) => "closed the connection without answering".to_owned(),
                Err(error) => format!("connection broke: {error}"),
            };
            let fault = match sent {
                Err(error) if !has_come => format!("connection broke: {error}"),
                _ => fault,
            };
            self.is_last = true;
            return Err(if has_come { ProbeFault::Other(fault) } else { ProbeFault::Unanswered(fault) });
        }
        self.codec.reset(id, ErrorCode::Cancel);
        self.read.release(buffers);
        let out = std::mem::take(self.codec.control());
        self.is_last |= send(stream, &out).await.is_err() || !self.read.is_empty();
        Ok(answer)
    }

    /// Takes what has come, and notes if that is of the answer: what a connection says of itself is not. Returns true if the
    /// answer is whole, or there is enough of it.
    fn take(
        &mut self,
        id: u32,
        answer: &mut Http2Answer,
        most: usize,
        has_come: &mut bool,
    ) -> Result<bool, ProbeFault> {
        let mut scratch = Vec::new();
        loop {
            let heads = HeadSlot::Response { head: &mut answer.head, trailers: &mut answer.trailers };
            let now_ms = self.began.elapsed().as_millis() as u64;
            let mut cx = ReadContext { heads, scratch: &mut scratch, now_ms };
            let step = self.codec.receive(self.read.unread(), &mut cx).map_err(|fault| {
                self.is_last = true;
                ProbeFault::Other(format!("the answer is not HTTP/2: it {}", fault.words))
            })?;
            let consumed = self.read.consume(step.consumed);
            match step.received {
                Received::Partial if step.consumed == 0 => return Ok(false),
                Received::Response { stream, ends, .. } if stream == id => {
                    *has_come = true;
                    if answer.head.is_interim() {
                        answer.head.clear();
                    } else if ends {
                        self.codec.finish(id);
                        return Ok(true);
                    }
                }
                Received::Data { stream, range, ends } => {
                    let bytes = self.read.slice(consumed.start + range.start..consumed.start + range.end);
                    let left = most - answer.body.len().min(most);
                    if stream == id {
                        answer.body.extend_from_slice(&bytes[..bytes.len().min(left)]);
                    }
                    self.codec.taken(stream, range.len() as u32);
                    if stream == id && ends {
                        self.codec.finish(id);
                        return Ok(true);
                    }
                    if stream == id && answer.body.len() >= most {
                        return Ok(true);
                    }
                }
                Received::Trailers { stream } if stream == id => {
                    self.codec.finish(id);
                    return Ok(true);
                }
                Received::Gone { stream, code, words } if stream == id => {
                    return Err(match code {
                        Some(7) => ProbeFault::Unanswered("refused the request".to_owned()),
                        Some(code) => ProbeFault::Other(format!("reset the request with error {code}")),
                        None => ProbeFault::Other(format!("the answer is not HTTP/2: it {words}")),
                    });
                }
                Received::GoAway { last_stream, code } => {
                    self.is_last = true;
                    if last_stream < id {
                        let text = format!("ended the connection with error {code}");
                        return Err(if *has_come && code != 0 {
                            ProbeFault::Other(text)
                        } else {
                            ProbeFault::Unanswered(text)
                        });
                    }
                }
                _ => {}
            }
        }
    }
}

async fn send(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    let mut sent = 0;
    poll_fn(|cx| stream.poll_write_all(cx, &[bytes], &mut sent)).await
}
