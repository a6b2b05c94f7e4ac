//! No text may crash the parser, hang it, or make it say endlessly much.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use pointsman_conf::{Body, Loader, parse, parse_option, parse_text};
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
fn includes_without_end_come_to_an_end() {
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
fn long_lines_are_no_trouble() {
    for (piece, end) in
        [("a{}", ""), ("a b;", ""), ("a{a{}}", "x{"), ("}", ""), ("a_by_lua_block{}", "x_by_lua_block{{")]
    {
        let text = piece.repeat(300_000) + end + &"}".repeat(300_000);
        parse_text("/c/n", text, &Nothing);
    }
}

#[test]
fn so_are_the_diagnostics() {
    let parsed = parse_text("/c/n", "; ".repeat(100_000), &Tangle);
    assert_eq!(parsed.diagnostics.len(), 201);
    let last = parsed.diagnostics.last().unwrap();
    assert_eq!(last.nginx_line(&parsed.sources), "more than 200 faults, stopped reading");
}

#[test]
fn the_option_has_no_blocks_and_its_own_words() {
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
fn spans_lead_back_to_the_text() {
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

/// Where a brace is missing at the end of a text, no place lies behind it.
#[test]
fn no_place_lies_behind_the_text() {
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

/// Small changes of a right text, and shreds of it in any order, with bytes that are no text.
#[test]
fn no_text_crashes_it() {
    let mut seed = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % below
    };
    let bytes = b"{}\"'\\;#$ \n\t[]=-/:\0\xff\xe4a1";
    for _ in 0..4000 {
        let mut text = BASE.as_bytes().to_vec();
        for _ in 0..1 + random(6) {
            let at = random(text.len());
            match random(4) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, bytes[random(bytes.len())]),
                2 => text[at] = bytes[random(bytes.len())],
                _ => {
                    let end = at + random(text.len() - at);
                    let shred: Vec<u8> = text.drain(at..end).collect();
                    let to = random(text.len() + 1);
                    text.splice(to..to, shred);
                }
            }
            if text.is_empty() {
                text.push(b'{');
            }
        }
        let shown = String::from_utf8_lossy(&text).into_owned();
        let parsed = parse_text("/c/nginx.conf", text, &Nothing);
        for diagnostic in &parsed.diagnostics {
            let picture = diagnostic.render(&parsed.sources, true);
            assert!(!picture.contains('\0'), "{shown}");
            diagnostic.nginx_line(&parsed.sources);
        }
    }
}
