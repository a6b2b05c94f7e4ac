//! The report of a case that fails: the place, the reason, and a difference to read.
//!
//! It decides nothing.

use std::fmt;
use std::path::PathBuf;

/// A failed case.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The case's file.
    pub file: PathBuf,
    /// Line of the section or message that failed, from 1.
    pub line: usize,
    /// The reason in one line.
    pub what: String,
    /// Lines marked `-` (expected) and `+` (seen), or nothing.
    pub difference: String,
    /// The server's error log and stderr.
    pub evidence: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}: {}", self.file.display(), self.line, self.what)?;
        for line in self.difference.lines() {
            writeln!(f, "    {line}")?;
        }
        if !self.evidence.is_empty() {
            writeln!(f, "  from the server:")?;
            for line in self.evidence.lines() {
                writeln!(f, "    {line}")?;
            }
        }
        Ok(())
    }
}

/// A fault inside a case, before it is known which case it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) difference: String,
}

impl Fault {
    pub(crate) fn new(line: usize, what: impl Into<String>) -> Fault {
        Fault { line, what: what.into(), difference: String::new() }
    }

    pub(crate) fn with(mut self, difference: String) -> Fault {
        self.difference = difference;
        self
    }
}

/// Shows expected and seen lines; `same` says which pairs agree. Long stretches that agree are shortened.
pub(crate) fn difference(
    expected: &[String],
    seen: &[String],
    same: impl Fn(usize, usize) -> bool,
) -> String {
    const MOST: usize = 400;
    let (n, m) = (expected.len().min(MOST), seen.len().min(MOST));
    // Longest common subsequence, from the ends.
    let mut table = vec![vec![0u16; m + 1]; n + 1];
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            table[i][j] =
                if same(i, j) { table[i + 1][j + 1] + 1 } else { table[i + 1][j].max(table[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = String::new();
    let mut agreed = 0;
    while i < n || j < m {
        if i < n && j < m && same(i, j) {
            agreed += 1;
            if agreed <= 40 {
                out.push_str(&format!("  {}\n", seen[j]));
            }
            (i, j) = (i + 1, j + 1);
        } else if i < n && (j == m || table[i + 1][j] >= table[i][j + 1]) {
            out.push_str(&format!("- {}\n", expected[i]));
            i += 1;
        } else {
            out.push_str(&format!("+ {}\n", seen[j]));
            j += 1;
        }
    }
    if expected.len() > MOST || seen.len() > MOST {
        out.push_str(&format!("  … cut: {} lines expected, {} seen\n", expected.len(), seen.len()));
    }
    out
}

/// Returns bytes as the text of a case file shows them.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\r' => out.push_str("\\r"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\\' => out.push_str("\\\\"),
                c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Returns a body as the lines of a case file: `\n` ends a line, a last line without it ends in a backslash.
pub(crate) fn readable_lines(bytes: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        match line.strip_suffix(b"\n") {
            // A space at the end of a line is easily lost by editors.
            Some([line @ .., b' ']) => out.push(readable(line) + "\\x20"),
            Some(line) => out.push(readable(line)),
            None => out.push(readable(line) + "\\"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_marks_what_is_missing_and_what_is_new() {
        let expected = ["a", "b", "c"].map(String::from);
        let seen = ["a", "x", "c", "d"].map(String::from);
        let text = difference(&expected, &seen, |i, j| expected[i] == seen[j]);
        assert_eq!(text, "  a\n- b\n+ x\n  c\n+ d\n");
    }

    #[test]
    fn bytes_are_shown_as_case_text() {
        assert_eq!(readable(b"a\\\r\x00\xff\xc3\xa9"), "a\\\\\\r\\x00\\xffé");
        assert_eq!(readable_lines(b"a \nb"), ["a\\x20", "b\\"]);
    }
}
