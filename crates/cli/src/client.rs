//! A conversation with the control API.
//!
//! Owns the connection, retries of what got no answer, and the parsing of refusals. Must never print anything.

use crate::endpoint::{self, Endpoint};
use crate::error::{Code, Error};
use crate::tls_options::TlsOptions;
use bstr::ByteSlice;
use control::api::types::Problem;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{SigSet, Signal};
use serde::de::DeserializeOwned;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Time limit for a connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Time limit for an answer, not counting what the order itself waits for.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
/// How long an order that got no answer is retried: a worker that died is restarted within that time.
const REPEAT: Duration = Duration::from_secs(5);
/// The name of the error of an order whose wait was interrupted.
pub(crate) const INTERRUPTED: &str = "interrupted";
/// Between two retries.
const PAUSE: Duration = Duration::from_millis(200);

/// A request to the API.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// From `/v1` on, encoded.
    pub(crate) path: String,
    /// In addition to those that every call has.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// JSON.
    pub(crate) body: Option<Vec<u8>>,
    /// Time limit for the whole answer.
    pub(crate) limit: Duration,
    /// A signal that ends the program ends this call instead, with an error that says so.
    pub(crate) catches: bool,
}

impl Call {
    /// Returns a query, which changes nothing.
    pub(crate) fn get(path: impl Into<String>) -> Call {
        let (method, path, headers) = (Method::GET, path.into(), Vec::new());
        Call { method, path, headers, body: None, limit: ANSWER, catches: false }
    }
}

/// One server, with a connection for each call.
pub(crate) struct ApiClient {
    endpoint: Endpoint,
    /// The bearer token, for a location.
    token: Option<String>,
    /// For an https address.
    tls: Option<TlsConnector>,
    runtime: Runtime,
}

/// Why no answer came.
enum Failed {
    /// There is no connection: nothing was sent.
    Connect(io::Error),
    /// It broke, or took too long.
    Answer(String),
}

