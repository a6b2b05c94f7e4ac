//! Who comes in, and whether they may.
//!
//! Owns the actor's name, the roles, and the defence against web pages of other sites. Must never trust a name that the
//! request itself brings, except as a remark beside the one that is known.

use super::own_host;
use super::refused::Refused;
use super::router::Api;
use crate::call::{Origin, Via};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine::modules::control::{Role, Tokens};
use sha2::{Digest, Sha256};
use switch::{Code, Refusal};

/// The header with which somebody at the control socket says for whom it is.
const FOR: &str = "x-pointsman-actor";
/// The longest such name, in bytes.
const MAX_FOR: usize = 100;

/// Who came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The name that the history keeps.
    pub(super) actor: String,
    /// What they may do.
    role: Role,
}

/// Lets a request in with its [`Caller`], or refuses it.
pub(super) async fn enter(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    // Every way in says where it is; without that nobody is known.
    let Some(origin) = request.extensions().get::<Origin>().cloned() else {
        return Refused(unauthorized("it is not known where the request came in")).into_response();
    };
    let config = api.office.config();
    match admitted(request.method(), request.headers(), &origin, config.control.tokens.get()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => Refused(refusal).into_response(),
    }
}

/// Who it is, if they may do what the method says.
fn admitted(
    method: &Method,
    headers: &HeaderMap,
    origin: &Origin,
    tokens: &Tokens,
) -> Result<Caller, Refusal> {
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if changes {
        same_site(headers)?;
    }
    let caller = caller(headers, origin, tokens)?;
    if changes && caller.role < Role::Operator {
        return Err(Refusal::new(
            Code::Forbidden,
            format!("{} may look, and change nothing", caller.actor),
            "use the token of an operator",
        ));
    }
    Ok(caller)
}

fn caller(headers: &HeaderMap, origin: &Origin, tokens: &Tokens) -> Result<Caller, Refusal> {
    if let Some(token) = bearer(headers) {
        let hash: [u8; 32] = Sha256::digest(token).into();
        return match tokens.find(&hash) {
            Some(token) => Ok(Caller { actor: token.name.to_string(), role: token.role }),
            None => Err(unauthorized("the token is none of control_tokens")),
        };
    }
    let actor = match origin.via {
        Via::Socket => match remark(headers)? {
            Some(whom) => format!("{} for {whom}", origin.name),
            None => origin.name.clone(),
        },
        Via::Location if !origin.name.is_empty() => origin.name.clone(),
        Via::Location if !tokens.is_empty() => return Err(unauthorized("there is no token")),
        Via::Location => format!("http:{}", origin.address),
    };
    if origin.via == Via::Location {
        own_host::check(headers, origin)?;
        // Reading too: what another site's page reads blindly still takes the place of a listener.
        fetched_by_own_page(headers)?;
    }
    Ok(Caller { actor, role: Role::Operator })
}

/// The token, if there is one (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// For whom somebody at the socket says it is.
fn remark(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(FOR) else { return Ok(None) };
    let bad = || {
        Refusal::new(
            Code::BadRequest,
            format!("{FOR} is no name"),
            format!("at most {MAX_FOR} bytes of text without control characters, percent-encoded"),
        )
    };
    let text = super::request::decoded(value.as_bytes()).ok_or_else(bad)?;
    let fits = (1..=MAX_FOR).contains(&text.len()) && !text.chars().any(char::is_control);
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
    Refusal::new(Code::CrossSite, text, "send orders from a program, or a page of the same host")
}

fn unauthorized(text: &str) -> Refusal {
    Refusal::new(Code::Unauthorized, text, "send a token of control_tokens: Authorization: Bearer TOKEN")
}
