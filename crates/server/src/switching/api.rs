//! Requests to the control plane: a call of its API in a location, an order of a script.
//!
//! Owns the way there and back, so that a slow or vanished client costs the control plane nothing: what the client does not
//! take in time is bounded, and beyond the bound the client counts as gone. Must never interpret a call or its answer.

use crate::context::generation::Generation;
use crate::request::client::Client;
use crate::request::cx::RequestCx;
use crate::request::respond::Unfinished;
use crate::switching::script_order;
use control::{ApiAnswer, ApiCall, Origin, VerifiedCertificate, Via};
use engine::Exchange;
use engine::config::Modifier;
use engine::exchange::Body;
use engine::host::Level;
use engine::output;
use engine::phase::{ControlFace, SwitchOrder, Wake};
use engine::tls_session::{Verified, VerifyClient};
use http::escape::{Escape, Unescape, escape, unescape};
use std::future::poll_fn;
use std::io::Read;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use transport::stream::Stream;

/// The longest body of a call, in bytes.
const MAX_BODY: u64 = 1 << 20;
/// How much of an answer may wait for its client before the client counts as gone, in bytes. A single piece may be
/// longer.
const MAX_WAITING: usize = 1 << 20;

/// A part of an answer.
enum Part {
    Head(u16, Vec<(String, String)>),
    Chunk(Vec<u8>),
}

/// The control plane's end of an answer.
struct Answer {
    parts: UnboundedSender<Part>,
    waiting: Arc<AtomicUsize>,
}

impl ApiAnswer for Answer {
    fn head(&mut self, status: u16, headers: Vec<(String, String)>) {
        // That the client is gone shows at the first chunk.
        let _ = self.parts.send(Part::Head(status, headers));
    }

    fn chunk(&mut self, bytes: Vec<u8>) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting > 0 && waiting + bytes.len() > MAX_WAITING {
            return false;
        }
        self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        self.parts.send(Part::Chunk(bytes)).is_ok()
    }

    fn gone(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.parts.closed())
    }
}

/// Serves a call of the API, or a request of the dashboard.
pub(crate) async fn serve(cx: &mut RequestCx<'_>, face: ControlFace) -> Result<(), Unfinished> {
    let call = call(cx, face)?;
    // Event streams and orders that wait must not take the room of those whose traffic is switched. One of many requests on a
    // connection is no connection that could be set aside.
    let is_whole_conn = !matches!(cx.client.stream, Stream::Piped(_));
    let _aside = is_whole_conn.then(|| cx.client.thread.registry.set_aside()).flatten();
    let (parts, mut answer) = unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    cx.client.thread.control.call(call, Box::new(Answer { parts, waiting: Arc::clone(&waiting) }));
    // An answer that ends before it begins: the control plane has stopped.
    let Some(Part::Head(status, headers)) = next(cx.client, &mut answer).await? else {
        return Err(Unfinished::Status(503));
    };
    write_head(cx, status, headers)?;
    cx.send_wire().await?;
    while let Some(part) = next(cx.client, &mut answer).await? {
        let Part::Chunk(bytes) = part else { continue };
        cx.write_filtered(&bytes, false).await?;
        waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
    }
    cx.write_filtered(b"", true).await
}