impl ApiClient {
    /// Opens no connection yet.
    pub(crate) fn new(
        endpoint: Endpoint,
        token: Option<String>,
        tls: &TlsOptions,
    ) -> Result<ApiClient, Error> {
        if token.is_some() {
            tls.check_token(&endpoint)?;
        }
        let tls = match &endpoint {
            Endpoint::Http { over_tls: true, .. } => Some(TlsConnector::from(tls.config()?)),
            _ => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Error::new(Code::Unreachable, "system", format!("cannot create an event loop: {error}"), "")
        })?;
        Ok(ApiClient { endpoint, token, tls, runtime })
    }

    /// Sends a call and parses the answer as JSON.
    pub(crate) fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<(T, Vec<u8>), Error> {
        let body = self.send(call)?;
        match serde_json::from_slice(&body) {
            Ok(value) => Ok((value, body)),
            Err(error) => Err(self.strange(&error.to_string())),
        }
    }

    /// Sends a call and returns the body of a successful answer. A call with an idempotency key is retried if its
    /// connection breaks, and so is a query: neither can take effect twice.
    pub(crate) fn send(&self, call: &Call) -> Result<Vec<u8>, Error> {
        let repeatable =
            call.method == Method::GET || call.headers.iter().any(|(name, _)| *name == "idempotency-key");
        let began = Instant::now();
        let mut sent = false;
        // Nothing is interrupted before it is sent, so that what follows may ask what became of it.
        let mut interrupt = pin!(interrupt(call.catches));
        self.runtime.block_on(async {
            loop {
                let answer = tokio::select! {
                    answer = timeout(call.limit, self.exchange(call)) => answer,
                    () = &mut interrupt => {
                        return Err(Error::new(Code::Unknown, INTERRUPTED, "interrupted", ""));
                    }
                };
                match answer {
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
                    Err(_) => return Err(self.silent(call, "timed out")),
                }
                tokio::time::sleep(PAUSE).await;
            }
        })
    }

    /// Passes a stream of events to `each`, piece by piece, until it fails or the stream ends.
    pub(crate) fn listen(
        &self,
        call: &Call,
        mut each: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.runtime.block_on(async {
            let answer = timeout(call.limit, self.begin(call)).await;
            let mut response = match answer {
                Ok(Ok(response)) => response,
                Ok(Err(Failed::Connect(error))) => return Err(self.unreachable(&error)),
                Ok(Err(Failed::Answer(error))) => return Err(self.silent(call, &error)),
                Err(_) => return Err(self.silent(call, "timed out")),
            };
            let status = response.status().as_u16();
            if status != 200 {
                let body =
                    response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                return Err(self.refusal(status, &body));
            }
            // Streams usually end by breaking: the server stops or reloads.
            while let Some(Ok(frame)) = response.body_mut().frame().await {
                if let Some(bytes) = frame.data_ref() {
                    each(bytes)?;
                }
            }
            Ok(())
        })
    }

    /// Sends a call and returns its answer as it comes, whatever it is.
    pub(crate) async fn pass(&self, call: &Call) -> Result<Response<Incoming>, Error> {
        match timeout(call.limit, self.begin(call)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(Failed::Connect(error))) => Err(self.unreachable(&error)),
            Ok(Err(Failed::Answer(error))) => Err(self.silent(call, &error)),
            Err(_) => Err(self.silent(call, "timed out")),
        }
    }

    /// Returns what the server takes the caller for, as far as that is known here.
    pub(crate) fn caller(&self) -> String {
        let uid = nix::unistd::geteuid();
        match (&self.endpoint, &self.token) {
            (Endpoint::Socket(_), _) => match nix::unistd::User::from_uid(uid) {
                Ok(Some(user)) => format!("unix:{uid}({})", user.name),
                _ => format!("unix:{uid}"),
            },
            (Endpoint::Http { .. }, Some(_)) => "the holder of POINTSMAN_TOKEN".to_owned(),
            (Endpoint::Http { authority, .. }, None) => format!("a client of {authority}"),
        }
    }

    async fn exchange(&self, call: &Call) -> Result<(u16, Vec<u8>), Failed> {
        let response = self.begin(call).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| Failed::Answer(error.to_string()))?;
        Ok((status, body.to_bytes().to_vec()))
    }

    /// Sends a call and waits for the head of the answer.
    async fn begin(&self, call: &Call) -> Result<Response<Incoming>, Failed> {
        match &self.endpoint {
            Endpoint::Socket(path) => {
                let stream = connected(UnixStream::connect(path)).await?;
                self.over(stream, call, "pointsman", "").await
            }
            Endpoint::Http { authority, base, .. } => {
                let stream = connected(TcpStream::connect(authority)).await?;
                let Some(tls) = &self.tls else { return self.over(stream, call, authority, base).await };
                let name = ServerName::try_from(endpoint::host_of(authority).to_owned());
                let name = name.map_err(|error| Failed::Connect(io::Error::other(error)))?;
                let stream = connected(tls.connect(name, stream)).await?;
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

    fn unreachable(&self, error: &io::Error) -> Error {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "is pointsman running with this configuration? choose another with -p and -c, or with --control"
            }
            io::ErrorKind::ConnectionRefused => {
                "pointsman is not running: start it, or give its address with --control"
            }
            // What rustls says.
            io::ErrorKind::InvalidData => {
                "give the authority that signs the server's certificate with --cacert, and use a name that the certificate has"
            }
            io::ErrorKind::PermissionDenied => {
                "only its owner may open the control socket; mode= and group= of the control directive admit others"
            }
            _ => "",
        };
        Error::new(
            Code::Unreachable,
            "unreachable",
            format!("cannot reach {}: {error}", self.endpoint),
            remedy,
        )
    }

    /// Returns the error of a call that got no answer.
    fn silent(&self, call: &Call, error: &str) -> Error {
        let text = format!("no answer from {}: {error}", self.endpoint);
        match call.method {
            Method::GET => Error::new(Code::Unreachable, "no_answer", text, "its error log may say why"),
            _ => Error::new(
                Code::Unknown,
                "no_answer",
                text,
                "check with `pointsman history` whether it was done",
            ),
        }
    }

    fn strange(&self, error: &str) -> Error {
        let text = format!("unexpected answer from {}: {error}", self.endpoint);
        let remedy = "is it pointsman, in the same version as this program?";
        Error::new(Code::Unreachable, "not_understood", text, remedy)
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Error {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => Error::refused(problem),
            Err(_) if status == 401 || status == 403 => Error::new(
                Code::Refused,
                "forbidden",
                format!(
                    "{} {} (HTTP {status})",
                    self.endpoint,
                    if status == 401 { "requires authentication" } else { "denies access" }
                ),
                "set the environment variable POINTSMAN_TOKEN to a token from its control_tokens",
            ),
            // What the server answers to a certificate that it does not accept, and to a missing one.
            Err(_) if status == 400 && self.tls.is_some() && body.find("SSL certificate").is_some() => {
                Error::new(
                    Code::Refused,
                    "forbidden",
                    format!("{} did not accept the client certificate (HTTP 400)", self.endpoint),
                    "give one that its ssl_client_certificate has signed with --cert and --key",
                )
            }
            // What a port with TLS answers to a request in clear, in nginx's words.
            Err(_) if status == 400 && self.tls.is_none() && body.find("sent to HTTPS port").is_some() => {
                Error::new(
                    Code::Unreachable,
                    "not_understood",
                    format!("{} speaks TLS", self.endpoint),
                    "write https:// instead of http://",
                )
            }
            Err(_) => self.strange(&format!("HTTP {status}")),
        }
    }
}

