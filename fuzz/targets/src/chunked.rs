//! The chunked coding: `http::ChunkedDecoder`.
//!
//! Compares one decoding with the same bytes in other pieces, with a second reading of RFC 9112 §7.1, with httparse's
//! reading of sizes, and any bytes with themselves, encoded and decoded.

use crate::dice::{Dice, cuts};
use bstr::BStr;
use http::chunked::LAST_CHUNK;
use http::{ChunkError, ChunkLimits, ChunkedDecoder, chunk_size_line};

/// The result of a body: its bytes, its length in the input if it is complete, or why it is refused.
#[derive(Debug, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) data: Vec<u8>,
    pub(crate) end: Option<usize>,
    pub(crate) fault: Option<ChunkError>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Decodes in pieces that end at `ends`. With `bypass`, data bytes bypass the decoder where it allows that.
pub(crate) fn decode(input: &[u8], ends: &[usize], limits: ChunkLimits, bypass: bool) -> Decoded {
    let mut decoder = ChunkedDecoder::new(limits);
    let mut all = Decoded { data: Vec::new(), end: None, fault: None, trailers: Vec::new() };
    let mut at = 0;
    for &end in ends {
        while at < end && !decoder.is_done() {
            let left = usize::try_from(decoder.chunk_left()).unwrap_or(usize::MAX).min(end - at);
            if bypass && left > 0 {
                all.data.extend_from_slice(&input[at..at + left]);
                decoder.skip(left as u64);
                at += left;
                continue;
            }
            match decoder.decode(&input[at..end]) {
                Ok(step) => {
                    assert!(step.consumed > 0 && step.data.end <= step.consumed, "it goes on");
                    assert_eq!(step.done, decoder.is_done());
                    all.data.extend_from_slice(&input[at..][step.data]);
                    at += step.consumed;
                }
                Err(fault) => {
                    all.fault = Some(fault);
                    return all;
                }
            }
        }
    }
    assert_eq!(decoder.data_bytes(), all.data.len() as u64);
    if decoder.is_done() {
        all.end = Some(at);
        all.trailers =
            decoder.trailers().iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect();
    }
    all
}

pub(crate) fn check(data: &[u8]) {
    let kept = ChunkLimits { keep_trailers: true, ..ChunkLimits::default() };
    let tight = ChunkLimits { max_extension_bytes: 8, max_trailer_bytes: 24, keep_trailers: true };
    for limits in [ChunkLimits::default(), kept, tight] {
        let told = decode(data, &[data.len()], limits, false);
        for ends in cuts(data) {
            assert_eq!(told, decode(data, &ends, limits, false), "in pieces that end at {ends:?}");
            assert_eq!(
                told,
                decode(data, &ends, limits, true),
                "past the decoder, in pieces that end at {ends:?}"
            );
        }
        for (name, value) in &told.trailers {
            assert!(!name.iter().chain(value).any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            let name = name.to_ascii_lowercase();
            let framing = [&b"content-length"[..], b"transfer-encoding", b"host", b"connection", b"trailer"];
            assert!(!framing.contains(&&*name), "{:?}", BStr::new(&name));
        }
        beside_rfc(data, &told);
    }
    beside_httparse(data);
    there_and_back(data);
}

/// The result of a second reading of an input.
pub(crate) enum Reading {
    /// The body, and its end.
    Whole(Vec<u8>, usize),
    /// The input ends before the body.
    Short,
    Wrong,
    /// A trailer line is not a field: a reader that ignores trailers may accept it.
    OddTrailer,
}

/// Reads a chunked body line by line.
pub(crate) fn read(input: &[u8]) -> Reading {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let line = match line(&input[at..]) {
            Ok(line) => line,
            Err(other) => return other,
        };
        let Some(size) = size(line) else { return Reading::Wrong };
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let rest = &input[at..];
        if (rest.len() as u128) < size {
            return Reading::Short;
        }
        let (chunk, rest) = rest.split_at(size as usize);
        data.extend_from_slice(chunk);
        match rest {
            [b'\r', b'\n', ..] => at += chunk.len() + 2,
            [] | [b'\r'] => return Reading::Short,
            _ => return Reading::Wrong,
        }
    }
    loop {
        match line(&input[at..]) {
            Ok([]) => return Reading::Whole(data, at + 2),
            Ok(line) if !is_field(line) => return Reading::OddTrailer,
            Ok(line) => at += line.len() + 2,
            Err(other) => return other,
        }
    }
}

