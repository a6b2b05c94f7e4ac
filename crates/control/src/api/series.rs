//! Traffic over time.
//!
//! Owns the handler of `/v1/series`. Must never count anything: the collector does.

use super::context::Api;
use super::error::{ApiError, QueryErrors};
use super::request::QueryParams;
use super::status::{WindowQuery, collected, window};
use super::types;
use crate::service::now_ms;
use axum::Json;
use axum::extract::State;
use statistics::CoursePoint;

/// Shows how the groups did over time
///
/// The slots of a window: `10s` has them of a second, `1m` of 5 s, `5m` of 30 s, `1h` of 5 min.
#[utoipa::path(get, path = "/v1/series", tag = "figures", params(WindowQuery),
    responses((status = 200, description = "The groups' slots.", body = types::TrafficSeries), QueryErrors))]
pub(super) async fn series(
    State(api): State<Api>,
    QueryParams(asked): QueryParams<WindowQuery>,
) -> Result<Json<types::TrafficSeries>, ApiError> {
    let window = window(asked.window)?;
    api.control.collect().await?;
    let course = collected(&api.control, move |collector, now_ms| collector.course(window, now_ms)).await?;
    let point = |point: CoursePoint| types::SeriesPoint {
        slot: point.slot,
        requests: point.ended,
        errors: point.errors,
        p50_us: point.p50_us,
        p99_us: point.p99_us,
    };
    let groups = course.groups.into_iter().map(|(name, points)| types::GroupSeries {
        name: name.to_string(),
        points: points.into_iter().map(point).collect(),
    });
    Ok(Json(types::TrafficSeries {
        window: window.name().into(),
        slot_ms: course.slot_ms,
        first: course.first,
        last: course.last,
        last_ms: now_ms().saturating_sub(course.now_ms - course.last * course.slot_ms),
        groups: groups.collect(),
    }))
}