/// Resolves when the program is asked to end (Ctrl-C, or SIGTERM as CI systems send it) while it waits for an order. It cannot
/// be ended from then on, so that it says what has become of the order: `timeout` sends its signal twice. A query may be ended
/// as the system does it.
async fn interrupt(catches: bool) {
    let (sender, asked) = oneshot::channel();
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    let before = SigSet::thread_get_mask();
    if catches && signals.thread_block().is_ok() {
        // When the answer is there, the program can be ended again: a drain may still be shown then.
        let unblocked = before.ok().map(Unblock);
        // The thread inherits the mask, so that the signals are delivered to nothing but its wait.
        std::thread::spawn(move || signals.wait().map(|_| sender.send(())));
        if asked.await.is_ok() {
            std::mem::forget(unblocked);
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Puts the mask of signals back, when it is dropped, as it was.
struct Unblock(SigSet);

impl Drop for Unblock {
    fn drop(&mut self) {
        // It was valid before.
        let _ = self.0.thread_set_mask();
    }
}

async fn connected<S>(connecting: impl Future<Output = io::Result<S>>) -> Result<S, Failed> {
    match timeout(CONNECT, connecting).await {
        Ok(connected) => connected.map_err(Failed::Connect),
        Err(_) => Err(Failed::Connect(io::ErrorKind::TimedOut.into())),
    }
}

/// Returns an idempotency key for one order, so that it can be retried safely: 128 random bits.
pub(crate) fn fresh_key() -> Result<String, Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| {
        Error::new(Code::Unreachable, "system", format!("no random numbers: {error}"), "")
    })?;
    Ok(format!("cli-{:032x}", u128::from_be_bytes(bits)))
}

/// Returns a secret of 256 random bits, in hexadecimal.
pub(crate) fn secret() -> Result<String, Error> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).map_err(|error| {
        Error::new(Code::Unreachable, "system", format!("no random numbers: {error}"), "")
    })?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Encodes a part of a path or query (RFC 3986, section 2.1).
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
        let keys: std::collections::HashSet<String> = (0..1000).map(|_| fresh_key().unwrap()).collect();
        assert_eq!(keys.len(), 1000);
    }
}
