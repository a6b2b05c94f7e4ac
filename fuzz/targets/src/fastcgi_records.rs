//! FastCGI's records: `http::cgi::fastcgi`.
//!
//! Compares what is read of a server's bytes with the same bytes in other pieces, and with a second reading that takes whole
//! records; bytes that are given back come again.

use crate::dice::{Dice, cuts};
use http::cgi::fastcgi::{HEADER_BYTES, Received, RecordFault, RecordReader};

/// What a reading comes to: output, complaints, how often the output ended, how often a request did, and the bytes used.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    closed: usize,
    ended: usize,
    fault: Option<RecordFault>,
}

pub(crate) fn check(data: &[u8]) {
    let mut dice = Dice::of(data);
    let expected = by_records(data);
    for ends in cuts(data) {
        assert_eq!(in_pieces(data, &ends, &mut dice), expected, "cut at {ends:?}");
    }
}

/// Reads the bytes as they come, up to each end, and gives some back now and then.
fn in_pieces(data: &[u8], ends: &[usize], dice: &mut Dice) -> Seen {
    let (mut reader, mut seen, mut used) = (RecordReader::default(), Seen::default(), 0);
    for end in ends.iter().copied().chain([data.len()]) {
        loop {
            let step = match reader.next(&data[used..end]) {
                Ok(step) => step,
                Err(fault) => {
                    assert!(
                        fault.words().starts_with("upstream sent un") || fault.words().contains("invalid")
                    );
                    seen.fault = Some(fault);
                    return seen;
                }
            };
            assert!(step.consumed <= end - used);
            let input = &data[used..];
            used += step.consumed;
            match step.received {
                Received::Partial => {
                    assert_eq!(used, end, "everything that is there is used");
                    break;
                }
                Received::Stdout(range) => {
                    assert!(!range.is_empty() && range.end == step.consumed);
                    let back = dice.below(range.len());
                    reader.give_back(back);
                    used -= back;
                    seen.stdout.extend_from_slice(&input[range.start..range.end - back]);
                }
                Received::Stderr(range) => {
                    assert!(!range.is_empty());
                    seen.stderr.extend_from_slice(&input[range]);
                }
                Received::StdoutEnd => seen.closed += 1,
                Received::EndRequest => {
                    assert!(reader.is_between());
                    seen.ended += 1;
                }
            }
        }
    }
    seen
}

/// Returns a second reading, of headers that are whole.
fn by_records(data: &[u8]) -> Seen {
    let (mut seen, mut rest) = (Seen::default(), data);
    while !rest.is_empty() {
        let fault = rest.iter().take(4).enumerate().find_map(|(at, byte)| match (at, *byte) {
            (0, 1) | (1, 3 | 6 | 7) | (2, 0) | (3, 1) => None,
            (0, byte) => Some(RecordFault::Version(byte)),
            (1, byte) => Some(RecordFault::Kind(byte)),
            (2, byte) => Some(RecordFault::IdHigh(byte)),
            (_, byte) => Some(RecordFault::IdLow(byte)),
        });
        if fault.is_some() {
            seen.fault = fault;
            return seen;
        }
        let Some((header, behind)) = rest.split_at_checked(HEADER_BYTES) else { break };
        let length = usize::from(header[4]) << 8 | usize::from(header[5]);
        let content = &behind[..length.min(behind.len())];
        match header[1] {
            6 => seen.stdout.extend_from_slice(content),
            7 => seen.stderr.extend_from_slice(content),
            _ => {}
        }
        seen.closed += usize::from(header[1] == 6 && length == 0);
        let whole = length + usize::from(header[6]);
        seen.ended += usize::from(header[1] == 3 && behind.len() >= whole);
        rest = behind.get(whole..).unwrap_or_default();
    }
    seen
}
