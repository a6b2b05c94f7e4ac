//! Checking an order that makes or removes a group: what would change, or why not.
//!
//! Owns the refusals that depend on what leads to a group, and that a group goes with what was said of its servers. Must never
//! look at anything but the rules and the table.

use std::collections::BTreeMap;

use crate::group::{base, check_name, configured, is_removal};
use crate::group_checks::{bad_order, check_groups};
use crate::server::{FORGOTTEN_SUBJECT, GROUP_SUBJECT, SERVER_SUBJECT, server_address, subject_name};
use crate::server_plan::{bad_address, check_params, of_server, shown};
use crate::{
    Code, GroupOrder, GroupUse, GroupVerb, MadeGroup, Refusal, Rules, ServerEntry, ServerParams,
    SubjectChange, Subjects, Table,
};

/// Returns the changes that an order makes.
pub(crate) fn set(table: &Table, rules: &Rules, order: &GroupOrder) -> Result<Vec<SubjectChange>, Refusal> {
    match &order.verb {
        GroupVerb::Make { like, servers } => make(table, rules, &order.group, like.as_deref(), servers),
        GroupVerb::Remove => remove(table, rules, &order.group),
    }
}

fn make(
    table: &Table,
    rules: &Rules,
    name: &str,
    like: Option<&str>,
    servers: &[(String, ServerParams)],
) -> Result<Vec<SubjectChange>, Refusal> {
    check_name(name)?;
    let subjects = table.subjects();
    let is_configured = configured(rules, name).is_some();
    if is_configured || MadeGroup::find(subjects, name).is_some() {
        return Err(Refusal::group_exists(name, is_configured));
    }
    let made = MadeGroup::new(like.map(|like| settings_of(rules, subjects, like)).transpose()?.flatten());
    let group = base(rules, name, &made);
    // What was said of the servers of a group of this name that is gone is not said of this one's.
    let mut entries: BTreeMap<String, Option<ServerEntry>> =
        said(subjects, name).map(|(name, _)| (name, None)).collect();
    for (text, params) in servers {
        let server = server_address(text).map_err(|fault| bad_address(text, &fault))?;
        check_params(&group, &server, params)?;
        let entry = ServerEntry::added(params.clone());
        if entries.insert(subject_name(name, &server), Some(entry)).flatten().is_some() {
            let text = format!("it names the server {server} of group \"{name}\" twice");
            return Err(bad_order(&text, "name each server once"));
        }
    }
    let mut changes = vec![of_group(name, None, Some(made.to_string()))];
    // What was said of a server already, and is said again, is this group's from now on: what is taken back of the older leaves it.
    changes.extend(entries.into_iter().map(|(name, entry)| {
        let before = subjects.get(SERVER_SUBJECT, &name).map(|value| value.value.clone());
        of_server(name, before, entry.map(|entry| entry.to_string()), None)
    }));
    check_groups(table, rules, &changes, true)?;
    Ok(changes)
}

/// Returns the group of the configuration whose settings a group has that is like this one.
fn settings_of(rules: &Rules, subjects: &Subjects, like: &str) -> Result<Option<String>, Refusal> {
    match configured(rules, like) {
        Some(known) if known.name.contains(' ') => {
            Err(bad_order("the name of the group that it is to be like has a blank", "name another group"))
        }
        Some(known) => Ok(Some(known.name.to_string())),
        None => match MadeGroup::find(subjects, like) {
            Some(made) => Ok(made.like),
            None => Err(Refusal::unknown_group(rules, subjects, like)),
        },
    }
}

