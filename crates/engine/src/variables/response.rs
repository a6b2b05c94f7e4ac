//! Variables about the response.

use super::{Family, Variable};

pub(super) const VARIABLES: &[Variable] = &[];
pub(super) const FAMILIES: &[Family] = &[];
