//! `pointsman switch`: routes keys to a target.
//!
//! Owns the verb's options and the parsing of a list of changes. Must never judge a target: the server knows them.

use crate::client::encoded;
use crate::error::{Code, Error};
use crate::order_options::{self, OrderOptions};
use crate::session::{GlobalOptions, Session};
use clap::Args;
use control::api::types::{KeyOrder, ManyOrder, OneChange, ResetOrder};
use hyper::Method;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Route keys to a target
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
    /// Keys, then their target; several keys are switched in one commit, all or none
    #[arg(value_name = "KEY... TARGET", required_unless_present = "from", conflicts_with = "from")]
    words: Vec<String>,
    /// Remove the keys' entries, so that the switch's default applies; without TARGET
    #[arg(long, conflicts_with = "from")]
    default: bool,
    /// Read changes for one commit from a file ("-" for standard input): on each line a key and its target, its
    /// weights, or the word "default"
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    options: OrderOptions,
}

impl Switch {
    pub(crate) fn run(&self, global: &GlobalOptions) -> Result<Code, Error> {
        if let Some(file) = &self.from {
            return self.many(&global.session()?, read(file)?);
        }
        let (keys, target) = match (&self.words[..], self.default) {
            (keys, true) => (keys, None),
            ([keys @ .., target], false) if !keys.is_empty() => (keys, Some(target.clone())),
            _ => {
                return Err(Error::usage(
                    "the target is missing",
                    "pointsman switch KEY TARGET, or pointsman switch KEY --default",
                ));
            }
        };
        if let Some(error) = weights_meant(&self.words) {
            return Err(error);
        }
        let session = &global.session()?;
        // A path cannot end with the empty key.
        let Some(key) = keys.first().filter(|key| keys.len() == 1 && !key.is_empty()) else {
            let change = |key: &String| OneChange {
                key: key.clone(),
                target: target.clone(),
                default: self.default,
                ..OneChange::default()
            };
            return self.many(session, keys.iter().map(change).collect());
        };
        let path = format!("{}/keys/{}", session.switch_path()?, encoded(key));
        let terms = self.options.terms();
        match target {
            Some(_) => {
                let order = KeyOrder { target, ..KeyOrder::default() }.on(terms);
                self.options.send(session, Method::PUT, path, &order)
            }
            None => self.options.send(session, Method::DELETE, path, &ResetOrder::default().on(terms)),
        }
    }

    fn many(&self, session: &Session, changes: Vec<OneChange>) -> Result<Code, Error> {
        let order = ManyOrder { changes, ..ManyOrder::default() }.on(self.options.terms());
        let path = format!("{}/commits", session.switch_path()?);
        self.options.send(session, Method::POST, path, &order)
    }
}

/// Returns the error of words that end with weights: no target has an equals sign in its name.
fn weights_meant(words: &[String]) -> Option<Error> {
    let is_weight = |word: &&String| weights_of(std::iter::once(word.as_str())).is_ok();
    let count = words.iter().rev().take_while(is_weight).count();
    let (keys, weights) = words.split_at(words.len() - count);
    let first = weights.first().filter(|_| !keys.is_empty())?;
    let remedy = match keys {
        [key] => format!("to split a key by weights: pointsman split {key} {}", weights.join(" ")),
        _ => format!(
            "to split several keys by weights, write lines of KEY {} and use --from",
            weights.join(" ")
        ),
    };
    Some(Error::usage(format!("\"{first}\" is a weight, not a target"), remedy))
}

fn read(file: &Path) -> Result<Vec<OneChange>, Error> {
    let text = order_options::text_of(file)?;
    changes(&text).map_err(|(line, fault)| {
        let form = "write KEY TARGET, or KEY green=10 blue=90, or KEY default";
        Error::usage(format!("{}:{line}: {fault}", file.display()), form)
    })
}

/// Parses a list of changes; an error comes with its line.
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
            [] => return Err((index + 1, "the target is missing".into())),
            words => {
                let split = weights_of(words.iter().copied()).map_err(|fault| (index + 1, fault))?;
                OneChange { split: Some(split), ..change }
            }
        });
    }
    if changes.is_empty() { Err((1, "the list is empty".into())) } else { Ok(changes) }
}

/// Parses weights: `green=10 blue=90`.
pub(crate) fn weights_of<'a>(words: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, u32>, String> {
    let mut weights = BTreeMap::new();
    for word in words {
        let (target, weight) = word
            .rsplit_once('=')
            .and_then(|(target, weight)| Some((target, weight.parse().ok()?)))
            .filter(|(target, _)| !target.is_empty())
            .ok_or_else(|| format!("invalid weight in \"{word}\": expected TARGET=WEIGHT with a whole number, such as green=10"))?;
        if weights.insert(target.to_owned(), weight).is_some() {
            return Err(format!("\"{target}\" is given twice"));
        }
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_pointed_to_split() {
        let meant = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            weights_meant(&words).map(|error| error.problem.remedy)
        };
        let split = |rest: &str| Some(format!("to split a key by weights: pointsman split {rest}"));
        assert_eq!(meant("a green=10"), split("a green=10"));
        assert_eq!(meant("a green=10 blue=90"), split("a green=10 blue=90"));
        assert!(meant("a b green=10 blue=90").is_some_and(|remedy| remedy.contains("--from")));
        assert_eq!((meant("a green"), meant("a=1 green"), meant("green=1")), (None, None, None));
    }

    #[test]
    fn lists_of_changes_are_parsed() {
        let read =
            changes("# why\n\na.example green\n b.example  green=10 blue=90 \nc.example default\n").unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].target.as_deref(), Some("green"));
        assert_eq!(read[1].split.as_ref().unwrap()["blue"], 90);
        assert!(read[2].default);
        for (text, line, fault) in [
            ("a green\nb", 2, "the target is missing"),
            ("", 1, "the list is empty"),
            (
                "a green blue",
                1,
                "invalid weight in \"green\": expected TARGET=WEIGHT with a whole number, such as green=10",
            ),
            ("a g=1 g=2", 1, "\"g\" is given twice"),
            (
                "a g=-1",
                1,
                "invalid weight in \"g=-1\": expected TARGET=WEIGHT with a whole number, such as green=10",
            ),
        ] {
            assert_eq!(changes(text).unwrap_err(), (line, fault.to_owned()), "{text}");
        }
    }
}
