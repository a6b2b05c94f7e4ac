//! Variables of links with a hash.

use super::{Variable, read};
use crate::modules::secure_link;

pub(super) const VARIABLES: &[Variable] = &[
    read(
        "secure_link",
        "1 if the hash of secure_link is right, 0 if its time is over; with secure_link_secret the link.",
        secure_link::append,
    ),
    read(
        "secure_link_expires",
        "The end of the time of secure_link, in seconds.",
        secure_link::append_expires,
    ),
];
