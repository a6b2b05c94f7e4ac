//! How a diagnostic looks on a terminal.
//!
//! Owns the drawing, done by `annotate-snippets`. A configuration may hold any bytes and a diagnostic quotes them, so
//! no part of a text may reach the terminal as a control sequence.

use crate::{Diagnostic, Severity, SourceId, SourceMap, Span};
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use bstr::ByteSlice;
use std::ops::Range;

/// Places this many lines apart or nearer are drawn in one picture.
const NEAR_LINES: u32 = 40;

/// One place to draw.
struct Mark<'a> {
    span: Span,
    primary: bool,
    label: Option<&'a str>,
}

/// Lines of one text that are drawn together.
struct Picture<'a> {
    source: SourceId,
    first_line: u32,
    last_line: u32,
    marks: Vec<Mark<'a>>,
}

/// Draws a diagnostic.
pub(crate) fn render(diagnostic: &Diagnostic, sources: &SourceMap, colour: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Emerg => Level::ERROR,
        Severity::Warn => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(harmless(&diagnostic.message)));
    for picture in pictures(diagnostic, sources) {
        group = group.element(draw(&picture, sources));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(harmless(help)));
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut drawn = renderer.render(&[group]);
    drawn.push('\n');
    drawn
}

/// Gathers the places into pictures: first the cause's own, then the others in their order.
fn pictures<'a>(diagnostic: &'a Diagnostic, sources: &SourceMap) -> Vec<Picture<'a>> {
    let cause = diagnostic.span.map(|span| Mark { span, primary: true, label: diagnostic.label.as_deref() });
    let also =
        diagnostic.also.iter().map(|(span, label)| Mark { span: *span, primary: false, label: Some(label) });
    let mut pictures: Vec<Picture<'a>> = Vec::new();
    for mark in cause.into_iter().chain(also) {
        let line = sources.line(mark.span.source, mark.span.start);
        let near = pictures.iter_mut().find(|picture| {
            picture.source == mark.span.source
                && line + NEAR_LINES >= picture.first_line
                && line <= picture.last_line + NEAR_LINES
        });
        match near {
            Some(picture) => {
                picture.first_line = picture.first_line.min(line);
                picture.last_line = picture.last_line.max(line);
                picture.marks.push(mark);
            }
            None => pictures.push(Picture {
                source: mark.span.source,
                first_line: line,
                last_line: line,
                marks: vec![mark],
            }),
        }
    }
    pictures
}

fn draw<'a>(picture: &Picture<'a>, sources: &SourceMap) -> Snippet<'a, Annotation<'a>> {
    let text = sources.text(picture.source);
    let (start, _) = sources.line_range(picture.source, picture.first_line);
    let (_, end) = sources.line_range(picture.source, picture.last_line);
    let bytes = text.get(start..end).unwrap_or_default();
    let path = match sources.is_option(picture.source) {
        true => "command line".to_owned(),
        false => harmless(&sources.path(picture.source).display().to_string()),
    };
    let mut snippet = Snippet::source(drawable(bytes)).line_start(picture.first_line as usize).path(path);
    for mark in &picture.marks {
        let kind = if mark.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        let range = one_line(mark.span, sources);
        let drawn = drawn_range(bytes, range.start.saturating_sub(start)..range.end.saturating_sub(start));
        snippet = snippet.annotation(kind.span(drawn).label(mark.label.map(harmless)));
    }
    snippet
}

/// Returns the part of a span that is on its first line.
fn one_line(span: Span, sources: &SourceMap) -> Range<usize> {
    let (start, end) = sources.line_range(span.source, sources.line(span.source, span.start));
    (span.start as usize).clamp(start, end)..(span.end as usize).clamp(start, end)
}

/// Returns a part of a text as it is drawn. Of the control characters the drawing makes those of ASCII visible; the
/// others (some terminals obey U+009B as they do ESC and `[`) are replaced like what is no UTF-8.
fn drawable(part: &[u8]) -> String {
    let text = part.to_str_lossy();
    if !text.contains(is_c1) {
        return text.into_owned();
    }
    text.chars().map(|c| if is_c1(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn is_c1(c: char) -> bool {
    c.is_control() && !c.is_ascii()
}

/// Returns where a part of a text is once it is drawn. A character is in it whole or not at all: what is wrong with a
/// text may be one byte of several.
fn drawn_range(text: &[u8], part: Range<usize>) -> Range<usize> {
    let (mut from, mut to, mut at) = (None, 0, 0);
    for (start, end, c) in text.char_indices() {
        if part.start < end {
            from.get_or_insert(at);
        }
        at += if is_c1(c) { char::REPLACEMENT_CHARACTER } else { c }.len_utf8();
        if start < part.end {
            to = at;
        }
    }
    let from = from.unwrap_or(at);
    from..to.max(from)
}

/// Returns the text with its control characters made visible.
fn harmless(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
