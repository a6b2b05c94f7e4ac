//! Comparing log files with the lines a case expects.
//!
//! Owns what an entry is: an error-log entry goes on over the lines of a traceback until the next dated line.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use regex::Regex;

use crate::case::{LogScope, Text};
use crate::case_state::{CaseState, Edit};
use crate::connection::PATIENCE;
use crate::failure::{Fault, difference};
use crate::pattern::{Pattern, lines_match};
use crate::process::until;

const BELOW_WARNING: [&str; 3] = ["debug", "info", "notice"];

static ENTRY: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(\w+)\] \d+#\d+: (\*\d+ )?").ok());

fn level_of(line: &str) -> Option<&str> {
    Some(ENTRY.as_ref()?.captures(line)?.get(1)?.as_str())
}

/// Returns the lines of a log that a section of this scope compares.
fn relevant(content: &str, scope: LogScope) -> Vec<&str> {
    let mut out = Vec::new();
    let mut counts = true;
    for line in content.lines() {
        if let Some(level) = level_of(line) {
            counts = scope != LogScope::Warnings || !BELOW_WARNING.contains(&level);
        }
        if counts {
            out.push(line);
        }
    }
    out
}

fn read(state: &CaseState, path: &str) -> Result<String, String> {
    let full = state.dir.path(path)?;
    let bytes = std::fs::read(&full).map_err(|e| format!("{path}: {e}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn patterns(state: &CaseState, lines: &[String]) -> Result<Vec<Pattern>, String> {
    lines.iter().map(|l| Pattern::verbatim(&state.dir.fill_in(l))).collect()
}

/// Returns true if `seen` has the expected lines in this order, among others.
pub(crate) fn has_in_order(expected: &[Pattern], seen: &[&str]) -> bool {
    let mut seen = seen.iter();
    expected.iter().all(|pattern| seen.any(|line| pattern.matches(line.as_bytes())))
}

/// Compares a log with a section's lines.
pub(crate) fn check(
    state: &CaseState,
    line: usize,
    path: &str,
    text: &Text,
    scope: LogScope,
) -> Result<(), Fault> {
    let fault = |e: String| Fault::new(line, e);
    let content = read(state, path).map_err(fault)?;
    let seen = relevant(&content, scope);
    let expected = patterns(state, &text.lines).map_err(fault)?;
    let good = match scope {
        LogScope::Has => has_in_order(&expected, &seen),
        _ => lines_match(&expected, &seen.iter().map(|l| l.as_bytes()).collect::<Vec<_>>()),
    };
    if good {
        return Ok(());
    }
    let shown: Vec<String> = seen.iter().map(|l| shown(state, l)).collect();
    let agrees = |i: usize, j: usize| expected[i].matches(seen[j].as_bytes());
    let fault =
        Fault::new(line, format!("{path} is not as expected")).with(difference(&text.lines, &shown, agrees));
    state.settle(|| bless(text, &shown, agrees), fault)
}

/// Returns the replacement of a section's lines by what was seen; lines that already match keep their matchers.
pub(crate) fn bless(text: &Text, shown: &[String], agrees: impl Fn(usize, usize) -> bool) -> Edit {
    let with = shown.iter().enumerate().map(|(j, line)| {
        let kept = (0..text.lines.len()).find(|&i| text.lines[i] != "<...>" && agrees(i, j));
        kept.map_or_else(|| line.clone(), |i| text.lines[i].clone())
    });
    Edit::of_text(text, with.collect())
}

/// Returns a log line with the matchers that every case needs.
pub(crate) fn shown(state: &CaseState, line: &str) -> String {
    static CLF: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]").ok());
    let mut text = state.dir.take_out(line);
    if let (Some(level), Some(entry)) = (level_of(&text).map(str::to_owned), ENTRY.as_ref()) {
        text = format!("<{level}>{}", entry.replace(&text, ""));
    }
    match CLF.as_ref() {
        Some(clf) => clf.replace(&text, "[<clf>]").into_owned(),
        None => text,
    }
}

/// Checks that a log without a section has no entry from `warn` up.
pub(crate) fn check_quiet(state: &CaseState, line: usize, path: &str) -> Result<(), Fault> {
    let content = read(state, path).unwrap_or_default();
    let seen = relevant(&content, LogScope::Warnings);
    if seen.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = seen.iter().map(|l| shown(state, l)).collect();
    let fault = Fault::new(line, format!("{path} has entries that no section expects"));
    Err(fault.with(difference(&[], &shown, |_, _| false)))
}

/// Waits until a file holds the lines, in this order.
pub(crate) fn wait(state: &CaseState, line: usize, path: &str, text: &Text) -> Result<(), Fault> {
    let expected = patterns(state, &text.lines).map_err(|e| Fault::new(line, e))?;
    let there = until(Instant::now() + PATIENCE, || {
        let content = read(state, path).ok()?;
        let seen: Vec<&str> = content.lines().collect();
        (has_in_order(&expected, &seen) || state.fault().is_some()).then_some(())
    });
    there.ok_or_else(|| {
        let content = read(state, path).unwrap_or_default();
        let shown: Vec<String> = content.lines().map(|l| shown(state, l)).collect();
        Fault::new(line, format!("{path} never held these lines")).with(difference(
            &text.lines,
            &shown,
            |i, j| text.lines[i] == shown[j],
        ))
    })
}

/// Waits until a file holds a piece of text.
pub(crate) fn contains(
    state: &CaseState,
    line: usize,
    path: &str,
    text: &str,
    patience: Duration,
) -> Result<(), Fault> {
    let text = state.dir.fill_in(text);
    let there = until(Instant::now() + patience, || read(state, path).ok()?.contains(&text).then_some(()));
    there.ok_or_else(|| Fault::new(line, format!("{path} never held \"{text}\"")))
}

/// Counts the reloads in the main error log that have succeeded or failed.
pub(crate) fn reloads_done(state: &CaseState) -> usize {
    let content = read(state, "logs/error.log").unwrap_or_default();
    content.lines().filter(|l| l.contains(" exited with code ") || l.contains(" [emerg] ")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026/11/22 08:15:14 [notice] 1#1: start\n\
        2026/11/22 08:15:14 [error] 1#1: *1 boo\nstack traceback:\n\tin main\n\
        2026/11/22 08:15:14 [info] 1#1: *1 bye\n";

    #[test]
    fn an_entry_goes_on_until_the_next_dated_line() {
        let seen = relevant(LOG, LogScope::Warnings);
        assert_eq!(seen, ["2026/11/22 08:15:14 [error] 1#1: *1 boo", "stack traceback:", "\tin main"]);
        assert_eq!(relevant(LOG, LogScope::All).len(), 5);
        assert_eq!(relevant("1.2.3.4 - GET /\n", LogScope::Warnings), ["1.2.3.4 - GET /"]);
    }

    #[test]
    fn lines_may_be_among_others() {
        let seen = ["a", "b", "c"];
        let some = |lines: &[&str]| lines.iter().map(|l| Pattern::verbatim(l).unwrap()).collect::<Vec<_>>();
        assert!(has_in_order(&some(&["a", "c"]), &seen));
        assert!(!has_in_order(&some(&["c", "a"]), &seen));
    }
}
