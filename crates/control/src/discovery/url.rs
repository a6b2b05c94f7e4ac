//! A registry that is asked for a list of servers over HTTP.
//!
//! Owns one request at a time, on a connection of its own, and the `ETag` of the last good answer.

use super::list;
use super::looked_up::{FoundServers, LookedUp};
use engine::modules::upstream::UrlPlace;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use upstream::Address;

/// Who asks.
const AGENT: &str = concat!("pointsman/", env!("CARGO_PKG_VERSION"));

/// Asks one URL again and again.
pub(crate) struct UrlLookup {
    place: UrlPlace,
    /// Of the last good answer.
    tag: Option<HeaderValue>,
    /// The address that is asked first.
    next: usize,
}

/// An answer.
enum Answer {
    List(Bytes, Option<HeaderValue>),
    NotModified,
}

impl UrlLookup {
    pub(super) fn new(place: &UrlPlace) -> UrlLookup {
        UrlLookup { place: place.clone(), tag: None, next: 0 }
    }

    pub(super) async fn look(&mut self) -> LookedUp {
        let url = self.place.url.clone();
        let limit = Duration::from_millis(self.place.timeout_ms);
        let mut fault = String::new();
        for _ in 0..self.place.addresses.len() {
            let asked = tokio::time::timeout(limit, self.ask()).await;
            let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {} ms", limit.as_millis())));
            match asked {
                Ok(Answer::NotModified) => return LookedUp::Still,
                Ok(Answer::List(body, tag)) => match list::parse(&body) {
                    Ok(servers) => {
                        self.tag = tag;
                        return LookedUp::Found(FoundServers { servers, ..FoundServers::default() });
                    }
                    Err(text) => fault = format!("its answer is broken: {text}"),
                },
                Err(text) => fault = text,
            }
            // Another one may do better.
            self.next = (self.next + 1) % self.place.addresses.len();
        }
        LookedUp::Failed(format!("{url} could not be asked: {fault}"))
    }

    async fn ask(&self) -> Result<Answer, String> {
        let broke = |error: std::io::Error| format!("connection failed: {error}");
        match &self.place.addresses[self.next] {
            Address::Inet(address) => self.converse(TcpStream::connect(address).await.map_err(broke)?).await,
            Address::Unix(path) => self.converse(UnixStream::connect(path).await.map_err(broke)?).await,
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        &self,
        stream: S,
    ) -> Result<Answer, String> {
        let broke = |error: hyper::Error| format!("the connection broke: {error}");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        let connection = AbortOnDrop(tokio::task::spawn_local(async move { drop(connection.await) }));
        let mut request = Request::get(&*self.place.uri)
            .header(header::HOST, &*self.place.host)
            .header(header::USER_AGENT, AGENT)
            .header(header::ACCEPT, "application/json, text/plain")
            .header(header::CONNECTION, "close");
        if let Some(tag) = &self.tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(broke)?;
        match answer.status() {
            StatusCode::NOT_MODIFIED if self.tag.is_some() => return Ok(Answer::NotModified),
            StatusCode::OK => {}
            status => return Err(format!("it answered {}", status.as_u16())),
        }
        let tag = answer.headers().get(header::ETAG).cloned();
        let body = Limited::new(answer.into_body(), list::MAX_BYTES).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?;
        drop(connection);
        Ok(Answer::List(body.to_bytes(), tag))
    }
}

/// Ends a task with the request that it is for.
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
