//! Variables about who may have what: limits and referrers.

use super::{Variable, read};
use crate::modules::referer;

pub(super) const VARIABLES: &[Variable] = &[
    read(
        "limit_req_status",
        "What limit_req made of the request: PASSED, DELAYED, REJECTED, DELAYED_DRY_RUN or REJECTED_DRY_RUN.",
        |exchange, _, out| {
            let word = exchange.limits.requests.map(|outcome| outcome.word());
            out.extend_from_slice(word.unwrap_or_default());
            word.is_some()
        },
    ),
    read(
        "limit_conn_status",
        "What limit_conn made of the request: PASSED, REJECTED or REJECTED_DRY_RUN.",
        |exchange, _, out| {
            let word = exchange.limits.connections.map(|outcome| outcome.word());
            out.extend_from_slice(word.unwrap_or_default());
            word.is_some()
        },
    ),
    read(
        "invalid_referer",
        "1 if the field Referer is none of the location's valid_referers, else empty.",
        referer::append_invalid,
    ),
];
