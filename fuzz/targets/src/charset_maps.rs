//! `charset_map` and bodies converted by it: `engine::modules::charset`.
//!
//! The first part of the input, up to a zero byte, is the map's text; the rest is a body. It comes out the same in whatever
//! pieces it comes in, as a second reading of the map and of UTF-8 has it, and what goes there and back is what it was.

use crate::dice::{Dice, cuts};
use engine::modules::charset::{CharsetMap, Recoder};
use std::collections::BTreeMap;

pub(crate) fn check(data: &[u8]) {
    let mut dice = Dice::of(data);
    let (text, body) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, data),
    };
    let words: Vec<&[u8]> = text
        .split(|byte| byte.is_ascii_whitespace() || *byte == b';')
        .filter(|word| !word.is_empty())
        .collect();
    let pairs: Vec<[&[u8]; 2]> = words.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
    for to in [&b"utf-8"[..], b"x"] {
        let map = match CharsetMap::read([b"a", to], pairs.iter().copied()) {
            Ok(map) => map,
            Err(fault) => {
                assert!(fault.line < pairs.len() && fault.word < 2);
                continue;
            }
        };
        for (way, conversion) in map.conversions.iter().enumerate() {
            let run = |ends: &[usize], enough: usize| {
                let (mut recoder, mut all, mut start) = (Recoder::new(conversion.clone()), Vec::new(), 0);
                for end in ends {
                    let mut piece = &body[start..*end];
                    start = *end;
                    loop {
                        let mut out = Vec::new();
                        let is_dry = recoder.run(&mut piece, &mut out, enough);
                        assert!(out.len() < enough + 16, "{} bytes at once", out.len());
                        all.extend_from_slice(&out);
                        if is_dry {
                            break;
                        }
                    }
                }
                all
            };
            let whole = run(&[body.len()], usize::MAX >> 1);
            for ends in cuts(body) {
                assert!(run(&ends, 1 + dice.below(100)) == whole, "cut at {ends:?}");
            }
            let again = if to == b"x" { by_bytes(&pairs, way, body) } else { with_utf8(&pairs, way, body) };
            assert!(whole == again, "another reading");
        }
    }
}

fn hexadecimal(text: &[u8]) -> Vec<u8> {
    let digits = std::str::from_utf8(text).unwrap();
    let digits = if !digits.len().is_multiple_of(2) { format!("0{digits}") } else { digits.to_owned() };
    let all: Vec<u8> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
    all
}

fn last_byte(text: &[u8]) -> u8 {
    *hexadecimal(text).last().unwrap()
}

fn by_bytes(pairs: &[[&[u8]; 2]], way: usize, body: &[u8]) -> Vec<u8> {
    let mut table: BTreeMap<u8, u8> = (0..128).map(|byte| (byte, byte)).collect();
    for pair in pairs {
        table.insert(last_byte(pair[way]), last_byte(pair[1 - way]));
    }
    body.iter().map(|byte| table.get(byte).copied().unwrap_or(b'?')).collect()
}

fn with_utf8(pairs: &[[&[u8]; 2]], way: usize, body: &[u8]) -> Vec<u8> {
    if way == 0 {
        let mut table: BTreeMap<u8, Vec<u8>> = (0..128).map(|byte| (byte, vec![byte])).collect();
        for pair in pairs {
            table.insert(last_byte(pair[0]), hexadecimal(pair[1]));
        }
        return body.iter().flat_map(|byte| table.get(byte).cloned().unwrap_or(vec![b'?'])).collect();
    }
    let mut table: BTreeMap<u32, u8> = (0..128).map(|byte| (u32::from(byte), byte)).collect();
    for pair in pairs {
        let bytes = hexadecimal(pair[1]);
        table.insert(number(&bytes), last_byte(pair[0]));
    }
    let (mut out, mut rest) = (Vec::new(), body);
    while let Some(first) = rest.first() {
        let len = match first {
            0..0x80 => 1,
            0xc2..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..0xf8 => 4,
            _ => {
                out.push(b'?');
                rest = &rest[1..];
                continue;
            }
        };
        if rest.len() < len {
            // More of it was to come.
            break;
        }
        let bad = rest[1..len].iter().position(|byte| *byte < 0x80);
        let taken = bad.map_or(len, |at| at + 2);
        let character = number(&rest[..len]);
        let least = [0, 0, 0x80, 0x800, 0x1_0000][len];
        match table.get(&character) {
            _ if bad.is_some() || character < least || character > 0x10_ffff => out.push(b'?'),
            Some(byte) if *byte != 0 => out.push(*byte),
            _ => out.extend_from_slice(format!("&#{character};").as_bytes()),
        }
        rest = &rest[taken..];
    }
    out
}

/// Returns what bytes stand for, if they are one character.
fn number(bytes: &[u8]) -> u32 {
    let bits = [0x7f, 0x7f, 0x1f, 0x0f, 0x07][bytes.len().min(4)];
    bytes[1..].iter().fold(u32::from(bytes[0] & bits), |number, byte| number << 6 | u32::from(byte & 0x3f))
}
