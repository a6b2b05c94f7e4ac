//! Who made commits, when and why.
//!
//! Owns the look-up in the store. Must never change anything.

use super::handle::ControlHandle;
use super::switch_state::SwitchState;
use crate::info::SaidInfo;
use crate::store::StoreBackend;
use std::collections::{BTreeMap, BTreeSet};
use switch::{Refusal, commit_at};

impl ControlHandle {
    /// Returns who made these commits of a switch, without those that its history does not have.
    ///
    /// # Errors
    /// There is no switch of this name, or its store cannot be read.
    pub(crate) async fn commit_notes(
        &self,
        switch: &str,
        revisions: impl Iterator<Item = u64>,
    ) -> Result<BTreeMap<u64, SaidInfo>, Refusal> {
        let revisions: BTreeSet<u64> = revisions.collect();
        self.at(switch, move |_, switch| async move { said_by(&switch, revisions).await }).await
    }
}

/// Returns who made these commits.
pub(super) async fn said_by(
    switch: &SwitchState,
    revisions: BTreeSet<u64>,
) -> Result<BTreeMap<u64, SaidInfo>, Refusal> {
    let read = move |store: &mut dyn StoreBackend| {
        let mut said = BTreeMap::new();
        for revision in revisions {
            if let Some(commit) = commit_at(store, revision)? {
                let info = SaidInfo { actor: commit.actor, reason: commit.reason, time_ms: commit.time_ms };
                said.insert(revision, info);
            }
        }
        Ok(said)
    };
    Ok(switch.store.with(read).await?)
}
