//! What a configuration declares of its switches, and what a reload would say about it.
//!
//! Owns their fields, and the way from and to [`Declarations`].

use crate::{Declarations, Declared};
use engine::modules::switch::StatePath;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use switch::{KeyKind, Rules, RunTimeRules};
use utoipa::ToSchema;

/// The switches of a configuration, to check whether a reload would take it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckOrder {
    /// Its switches.
    pub switches: Vec<DeclaredSwitch>,
    /// The names of `switch_retired`.
    pub retired: Vec<String>,
    /// The folder of stores that `state` does not name.
    pub folder: String,
}

/// A switch of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredSwitch {
    /// Its name.
    pub name: String,
    /// The file of its store; absent for `state memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// True if its keys are hosts.
    pub hosts: bool,
    /// The target of keys without an entry.
    pub default: String,
    /// The targets that its keys may have.
    pub targets: Vec<String>,
    /// Its keys may lead to groups made at run time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dynamic: bool,
    /// The maximum number of keys.
    pub max_keys: usize,
    /// The maximum length of a key, in bytes.
    pub max_key_len: usize,
}

/// The findings that a reload would have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checked {
    /// Why it would be refused; empty if it would not.
    pub faults: Vec<String>,
    /// Parts that could not be checked.
    pub unchecked: Vec<String>,
    /// Defaults that the table has otherwise, or that the reload would change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl From<&Declarations> for CheckOrder {
    fn from(declared: &Declarations) -> CheckOrder {
        let switch = |one: &Declared| DeclaredSwitch {
            name: one.rules.name.to_string(),
            store: match &one.state {
                StatePath::File(path) => Some(path.to_string_lossy().into_owned()),
                StatePath::Memory => None,
            },
            hosts: one.rules.kind == KeyKind::Host,
            default: one.rules.default.to_string(),
            targets: one.rules.targets.iter().map(ToString::to_string).collect(),
            dynamic: one.rules.run_time.is_admitted,
            max_keys: one.rules.max_keys,
            max_key_len: one.rules.max_key_len,
        };
        CheckOrder {
            switches: declared.switches.iter().map(switch).collect(),
            retired: declared.retired.iter().map(ToString::to_string).collect(),
            folder: declared.folder.to_string_lossy().into_owned(),
        }
    }
}

impl From<CheckOrder> for Declarations {
    fn from(order: CheckOrder) -> Declarations {
        let switch = |one: DeclaredSwitch| Declared {
            rules: Arc::new(Rules {
                name: one.name.into(),
                default: one.default.into(),
                targets: one.targets.into_iter().map(Arc::from).collect(),
                kind: if one.hosts { KeyKind::Host } else { KeyKind::Text },
                max_keys: one.max_keys,
                max_key_len: one.max_key_len,
                groups: Box::default(),
                run_time: RunTimeRules { is_admitted: one.dynamic, ..RunTimeRules::default() },
            }),
            state: one.store.map_or(StatePath::Memory, |path| StatePath::File(PathBuf::from(path))),
        };
        Declarations {
            switches: order.switches.into_iter().map(switch).collect(),
            retired: order.retired.into_iter().map(Box::from).collect(),
            folder: order.folder.into(),
        }
    }
}