fn remove(table: &Table, rules: &Rules, name: &str) -> Result<Vec<SubjectChange>, Refusal> {
    let (subjects, name) = (table.subjects(), name.to_ascii_lowercase());
    let Some(value) = subjects.get(GROUP_SUBJECT, &name) else {
        return Err(match configured(rules, &name) {
            Some(known) => Refusal::new(
                Code::BadOrder,
                format!("invalid order: group \"{}\" is the configuration's", known.name),
                "take its upstream block out of the configuration, and reload",
            ),
            None => Refusal::unknown_group(rules, subjects, &name),
        });
    };
    let mut changes = vec![of_group(&name, Some(value.value.clone()), None)];
    if configured(rules, &name).is_none() {
        let subject = FORGOTTEN_SUBJECT.to_owned();
        changes.push(SubjectChange { subject, name: name.clone(), before: None, after: None, undoes: None });
    }
    let changes = completed(table, rules, changes, &[], true)?;
    check(table, rules, &changes)?;
    Ok(changes)
}

/// Returns changes with those of the servers of groups that go by them, as of those in whose place older ones of their names come
/// back (`replaced`): what was said of these is forgotten. Unless `force`, what was said since is a newer decision.
pub(crate) fn completed(
    table: &Table,
    rules: &Rules,
    mut changes: Vec<SubjectChange>,
    replaced: &[String],
    force: bool,
) -> Result<Vec<SubjectChange>, Refusal> {
    let leaving = changes
        .iter()
        .filter(|change| is_removal(change) && configured(rules, &change.name).is_none())
        .map(|change| (change.name.clone(), true));
    let leaving: Vec<(String, bool)> =
        leaving.chain(replaced.iter().map(|group| (group.clone(), false))).collect();
    for (group, is_leaving) in leaving {
        for (name, value) in said(table.subjects(), &group) {
            let known = changes.iter_mut().find(|one| one.subject == SERVER_SUBJECT && one.name == name);
            if known.as_ref().is_some_and(|known| !is_leaving || known.after.is_none()) {
                continue;
            }
            if !force {
                return Err(Refusal::new(
                    Code::ChangedSince,
                    format!("{} was changed since group \"{group}\" was made", shown(&name)),
                    "undo that first, repeat the order with force, or remove the group (pointsman group remove)",
                ));
            }
            match known {
                Some(known) => known.after = None,
                None => changes.push(of_server(name, Some(value), None, None)),
            }
        }
    }
    Ok(changes)
}

/// Checks the groups that come and go by changes.
pub(crate) fn check(table: &Table, rules: &Rules, changes: &[SubjectChange]) -> Result<(), Refusal> {
    for change in changes.iter().filter(|change| change.subject == GROUP_SUBJECT) {
        if is_removal(change) {
            let leads = |one: &&GroupUse| one.group.eq_ignore_ascii_case(&change.name);
            let uses: Vec<&GroupUse> = rules.run_time.uses.iter().filter(leads).collect();
            if !uses.is_empty() {
                return Err(Refusal::group_in_use(&change.name, &uses));
            }
        }
        let Some(made) = change.after.as_ref().filter(|_| change.before != change.after) else { continue };
        match configured(rules, &change.name) {
            Some(known) if !known.adopts => return Err(Refusal::group_exists(&known.name, true)),
            Some(_) => {}
            None => {
                let like = MadeGroup::parse(made).like;
                if let Some(like) = like.filter(|like| configured(rules, like).is_none()) {
                    return Err(Refusal::unknown_group(rules, table.subjects(), &like));
                }
            }
        }
    }
    Ok(())
}

/// Returns the subjects of the servers of a group, with their values.
fn said(subjects: &Subjects, group: &str) -> impl Iterator<Item = (String, String)> {
    let prefix = subject_name(group, "");
    let said: Vec<(String, String)> = subjects
        .with_prefix(SERVER_SUBJECT, &prefix)
        .map(|(name, value)| (name.to_owned(), value.value.clone()))
        .collect();
    said.into_iter()
}

fn of_group(name: &str, before: Option<String>, after: Option<String>) -> SubjectChange {
    SubjectChange { subject: GROUP_SUBJECT.to_owned(), name: name.to_owned(), before, after, undoes: None }
}
