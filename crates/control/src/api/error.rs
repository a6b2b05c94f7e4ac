//! Refusals as HTTP answers.
//!
//! Owns its form: status by the code, the body a [`Problem`]. Must never lose the details.

use super::types::Problem;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use switch::{Code, Details, Refusal};
use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response as Described, ResponseBuilder};

/// The media type of refusals (RFC 9457 has `type` and `title` where this has `code` and `text`).
pub(super) const PROBLEM: &str = "application/problem+json";

/// A refusal as an answer of the API.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) Refusal);

/// What an answer refuses, for the journal.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) code: Code,
    pub(super) text: String,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        ApiError(refusal)
    }
}

impl ApiError {
    /// Returns a refusal of a malformed request.
    pub(super) fn bad_request(text: impl Into<String>, remedy: impl Into<String>) -> ApiError {
        ApiError(Refusal::new(Code::BadRequest, text, remedy))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.0.code;
        let refused = Refused { code, text: self.0.text.clone() };
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(problem(self.0))).into_response();
        response.extensions_mut().insert(refused);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        match code {
            Code::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Code::TooManyLogins => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            }
            Code::Busy | Code::Stopping | Code::TooManyCalls | Code::NoMaster | Code::StoreUnreachable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// Converts a refusal to JSON's form.
pub(super) fn problem(refusal: Refusal) -> Problem {
    let details = match refusal.details {
        Details::None => BTreeMap::new(),
        Details::Revisions { expected, actual } => {
            BTreeMap::from([("expected".into(), json!(expected)), ("actual".into(), json!(actual))])
        }
        Details::Keys(keys) => {
            let keys: Vec<Value> =
                keys.iter().map(|(key, text)| json!({"key": key.as_str(), "text": text})).collect();
            BTreeMap::from([("keys".into(), Value::from(keys))])
        }
        Details::Names(names) => {
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            BTreeMap::from([("names".into(), json!(names))])
        }
        Details::Servers(servers) => {
            let servers: Vec<Value> =
                servers.iter().map(|(server, text)| json!({"server": server, "text": text})).collect();
            BTreeMap::from([("servers".into(), Value::from(servers))])
        }
        Details::Findings(lines) => BTreeMap::from([("findings".into(), json!(lines))]),
    };
    Problem { code: refusal.code.name().into(), text: refusal.text, remedy: refusal.remedy, details }
}

/// The refusals of queries, for the description.
pub(super) struct QueryErrors;

/// The refusals of orders, for the description.
pub(super) struct OrderErrors;

/// The refusals of queries about the fleet, for the description.
pub(super) struct FleetErrors;

fn refuses_queries(code: Code) -> bool {
    use Code::{BadKey, BadRequest, Busy, Forbidden, Internal, NotFound, Stopping, Unauthorized};
    use Code::{StoreDamaged, StoreFailed, StoreLocked, TooManyCalls, UnknownRevision, UnknownSwitch};
    let of_stores = matches!(code, StoreDamaged | StoreFailed | StoreLocked);
    let of_names = matches!(code, BadKey | NotFound | UnknownRevision | UnknownSwitch);
    let of_calls = matches!(code, BadRequest | Busy | Internal | Stopping | TooManyCalls);
    of_stores || of_names || of_calls || matches!(code, Forbidden | Unauthorized)
}

impl IntoResponses for QueryErrors {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        described(refuses_queries)
    }
}

impl IntoResponses for FleetErrors {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        described(|code| refuses_queries(code) || matches!(code, Code::NotInFleet | Code::StoreUnreachable))
    }
}

impl IntoResponses for OrderErrors {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        described(|code| !matches!(code, Code::MethodNotAllowed | Code::TooManyLogins))
    }
}

/// Returns each status of these codes, with what the codes mean.
fn described(has: impl Fn(Code) -> bool) -> BTreeMap<String, RefOr<Described>> {
    let mut meanings: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in Code::ALL.iter().copied().filter(|code| has(*code)) {
        meanings.entry(code.status()).or_default().push(format!("`{code}`: {}", code.meaning()));
    }
    let response = |meanings: Vec<String>| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        RefOr::T(ResponseBuilder::new().description(meanings.join("\n\n")).content(PROBLEM, content).build())
    };
    meanings.into_iter().map(|(status, meanings)| (status.to_string(), response(meanings))).collect()
}
