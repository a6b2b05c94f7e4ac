//! Groups that are made at run time, as orders name them and the table keeps them.
//!
//! Owns their names, their value on disk, and which groups there are by configuration and table together. Must never change
//! one: what an order makes of them is the plan's.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::server::{
    FORGOTTEN_SUBJECT, GROUP_SUBJECT, SERVER_SUBJECT, named_server, server_address, subject_name,
};
use crate::{BaseGroup, Code, Refusal, Rules, ServerParams, SubjectChange, Subjects};

/// The word of `targets` that admits groups made at run time; so no such group is called so.
pub const DYNAMIC: &str = "dynamic";
/// The longest name of a group made at run time, bytes.
const MAX_NAME: usize = 255;
/// The first word of a group's value.
const MADE: &str = "made";

/// A change of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOrder {
    /// Its name.
    pub group: String,
    /// The change.
    pub verb: GroupVerb,
}

/// An action on a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupVerb {
    /// It is made.
    Make {
        /// The group whose settings it has; none has those of a block without any.
        like: Option<String>,
        /// Its servers.
        servers: Vec<(String, ServerParams)>,
    },
    /// It goes, with what orders say of its servers.
    Remove,
}

impl GroupOrder {
    /// Returns true if this order may have made this change.
    pub(crate) fn may_have_made(&self, change: &SubjectChange) -> bool {
        let of_group = change.subject == GROUP_SUBJECT && self.group.eq_ignore_ascii_case(&change.name);
        match &self.verb {
            // A group that it is like may be one that was made itself: then its value names another.
            GroupVerb::Make { .. } if of_group => change.after.is_some(),
            GroupVerb::Make { servers, .. } => {
                let Some((group, server)) = change.named_server() else { return false };
                let entry = change.after.as_deref().map(crate::ServerEntry::parse);
                let is_own = |(name, params): &(String, ServerParams)| {
                    server_address(name).is_ok_and(|address| address == server)
                        && entry.as_ref().is_some_and(|entry| entry.is_added && entry.params == *params)
                };
                // What orders had said of a group of this name that is gone is forgotten.
                group.eq_ignore_ascii_case(&self.group) && (entry.is_none() || servers.iter().any(is_own))
            }
            GroupVerb::Remove if of_group => change.after.is_none(),
            GroupVerb::Remove if change.subject == FORGOTTEN_SUBJECT => {
                self.group.eq_ignore_ascii_case(&change.name)
            }
            GroupVerb::Remove => {
                let named = change.named_server();
                named.is_some_and(|(group, _)| group.eq_ignore_ascii_case(&self.group))
                    && change.after.is_none()
            }
        }
    }
}

/// A group made at run time, as orders have it: the value of its subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MadeGroup {
    /// The group of the configuration whose settings it has.
    pub like: Option<String>,
    /// Words that this version does not know. They are kept.
    unknown: Vec<String>,
}

impl MadeGroup {
    /// Returns a group that is like another one.
    pub(crate) fn new(like: Option<String>) -> MadeGroup {
        MadeGroup { like, unknown: Vec::new() }
    }

    /// Reads the value of a subject.
    pub fn parse(text: &str) -> MadeGroup {
        let mut made = MadeGroup::default();
        for word in text.split(' ').filter(|word| !word.is_empty() && *word != MADE) {
            match word.strip_prefix("like=") {
                Some(like) => made.like = Some(like.to_owned()),
                None => made.unknown.push(word.to_owned()),
            }
        }
        made
    }

    /// Returns the group of this name, if it was made at run time.
    pub fn find(subjects: &Subjects, name: &str) -> Option<MadeGroup> {
        let value = subjects.get(GROUP_SUBJECT, &name.to_ascii_lowercase())?;
        Some(MadeGroup::parse(&value.value))
    }
}

impl fmt::Display for MadeGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MADE)?;
        if let Some(like) = &self.like {
            write!(f, " like={like}")?;
        }
        self.unknown.iter().try_for_each(|word| write!(f, " {word}"))
    }
}

/// A use of a group made at run time, for which it cannot be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupUse {
    /// The group's name.
    pub group: Arc<str>,
    /// The user, for people: `key "a.example" of switch "live"`.
    pub by: String,
}

