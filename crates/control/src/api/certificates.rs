//! Certificates that ACME has issued: which there are, and revocations.
//!
//! Owns the handlers below `/v1/certificates`. Must never send a key.

use super::auth::Caller;
use super::context::Api;
use super::error::{ApiError, OrderErrors, QueryErrors};
use super::request::{JsonBody, PathParams};
use super::types;
use acme::{IssuedCertificate, RevokeFault, RevokeReason};
use axum::extract::State;
use axum::{Extension, Json};
use std::time::Duration;
use switch::{Code, Refusal};
use tokio::sync::mpsc;

/// An order that is under way at the issuer may be before it.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(120);

/// Lists the certificates that ACME has issued
#[utoipa::path(get, path = "/v1/certificates", tag = "certificates",
    responses((status = 200, description = "Those in use.", body = types::IssuedCertificates), QueryErrors))]
pub(super) async fn certificates(
    State(api): State<Api>,
) -> Result<Json<types::IssuedCertificates>, ApiError> {
    let issued = api.control.data_plane().issued_certificates();
    Ok(Json(types::IssuedCertificates { certificates: issued.into_iter().map(shown).collect() }))
}

fn shown(known: IssuedCertificate) -> types::IssuedCertificate {
    let IssuedCertificate { name, issuer, names, until_s } = known;
    types::IssuedCertificate {
        name,
        issuer: issuer.to_string(),
        names,
        until_ms: until_s.saturating_mul(1000),
    }
}

/// Revokes a certificate that ACME has issued
///
/// Its issuer is told, and another one with a new key is ordered at once, or by the next handshake if it was ordered on demand. Until that
/// is there the revoked one is shown.
#[utoipa::path(post, path = "/v1/certificates/{name}/revoke", tag = "certificates",
    params(("name" = String, Path, description = "What it is called, or one of the names that it is for.")),
    request_body = types::RevokeOrder,
    responses((status = 200, description = "It is revoked.", body = types::IssuedCertificate), OrderErrors))]
pub(super) async fn revoke(
    State(api): State<Api>,
    PathParams(name): PathParams<String>,
    Extension(caller): Extension<Caller>,
    JsonBody(order): JsonBody<types::RevokeOrder>,
) -> Result<Json<types::IssuedCertificate>, ApiError> {
    let reason = match order.reason {
        types::RevocationReason::Unspecified => RevokeReason::Unspecified,
        types::RevocationReason::KeyCompromise => RevokeReason::KeyCompromise,
        types::RevocationReason::AffiliationChanged => RevokeReason::AffiliationChanged,
        types::RevocationReason::Superseded => RevokeReason::Superseded,
        types::RevocationReason::CessationOfOperation => RevokeReason::CessationOfOperation,
    };
    let (sender, mut answers) = mpsc::unbounded_channel();
    let reply = Box::new(move |outcome| {
        // Fails if the caller has stopped waiting.
        let _ = sender.send(outcome);
    });
    api.control.data_plane().revoke(&name, reason, reply);
    let unknown = |text: String| ApiError(Refusal::new(Code::OutcomeUnknown, text, "see the error log"));
    match tokio::time::timeout(REVOKE_TIMEOUT, answers.recv()).await {
        Ok(Some(Ok(revoked))) => {
            api.control.note_revocation(&caller.actor, &revoked.name, reason_name(order.reason));
            Ok(Json(shown(revoked)))
        }
        Ok(Some(Err(fault))) => Err(ApiError(refusal(&name, fault))),
        Ok(None) => Err(unknown(format!("\"{name}\" was not revoked: its issuer is not asked any more"))),
        Err(_) => Err(unknown(format!("\"{name}\" is not revoked yet: its issuer takes long"))),
    }
}

fn reason_name(reason: types::RevocationReason) -> String {
    serde_json::to_value(reason).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn refusal(name: &str, fault: RevokeFault) -> Refusal {
    match fault {
        RevokeFault::Unknown(known) => {
            let remedy = match known.is_empty() {
                true => "ACME has issued none: acme_certificate orders them".to_owned(),
                false => format!("there are {}", known.join(", ")),
            };
            Refusal::new(Code::NotFound, format!("there is no certificate \"{name}\" of ACME"), remedy)
        }
        RevokeFault::Ambiguous(known) => {
            let text = format!("several certificates are for \"{name}\"");
            Refusal::new(Code::BadOrder, text, format!("name one of {}", known.join(", ")))
        }
        RevokeFault::Failed(why) => {
            let text = format!("\"{name}\" was not revoked: {why}");
            Refusal::new(Code::IssuerFailed, text, "see the error log")
        }
    }
}
