//! Requests to an issuer, and to servers that say which hosts may have certificates.
//!
//! Owns the connections, their time limits, and what the last answer said beside its body: of that the protocol's crate
//! keeps nothing, and how long to wait is there.

use crate::schedule::{self, Cause};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// The longest time for a connection to the issuer.
const CONNECT: Duration = Duration::from_secs(15);
/// The longest time for an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest answer.
const MAX_BODY: usize = 1 << 20;

/// Why nothing was issued.
#[derive(Debug)]
pub(crate) struct OrderFailure {
    pub(crate) cause: Cause,
    pub(crate) text: String,
    /// For how long the issuer asks to wait.
    pub(crate) retry_after_s: Option<u64>,
}

impl OrderFailure {
    /// Returns one in which the issuer refused, or could do nothing else.
    pub(crate) fn refused(text: impl Into<String>) -> OrderFailure {
        OrderFailure { cause: Cause::Refused, text: text.into(), retry_after_s: None }
    }

    /// Returns one in which the issuer, or this machine, has troubles that pass.
    pub(crate) fn unreachable(text: impl Into<String>) -> OrderFailure {
        OrderFailure { cause: Cause::Unreachable, text: text.into(), retry_after_s: None }
    }
}

/// What the last request came to.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Why there was no answer.
    fault: Option<String>,
    status: u16,
    retry_after: Option<String>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct IssuerClient {
    tls: TlsConnector,
    seen: Arc<Mutex<Seen>>,
}

impl IssuerClient {
    pub(crate) fn new(config: Arc<ClientConfig>) -> IssuerClient {
        IssuerClient { tls: TlsConnector::from(config), seen: Arc::default() }
    }

    /// Returns what an error means for the next attempt, in the light of the last answer.
    pub(crate) fn failure(&self, error: &Error, now_s: u64) -> OrderFailure {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let retry_after_s = seen.retry_after.and_then(|field| schedule::retry_after_s(&field, now_s));
        if let Some(text) = seen.fault {
            return OrderFailure::unreachable(text);
        }
        let limited =
            |kind: Option<&str>| seen.status == 429 || kind == Some("urn:ietf:params:acme:error:rateLimited");
        let (cause, text) = match error {
            Error::Api(problem) => {
                let cause = match problem.r#type.as_deref() {
                    kind if limited(kind) => Cause::RateLimited,
                    // Asked for again some times already: it has forgotten what it gave, as after a restart.
                    Some("urn:ietf:params:acme:error:badNonce") => Cause::Unreachable,
                    _ if seen.status >= 500 => Cause::Unreachable,
                    _ => Cause::Refused,
                };
                (cause, format!("it says \"{problem}\""))
            }
            _ if limited(None) => (Cause::RateLimited, "it answers with the status 429".to_owned()),
            _ if seen.status >= 400 => {
                (Cause::Unreachable, format!("it answers with the status {}", seen.status))
            }
            Error::Timeout(_) => (Cause::Unreachable, "it took too long to decide".to_owned()),
            error => (Cause::Unreachable, format!("its answer makes no sense: {error}")),
        };
        OrderFailure { cause, text, retry_after_s }
    }
}

impl HttpClient for IssuerClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let uri = request.uri().clone();
            let answer = timeout(ANSWER, exchange(&client.tls, request)).await;
            let answer = answer.unwrap_or_else(|_| Err("it does not answer in time".to_owned()));
            let mut seen = client.seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen = Seen::default();
            match answer {
                Ok(response) => {
                    seen.status = response.status().as_u16();
                    let field = response.headers().get(RETRY_AFTER).and_then(|field| field.to_str().ok());
                    seen.retry_after = field.map(str::to_owned);
                    Ok(BytesResponse::from(response))
                }
                Err(fault) => {
                    seen.fault = Some(format!("{uri}: {fault}"));
                    Err(Error::Str("no answer"))
                }
            }
        })
    }
}

/// The longest time for the answer whether a host may have a certificate.
const PERMISSION: Duration = Duration::from_secs(5);

