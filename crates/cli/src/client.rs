//! A conversation with the control API.
//!
//! Owns the connection, the repetition of what got no answer, and the reading of refusals. Must never show anything.

use crate::fault::{Code, Fault};
use crate::place::Place;
use control::api::types::Problem;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// The longest time to get a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest time for an answer, beside what the order itself waits for.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
/// How long an order that got no answer is sent again: a worker that died is back within that time.
const REPEAT: Duration = Duration::from_secs(5);
/// Between two repetitions.
const PAUSE: Duration = Duration::from_millis(200);

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// From `/v1`, encoded.
    pub(crate) path: String,
    /// Beside those that every call has.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// JSON.
    pub(crate) body: Option<Vec<u8>>,
    /// The longest time for the whole answer.
    pub(crate) limit: Duration,
}

impl Call {
    /// A question, which changes nothing.
    pub(crate) fn get(path: impl Into<String>) -> Call {
        Call { method: Method::GET, path: path.into(), headers: Vec::new(), body: None, limit: ANSWER }
    }
}

/// One server, spoken to on a connection for each call.
pub(crate) struct Client {
    place: Place,
    /// `Authorization`, for a location.
    token: Option<String>,
    runtime: Runtime,
}

/// Why no answer came.
enum Failed {
    /// There is no connection: nothing was sent.
    Connect(io::Error),
    /// It broke, or took too long.
    Answer(String),
}

