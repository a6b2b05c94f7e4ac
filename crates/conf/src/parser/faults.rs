//! What to do where a text has no word.
//!
//! Owns the cause and the recovery of the lexer's faults: quotes that are not closed, or closed too early. One such
//! fault turns the rest of the file inside out, so the recovery goes by lines, as people write.

use super::file::FileParser;
use crate::Diagnostic;
use crate::lexer::{Fault, Lexed, Lexer, Resumed, Token, line_end};
use bstr::ByteSlice;

impl FileParser<'_, '_> {
    /// Reports a fault and reads on.
    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::AfterQuote { open, at } => self.after_quote(open, at),
            Fault::NoClosingQuote { open } => {
                let message = "unexpected end of file, expecting \";\" or \"}\"";
                self.unclosed_quote(open, message.to_owned());
            }
            Fault::TooLong { start, quote } => self.too_long(start, quote),
        }
    }

    /// Something stands right behind a quoted word.
    fn after_quote(&mut self, open: u32, at: u32) {
        let next = self.text[at as usize..].chars().next().unwrap_or('\u{fffd}');
        let message = format!("unexpected \"{next}\"");
        // A quoted word of several lines whose first line ends with `;`: the quote was forgotten there.
        let inside = &self.text[open as usize + 1..at as usize];
        if inside.contains(&b'\n') && self.quote_forgotten(open, message.clone()) {
            return;
        }
        let quote = char::from(self.text[open as usize]);
        let fault = Diagnostic::error(self.span(at, at + next.len_utf8() as u32), message)
            .label("a quoted word ends just before; only a space, `;` or `{` may follow it")
            .also(self.span(open, open + 1), "the quoted word begins here")
            .help(format!("put a space here, or write `\\{quote}` for a quote inside the word"));
        self.parser.report(fault);
        self.resume(at);
    }

    /// A quoted word never ends.
    fn unclosed_quote(&mut self, open: u32, message: String) {
        if self.quote_forgotten(open, message.clone()) {
            return;
        }
        let quote = char::from(self.text[open as usize]);
        let fault = Diagnostic::error(self.span(open, open + 1), message).label("this quote is never closed");
        self.parser.report(fault.help(format!("add the closing `{quote}`")));
        self.resume(open + 1);
    }

    /// A word is longer than nginx takes.
    fn too_long(&mut self, start: u32, quote: Option<u8>) {
        let mut unlimited = Lexer::new(self.text, false);
        unlimited.jump(start as usize);
        let whole = match unlimited.next() {
            Token::Word(word) => {
                let well_ended = match self.text.get(word.end as usize) {
                    Some(after) => matches!(after, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{'),
                    None => quote.is_none(),
                };
                Some(word).filter(|_| well_ended)
            }
            _ => None,
        };
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
        let Some(word) = whole else {
            return self.unclosed_quote(start, message);
        };
        let fault = Diagnostic::error(self.span(start, start + 1), message);
        let fault = fault.label(format!("this word has {} bytes, nginx takes 4096", word.end - start));
        let lua = self.words.first().is_some_and(|name| name.value.ends_with(b"_by_lua"));
        self.parser.report(match self.words.first() {
            Some(name) if lua => {
                fault.help(format!("write `{}_block {{ … }}`, which has no limit", name.value))
            }
            _ => fault.help("make it shorter"),
        });
        self.lexer.jump(word.end as usize);
        self.words.push(word);
    }

    /// Reports that the closing quote was forgotten at the end of the very line of the opening one, if that line ends
    /// as a statement does, and reads on as if it were there.
    fn quote_forgotten(&mut self, open: u32, message: String) -> bool {
        let start = open as usize + 1;
        let rest = &self.text[start..];
        let line = &rest[..rest.find_byte(b'\n').unwrap_or(rest.len())];
        let quote = self.text[open as usize];
        let Some(mark) = line_end(line) else { return false };
        let at = (start + mark) as u32;
        let fault = Diagnostic::error(self.span(at, at), message)
            .label(format!("the closing `{}` is missing here", char::from(quote)))
            .also(self.span(open, open + 1), "of this one")
            .help(format!("add `{}` before the `{}`", char::from(quote), char::from(line[mark])));
        self.parser.report(fault);
        let value = line[..mark].into();
        self.words.push(Lexed { value, start: open, end: at, quoted: true, starts_line: false });
        self.lexer.jump(start + mark);
        true
    }

    /// Leaves a statement that cannot be understood.
    fn resume(&mut self, from: u32) {
        self.words.clear();
        if let Resumed::Open(at) = self.lexer.resume(from) {
            self.push(None, at);
        }
    }
}
