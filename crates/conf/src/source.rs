//! The texts that were read, and places in them.
//!
//! Owns file names, bytes and the arithmetic of lines and columns. It must never panic on a place that is not in it:
//! a diagnostic about a fault may not become a fault.

use bstr::{BStr, ByteSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One text of a [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// A range of bytes in one text; `start == end` is a place between two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The text.
    pub source: SourceId,
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

impl Span {
    /// Creates the span of the bytes `start..end` of a text.
    pub fn new(source: SourceId, start: u32, end: u32) -> Span {
        Span { source, start, end }
    }

    /// Returns the span from the start of this one to the end of the other; this one itself if they are in different
    /// texts.
    pub fn to(self, other: Span) -> Span {
        if self.source == other.source { Span { end: other.end.max(self.end), ..self } } else { self }
    }

    /// Returns the place just after it.
    pub fn after(self) -> Span {
        Span { start: self.end, ..self }
    }
}

/// A text and where its lines begin.
#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    text: Arc<[u8]>,
    line_starts: Vec<u32>,
    option: bool,
}

/// All texts one parse has read, in the order of reading.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    sources: Vec<Source>,
}

impl SourceMap {
    /// Adds a text. `option` marks the text of the `-g` option, which nginx calls "command line".
    pub(crate) fn add(&mut self, path: PathBuf, text: Vec<u8>, option: bool) -> SourceId {
        let starts = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at as u32 + 1);
        let line_starts = std::iter::once(0).chain(starts).collect();
        self.sources.push(Source { path, text: text.into(), line_starts, option });
        SourceId(self.sources.len() as u32 - 1)
    }

    /// Returns all texts.
    pub fn ids(&self) -> impl Iterator<Item = SourceId> {
        (0..self.sources.len() as u32).map(SourceId)
    }

    /// Returns the name of a text's file.
    pub fn path(&self, id: SourceId) -> &Path {
        self.get(id).map_or(Path::new(""), |source| &source.path)
    }

    /// Returns a text's bytes.
    pub fn text(&self, id: SourceId) -> &[u8] {
        self.get(id).map_or(&[], |source| &source.text)
    }

    /// Returns true for the text of the `-g` option.
    pub(crate) fn is_option(&self, id: SourceId) -> bool {
        self.get(id).is_some_and(|source| source.option)
    }

    /// Returns the text's bytes, to be kept while the map grows.
    pub(crate) fn shared_text(&self, id: SourceId) -> Arc<[u8]> {
        self.get(id).map_or_else(|| Arc::from([]), |source| source.text.clone())
    }

    /// Returns the line of an offset, counted from 1.
    pub fn line(&self, id: SourceId, offset: u32) -> u32 {
        let Some(source) = self.get(id) else { return 1 };
        source.line_starts.partition_point(|start| *start <= offset).max(1) as u32
    }

    /// Returns the line and column of a span's start, both counted from 1; a column is a character.
    pub fn line_column(&self, span: Span) -> (u32, u32) {
        let line = self.line(span.source, span.start);
        let (start, _) = self.line_range(span.source, line);
        let end = (span.start as usize).clamp(start, self.text(span.source).len());
        let before = self.text(span.source).get(start..end).unwrap_or_default();
        (line, before.chars().count() as u32 + 1)
    }

    /// Returns the whole line in which a span starts, without its end.
    pub fn line_text(&self, span: Span) -> &BStr {
        let (start, end) = self.line_range(span.source, self.line(span.source, span.start));
        self.text(span.source).get(start..end).unwrap_or_default().as_bstr()
    }

    /// Returns the bytes of a line, counted from 1, without its `\n` or `\r\n`.
    pub(crate) fn line_range(&self, id: SourceId, line: u32) -> (usize, usize) {
        let Some(source) = self.get(id) else { return (0, 0) };
        let Some(start) = source.line_starts.get(line as usize - 1) else { return (0, 0) };
        let start = *start as usize;
        let end = source.line_starts.get(line as usize).map_or(source.text.len(), |next| *next as usize - 1);
        let cr = end > start && source.text.get(end - 1) == Some(&b'\r');
        (start, end - usize::from(cr))
    }

    fn get(&self, id: SourceId) -> Option<&Source> {
        self.sources.get(id.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_are_counted_from_one_and_in_characters() {
        let mut map = SourceMap::default();
        let id = map.add("a".into(), "x\r\n\u{540d} y\n".into(), false);
        assert_eq!(map.line_column(Span::new(id, 7, 8)), (2, 3));
        assert_eq!(map.line_text(Span::new(id, 7, 8)), "\u{540d} y");
        assert_eq!(map.line_text(Span::new(id, 0, 1)), "x");
        assert_eq!(map.line_column(Span::new(id, 9, 9)), (3, 1));
        assert_eq!(map.line_column(Span::new(id, 900, 900)), (3, 1));
        assert_eq!(map.line_column(Span::new(SourceId(7), 3, 4)), (1, 1));
    }
}
