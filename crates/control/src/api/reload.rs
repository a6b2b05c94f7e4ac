//! Reading the configuration anew.
//!
//! Owns the handler of `/v1/reload`. Must never answer before it is known what came of it: whoever gets no refusal is
//! served by the new configuration.

use super::refused::{OfOrders, Refused};
use super::request::Body;
use super::router::Api;
use super::types;
use axum::Json;
use axum::extract::State;
use std::time::Duration;
use switch::{Code, Details, Refusal};
use tokio::sync::mpsc;

/// A reload starts machines for scripts and opens stores with a million keys; what takes longer than this is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the configuration anew and goes over to it
///
/// As the signal HUP does. A configuration that cannot be gone over to changes nothing; what was found in it stands in
/// the answer.
#[utoipa::path(post, path = "/v1/reload", tag = "orders",
    request_body = types::ReloadOrder,
    responses((status = 200, description = "It is in force.", body = types::Reloaded), OfOrders))]
pub(super) async fn reload(
    State(api): State<Api>,
    Body(types::ReloadOrder {}): Body<types::ReloadOrder>,
) -> Result<Json<types::Reloaded>, Refused> {
    let (sender, mut answers) = mpsc::unbounded_channel();
    api.office.traffic().reload(Box::new(move |reloaded| {
        // Whoever asked has stopped waiting.
        let _ = sender.send(reloaded);
    }));
    let refused = |text: &str, remedy: &str| Refused(Refusal::new(Code::ConfigRefused, text, remedy));
    let reloaded = match tokio::time::timeout(PATIENCE, answers.recv()).await {
        Ok(Some(reloaded)) => reloaded,
        Ok(None) => {
            return Err(refused(
                "there is no master process that could reload",
                "send the process the signal HUP",
            ));
        }
        Err(_) => return Err(refused("it is not known yet what came of it", "see the error log")),
    };
    if reloaded.done {
        return Ok(Json(types::Reloaded { findings: reloaded.findings }));
    }
    let text = match reloaded.findings.first() {
        Some(first) => format!("the configuration was not reloaded, the one before stays in force: {first}"),
        None => "the configuration was not reloaded, the one before stays in force".to_owned(),
    };
    let refusal = Refusal::new(Code::ConfigRefused, text, "mend what was found, and repeat the order");
    Err(Refused(refusal.with(Details::Findings(reloaded.findings))))
}
