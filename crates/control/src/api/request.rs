//! Parsing of requests: path, query, conditions, body.
//!
//! Owns the extractors and their refusals. Must never fill in an absent field, except with a documented default.

use super::context::Api;
use super::error::ApiError;
use super::types::{self, Terms};
use crate::options::{HoldEnd, HoldOptions, HoldStreams, HoldThen, Options, Wait};
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, RawPathParams, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use engine::Config;
use engine::modules::switch::{GROUPS_NAME, SwitchSpec};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use switch::{Code, Expected, Key, Refusal, Route, Rules, Split, Table};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// The maximum size of a body.
pub(super) const MAX_BODY: usize = 1 << 20;
/// The maximum size of the body of a commit of many keys: some 100,000 of the longest usual names.
pub(super) const MAX_COMMIT_BODY: usize = 64 << 20;
/// The time within which a body must arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// The longest wait that an order may request.
const MAX_WAIT_MS: u64 = 3_600_000;
/// The maximum length of an idempotency key, in bytes.
const MAX_IDEMPOTENCY: usize = 200;

/// The parameters of a path.
pub(super) struct PathParams<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<PathParams<T>, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(place)) => Ok(PathParams(place)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => Err(ApiError::bad_request(
                error.body_text(),
                "write the path as /v1/openapi.json describes it",
            )),
            Err(error) => Err(ApiError::bad_request(error.body_text(), "")),
        }
    }
}

/// The switch and the key of a path. The empty key is an empty last segment.
pub(super) struct KeyPath(pub(super) String, pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for KeyPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<KeyPath, ApiError> {
        let remedy = "write the path as /v1/openapi.json describes it";
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|error| ApiError::bad_request(error.body_text(), remedy))?;
        let of =
            |name: &str| params.iter().find(|(known, _)| *known == name).map(|(_, text)| text.to_owned());
        Ok(KeyPath(of("name").unwrap_or_default(), of("key").unwrap_or_default()))
    }
}

/// The parameters of a query. Unknown names are refused.
pub(super) struct QueryParams<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<QueryParams<T>, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(question)) => Ok(QueryParams(question)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                let text = std::error::Error::source(&error).map_or(error.body_text(), ToString::to_string);
                Err(ApiError::bad_request(
                    format!("invalid query: {text}"),
                    "see /v1/openapi.json for the parameters",
                ))
            }
            Err(error) => Err(ApiError::bad_request(error.body_text(), "")),
        }
    }
}

/// The body of an order.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<JsonBody<T>, ApiError> {
        read(request, MAX_BODY).await.map(JsonBody)
    }
}

/// The body of a commit of many keys.
pub(super) struct CommitBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for CommitBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<CommitBody<T>, ApiError> {
        let length = request.headers().get("content-length").and_then(|length| length.to_str().ok());
        let is_small = length.and_then(number).is_some_and(|length| length <= MAX_BODY as u64);
        // One large body at a time is in memory. The semaphore is never closed.
        let _permit = if is_small { None } else { api.large_body.acquire().await.ok() };
        read(request, MAX_COMMIT_BODY).await.map(CommitBody)
    }
}

/// Reads and parses a body.
async fn read<T: DeserializeOwned>(request: Request, max: usize) -> Result<T, ApiError> {
    // A form of another site cannot send this type without asking first (Fetch, "CORS-safelisted request-header").
    if !is_json(request.headers()) {
        return Err(ApiError(Refusal::new(
            Code::BadMediaType,
            "the body is not JSON: an order needs Content-Type: application/json",
            "set the header Content-Type: application/json",
        )));
    }
    let bytes = whole(request.into_body(), max).await?;
    serde_json::from_slice(&bytes).map(|types::Object(order)| order).map_err(|error| {
        let text =
            if bytes.is_empty() { "the body is empty".into() } else { format!("invalid body: {error}") };
        ApiError::bad_request(
            text,
            "send a JSON object with fields of /v1/openapi.json; {} if no field is needed",
        )
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(kind)) = headers.get("content-type").map(|kind| kind.to_str()) else { return false };
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

async fn whole(body: axum::body::Body, max: usize) -> Result<Bytes, ApiError> {
    let gathered = tokio::time::timeout(BODY_TIME, Limited::new(body, max).collect()).await;
    match gathered {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError(Refusal::new(
            Code::TooLarge,
            format!("the body is larger than {max} bytes"),
            "split it into several commits",
        ))),
        Ok(Err(error)) => {
            Err(ApiError::bad_request(format!("the body is incomplete: {error}"), "send it again"))
        }
        Err(_) => Err(ApiError::bad_request(
            format!("the body did not arrive within {} s", BODY_TIME.as_secs()),
            "send it again",
        )),
    }
}

/// What an `If-Match` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// A revision of the switch.
    Switch(u64),
    /// The revision of a key's own entry; 0 for none.
    Entry(u64),
}

