//! Texts with variables: `engine::Template`.
//!
//! Compares the parts of a text with a second reading of nginx's rules, and the result with the values of its parts, one by
//! one. The first line is the text, the rest a request.

use crate::world::{World, config_of, exchange};
use bstr::{BStr, ByteSlice};
use engine::template::{Part, TemplateError};
use engine::variables::{self, VariableId};
use engine::{Config, Env, Template};

/// Returns a configuration that uses every variable, and defines some of each kind.
fn configuration() -> Config {
    let mut names: Vec<String> = variables::VARIABLES
        .iter()
        .flat_map(|table| table.iter())
        .map(|variable| variable.name.to_owned())
        .collect();
    for family in variables::FAMILIES.iter().flat_map(|table| table.iter()) {
        names.extend(["a", "host", "uid", "content_length"].map(|rest| format!("{}{rest}", family.prefix)));
    }
    names.extend(["mapped", "set_here", "circle", "part", "near", "live", "named"].map(str::to_owned));
    let all: String = names.iter().map(|name| format!("${{{name}}}")).collect();
    config_of(&format!(
        "events {{}} http {{
            upstream blue {{ server 127.0.0.1:1; }} upstream green {{ server 127.0.0.1:2; }}
            map $uri $mapped {{ default none; ~^/(?<named>[a-z]+) \"$named-$1\"; /a $args; }}
            map $circle $circle {{ default $circle; }}
            geo $near {{ default far; 203.0.113.0/24 near; }}
            split_clients $remote_addr $part {{ 50% one; * two; }}
            switch $host $live {{ default blue; targets blue green; state memory; }}
            log_format all escape=none '{all}';
            server {{ listen 80; server_name one.example ~^(?<sub>.+)\\.two\\.example$; set $set_here \"$uri?\";
                location / {{ return 200; }} }}
        }}"
    ))
}

thread_local! {
    static CONFIG: Config = configuration();
}

const REQUEST: &[u8] =
    b"GET /abc/%41?x=y HTTP/1.1\r\nHost: one.example:80\r\nCookie: uid=7; a=b\r\nX-A: 1\r\nX-A: 2\r\n\r\n";

pub(crate) fn check(data: &[u8]) {
    let (text, request) = data.split_once_str(b"\n").unwrap_or((data, b""));
    CONFIG.with(|config| with(config, text, request));
}

fn with(config: &Config, text: &[u8], request: &[u8]) {
    let mut asked = Vec::new();
    let count = config.variables.entries().len() as u32;
    let compiled = Template::compile(text, &mut |name| {
        asked.push(name.to_owned());
        let known = config.variables.find(&name.to_ascii_lowercase());
        known.unwrap_or(VariableId(name.len() as u32 % count))
    });
    let expected = read(text);
    let template = match (compiled, expected) {
        (Ok(template), Ok(pieces)) => {
            same_parts(&template, &pieces, &asked);
            template
        }
        (Err(TemplateError::InvalidName), Err(Wrong::Name))
        | (Err(TemplateError::Unclosed(_)), Err(Wrong::Bracket)) => return,
        (compiled, expected) => panic!("{compiled:?}, and it should be {expected:?}"),
    };
    let mut world = World::new();
    for request in [REQUEST, request] {
        let Some(mut exchange) = exchange(config, &mut world, request) else { continue };
        let mut env = Env { config, host: &mut world };
        // A map with a regular expression sets captures when it is first evaluated, which may be before it.
        template.value(&mut exchange, &mut env);
        let whole = template.value(&mut exchange, &mut env);
        let again = template.value(&mut exchange, &mut env);
        assert_eq!(BStr::new(&whole), BStr::new(&again), "once more");
        let mut parts = Vec::new();
        for part in template.parts() {
            match part {
                Part::Text(text) => parts.extend_from_slice(text),
                Part::Capture(number) => {
                    parts.extend_from_slice(exchange.captures.group(*number).unwrap_or_default())
                }
                Part::Variable(id) => {
                    let before = parts.len();
                    let found = variables::append(&mut exchange, &mut env, *id, &mut parts);
                    assert!(found || parts.len() == before, "a missing value is empty");
                }
            }
        }
        assert_eq!(BStr::new(&whole), BStr::new(&parts));
    }
}

#[derive(Debug)]
enum Piece {
    Text(Vec<u8>),
    Name(String),
    Capture(usize),
}

#[derive(Debug)]
enum Wrong {
    Name,
    Bracket,
}

/// Splits a text byte by byte.
fn read(text: &[u8]) -> Result<Vec<Piece>, Wrong> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if text[at] != b'$' {
            match pieces.last_mut() {
                Some(Piece::Text(known)) => known.push(text[at]),
                _ => pieces.push(Piece::Text(vec![text[at]])),
            }
            at += 1;
            continue;
        }
        at += 1;
        if let Some(digit @ b'1'..=b'9') = text.get(at) {
            pieces.push(Piece::Capture(usize::from(digit - b'0')));
            at += 1;
            continue;
        }
        let braced = text.get(at) == Some(&b'{');
        at += usize::from(braced);
        let start = at;
        while text.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            at += 1;
        }
        let name = text[start..at].to_str().unwrap();
        if braced {
            if text.get(at) != Some(&b'}') {
                return Err(Wrong::Bracket);
            }
            at += 1;
        }
        match name.as_bytes() {
            [] => return Err(Wrong::Name),
            [digit @ b'1'..=b'9'] if braced => pieces.push(Piece::Capture(usize::from(digit - b'0'))),
            _ => pieces.push(Piece::Name(name.to_owned())),
        }
    }
    Ok(pieces)
}

fn same_parts(template: &Template, pieces: &[Piece], asked: &[String]) {
    assert_eq!(template.parts().len(), pieces.len(), "{template:?} {pieces:?}");
    let mut asked = asked.iter();
    for (part, piece) in template.parts().iter().zip(pieces) {
        match (part, piece) {
            (Part::Text(ours), Piece::Text(theirs)) => assert_eq!(BStr::new(ours), BStr::new(theirs)),
            (Part::Capture(ours), Piece::Capture(theirs)) => assert_eq!(ours, theirs),
            (Part::Variable(_), Piece::Name(name)) => assert_eq!(asked.next(), Some(name)),
            (part, piece) => panic!("{part:?} {piece:?}"),
        }
    }
    let is_text = pieces.iter().all(|piece| matches!(piece, Piece::Text(_)));
    assert_eq!(template.constant().is_some(), is_text);
    assert_eq!(template.lone_variable().is_some(), matches!(pieces, [Piece::Name(_)]));
}
