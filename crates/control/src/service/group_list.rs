//! The groups with their servers, as they are shown: what the configuration has, what orders say, who said it.
//!
//! Must never change anything.

use super::commit_notes::said_by;
use super::handle::ControlHandle;
use super::state::ControlState;
use super::switch_state::SwitchState;
use crate::info::{GroupInfo, GroupsInfo, MadeInfo};
use crate::store::StoreBackend;
use engine::modules::switch::GROUPS_NAME;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use switch::{
    BaseGroup, EffectiveGroup, Filter, GROUP_SUBJECT, GroupFilter, MadeGroup, OverlayServer, Refusal,
    ServerEntry, ServerParams, all_groups, apply_overlay, find_group, gone_group, gone_groups, overlay_of,
};

/// The maximum number of servers that are dated, and of changes of one that are looked through.
const DATED: usize = 256;
const CHANGES: usize = 64;

impl ControlHandle {
    /// Returns the groups of this name, or all, with their servers.
    ///
    /// # Errors
    /// There is no such group, or the store cannot be read.
    pub async fn groups(&self, name: Option<String>) -> Result<GroupsInfo, Refusal> {
        self.at(GROUPS_NAME, move |state, switch| async move { state.groups_info(&switch, name).await }).await
    }

    /// Returns the fault of the store of what orders say of servers, with its remedy.
    ///
    /// # Errors
    /// The control plane is stopping.
    pub async fn groups_fault(&self) -> Result<Option<(String, String)>, Refusal> {
        self.at(GROUPS_NAME, |_, switch| async move { Ok(switch.fault_text()) }).await
    }
}

impl ControlState {
    async fn groups_info(&self, switch: &SwitchState, name: Option<String>) -> Result<GroupsInfo, Refusal> {
        let (rules, table) = (switch.rules(), switch.table());
        let subjects = table.subjects();
        let config = switch.configured().config.clone();
        let wanted: Vec<BaseGroup> = match &name {
            Some(name) => {
                let found = find_group(&rules, subjects, name).map(Cow::into_owned);
                let found = found.or_else(|| gone_group(&rules, subjects, name));
                vec![found.ok_or_else(|| Refusal::unknown_group(&rules, subjects, name))?]
            }
            None => {
                let gone = gone_groups(&rules, subjects);
                let gone = gone.iter().filter_map(|name| gone_group(&rules, subjects, name));
                all_groups(&rules, subjects).into_iter().map(Cow::into_owned).chain(gone).collect()
            }
        };
        let mut groups: Vec<GroupInfo> = wanted
            .into_iter()
            .map(|mut base| {
                let is_gone = gone_group(&rules, subjects, &base.name).is_some();
                let overlay = overlay_of(subjects, &base.name);
                let found =
                    if is_gone { without_effect(overlay) } else { apply_overlay(&base.servers, &overlay) };
                let made = subjects.get(GROUP_SUBJECT, &base.name.to_ascii_lowercase());
                let made = made.map(|value| MadeInfo {
                    like: MadeGroup::parse(&value.value).like,
                    revision: value.revision,
                    is_adopted: rules.groups.iter().any(|group| group.name == base.name),
                });
                // Keys may lead to one that the configuration has adopted by its name of before, too.
                let admitting = made.iter().flat_map(|_| rules.run_time.users.iter());
                let more: Vec<String> =
                    admitting.filter(|user| !base.users.contains(user)).cloned().collect();
                base.users.extend(more);
                let sources = self.sources_of(&config, &base.name);
                GroupInfo { base, found, made, sources, is_gone, out_since: BTreeMap::new() }
            })
            .collect();
        let revisions: BTreeSet<u64> = groups.iter().flat_map(GroupInfo::revisions).collect();
        let said = said_by(switch, revisions).await?;
        date(switch, &mut groups).await?;
        Ok(GroupsInfo {
            revision: table.revision(),
            groups,
            said,
            peers: self.peers().await,
            store_fault: switch.fault_text(),
        })
    }
}

/// Adds since when orders have servers drained or down: the oldest of the newest changes in a row that left it so.
async fn date(switch: &SwitchState, groups: &mut [GroupInfo]) -> Result<(), Refusal> {
    let is_out = |params: &ServerParams| params.drain == Some(true) || params.down == Some(true);
    let out = |(number, group): (usize, &GroupInfo)| {
        let servers = group.found.servers.iter().filter(|server| is_out(&server.ordered));
        servers.map(|one| (number, group.base.name.clone(), one.name.clone())).collect::<Vec<_>>()
    };
    let wanted: Vec<_> = groups.iter().enumerate().flat_map(out).take(DATED).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let read = move |store: &mut dyn StoreBackend| {
        let mut found = Vec::new();
        for (number, group, server) in wanted {
            let of = GroupFilter::new(&group, Some(&server));
            let filter = Filter { group: Some(of.clone()), limit: CHANGES, ..Filter::default() };
            let mut since_ms = None;
            for commit in store.history(&filter)? {
                let change = commit.subjects.iter().find(|change| of.includes(change));
                let said =
                    |side: &Option<String>| side.as_deref().map(ServerEntry::parse).unwrap_or_default();
                let Some((before, after)) = change.map(|one| (said(&one.before), said(&one.after))) else {
                    break;
                };
                if !is_out(&after.params) {
                    break;
                }
                since_ms = Some(commit.time_ms);
                if !is_out(&before.params) {
                    break;
                }
            }
            found.extend(since_ms.map(|since_ms| (number, server, since_ms)));
        }
        Ok(found)
    };
    for (number, server, since_ms) in switch.store.with(read).await? {
        groups[number].out_since.insert(server, since_ms);
    }
    Ok(())
}

/// Returns what orders say of the servers of a group that is gone.
fn without_effect(overlay: Vec<OverlayServer>) -> EffectiveGroup {
    let (pins, dormant): (Vec<_>, Vec<_>) = overlay.into_iter().partition(OverlayServer::is_pin);
    EffectiveGroup { dormant, pinned: pins.first().map(|pin| pin.revision), ..EffectiveGroup::default() }
}
