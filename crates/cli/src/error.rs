//! How a verb ends.
//!
//! Owns the exit codes, which scripts rely on, and the form in which a failure is printed. Must never end the program
//! itself.

use control::api::types::Problem;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

/// The exit codes of the verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Done, or nothing had to be done.
    Done = 0,
    /// Refused: nothing has changed. Also `--dry-run` of what would be refused, and a history that is not intact.
    Refused = 1,
    /// The command line is wrong or incomplete: nothing was sent.
    Usage = 2,
    /// The server could not be reached: nothing has changed.
    Unreachable = 3,
    /// Done, but what `--wait` waits for did not happen in time.
    NotDrained = 4,
    /// The order was sent and no answer came: whether it was carried out is unknown.
    Unknown = 5,
    /// Committed, but not every node of the fleet has applied it.
    NotApplied = 6,
}

/// The meaning of the exit codes, for `--help` and the man pages.
pub(crate) const CODES: &str = "\
Exit codes:
  0  done, or nothing had to be done
  1  refused; nothing has changed
  2  the command line is wrong
  3  the server cannot be reached; nothing has changed
  4  done, but the old side did not drain in time
  5  no answer; whether it was done is unknown (see `pointsman history`)
  6  committed, but not applied by every node of the fleet";

/// Why a verb did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) code: Code,
    pub(crate) problem: Problem,
}

impl Error {
    /// Returns an error that the command line itself found; `name` is for programs, as the codes of the API are.
    pub(crate) fn new(code: Code, name: &str, text: impl Into<String>, remedy: impl Into<String>) -> Error {
        let (text, remedy) = (text.into(), remedy.into());
        Error { code, problem: Problem { code: name.into(), text, remedy, details: BTreeMap::new() } }
    }

    /// Returns the error of a command line that says too little or too much.
    pub(crate) fn usage(text: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::new(Code::Usage, "usage", text, remedy)
    }

    /// Returns the error of a refusal by the server.
    pub(crate) fn refused(problem: Problem) -> Error {
        let code = match &*problem.code {
            "outcome_unknown" => Code::Unknown,
            "not_applied" => Code::NotApplied,
            _ => Code::Refused,
        };
        Error { code, problem }
    }

    /// Prints the error: for people to standard error, for programs to standard output, where they read everything
    /// else.
    pub(crate) fn print(&self, json: bool) {
        if json {
            let text = serde_json::to_string(&self.problem).unwrap_or_default();
            // The reader may have gone.
            let _ = writeln!(io::stdout(), "{}", switch::visible_json(&text));
            return;
        }
        let text = self.text();
        let mut text = switch::visible(&text);
        if has_colours(io::stderr().is_terminal()) {
            let head = format!("\x1b[{}mpointsman:\x1b[m", Colour::Red as u8);
            text = text.replacen("pointsman:", &head, 1).into();
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }

    fn text(&self) -> String {
        let lines: Vec<String> = self.lines().collect();
        let mut summary = self.problem.text.as_str();
        // The API's text repeats the first of several findings, for readers that show the text alone.
        if let Some(first) = lines.first() {
            let rest = summary.strip_suffix(first.as_str()).and_then(|rest| rest.strip_suffix(": "));
            summary = rest.unwrap_or(summary);
        }
        let mut text = format!("pointsman: {summary}\n");
        for line in lines {
            text.push_str(&format!("  {line}\n"));
        }
        if !self.problem.remedy.is_empty() {
            text.push_str(&format!("  {}\n", self.problem.remedy));
        }
        text
    }

    /// Returns the details that the text leaves out: each server's answer to a gate, each key that is in the way, each
    /// error of a configuration. Names that would do instead are in the remedy.
    fn lines(&self) -> impl Iterator<Item = String> {
        let details = self.problem.details.iter();
        let lists = details.filter_map(|(name, value)| Some((name == "findings", value.as_array()?)));
        lists.flat_map(|(findings, lines)| {
            lines.iter().filter_map(move |line| match line.as_str() {
                Some(line) => findings.then(|| line.to_owned()),
                None => {
                    let words: Vec<&str> =
                        line.as_object()?.values().filter_map(|word| word.as_str()).collect();
                    Some(words.join("  "))
                }
            })
        })
    }
}

/// Writes text to standard output, with hidden characters escaped: keys, reasons and names come from people.
pub(crate) fn say(text: &str) -> Result<(), Error> {
    say_raw(&switch::visible(text))
}

/// The colours of what is done, what is only planned, and what is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Green = 32,
    Yellow = 33,
    Red = 31,
}

/// Returns true if what is written to a place should have colours (no-color.org).
fn has_colours(is_terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    is_terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|kind| kind != "dumb")
}

/// Writes text as [`say`] does, its first line in a colour where standard output is a terminal.
pub(crate) fn say_headed(text: &str, colour: Colour) -> Result<(), Error> {
    let text = switch::visible(text);
    match text.split_once('\n').filter(|_| has_colours(io::stdout().is_terminal())) {
        Some((head, rest)) => say_raw(&format!("\x1b[{}m{head}\x1b[m\n{rest}", colour as u8)),
        None => say_raw(&text),
    }
}

/// Writes to standard output as it is. A reader that has had enough (`| head`) ends the verb without a complaint.
pub(crate) fn say_raw(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Error::new(Code::Done, "closed", "", ""))
        }
        Err(error) => Err(Error::new(Code::Unknown, "output", format!("cannot write: {error}"), "")),
    }
}

/// Writes an API answer to standard output as it came, with hidden characters escaped as JSON does.
pub(crate) fn say_json(body: &[u8]) -> Result<(), Error> {
    say_raw(&format!("{}\n", switch::visible_json(&String::from_utf8_lossy(body))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_moves_no_cursor() {
        let problem = r#"{"code":"a","text":"a\u001b[2J","remedy":"b\u202e","details":{}}"#;
        let error = Error::refused(serde_json::from_str(problem).unwrap());
        assert_eq!(switch::visible(&error.text()), "pointsman: a\\u{1b}[2J\n  b\\u{202e}\n");
    }

    #[test]
    fn a_finding_is_printed_once() {
        let problem = r#"{"code":"config_refused","text":"the configuration was rejected: [emerg] a in b:1",
            "remedy":"fix it","details":{"findings":["[emerg] a in b:1","[emerg] c in b:2"]}}"#;
        let error = Error::refused(serde_json::from_str(problem).unwrap());
        assert_eq!(
            error.text(),
            "pointsman: the configuration was rejected\n  [emerg] a in b:1\n  [emerg] c in b:2\n  fix it\n"
        );
    }
}
