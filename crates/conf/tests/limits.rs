//! No text crashes the parser, hangs it, or makes it report without end.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use pointsman_conf::{Body, Loader, parse, parse_option, parse_text};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use std::io;
use std::path::{Path, PathBuf};

/// Every file includes every other, and itself.
struct Tangle;

impl Loader for Tangle {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("tree.conf") => Ok(b"include 0*;".to_vec()),
            Some(name) if name.len() < 5 => Ok(format!("a {name}; include {name}*;").into_bytes()),
            Some(_) => Ok(b"include tree.conf; b; }".to_vec()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Ten files, each with a name one digit longer.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let stem = pattern.to_str().unwrap().trim_end_matches('*').to_owned();
        Ok((0..10).map(|digit| PathBuf::from(format!("{stem}{digit}"))).collect())
    }
}

/// Every file is empty.
struct Nothing;

impl Loader for Nothing {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

#[test]
fn circular_includes_end() {
    let parsed = parse(Path::new("/c/tree.conf"), &Tangle);
    assert!(parsed.has_errors());
    assert!(parsed.diagnostics.len() <= 201);
    let itself = parse_text("/c/tree.conf", "include tree.conf;", &Tangle);
    assert_eq!(itself.diagnostics.len(), 1);
    assert_eq!(itself.diagnostics[0].message, "file \"/c/tree.conf\" includes itself");
}

#[test]
fn depth_is_limited() {
    let parsed = parse_text("/c/n", "a { ".repeat(200_000), &Tangle);
    assert_eq!(parsed.diagnostics[0].message, "blocks are nested more than 100 deep");
    let right = "a { ".repeat(100) + &"}".repeat(100);
    assert!(!parse_text("/c/n", right, &Tangle).has_errors());
}

/// Work grows with the text and not with its square, also on a single line.
#[test]
fn a_long_line_is_read_in_linear_time() {
    for (piece, end) in
        [("a{}", ""), ("a b;", ""), ("a{a{}}", "x{"), ("}", ""), ("a_by_lua_block{}", "x_by_lua_block{{")]
    {
        let text = piece.repeat(300_000) + end + &"}".repeat(300_000);
        parse_text("/c/n", text, &Nothing);
    }
}

#[test]
fn diagnostics_are_limited() {
    let parsed = parse_text("/c/n", "; ".repeat(100_000), &Tangle);
    assert_eq!(parsed.diagnostics.len(), 201);
    let last = parsed.diagnostics.last().unwrap();
    assert_eq!(last.nginx_line(&parsed.sources), "more than 200 faults, stopped reading");
}

#[test]
fn the_option_has_no_blocks_and_its_own_messages() {
    let parsed = parse_option("daemon off; pid x", Path::new("/c"), &Tangle);
    assert_eq!(parsed.tree.directives.len(), 2);
    let line = parsed.diagnostics[0].nginx_line(&parsed.sources);
    assert_eq!(line, "unexpected end of parameter, expecting \";\" in command line");
    let parsed = parse_option("events { worker_connections 1; }", Path::new("/c"), &Tangle);
    let line = parsed.diagnostics[0].nginx_line(&parsed.sources);
    assert_eq!(line, "block directives are not supported in -g option in command line");
    assert_eq!(parsed.diagnostics.len(), 1);
    assert!(parse_option("", Path::new("/c"), &Tangle).diagnostics.is_empty());
}

#[test]
fn a_span_covers_the_text_of_its_word() {
    let text = "a 'b c' d;\ne {\n content_by_lua_block { x }\n}";
    let parsed = parse_text("/c/n", text, &Tangle);
    let [a, e] = &parsed.tree.directives[..] else { panic!("{parsed:?}") };
    let slice = |span: pointsman_conf::Span| &text[span.start as usize..span.end as usize];
    assert_eq!(slice(a.args[0].span), "'b c'");
    assert_eq!((slice(a.span), slice(a.words_span())), ("a 'b c' d;", "a 'b c' d"));
    assert_eq!(slice(e.span), "e {");
    let Body::Lua(lua) = &e.children()[0].body else { panic!("{parsed:?}") };
    assert_eq!((slice(lua.span), lua.line), (" x ", 3));
}

/// Where a brace is missing at the end of a text, no span reaches beyond it.
#[test]
fn no_span_reaches_beyond_the_text() {
    for text in ["events x", "http", "a { server"] {
        let parsed = parse_text("/c/n", text, &Nothing);
        let spans = parsed
            .diagnostics
            .iter()
            .flat_map(|fault| fault.span.iter().chain(fault.also.iter().map(|(span, _)| span)));
        assert!(
            spans.clone().count() > 0 && spans.into_iter().all(|span| span.end as usize <= text.len()),
            "{text}"
        );
    }
}

/// Some terminals obey U+009B as they do ESC and `[`.
#[test]
fn no_control_character_is_drawn() {
    for control in ['\u{1b}', '\u{7f}', '\u{82}', '\u{9b}'] {
        let text = format!("a {control}[31m b {{ \u{e4}{control} x }} }}");
        let parsed = parse_text(format!("/c/{control}n"), text, &Nothing);
        let drawn = parsed.diagnostics[0].render(&parsed.sources, false);
        assert!(!drawn.chars().any(|c| c.is_control() && c != '\n'), "{drawn:?}");
        assert!(drawn.contains("[31m"), "{drawn:?}");
    }
}

const BASE: &str = r#"
user nobody;
events { worker_connections 64; }
http {
    include mime.types;
    log_format main '$remote_addr "$request"' "a\"b";
    map $host $pool { default a; "x y" b; }
    server {
        listen 80;
        location ~ "^/a{2}" { proxy_pass http://$pool; } # it's
        location / { content_by_lua_block { t = { "}", [[ } ]] } -- }
        } }
    }
}
"#;

