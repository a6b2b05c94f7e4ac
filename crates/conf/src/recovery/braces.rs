//! Braces that are missing or superfluous.
//!
//! nginx notices a missing `}` at the end of the file, far from its place. Owns the guess at the place: by indentation,
//! and by directives that are not allowed where they are. The parser records the braces it meets; if they do not fit,
//! the guess is made from the record, and the text is read once more with the guess applied.

use super::state::ParseState;
use crate::known_directives::Block;
use crate::syntax::Realm;
use crate::{Diagnostic, Span};

/// A brace as the parser met it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Brace {
    /// A block opened: the name of its directive, if it has one, and the part of nginx its entries belong to.
    Open { name: Option<Span>, realm: Realm },
    /// The `}` at this offset closed the innermost block.
    Close(u32),
    /// The innermost block ended without a `}` of its own.
    Ended,
    /// A `}` met no open block.
    Stray,
    /// A block of Lua code: the offsets of its directive, its `{` and its `}`.
    Lua { name: u32, open: u32, close: u32 },
}

/// A guess at what is wrong with the braces of a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BraceFix {
    /// This many blocks end before this offset; the text at `seen` shows it.
    Close { before: u32, blocks: usize, seen: Span, why: String },
    /// The `}` at this offset is superfluous.
    Skip(u32),
    /// The Lua block opened at this offset ends by its indentation, not by its braces.
    CutLua(u32),
}

/// The guesses that a reading applies.
#[derive(Debug, Default)]
pub(crate) struct BraceFixes(Vec<BraceFix>);

impl BraceFixes {
    /// Adds a guess; returns false if it was there already.
    pub(crate) fn add(&mut self, fix: BraceFix) -> bool {
        let is_new = !self.0.contains(&fix);
        self.0.push(fix);
        is_new
    }

    pub(crate) fn skips(&self, at: u32) -> bool {
        self.0.contains(&BraceFix::Skip(at))
    }

    pub(crate) fn cuts_lua(&self, open: u32) -> bool {
        self.0.contains(&BraceFix::CutLua(open))
    }

    /// Returns the blocks to close before an offset: how many, the place that shows it, and why.
    pub(crate) fn closings(&self, at: u32) -> impl Iterator<Item = (usize, Span, &str)> {
        self.0.iter().filter_map(move |fix| match fix {
            BraceFix::Close { before, blocks, seen, why } if *before == at => {
                Some((*blocks, *seen, why.as_str()))
            }
            _ => None,
        })
    }
}

/// A block while the record is read.
struct Recorded {
    /// How far its directive is indented, if that begins a line.
    indent: Option<usize>,
    /// The context of its entries, as [`known_directives`](crate::known_directives) names it, if that is certain.
    context: Option<&'static str>,
    realm: Realm,
}

impl ParseState<'_> {
    /// Guesses what is wrong with the braces of a text, once it is read to its end; `None` if they fit, or if nothing
    /// points to a place.
    pub(crate) fn guess_braces(&self, record: &[Brace]) -> Option<BraceFix> {
        if self.blocks.is_empty() && !record.iter().any(|brace| matches!(brace, Brace::Stray)) {
            return None;
        }
        let mut blocks: Vec<Recorded> = Vec::new();
        let (mut missing, mut superfluous) = (None, None);
        for brace in record {
            match *brace {
                Brace::Open { name, realm } => {
                    missing = missing.or_else(|| self.misplaced(name?, &blocks));
                    blocks.push(Recorded {
                        indent: name.and_then(|name| self.indent(name.start)),
                        context: name.and_then(|name| context(self.slice(name), realm)),
                        realm,
                    });
                }
                Brace::Close(at) => {
                    let opened = blocks.pop().and_then(|block| block.indent);
                    let Some((opened, closed)) = opened.zip(self.indent(at)) else { continue };
                    if closed < opened {
                        let why = "by its indentation, this `}` closes an outer block".to_owned();
                        let seen = self.span(at, at + 1);
                        missing.get_or_insert(BraceFix::Close { before: at, blocks: 1, seen, why });
                    } else if closed > opened {
                        superfluous.get_or_insert(BraceFix::Skip(at));
                    }
                }
                Brace::Ended => drop(blocks.pop()),
                Brace::Stray if superfluous.is_some() => return superfluous,
                Brace::Stray => {}
                Brace::Lua { name, open, close } => {
                    // A block that ends further out than it began may have taken a brace that is not its own.
                    if self
                        .indent(name)
                        .zip(self.indent(close))
                        .is_some_and(|(opened, closed)| closed < opened)
                    {
                        missing.get_or_insert(BraceFix::CutLua(open));
                    }
                }
            }
        }
        missing.filter(|_| !blocks.is_empty())
    }

    /// Judges whether a directive is not allowed where it is but would be further out: a sign that a `}` is missing
    /// before it.
    fn misplaced(&self, head: Span, blocks: &[Recorded]) -> Option<BraceFix> {
        let (inner, outer) = blocks.split_last()?;
        let name = self.slice(head);
        let entries = inner.realm.entries(name).filter(|entry| entry.block != Block::None);
        let allowed = |context: &str| entries.clone().any(|entry| entry.contexts.contains(&context));
        let here = inner.context?;
        if allowed(here) || allowed("any") {
            return None;
        }
        let missing = match outer.iter().rposition(|block| block.context.is_some_and(allowed)) {
            Some(nth) => outer.len() - nth,
            None if allowed("main") => blocks.len(),
            None => return None,
        };
        let here = here.rsplit('-').next().unwrap_or(here);
        let why = format!("`{}` is not allowed in `{here}`", bstr::BStr::new(name));
        Some(BraceFix::Close { before: head.start, blocks: missing, seen: head, why })
    }

    /// Describes a `}` that a guess takes out.
    pub(crate) fn superfluous_brace(&self, at: u32) -> Diagnostic {
        Diagnostic::error(self.span(at, at + 1), "unexpected \"}\"")
            .label("by its indentation, this `}` is superfluous")
            .help("remove it")
    }

    /// Describes a block that a guess closes before an offset.
    pub(crate) fn unclosed_before(&self, at: u32, open: Span, seen: Span, why: &str) -> Diagnostic {
        Diagnostic::error(open, "unexpected end of file, expecting \"}\"")
            .label("this block is not closed")
            .also(seen, why)
            .help(format!("add `}}` before line {}", self.line(at)))
    }

    /// Describes the blocks that are open at the end of a text.
    pub(super) fn unclosed_blocks(&self) -> Diagnostic {
        let label = match self.blocks.len() {
            1 => "this block is not closed".to_owned(),
            open => format!("{open} blocks are not closed, this one is the innermost"),
        };
        let open = self.blocks.last().map(|block| block.open);
        Diagnostic::error(open, "unexpected end of file, expecting \"}\"").label(label).help("add `}`")
    }
}

/// Returns the context of the entries in a block.
fn context(name: &[u8], realm: Realm) -> Option<&'static str> {
    match (realm, name) {
        (_, b"events") => Some("events"),
        (_, b"http") => Some("http"),
        (_, b"stream") => Some("stream"),
        (_, b"mail") => Some("mail"),
        (Realm::Http, b"server") => Some("server"),
        (Realm::Http, b"location") => Some("location"),
        (Realm::Http, b"upstream") => Some("upstream"),
        (Realm::Stream, b"server") => Some("stream-server"),
        (Realm::Stream, b"upstream") => Some("stream-upstream"),
        (Realm::Mail, b"server") => Some("mail-server"),
        _ => None,
    }
}
