//! The way of a request to the dashboard.
//!
//! Owns the paths beside the API's, the order of the checks, and the headers that keep other pages out. Must never let a
//! request through to the API that has no session, nor an act without the page's own Origin and its session's CSRF token.

use super::assets;
use super::door::{Door, Visitor};
use super::proof;
use super::sessions::{Id, Login, Logins};
use crate::api::error::ApiError;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::modules::control::Role;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use switch::{Code, Refusal};

/// The largest body of a login.
const MAX_LOGIN: usize = 4096;

/// What the page may load and do: its own files and its own server, nothing inline; no other page may frame it. Texts never
/// become markup (Trusted Types), wherever they come from.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const HEADERS: &[(&str, &str)] = &[
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

/// A login.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    secret: String,
}

/// What the page is told of its session.
#[derive(Debug, Serialize)]
struct Known {
    name: String,
    role: &'static str,
    csrf: String,
    /// When it ends at the latest, in milliseconds since 1970.
    until_ms: u64,
    version: &'static str,
}

/// Answers a request of a client at this address. Calls of the API go to `api`, with their visitor, once they have shown
/// that they come from the dashboard's page.
pub async fn answer<F, Fut>(
    door: Arc<dyn Door>,
    logins: &Arc<Logins>,
    address: &str,
    request: Request,
    api: F,
) -> Response
where
    F: FnOnce(Request, Visitor) -> Fut,
    Fut: Future<Output = Response>,
{
    let front = Front { door, logins, address };
    let mut response = match front.answer(request, api).await {
        Ok(response) => response,
        Err(refusal) => ApiError(refusal).into_response(),
    };
    // A browser's own question for a password would not help.
    response.headers_mut().remove(header::WWW_AUTHENTICATE);
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

struct Front<'a> {
    door: Arc<dyn Door>,
    logins: &'a Arc<Logins>,
    address: &'a str,
}

