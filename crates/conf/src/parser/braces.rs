//! Braces that are missing or too many.
//!
//! nginx notices a missing `}` at the end of the file, far from its place. Owns the guess at the place: by indentation,
//! and by directives that may not stand where they do. A guess is only made once the braces of a text do not fit; the
//! text is then read again with the guess taken for granted.

use super::cuts::{End, Realm};
use super::file::{FileParser, Frame};
use crate::known_directives::Block;
use crate::{Diagnostic, Directive, Span};

/// A guess at a brace, made while reading on as if nothing were wrong.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Repair {
    /// So many blocks end before this offset; the text there says why.
    Close { before: u32, blocks: usize, seen: Span, why: String },
    /// The `}` at this offset is one too many.
    Skip(u32),
    /// The Lua block opened at this offset does not end where its braces say.
    CutLua(u32),
}

/// The guesses a reading takes for granted.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    pub(super) list: Vec<Repair>,
    given_up: bool,
}

impl Repairs {
    /// No guess is taken for granted and none is made.
    pub(super) fn given_up() -> Self {
        Repairs { list: Vec::new(), given_up: true }
    }

    /// Takes one more; not if it is there already.
    pub(super) fn add(&mut self, repair: Repair) -> bool {
        let new = !self.list.contains(&repair);
        self.list.push(repair);
        new
    }
}

impl FileParser<'_, '_> {
    /// A directive that may not stand here but may stand further out is a sign that a `}` is missing before it.
    pub(super) fn suspect_place(&mut self, head: &Directive) {
        let Some(inner) = self.frames.len().checked_sub(1) else { return };
        let name = &head.name.value;
        let entries = self.around().realm.entries(name).filter(|entry| entry.block != Block::None);
        let allowed = |context: &str| entries.clone().any(|entry| entry.contexts.contains(&context));
        let contexts: Vec<Option<&str>> = self.frames.iter().map(Frame::context).collect();
        let Some(here) = contexts[inner] else { return };
        if allowed(here) || allowed("any") {
            return;
        }
        let outer = (0..inner).rev().find(|nth| contexts[*nth].is_some_and(allowed));
        let blocks = match outer {
            Some(nth) => inner - nth,
            None if allowed("main") => inner + 1,
            None => return,
        };
        let here = here.rsplit('-').next().unwrap_or(here);
        let why = format!("`{name}` may not stand in `{here}`");
        let before = head.name.span.start;
        self.missing.get_or_insert(Repair::Close { before, blocks, seen: head.name.span, why });
    }

    /// A `}`.
    pub(super) fn close_brace(&mut self, at: u32) -> Option<Repair> {
        if !self.words.is_empty() {
            self.statement(End::Close);
        }
        let brace = self.span(at, at + 1);
        if self.repairs.list.contains(&Repair::Skip(at)) {
            let fault = Diagnostic::error(brace, "unexpected \"}\"")
                .label("by its indentation, this one is too many");
            self.parser.report(fault.help("remove it"));
            return None;
        }
        self.repair_before(at);
        let Some(frame) = self.frames.last() else {
            if let Some(extra) = self.extra.take().filter(|_| !self.repairs.given_up) {
                return Some(extra);
            }
            let fault = Diagnostic::error(brace, "unexpected \"}\"").label("no block is open here");
            self.parser.report(fault.help("remove it"));
            return None;
        };
        if let (Some(opened), Some(closed)) = (frame.indent, self.indent(at)) {
            if closed < opened {
                let why = "by its indentation, this `}` closes a block further out".to_owned();
                self.missing.get_or_insert(Repair::Close { before: at, blocks: 1, seen: brace, why });
            } else if closed > opened {
                self.extra.get_or_insert(Repair::Skip(at));
            }
        }
        self.pop();
        None
    }

    /// Closes the blocks that an earlier reading found unclosed before this place.
    pub(super) fn repair_before(&mut self, at: u32) {
        let repairs = self.repairs;
        for repair in &repairs.list {
            let Repair::Close { before, blocks, seen, why } = repair else { continue };
            if *before != at {
                continue;
            }
            for _ in 0..*blocks {
                let Some(open) = self.pop() else { return };
                let line = self.parser.sources.line(self.source, at);
                let fault = Diagnostic::error(open, "unexpected end of file, expecting \"}\"");
                let fault = fault.label("this block is not closed").also(*seen, why.as_str());
                self.parser.report(fault.help(format!("add `}}` before line {line}")));
            }
        }
    }

    /// The end of the text.
    pub(super) fn end(&mut self) -> Option<Repair> {
        if !self.words.is_empty() {
            self.statement(End::Text);
        }
        let frame = self.frames.last()?;
        if let Some(missing) = self.missing.take().filter(|_| !self.repairs.given_up) {
            return Some(missing);
        }
        let label = match self.frames.len() {
            1 => "this block is not closed".to_owned(),
            open => format!("{open} blocks are not closed, this one is the innermost"),
        };
        let fault = Diagnostic::error(frame.open, "unexpected end of file, expecting \"}\"");
        self.parser.report(fault.label(label).help("add `}`"));
        None
    }
}

impl Frame {
    /// The context its directives stand in, as [`known_directives`](crate::known_directives) names it, if that is certain.
    fn context(&self) -> Option<&'static str> {
        let name = self.head.as_ref()?.name.value.as_slice();
        match (self.around.realm, name) {
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
}
