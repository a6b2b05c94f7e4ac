//! Variables of nginx that have no value here, as in an nginx that does not use what they are about: HTTP/3. Log formats and
//! headers that name them for all servers alike mean the same as there.

use super::{Variable, read};

pub(super) const VARIABLES: &[Variable] = &[read("http3", "h3 over HTTP/3: empty.", |_, _, _| true)];