/// Returns the next part of an answer; `None` at its end. A client that goes away meanwhile ends it: the control plane
/// learns that from the parts that nothing takes.
async fn next(client: &Client, parts: &mut UnboundedReceiver<Part>) -> Result<Option<Part>, Unfinished> {
    let mut watch_client = true;
    poll_fn(|cx| {
        if let Poll::Ready(part) = parts.poll_recv(cx) {
            return Poll::Ready(Ok(part));
        }
        if watch_client {
            match client.stream.poll_closed(cx) {
                Poll::Ready(true) => return Poll::Ready(Err(Unfinished::Broken)),
                Poll::Ready(false) => watch_client = false,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}

fn write_head(cx: &mut RequestCx<'_>, status: u16, headers: Vec<(String, String)>) -> Result<(), Unfinished> {
    let response = &mut cx.exchange.response;
    response.status = status;
    // The control plane has judged `If-Match`: its answer to an order has the revision that the order has made.
    response.from_upstream = true;
    // nginx has no reason phrases for these.
    response.status_line = match status {
        422 => Some(b"422 Unprocessable Content".to_vec()),
        428 => Some(b"428 Precondition Required".to_vec()),
        _ => None,
    };
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("content-type") {
            response.content_type = Some(value.into_bytes());
        } else if name.eq_ignore_ascii_case("content-length") {
            response.content_length = value.parse().ok();
        } else {
            response.headers.push(name.as_bytes(), value.as_bytes());
        }
    }
    Ok(cx.engine(output::write_head)?)
}

fn call(cx: &mut RequestCx<'_>, face: ControlFace) -> Result<ApiCall, Unfinished> {
    let body = match &cx.exchange.request.body {
        Body::Memory(bytes) if bytes.len() as u64 > MAX_BODY => return Err(Unfinished::Status(413)),
        Body::File(file) if file.len > MAX_BODY => return Err(Unfinished::Status(413)),
        Body::Memory(bytes) => bytes.clone(),
        Body::File(file) => {
            let mut bytes = Vec::new();
            let read =
                std::fs::File::open(&file.path).and_then(|file| file.take(MAX_BODY).read_to_end(&mut bytes));
            if let Err(error) = read {
                let text = format!("the body of a call of the control API cannot be read: {error}");
                cx.log(Level::Crit, text);
                return Err(Unfinished::Status(500));
            }
            bytes
        }
        Body::Unread | Body::Streaming | Body::Discarded => Vec::new(),
    };
    let exchange = &*cx.exchange;
    let head = &exchange.request.head;
    // The authority of a target in absolute form is the host asked for, whatever `Host` says (RFC 9112, section 3.2.2).
    let authority = head.authority();
    let fields = head.headers.iter().map(|(known, name, value)| match (known, authority) {
        (Some(http::Known::Host), Some(authority)) => (b"host".to_vec(), authority.to_vec()),
        _ => (name.to_ascii_lowercase(), value.to_vec()),
    });
    let address = exchange.connection.remote.map_or_else(String::new, |remote| remote.ip().to_string());
    Ok(ApiCall {
        method: exchange.method().to_vec(),
        path: path_below(exchange, cx.generation),
        query: exchange.request.args.clone(),
        headers: fields.collect(),
        body,
        actor: Origin {
            via: match face {
                ControlFace::Api => Via::Location,
                ControlFace::Dashboard => Via::Dashboard,
            },
            over_tls: exchange.connection.tls.is_some(),
            name: String::from_utf8_lossy(exchange.route.access.user_at(exchange.route.location))
                .into_owned(),
            certificate: verified_certificate(exchange, cx.generation),
            address,
            local: exchange.connection.local.map(|local| local.ip()),
            server_names: cx.generation.config.server(exchange.route.server).names.clone(),
        },
    })
}

/// Returns the client's certificate, if it leads to an authority of the request's own server: that of the handshake may have
/// been another one, with other authorities.
fn verified_certificate(exchange: &Exchange, generation: &Generation) -> Option<VerifiedCertificate> {
    let session = exchange.connection.tls.as_deref()?;
    let terms = &generation.config.server(exchange.route.server).ssl.terms;
    let is_verified =
        session.verified == Verified::Success && terms.verify != VerifyClient::Off && session.terms == *terms;
    let certificate = session.certificate.as_ref().filter(|_| is_verified)?;
    Some(VerifiedCertificate { sha256: certificate.sha256, subject: certificate.subject.clone() })
}

/// Returns the part of the target behind the location's name, beginning with `/`.
fn path_below(exchange: &Exchange, generation: &Generation) -> Vec<u8> {
    let location = exchange.location(&generation.config);
    let name: &[u8] = match location.modifier {
        Modifier::Regex | Modifier::Unnamed => b"",
        _ => &location.name,
    };
    let sent = match exchange.subrequests.is_inner() {
        true => b"",
        false => exchange.request.head.target(),
    };
    escaped_below(name, sent, &exchange.request.uri)
}

/// Returns what follows a location's name in a URI, escaped once, as it is decoded once. It is as it was sent, since a key in it
/// may hold an escaped `/`, if the target begins with the name and nothing but its escapes was changed; after anything else
/// (dots, rewrites, a request inside another one) it is what the location was found by.
fn escaped_below(name: &[u8], target: &[u8], uri: &[u8]) -> Vec<u8> {
    let sent = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let mut decoded = Vec::new();
    unescape(Unescape::Plain, sent, &mut decoded);
    let rest = match sent.strip_prefix(name).filter(|_| decoded == uri) {
        Some(rest) => rest.to_vec(),
        None => {
            let rest = uri.strip_prefix(name).unwrap_or(uri);
            let mut escaped = Vec::new();
            for (number, segment) in rest.split(|byte| *byte == b'/').enumerate() {
                escaped.extend_from_slice(if number > 0 { b"/" } else { b"" });
                escape(Escape::UriComponent, segment, &mut escaped);
            }
            escaped
        }
    };
    match rest.first() {
        Some(b'/') => rest,
        _ => [b"/", &*rest].concat(),
    }
}

/// Carries out a script's order to a switch.
pub(crate) async fn order(cx: &mut RequestCx<'_>, order: SwitchOrder) -> Wake {
    let client = &*cx.client;
    let switch = order.switch;
    let mut outcome = pin!(script_order::outcome(&client.thread, cx.generation, order));
    let mut watch_client = true;
    let outcome = poll_fn(|cx| {
        if let Poll::Ready(outcome) = outcome.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        if watch_client {
            match client.stream.poll_closed(cx) {
                Poll::Ready(true) => return Poll::Ready(None),
                Poll::Ready(false) => watch_client = false,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await;
    if outcome.is_none() {
        return Wake::Failed(499);
    }
    cx.exchange.script.switched = outcome;
    cx.exchange.switches.read_anew(switch);
    Wake::Done
}

#[cfg(test)]
mod tests {
    use super::escaped_below;

    #[test]
    fn path_of_a_call_is_the_one_that_access_rules_have_seen() {
        let rows = [
            // The location's name, the target, the URI it was found by, the path of the call.
            ("/control/", "/control/v1/status?x=1", "/control/v1/status", "/v1/status"),
            ("/control", "/control/v1/keys/a%2F", "/control/v1/keys/a/", "/v1/keys/a%2F"),
            ("/control/", "/control/v1/keys/%2570rod", "/control/v1/keys/%70rod", "/v1/keys/%2570rod"),
            // The name is escaped: what is behind it is not decoded a second time.
            ("/control/", "/%63ontrol/v1/keys/%2570rod", "/control/v1/keys/%70rod", "/v1/keys/%2570rod"),
            // Dots and slashes are gone.
            ("/control/", "/control/v1/x/../prod", "/control/v1/prod", "/v1/prod"),
            ("/control/", "/control//v1/status", "/control/v1/status", "/v1/status"),
            // Rewritten, or a request inside another one.
            ("/control/", "/control/ro/status", "/control/v1/status", "/v1/status"),
            ("/control/", "", "/control/v1/a ", "/v1/a%20"),
            ("", "/v1/status", "/v1/status", "/v1/status"),
        ];
        for (name, target, uri, path) in rows {
            let below = escaped_below(name.as_bytes(), target.as_bytes(), uri.as_bytes());
            assert_eq!(String::from_utf8(below).unwrap(), path, "{target}");
        }
    }
}
