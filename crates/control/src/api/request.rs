//! What a request says: its path, its query, its conditions, its body.
//!
//! Owns the reading of them into what the office takes, and the complaints about what cannot be read. Must never fill in
//! what was not said, except the documented defaults of an order's terms.

use super::entry::Caller;
use super::refused::Refused;
use super::types::{self, Terms};
use crate::order::{HoldOptions, Options, Wait};
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use engine::Config;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use switch::{Code, Key, Meta, Refusal, Route, Rules, Split};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// The largest body.
pub(super) const MAX_BODY: usize = 1 << 20;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(30);
/// The longest time that an order may ask to wait.
const MAX_WAIT_MS: u64 = 3_600_000;
/// The longest idempotency key, in bytes.
const MAX_IDEMPOTENCY: usize = 200;

/// The parts of a path.
pub(super) struct Place<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Place<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Place<T>, Refused> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(place)) => Ok(Place(place)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                Err(Refused::bad_request(error.body_text(), "write the path as the description has it"))
            }
            Err(error) => Err(Refused::bad_request(error.body_text(), "")),
        }
    }
}

/// The query. A name that is not known is refused.
pub(super) struct Question<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Question<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Question<T>, Refused> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(question)) => Ok(Question(question)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                let text = std::error::Error::source(&error).map_or(error.body_text(), ToString::to_string);
                Err(Refused::bad_request(
                    format!("the query cannot be understood: {text}"),
                    "what may be asked stands in /v1/openapi.json",
                ))
            }
            Err(error) => Err(Refused::bad_request(error.body_text(), "")),
        }
    }
}

/// The body of an order.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Body<T>, Refused> {
        // A form of another site cannot send this type without asking first (Fetch, "CORS-safelisted request-header").
        if !is_json(request.headers()) {
            return Err(Refused(Refusal::new(
                Code::BadMediaType,
                "an order has a body of the type application/json",
                "send it with the header Content-Type: application/json",
            )));
        }
        let bytes = whole(request.into_body()).await?;
        serde_json::from_slice(&bytes).map(|types::Object(order)| Body(order)).map_err(|error| {
            let text =
                if bytes.is_empty() { "the body is empty".into() } else { format!("the body: {error}") };
            Refused::bad_request(
                text,
                "send a JSON object with fields of /v1/openapi.json; {} if nothing is to be said",
            )
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(kind)) = headers.get("content-type").map(|kind| kind.to_str()) else { return false };
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

async fn whole(body: axum::body::Body) -> Result<Bytes, Refused> {
    let gathered = tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await;
    match gathered {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refused(Refusal::new(
            Code::TooLarge,
            format!("the body is larger than {MAX_BODY} bytes"),
            "make several commits of it",
        ))),
        Ok(Err(error)) => {
            Err(Refused::bad_request(format!("the body did not come whole: {error}"), "send it again"))
        }
        Err(_) => Err(Refused::bad_request("the body does not come", "send it again")),
    }
}

/// What the headers of an order say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    expect: Option<u64>,
    idempotency: Option<String>,
}

impl IntoParams for Conditions {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let header = |name: &str, description: &str, schema: ObjectBuilder| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Header)
                .description(Some(description))
                .schema(Some(schema.schema_type(Type::String)))
                .build()
        };
        vec![
            header(
                "if-match",
                "Only if the switch has this revision, as the ETag says it.",
                ObjectBuilder::new().pattern(Some(r#"^(\*|"[0-9]{1,18}")$"#)),
            ),
            header(
                "idempotency-key",
                "The same order with the same key is done once.",
                ObjectBuilder::new().pattern(Some("^[!-~]+$")).max_length(Some(MAX_IDEMPOTENCY)),
            ),
        ]
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Conditions, Refused> {
        Ok(Conditions { expect: if_match(&parts.headers)?, idempotency: idempotency(&parts.headers)? })
    }
}

/// The one revision that is expected (RFC 9110, section 13.1.1); none for `*`, which anything fits.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Refused> {
    let mut values = headers.get_all("if-match").iter();
    let (Some(value), more) = (values.next(), values.next()) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" && more.is_none() {
        return Ok(None);
    }
    let revision = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(number);
    match revision {
        Some(revision) if more.is_none() => Ok(Some(revision)),
        _ => Err(Refused::bad_request(
            "If-Match is no revision",
            "send one that an ETag said, in its quotes: If-Match: \"17\"",
        )),
    }
}

fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The caller's own name of the order (draft-ietf-httpapi-idempotency-key-header).
fn idempotency(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str().map(str::trim) {
        Ok(key) if (1..=MAX_IDEMPOTENCY).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Refused::bad_request(
            "Idempotency-Key is no key",
            format!("send between 1 and {MAX_IDEMPOTENCY} visible ASCII characters"),
        )),
    }
}

/// Who orders it, and under which conditions.
pub(super) fn meta(caller: Caller, conditions: Conditions, terms: &Terms) -> Result<Meta, Refusal> {
    Ok(Meta {
        actor: caller.actor,
        reason: terms.reason.clone(),
        expect: conditions.expect,
        idempotency: conditions.idempotency,
        force: terms.force,
        confirm_within_ms: terms
            .confirm_within
            .as_deref()
            .map(|text| span("confirm_within", text))
            .transpose()?,
    })
}

