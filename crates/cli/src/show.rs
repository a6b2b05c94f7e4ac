//! `pointsman show`: the route of a key, and why; and the table as it was.
//!
//! Owns the verb's options. Must never work out a route itself: the server does.

use crate::client::{Call, encoded};
use crate::commits;
use crate::error::{Code, Error, say, say_json};
use crate::format;
use crate::list;
use crate::session::Session;
use crate::time_option;
use clap::Args;
use control::api::types::{History, Key, KeyPage};

/// How many of the key's last changes are shown.
const CHANGES: usize = 5;

/// Show a key's route and its last changes; with --at, a past route or the whole past table
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman show shop.example.com
  pointsman show shop.example.com --at 2h
  pointsman show --at 17")]
pub(crate) struct Show {
    /// The key
    key: Option<String>,
    /// Show the table as it was 30m, 2h or 7d ago, at 15:20 or "2026-11-30 15:29:04", or right after this commit
    #[arg(long, value_name = "TIME|REVISION", value_parser = at)]
    at: Option<At>,
}

/// A moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Revision(u64),
    /// In milliseconds since 1970.
    Time(u64),
}

/// Parses a revision, or a moment.
fn at(text: &str) -> Result<At, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(At::Revision).map_err(|_| "expected a revision that history shows".into());
    }
    time_option::past(text).map(At::Time).map_err(|fault| format!("{fault}; or a revision"))
}

impl At {
    /// Returns it as the API's parameter.
    fn query(self) -> (&'static str, String) {
        match self {
            At::Revision(revision) => ("at", revision.to_string()),
            At::Time(ms) => ("at_ms", ms.to_string()),
        }
    }
}

impl Show {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        session.refuse_groups()?;
        if self.key.is_none() && self.at.is_none() {
            return Err(Error::usage(
                "the key is missing",
                "pointsman show KEY, or pointsman show --at TIME for the whole table",
            ));
        }
        let switch = session.switch_path()?;
        let at = self.at.map(At::query);
        let Some(key) = self.key.as_deref().map(encoded) else {
            let at = at.into_iter().collect::<Vec<_>>();
            let head =
                |page: &KeyPage| format!("{}: {}\n", page.switch, past(page.revision, page.committed_ms));
            let (listed, _) = list::pages(session, &switch, &at, usize::MAX, head)?;
            if !session.json {
                say(&format!("  {}; all others have the switch's default\n", format::count(listed, "key")))?;
            }
            return Ok(Code::Done);
        };
        let mut path = format!("{switch}/keys/{key}");
        if let Some((name, value)) = &at {
            path.push_str(&format!("?{name}={value}"));
        }
        let mut call = Call::get(path);
        // A history may have millions of commits.
        call.limit *= if at.is_some() { 20 } else { 1 };
        let (shown, body) = session.client.ask::<Key>(&call)?;
        if session.json {
            say_json(&body)?;
            return Ok(Code::Done);
        }
        let because = match &shown.entry {
            Some(entry) if *entry == shown.key => format!("since revision {}", shown.entry_revision),
            Some(entry) => format!("by {entry}, since revision {}", shown.entry_revision),
            None => "by default".to_owned(),
        };
        let mut text = format!("{}: {} ({because})\n", format::key_text(&shown.key), shown.route);
        if let Some(hold) = &shown.hold {
            text.push_str(&format!("  {}\n", format::hold(hold)));
        }
        let mut path = format!("{switch}/history?limit={}&key={key}", CHANGES + 1);
        if at.is_some() {
            text.push_str(&format!("  {}\n", past(shown.revision, shown.committed_ms)));
            path.push_str(&format!("&before={}", shown.revision + 1));
        }
        let (past, _) = session.client.ask::<History>(&Call::get(path))?;
        text.push_str(&commits::text(&past.commits[..past.commits.len().min(CHANGES)], ""));
        if past.commits.len() > CHANGES {
            let option = session.switch_option(&past.switch);
            text.push_str(&format!(
                "        older changes: pointsman history {option}{}\n",
                quoted(&shown.key)
            ));
        }
        say(&text)?;
        Ok(Code::Done)
    }
}

/// Returns a key as a shell takes it.
fn quoted(key: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if !key.is_empty() && key.bytes().all(is_plain) {
        return key.to_owned();
    }
    format!("'{}'", key.replace('\'', "'\\''"))
}

/// Returns which table it is.
fn past(revision: u64, committed_ms: Option<u64>) -> String {
    match committed_ms {
        Some(ms) => format!("the table of revision {revision}, committed {}", format::moment(ms)),
        None => "the table before the first commit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_a_command_is_one_word_to_a_shell() {
        for (key, text) in
            [("a.example", "a.example"), ("*.example", "'*.example'"), ("", "''"), ("a'b", "'a'\\''b'")]
        {
            assert_eq!(quoted(key), text);
        }
    }

    #[test]
    fn a_moment_is_a_revision_or_a_time_with_its_unit() {
        assert_eq!((at("17"), at("0")), (Ok(At::Revision(17)), Ok(At::Revision(0))));
        assert_eq!(at("2026-01-05 15:29:04+00:00"), Ok(At::Time(1_767_626_944_000)));
        assert!(
            matches!((at("30m"), at("15:20")), (Ok(At::Time(early)), Ok(At::Time(_))) if early > 1_700_000_000_000)
        );
        for wrong in ["", "x", "-1", "yesterday", "99999999999999999999"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
        assert_eq!(At::Revision(17).query(), ("at", "17".to_owned()));
        assert_eq!(At::Time(7).query(), ("at_ms", "7".to_owned()));
    }
}
