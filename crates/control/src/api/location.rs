//! Calls that came in through a location with `control_api`.
//!
//! Owns the way from a call to a request of the router, and from its response to the answer. Must never treat them in
//! another way than those of the socket, but for who is calling.

use super::refused::Refused;
use super::router::Api;
use crate::call::{ApiAnswer, ApiCall};
use crate::office::Office;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;

/// Answers a call.
pub(crate) async fn answer(office: Office, call: ApiCall, mut to: Box<dyn ApiAnswer>) {
    let response = match request(call) {
        Ok(request) => match Api::new(office).router().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        Err(refused) => refused.into_response(),
    };
    pass_on(response, &mut *to).await;
}

fn request(call: ApiCall) -> Result<Request<Body>, Refused> {
    let mut target = encoded(&call.path);
    if !call.query.is_empty() {
        target.push('?');
        target.push_str(&String::from_utf8_lossy(&call.query));
    }
    let bad = |what: &str| {
        Refused::bad_request(format!("{what} cannot be understood"), "send it as RFC 9110 has it")
    };
    let uri = target.parse::<Uri>().map_err(|_| bad("the path"))?;
    let method = Method::from_bytes(&call.method).map_err(|_| bad("the method"))?;
    let mut request = Request::new(Body::from(call.body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    for (name, value) in &call.headers {
        let name = HeaderName::from_bytes(name).map_err(|_| bad("a header"))?;
        let value = HeaderValue::from_bytes(value).map_err(|_| bad("a header"))?;
        request.headers_mut().append(name, value);
    }
    request.extensions_mut().insert(call.actor);
    Ok(request)
}

/// The path as it was sent, with whatever may not stand in a target encoded: clients send more than they should.
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
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(bytes) = frame.into_data()
            && !to.chunk(bytes.to_vec())
        {
            return;
        }
    }
}
