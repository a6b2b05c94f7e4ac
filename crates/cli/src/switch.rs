//! `pointsman switch`: routes keys to a target.
//!
//! Owns the verb's options and the parsing of a list of changes. Must never judge a target: the server knows them.

use crate::client::encoded;
use crate::error::{Code, Error};
use crate::format;
use crate::order_options::{self, KeyOptions, OrderOptions};
use crate::session::{GlobalOptions, Session};
use clap::Args;
use control::api::types::{KeyOrder, ManyOrder, OneChange, Problem, ResetOrder};
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
    keyed: KeyOptions,
    #[command(flatten)]
    options: OrderOptions,
}

impl Switch {
    pub(crate) fn run(&self, global: &GlobalOptions) -> Result<Code, Error> {
        if let Some(file) = &self.from {
            let session = &global.session()?;
            session.refuse_groups()?;
            return self.send_file(session, file);
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
        session.refuse_groups()?;
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
        let terms = self.keyed.terms(&self.options);
        match target {
            Some(_) => {
                let order = KeyOrder { target, ..KeyOrder::default() }.on(terms);
                self.options.send(session, Method::PUT, path, &order)
            }
            None => self.options.send(session, Method::DELETE, path, &ResetOrder::default().on(terms)),
        }
    }

    /// Sends the changes of a file. A refusal that names one of them is of its line.
    fn send_file(&self, session: &Session, file: &Path) -> Result<Code, Error> {
        let read = read(file)?;
        let changes = read.iter().map(|(_, change)| change.clone()).collect();
        self.many(session, changes).map_err(|mut error| {
            if let Some((line, change)) = refused_change(&error.problem, &read) {
                let key = format::key_text(&change.key);
                error.problem.text = format!("{}:{line}: {key}: {}", file.display(), error.problem.text);
            }
            error
        })
    }

    fn many(&self, session: &Session, changes: Vec<OneChange>) -> Result<Code, Error> {
        let order = ManyOrder { changes, ..ManyOrder::default() }.on(self.keyed.terms(&self.options));
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

/// Returns the change that a refusal is about, with its line.
fn refused_change<'a>(
    problem: &Problem,
    changes: &'a [(usize, OneChange)],
) -> Option<(usize, &'a OneChange)> {
    let of_one = ["unknown_target", "bad_key", "bad_route", "bad_order", "entry_conflict"];
    if !of_one.contains(&&*problem.code) {
        return None;
    }
    let is_named = |text: &str| problem.text.contains(&format!("\"{text}\""));
    let routes = |change: &OneChange| {
        let shares = change.split.iter().flat_map(BTreeMap::keys).cloned();
        change.target.iter().cloned().chain(shares).collect::<Vec<_>>()
    };
    let is_meant = |change: &OneChange| match &*problem.code {
        "unknown_target" | "bad_route" => routes(change).iter().any(|target| is_named(target)),
        _ => is_named(&change.key),
    };
    changes.iter().find(|(_, change)| is_meant(change)).map(|(line, change)| (*line, change))
}

fn read(file: &Path) -> Result<Vec<(usize, OneChange)>, Error> {
    let text = order_options::text_of(file)?;
    changes(&text).map_err(|(line, fault)| {
        let form = "write KEY TARGET, or KEY green=10 blue=90, or KEY default";
        Error::usage(format!("{}:{line}: {fault}", file.display()), form)
    })
}

/// Parses a list of changes, each with its line; so does an error.
fn changes(text: &str) -> Result<Vec<(usize, OneChange)>, (usize, String)> {
    let mut changes = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, route) = key_of(line).map_err(|fault| (index + 1, fault.to_owned()))?;
        let route: Vec<&str> = route.split_whitespace().collect();
        let change = OneChange { key, ..OneChange::default() };
        let change = match &route[..] {
            ["default"] => OneChange { default: true, ..change },
            [target] if !target.contains('=') => OneChange { target: Some((*target).to_owned()), ..change },
            [] => return Err((index + 1, "the target is missing".into())),
            words => {
                let split = weights_of(words.iter().copied()).map_err(|fault| (index + 1, fault))?;
                OneChange { split: Some(split), ..change }
            }
        };
        changes.push((index + 1, change));
    }
    if changes.is_empty() { Err((1, "the list is empty".into())) } else { Ok(changes) }
}

/// Takes the key from a line; between quotation marks it is as [`format::key_text`] writes it.
fn key_of(line: &str) -> Result<(String, &str), &'static str> {
    let Some(quoted) = line.strip_prefix('"') else {
        let (key, route) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        return Ok((key.to_owned(), route));
    };
    let (mut key, mut chars) = (String::new(), quoted.chars());
    loop {
        match chars.next() {
            Some('"') => break,
            Some('\\') => match chars.next() {
                Some(c @ ('"' | '\\')) => key.push(c),
                _ => {
                    return Err(
                        "within quotation marks a backslash stands before one of them, or before another backslash",
                    );
                }
            },
            Some(c) => key.push(c),
            None => return Err("the key's closing quotation mark is missing"),
        }
    }
    match chars.as_str() {
        route if route.is_empty() || route.starts_with(char::is_whitespace) => Ok((key, route)),
        _ => Err("the key's closing quotation mark is followed by text"),
    }
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
        assert_eq!((read[0].0, read[0].1.target.as_deref()), (3, Some("green")));
        assert_eq!(read[1].1.split.as_ref().unwrap()["blue"], 90);
        assert!(read[2].1.default);
        // What is shown as a key is read as that key.
        for key in ["", "\"\"", "\"", "a b", "#x", "\\", "\"\\", "a\"b"] {
            let shown = match key {
                "a b" | "#x" => format!("\"{key}\""),
                key => format::key_text(key).into_owned(),
            };
            let read = changes(&format!("{shown} blue")).unwrap();
            assert_eq!((read[0].1.key.as_str(), read[0].1.target.as_deref()), (key, Some("blue")), "{shown}");
        }
        for odd in ["\"a blue", "\"a\"b blue", "\"a\\n\" blue", "\"a\\"] {
            assert!(changes(odd).unwrap_err().1.contains("quotation mark"), "{odd}");
        }
        assert_eq!(changes("\"\"").unwrap_err(), (1, "the target is missing".to_owned()));
        let refused = |code: &str, text: &str| {
            let json = format!(r#"{{"code":"{code}","text":{text:?},"remedy":"","details":{{}}}}"#);
            let problem: Problem = serde_json::from_str(&json).unwrap();
            refused_change(&problem, &read).map(|(line, change)| (line, change.key.clone()))
        };
        let of = |line: usize, key: &str| Some((line, key.to_owned()));
        assert_eq!(refused("unknown_target", "switch \"live\" has no target \"blue\""), of(4, "b.example"));
        assert_eq!(refused("bad_key", "invalid key \"c.example\": why"), of(5, "c.example"));
        assert_eq!(refused("store_full", "no space for \"green\""), None);
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
