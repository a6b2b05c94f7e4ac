//! `-t --explain`: what each line of a configuration means here.
//!
//! Owns the form. What a directive means is the engine's; must never change the outcome of the test.

use bstr::{BStr, ByteSlice};
use conf::{Parsed, Span};
use engine::config::{Explained, Meaning, explain};
use server::process::{self, Disk, Source};
use std::fmt::Write as _;
use std::io::Write as _;

/// Prints each line with its meaning, if that is wanted, and how many lines have no effect.
pub(crate) fn say(source: &Source, wanted: bool, quiet: bool) {
    let parsed = conf::parse_with_option(&source.conf_file, source.globals.as_deref(), &Disk);
    let explained = explain(&parsed);
    if wanted {
        // A reader that closes the pipe is no failure of the test.
        let _ = std::io::stdout().write_all(text(&parsed, &explained).as_bytes());
    }
    let without = explained.iter().filter(|one| matches!(one.meaning, Meaning::NoEffect(_))).count();
    if without > 0 && !quiet {
        let (count, all) = (without, explained.len());
        let rest = if wanted { "" } else { ": pointsman -t --explain names them" };
        eprintln!("{}: {count} of {all} directives have no effect here{rest}", process::PROGRAM);
    }
}

/// Returns the lines, file by file.
fn text(parsed: &Parsed, explained: &[Explained]) -> String {
    let mut text = String::new();
    let mut file = None;
    for Explained { span, meaning } in explained {
        if file != Some(span.source) {
            file = Some(span.source);
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}:", parsed.sources.path(span.source).display());
        }
        let (class, why) = match meaning {
            Meaning::Works(doc) => ("works", (*doc).to_owned()),
            Meaning::NoEffect(reason) => ("no effect here", (*reason).to_owned()),
            Meaning::Refused(fault, None) => ("refused", fault.clone()),
            Meaning::Refused(fault, Some(help)) => ("refused", format!("{fault}; {help}")),
        };
        let line = parsed.sources.line(span.source, span.start);
        let _ = writeln!(text, "{line:>6}  {}\n        {class}: {why}", words(parsed, *span));
    }
    text
}

/// Returns a directive's words on one line, fit for a terminal.
fn words(parsed: &Parsed, span: Span) -> String {
    let bytes = parsed.sources.text(span.source);
    let words: &BStr = bytes.get(span.start as usize..span.end as usize).unwrap_or_default().as_bstr();
    let words: Vec<String> = words.to_string().split_whitespace().map(str::to_owned).collect();
    switch::visible(&words.join(" ")).to_string()
}
