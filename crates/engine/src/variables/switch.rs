//! Variables about switches: what was chosen for the request. Of several, the switch that was asked first.

use super::{Variable, read, write};

pub(super) const VARIABLES: &[Variable] = &[
    read(
        "switch_key",
        "pointsman's own: the key by which the request's first switch was asked.",
        |exchange, _, out| match exchange.switches.choices() {
            [first, ..] => {
                out.extend_from_slice(&first.key);
                true
            }
            [] => false,
        },
    ),
    read(
        "switch_target",
        "pointsman's own: the target that the request's first switch gave it.",
        |exchange, _, out| match exchange.switches.choices() {
            [first, ..] => {
                out.extend_from_slice(first.target.as_bytes());
                true
            }
            [] => false,
        },
    ),
    read(
        "switch_revision",
        "pointsman's own: the revision of the table that the request's first switch was asked in; 0 before the first commit.",
        |exchange, _, out| match exchange.switches.choices() {
            [first, ..] => {
                write::number(out, first.revision);
                true
            }
            [] => false,
        },
    ),
];
