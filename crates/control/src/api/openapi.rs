//! The description of the API (OpenAPI 3.1), made of the handlers and types themselves.
//!
//! Owns the list of what is described. Must never describe by hand what a type says.

use super::refused::Refused;
use super::{events, figures, orders, questions, reload, types};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

/// Everything the API knows.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "pointsman",
        description = "Switches live traffic between upstream groups. GET changes nothing; every change has a body of \
                       the type application/json.",
        license(name = "Apache-2.0 OR MIT")
    ),
    paths(
        questions::switches,
        questions::switch,
        questions::keys,
        questions::one_key,
        questions::history,
        questions::receipt,
        orders::put_key,
        orders::delete_key,
        orders::commit,
        orders::undo,
        orders::confirm,
        orders::put_hold,
        orders::delete_hold,
        reload::reload,
        events::events,
        figures::status,
        figures::compare,
        figures::metrics,
        openapi
    ),
    components(schemas(types::Problem)),
    tags(
        (name = "switches", description = "What there is, where keys lead, what was done."),
        (name = "orders", description = "Lead keys elsewhere, back, or make them wait."),
        (name = "events", description = "What happens."),
        (name = "figures", description = "How the traffic is.")
    )
)]
pub(super) struct Description;

/// This description
#[utoipa::path(get, path = "/v1/openapi.json", tag = "figures",
    responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json"), super::refused::OfQuestions))]
pub(super) async fn openapi() -> Result<Response, Refused> {
    let text = Description::openapi().to_json();
    let text = text.map_err(|error| Refused::bad_request(format!("it cannot be written: {error}"), ""))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}
