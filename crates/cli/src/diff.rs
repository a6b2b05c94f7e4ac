//! `pointsman diff`: what differs between two tables of a switch.
//!
//! Owns the verb's options and its paging. Must never compare anything itself: the server has the history.

use crate::client::{ANSWER, Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::format;
use crate::session::Session;
use clap::Args;
use control::api::types;

/// How many keys a page has.
const PAGE: usize = 10_000;

/// Show what differs between the tables of two revisions: key, from, to
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman diff 12..17    from revision 12 to revision 17
  pointsman diff 12..      from revision 12 to the present
  pointsman diff 17..12    what returning from 17 to 12 would change")]
pub(crate) struct Diff {
    /// Two revisions; 0 is before the first commit; the second is the present one by default
    #[arg(value_name = "REV..REV", value_parser = revisions)]
    revisions: (u64, Option<u64>),
}

impl Diff {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let path = format!("{}/diff?limit={PAGE}&from={}", session.switch_path()?, self.revisions.0);
        let (mut to, mut after, mut listed) = (self.revisions.1, None::<String>, 0);
        loop {
            let mut path = path.clone();
            if let Some(to) = to {
                path.push_str(&format!("&to={to}"));
            }
            if let Some(after) = &after {
                path.push_str(&format!("&after={}", encoded(after)));
            }
            let mut call = Call::get(path);
            // A history may have millions of commits.
            call.limit = ANSWER * 20;
            let (page, body) = session.client.ask::<types::Diff>(&call)?;
            if session.json {
                say_json(&body)?;
            } else {
                say(&text(&page, after.is_none()))?;
            }
            listed += page.keys.len() as u64;
            // The pages are of the same tables, whatever is committed meanwhile.
            (to, after) = (Some(page.to), page.next);
            if after.is_none() {
                break;
            }
        }
        if !session.json {
            let differ = if listed == 1 { "differs" } else { "differ" };
            say(&format!("  {} {differ}\n", format::count(listed, "key")))?;
        }
        Ok(Code::Done)
    }
}

/// Returns the lines of a page, the first one with a head.
fn text(page: &types::Diff, is_first: bool) -> String {
    let mut out = String::new();
    if is_first {
        out.push_str(&format!("{}: revision {} -> {}\n", page.switch, page.from, page.to));
    }
    for line in page.subjects.iter().filter_map(format::subject) {
        out.push_str(&format!("  {line}\n"));
    }
    for key in &page.keys {
        out.push_str(&format!("  {}\n", format::sides(&key.key, &key.from, &key.to, None)));
    }
    out
}

/// Parses `12..17`; `12..` has no second revision.
fn revisions(text: &str) -> Result<(u64, Option<u64>), String> {
    let parse = |text: &str| text.parse::<u64>().ok();
    let pair = text.split_once("..").and_then(|(from, to)| match to {
        "" => Some((parse(from)?, None)),
        to => Some((parse(from)?, Some(parse(to)?))),
    });
    pair.ok_or_else(|| "expected two revisions such as 12..17, or 12.. for 12 and the present one".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_revisions_are_read() {
        assert_eq!(revisions("12..17"), Ok((12, Some(17))));
        assert_eq!(revisions("17..12"), Ok((17, Some(12))));
        assert_eq!(revisions("0.."), Ok((0, None)));
        for wrong in ["12", "..", "..5", "a..b", "1...2", "-1..2", "1..2..3"] {
            assert!(revisions(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_page_shows_both_sides_of_each_key() {
        let page = serde_json::json!({
            "switch": "live", "from": 2, "to": 5,
            "keys": [{"key": "", "from": null, "to": "green"}, {"key": "a", "from": "blue", "to": null}],
            "subjects": [
                {"subject": "default", "name": "", "from": "blue", "to": "green"},
                {"subject": "default", "name": "file", "from": null, "to": "green"}
            ]
        });
        let page: types::Diff = serde_json::from_value(page).unwrap();
        assert_eq!(
            text(&page, true),
            "live: revision 2 -> 5\n  default blue -> green\n  \"\": default -> green\n  a: blue -> default\n"
        );
        assert!(text(&page, false).starts_with("  default"));
    }

    #[test]
    fn default_that_a_table_takes_down_at_first_is_no_difference() {
        let page = serde_json::json!({
            "switch": "live", "from": 0, "to": 1, "keys": [],
            "subjects": [
                {"subject": "default", "name": "", "from": null, "to": "blue"},
                {"subject": "default", "name": "file", "from": null, "to": "blue"}
            ]
        });
        let page: types::Diff = serde_json::from_value(page).unwrap();
        assert_eq!(text(&page, true), "live: revision 0 -> 1\n");
    }
}
