//! The API in locations with `control_api`, and the dashboard in those with `control_ui`.
//!
//! Owns the conversion of calls to requests of the router, and of responses to answers. Calls differ from those of the
//! socket only in who is calling.

use super::context::Api;
use super::error::ApiError;
use super::router::router;
use crate::call::{ApiAnswer, ApiCall, Origin, Via};
use crate::dashboard::{self, TokenDoor};
use crate::service::ControlHandle;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use std::sync::Arc;
use tower::ServiceExt;

/// Answers a call.
pub(crate) async fn answer(control: ControlHandle, call: ApiCall, mut to: Box<dyn ApiAnswer>) {
    let from = call.actor.clone();
    let response = match request(call) {
        Ok(request) => {
            let answering = async {
                match from.via {
                    Via::Dashboard => of_dashboard(control, &from, request).await,
                    Via::Socket | Via::Location => of_api(control, request).await,
                }
            };
            // What the router has begun is finished without a client too: see `ControlHandle::order`.
            tokio::select! {
                biased;
                response = answering => response,
                () = to.gone() => return,
            }
        }
        Err(refused) => refused.into_response(),
    };
    pass_on(response, &mut *to).await;
}

async fn of_api(control: ControlHandle, request: Request<Body>) -> Response {
    let Ok(response) = router(Api::new(control)).oneshot(request).await;
    response
}

/// Answers what a browser asks of the dashboard; the calls of its page come from who has logged in there.
async fn of_dashboard(control: ControlHandle, from: &Origin, request: Request<Body>) -> Response {
    let (door, logins) = (Arc::new(TokenDoor::new(control.clone(), from.over_tls)), control.logins());
    let api = |mut request: Request<Body>, visitor| {
        request.extensions_mut().insert(visitor);
        of_api(control, request)
    };
    dashboard::answer(door, &logins, &from.address, request, api).await
}

fn request(call: ApiCall) -> Result<Request<Body>, ApiError> {
    let mut target = encoded(&call.path);
    if !call.query.is_empty() {
        target.push('?');
        target.push_str(&String::from_utf8_lossy(&call.query));
    }
    let bad =
        |what: &str| ApiError::bad_request(format!("invalid {what}"), "send a valid HTTP request (RFC 9110)");
    let uri = target.parse::<Uri>().map_err(|_| bad("path"))?;
    let method = Method::from_bytes(&call.method).map_err(|_| bad("method"))?;
    let mut request = Request::new(Body::from(call.body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    for (name, value) in &call.headers {
        let name = HeaderName::from_bytes(name).map_err(|_| bad("header field"))?;
        let value = HeaderValue::from_bytes(value).map_err(|_| bad("header field"))?;
        request.headers_mut().append(name, value);
    }
    request.extensions_mut().insert(call.actor);
    Ok(request)
}

/// Returns the path as it was sent, with every byte encoded that a target must not contain.
fn encoded(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for (at, &byte) in path.iter().enumerate() {
        let escape =
            byte == b'%' && path.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        if escape || byte.is_ascii_alphanumeric() || b"-._~/*:@!$&'()+,;=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

async fn pass_on(response: Response, to: &mut dyn ApiAnswer) {
    let (head, mut body) = response.into_parts();
    let mut headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    if let Some(length) = hyper::body::Body::size_hint(&body).exact()
        && !head.headers.contains_key(header::CONTENT_LENGTH)
    {
        headers.push(("content-length".into(), length.to_string()));
    }
    to.head(head.status.as_u16(), headers);
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = to.gone() => return,
        };
        let Some(Ok(frame)) = frame else { return };
        if let Ok(bytes) = frame.into_data()
            && !to.chunk(bytes.to_vec())
        {
            return;
        }
    }
}
