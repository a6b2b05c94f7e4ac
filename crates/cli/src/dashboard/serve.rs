//! The listener of `pointsman dashboard`.
//!
//! Owns its connections and its end, and the way of the page's calls to the server. Must never listen elsewhere than on
//! 127.0.0.1, nor serve a process of another user.

use super::door::SecretDoor;
use super::peer;
use crate::client::{ApiClient, Call};
use crate::error::{Code, Error};
use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use control::dashboard::{Logins, answer};
use engine::modules::control::Role;
use http_body_util::{BodyExt, Limited};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// The largest body of a call.
const MAX_BODY: usize = 1 << 20;
/// The time within which a request's head must arrive.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How often it is looked whether the time without a request is over.
const GLANCE: Duration = Duration::from_millis(500);
/// The longest a call may take; a stream of events may go on.
const ANSWER: Duration = Duration::from_secs(3600);
/// The fields of a call that go on to the server.
const PASSED: [&str; 4] = ["accept", "idempotency-key", "if-match", "last-event-id"];

/// Serves the dashboard until no page has asked for anything for `idle`; `tell` gets its address.
pub(super) fn serve(
    client: ApiClient,
    operate: bool,
    port: u16,
    idle: Duration,
    tell: impl FnOnce(&str) -> Result<(), Error>,
) -> Result<(), Error> {
    let fault = |what: &str, error: &dyn std::fmt::Display, remedy: &str| {
        Error::new(Code::Unreachable, "system", format!("{what}: {error}"), remedy)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| fault("cannot create an event loop", &error, ""))?;
    let secret = crate::client::secret()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(|error| {
            fault(&format!("cannot listen on 127.0.0.1:{port}"), &error, "choose another port with --port")
        })?;
        let local =
            listener.local_addr().map_err(|error| fault("the listener has no address", &error, ""))?;
        let role = if operate { Role::Operator } else { Role::Viewer };
        // The process ends with it.
        let served: &Served = Box::leak(Box::new(Served {
            door: Arc::new(SecretDoor::new(&secret, client.caller(), role, local.port())),
            logins: Arc::default(),
            client,
        }));
        tell(&format!("http://{local}/#secret={secret}"))?;
        let began = Instant::now();
        loop {
            let last = served.logins.last_used().unwrap_or(began);
            if last.elapsed() >= idle {
                return Ok(());
            }
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => admit(served, stream, address, local),
                    Err(_) => tokio::time::sleep(GLANCE).await,
                },
                () = tokio::time::sleep(GLANCE) => {}
            }
        }
    })
}

/// What the connections share.
struct Served {
    door: Arc<SecretDoor>,
    logins: Arc<Logins>,
    client: ApiClient,
}

/// Serves a connection, if it is one of the user who runs the command.
fn admit(served: &'static Served, stream: TcpStream, address: SocketAddr, local: SocketAddr) {
    match peer::user_of(address, local) {
        Some(user) if peer::is_admitted(user) => {
            tokio::spawn(converse(served, stream, address));
        }
        Some(user) => eprintln!("pointsman: refused a connection of another user (uid {user})"),
        None => eprintln!("pointsman: refused a connection whose user the system does not tell"),
    }
}

async fn converse(served: &'static Served, stream: TcpStream, address: SocketAddr) {
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
        let (door, logins, client) = (served.door.clone(), served.logins.clone(), address.ip().to_string());
        let api = |request, _| pass_on(&served.client, request);
        Ok::<_, Infallible>(answer(door, &logins, &client, request.map(Body::new), api).await)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service);
    // The browser has seen what broke the connection.
    let _ = serving.await;
}

/// Passes a call on to the server, and its answer back.
async fn pass_on(client: &ApiClient, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
    };
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let field = |name: &'static str| Some((name, head.headers.get(name)?.to_str().ok()?.to_owned()));
    let call = Call {
        method: head.method,
        path,
        headers: PASSED.into_iter().filter_map(field).collect(),
        body: (!reads).then(|| body.to_vec()),
        limit: ANSWER,
        catches: false,
    };
    match client.pass(&call).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, Json(error.problem)).into_response(),
    }
}
