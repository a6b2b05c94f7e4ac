//! State shared by the parser and the recovery: the grammar in force at a place, and the blocks open there.
//!
//! Owns the terms in which both describe a position in a text. It must never read tokens or judge them.

use crate::known_directives::{self, KnownDirective};
use crate::lexer::Lexed;
use crate::{Directive, SourceId, Span, Word};
use bstr::ByteSlice;

/// The grammar of a block's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grammar {
    Directives,
    /// Any number of words, the first of them free.
    Words,
    /// Two words, the first of them free.
    Pairs,
}

/// The part of nginx a directive belongs to: one name means different things in different parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Realm {
    Http,
    Stream,
    Mail,
}

impl Realm {
    /// Returns what nginx knows by a name in this part.
    pub(crate) fn entries(self, name: &[u8]) -> impl Iterator<Item = &'static KnownDirective> + Clone {
        let known = known_directives::find_all(name.to_str().unwrap_or_default());
        known.iter().filter(move |entry| match self {
            Realm::Http => !entry.is_mail() && !entry.is_stream(),
            Realm::Stream => !entry.is_mail(),
            Realm::Mail => !entry.is_stream(),
        })
    }
}

/// How the entries at a place are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) grammar: Grammar,
    pub(crate) realm: Realm,
    /// The number of blocks around the place in other files.
    pub(crate) depth: usize,
}

impl Scope {
    /// The top level of the main file.
    pub(crate) const TOP: Scope = Scope { grammar: Grammar::Directives, realm: Realm::Http, depth: 0 };
}

/// The end of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A `;` at this offset.
    Semicolon(u32),
    /// A `{` at this offset.
    Open(u32),
    /// A `}`, which is always an error.
    Close,
    /// The end of the text, which is always an error.
    Text,
}

/// A block that is not closed yet.
pub(crate) struct OpenBlock {
    /// The directive that opened it; `None` for a `{` that belongs to no directive.
    pub(crate) head: Option<Directive>,
    /// Its `{`.
    pub(crate) open: Span,
    /// How its entries are read.
    pub(crate) scope: Scope,
    /// The directives read so far.
    pub(crate) children: Vec<Directive>,
}

impl Lexed {
    /// Returns the word of the tree, which says what text it is from.
    pub(crate) fn to_word(&self, source: SourceId) -> Word {
        Word { value: self.value.clone(), span: Span::new(source, self.start, self.end), quoted: self.quoted }
    }
}

impl From<&Word> for Lexed {
    fn from(word: &Word) -> Lexed {
        let Span { start, end, .. } = word.span;
        Lexed { value: word.value.clone(), start, end, quoted: word.quoted, starts_line: false }
    }
}
