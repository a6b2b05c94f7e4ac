//! The asking of one server: connect, shake hands, send, read, judge.
//!
//! Owns: one probe on one connection. Must never: ask a second time to get another answer; a connection that was kept
//! and is closed when it is used again is the exception.

use crate::fault::ProbeFault;
use crate::http2::{Http2Asker, Http2Request};
use crate::judge::{self, Lack};
use engine::probe::{HttpProbe, Probe};
use http::{BodyFraming, Known, Method, Progress, ResponseHead, Version, framing};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tls::{UpstreamContext, upstream_fault_text};
use tokio::time::timeout;
use transport::body_reader::BodyReader;
use transport::buffers::{BufferSize, Buffers};
use transport::read_buffer::ReadBuffer;
use transport::stream::Stream;
use transport::tls_stream::{HandshakeFault, TlsStream};
use upstream::Address;

/// The number of bytes of a head that are read.
const MAX_HEAD: usize = 64 << 10;
/// The number of bytes of a body that are read so that its connection can be kept, or its beginning shown.
const MAX_REST: usize = 256 << 10;
/// The number of bytes of a body that are enough to show its beginning.
const ENOUGH_TO_SHOW: usize = 120;
/// How long the beginning of a body that is only shown is waited for.
const SHOW_TIME: Duration = Duration::from_millis(200);

/// A probe to one server.
#[derive(Clone, Debug)]
pub struct ProbeRequest {
    /// Where it is asked.
    pub address: Address,
    /// The probe.
    pub probe: Arc<Probe>,
    /// The `Host` of the request; the name of its TLS, without the port, if that has none.
    pub host: Box<str>,
    /// Who asks, for the `User-Agent`.
    pub agent: &'static str,
    /// Its TLS, if it has any: a context, and the name in `proxy_ssl_name`.
    pub tls: Option<(Arc<UpstreamContext>, Option<Box<str>>)>,
    /// The longest time for a connection, if it is shorter than the whole.
    pub connect: Option<Duration>,
    /// The longest time for all of it.
    pub total: Duration,
    /// How long its connection is used again; zero is not at all.
    pub keepalive: Duration,
}

/// The answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The result: why the server is healthy, or why it is not.
    pub outcome: Result<String, String>,
    /// How long it took.
    pub took: Duration,
}

/// A connection that is kept for the next probe.
#[derive(Debug)]
pub(crate) struct KeptConnection {
    stream: Stream,
    opened: Instant,
    /// What is said on it beside probes, if it speaks HTTP/2.
    http2: Option<Box<Http2Asker>>,
}

impl KeptConnection {
    fn new(stream: Stream, probe: &Probe) -> KeptConnection {
        let http2 = probe.is_over_http2().then(|| Box::new(Http2Asker::new()));
        KeptConnection { stream, opened: Instant::now(), http2 }
    }

    /// Returns true if it may carry another probe. What a server says on an idle connection of HTTP/2 is read with the next
    /// answer.
    fn is_usable(&self) -> bool {
        match &self.http2 {
            Some(asker) => asker.is_open(),
            None => self.stream.is_silent(),
        }
    }
}

/// Asks, on the connection that was kept if there is one. Returns the answer, and a connection to keep.
pub(crate) async fn ask(
    probe_request: &ProbeRequest,
    buffers: &Buffers,
    kept: Option<KeptConnection>,
) -> (ProbeAnswer, Option<KeptConnection>) {
    let began = Instant::now();
    let asked = timeout(probe_request.total, converse(probe_request, buffers, kept)).await;
    let (outcome, kept) = asked
        .unwrap_or_else(|_| (Err(format!("no answer within {} ms", probe_request.total.as_millis())), None));
    (ProbeAnswer { outcome, took: began.elapsed() }, kept)
}

async fn converse(
    probe_request: &ProbeRequest,
    buffers: &Buffers,
    kept: Option<KeptConnection>,
) -> (Result<String, String>, Option<KeptConnection>) {
    let usable = kept.filter(|kept| kept.opened.elapsed() < probe_request.keepalive && kept.is_usable());
    if let Some(mut kept) = usable {
        match exchange(&mut kept, probe_request, buffers).await {
            Ok((outcome, is_open)) => return (outcome, is_open.then_some(kept)),
            Err(ProbeFault::Other(reason)) => return (Err(reason), None),
            // The server has closed it meanwhile, which it may.
            Err(ProbeFault::Unanswered(_)) => {}
        }
    }
    let mut connection = match connect(probe_request).await {
        Ok(stream) => KeptConnection::new(stream, &probe_request.probe),
        Err(reason) => return (Err(reason), None),
    };
    match exchange(&mut connection, probe_request, buffers).await {
        Ok((outcome, is_open)) => (outcome, is_open.then_some(connection)),
        Err(ProbeFault::Unanswered(reason) | ProbeFault::Other(reason)) => (Err(reason), None),
    }
}

