//! The end of a block of Lua: `conf`'s reading of `*_by_lua_block`.
//!
//! Compares it with a second reading of ngx_lua's rules, byte by byte. The input is the code, with or without its closing
//! brace.

use crate::files::{MAIN, split};
use bstr::BStr;
use conf::{Body, Directive};

const HEAD: &[u8] = b"http {\n server {\n  location / {\n   content_by_lua_block {";
const TAIL: &[u8] = b"}\n  }\n }\n}\n";

pub(crate) fn check(data: &[u8]) {
    let text = [HEAD, data, TAIL].concat();
    let (_, nothing) = split(b"");
    let parsed = conf::parse_text(MAIN, text.clone(), &nothing);
    crate::config_text::look_at(&parsed);
    let end = end_of_block(&text, HEAD.len());
    let Some(end) = end else {
        assert!(parsed.has_errors(), "a block without an end");
        return;
    };
    if &text[end..] == TAIL {
        assert!(!parsed.has_errors(), "{}", parsed.diagnostics[0].render(&parsed.sources, false));
    }
    if !parsed.has_errors() {
        let mut blocks = Vec::new();
        lua_of(&parsed.tree.directives, &mut blocks);
        assert_eq!(BStr::new(&blocks[0]), BStr::new(&text[HEAD.len()..end]));
    }
}

fn lua_of(all: &[Directive], out: &mut Vec<Vec<u8>>) {
    for directive in all {
        if let Body::Lua(lua) = &directive.body {
            out.push(lua.code.to_vec());
        }
        lua_of(directive.children(), out);
    }
}

/// Returns the level of the long bracket that opens here: `[[` has 0, `[==[` has 2.
fn bracket(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(b"[")?;
    let level = rest.iter().take_while(|byte| **byte == b'=').count();
    (rest.get(level) == Some(&b'[')).then_some(level)
}

fn end_of_block(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 1;
    while at < text.len() {
        let rest = &text[at..];
        let comment = rest.starts_with(b"--");
        let opens = bracket(if comment { &rest[2..] } else { rest });
        if let Some(level) = opens {
            let closing = format!("]{}]", "=".repeat(level)).into_bytes();
            let from = at + if comment { 2 } else { 0 } + level + 2;
            let found = (from..text.len()).find(|place| text[*place..].starts_with(&closing))?;
            at = found + closing.len();
        } else if comment {
            at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        } else {
            match rest[0] {
                b'{' => depth += 1,
                b'}' if depth == 1 => return Some(at),
                b'}' => depth -= 1,
                quote @ (b'"' | b'\'') => at += string(rest, quote).unwrap_or(0),
                _ => {}
            }
            at += 1;
        }
    }
    None
}

/// Returns the distance to the quote that closes the string which begins here, if it closes on its line.
fn string(text: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        match (*text.get(at)?, text.get(at + 1)) {
            (b'\n', _) | (b'\\', None | Some(b'\n')) => return None,
            (b'\\', Some(_)) => at += 2,
            (byte, _) if byte == quote => return Some(at),
            _ => at += 1,
        }
    }
}
