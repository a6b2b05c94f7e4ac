//! Reloading the configuration.
//!
//! Owns the handlers of `/v1/reload` and `/v1/check`. Must never answer before the outcome is known: after a success, requests are served by
//! the new configuration.

use super::auth::Caller;
use super::context::Api;
use super::error::{ApiError, OrderErrors};
use super::request::JsonBody;
use super::types;
use crate::StoreCheck;
use axum::extract::State;
use axum::{Extension, Json};
use std::time::Duration;
use switch::{Code, Details, Refusal};
use tokio::sync::mpsc;

/// A reload starts Lua machines and opens stores with a million keys; one that takes longer is stuck.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Reloads are forced while it lives.
struct Forced<'a>(&'a Api);

impl Forced<'_> {
    fn new(api: &Api) -> Forced<'_> {
        api.control.force_reloads(true);
        Forced(api)
    }
}

impl Drop for Forced<'_> {
    fn drop(&mut self) {
        self.0.control.force_reloads(false);
    }
}

/// Checks the switches of a configuration
///
/// Says what a reload would refuse about them, and changes nothing: the configuration test asks it.
#[utoipa::path(post, path = "/v1/check", tag = "switches",
    request_body = types::CheckOrder,
    responses((status = 200, description = "What a reload would say.", body = types::Checked), OrderErrors))]
pub(super) async fn check(
    State(api): State<Api>,
    JsonBody(order): JsonBody<types::CheckOrder>,
) -> Result<Json<types::Checked>, ApiError> {
    let StoreCheck { faults, unchecked, notes } = api.control.check(order.into()).await?;
    Ok(Json(types::Checked { faults, unchecked, notes }))
}

/// Reloads the configuration
///
/// As the signal HUP does. A configuration that is rejected changes nothing; the answer lists the findings.
#[utoipa::path(post, path = "/v1/reload", tag = "orders",
    request_body = types::ReloadOrder,
    responses((status = 200, description = "The new configuration is active.", body = types::Reloaded), OrderErrors))]
pub(super) async fn reload(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(types::ReloadOrder { force }): JsonBody<types::ReloadOrder>,
) -> Result<Json<types::Reloaded>, ApiError> {
    let _forced = force.then(|| Forced::new(&api));
    let (sender, mut answers) = mpsc::unbounded_channel();
    let reply = Box::new(move |reloaded| {
        // Fails if the caller has stopped waiting.
        let _ = sender.send(reloaded);
    });
    api.control.data_plane().reload(caller.actor, reply);
    let refused = |text: &str, remedy: &str| ApiError(Refusal::new(Code::ConfigRefused, text, remedy));
    let reloaded = match tokio::time::timeout(RELOAD_TIMEOUT, answers.recv()).await {
        Ok(Some(reloaded)) => reloaded,
        Ok(None) => {
            api.control.takes_orders().map_err(ApiError)?;
            return Err(refused(
                "cannot reload: there is no master process",
                "send the process the signal HUP",
            ));
        }
        Err(_) => return Err(refused("the reload has not finished in time", "see the error log")),
    };
    if reloaded.done {
        let forced = api.control.forced_over().into_iter().map(|fault| format!("forced: {fault}"));
        return Ok(Json(types::Reloaded { findings: reloaded.findings.into_iter().chain(forced).collect() }));
    }
    // What refused it, before what it was warned of.
    let error = reloaded.findings.iter().find(|finding| !finding.contains("[warn]"));
    let text = match error.or(reloaded.findings.first()) {
        Some(first) => format!("the new configuration was rejected; the previous one stays active: {first}"),
        None => "the new configuration was rejected; the previous one stays active".to_owned(),
    };
    let refusal = Refusal::new(Code::ConfigRefused, text, "fix the findings, and reload again");
    Err(ApiError(refusal.with(Details::Findings(reloaded.findings))))
}
