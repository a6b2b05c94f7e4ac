//! The bodies of PUT, POST and DELETE.
//!
//! Owns their fields. An unknown field is refused: a mistyped `dry_run` must not switch. Must never have a default other
//! than "no".

use super::object;
use super::shares::once_each;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The event that the answer to a change waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// Return once the commit is durable.
    None,
    /// Return once every worker uses the new table. The default.
    Published,
    /// Return once nothing is in flight on the old side, or the timeout has passed.
    Drained,
}

/// The options that every order takes beside its change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Why, for the history.
    pub reason: Option<String>,
    /// Reverts unless confirmed within this time.
    pub confirm_within: Option<String>,
    /// Skips the gate, and an undo's check for later changes.
    pub force: bool,
    /// When to answer.
    pub wait: Option<Wait>,
    /// The longest time to wait.
    pub timeout: Option<String>,
    /// Holds new requests, drains the old side, switches, releases.
    pub hold: Option<HoldTerms>,
    /// Reports what would happen, and changes nothing.
    pub dry_run: bool,
    /// The route that each key must have.
    pub expect_route: Option<String>,
    /// How long its answers are counted.
    pub watch: Option<String>,
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
            /// Reverts unless confirmed within this time, also across a restart.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = "10m", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
            pub confirm_within: Option<String>,
            /// Skips the gate, and undoes in spite of later changes. The history records it.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub force: bool,
            /// When to answer.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub wait: Option<Wait>,
            /// How long to wait for it; 30s if not said.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = "30s", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
            pub timeout: Option<String>,
            /// New requests wait while what is in flight on the old side ends; then switches and lets them go.
            #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::one")]
            pub hold: Option<HoldTerms>,
            /// Reports what would happen, and changes nothing.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub dry_run: bool,
            /// Only if each key's requests follow this route now: `blue`, `green=10 blue=90`, or `default` for a key
            /// without an entry.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = "blue")]
            pub expect_route: Option<String>,
            /// How long the receipt counts the answers to what it moves, at most an hour; the switch's `watch=` if not said.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(example = "5m", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
            pub watch: Option<String>,
        }

        impl $name {
            /// Returns the options of the order.
            pub fn terms(&self) -> Terms {
                Terms {
                    reason: self.reason.clone(),
                    confirm_within: self.confirm_within.clone(),
                    force: self.force,
                    wait: self.wait,
                    timeout: self.timeout.clone(),
                    hold: self.hold.clone(),
                    dry_run: self.dry_run,
                    expect_route: self.expect_route.clone(),
                    watch: self.watch.clone(),
                }
            }

            /// Returns the order with other options.
            #[must_use]
            pub fn on(mut self, terms: Terms) -> Self {
                self.reason = terms.reason;
                self.confirm_within = terms.confirm_within;
                self.force = terms.force;
                self.wait = terms.wait;
                self.timeout = terms.timeout;
                self.hold = terms.hold;
                self.dry_run = terms.dry_run;
                self.expect_route = terms.expect_route;
                self.watch = terms.watch;
                self
            }
        }
    };
}

pub(super) use order;

order! {
    /// Routes a key: exactly one of `target` and `split`.
    pub struct KeyOrder {
        /// The upstream group to route to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = "green")]
        pub target: Option<String>,
        /// Weights by upstream group.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "once_each")]
        pub split: Option<BTreeMap<String, u32>>,
    }
}

order! {
    /// Removes a key's entry, so that the switch's default applies.
    pub struct ResetOrder {}
}

order! {
    /// Changes many keys in one commit: all or none.
    pub struct ManyOrder {
        /// At least one; each key once.
        #[serde(deserialize_with = "object::each")]
        #[schema(min_items = 1)]
        pub changes: Vec<OneChange>,
    }
}

order! {
    /// Undoes the last change of some keys, a whole commit, or (with none of them) the last commit.
    pub struct UndoOrder {
        /// The keys whose last change is undone.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub keys: Vec<String>,
        /// The commit to undo.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub commit: Option<u64>,
        /// The idempotency key of the order whose commit is undone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub id: Option<String>,
    }
}

/// One key of a commit of many: exactly one of `target`, `split` and `"default": true`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OneChange {
    /// The key.
    #[schema(example = "shop.example.com")]
    pub key: String,
    /// The upstream group to route to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Weights by upstream group.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "once_each")]
    pub split: Option<BTreeMap<String, u32>>,
    /// Removes the entry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// Only if this key's requests follow this route now: `blue`, `green=10 blue=90`, or `default` for a key without an entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "blue")]
    pub expect_route: Option<String>,
    /// Only if this key's own entry has this revision; 0 for a key without an entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_revision: Option<u64>,
}

/// Confirms a commit, so that it is not reverted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// The commit; optional if only one is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub reason: Option<String>,
}

/// The limits of a hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldTerms {
    /// The maximum number of waiting requests; further ones get 503. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// The longest time a request waits before it gets 503. Default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10s", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
    pub timeout: Option<String>,
    /// The maximum bytes of buffered bodies in total. Default 16m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "16m", pattern = "^[0-9]+[kKmMgG]?$")]
    pub max_size: Option<String>,
    /// Requests released per second. Default: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub per_second: Option<u32>,
    /// The handling of streams on the old side. Default: open streams refuse the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<HoldStreams>,
}

/// The handling of streams on the old side by a switch with a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldStreams {
    /// Close them before the switch.
    Close,
    /// Wait until they end.
    Wait,
}

/// Holds a key's new requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldOrder {
    /// The maximum number of waiting requests; further ones get 503. Default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// The longest time a request waits before it gets 503. Default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10s", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
    pub timeout: Option<String>,
    /// The maximum bytes of buffered bodies in total. Default 16m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "16m", pattern = "^[0-9]+[kKmMgG]?$")]
    pub max_size: Option<String>,
    /// When the hold ends by itself. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "for")]
    #[schema(example = "30m", pattern = "^([0-9]+(w|d|h|m|s|ms)? *)+$")]
    pub span: Option<String>,
    /// The handling of the key's requests after that time. Default `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<HoldThen>,
    /// Why, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub reason: Option<String>,
}

/// The handling of a key's requests when the time of its hold is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldThen {
    /// They get 503 until the key is released, or switched by a newer order.
    Refuse,
    /// They proceed.
    Release,
}

/// Releases a key's held requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseOrder {
    /// Requests released per second. Default: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub per_second: Option<u32>,
    /// Why, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub reason: Option<String>,
}

/// Reloads the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadOrder {
    /// Also if switches with keys are removed or renamed, or the gate of a changed default refuses. Log, journal and answer say
    /// what was overridden.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// The outcome of a reload: the new configuration is active.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Warnings, as the error log has them, and what was overridden by force.
    pub findings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_are_not_serialized() {
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
