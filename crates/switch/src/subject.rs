//! What a switch has beside its keys: its default, its holds, the state of its servers, and what later versions add.
//!
//! Owns the values as texts, by the kind of their subject and a name. What they mean is for those who ask for them. Must
//! never drop a subject that this version does not know.

use std::cmp::Ordering;
use std::sync::Arc;

use sorted::SortedMap;

/// The subject of a switch's keys in form 2 of a commit. It is never one of [`Subjects`].
pub const KEY_SUBJECT: &str = "key";

/// The subject of a switch's default: the one in force has no name.
pub const DEFAULT_SUBJECT: &str = "default";
/// The name, under [`DEFAULT_SUBJECT`], of the default that was last read from the configuration.
pub const DEFAULT_IN_FILE: &str = "file";

/// The change of one thing that is no key. `None` is that it is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectChange {
    /// The kind of thing, such as `default`, `hold`, `server`, `group` or `adopt`. Never [`KEY_SUBJECT`].
    pub subject: String,
    /// Which of them. Empty if there is only one.
    pub name: String,
    /// Its value before.
    pub before: Option<String>,
    /// Its value since.
    pub after: Option<String>,
    /// The revision whose change of it was taken back by this one.
    pub undoes: Option<u64>,
}

impl SubjectChange {
    /// Returns true if it is a change of the default in force.
    pub fn is_of_default(&self) -> bool {
        self.subject == DEFAULT_SUBJECT && self.name.is_empty()
    }

    /// Returns true if it is a change of a server, or of a group that was made at run time.
    pub fn is_of_server(&self) -> bool {
        ["server", "group"].contains(&&*self.subject)
    }

    /// Returns the group and the server that it is about, if it is one of a server.
    pub fn named_server(&self) -> Option<(&str, &str)> {
        if self.subject == "server" { self.name.split_once(' ') } else { None }
    }

    /// Creates a change of the default in force.
    pub(crate) fn of_default(before: &str, after: &str, undoes: Option<u64>) -> SubjectChange {
        SubjectChange {
            subject: DEFAULT_SUBJECT.to_owned(),
            name: String::new(),
            before: Some(before.to_owned()),
            after: Some(after.to_owned()),
            undoes,
        }
    }
}

/// A value and the commit that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectValue {
    /// The value.
    pub value: String,
    /// The commit.
    pub revision: u64,
}

/// All that a switch has beside its keys. The next version of it shares what did not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subjects(SortedMap<At, Arc<SubjectValue>>);

/// A kind of subject and a name.
type At = (Arc<str>, Arc<str>);

/// Compares a place with this one.
fn order(at: &At, subject: &str, name: &str) -> Ordering {
    (&*at.0, &*at.1).cmp(&(subject, name))
}

impl Subjects {
    /// Returns the value of a subject.
    pub fn get(&self, subject: &str, name: &str) -> Option<&SubjectValue> {
        self.0.find(|at| order(at, subject, name)).map(|value| &**value)
    }

    /// Returns all values of a kind of subject, with their names.
    pub fn of<'a>(&'a self, subject: &'a str) -> impl Iterator<Item = (&'a str, &'a SubjectValue)> {
        self.with_prefix(subject, "")
    }

    /// Returns the values of a kind of subject whose names begin so, in the order of their names.
    pub fn with_prefix<'a>(
        &'a self,
        subject: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a SubjectValue)> {
        self.0
            .iter_from(move |at| order(at, subject, prefix).is_lt())
            .take_while(move |((found, name), _)| **found == *subject && name.starts_with(prefix))
            .map(|((_, name), value)| (&**name, &**value))
    }

    /// Returns everything: subject, name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &SubjectValue)> {
        self.0.iter().map(|((subject, name), value)| (&**subject, &**name, &**value))
    }

    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a value, or removes it.
    pub fn put(&mut self, subject: &str, name: &str, value: Option<SubjectValue>) {
        match value {
            Some(value) => self.0.insert((subject.into(), name.into()), Arc::new(value)),
            None => self.0.remove_where(|at| order(at, subject, name)),
        }
    }
}