/// A small change of a text.
#[derive(Clone, Debug)]
enum Edit {
    Remove(Index),
    Insert(Index, u8),
    Replace(Index, u8),
    Move { from: Index, len: Index, to: Index },
}

impl Edit {
    fn apply(&self, text: &mut Vec<u8>) {
        match self {
            Edit::Remove(at) => drop(text.remove(at.index(text.len()))),
            Edit::Insert(at, byte) => text.insert(at.index(text.len()), *byte),
            Edit::Replace(at, byte) => *at.get_mut(text) = *byte,
            Edit::Move { from, len, to } => {
                let from = from.index(text.len());
                let end = from + len.index(text.len() - from);
                let part: Vec<u8> = text.drain(from..end).collect();
                let to = to.index(text.len() + 1);
                text.splice(to..to, part);
            }
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let byte = || select(&b"{}\"'\\;#$ \n\t[]=-/:\0\xff\xe4a1"[..]);
    prop_oneof![
        at().prop_map(Edit::Remove),
        (at(), byte()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        (at(), byte()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (at(), at(), at()).prop_map(|(from, len, to)| Edit::Move { from, len, to }),
    ]
}

proptest! {
    // The same texts in every run.
    #![proptest_config(ProptestConfig { cases: 4000, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Default::default() })]

    /// Small changes of a right text, and parts of it in any order, with bytes that are no text.
    #[test]
    fn no_text_crashes_the_parser(edits in vec(edit(), 1..=6)) {
        let mut text = BASE.as_bytes().to_vec();
        edits.iter().for_each(|edit| edit.apply(&mut text));
        let parsed = parse_text("/c/nginx.conf", text, &Nothing);
        for diagnostic in &parsed.diagnostics {
            prop_assert!(!diagnostic.render(&parsed.sources, true).contains('\0'));
            diagnostic.nginx_line(&parsed.sources);
        }
    }
}

/// What is at a path is no file, or too large.
struct Refusing(i32);

impl Loader for Refusing {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.ends_with("nginx.conf") {
            true => Ok(b"include other.conf;".to_vec()),
            false => Err(io::Error::from_raw_os_error(self.0)),
        }
    }

    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

#[test]
fn an_include_that_is_refused_says_why() {
    for (error, why) in [(95, "it is a FIFO, a socket or a device"), (27, "a file may have 64 MiB")] {
        let parsed = parse(Path::new("/etc/nginx.conf"), &Refusing(error));
        let [fault] = &parsed.diagnostics[..] else { panic!("{:?}", parsed.diagnostics) };
        let shown = fault.render(&parsed.sources, false);
        assert!(shown.contains(why) && shown.contains(&format!("({error}: ")), "{shown}");
    }
}
