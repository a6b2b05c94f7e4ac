//! What `gunzip` reads of upstreams: `engine::output::Decoder`.
//!
//! The same bytes in other pieces and with less room give the same text or the same fault, the text is never more than the room
//! at a time, and it is what flate2's own reader makes of them. What our compressors make of any bytes comes back.

use crate::dice::{Dice, cuts};
use engine::output::{DecodeError, Decoder};
use std::io::{Read, Write};

/// A few bytes may become a thousand times as many: no more than this is looked at.
const MOST: usize = 1 << 20;

pub(crate) fn check(data: &[u8]) {
    let mut dice = Dice::of(data);
    let whole = decoded(data, &[data.len()], 64 << 10);
    for ends in cuts(data) {
        let enough = 1 + dice.below(5000);
        let (in_pieces, fault) = decoded(data, &ends, enough);
        assert_eq!(fault, whole.1, "cut at {ends:?}, {enough} at a time");
        assert!(in_pieces == whole.0, "cut at {ends:?}, {enough} at a time");
    }
    second_reading(data, &whole);
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(dice.below(10) as u32));
    encoder.write_all(data).unwrap();
    let bytes = encoder.finish().unwrap();
    assert!(decoded(&bytes, &[bytes.len()], 1000) == (data[..data.len().min(MOST)].to_vec(), None));
    if bytes.len() > 1 {
        let cut = 1 + dice.below(bytes.len() - 1);
        assert_eq!(decoded(&bytes[..cut], &[cut], 1000).1, Some(DecodeError::Truncated), "cut after {cut}");
    }
}

/// Reads pieces up to each end. Returns the text, and the fault at its end.
fn decoded(data: &[u8], ends: &[usize], enough: usize) -> (Vec<u8>, Option<DecodeError>) {
    let (mut decoder, mut all, mut start) = (Decoder::default(), Vec::new(), 0);
    for end in ends.iter().copied() {
        let mut piece = &data[start..end];
        start = end;
        loop {
            let mut out = Vec::new();
            let step = decoder.run(&mut piece, end == data.len(), &mut out, enough);
            assert!(out.len() <= enough.max(1024) * 2, "{} bytes at once", out.len());
            all.extend_from_slice(&out);
            if all.len() > MOST {
                all.truncate(MOST);
                return (all, None);
            }
            match step {
                Ok(true) => break,
                Ok(false) => {}
                Err(fault) => return (all, Some(fault)),
            }
        }
        assert!(piece.is_empty());
    }
    (all, None)
}

/// flate2's reader of several members takes what we take, and to the same text.
fn second_reading(data: &[u8], (text, fault): &(Vec<u8>, Option<DecodeError>)) {
    if fault.is_some() || data.is_empty() || text.len() >= MOST {
        return;
    }
    let mut again = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(data).take(MOST as u64).read_to_end(&mut again);
    assert!(read.is_err() || again == *text, "another text");
}