impl Front<'_> {
    async fn answer<F, Fut>(&self, request: Request, api: F) -> Result<Response, Refusal>
    where
        F: FnOnce(Request, Visitor) -> Fut,
        Fut: Future<Output = Response>,
    {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let path = request.uri().path().to_owned();
        proof::of_place(&*self.door, request.headers(), reads && path == "/")?;
        if !reads {
            proof::of_page(request.headers())?;
        }
        let session = self.session(request.headers());
        match (&*path, request.method()) {
            ("/", _) if reads => Ok(assets::page(session.is_some())),
            ("/session", &Method::POST) => self.log_in(request).await,
            ("/session", &Method::DELETE) => {
                let (id, login) = session.ok_or_else(logged_out)?;
                proof::of_csrf(request.headers(), &login.csrf)?;
                self.logins.sessions.end(id);
                let mut response = StatusCode::NO_CONTENT.into_response();
                self.set_cookie(&mut response, "", true);
                Ok(response)
            }
            ("/session", _) if reads => {
                let (_, login) = session.ok_or_else(logged_out)?;
                Ok(Json(known(&login)).into_response())
            }
            (path, _) if reads && path.starts_with("/assets/") => {
                let name = path.trim_start_matches("/assets/");
                if session.is_none() && !assets::is_open(name) {
                    return Err(logged_out());
                }
                assets::file(name, request.headers()).ok_or_else(|| nothing(path))
            }
            (path, _) if path.starts_with("/v1/") => {
                let (id, login) = session.ok_or_else(logged_out)?;
                if !reads {
                    self.check_act(request.headers(), &login)?;
                }
                let answer = api(request, login.visitor).await;
                Ok(self.while_it_lasts(answer, id))
            }
            (path, _) => match session {
                Some(_) => Err(nothing(path)),
                None => Err(logged_out()),
            },
        }
    }

    /// Returns the session of a request, with the rights that its visitor has now.
    fn session(&self, headers: &HeaderMap) -> Option<(Id, Login)> {
        let name = self.door.cookie();
        let now = Instant::now();
        let mut ids = proof::cookies(headers, &name).map(Id::of);
        let (id, mut login) = ids.find_map(|id| Some((id, self.logins.sessions.touch(id, now)?)))?;
        match self.door.role(&login.visitor) {
            Some(role) => {
                login.visitor.role = role;
                Some((id, login))
            }
            None => {
                self.logins.sessions.end(id);
                None
            }
        }
    }

    fn check_act(&self, headers: &HeaderMap, login: &Login) -> Result<(), Refusal> {
        let name = &login.visitor.name;
        let checked = proof::of_csrf(headers, &login.csrf).and_then(|()| match login.visitor.role {
            Role::Operator => Ok(()),
            Role::Viewer => {
                let text = format!("{name} has read-only access");
                Err(Refusal::new(Code::Forbidden, text, self.door.way_to_operate()))
            }
        });
        checked.inspect_err(|refusal| self.door.note_refusal(name, refusal.code, &refusal.text))
    }

    async fn log_in(&self, request: Request) -> Result<Response, Refusal> {
        let is_json =
            request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        if !is_json {
            return Err(Refusal::new(
                Code::BadMediaType,
                "the body is not JSON",
                "log in on the dashboard's page",
            ));
        }
        let attempt = self.logins.attempts.begin(self.address, Instant::now()).map_err(|wait| {
            let text = format!("too many failed logins from {}", self.address);
            let remedy = format!("try again in {} s", wait.as_secs() + 1);
            Refusal::new(Code::TooManyLogins, text, remedy)
        })?;
        let bad =
            || Refusal::new(Code::BadRequest, "the login is malformed", "log in on the dashboard's page");
        let body =
            Limited::new(request.into_body(), MAX_LOGIN).collect().await.map_err(|_| bad())?.to_bytes();
        let Secret { secret } = serde_json::from_slice(&body).map_err(|_| bad())?;
        let Some(visitor) = self.door.open(secret.trim()) else {
            let refusal = Refusal::new(
                Code::Unauthorized,
                "this opens nothing: it is unknown, or was used already",
                "log in with a token that control_tokens lists; `pointsman dashboard` prints an address that opens once",
            );
            self.door.note_refusal(
                "dashboard",
                refusal.code,
                &format!("a login from {} failed", self.address),
            );
            return Err(refusal);
        };
        self.logins.attempts.succeeded(attempt);
        let begun = self.logins.sessions.begin(visitor, Instant::now());
        let (id, login) = begun.ok_or_else(|| {
            Refusal::new(Code::Internal, "the system gives no random numbers", "see the log of the system")
        })?;
        let mut response = Json(known(&login)).into_response();
        self.set_cookie(&mut response, &id, false);
        Ok(response)
    }

    fn set_cookie(&self, response: &mut Response, value: &str, is_over: bool) {
        let name = self.door.cookie();
        let secure = if self.door.is_encrypted() { "; Secure" } else { "" };
        let age = if is_over { "; Max-Age=0" } else { "" };
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{age}");
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(header::SET_COOKIE, value);
        }
    }

    /// Ends a stream of events with its session.
    fn while_it_lasts(&self, response: Response, id: Id) -> Response {
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != "text/event-stream") {
            return response;
        }
        let (door, logins) = (Arc::clone(&self.door), Arc::clone(self.logins));
        let is_on = Box::new(move || {
            let visitor = logins.sessions.visitor(id, Instant::now());
            visitor.is_some_and(|visitor| door.role(&visitor).is_some())
        });
        response.map(|body| Body::new(Ending { body, is_on }))
    }
}

/// A stream that ends when its session has ended: that is seen at the next event, or after 15 seconds.
struct Ending {
    body: Body,
    is_on: Box<dyn Fn() -> bool + Send>,
}

impl hyper::body::Body for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.filter(|_| (self.is_on)()))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn known(login: &Login) -> Known {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    Known {
        name: login.visitor.name.clone(),
        role: match login.visitor.role {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
        },
        csrf: login.csrf.clone(),
        until_ms: now_ms + login.left(Instant::now()).as_millis() as u64,
        version: env!("CARGO_PKG_VERSION"),
    }
}

fn logged_out() -> Refusal {
    Refusal::new(Code::Unauthorized, "no one is logged in here, or the login has ended", "log in again")
}

fn nothing(path: &str) -> Refusal {
    Refusal::new(
        Code::NotFound,
        format!("unknown path: {path}"),
        "the dashboard is at the location's own name",
    )
}