/// Asks a server whether a host may have a certificate: a status of 200 to 299 says yes. Fails if it does not answer.
pub(crate) async fn may_have(address: &str, name: &str, config: Arc<ClientConfig>) -> Result<bool, String> {
    let join = if address.contains('?') { '&' } else { '?' };
    let request = Request::get(format!("{address}{join}domain={name}")).body(Full::<Bytes>::default());
    let request = request.map_err(|error| error.to_string())?;
    let tls = TlsConnector::from(config);
    let answer = timeout(PERMISSION, exchange(&tls, request)).await;
    let answer = answer.map_err(|_| "it does not answer in time".to_owned())?;
    Ok(answer?.status().is_success())
}

/// Sends a request on a connection of its own: there are few, and long pauses between them.
async fn exchange<B>(tls: &TlsConnector, request: Request<B>) -> Result<Response<Full<Bytes>>, String>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let uri = request.uri().clone();
    let host = uri.host().ok_or("it is no address")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_tls = uri.scheme_str() == Some("https");
    let address = (bare, uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }));
    let connect = async { TcpStream::connect(address).await.map_err(|error| error.to_string()) };
    let late = "it cannot be reached in time";
    let stream = timeout(CONNECT, connect).await.map_err(|_| late)??;
    if !is_tls {
        return exchange_on(stream, request).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
    let connect = async { tls.connect(name, stream).await.map_err(|error| error.to_string()) };
    exchange_on(timeout(CONNECT, connect).await.map_err(|_| late)??, request).await
}

async fn exchange_on<S, B>(stream: S, mut request: Request<B>) -> Result<Response<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let uri = request.uri().clone();
    let host = uri.host().unwrap_or_default();
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let authority = HeaderValue::from_str(authority).map_err(|error| error.to_string())?;
    request.headers_mut().insert(HOST, authority);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>().map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| error.to_string())?;
        Ok(Response::from_parts(head, Full::new(body.to_bytes())))
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        // It ends when the answer is there, or fails, which the answer says.
        Err(error) = connection => Err(error.to_string()),
    }
}

/// Returns the seconds since the epoch.
pub(crate) fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;
    use instant_acme::Problem;
    use tokio_rustls::rustls::RootCertStore;

    fn client(seen: Seen) -> IssuerClient {
        let config =
            ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let client = IssuerClient::new(Arc::new(config));
        *client.seen.lock().unwrap() = seen;
        client
    }

    fn problem(kind: &str) -> Error {
        let text = format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"no"}}"#);
        Error::Api(serde_json::from_str::<Problem>(&text).unwrap())
    }

    #[test]
    fn each_failure_has_its_cause() {
        let answer = |status: StatusCode, after: Option<&str>| Seen {
            fault: None,
            status: status.as_u16(),
            retry_after: after.map(str::to_owned),
        };
        let cause = |seen: Seen, error: &Error| {
            let failure = client(seen).failure(error, 100);
            (failure.cause, failure.retry_after_s)
        };
        let none = Error::Str("x");
        let gone = Seen { fault: Some("refused".into()), ..Seen::default() };
        assert_eq!(cause(gone, &none), (Cause::Unreachable, None));
        let limited = answer(StatusCode::TOO_MANY_REQUESTS, Some("7"));
        assert_eq!(cause(limited.clone(), &none), (Cause::RateLimited, Some(7)));
        assert_eq!(cause(limited, &problem("malformed")), (Cause::RateLimited, Some(7)));
        let refused = answer(StatusCode::FORBIDDEN, None);
        assert_eq!(cause(refused.clone(), &problem("rateLimited")), (Cause::RateLimited, None));
        assert_eq!(cause(refused.clone(), &problem("rejectedIdentifier")), (Cause::Refused, None));
        assert_eq!(cause(refused, &problem("badNonce")).0, Cause::Unreachable);
        let broken = answer(StatusCode::SERVICE_UNAVAILABLE, Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(cause(broken.clone(), &problem("serverInternal")).0, Cause::Unreachable);
        assert_eq!(cause(broken, &none).1, Some(784_111_777 - 100));
        assert_eq!(cause(answer(StatusCode::OK, None), &none), (Cause::Unreachable, None));
    }
}