async fn connect(probe_request: &ProbeRequest) -> Result<Stream, String> {
    let connecting = async {
        let stream =
            Stream::connect(&probe_request.address, false).await.map_err(|error| not_connected(&error))?;
        match &probe_request.tls {
            Some((context, name)) => shake_hands(stream, probe_request, context, name.as_deref()).await,
            None => Ok(stream),
        }
    };
    match probe_request.connect.filter(|connect| *connect < probe_request.total) {
        None => connecting.await,
        Some(limit) => timeout(limit, connecting)
            .await
            .unwrap_or_else(|_| Err(format!("no connection within {} ms", limit.as_millis()))),
    }
}

async fn shake_hands(
    stream: Stream,
    probe_request: &ProbeRequest,
    context: &UpstreamContext,
    name: Option<&str>,
) -> Result<Stream, String> {
    let name = name.unwrap_or_else(|| without_port(&probe_request.host));
    let peer = Arc::from(probe_request.address.to_string());
    let connection = context.connect(name.as_bytes(), &peer, None)?;
    let Stream::Plain(socket) = stream else { return Ok(stream) };
    let mut stream = TlsStream::connect(socket, connection);
    match poll_fn(|cx| stream.poll_handshake(cx)).await {
        Ok(()) => Ok(Stream::Tls(stream)),
        Err(HandshakeFault::Closed) => Err("closed the connection in the TLS handshake".to_owned()),
        Err(HandshakeFault::Io(error)) => Err(format!("TLS handshake failed: {error}")),
        Err(HandshakeFault::TooLong) => Err("TLS handshake failed: it sent more than 128k".to_owned()),
        Err(HandshakeFault::Tls(error)) => {
            Err(format!("TLS handshake failed: {}", upstream_fault_text(&error)))
        }
    }
}

/// Returns a host without the port that it may have.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(close) => &host[..close + 2],
        None => host.split(':').next().unwrap_or(host),
    }
}

fn not_connected(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => format!("connection failed: {error}"),
    }
}

/// Asks on a connection. Returns what the answer shows, and whether the connection can be kept.
async fn exchange(
    connection: &mut KeptConnection,
    probe_request: &ProbeRequest,
    buffers: &Buffers,
) -> Result<(Result<String, String>, bool), ProbeFault> {
    let KeptConnection { stream, http2, .. } = connection;
    let ProbeRequest { host, agent, tls, .. } = probe_request;
    let outcome = match (&*probe_request.probe, http2) {
        (Probe::Connect, _) => return Ok((Ok("accepts connections".to_owned()), false)),
        (Probe::Http(probe), None) => return exchange_http1(stream, probe_request, probe, buffers).await,
        (Probe::Http(probe), Some(asker)) => {
            let request = Http2Request::get(probe, host, tls.is_some(), agent);
            let most = probe.expected.body.as_ref().map_or(ENOUGH_TO_SHOW, |test| test.most_bytes);
            let answer = asker.ask(stream, buffers, &request, most.max(ENOUGH_TO_SHOW)).await?;
            judge::whole(&probe.expected, &answer.head, &answer.body)
        }
        (Probe::Grpc(probe), Some(asker)) => {
            let request = Http2Request::call(probe, host, tls.is_some(), agent, probe_request.total);
            let answer = asker.ask(stream, buffers, &request, MAX_REST).await?;
            judge::grpc(probe, &answer)
        }
        // It is over HTTP/2 in any case.
        (Probe::Grpc(_), None) => return Err(ProbeFault::Other("is not asked over HTTP/2".to_owned())),
    };
    let keeps = !probe_request.keepalive.is_zero();
    Ok((outcome, keeps && connection.is_usable()))
}

