//! The parser's state at an error, and the action that it gets back.
//!
//! Owns the seam between the two: offsets, lines and indentation of the text, and the ways to read on.

use crate::lexer::Lexed;
use crate::syntax::{OpenBlock, Scope};
use crate::{Diagnostic, Directive, SourceId, SourceMap, Span};
use bstr::ByteSlice;

/// The parser's state when it met an error.
pub(crate) struct ParseState<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) source: SourceId,
    pub(crate) sources: &'a SourceMap,
    /// The words of the statement being read.
    pub(crate) words: &'a [Lexed],
    /// The open blocks of this text, the innermost last.
    pub(crate) blocks: &'a [OpenBlock],
    pub(crate) scope: Scope,
    /// The last complete directive of the innermost block.
    pub(crate) last: Option<&'a Directive>,
}

/// The report, and how to read on.
pub(crate) struct Recovery {
    pub(crate) diagnostic: Diagnostic,
    pub(crate) action: Action,
}

/// How the parser reads on behind an error.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Goes on with the next token.
    Continue,
    /// Adds a word to the statement and goes on behind it.
    TakeWord(Lexed),
    /// Lengthens the statement's last word up to this offset and goes on there.
    ExtendWord { end: u32 },
    /// Takes the last directive back: these words are a statement that has not ended.
    Reopen(Vec<Lexed>),
    /// Goes on at the end of the line that holds this offset.
    SkipLine { from: u32 },
    /// Drops the statement and goes on at a line that makes sense again.
    DropStatement { from: u32 },
    /// Reads a block that belongs to no directive; its `{` is at this offset.
    OpenNameless { at: u32 },
}

impl<'a> ParseState<'a> {
    pub(crate) fn span(&self, start: u32, end: u32) -> Span {
        Span::new(self.source, start, end)
    }

    /// Returns the text of a span, which must be of this source.
    pub(super) fn slice(&self, span: Span) -> &'a [u8] {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    pub(super) fn line(&self, at: u32) -> u32 {
        self.sources.line(self.source, at)
    }

    /// Returns how far the line of an offset is indented, if the offset begins it; a tab reaches to the next multiple
    /// of eight.
    pub(super) fn indent(&self, at: u32) -> Option<usize> {
        let (start, _) = self.sources.line_range(self.source, self.line(at));
        self.text[start..at as usize].iter().try_fold(0, |width, byte| match byte {
            b' ' => Some(width + 1),
            b'\t' => Some(width / 8 * 8 + 8),
            _ => None,
        })
    }

    /// Names the place of an offset in words: the end of its line, if only a comment follows there.
    pub(super) fn place(&self, at: u32) -> String {
        let rest = &self.text[at as usize..];
        let line = rest[..rest.find_byte(b'\n').unwrap_or(rest.len())].trim_ascii();
        if self.is_option() || !(line.is_empty() || line.starts_with(b"#")) {
            return "here".to_owned();
        }
        format!("at the end of line {}", self.line(at))
    }

    /// Returns true for the text of the `-g` option.
    pub(super) fn is_option(&self) -> bool {
        self.sources.is_option(self.source)
    }
}

impl Diagnostic {
    pub(super) fn then(self, action: Action) -> Recovery {
        Recovery { diagnostic: self, action }
    }
}
