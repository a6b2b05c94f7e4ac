//! Streams that are cut one after another, so that their clients do not all come back at once.

use super::in_flight::InFlightId;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Cuts streams evenly over this time. `cut` returns false of a request that is no stream yet; those are returned.
pub(super) async fn cut_evenly(
    streams: Vec<InFlightId>,
    spread: Duration,
    cut: impl Fn(InFlightId) -> bool,
) -> Vec<InFlightId> {
    let (began, count) = (Instant::now(), streams.len().max(1) as u32);
    let mut none = Vec::new();
    for (turn, place) in streams.into_iter().enumerate() {
        let due = began + spread * turn as u32 / count;
        if due > Instant::now() {
            sleep_until(due).await;
        }
        if !cut(place) {
            none.push(place);
        }
    }
    none
}