/// Sends a request over HTTP/1 and reads the answer. Returns what it shows, and whether the connection can be kept.
async fn exchange_http1(
    stream: &mut Stream,
    probe_request: &ProbeRequest,
    probe: &HttpProbe,
    buffers: &Buffers,
) -> Result<(Result<String, String>, bool), ProbeFault> {
    let keeps = !probe_request.keepalive.is_zero();
    let request = request(probe_request, probe, keeps);
    let mut sent = 0;
    let sending = poll_fn(|cx| stream.poll_write_all(cx, &[request.as_bytes()], &mut sent)).await;
    let mut reader = Reader { stream, buffers, read: ReadBuffer::with_size(BufferSize::Answer) };
    // A server that refuses early may have answered all the same.
    let head = match (reader.head().await, sending) {
        (Ok(head), _) => head,
        (Err(ProbeFault::Unanswered(_)), Err(error)) => {
            return Err(ProbeFault::Unanswered(format!("connection broke: {error}")));
        }
        (Err(fault), _) => return Err(fault),
    };
    let status = head.status;
    let framing = framing::response_body(&head, Method::Get);
    let framing =
        framing.map_err(|fault| ProbeFault::Other(format!("the answer is not HTTP: {}", fault.words())))?;
    let mut body = BodyReader::new(framing);
    let outcome = match judge::head(&probe.expected, &head) {
        Ok(None) => Ok(format!("answered {status}")),
        Ok(Some(test)) => {
            let mut read = Vec::new();
            reader.body(&mut body, &mut read, test.most_bytes).await.map_err(ProbeFault::Other)?;
            judge::body(test, status, &read)
        }
        Err(Lack::Field(lack)) => Err(format!("answered {status}, and {lack}")),
        Err(Lack::Status) => {
            let mut read = Vec::new();
            // Without the body the status is reason enough.
            let _ = timeout(SHOW_TIME, reader.body(&mut body, &mut read, ENOUGH_TO_SHOW)).await;
            Err(format!("answered {status}{}", judge::beginning(&read)))
        }
    };
    let may_keep = keeps
        && head.version >= Version::Http11
        && framing != BodyFraming::UntilClose
        && !head.headers.get_all(Known::Connection).any(|value| value.eq_ignore_ascii_case(b"close"));
    if !may_keep {
        return Ok((outcome, false));
    }
    let rest = timeout(SHOW_TIME, reader.body(&mut body, &mut Vec::new(), MAX_REST)).await;
    Ok((outcome, matches!(rest, Ok(Ok(()))) && body.is_done() && reader.read.is_empty()))
}

fn request(probe_request: &ProbeRequest, probe: &HttpProbe, keeps: bool) -> String {
    let mut request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: {}\r\n",
        probe.uri, probe_request.host, probe_request.agent
    );
    if !keeps {
        request.push_str("connection: close\r\n");
    }
    for (name, value) in &probe.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request
}

/// What comes on a connection.
struct Reader<'r> {
    stream: &'r mut Stream,
    buffers: &'r Buffers,
    read: ReadBuffer,
}

impl Reader<'_> {
    async fn fill(&mut self) -> io::Result<usize> {
        let Reader { stream, buffers, read } = self;
        poll_fn(|cx| read.poll_fill(cx, stream, buffers)).await
    }

    /// Reads the head of the answer, past interim ones.
    async fn head(&mut self) -> Result<ResponseHead, ProbeFault> {
        let mut head = ResponseHead::new();
        loop {
            match head.decode(self.read.unread(), MAX_HEAD) {
                Ok(Progress::Complete { consumed }) => {
                    self.read.consume(consumed);
                    if !head.is_interim() {
                        return Ok(head);
                    }
                    head.clear();
                    continue;
                }
                Ok(Progress::Partial) => {}
                Err(_) => return Err(ProbeFault::Other("the answer is not HTTP".to_owned())),
            }
            let fault = match self.fill().await {
                Ok(0) => "closed the connection without answering".to_owned(),
                Ok(_) => continue,
                Err(error) => format!("connection broke: {error}"),
            };
            let is_unanswered = !head.has_begun() && self.read.is_empty();
            return Err(if is_unanswered { ProbeFault::Unanswered(fault) } else { ProbeFault::Other(fault) });
        }
    }

    /// Reads a body, up to `most` bytes.
    ///
    /// # Errors
    /// It ends before its end.
    async fn body(&mut self, body: &mut BodyReader, read: &mut Vec<u8>, most: usize) -> Result<(), String> {
        while !body.is_done() && read.len() < most {
            match body.next(&mut self.read) {
                Ok(Some(piece)) => {
                    read.extend_from_slice(self.read.slice(piece.range));
                    if piece.done {
                        body.finish();
                    }
                    continue;
                }
                Ok(None) => {}
                Err(_) => return Err("the body of the answer is not in chunks as it says".to_owned()),
            }
            match self.fill().await {
                Ok(0) if matches!(body, BodyReader::UntilClose) => body.finish(),
                Ok(0) => return Err("closed the connection within its answer".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(format!("connection broke: {error}")),
            }
        }
        read.truncate(most);
        Ok(())
    }
}
