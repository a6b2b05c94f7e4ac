//! How a verb ends.
//!
//! Owns the exit codes, which scripts rely on, and how a failure is told. Must never end the program itself.

use control::api::types::Problem;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The exit codes of the verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Done, or it was so already.
    Done = 0,
    /// Refused: nothing was changed. Also `--dry-run` of what would be refused, and a history that is not intact.
    Refused = 1,
    /// The command line is wrong, or says too little: nothing was asked.
    Usage = 2,
    /// The server could not be reached: nothing was changed.
    Unreachable = 3,
    /// Done, but what `--wait` waits for did not happen in time.
    NotDrained = 4,
    /// The order was sent and no answer came: it is not known whether it was carried out.
    Unknown = 5,
}

/// What the exit codes mean, for `--help` and the man pages.
pub(crate) const CODES: &str = "\
Exit codes:
  0  done, or it was so already
  1  refused; nothing was changed
  2  the command line is wrong
  3  the server cannot be reached; nothing was changed
  4  done, but the old side was not empty in time
  5  no answer came; whether it was done is not known (see `pointsman history`)";

/// Why a verb did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) problem: Problem,
}

impl Fault {
    /// Of a code's own making: `name` is for programs, as the codes of the API are.
    pub(crate) fn new(code: Code, name: &str, text: impl Into<String>, remedy: impl Into<String>) -> Fault {
        let (text, remedy) = (text.into(), remedy.into());
        Fault { code, problem: Problem { code: name.into(), text, remedy, details: BTreeMap::new() } }
    }

    /// The command line says too little or too much.
    pub(crate) fn usage(text: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault::new(Code::Usage, "usage", text, remedy)
    }

    /// The server said no.
    pub(crate) fn refused(problem: Problem) -> Fault {
        Fault { code: Code::Refused, problem }
    }

    /// Tells people on standard error, or programs on standard output, where they read everything else.
    pub(crate) fn tell(&self, json: bool) {
        if json {
            let text = serde_json::to_string(&self.problem).unwrap_or_default();
            // A reader that has gone does not want to know.
            let _ = writeln!(io::stdout(), "{text}");
            return;
        }
        let mut text = format!("pointsman: {}\n", self.problem.text);
        for line in self.lines() {
            text.push_str(&format!("  {line}\n"));
        }
        if !self.problem.remedy.is_empty() {
            text.push_str(&format!("  {}\n", self.problem.remedy));
        }
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// The details that the text leaves out: what each server of a gate said, each key that stands in the way, each
    /// fault of a configuration. Names that would do instead stand in the remedy.
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

/// Writes to standard output. A reader that has had enough (`| head`) ends the verb without a complaint.
pub(crate) fn say(text: &str) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Fault::new(Code::Done, "closed", "", ""))
        }
        Err(error) => Err(Fault::new(Code::Unknown, "output", format!("cannot write: {error}"), "")),
    }
}
