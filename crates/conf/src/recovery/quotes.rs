//! Quotes that are not closed, or closed too early.
//!
//! Owns the cause of the lexer's faults and the way back. One such fault turns the rest of the file inside out, so the
//! way back goes by lines, as people write.

use super::state::{Action, ParseState, Recovery};
use crate::Diagnostic;
use crate::lexer::{LexFault, Lexed, Lexer, Token, line_end};
use bstr::ByteSlice;

impl ParseState<'_> {
    pub(super) fn no_token(&self, fault: LexFault) -> Recovery {
        match fault {
            LexFault::AfterQuote { open, at } => self.after_quote(open, at),
            LexFault::NoClosingQuote { open } => {
                self.unclosed_quote(open, "unexpected end of file, expecting \";\" or \"}\"".to_owned())
            }
            LexFault::TooLong { start, quote } => self.too_long(start, quote),
        }
    }

    /// Handles what follows a quoted word without a space.
    fn after_quote(&self, open: u32, at: u32) -> Recovery {
        // What is no UTF-8 is shown as a longer character than it is.
        let (_, len, next) = self.text[at as usize..].char_indices().next().unwrap_or((0, 0, '\u{fffd}'));
        let message = format!("unexpected \"{next}\"");
        // A quoted word of several lines whose first line ends with `;`: the quote was forgotten there.
        let is_long = self.text[open as usize + 1..at as usize].contains(&b'\n');
        if is_long && let Some(recovery) = self.forgotten_quote(open, &message) {
            return recovery;
        }
        let quote = char::from(self.text[open as usize]);
        Diagnostic::error(self.span(at, at + len as u32), message)
            .label("a quoted word ends just before; only a space, `;` or `{` may follow it")
            .also(self.span(open, open + 1), "the quoted word begins here")
            .help(format!("put a space here, or write `\\{quote}` for a quote inside the word"))
            .then(Action::DropStatement { from: at })
    }

    /// Handles a quoted word that never ends.
    fn unclosed_quote(&self, open: u32, message: String) -> Recovery {
        self.forgotten_quote(open, &message).unwrap_or_else(|| {
            let quote = char::from(self.text[open as usize]);
            Diagnostic::error(self.span(open, open + 1), message)
                .label("this quote is never closed")
                .help(format!("add the closing `{quote}`"))
                .then(Action::DropStatement { from: open + 1 })
        })
    }

    /// Handles a word longer than nginx takes.
    fn too_long(&self, start: u32, quote: Option<u8>) -> Recovery {
        let message = match quote {
            Some(quote) => format!(
                "too long parameter, probably missing terminating \"{}\" character",
                char::from(quote)
            ),
            None => {
                let begin = &self.text[start as usize..];
                format!("too long parameter \"{}...\" started", begin[..begin.len().min(10)].as_bstr())
            }
        };
        let Some(word) = self.whole_word(start, quote) else {
            return self.unclosed_quote(start, message);
        };
        let fault = Diagnostic::error(self.span(start, start + 1), message)
            .label(format!("this word is {} bytes long; nginx accepts at most 4096", word.end - start));
        let fault = match self.words.first() {
            Some(name) if name.value.ends_with(b"_by_lua") => {
                fault.help(format!("write `{}_block {{ … }}`, which has no limit", name.value))
            }
            _ => fault.help("make it shorter"),
        };
        fault.then(Action::TakeWord(word))
    }

    /// Returns the word that begins at `start`, however long, if it ends as a word does.
    fn whole_word(&self, start: u32, quote: Option<u8>) -> Option<Lexed> {
        let mut unlimited = Lexer::new(self.text, false);
        unlimited.jump(start as usize);
        let Token::Word(word) = unlimited.next() else { return None };
        let is_well_ended = match self.text.get(word.end as usize) {
            Some(after) => matches!(after, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{'),
            None => quote.is_none(),
        };
        is_well_ended.then_some(word)
    }

    /// Assumes the closing quote at the end of the line of the opening one, if that line ends as a statement does.
    fn forgotten_quote(&self, open: u32, message: &str) -> Option<Recovery> {
        let start = open as usize + 1;
        let rest = &self.text[start..];
        let line = &rest[..rest.find_byte(b'\n').unwrap_or(rest.len())];
        let quote = char::from(self.text[open as usize]);
        let mark = line_end(line)?;
        let at = (start + mark) as u32;
        let fault = Diagnostic::error(self.span(at, at), message)
            .label(format!("the closing `{quote}` is missing here"))
            .also(self.span(open, open + 1), "for the quote opened here")
            .help(format!("add `{quote}` before the `{}`", char::from(line[mark])));
        let value = line[..mark].into();
        let word = Lexed { value, start: open, end: at, quoted: true, starts_line: false };
        Some(fault.then(Action::TakeWord(word)))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn spans_in_binary_input_lie_within_the_file() {
        for end in [&b"\"a\"\xff"[..], b"\"a\"\xe6\xb5", b"\"a\"\xe6\xb5\x8f", b"\"a\"\xf0\x80\xffb"] {
            let text = [b"events { } http { x ", end].concat();
            let parsed = crate::parse_text("/nginx.conf", text.clone(), &crate::NoFiles);
            assert!(!parsed.diagnostics.is_empty());
            for diagnostic in &parsed.diagnostics {
                let span = diagnostic.span.unwrap();
                assert!(span.end as usize <= text.len(), "{span:?} of {}", text.len());
            }
        }
    }
}
