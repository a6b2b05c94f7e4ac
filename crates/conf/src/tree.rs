//! The tree a text is read into: directives, their words and their bodies.
//!
//! Owns the shape only. Includes are already spliced in: a directive's span says which file it came from.

use crate::{Diagnostic, Span};
use bstr::{BStr, BString, ByteSlice};

/// All directives of the top level.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// In the order in which nginx would meet them.
    pub directives: Vec<Directive>,
}

/// One directive.
#[derive(Clone, Debug)]
pub struct Directive {
    /// Its first word.
    pub name: Word,
    /// The words after it. A Lua block is not among them.
    pub args: Vec<Word>,
    /// The end of the words.
    pub body: Body,
    /// From the name to its `;` or `{`, that byte included. nginx reports faults at the line of that last byte.
    pub span: Span,
}

impl Directive {
    /// Returns the span of the words alone, without `;` or `{`.
    pub fn words_span(&self) -> Span {
        self.args.last().map_or(self.name.span, |last| self.name.span.to(last.span))
    }

    /// Returns the directives of its block; none if it has no block.
    pub fn children(&self) -> &[Directive] {
        if let Body::Block(children) = &self.body { children } else { &[] }
    }
}

/// The end of a directive.
#[derive(Clone, Debug)]
pub enum Body {
    /// `;`
    None,
    /// `{ … }`
    Block(Vec<Directive>),
    /// `{ … }` of a `*_by_lua_block`.
    Lua(LuaCode),
}

/// The code of a `*_by_lua_block`.
#[derive(Clone, Debug)]
pub struct LuaCode {
    /// All bytes between the braces, unchanged.
    pub code: BString,
    /// Where they are.
    pub span: Span,
    /// The line of the opening brace, counted from 1: OpenResty names the chunk after it.
    pub line: u32,
}

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its text, without quotes and escapes.
    pub value: BString,
    /// Where it is, quotes included.
    pub span: Span,
    /// It was written in quotes.
    pub quoted: bool,
}

impl Word {
    /// Returns its value.
    pub fn text(&self) -> &BStr {
        self.value.as_bstr()
    }

    /// Returns its value as UTF-8, or a diagnostic if it is not.
    pub fn str(&self) -> Result<&str, Diagnostic> {
        self.value.to_str().map_err(|_| {
            Diagnostic::error(self.span, format!("invalid UTF-8 in \"{}\"", self.value))
                .label("these bytes are not UTF-8 text")
        })
    }
}