/// Returns the size in a line that may have blanks and extensions behind it; `None` if it is wrong or above 2^63.
fn size(line: &[u8]) -> Option<u128> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, rest) = line.split_at(digits);
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match &rest[blanks..] {
        [] => {}
        [b';', extension @ ..] if !extension.iter().any(|byte| *byte != b'\t' && byte.is_ascii_control()) => {
        }
        _ => return None,
    }
    let number = std::str::from_utf8(number).ok().filter(|number| number.len() <= 32)?;
    u128::from_str_radix(number, 16).ok().filter(|size| *size <= i64::MAX as u128)
}

fn is_field(line: &[u8]) -> bool {
    let name = line
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(byte))
        .count();
    name > 0 && line.get(name) == Some(&b':') && !line.contains(&0)
}

/// Returns the bytes before CRLF. A lone CR or LF is wrong.
fn line(input: &[u8]) -> Result<&[u8], Reading> {
    match input.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        None => Err(Reading::Short),
        Some(at) if input[at] == b'\n' => Err(Reading::Wrong),
        Some(at) => match input.get(at + 1) {
            None => Err(Reading::Short),
            Some(b'\n') => Ok(&input[..at]),
            Some(_) => Err(Reading::Wrong),
        },
    }
}

fn beside_rfc(data: &[u8], told: &Decoded) {
    match (read(data), told.end, told.fault) {
        // Only ours has limits.
        (_, _, Some(ChunkError::TooManyExtensions | ChunkError::TrailersTooLarge)) => {}
        (Reading::Whole(body, end), Some(ours), None) => {
            assert_eq!((BStr::new(&body), end), (BStr::new(&told.data), ours));
        }
        (Reading::Wrong, None, _) | (Reading::OddTrailer, _, _) => {}
        // Faults are noticed before the end of their line.
        (Reading::Short, None, _) => {}
        (reading, end, fault) => {
            let name = match reading {
                Reading::Whole(_, end) => format!("whole, to {end}"),
                Reading::Short => "short".to_owned(),
                Reading::Wrong | Reading::OddTrailer => "wrong".to_owned(),
            };
            panic!("read: {name}; decoded: {end:?} {fault:?}");
        }
    }
}

/// The first size line, as httparse reads it.
fn beside_httparse(data: &[u8]) {
    let Ok(httparse::Status::Complete((end, size))) = httparse::parse_chunk_size(data) else { return };
    let mut decoder = ChunkedDecoder::new(ChunkLimits::default());
    let line = decoder.decode(&data[..end]);
    if line.is_ok() && size > 0 {
        assert_eq!(decoder.chunk_left(), size, "{:?}", BStr::new(&data[..end]));
    }
}

/// Encodes any bytes in chunks.
fn there_and_back(data: &[u8]) {
    let mut dice = Dice::of(data);
    let mut coded = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(1 + dice.below(rest.len()));
        coded.extend_from_slice(chunk_size_line(chunk.len() as u64, &mut [0; 18]));
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
        rest = after;
    }
    coded.extend_from_slice(LAST_CHUNK);
    let end = coded.len();
    coded.extend_from_slice(b"GET /");
    for ends in cuts(&coded) {
        let told = decode(&coded, &ends, ChunkLimits::default(), false);
        assert_eq!((told.end, BStr::new(&told.data)), (Some(end), BStr::new(data)));
    }
}
