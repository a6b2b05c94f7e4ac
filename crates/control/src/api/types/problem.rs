//! A refusal as JSON.
//!
//! Owns the form of every answer of 400 and above. It always names a remedy.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The body of every answer of 400 and above. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A stable name for programs; docs/refusals.md lists them all.
    #[schema(example = "unknown_target")]
    pub code: String,
    /// The fault, for people.
    pub text: String,
    /// The remedy, for people.
    pub remedy: String,
    /// Details that depend on the code: the expected and the actual revision, each server of a gate with its reason,
    /// the known targets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, serde_json::Value>,
}
