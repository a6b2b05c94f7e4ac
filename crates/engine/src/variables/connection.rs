//! Variables about the connection.

use super::{Family, Variable};

pub(super) const VARIABLES: &[Variable] = &[];
pub(super) const FAMILIES: &[Family] = &[];
