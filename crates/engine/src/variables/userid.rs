//! Variables of cookies that name users.

use super::{Variable, read};
use crate::modules::userid;

pub(super) const VARIABLES: &[Variable] = &[
    read(
        "uid_got",
        "The cookie of userid that the client has sent: its name, and four numbers.",
        userid::append_got,
    ),
    read(
        "uid_set",
        "The cookie of userid that the client gets: its name, and four numbers.",
        userid::append_set,
    ),
    Variable {
        name: "uid_reset",
        doc: "If it is set to something other than 0, the client gets another cookie of userid; log also logs that.",
        get: |exchange, _, out| {
            out.extend_from_slice(&exchange.userid.reset);
            true
        },
        set: Some(|exchange, value| exchange.userid.reset = value.to_vec()),
    },
];
