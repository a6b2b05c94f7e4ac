//! Authentication and authorization of API requests.
//!
//! Owns the actor's name, the roles, and the defence against web pages of other sites. Must never trust a name that the
//! request itself claims, except as a remark beside the authenticated one.

use super::context::Api;
use super::error::{ApiError, Refused};
use super::own_host;
use crate::call::{Origin, Via};
use crate::dashboard::Visitor;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine::modules::control::{Role, Tokens};
use sha2::{Digest, Sha256};
use switch::{Code, Refusal};

/// The header by which a client says on whose behalf it acts.
const FOR: &str = "x-pointsman-actor";
/// The maximum length of such a name, in bytes.
const MAX_FOR: usize = 100;

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The actor's name in the history.
    pub(super) actor: String,
    /// The authenticated part of it.
    pub(super) identity: String,
    /// How it came in.
    pub(super) via: Via,
    /// Its role.
    role: Role,
}

/// Admits a request with its [`Caller`], or refuses it.
pub(super) async fn enter(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    // Every transport adds one; without it the caller is unknown.
    let Some(origin) = request.extensions().get::<Origin>().cloned() else {
        return ApiError(unauthorized("the request has no known origin")).into_response();
    };
    let config = api.control.config();
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let admitted = match origin.via {
        Via::Dashboard => logged_in(request.extensions().get()),
        Via::Socket | Via::Location => {
            admitted(changes, request.headers(), &origin, config.control.tokens.get())
        }
    };
    let caller = match admitted {
        Ok(caller) => caller,
        Err(refusal) => return ApiError(refusal).into_response(),
    };
    let actor = caller.actor.clone();
    let response = if changes && caller.role < Role::Operator {
        let text = format!("{actor} has read-only access");
        ApiError(Refusal::new(Code::Forbidden, text, "use an operator's token")).into_response()
    } else {
        request.extensions_mut().insert(caller);
        next.run(request).await
    };
    if let Some(Refused { code, text }) = response.extensions().get() {
        api.control.note_refusal(&actor, *code, text);
    }
    response
}

/// Returns the caller of a request that changes something, or does not.
fn admitted(changes: bool, headers: &HeaderMap, origin: &Origin, tokens: &Tokens) -> Result<Caller, Refusal> {
    if changes {
        same_site(headers)?;
    }
    caller(headers, origin, tokens)
}

/// Returns the caller of a request that the dashboard has let through.
fn logged_in(visitor: Option<&Visitor>) -> Result<Caller, Refusal> {
    let Visitor { name, role, .. } = visitor.ok_or_else(|| unauthorized("no one is logged in"))?;
    Ok(Caller { actor: name.clone(), identity: name.clone(), via: Via::Dashboard, role: *role })
}

fn caller(headers: &HeaderMap, origin: &Origin, tokens: &Tokens) -> Result<Caller, Refusal> {
    if let Some(token) = bearer(headers) {
        let hash: [u8; 32] = Sha256::digest(token).into();
        return match tokens.find(&hash) {
            Some(token) => {
                let identity = token.name.to_string();
                Ok(Caller { actor: acting(&identity, headers)?, identity, via: origin.via, role: token.role })
            }
            None => Err(unauthorized("the token is not in control_tokens")),
        };
    }
    let certificate = origin.certificate.as_ref();
    if let Some(holder) = certificate.and_then(|it| tokens.find_certificate(&it.sha256, &it.subject)) {
        // A browser sends a certificate whatever page asks it to, as it does a password.
        own_host::check(headers, origin)?;
        fetched_by_own_page(headers)?;
        let identity = holder.name.to_string();
        return Ok(Caller {
            actor: acting(&identity, headers)?,
            identity,
            via: origin.via,
            role: holder.role,
        });
    }
    let identity = match origin.via {
        Via::Location if origin.name.is_empty() && !tokens.is_empty() && certificate.is_some() => {
            return Err(unauthorized(
                "no token was sent, and the client's certificate is not in control_tokens",
            ));
        }
        Via::Location if origin.name.is_empty() && !tokens.is_empty() => {
            return Err(unauthorized("no token was sent"));
        }
        Via::Location if origin.name.is_empty() => format!("http:{}", origin.address),
        _ => origin.name.clone(),
    };
    let is_anybody = origin.via == Via::Location && origin.name.is_empty();
    let actor = if is_anybody { identity.clone() } else { acting(&identity, headers)? };
    if origin.via == Via::Location {
        own_host::check(headers, origin)?;
        // Reading too: a page of another site that cannot read the answer still occupies an event stream.
        fetched_by_own_page(headers)?;
    }
    Ok(Caller { actor, identity, via: origin.via, role: Role::Operator })
}

/// Returns the token, if there is one (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Returns the actor's name: the authenticated one, and beside it whom the request is for.
fn acting(identity: &str, headers: &HeaderMap) -> Result<String, Refusal> {
    Ok(match on_behalf_of(headers)? {
        Some(whom) => format!("{identity} for {whom}"),
        None => identity.to_owned(),
    })
}

/// Returns the name on whose behalf a client acts.
fn on_behalf_of(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(FOR) else { return Ok(None) };
    let bad = || {
        Refusal::new(
            Code::BadRequest,
            format!(
                "invalid {FOR}: expected 1 to {MAX_FOR} bytes of text without characters that are not shown"
            ),
            "send it percent-encoded",
        )
    };
    let text = super::request::decoded(value.as_bytes()).ok_or_else(bad)?;
    let fits =
        (1..=MAX_FOR).contains(&text.len()) && !text.chars().any(|c| c.is_control() || switch::is_hidden(c));
    if fits { Ok(Some(text)) } else { Err(bad()) }
}

/// Fails if a page of another site sent the request. A browser says so in `Sec-Fetch-Site` (Fetch Metadata) and `Origin`
/// (RFC 6454); what comes from another site is not what its user wanted.
fn same_site(headers: &HeaderMap) -> Result<(), Refusal> {
    fetched_by_own_page(headers)?;
    let own = headers.get(header::HOST).map_or(&b""[..], |host| host.as_bytes());
    for origin in headers.get_all(header::ORIGIN) {
        let authority = origin
            .as_bytes()
            .windows(3)
            .position(|bytes| bytes == b"://")
            .map(|at| &origin.as_bytes()[at + 3..]);
        if !authority.is_some_and(|authority| !authority.is_empty() && authority.eq_ignore_ascii_case(own)) {
            let origin = origin.as_bytes().escape_ascii();
            return Err(cross_site(format!("a web page of {origin} sent the request")));
        }
    }
    Ok(())
}

fn fetched_by_own_page(headers: &HeaderMap) -> Result<(), Refusal> {
    for site in headers.get_all("sec-fetch-site") {
        if site != "same-origin" && site != "none" {
            return Err(cross_site("a web page of another site sent the request".into()));
        }
    }
    Ok(())
}

fn cross_site(text: String) -> Refusal {
    Refusal::new(Code::CrossSite, text, "send orders from a program, or from a page of the same host")
}

fn unauthorized(text: &str) -> Refusal {
    Refusal::new(
        Code::Unauthorized,
        text,
        "send a token that control_tokens lists (Authorization: Bearer TOKEN), or a client certificate that it lists",
    )
}
