//! The journal as `history` shows it.
//!
//! Owns the search for entries and their form. Must never keep the commits from being shown: a journal that cannot be read
//! is a fault to report beside them.

use crate::client::{Call, encoded};
use crate::format;
use crate::session::Session;
use control::api::types::{Journal, JournalItem, VerifiedJournal};

/// How many entries a page has at most.
const PAGE: usize = 1_000;
/// How many pages are searched: more than a journal keeps.
const PAGES: usize = 100;
/// The kinds of entries that are known; no commit has them.
pub(crate) const KINDS: [&str; 12] = [
    "hold",
    "release",
    "expire",
    "overdue",
    "reload",
    "start",
    "upgrade",
    "purge",
    "revoke",
    "discovered",
    "refused",
    "lost",
];

/// Returns true if entries of the journal are of this kind, and commits are not.
pub(crate) fn is_kind(kind: &str) -> bool {
    KINDS.contains(&kind)
}

/// The conditions for an entry to be shown.
#[derive(Debug)]
pub(crate) struct JournalSearch<'a> {
    /// Entries of this switch, and those of none.
    pub(crate) switch: Option<&'a str>,
    pub(crate) sought: &'a Sought,
    pub(crate) kind: Option<&'a str>,
    /// A part of the actor's name.
    pub(crate) actor: Option<&'a str>,
    pub(crate) since_ms: u64,
    pub(crate) until_ms: u64,
    pub(crate) limit: usize,
}

/// The subject that commits and entries are to have.
#[derive(Debug, Default)]
pub(crate) enum Sought {
    /// Anything.
    #[default]
    All,
    /// This key: of the journal, what became of its holds.
    Key(String),
    /// This group, or this server of it: of the journal, what was looked up for the group.
    Group(String, Option<String>),
}

impl Sought {
    pub(crate) fn new(name: Option<&str>, server: Option<&str>, is_of_groups: bool) -> Sought {
        match name.map(str::to_owned) {
            None => Sought::All,
            Some(group) if is_of_groups => Sought::Group(group, server.map(str::to_owned)),
            Some(key) => Sought::Key(key),
        }
    }

    /// Returns what a query for commits says of it.
    pub(crate) fn query(&self) -> String {
        match self {
            Sought::All => String::new(),
            Sought::Key(key) => format!("&key={}", encoded(key)),
            Sought::Group(group, None) => format!("&group={}", encoded(group)),
            Sought::Group(group, Some(server)) => {
                format!("&group={}&server={}", encoded(group), encoded(server))
            }
        }
    }

    fn includes(&self, entry: &JournalItem) -> bool {
        let is_of = |name: &str| entry.subject.as_deref().is_some_and(|one| one.eq_ignore_ascii_case(name));
        match self {
            Sought::All => true,
            Sought::Key(key) => matches!(&*entry.kind, "hold" | "release" | "expire") && is_of(key),
            Sought::Group(group, None) => entry.kind == "discovered" && is_of(group),
            Sought::Group(_, Some(_)) => false,
        }
    }
}

/// The result of a search.
#[derive(Debug, Default)]
pub(crate) struct JournalFindings {
    /// The entries, newest first.
    pub(crate) entries: Vec<JournalItem>,
    /// How many were lost since the server began.
    pub(crate) lost: u64,
    pub(crate) verified: Option<VerifiedJournal>,
    /// Why the journal cannot be read.
    pub(crate) fault: Option<String>,
}

impl JournalSearch<'_> {
    fn fits(&self, entry: &JournalItem) -> bool {
        entry.time_ms <= self.until_ms
            && self.sought.includes(entry)
            && self.actor.is_none_or(|actor| entry.actor.contains(actor))
    }

    /// Searches the journal, and has its whole chain verified if requested.
    pub(crate) fn run(&self, session: &Session, verify: bool) -> JournalFindings {
        let mut found = JournalFindings::default();
        let mut before = None;
        for page in 0..PAGES {
            let verify = verify && page == 0;
            let mut call = Call::get(self.path(before, verify));
            if verify {
                call.limit *= 20;
            }
            let journal = match session.client.ask::<Journal>(&call) {
                Ok((journal, _)) => journal,
                // A server of an older version has no journal.
                Err(error) if error.problem.code == "not_found" => break,
                Err(error) => {
                    found.fault = Some(error.problem.text);
                    break;
                }
            };
            found.lost = journal.lost;
            found.verified = found.verified.or(journal.verified);
            found.entries.extend(journal.entries.into_iter().filter(|entry| self.fits(entry)));
            before = journal.next;
            if before.is_none() || found.entries.len() >= self.limit {
                break;
            }
        }
        found.entries.truncate(self.limit);
        found
    }

    fn path(&self, before: Option<u64>, verify: bool) -> String {
        let is_sifted =
            !matches!(self.sought, Sought::All) || self.actor.is_some() || self.until_ms < u64::MAX;
        let size = if is_sifted { PAGE } else { self.limit.clamp(1, PAGE) };
        let mut path = format!("/v1/journal?limit={size}&since_ms={}", self.since_ms);
        for (name, text) in [("switch", self.switch), ("kind", self.kind)] {
            if let Some(text) = text {
                path.push_str(&format!("&{name}={}", encoded(text)));
            }
        }
        if let Some(before) = before {
            path.push_str(&format!("&before={before}"));
        }
        if verify {
            path.push_str("&verify=true");
        }
        path
    }
}

