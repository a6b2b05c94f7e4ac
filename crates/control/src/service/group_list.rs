//! The groups with their servers, as they are shown: what the configuration has, what orders say, who said it.
//!
//! Owns the look-up of the commits that said it. Must never change anything.

use super::handle::ControlHandle;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::info::{GroupInfo, GroupsInfo, SaidInfo};
use crate::store::StoreBackend;
use engine::modules::switch::GROUPS_NAME;
use std::collections::{BTreeMap, BTreeSet};
use switch::{BaseGroup, Refusal, Rules, apply_overlay, commit_at, overlay_of};

impl ControlHandle {
    /// Returns the groups of this name, or all, with their servers.
    ///
    /// # Errors
    /// There is no such group, or the store cannot be read.
    pub async fn groups(&self, name: Option<String>) -> Result<GroupsInfo, Refusal> {
        self.at(GROUPS_NAME, move |state, switch| async move { state.groups_info(&switch, name).await }).await
    }
}

impl ControlState {
    async fn groups_info(&self, switch: &SwitchState, name: Option<String>) -> Result<GroupsInfo, Refusal> {
        let (rules, table) = (switch.rules(), switch.table());
        let wanted: Vec<BaseGroup> = match &name {
            Some(name) => vec![group(&rules, name)?.clone()],
            None => rules.groups.to_vec(),
        };
        let groups: Vec<GroupInfo> = wanted
            .into_iter()
            .map(|base| {
                let found = apply_overlay(&base.servers, &overlay_of(table.subjects(), &base.name));
                GroupInfo { base, found }
            })
            .collect();
        let revisions: BTreeSet<u64> = groups.iter().flat_map(GroupInfo::revisions).collect();
        let said = said_by(switch, revisions).await?;
        Ok(GroupsInfo { revision: table.revision(), groups, said, peers: self.peers().await })
    }
}

fn group<'r>(rules: &'r Rules, name: &str) -> Result<&'r BaseGroup, Refusal> {
    let found = rules.groups.iter().find(|group| group.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| Refusal::unknown_group(rules, name))
}

/// Returns who made these commits.
async fn said_by(switch: &SwitchState, revisions: BTreeSet<u64>) -> Result<BTreeMap<u64, SaidInfo>, Refusal> {
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