/// The rules about groups made at run time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunTimeRules {
    /// The targets of a switch are also those that there are (`targets … dynamic`).
    pub is_admitted: bool,
    /// Which there are is not known: the store that has them is damaged.
    pub are_unknown: bool,
    /// Of the groups' own rules: the switches whose keys may lead there, for people.
    pub users: Box<[String]>,
    /// Of the groups' own rules: what leads there now.
    pub uses: Box<[GroupUse]>,
}

/// Returns the names of all groups that were made at run time.
pub fn made_groups(subjects: &Subjects) -> impl Iterator<Item = (&str, MadeGroup)> {
    subjects.of(GROUP_SUBJECT).map(|(name, value)| (name, MadeGroup::parse(&value.value)))
}

/// Returns all groups: those of the configuration in its order, then those that were made at run time by name.
pub fn all_groups<'r>(rules: &'r Rules, subjects: &Subjects) -> Vec<Cow<'r, BaseGroup>> {
    let made = made_groups(subjects).filter(|(name, _)| configured(rules, name).is_none());
    let made: Vec<_> = made.map(|(name, made)| Cow::Owned(base(rules, name, &made))).collect();
    rules.groups.iter().map(Cow::Borrowed).chain(made).collect()
}

/// Returns the group of this name, of the configuration or made at run time.
pub fn find_group<'r>(rules: &'r Rules, subjects: &Subjects, name: &str) -> Option<Cow<'r, BaseGroup>> {
    if let Some(found) = configured(rules, name) {
        return Some(Cow::Borrowed(found));
    }
    let made = MadeGroup::find(subjects, name)?;
    Some(Cow::Owned(base(rules, &name.to_ascii_lowercase(), &made)))
}

/// Returns the names of groups that are gone while orders still say something of their servers: without effect, until the
/// configuration has them again.
pub fn gone_groups(rules: &Rules, subjects: &Subjects) -> Vec<Arc<str>> {
    let mut names: Vec<&str> =
        subjects.of(SERVER_SUBJECT).filter_map(|(name, _)| Some(named_server(name)?.0)).collect();
    names.dedup();
    names.retain(|name| find_group(rules, subjects, name).is_none());
    names.into_iter().map(Arc::from).collect()
}

/// Returns what goes for a group that is gone in the place of a block, if orders still say something of its servers.
pub fn gone_group(rules: &Rules, subjects: &Subjects, name: &str) -> Option<BaseGroup> {
    let name = name.to_ascii_lowercase();
    let is_said = subjects.with_prefix(SERVER_SUBJECT, &subject_name(&name, "")).next().is_some();
    (is_said && find_group(rules, subjects, &name).is_none())
        .then(|| BaseGroup { users: Vec::new(), ..base(rules, &name, &MadeGroup::default()) })
}

/// Returns the group of this name that the configuration has.
pub(crate) fn configured<'r>(rules: &'r Rules, name: &str) -> Option<&'r BaseGroup> {
    rules.groups.iter().find(|group| group.name.eq_ignore_ascii_case(name))
}

/// Returns what goes for a group made at run time in the place of a block: it has no servers but those of orders.
pub(crate) fn base(rules: &Rules, name: &str, made: &MadeGroup) -> BaseGroup {
    let like = made.like.as_deref().and_then(|like| configured(rules, like));
    BaseGroup {
        name: name.into(),
        servers: Vec::new(),
        allows_backup: like.is_none_or(|like| like.allows_backup),
        max_weights: like.and_then(|like| like.max_weights),
        users: rules.run_time.users.to_vec(),
        adopts: false,
    }
}

/// Returns true if a group that was made at run time goes by a change.
pub(crate) fn is_removal(change: &SubjectChange) -> bool {
    change.subject == GROUP_SUBJECT && change.before.is_some() && change.after.is_none()
}