impl JournalFindings {
    /// Returns what is wrong with the journal, a line each.
    pub(crate) fn faults(&self) -> String {
        let mut out = String::new();
        if let Some(fault) = &self.fault {
            out.push_str(&format!("journal: cannot be read: {fault}\n"));
        }
        if self.lost > 0 {
            let were = if self.lost == 1 { "was" } else { "were" };
            out.push_str(&format!(
                "journal: {} {were} lost since the server began; see its error log\n",
                entries(self.lost)
            ));
        }
        out
    }
}

/// Formats a number of entries.
pub(crate) fn entries(number: u64) -> String {
    if number == 1 { "1 entry".into() } else { format!("{number} entries") }
}

/// Returns the line of an entry.
pub(crate) fn text(entry: &JournalItem) -> String {
    let subject = format::key_text(entry.subject.as_deref().unwrap_or_default());
    let switch = entry.switch.as_ref().map(|switch| format!(" of {switch}")).unwrap_or_default();
    let what = match &*entry.kind {
        "hold" => format!("holds {subject}{switch}"),
        "release" => format!("releases {subject}{switch}, {} waiting", entry.count),
        "overdue" => format!("not confirmed in time, and stays: {subject}{switch}"),
        "expire" => format!("hold of {subject}{switch} expires, {} waiting", entry.count),
        "reload" => format!("reload {subject}"),
        "refused" if entry.count > 1 => format!("refused: {subject}, {} times in that minute", entry.count),
        "refused" => format!("refused: {subject}"),
        "lost" => format!("{} lost", entries(entry.count)),
        kind => {
            let subject = entry.subject.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
            format!("{kind}{subject}{switch}")
        }
    };
    let reason = match &entry.reason {
        None => String::new(),
        // Texts of pointsman's own quote names.
        Some(reason) if reason.contains('"') => format!("  {reason}"),
        Some(reason) => format!("  \"{reason}\""),
    };
    let number = format!("j{}", entry.sequence);
    format!("{number:>6}  {}  {}  {what}{reason}\n", format::moment(entry.time_ms), entry.actor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, subject: &str) -> JournalItem {
        let json = format!(
            r#"{{"sequence":7,"time_ms":1000,"kind":"{kind}","switch":"live","subject":"{subject}",
            "actor":"unix:0(root) for anna","count":3,"previous":"","hash":""}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_search_takes_what_fits_all_of_it() {
        let key = |key: &str| Sought::Key(key.to_owned());
        let (any, upper, lower, other, busy) =
            (Sought::All, key("A.example"), key("a.example"), key("b.example"), key("busy"));
        let all = || JournalSearch {
            switch: None,
            sought: &any,
            kind: None,
            actor: None,
            since_ms: 0,
            until_ms: u64::MAX,
            limit: 1,
        };
        let hold = entry("hold", "a.example");
        for (search, fits) in [
            (all(), true),
            (JournalSearch { actor: Some("anna"), ..all() }, true),
            (JournalSearch { actor: Some("ben"), ..all() }, false),
            (JournalSearch { sought: &upper, ..all() }, true),
            (JournalSearch { sought: &other, ..all() }, false),
            (JournalSearch { sought: &lower, actor: Some("ben"), ..all() }, false),
            (JournalSearch { until_ms: 1000, ..all() }, true),
            (JournalSearch { until_ms: 999, ..all() }, false),
        ] {
            assert_eq!(search.fits(&hold), fits, "{search:?}");
        }
        // The subject of a refusal is its code, which may be spelt like a key.
        assert!(!JournalSearch { sought: &busy, ..all() }.fits(&entry("refused", "busy")));
        // What was looked up is of a group.
        let (group, server) =
            (Sought::new(Some("App"), None, true), Sought::new(Some("app"), Some("x"), true));
        for (sought, kind, subject, fits) in [
            (&group, "discovered", "app", true),
            (&group, "discovered", "other", false),
            (&group, "hold", "app", false),
            (&server, "discovered", "app", false),
        ] {
            assert_eq!(
                JournalSearch { sought, ..all() }.fits(&entry(kind, subject)),
                fits,
                "{sought:?} {kind}"
            );
        }
    }

    #[test]
    fn each_kind_has_its_words() {
        for (kind, subject, words) in [
            ("hold", "a.example", "  holds a.example of live\n"),
            ("release", "", "  releases \"\" of live, 3 waiting\n"),
            ("refused", "gate_failed", "  refused: gate_failed, 3 times in that minute\n"),
            ("lost", "", "  3 entries lost\n"),
            ("of_tomorrow", "x", "  of_tomorrow x of live\n"),
        ] {
            let text = text(&entry(kind, subject));
            assert!(text.starts_with("    j7  ") && text.ends_with(words), "{text}");
        }
    }

    #[test]
    fn a_reason_with_quotation_marks_gets_no_others() {
        let with = |reason: &str| text(&JournalItem { reason: Some(reason.into()), ..entry("lost", "") });
        assert!(with("a full disk").ends_with("  3 entries lost  \"a full disk\"\n"));
        assert!(with("key \"a\" is not held").ends_with("  3 entries lost  key \"a\" is not held\n"));
    }
}
