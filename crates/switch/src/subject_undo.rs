//! Taking changes of servers and groups back: those of a commit, by order or because it was not confirmed.
//!
//! Owns which of them newer decisions lie upon. Must never read the history: what it says comes with the order.

use crate::group_checks::check_groups;
use crate::group_plan;
use crate::server::{GROUP_SUBJECT, SERVER_SUBJECT, named_server};
use crate::server_plan::shown;
use crate::{Code, Refusal, Rules, SubjectChange, Table, Undoing, UndoneSubject};

/// Returns the changes that take changes of servers back.
pub(crate) fn undo(
    table: &Table,
    rules: &Rules,
    undoing: &Undoing,
    force: bool,
) -> Result<Vec<SubjectChange>, Refusal> {
    let newer: Vec<String> = undoing
        .subjects()
        .iter()
        .filter_map(|undone| match undone.later {
            Some(later) => Some(format!("{} (changed by revision {later})", shown(&undone.name))),
            None => {
                is_stale(table, undone).then(|| format!("{} (changed in the meantime)", shown(&undone.name)))
            }
        })
        .collect();
    if let Some(of) = undoing.of()
        && !newer.is_empty()
        && !force
    {
        return Err(Refusal::new(
            Code::ChangedSince,
            format!("revision {of} cannot be undone alone: {}", newer.join(", ")),
            "undo the newer change first, or repeat the order with force",
        ));
    }
    let replaced = replaced(table, undoing, |_| false);
    let changes: Vec<SubjectChange> = undoing
        .subjects()
        .iter()
        .map(|undone| taken_back(table, undone))
        // That one group takes the place of another one is said, even if both have the same settings.
        .filter(|change| change.before != change.after || is_replaced(change, &replaced))
        .collect();
    if changes.iter().all(|change| change.before == change.after) {
        return Ok(Vec::new());
    }
    let changes = group_plan::completed(table, rules, changes, &replaced, force)?;
    group_plan::check(table, rules, &changes)?;
    check_groups(table, rules, &changes, force)?;
    Ok(changes)
}

/// Returns the changes that take a commit back that was not confirmed. What was changed since keeps the later decision.
pub(crate) fn revert(table: &Table, rules: &Rules, undoing: &Undoing) -> Result<Vec<SubjectChange>, Refusal> {
    let is_newer = |undone: &UndoneSubject| undone.later.is_some() || is_stale(table, undone);
    let groups = undoing.subjects().iter().filter(|undone| undone.subject == GROUP_SUBJECT);
    // The servers of a group that was made since are that one's. If there is none now, a block has taken the older one over, and
    // what was not confirmed is still said of its servers.
    let is_remade = |undone: &&UndoneSubject| is_newer(undone) && current(table, undone).is_some();
    let remade: Vec<&str> = groups.filter(is_remade).map(|undone| &*undone.name).collect();
    let is_of_newer = |undone: &UndoneSubject| {
        let group = named_server(&undone.name).filter(|_| undone.subject == SERVER_SUBJECT);
        group.is_some_and(|(group, _)| remade.contains(&group))
    };
    let is_left = |undone: &UndoneSubject| is_newer(undone) || is_of_newer(undone);
    let change = |undone: &UndoneSubject| {
        if !is_left(undone) {
            return taken_back(table, undone);
        }
        let now = current(table, undone);
        SubjectChange {
            after: now.clone(),
            before: now,
            undoes: Some(undone.of),
            ..taken_back(table, undone)
        }
    };
    let changes = undoing.subjects().iter().map(change).collect();
    let replaced = replaced(table, undoing, is_left);
    let changes = group_plan::completed(table, rules, changes, &replaced, true)?;
    group_plan::check(table, rules, &changes)?;
    Ok(changes)
}

/// Returns the groups in whose place an older one of the same name comes back.
fn replaced(table: &Table, undoing: &Undoing, is_left: impl Fn(&UndoneSubject) -> bool) -> Vec<String> {
    let groups = undoing.subjects().iter().filter(|undone| undone.subject == GROUP_SUBJECT);
    let is_replaced = |undone: &&UndoneSubject| {
        undone.restore.is_some() && current(table, undone).is_some() && !is_left(undone)
    };
    groups.filter(is_replaced).map(|undone| undone.name.clone()).collect()
}

fn is_replaced(change: &SubjectChange, replaced: &[String]) -> bool {
    change.subject == GROUP_SUBJECT && replaced.contains(&change.name)
}

fn taken_back(table: &Table, undone: &UndoneSubject) -> SubjectChange {
    SubjectChange {
        subject: undone.subject.clone(),
        name: undone.name.clone(),
        before: current(table, undone),
        after: undone.restore.clone(),
        undoes: (undone.later.is_none() && !is_stale(table, undone)).then_some(undone.of),
    }
}

fn current(table: &Table, undone: &UndoneSubject) -> Option<String> {
    table.subjects().get(&undone.subject, &undone.name).map(|value| value.value.clone())
}

fn is_stale(table: &Table, undone: &UndoneSubject) -> bool {
    current(table, undone) != undone.seen
}
