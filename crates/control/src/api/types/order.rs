//! What is asked for: the bodies of PUT, POST and DELETE.
//!
//! Owns their fields. A field that is not known is refused, for a mistyped `dry_run` must not switch. Must never hold a
//! default other than "no": what is not said is not wanted.

use super::object;
use super::shares::once_each;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What a change may wait for before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// For no more than that it is kept.
    None,
    /// Until every worker has taken over the new table. So if nothing is said.
    Published,
    /// Until nothing is in flight any more on the old side, or the timeout has passed.
    Drained,
}

/// The terms of a change: what may stand in each order beside what it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Why, for the history.
    pub reason: Option<String>,
    /// Goes back by itself unless confirmed within this time.
    pub confirm_within: Option<String>,
    /// Skips the gate, and an undo's check for later changes.
    pub force: bool,
    /// What to wait for.
    pub wait: Option<Wait>,
    /// How long to wait.
    pub timeout: Option<String>,
    /// Holds new requests, drains the old side, switches, releases.
    pub hold: Option<HoldTerms>,
    /// Says what would happen, and does nothing.
    pub dry_run: bool,
}

/// Writes out an order's type with the fields of [`Terms`], because serde can either refuse unknown fields or take a
/// struct's fields from another one.
macro_rules! order {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$attribute:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$attribute])* pub $field: $type,)*
            /// Why, for the history: at most 1000 bytes.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
            pub reason: Option<String>,
            /// Goes back by itself unless confirmed within this time, also after a restart.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = "10m", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
            pub confirm_within: Option<String>,
            /// Without the gate, and undo in spite of later changes. The history records it.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub force: bool,
            /// What to wait for before the answer.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub wait: Option<Wait>,
            /// How long to wait for it; 30s if not said.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = "30s", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
            pub timeout: Option<String>,
            /// New requests wait while what is in flight on the old side ends; then switches and lets them go.
            #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::one")]
            pub hold: Option<HoldTerms>,
            /// Only says what would happen.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub dry_run: bool,
        }

        impl $name {
            /// The terms of the order.
            pub fn terms(&self) -> Terms {
                Terms {
                    reason: self.reason.clone(),
                    confirm_within: self.confirm_within.clone(),
                    force: self.force,
                    wait: self.wait,
                    timeout: self.timeout.clone(),
                    hold: self.hold.clone(),
                    dry_run: self.dry_run,
                }
            }

            /// The order on other terms.
            #[must_use]
            pub fn on(mut self, terms: Terms) -> Self {
                self.reason = terms.reason;
                self.confirm_within = terms.confirm_within;
                self.force = terms.force;
                self.wait = terms.wait;
                self.timeout = terms.timeout;
                self.hold = terms.hold;
                self.dry_run = terms.dry_run;
                self
            }
        }
    };
}

order! {
    /// A key gets a route: `target` or `split`, one of them.
    pub struct KeyOrder {
        /// The one upstream group it leads to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = "green")]
        pub target: Option<String>,
        /// Weights by the groups' names.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "once_each")]
        pub split: Option<BTreeMap<String, u32>>,
    }
}

order! {
    /// A key goes back to the switch's default: its entry is taken away.
    pub struct ResetOrder {}
}

order! {
    /// Many keys in one commit: all or none.
    pub struct ManyOrder {
        /// At least one; each key once.
        #[serde(deserialize_with = "object::each")]
        #[schema(min_items = 1)]
        pub changes: Vec<OneChange>,
    }
}

order! {
    /// Back to what it was: of some keys, of a whole commit, or with neither of the last commit.
    pub struct UndoOrder {
        /// Each of these goes back to what it was before its last change.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub keys: Vec<String>,
        /// Everything that this commit changed goes back to what it was before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub commit: Option<u64>,
    }
}

/// One key of a commit of many: `target`, `split` or `"default": true`, one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OneChange {
    /// The key.
    #[schema(example = "shop.example.com")]
    pub key: String,
    /// The one upstream group it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Weights by the groups' names.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "once_each")]
    pub split: Option<BTreeMap<String, u32>>,
    /// The entry is taken away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
}

/// A commit that would go back by itself stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// The commit; not needed if only one waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub reason: Option<String>,
}

/// The bounds of a hold. What is not said is as documented.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldTerms {
    /// How many may wait; the next ones get 503. 1000 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// How long each may wait before it gets 503; 10s if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10s", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
    pub timeout: Option<String>,
    /// How much of their bodies may be buffered in all; 16m if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "16m", pattern = "^[0-9]+[kKmMgG]?$")]
    pub max_size: Option<String>,
    /// When they are let go, so many each second; all at once if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub per_second: Option<u32>,
}

/// New requests of a key wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldOrder {
    /// How many may wait; the next ones get 503. 1000 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// How long each may wait before it gets 503; 10s if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10s", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
    pub timeout: Option<String>,
    /// How much of their bodies may be buffered in all; 16m if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "16m", pattern = "^[0-9]+[kKmMgG]?$")]
    pub max_size: Option<String>,
    /// Why, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub reason: Option<String>,
}

/// The waiting requests of a key go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseOrder {
    /// So many each second; all at once if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub per_second: Option<u32>,
}

/// Read the configuration anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadOrder {}

/// The new configuration is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Warnings, as the error log has them.
    pub findings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_written() {
        let order = KeyOrder { target: Some("green".into()), ..KeyOrder::default() };
        assert_eq!(serde_json::to_string(&order).unwrap(), r#"{"target":"green"}"#);
        let terms = Terms { dry_run: true, wait: Some(Wait::Drained), ..Terms::default() };
        let text = serde_json::to_string(&order.on(terms.clone())).unwrap();
        assert_eq!(text, r#"{"target":"green","wait":"drained","dry_run":true}"#);
        assert_eq!(serde_json::from_str::<KeyOrder>(&text).unwrap().terms(), terms);
    }

    #[test]
    fn a_mistyped_field_is_refused() {
        let error = serde_json::from_str::<KeyOrder>(r#"{"target":"green","dry-run":true}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `dry-run`"), "{error}");
        assert!(serde_json::from_str::<ResetOrder>(r#"{"target":"green"}"#).is_err());
        assert!(serde_json::from_str::<OneChange>(r#"{"key":"a","split":{"a":1,"a":2}}"#).is_err());
    }
}
