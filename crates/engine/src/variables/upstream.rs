//! Variables about the upstream.

use super::{Family, Variable};

pub(super) const VARIABLES: &[Variable] = &[];
pub(super) const FAMILIES: &[Family] = &[];
