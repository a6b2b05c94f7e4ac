//! Configurations as text: `conf::parse_text`.
//!
//! Checks that every span lies in its text and that diagnostics are harmless to a terminal, and compares a text without
//! faults with the tree that is written anew. An input may be several files, see [`crate::files`].

use crate::files::{MAIN, split};
use bstr::BStr;
use conf::{Body, Diagnostic, Directive, Parsed, SourceMap, Span};

/// nginx's limit on words, less the length that escapes may add.
const LONGEST: usize = 2000;

pub(crate) fn check(data: &[u8]) {
    let (main, files) = split(data);
    let parsed = conf::parse_text(MAIN, main.clone(), &files);
    look_at(&parsed);
    assert!(parsed.diagnostics.len() <= 201);
    if !parsed.has_errors() {
        written_anew(&parsed);
    }
    let option = conf::parse_option(main, std::path::Path::new("/c"), &files);
    look_at(&option);
    assert!(
        option.has_errors() || option.tree.directives.iter().all(|directive| directive.children().is_empty())
    );
}

/// Checks that spans lie in the text, and diagnostics can be shown.
pub(crate) fn look_at(parsed: &Parsed) {
    directives(&parsed.tree.directives, parsed);
    show(&parsed.diagnostics, &parsed.sources);
}

/// Shows diagnostics in every form.
pub(crate) fn show(diagnostics: &[Diagnostic], sources: &SourceMap) {
    for diagnostic in diagnostics {
        let places = diagnostic.span.iter().chain(diagnostic.also.iter().map(|(span, _)| span));
        for span in places {
            text_of(*span, sources);
        }
        let shown = diagnostic.render(sources, false);
        let harmless = |c: char| !c.is_control() || c == '\n';
        assert!(shown.ends_with('\n') && shown.chars().all(harmless), "{shown:?}");
        assert!(!diagnostic.render(sources, true).contains(['\0', '\r', '\x08', '\x7f']));
        assert!(!diagnostic.nginx_line(sources).is_empty());
        if let Some(span) = diagnostic.span {
            let (line, column) = sources.line_column(span);
            assert!(line >= 1 && column >= 1);
            assert!(!sources.line_text(span).contains(&b'\n'));
        }
    }
}

fn text_of(span: Span, sources: &SourceMap) -> &[u8] {
    assert!(sources.ids().any(|id| id == span.source), "{span:?} is in no text");
    let text = sources.text(span.source);
    text.get(span.start as usize..span.end as usize).unwrap_or_else(|| panic!("{span:?} is not in its text"))
}

fn directives(all: &[Directive], parsed: &Parsed) {
    let sources = &parsed.sources;
    for directive in all {
        text_of(directive.span, sources);
        text_of(directive.words_span(), sources);
        for word in std::iter::once(&directive.name).chain(&directive.args) {
            let text = text_of(word.span, sources);
            // With faults, the tree is that of the repaired text.
            if !parsed.has_errors() && !word.quoted && !text.contains(&b'\\') {
                assert_eq!(BStr::new(text), word.text());
            }
        }
        if let Body::Lua(lua) = &directive.body {
            assert_eq!(BStr::new(text_of(lua.span, sources)), BStr::new(&lua.code));
        }
        directives(directive.children(), parsed);
    }
}

/// The parts of a tree that are compared.
#[derive(Debug, PartialEq)]
enum Shape {
    Words(Vec<Vec<u8>>),
    Lua(Vec<u8>),
    Open,
    Close,
}

fn shape(all: &[Directive], out: &mut Vec<Shape>) {
    for directive in all {
        let words = std::iter::once(&directive.name).chain(&directive.args);
        out.push(Shape::Words(words.map(|word| word.text().to_vec()).collect()));
        match &directive.body {
            Body::None => {}
            Body::Lua(lua) => out.push(Shape::Lua(lua.code.to_vec())),
            Body::Block(inner) => {
                out.push(Shape::Open);
                shape(inner, out);
                out.push(Shape::Close);
            }
        }
    }
}

fn written_anew(parsed: &Parsed) {
    let mut expected = Vec::new();
    shape(&parsed.tree.directives, &mut expected);
    let mut text = Vec::new();
    if !write(&parsed.tree.directives, &mut text) {
        return;
    }
    let (_, nothing) = split(b"");
    let again = conf::parse_text(MAIN, text.clone(), &nothing);
    let mut found = Vec::new();
    shape(&again.tree.directives, &mut found);
    assert!(!again.has_errors(), "{}", again.diagnostics[0].render(&again.sources, false));
    assert_eq!(found, expected, "{:?}", BStr::new(&text));
}

/// Writes directives; returns false if they cannot be written as one text.
fn write(all: &[Directive], out: &mut Vec<u8>) -> bool {
    for directive in all {
        let words = std::iter::once(&directive.name).chain(&directive.args);
        for word in words {
            // A remaining `include` would be followed.
            if word.text().len() > LONGEST || directive.name.text() == "include" {
                return false;
            }
            write_word(word.text(), out);
            out.push(b' ');
        }
        match &directive.body {
            Body::None => out.extend_from_slice(b";\n"),
            Body::Lua(lua) => {
                out.push(b'{');
                out.extend_from_slice(&lua.code);
                out.extend_from_slice(b"}\n");
            }
            Body::Block(inner) => {
                out.extend_from_slice(b"{\n");
                if !write(inner, out) {
                    return false;
                }
                out.extend_from_slice(b"}\n");
            }
        }
    }
    true
}

fn write_word(word: &[u8], out: &mut Vec<u8>) {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:,=*+@~^|()[]".contains(byte);
    if !word.is_empty() && word.iter().all(plain) {
        out.extend_from_slice(word);
        return;
    }
    out.push(b'"');
    for byte in word {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}