/// How it is to be carried out.
pub(super) fn options(terms: &Terms) -> Result<Options, Refusal> {
    let timeout_ms = terms.timeout.as_deref().map(|text| span("timeout", text)).transpose()?;
    if timeout_ms.is_some_and(|ms| ms > MAX_WAIT_MS) {
        return Err(bad_order(
            "timeout is too long",
            "at most 1h; what became of an order tells its receipt",
        ));
    }
    let hold = terms
        .hold
        .as_ref()
        .map(|hold| bounds(hold.max, hold.timeout.as_deref(), hold.max_size.as_deref(), hold.per_second));
    Ok(Options {
        dry_run: terms.dry_run,
        wait: match terms.wait {
            Some(types::Wait::None) => Wait::None,
            Some(types::Wait::Published) | None => Wait::Published,
            Some(types::Wait::Drained) => Wait::Drained,
        },
        timeout: timeout_ms.map(Duration::from_millis),
        hold: hold.transpose()?,
    })
}

/// The bounds of a hold.
pub(super) fn bounds(
    max: Option<u32>,
    timeout: Option<&str>,
    max_size: Option<&str>,
    per_second: Option<u32>,
) -> Result<HoldOptions, Refusal> {
    let usual = HoldOptions::default();
    let max_bytes = max_size.map(|text| {
        let size = conf::value::parse_size(text.as_bytes()).and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| {
            bad_order(format!("max_size: {text:?} is no size"), "write it as in nginx.conf: 16m")
        })
    });
    if per_second == Some(0) {
        return Err(bad_order("per_second is 0", "leave it out to let all go at once"));
    }
    Ok(HoldOptions {
        max: max.map_or(usual.max, |max| max as usize),
        timeout_ms: timeout.map(|text| span("timeout", text)).transpose()?.unwrap_or(usual.timeout_ms),
        max_bytes: max_bytes.transpose()?.unwrap_or(usual.max_bytes),
        per_second,
    })
}

/// A time as nginx.conf writes it, in milliseconds.
fn span(field: &str, text: &str) -> Result<u64, Refusal> {
    conf::value::parse_time_ms(text.as_bytes()).ok_or_else(|| {
        bad_order(format!("{field}: {text:?} is no time"), "write it as in nginx.conf: 30s, 10m, 1h30m")
    })
}

/// The rules of a switch.
pub(super) fn rules(config: &Config, name: &str) -> Result<Arc<Rules>, Refusal> {
    let mut known = config.switches.iter().map(|spec| &spec.rules);
    known.clone().find(|rules| *rules.name == *name).cloned().ok_or_else(|| {
        let names: Vec<Arc<str>> = known.by_ref().map(|rules| Arc::from(&*rules.name)).collect();
        Refusal::unknown_switch(name, &names)
    })
}

/// A key of a switch.
pub(super) fn key(rules: &Rules, text: &str) -> Result<Key, Refusal> {
    Key::parse(rules.kind, text.as_bytes(), rules.max_key_len)
        .map_err(|fault| Refusal::bad_key(text.as_bytes(), fault))
}

/// Where a key shall lead: one of a target, shares, and (where it may be said) the default.
pub(super) fn route(
    target: Option<String>,
    split: Option<std::collections::BTreeMap<String, u32>>,
    default: bool,
) -> Result<Option<Route>, Refusal> {
    match (target, split, default) {
        (Some(target), None, false) if !Route::may_name(&target) => Err(bad_order(
            format!("target: {target:?} is no name of one target"),
            "shares stand in split: {\"green\": 10, \"blue\": 90}",
        )),
        (Some(target), None, false) => Ok(Some(Route::One(target.into()))),
        (None, Some(split), false) => {
            let shares = split.iter().map(|(target, weight)| (Arc::from(target.as_str()), *weight)).collect();
            match Split::new(shares) {
                // One share is the whole.
                Ok(split) if split.shares().len() == 1 => {
                    Ok(Some(Route::One(split.shares()[0].target.clone())))
                }
                Ok(split) => Ok(Some(Route::Split(split))),
                Err(fault) => {
                    let words: Vec<String> =
                        split.iter().map(|(target, weight)| format!("{target}={weight}")).collect();
                    Err(Refusal::bad_route(&words.join(" "), &fault))
                }
            }
        }
        (None, None, true) => Ok(None),
        (None, None, false) => {
            Err(bad_order("it is not said where the key shall lead", "send a target or a split"))
        }
        _ => {
            Err(bad_order("it is said twice where a key shall lead", "send one of target, split and default"))
        }
    }
}

/// The order contradicts itself, or a part of it is missing.
pub(super) fn bad_order(text: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadOrder, text, remedy)
}

/// Percent-encoded text (RFC 3986, section 2.1); nothing if it is not UTF-8 or broken off.
pub(super) fn decoded(bytes: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let ([high, low], after) = rest.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        out.push((digit(*high)? * 16 + digit(*low)?) as u8);
        rest = after;
    }
    String::from_utf8(out).ok()
}
