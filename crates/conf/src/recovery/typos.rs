//! Mistakes of people who write other languages as well.
//!
//! Owns a few of them that break the statements after them: `http;//`, `--` for `#`, a `{2}` in a pattern without
//! quotes, a `map` that was not closed. Each is a text that nginx refuses.

use super::missing_semicolon::opens;
use super::state::{Action, ParseState, Recovery};
use crate::lexer::Lexed;
use crate::syntax::Grammar;
use crate::unknown::foreign_comment;
use crate::{Diagnostic, Directive};
use bstr::ByteSlice;

impl ParseState<'_> {
    /// Describes the byte order mark that some editors write.
    pub(crate) fn byte_order_mark(&self) -> Option<Diagnostic> {
        let fault = Diagnostic::warn(self.span(0, 3), "the file begins with a byte order mark")
            .label("nginx reads it as part of the first directive name")
            .help("save the file as UTF-8 without a byte order mark");
        (self.text.starts_with(b"\xEF\xBB\xBF") && !self.is_option()).then_some(fault)
    }

    /// Recovers from a directive that begins with half an address, or with a comment of another language.
    pub(crate) fn odd_first_word(&self, word: &Lexed) -> Option<Recovery> {
        if self.scope.grammar != Grammar::Directives {
            return None;
        }
        self.split_address(word).or_else(|| {
            let from = word.start;
            foreign_comment(&word.to_word(self.source)).map(|fault| fault.then(Action::SkipLine { from }))
        })
    }

    /// Joins the two halves of `proxy_pass http;//backend;`.
    fn split_address(&self, word: &Lexed) -> Option<Recovery> {
        let start = word.start;
        let is_half = !word.quoted && word.value.starts_with(b"//");
        if !is_half || self.text[..start as usize].last() != Some(&b';') {
            return None;
        }
        let before = self.last.filter(|last| last.span.source == self.source && last.span.end == start)?;
        let scheme = before.args.last().filter(|last| !last.quoted && last.span.end + 1 == start)?;
        if !scheme.value.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        let message = if before.name.value.ends_with(b"_pass") {
            "invalid URL prefix".to_owned()
        } else {
            format!("unknown directive \"{}\"", word.value)
        };
        let mut words: Vec<Lexed> =
            std::iter::once(&before.name).chain(&before.args).map(Lexed::from).collect();
        words[0].starts_line = self.indent(words[0].start).is_some();
        if let Some(address) = words.last_mut() {
            address.value = format!("{}:{}", scheme.value, word.value).into();
            address.end = word.end;
        }
        let fault = Diagnostic::error(self.span(start - 1, start), message)
            .label("this `;` should be `:`")
            .help(format!("write `{}:{}`", scheme.value, word.value));
        Some(fault.then(Action::Reopen(words)))
    }

    /// Joins the pattern of `location ~ ^/\d{2}/ {`: without quotes, its `{2}` opens a block, whose first word `2}/` is
    /// no directive.
    pub(crate) fn repetition(&self, at: u32) -> Option<Recovery> {
        let word = self.words.last().filter(|word| word.end == at && !word.quoted)?;
        if self.scope.grammar != Grammar::Directives {
            return None;
        }
        let mut end = at as usize;
        while let Some(len) = repetition_len(&self.text[end..]) {
            let tail = &self.text[end + len..];
            let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{');
            end += len + tail.iter().take_while(|byte| !blank(byte)).count();
        }
        if end == at as usize {
            return None;
        }
        let name = self.text[at as usize + 1..end].as_bstr();
        let whole = self.text[word.start as usize..end].as_bstr();
        let fault = Diagnostic::error(self.span(at, at + 1), format!("unknown directive \"{name}\""))
            .label("an unquoted `{` opens a block")
            .help(format!("write `\"{whole}\"`"));
        Some(fault.then(Action::ExtendWord { end: end as u32 }))
    }

    /// Describes a block, with its words and the offset of its `{`, among the entries of a `map` or `types`. True if
    /// the words do open a block: then the block of entries was not closed.
    pub(crate) fn block_in_entries(&self, words: &[Lexed], at: u32) -> (Diagnostic, bool) {
        let fault = Diagnostic::error(self.span(at, at + 1), "unexpected \"{\"");
        let Some(block) = self.blocks.last().filter(|_| opens(words, self.scope.realm)) else {
            return (fault.label("entries here cannot have a block"), false);
        };
        let line = self.line(words[0].start);
        let fault = fault
            .also(block.open, "this block is not closed")
            .label("a block cannot start here")
            .help(format!("add `}}` before line {line}"));
        (fault, true)
    }

    /// Describes a `*_by_lua` that has a block in place of its quoted code.
    pub(crate) fn quoted_lua(&self, directive: &Directive) -> Option<Diagnostic> {
        let name = &directive.name.value;
        let message = format!("directive \"{name}\" is not terminated by \";\"");
        let fault = Diagnostic::error(directive.name.span, message)
            .label("this directive takes its code as a quoted string")
            .help(format!("write `{name}_block {{ … }}`"));
        name.ends_with(b"_by_lua").then_some(fault)
    }
}

/// Returns the length of a `{2}` or `{2,3}` at the front of a text.
fn repetition_len(text: &[u8]) -> Option<usize> {
    let inside = text.strip_prefix(b"{")?;
    let len = inside.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b',').count();
    (inside.first()?.is_ascii_digit() && inside.get(len) == Some(&b'}')).then_some(len + 2)
}
