//! Variables of SSI commands.

use super::{Variable, read};
use crate::modules::ssi;

pub(super) const VARIABLES: &[Variable] = &[
    read(
        "date_local",
        "The time in the server's time zone, in the format of `config timefmt`.",
        |e, env, out| ssi::append_date(e, env.host.now(), true, out),
    ),
    read("date_gmt", "The time in GMT, in the format of `config timefmt`.", |e, env, out| {
        ssi::append_date(e, env.host.now(), false, out)
    }),
];
