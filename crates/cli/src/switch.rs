//! `pointsman switch`: keys lead to a target from now on.
//!
//! Owns the verb's words, and the reading of a list of changes. Must never read a target: the server knows them.

use crate::client::encoded;
use crate::fault::{Code, Fault};
use crate::terms::Change;
use crate::verbs::{Reach, Session};
use clap::Args;
use control::api::types::{KeyOrder, ManyOrder, OneChange, ResetOrder};
use hyper::Method;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Lead keys to a target
#[derive(Debug, Args)]
#[command(
    override_usage = "\
pointsman switch [OPTIONS] KEY... TARGET
       pointsman switch [OPTIONS] --default KEY...
       pointsman switch [OPTIONS] --from FILE",
    after_help = "\
Examples:
  pointsman switch shop.example.com green
  pointsman switch '*.example.com' green --confirm-within 10m -m 'release 42'
  pointsman switch a.example.com b.example.com green --wait drained
  pointsman switch shop.example.com --default
  pointsman switch --from list.txt --dry-run"
)]
pub(crate) struct Switch {
    /// The keys, then the target. Several keys are one commit: all or none
    #[arg(value_name = "KEY... TARGET", required_unless_present = "from", conflicts_with = "from")]
    words: Vec<String>,
    /// Take the keys' entries away, so that the switch's default applies; there is no TARGET then
    #[arg(long, conflicts_with = "from")]
    default: bool,
    /// A file with a key and its target, its shares or the word "default" on each line, for one commit; - is standard
    /// input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    change: Change,
}

impl Switch {
    pub(crate) fn run(&self, reach: &Reach) -> Result<Code, Fault> {
        if let Some(file) = &self.from {
            return self.many(&reach.session()?, read(file)?);
        }
        let (keys, target) = match (&self.words[..], self.default) {
            (keys, true) => (keys, None),
            ([keys @ .., target], false) if !keys.is_empty() => (keys, Some(target.clone())),
            _ => {
                return Err(Fault::usage(
                    "there is no target",
                    "pointsman switch KEY TARGET, or pointsman switch KEY --default",
                ));
            }
        };
        let session = &reach.session()?;
        let [key] = keys else {
            let change = |key: &String| OneChange {
                key: key.clone(),
                target: target.clone(),
                default: self.default,
                ..OneChange::default()
            };
            return self.many(session, keys.iter().map(change).collect());
        };
        let path = format!("{}/keys/{}", session.switch_path()?, encoded(key));
        let terms = self.change.terms();
        match target {
            Some(_) => {
                let order = KeyOrder { target, ..KeyOrder::default() }.on(terms);
                self.change.send(session, Method::PUT, path, &order)
            }
            None => self.change.send(session, Method::DELETE, path, &ResetOrder::default().on(terms)),
        }
    }

    fn many(&self, session: &Session, changes: Vec<OneChange>) -> Result<Code, Fault> {
        let order = ManyOrder { changes, ..ManyOrder::default() }.on(self.change.terms());
        let path = format!("{}/commits", session.switch_path()?);
        self.change.send(session, Method::POST, path, &order)
    }
}

fn read(file: &Path) -> Result<Vec<OneChange>, Fault> {
    let mut text = String::new();
    let outcome = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    outcome.map_err(|error| Fault::usage(format!("{}: {error}", file.display()), ""))?;
    changes(&text).map_err(|(line, fault)| {
        let form = "a line is: KEY TARGET, or KEY green=10 blue=90, or KEY default";
        Fault::usage(format!("{}:{line}: {fault}", file.display()), form)
    })
}

/// Reads a list of changes; an error comes with its line.
fn changes(text: &str) -> Result<Vec<OneChange>, (usize, String)> {
    let mut changes = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [key, route @ ..] = &words[..] else { continue };
        if key.starts_with('#') {
            continue;
        }
        let change = OneChange { key: (*key).to_owned(), ..OneChange::default() };
        changes.push(match route {
            ["default"] => OneChange { default: true, ..change },
            [target] if !target.contains('=') => OneChange { target: Some((*target).to_owned()), ..change },
            [] => return Err((index + 1, "there is no target".into())),
            words => {
                let split = shares(words.iter().copied()).map_err(|fault| (index + 1, fault))?;
                OneChange { split: Some(split), ..change }
            }
        });
    }
    if changes.is_empty() { Err((1, "there is no change".into())) } else { Ok(changes) }
}

/// Reads shares: `green=10 blue=90`.
pub(crate) fn shares<'a>(words: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, u32>, String> {
    let mut shares = BTreeMap::new();
    for word in words {
        let (target, weight) = word
            .rsplit_once('=')
            .and_then(|(target, weight)| Some((target, weight.parse().ok()?)))
            .filter(|(target, _)| !target.is_empty())
            .ok_or_else(|| format!("\"{word}\" is no share: write target=weight, such as green=10"))?;
        if shares.insert(target.to_owned(), weight).is_some() {
            return Err(format!("\"{target}\" stands twice"));
        }
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_changes_are_read() {
        let read =
            changes("# why\n\na.example green\n b.example  green=10 blue=90 \nc.example default\n").unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].target.as_deref(), Some("green"));
        assert_eq!(read[1].split.as_ref().unwrap()["blue"], 90);
        assert!(read[2].default);
        for (text, line, fault) in [
            ("a green\nb", 2, "there is no target"),
            ("", 1, "there is no change"),
            ("a green blue", 1, "\"green\" is no share: write target=weight, such as green=10"),
            ("a g=1 g=2", 1, "\"g\" stands twice"),
            ("a g=-1", 1, "\"g=-1\" is no share: write target=weight, such as green=10"),
        ] {
            assert_eq!(changes(text).unwrap_err(), (line, fault.to_owned()), "{text}");
        }
    }
}