/// The conditions in the headers of an order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) expect: Option<Tag>,
    /// What the order makes is not there yet.
    pub(super) is_new: bool,
    pub(super) idempotency: Option<String>,
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
                "The ETag of an earlier answer: the revision that the switch must have, or (`\"entry-17\"`) that of the \
                 entry of each key of the order.",
                ObjectBuilder::new().pattern(Some(r#"^(\*|"(entry-)?[0-9]{1,18}")$"#)),
            ),
            header(
                "if-none-match",
                "`*`: only if no key of the order has an entry of its own; a server or a group that is added is not there.",
                ObjectBuilder::new().pattern(Some(r"^\*$")),
            ),
            header(
                "idempotency-key",
                "An order that is sent again with the same key is applied once.",
                ObjectBuilder::new().pattern(Some("^[!-~]+$")).max_length(Some(MAX_IDEMPOTENCY)),
            ),
        ]
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Conditions, ApiError> {
        let headers = &parts.headers;
        let (expect, is_new) = (if_match(headers)?, if_none_match(headers)?);
        Ok(Conditions { expect, is_new, idempotency: idempotency(headers)? })
    }
}

/// Returns what is expected (RFC 9110, section 13.1.1); `None` for `*`, which matches any.
fn if_match(headers: &HeaderMap) -> Result<Option<Tag>, ApiError> {
    let mut values = headers.get_all("if-match").iter();
    let (Some(value), more) = (values.next(), values.next()) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" && more.is_none() {
        return Ok(None);
    }
    let tag = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let tag = tag.and_then(|tag| match tag.strip_prefix("entry-") {
        Some(revision) => number(revision).map(Tag::Entry),
        None => number(tag).map(Tag::Switch),
    });
    match tag {
        Some(tag) if more.is_none() => Ok(Some(tag)),
        _ => Err(ApiError::bad_request(
            "invalid If-Match: expected one revision in quotes",
            "send the ETag of an earlier answer: If-Match: \"17\"",
        )),
    }
}

/// Returns true if the order expects that there is nothing yet (RFC 9110, section 13.1.2).
fn if_none_match(headers: &HeaderMap) -> Result<bool, ApiError> {
    let mut values = headers.get_all("if-none-match").iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.as_bytes().trim_ascii() == b"*" => Ok(true),
        _ => Err(ApiError::bad_request(
            "invalid If-None-Match: an order takes `*` alone",
            "send If-None-Match: * for what must not be there yet, and If-Match for a revision",
        )),
    }
}

/// Refuses conditions on what has no revision: ignored, they would seem to hold.
pub(super) async fn unconditional(request: Request, next: Next) -> Result<Response, ApiError> {
    let changes = !request.method().is_safe();
    match ["if-match", "if-none-match"].iter().find(|name| request.headers().contains_key(**name)) {
        Some(name) if changes => Err(ApiError::bad_request(
            format!("{name} has no meaning here: what is asked for has no revision"),
            "leave the header out",
        )),
        _ => Ok(next.run(request).await),
    }
}

fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Returns the caller's idempotency key (draft-ietf-httpapi-idempotency-key-header).
fn idempotency(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str().map(str::trim) {
        Ok(key) if (1..=MAX_IDEMPOTENCY).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(ApiError::bad_request(
            format!("invalid Idempotency-Key: expected 1 to {MAX_IDEMPOTENCY} visible ASCII characters"),
            "send a key of that form",
        )),
    }
}

/// Returns how long to wait.
pub(super) fn timeout(text: Option<&str>) -> Result<Option<Duration>, Refusal> {
    let timeout_ms = text.map(|text| span("timeout", text)).transpose()?;
    if timeout_ms.is_some_and(|ms| ms > MAX_WAIT_MS) {
        return Err(bad_order(
            "timeout is too long: at most 1h",
            "use a shorter timeout; the receipt reports the outcome later",
        ));
    }
    Ok(timeout_ms.map(Duration::from_millis))
}

/// Returns what to wait for.
pub(super) fn until(wait: Option<types::Wait>) -> Wait {
    match wait {
        Some(types::Wait::None) => Wait::None,
        Some(types::Wait::Published) | None => Wait::Published,
        Some(types::Wait::Drained) => Wait::Drained,
    }
}

/// Returns the options of an order.
pub(super) fn options(terms: &Terms) -> Result<Options, Refusal> {
    let hold = terms.hold.as_ref().map(|hold| {
        let bounds = bounds(hold.max, hold.timeout.as_deref(), hold.max_size.as_deref(), hold.per_second)?;
        let streams = match hold.streams {
            None => HoldStreams::Refuse,
            Some(types::HoldStreams::Wait) => HoldStreams::Wait,
            Some(types::HoldStreams::Close) => HoldStreams::Close,
        };
        Ok::<_, Refusal>(HoldOptions { streams, ..bounds })
    });
    Ok(Options {
        dry_run: terms.dry_run,
        gate: false,
        wait: until(terms.wait),
        timeout: timeout(terms.timeout.as_deref())?,
        hold: hold.transpose()?,
    })
}