impl Client {
    /// Speaks to nobody yet.
    pub(crate) fn new(place: Place, token: Option<String>) -> Result<Client, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Fault::new(Code::Unreachable, "system", format!("cannot wait for anything: {error}"), "")
        })?;
        Ok(Client { place, token, runtime })
    }

    /// Asks, and reads the answer as JSON.
    pub(crate) fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<(T, Vec<u8>), Fault> {
        let body = self.send(call)?;
        match serde_json::from_slice(&body) {
            Ok(value) => Ok((value, body)),
            Err(error) => Err(self.strange(&error.to_string())),
        }
    }

    /// Asks, and answers the body of an answer of 200 or so. What carries an idempotency key is sent again if its
    /// connection breaks, and so are questions: neither can happen twice.
    pub(crate) fn send(&self, call: &Call) -> Result<Vec<u8>, Fault> {
        let repeatable =
            call.method == Method::GET || call.headers.iter().any(|(name, _)| *name == "idempotency-key");
        let began = Instant::now();
        let mut sent = false;
        self.runtime.block_on(async {
            loop {
                match timeout(call.limit, self.exchange(call)).await {
                    Ok(Ok((status, body))) if (200..300).contains(&status) => return Ok(body),
                    Ok(Ok((status, body))) => return Err(self.refusal(status, &body)),
                    Ok(Err(Failed::Connect(error))) => {
                        if !sent || began.elapsed() > REPEAT {
                            let text = error.to_string();
                            return Err(if sent {
                                self.silent(call, &text)
                            } else {
                                self.unreachable(&error)
                            });
                        }
                    }
                    Ok(Err(Failed::Answer(error))) => {
                        sent = true;
                        if !repeatable || began.elapsed() > REPEAT {
                            return Err(self.silent(call, &error));
                        }
                    }
                    Err(_) => return Err(self.silent(call, "it takes too long")),
                }
                tokio::time::sleep(PAUSE).await;
            }
        })
    }

    /// Listens to a stream of events until `each`, which gets piece after piece of the body, has had enough, or the
    /// stream ends.
    pub(crate) fn listen(
        &self,
        call: &Call,
        mut each: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.runtime.block_on(async {
            let answer = timeout(call.limit, self.begin(call)).await;
            let mut response = match answer {
                Ok(Ok(response)) => response,
                Ok(Err(Failed::Connect(error))) => return Err(self.unreachable(&error)),
                Ok(Err(Failed::Answer(error))) => return Err(self.silent(call, &error)),
                Err(_) => return Err(self.silent(call, "it takes too long")),
            };
            let status = response.status().as_u16();
            if status != 200 {
                let body =
                    response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                return Err(self.refusal(status, &body));
            }
            // That the stream breaks is its usual end: the server stops, or is loaded again.
            while let Some(Ok(frame)) = response.body_mut().frame().await {
                if let Some(bytes) = frame.data_ref() {
                    each(bytes)?;
                }
            }
            Ok(())
        })
    }

    async fn exchange(&self, call: &Call) -> Result<(u16, Vec<u8>), Failed> {
        let response = self.begin(call).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| Failed::Answer(error.to_string()))?;
        Ok((status, body.to_bytes().to_vec()))
    }

    /// Sends and waits for the head of the answer.
    async fn begin(&self, call: &Call) -> Result<Response<Incoming>, Failed> {
        match &self.place {
            Place::Socket(path) => {
                let stream = connected(UnixStream::connect(path)).await?;
                self.over(stream, call, "pointsman", "").await
            }
            Place::Http { authority, base } => {
                let stream = connected(TcpStream::connect(authority)).await?;
                self.over(stream, call, authority, base).await
            }
        }
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        call: &Call,
        host: &str,
        base: &str,
    ) -> Result<Response<Incoming>, Failed> {
        let broken = |error: hyper::Error| Failed::Answer(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Its error is the response's error too.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{base}{}", call.path))
            .header("host", host)
            .header("user-agent", concat!("pointsman/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if call.body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let body = Full::new(Bytes::from(call.body.clone().unwrap_or_default()));
        let request = request.body(body).map_err(|error| Failed::Answer(error.to_string()))?;
        sender.send_request(request).await.map_err(broken)
    }

    fn unreachable(&self, error: &io::Error) -> Fault {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "is pointsman running with this configuration? -p and -c, or --control, say which one is meant"
            }
            io::ErrorKind::ConnectionRefused => {
                "pointsman is not running: start it, or say where with --control"
            }
            io::ErrorKind::PermissionDenied => {
                "only its owner may open the control socket; mode= and group= of the control directive let others in"
            }
            _ => "",
        };
        Fault::new(Code::Unreachable, "unreachable", format!("cannot reach {}: {error}", self.place), remedy)
    }

    /// No answer came.
    fn silent(&self, call: &Call, error: &str) -> Fault {
        let text = format!("no answer from {}: {error}", self.place);
        match call.method {
            Method::GET => Fault::new(Code::Unreachable, "no_answer", text, "its error log may say why"),
            _ => Fault::new(Code::Unknown, "no_answer", text, "see what was done with `pointsman history`"),
        }
    }

    fn strange(&self, error: &str) -> Fault {
        let text = format!("{} answers what is not understood: {error}", self.place);
        let remedy = "is it pointsman, and of the same version as this program?";
        Fault::new(Code::Unreachable, "not_understood", text, remedy)
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Fault {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => Fault::refused(problem),
            Err(_) if status == 401 || status == 403 => Fault::new(
                Code::Refused,
                "forbidden",
                format!("{} lets nobody in without a name (status {status})", self.place),
                "put a token of its control_tokens into the environment variable POINTSMAN_TOKEN",
            ),
            Err(_) => self.strange(&format!("status {status}")),
        }
    }
}

async fn connected<S>(connecting: impl Future<Output = io::Result<S>>) -> Result<S, Failed> {
    match timeout(CONNECT, connecting).await {
        Ok(connected) => connected.map_err(Failed::Connect),
        Err(_) => Err(Failed::Connect(io::ErrorKind::TimedOut.into())),
    }
}

/// A key that no other order has: orders carry one, so that they can be sent again safely.
pub(crate) fn fresh_key() -> String {
    // Each RandomState is seeded anew by the system or by counting on, and the rest tells processes apart.
    let now = std::time::SystemTime::now();
    let one = RandomState::new().hash_one((now, std::process::id()));
    let other = RandomState::new().hash_one((one, now));
    format!("cli-{one:016x}{other:016x}")
}

/// A piece of a path or query, encoded (RFC 3986, section 2.1).
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_a_path() {
        assert_eq!(encoded("*.shop.example.com"), "%2A.shop.example.com");
        assert_eq!(encoded("a/b c?ü"), "a%2Fb%20c%3F%C3%BC");
    }

    #[test]
    fn no_two_orders_have_the_same_key() {
        let keys: std::collections::HashSet<String> = (0..1000).map(|_| fresh_key()).collect();
        assert_eq!(keys.len(), 1000);
    }
}
