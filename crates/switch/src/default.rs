//! The default of a switch, as far as it belongs to the table: the one in force, and the one last read from the
//! configuration.
//!
//! Owns which changes of them an order makes. A configuration that says the same as when it was last read changes nothing,
//! whatever was undone meanwhile.

use std::sync::Arc;

use crate::{Code, Commit, DEFAULT_IN_FILE, DEFAULT_SUBJECT, Refusal, Rules, SubjectChange, Table};

/// An undone change of the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoneDefault {
    /// The revision whose change is taken back.
    pub of: u64,
    /// The default before that change.
    pub restore: String,
    /// The default now, according to the history.
    pub seen: Option<String>,
    /// A newer change that is in effect.
    pub later: Option<u64>,
}

fn in_file(before: Option<&str>, after: &str) -> SubjectChange {
    SubjectChange {
        subject: DEFAULT_SUBJECT.to_owned(),
        name: DEFAULT_IN_FILE.to_owned(),
        before: before.map(str::to_owned),
        after: Some(after.to_owned()),
        undoes: None,
    }
}

/// Returns the changes that make a target the default, as the configuration says now. `former`: what it said before, if
/// the table does not know.
pub(crate) fn set(table: &Table, former: &str, target: &str) -> Vec<SubjectChange> {
    let mut changes = Vec::new();
    let own = table.own_default().map(|(own, _)| own);
    if own != Some(target) {
        // One that the table did not know is named all the same if requests leave it.
        let before = own.or(Some(former).filter(|former| *former != target)).map(str::to_owned);
        changes.push(SubjectChange { before, ..SubjectChange::of_default(former, target, None) });
    }
    if table.default_in_file() != Some(target) {
        changes.push(in_file(table.default_in_file(), target));
    }
    changes
}

/// Returns the changes that take a change of the default back.
pub(crate) fn undo(
    table: &Table,
    rules: &Rules,
    undone: &UndoneDefault,
    force: bool,
) -> Result<Vec<SubjectChange>, Refusal> {
    let now = table.default_target(&rules.default);
    let is_stale = undone.seen.as_deref().is_some_and(|seen| *seen != **now);
    if (undone.later.is_some() || is_stale) && !force {
        let by = undone.later.map_or_else(|| "in the meantime".to_owned(), |by| format!("by revision {by}"));
        return Err(Refusal::new(
            Code::ChangedSince,
            format!("revision {} cannot be undone alone: the default was changed {by}", undone.of),
            "undo the newer change first, or repeat the order with force",
        ));
    }
    if rules.target(&undone.restore).is_none() {
        return Err(Refusal::unknown_target(rules, &undone.restore));
    }
    if *undone.restore == **now {
        return Ok(Vec::new());
    }
    let undoes = (undone.later.is_none() && !is_stale).then_some(undone.of);
    Ok(vec![SubjectChange::of_default(now, &undone.restore, undoes)])
}

impl Commit {
    /// Returns it with the default of the configuration, if the table does not know one yet: a later change of it can be
    /// told from one that was undone. Sealed.
    #[must_use]
    pub fn with_default(mut self, table: &Table, configured: &Arc<str>) -> Commit {
        if table.own_default().is_none()
            && !self.subjects.iter().any(|change| change.subject == DEFAULT_SUBJECT)
        {
            self.subjects.extend(set(table, configured, configured));
            return self.sealed();
        }
        self
    }

    /// Returns the change of the default that moves requests, if it is one.
    pub fn moved_default(&self) -> Option<&SubjectChange> {
        let moves = |change: &&SubjectChange| {
            change.is_of_default() && change.before.is_some() && change.before != change.after
        };
        self.subjects.iter().find(moves)
    }
}

impl Rules {
    /// Checks that the default in force is one of the targets.
    ///
    /// # Errors
    /// The default that is not, and the commit that set it.
    pub fn admits_default<'t>(&self, table: &'t Table) -> Result<(), (&'t str, u64)> {
        match table.own_default() {
            Some((own, revision)) if self.target(own).is_none() && !self.run_time.are_unknown => {
                Err((own, revision))
            }
            _ => Ok(()),
        }
    }

    /// Returns true if the configuration says another default than when it was last read. `former`: what it said then, if
    /// the table does not know.
    pub fn changes_default(&self, table: &Table, former: Option<&str>) -> bool {
        table.default_in_file().or(former).is_some_and(|before| *before != *self.default)
    }
}