/// Returns the limits of a hold.
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
            bad_order(format!("invalid max_size {text:?}: expected a size"), "write it as in nginx.conf: 16m")
        })
    });
    if per_second == Some(0) {
        return Err(bad_order(
            "per_second is 0: no request would be released",
            "omit it to release all at once",
        ));
    }
    Ok(HoldOptions {
        max: max.map_or(usual.max, |max| max as usize),
        timeout_ms: timeout.map(|text| span("timeout", text)).transpose()?.unwrap_or(usual.timeout_ms),
        max_bytes: max_bytes.transpose()?.unwrap_or(usual.max_bytes),
        per_second,
        streams: usual.streams,
    })
}

/// Returns how a hold ends by itself.
pub(super) fn hold_end(
    span_text: Option<&str>,
    then: Option<types::HoldThen>,
) -> Result<Option<HoldEnd>, Refusal> {
    let Some(text) = span_text else {
        let remedy = "say when the hold ends (for), or leave it out";
        return then
            .map_or(Ok(None), |_| Err(bad_order("the hold has no end, so nothing comes then", remedy)));
    };
    let then = match then {
        None | Some(types::HoldThen::Refuse) => HoldThen::Refuse,
        Some(types::HoldThen::Release) => HoldThen::Release,
    };
    match span("for", text)? {
        0 => Err(bad_order("the hold ends at once: its time is 0", "give it a time, or leave it out")),
        after_ms => Ok(Some(HoldEnd { after_ms, then })),
    }
}

/// Parses a time as in nginx.conf, in milliseconds.
pub(super) fn span(field: &str, text: &str) -> Result<u64, Refusal> {
    conf::value::parse_time_ms(text.as_bytes()).ok_or_else(|| {
        bad_order(
            format!("invalid {field} {text:?}: expected a time"),
            "write it as in nginx.conf: 30s, 10m, 1h30m",
        )
    })
}

/// Returns the rules of a switch.
pub(super) fn rules(config: &Config, name: &str) -> Result<Arc<Rules>, Refusal> {
    if name == GROUPS_NAME {
        return Ok(SwitchSpec::of_groups(config).rules);
    }
    let mut known = config.switches.iter().map(|spec| &spec.rules);
    known.clone().find(|rules| *rules.name == *name).cloned().ok_or_else(|| {
        let names: Vec<Arc<str>> = known.by_ref().map(|rules| Arc::from(&*rules.name)).collect();
        Refusal::unknown_switch(name, &names)
    })
}

/// Parses a key of a switch.
pub(super) fn key(rules: &Rules, text: &str) -> Result<Key, Refusal> {
    Key::parse(rules.kind, text.as_bytes(), rules.max_key_len)
        .map_err(|fault| Refusal::bad_key(text.as_bytes(), fault))
}

/// Refuses keys that get an entry for the first time and are probably not meant.
pub(super) fn check_new(
    rules: &Rules,
    table: &Table,
    changes: &[(Key, Option<Route>)],
    sure: bool,
) -> Result<(), Refusal> {
    for (key, _) in changes.iter().filter(|(key, route)| route.is_some() && table.get(key).is_none()) {
        rules.doubt(key, sure).map_err(|fault| Refusal::bad_key(key.as_str().as_bytes(), fault))?;
    }
    Ok(())
}

/// Parses the route that an order expects of its keys.
pub(super) fn expected_route(text: &str) -> Result<Expected, Refusal> {
    match text {
        "default" => Ok(Expected::NoEntry),
        text => {
            let route = Route::parse(text).map_err(|fault| Refusal::bad_route(text, &fault))?;
            Ok(Expected::Route(route))
        }
    }
}

/// Returns the route of an order: a target, a split, or (where allowed) the default.
pub(super) fn route(
    target: Option<String>,
    split: Option<std::collections::BTreeMap<String, u32>>,
    default: bool,
) -> Result<Option<Route>, Refusal> {
    match (target, split, default) {
        (Some(target), None, false) if !Route::may_name(&target) => Err(bad_order(
            format!("invalid target {target:?}: expected one upstream group"),
            "weights go into split: {\"green\": 10, \"blue\": 90}",
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
        (None, None, false) => Err(bad_order("the route is missing", "send a target or a split")),
        _ => {
            Err(bad_order("the route is given more than once", "send only one of target, split and default"))
        }
    }
}

/// Returns the refusal of an order that contradicts itself or is incomplete.
pub(super) fn bad_order(text: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadOrder, text, remedy)
}

/// Decodes percent-encoded text (RFC 3986, section 2.1); `None` if it is truncated or not UTF-8.
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
