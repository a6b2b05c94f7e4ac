//! Groups as they would be after an order on their servers, and which of them are refused.
//!
//! Owns that an order leaves no group in use without a server, and no ring with too many points. Must never change a table.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::group::{base, configured, find_group, gone_group, is_removal};
use crate::server::{GROUP_SUBJECT, SERVER_SUBJECT, named_server};
use crate::{
    BaseGroup, Code, EffectiveGroup, MadeGroup, OverlayServer, Pending, Refusal, Rules, ServerEntry,
    SubjectChange, Table, apply_overlay, overlay_of,
};

/// Returns the group of this name as it is after these changes.
pub(crate) fn group<'r>(
    table: &Table,
    rules: &'r Rules,
    changes: &[SubjectChange],
    name: &str,
) -> Result<Cow<'r, BaseGroup>, Refusal> {
    let is_own =
        |change: &&SubjectChange| change.subject == GROUP_SUBJECT && change.name.eq_ignore_ascii_case(name);
    let found = match changes.iter().find(is_own).filter(|_| configured(rules, name).is_none()) {
        Some(own) => {
            let made = own.after.as_deref().map(MadeGroup::parse);
            made.map(|made| Cow::Owned(base(rules, &own.name, &made)))
        }
        None => find_group(rules, table.subjects(), name),
    };
    let found = found.ok_or_else(|| Refusal::unknown_group(rules, table.subjects(), name))?;
    if found.name.contains(' ') {
        return Err(bad_order(
            "the name of its group has a blank",
            "change such a group in the configuration",
        ));
    }
    Ok(found)
}

/// Returns the servers that get requests by these changes and got none before: group and server.
pub(crate) fn enlisted(table: &Table, rules: &Rules, changes: &[SubjectChange]) -> Vec<(Arc<str>, String)> {
    let mut found = Vec::new();
    let groups = changed_groups(changes).into_iter();
    for group in groups.filter_map(|name| group(table, rules, changes, name).ok()) {
        let (before, after) = (effective(table, &group, &[]), effective(table, &group, changes));
        let served = |name: &str| before.server(name).is_some_and(|one| one.params.is_in_use());
        let serving = after.servers.iter().filter(|one| one.params.is_in_use());
        let new = serving.filter(|one| !served(&one.name));
        found.extend(new.map(|one| (Arc::clone(&group.name), one.name.clone())));
    }
    found
}

/// Fails if these changes leave a group in use only servers that it has until a window ends: an order added them that is not
/// confirmed yet.
pub(crate) fn check_windows(
    table: &Table,
    rules: &Rules,
    changes: &[SubjectChange],
    pending: &[Pending],
) -> Result<(), Refusal> {
    for name in changed_groups(changes) {
        // What is said of a group that is gone leaves nothing.
        let Ok(group) = group(table, rules, changes, name) else { continue };
        let overlay = overlay_of(table.subjects(), &group.name);
        let is_awaited = |said: &&OverlayServer| {
            pending.iter().any(|waiting| waiting.revision == said.revision)
                && !group.servers.iter().any(|base| base.name == said.name)
        };
        let awaited: Vec<&OverlayServer> = overlay.iter().filter(is_awaited).collect();
        let Some(first) = awaited.first().filter(|_| !group.users.is_empty()) else { continue };
        let before = effective(table, &group, &[]);
        let mut after = effective(table, &group, changes);
        after.servers.retain(|server| !awaited.iter().any(|said| said.name == server.name));
        if before.is_usable() && !after.is_usable() {
            return Err(Refusal::new(
                Code::GroupEmptied,
                format!(
                    "group \"{}\" would have no server for new requests once revision {} is reverted, which added {} and is not confirmed",
                    group.name, first.revision, first.name
                ),
                format!(
                    "confirm revision {} first (pointsman confirm --switch groups {}), or repeat the order with force",
                    first.revision, first.revision
                ),
            ));
        }
    }
    Ok(())
}

/// Checks the groups as they would be after these changes.
pub(crate) fn check_groups(
    table: &Table,
    rules: &Rules,
    changes: &[SubjectChange],
    force: bool,
) -> Result<(), Refusal> {
    for name in changed_groups(changes) {
        let of_group = changes.iter().find(|change| change.subject == GROUP_SUBJECT && change.name == name);
        if of_group.is_some_and(is_removal) && configured(rules, name).is_none() {
            continue;
        }
        let of_servers = || {
            let of_server =
                |change: &&SubjectChange| named_server(&change.name).map(|(group, _)| group) == Some(name);
            changes.iter().filter(|change| change.subject == SERVER_SUBJECT).filter(of_server)
        };
        // What is said of the servers of a group that is gone may be forgotten.
        let is_gone = gone_group(rules, table.subjects(), name).is_some() && of_group.is_none();
        if is_gone && of_servers().all(|change| change.after.is_none()) {
            continue;
        }
        let group = &*group(table, rules, changes, name)?;
        let before = match of_group {
            Some(new) if new.before.is_none() => EffectiveGroup::default(),
            _ => effective(table, group, &[]),
        };
        let after = effective(table, group, changes);
        let weights = |of: &EffectiveGroup| {
            of.servers.iter().map(|one| u64::from(one.params.weight.unwrap_or(1))).sum::<u64>()
        };
        if let Some(max) = group.max_weights
            && weights(&after) > max.max(weights(&before))
        {
            return Err(Refusal::new(
                Code::BadServer,
                format!(
                    "invalid weight: the weights of group \"{}\" would come to {}; its ring takes at most {max}",
                    group.name,
                    weights(&after)
                ),
                "use smaller weights: only their proportions count",
            ));
        }
        if !force && !group.users.is_empty() && before.is_usable() && !after.is_usable() {
            return Err(group_emptied(group));
        }
    }
    Ok(())
}

/// Returns the servers of a group after these changes.
fn effective(table: &Table, group: &BaseGroup, changes: &[SubjectChange]) -> EffectiveGroup {
    let mut overlay = overlay_of(table.subjects(), &group.name);
    for change in changes.iter().filter(|change| change.subject == SERVER_SUBJECT) {
        let Some((name, server)) = named_server(&change.name) else { continue };
        if !group.name.eq_ignore_ascii_case(name) {
            continue;
        }
        overlay.retain(|said| said.name != server);
        overlay.extend(change.after.as_deref().map(|says| OverlayServer {
            name: server.to_owned(),
            entry: ServerEntry::parse(says),
            revision: 0,
        }));
    }
    apply_overlay(&group.servers, &overlay)
}

/// Returns the names of the groups that changes are of, each once.
fn changed_groups(changes: &[SubjectChange]) -> BTreeSet<&str> {
    let servers = changes.iter().filter(|change| change.subject == SERVER_SUBJECT);
    servers.filter_map(|change| Some(named_server(&change.name)?.0)).collect()
}

fn group_emptied(group: &BaseGroup) -> Refusal {
    Refusal::new(
        Code::GroupEmptied,
        format!(
            "group \"{}\" would have no server for new requests, and {} sends it some",
            group.name,
            group.users.join(", ")
        ),
        "add or bring up another server first, or repeat the order with force",
    )
}

pub(crate) fn bad_order(text: &str, remedy: &str) -> Refusal {
    Refusal::new(Code::BadOrder, format!("invalid order: {text}"), remedy)
}
