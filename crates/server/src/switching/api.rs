//! What the control plane is asked through a request: a call of its API in a location, an order of a script.
//!
//! Owns the way there and back, so that a slow or vanished client costs the control plane nothing: what is not taken in
//! time is bounded, and beyond the bound the client counts as gone. Must never interpret a call or its answer.

use crate::client::Client;
use crate::generation::{Generation, Pinned};
use crate::host::with_env;
use crate::request_body::say;
use crate::respond::Unfinished;
use crate::worker::Worker;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use control::{ApiAnswer, ApiCall, Origin, Via};
use engine::Exchange;
use engine::config::Modifier;
use engine::exchange::Body;
use engine::host::Level;
use engine::output;
use engine::phase::{SwitchOrder, Wake};
use std::future::poll_fn;
use std::io::Read;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

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
        // A client that has gone is told of at the first chunk.
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
}

/// Serves a call of the API.
pub(crate) async fn serve(
    client: &mut Client,
    exchange: &mut Exchange,
    generation: &Pinned,
) -> Result<(), Unfinished> {
    let call = call(client, exchange, generation)?;
    let (parts, mut answer) = unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    client.worker.office.call(call, Box::new(Answer { parts, waiting: Arc::clone(&waiting) }));
    // An answer that ends before it has begun: the control plane has stopped.
    let Some(Part::Head(status, headers)) = next(client, &mut answer).await? else {
        return Err(Unfinished::Status(503));
    };
    write_head(client, exchange, generation, status, headers)?;
    client.send_wire(exchange, generation).await?;
    while let Some(part) = next(client, &mut answer).await? {
        let Part::Chunk(bytes) = part else { continue };
        with_env(&client.worker, generation, |env| output::write_body(exchange, env, &bytes, false))?;
        client.send_wire(exchange, generation).await?;
        waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
    }
    with_env(&client.worker, generation, |env| output::write_body(exchange, env, b"", true))?;
    Ok(client.send_wire(exchange, generation).await?)
}

/// The next part of an answer; none at its end. A client that goes away meanwhile ends it: who is asked learns it from
/// the parts that nobody takes.
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

fn write_head(
    client: &Client,
    exchange: &mut Exchange,
    generation: &Generation,
    status: u16,
    headers: Vec<(String, String)>,
) -> Result<(), Unfinished> {
    exchange.response.status = status;
    // nginx has no words for these.
    exchange.response.status_line = match status {
        422 => Some(b"422 Unprocessable Content".to_vec()),
        428 => Some(b"428 Precondition Required".to_vec()),
        _ => None,
    };
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("content-type") {
            exchange.response.content_type = Some(value.into_bytes());
        } else if name.eq_ignore_ascii_case("content-length") {
            exchange.response.content_length = value.parse().ok();
        } else {
            exchange.response.headers.push(name.as_bytes(), value.as_bytes());
        }
    }
    Ok(with_env(&client.worker, generation, |env| output::write_head(exchange, env))?)
}

fn call(client: &Client, exchange: &mut Exchange, generation: &Generation) -> Result<ApiCall, Unfinished> {
    let body = match &exchange.request.body {
        Body::Memory(bytes) if bytes.len() as u64 > MAX_BODY => return Err(Unfinished::Status(413)),
        Body::File(file) if file.len > MAX_BODY => return Err(Unfinished::Status(413)),
        Body::Memory(bytes) => bytes.clone(),
        Body::File(file) => {
            let mut bytes = Vec::new();
            let read =
                std::fs::File::open(&file.path).and_then(|file| file.take(MAX_BODY).read_to_end(&mut bytes));
            if let Err(error) = read {
                let text = format!("the body of a call of the control API cannot be read: {error}");
                say(client, exchange, generation, Level::Crit, &text);
                return Err(Unfinished::Status(500));
            }
            bytes
        }
        Body::Unread | Body::Streaming | Body::Discarded => Vec::new(),
    };
    let name = verified_user(client, exchange, generation);
    let head = &exchange.request.head;
    // The authority of a target in absolute form is the host asked for, whatever `Host` says (RFC 9112 §3.2.2).
    let authority = head.authority();
    let fields = head.headers.iter().map(|(known, name, value)| match (known, authority) {
        (Some(http::Known::Host), Some(authority)) => (b"host".to_vec(), authority.to_vec()),
        _ => (name.to_ascii_lowercase(), value.to_vec()),
    });
    let address = exchange.connection.remote.map_or_else(String::new, |remote| remote.ip().to_string());
    Ok(ApiCall {
        method: exchange.method().to_vec(),
        path: path_below(exchange, generation),
        query: exchange.request.args.clone(),
        headers: fields.collect(),
        body,
        actor: Origin {
            via: Via::Location,
            name,
            address,
            local: exchange.connection.local.map(|local| local.ip()),
            server_names: generation.config.server(exchange.route.server).names.clone(),
        },
    })
}

/// The name under which `auth_basic` has let the client in; empty where it asks for none, whatever the client says.
fn verified_user(client: &Client, exchange: &mut Exchange, generation: &Generation) -> String {
    let settings = &generation.config.location(exchange.route.location).settings.auth_basic;
    let Some(realm) = &*settings.realm else { return String::new() };
    if with_env(&client.worker, generation, |env| realm.value(exchange, env)) == b"off" {
        return String::new();
    }
    let field = exchange.request.head.headers.get(http::Known::Authorization).unwrap_or_default();
    let encoded = field.split_at_checked(6).map_or(&b""[..], |(_, rest)| rest.trim_ascii());
    let decoded = BASE64.decode(encoded).unwrap_or_default();
    let name = decoded.split(|byte| *byte == b':').next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// What of the target is behind the location's name, as it was sent: a key in it may hold an escaped `/`.
fn path_below(exchange: &Exchange, generation: &Generation) -> Vec<u8> {
    let location = generation.config.location(exchange.route.location);
    let name: &[u8] = match location.modifier {
        Modifier::Regex | Modifier::Unnamed => b"",
        _ => &location.name,
    };
    let target = exchange.request.head.target();
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let rest = match path.strip_prefix(name) {
        Some(rest) if !exchange.request.uri_changed || path.starts_with(b"/") => rest,
        _ => exchange.request.uri.strip_prefix(name).unwrap_or(&exchange.request.uri),
    };
    match rest.first() {
        Some(b'/') => rest.to_vec(),
        _ => [b"/", rest].concat(),
    }
}

/// Hands an order in, and answers what will become of it: the new revision, or why it was refused.
pub(crate) fn outcome(
    worker: &Worker,
    generation: &Generation,
    order: SwitchOrder,
) -> impl Future<Output = Result<u64, String>> + 'static {
    let (answer, answered) = oneshot::channel();
    if let Some(spec) = generation.config.switches.get(order.switch) {
        let reply = Box::new(move |result| drop(answer.send(result)));
        let SwitchOrder { key, target, actor, .. } = order;
        worker.office.set_from_lua(&spec.rules.name, &key, target.as_deref(), actor, reply);
    }
    async {
        match answered.await {
            Ok(Ok(revision)) => Ok(revision),
            Ok(Err(refusal)) => Err(refusal.text),
            Err(_) => Err("the control plane is stopping".to_owned()),
        }
    }
}

/// Carries out a script's order to a switch.
pub(crate) async fn order(
    client: &mut Client,
    exchange: &mut Exchange,
    generation: &Generation,
    order: SwitchOrder,
) -> Wake {
    let mut outcome = pin!(outcome(&client.worker, generation, order));
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
    exchange.script.switched = outcome;
    Wake::Done
}
