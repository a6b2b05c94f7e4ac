//! Variables of ACME. As in nginx they are for `ssl_certificate` and `ssl_certificate_key`, which take what they name; a
//! request sees nothing of a key.

use super::{Variable, read};

pub(super) const VARIABLES: &[Variable] = &[
    read(
        "acme_certificate",
        "The certificate of acme_certificate, for ssl_certificate alone; empty in requests.",
        |_, _, _| true,
    ),
    read(
        "acme_certificate_key",
        "The key of that certificate, for ssl_certificate_key alone; empty in requests.",
        |_, _, _| true,
    ),
];
