//! Pieces of a body, as they go to the client: cut to the range that it asked for, and put together with the framing.

use std::ops::Range;

/// Up to so many bytes are cheaper to copy behind the head than to send from where they are.
const COPIED_BYTES: usize = 2 << 10;

/// Returns the part of a piece that the client gets: the piece begins at `position` in the body.
pub(super) fn wanted(piece: &Range<usize>, position: u64, range: Option<&Range<u64>>) -> Range<usize> {
    let Some(range) = range else { return piece.clone() };
    let offset =
        |at: u64| usize::try_from(at.saturating_sub(position)).unwrap_or(usize::MAX).min(piece.len());
    piece.start + offset(range.start)..piece.start + offset(range.end)
}

/// Returns the parts to send: the wire buffer with `data` in it, in one piece if `data` is small.
pub(super) fn gather<'w>(wire: &'w mut Vec<u8>, before: usize, data: &'w [u8]) -> [&'w [u8]; 3] {
    if data.len() > COPIED_BYTES || wire.is_empty() {
        return [&wire[..before], data, &wire[before..]];
    }
    if before == wire.len() {
        wire.extend_from_slice(data);
    } else {
        wire.splice(before..before, data.iter().copied());
    }
    [wire, b"", b""]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_out_of_the_pieces() {
        let body = b"0123456789";
        let mut got = Vec::new();
        for (n, piece) in body.chunks(4).enumerate() {
            let at = wanted(&(0..piece.len()), n as u64 * 4, Some(&(3..7)));
            got.extend_from_slice(&piece[at]);
        }
        assert_eq!(got, b"3456");
        assert_eq!(wanted(&(5..9), 4, Some(&(6..100))), 7..9);
        assert_eq!(wanted(&(5..9), 0, None), 5..9);
    }
}