/// Checks that the groups made at run time go with a configuration.
///
/// # Errors
/// A line for each that does not.
pub fn check_made(rules: &Rules, subjects: &Subjects) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, value) in subjects.of(GROUP_SUBJECT) {
        let by = format!("group \"{name}\" was made at run time (revision {} of groups)", value.revision);
        match configured(rules, name) {
            Some(known) if known.adopts => continue,
            Some(known) => {
                faults.push(format!(
                    "{by}, and the configuration has an upstream \"{0}\"; remove the one (pointsman group remove {name}), or \
                     let the block take it over: upstream {0} adopt {{ … }}",
                    known.name
                ));
                continue;
            }
            None => {}
        }
        if let Some(like) = MadeGroup::parse(&value.value).like
            && configured(rules, &like).is_none()
        {
            faults.push(format!(
                "{by} with the settings of \"{like}\", which the configuration no longer has; keep that upstream, write one \
                 for it (upstream {name} adopt {{ … }}), or remove it (pointsman group remove {name})"
            ));
        }
    }
    faults
}

/// Checks the name of a group that is to be made.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let is_in_names = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    let fault = match name {
        "" => "it is empty".to_owned(),
        DYNAMIC => "\"targets … dynamic\" means all of them".to_owned(),
        "default" => "it means that a key has no entry".to_owned(),
        "." | ".." => "it would climb in the path of a URL".to_owned(),
        name if name.len() > MAX_NAME => format!("it is longer than {MAX_NAME} bytes"),
        name if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            "names of groups are compared without regard to case, and this one has capitals".to_owned()
        }
        name if !name.bytes().all(is_in_names) => {
            "it has other characters than letters, digits, \"-\", \"_\" and \".\"".to_owned()
        }
        name if server_address(name).is_ok() => "it is an address".to_owned(),
        _ => return Ok(()),
    };
    let remedy = "write a name in lower case, such as green or api-v2";
    Err(Refusal::new(Code::BadGroup, format!("invalid name {name:?} of a group: {fault}"), remedy))
}

impl Refusal {
    /// Refuses to make a group that is there.
    pub(crate) fn group_exists(name: &str, is_configured: bool) -> Refusal {
        let (where_from, remedy) = match is_configured {
            true => {
                ("the configuration has it", "choose another name, or add servers to it (pointsman server)")
            }
            false => {
                ("an order has made it", "choose another name, or remove it first (pointsman group remove)")
            }
        };
        Refusal::new(Code::GroupExists, format!("there is a group \"{name}\" already: {where_from}"), remedy)
    }

    /// Refuses to remove a group to which something leads.
    pub(crate) fn group_in_use(name: &str, uses: &[&GroupUse]) -> Refusal {
        let first: Vec<&str> = uses.iter().take(3).map(|one| &*one.by).collect();
        let more = match uses.len().saturating_sub(first.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Refusal::new(
            Code::GroupInUse,
            format!("group \"{name}\" is in use: {}{more}", first.join(", ")),
            "switch the keys that lead to it to another target first (pointsman switch KEY TARGET), and confirm or \
             undo commits that wait for it",
        )
    }
}

impl SubjectChange {
    /// Returns the change of a group that was made at run time as people read it: `green: made, like blue`.
    pub(crate) fn group_text(&self) -> Option<String> {
        let what = match (&*self.subject, &self.before, &self.after) {
            // Beside its removal.
            (FORGOTTEN_SUBJECT, ..) => "forgotten, with what was said of its servers".to_owned(),
            (GROUP_SUBJECT, before, after) if before == after => "unchanged".to_owned(),
            (GROUP_SUBJECT, _, None) => "removed".to_owned(),
            (GROUP_SUBJECT, _, Some(after)) => match MadeGroup::parse(after).like {
                Some(like) => format!("made, like {like}"),
                None => "made".to_owned(),
            },
            _ => return None,
        };
        Some(format!("{}: {what}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_back_as_it_was_written() {
        for text in ["made", "made like=Blue", "made like=a=b zone=x"] {
            assert_eq!(MadeGroup::parse(text).to_string(), text);
        }
        assert_eq!(MadeGroup::parse("made like=blue").like.as_deref(), Some("blue"));
    }

    #[test]
    fn a_name_is_one_that_is_no_address_and_has_one_spelling() {
        for name in ["green", "api-v2.example_1", "9"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "dynamic",
            "default",
            "Green",
            "..",
            "a b",
            "a=b",
            "a/b",
            "10.0.0.1",
            "10.0.0.1:80",
            "grün",
            &"a".repeat(256),
        ] {
            assert_eq!(check_name(name).unwrap_err().code, Code::BadGroup, "{name}");
        }
    }
}
