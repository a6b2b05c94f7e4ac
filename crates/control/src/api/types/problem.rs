//! A refusal, as JSON.
//!
//! Owns the form of every answer of 400 and above. Must never be empty-handed: it says what to do.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Why something was not done (the body of every answer of 400 and above). Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A stable name for programs: docs/switching.md lists them all.
    #[schema(example = "unknown_target")]
    pub code: String,
    /// What is wrong, for people.
    pub text: String,
    /// What to do about it, for people.
    pub remedy: String,
    /// What belongs to the code: the revision that was expected and the one that is, each server of a gate with its
    /// reason, the targets there are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, serde_json::Value>,
}
