//! Slips of people who write other languages as well.
//!
//! Owns a few mistakes that break the statements after them, and puts those together again: `http;//`, `--` for `#`, a
//! `{2}` in a pattern without quotes, entries that were not closed. Each is a text that nginx refuses.

use super::file::FileParser;
use super::{Grammar, cuts};
use crate::lexer::Lexed;
use crate::unknown::foreign_comment;
use crate::{Diagnostic, Span};
use bstr::ByteSlice;

impl FileParser<'_, '_> {
    /// `proxy_pass http;//backend;`: the `;` is a slip for `:`. Puts the two halves together again.
    pub(super) fn rejoin(&mut self, word: &Lexed) -> bool {
        let (source, text, start) = (self.source, self.text, word.start);
        let before = &self.text[..start as usize];
        if word.quoted || !word.value.starts_with(b"//") || before.last() != Some(&b';') {
            return false;
        }
        let siblings = self.siblings();
        let Some(before) =
            siblings.last().filter(|last| last.span.source == source && last.span.end == start)
        else {
            return false;
        };
        let Some(scheme) = before.args.last().filter(|last| !last.quoted && last.span.end + 1 == start)
        else {
            return false;
        };
        if !scheme.value.iter().all(u8::is_ascii_alphabetic) {
            return false;
        }
        let message = if before.name.value.ends_with(b"_pass") {
            "invalid URL prefix".to_owned()
        } else {
            format!("unknown directive \"{}\"", word.value)
        };
        let help = format!("write `{}:{}`", scheme.value, word.value);
        let first = before.name.span.start;
        let Some(before) = siblings.pop() else { return false };
        let mut line_start = self.begins_line(first);
        for part in std::iter::once(before.name).chain(before.args) {
            let (start, end) = (part.span.start, part.span.end);
            self.words.push(Lexed {
                value: part.value,
                start,
                end,
                quoted: part.quoted,
                starts_line: line_start,
            });
            line_start = false;
        }
        if let Some(last) = self.words.last_mut() {
            last.value = text[last.start as usize..word.end as usize].into();
            last.value[(start - 1 - last.start) as usize] = b':';
            last.end = word.end;
        }
        let fault = Diagnostic::error(self.span(start - 1, start), message);
        self.parser.report(fault.label("`;` stands where `:` belongs").help(help));
        true
    }

    /// `-- text`: a comment of another language. Reads on after its line.
    pub(super) fn comment(&mut self, word: &Lexed) -> bool {
        let Some(fault) = foreign_comment(&self.own(word)) else { return false };
        self.parser.report(fault);
        self.lexer.skip_line(word.start);
        true
    }

    /// `location ~ ^/\d{2}/ {`: the `{2}` of a pattern without quotes opens a block, whose first word `2}/` is no
    /// directive. Puts the pattern together again.
    pub(super) fn repetition(&mut self, at: u32) -> bool {
        let Some(word) = self.words.last().filter(|word| word.end == at && !word.quoted) else {
            return false;
        };
        if self.around().grammar != Grammar::Directives {
            return false;
        }
        let mut end = at as usize;
        while let Some(len) = repetition_len(&self.text[end..]) {
            let tail = &self.text[end + len..];
            let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{');
            end += len + tail.iter().take_while(|byte| !blank(byte)).count();
        }
        if end == at as usize {
            return false;
        }
        let name = self.text[at as usize + 1..end].as_bstr();
        let fault = Diagnostic::error(self.span(at, at + 1), format!("unknown directive \"{name}\""));
        let whole = self.text[word.start as usize..end].as_bstr();
        let fault =
            fault.label("outside quotes, this `{` begins a block").help(format!("write `\"{whole}\"`"));
        self.parser.report(fault);
        if let Some(word) = self.words.last_mut() {
            word.value = self.text[word.start as usize..end].into();
            word.end = end as u32;
        }
        self.lexer.jump(end);
        true
    }

    /// A `{` among entries: if a directive opens it, the block of entries was not closed. Leaves that block then.
    pub(super) fn leave_entries(&mut self, words: &[Lexed], brace: Span) -> bool {
        let realm = self.around().realm;
        let fault = Diagnostic::error(brace, "unexpected \"{\"");
        let Some(frame) = self.frames.last().filter(|_| cuts::opens(words, realm)) else {
            self.parser.report(fault.label("an entry has no block"));
            return false;
        };
        let line = self.parser.sources.line(self.source, words[0].start);
        let fault = fault.also(frame.open, "this block is not closed");
        self.parser
            .report(fault.label("no block may begin here").help(format!("add `}}` before line {line}")));
        self.pop();
        true
    }
}

/// The length of a `{2}` or `{2,3}` at the front of a text.
fn repetition_len(text: &[u8]) -> Option<usize> {
    let inside = text.strip_prefix(b"{")?;
    let len = inside.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b',').count();
    (inside.first()?.is_ascii_digit() && inside.get(len) == Some(&b'}')).then_some(len + 2)
}
