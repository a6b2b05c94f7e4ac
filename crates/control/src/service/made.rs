//! The groups that were made at run time, as the rules of switches see them.
//!
//! Owns which names a switch with `targets … dynamic` has as targets beside those of its configuration. Must never change a
//! group.

use std::sync::Arc;
use switch::{Rules, RunTimeRules, Table, made_groups};

/// The names of the groups made at run time; `None` if the store that has them is damaged.
#[derive(Clone, Debug, Default)]
pub(super) struct Made(Option<Arc<[Arc<str>]>>);

impl Made {
    /// Returns those of the groups' table.
    pub(super) fn of(table: &Table) -> Made {
        Made(table.is_trusted().then(|| made_groups(table.subjects()).map(|(name, _)| name.into()).collect()))
    }

    /// Returns that there are none.
    pub(super) fn none() -> Made {
        Made(Some(Arc::default()))
    }

    /// Returns false if it is not known which there are.
    pub(super) fn are_known(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the rules of a switch with those that it admits among its targets.
    pub(super) fn rules(&self, configured: &Arc<Rules>) -> Arc<Rules> {
        let names = self.0.as_deref().unwrap_or_default();
        let is_known = self.are_known();
        if !configured.run_time.is_admitted || (is_known && names.is_empty()) {
            return Arc::clone(configured);
        }
        let more = names.iter().filter(|name| configured.target(name).is_none());
        Arc::new(Rules {
            targets: configured.targets.iter().chain(more).cloned().collect(),
            run_time: RunTimeRules { are_unknown: !is_known, ..configured.run_time.clone() },
            ..Rules::clone(configured)
        })
    }
}
