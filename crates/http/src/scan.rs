//! Searches through text, eight bytes at a time.
//!
//! Owns the arithmetic on words of eight bytes: names and values of a head are short, and for short text this is
//! several times cheaper than a vectorised search, which has a call and its preparations to pay for. It knows bytes
//! alone, never what they mean.

const ONES: u64 = u64::from_le_bytes([0x01; 8]);
const HIGH: u64 = u64::from_le_bytes([0x80; 8]);

/// Eight bytes. Each test answers with the high bit of the first byte for which it holds set, and no bit below it;
/// bits above it say nothing, since a borrow may have come from there.
type Word = u64;

#[inline(always)]
fn below(word: Word, bound: u8) -> Word {
    word.wrapping_sub(ONES * bound as u64) & !word & HIGH
}

#[inline(always)]
fn equal(word: Word, byte: u8) -> Word {
    let difference = word ^ (ONES * byte as u64);
    difference.wrapping_sub(ONES) & !difference & HIGH
}

/// Returns the place of the first byte for which a test holds. Both tests are the same, of a word and of a byte.
#[inline(always)]
fn position(text: &[u8], in_word: impl Fn(Word) -> Word, is: impl Fn(u8) -> bool) -> Option<usize> {
    let mut rest = text;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let found = in_word(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(text.len() - rest.len() + found.trailing_zeros() as usize / 8);
        }
        rest = after;
    }
    match text.last_chunk::<8>() {
        // Some of these bytes were tested before.
        Some(word) if !rest.is_empty() => {
            let found = in_word(u64::from_le_bytes(*word));
            (found != 0).then(|| text.len() - 8 + found.trailing_zeros() as usize / 8)
        }
        _ => rest.iter().position(|byte| is(*byte)),
    }
}

/// Returns the place of the first colon.
#[inline]
pub(crate) fn colon(text: &[u8]) -> Option<usize> {
    position(text, |word| equal(word, b':'), |byte| byte == b':')
}

/// Returns the place of the first byte that may end a line or has no place in one: CR, LF, NUL, tab and the others
/// below 16.
#[inline]
pub fn control(text: &[u8]) -> Option<usize> {
    position(text, |word| below(word, 0x10), |byte| byte < 0x10)
}

/// Returns the place of the first byte that is not printable ASCII, or is a quote or a backslash: what nginx escapes in
/// its logs.
#[inline]
pub fn unquotable(text: &[u8]) -> Option<usize> {
    position(
        text,
        |word| {
            let beyond = (word | word.wrapping_add(ONES)) & HIGH;
            below(word, b' ') | equal(word, b'"') | equal(word, b'\\') | beyond
        },
        |byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\'),
    )
}

/// Returns the place of the first byte that JSON needs escaped.
#[inline]
pub fn no_json(text: &[u8]) -> Option<usize> {
    position(
        text,
        |word| below(word, b' ') | equal(word, b'"') | equal(word, b'\\'),
        |byte| matches!(byte, 0..=0x1f | b'"' | b'\\'),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns every byte, at every place of texts of some lengths, before, between and behind others.
    fn agrees(found: fn(&[u8]) -> Option<usize>, is: fn(u8) -> bool) {
        for len in [1, 3, 7, 8, 9, 15, 16, 17, 27] {
            for at in 0..len {
                for byte in 0..=255 {
                    for (before, behind) in [(b'a', b'a'), (b'~', 0), (b'/', b':'), (b'\x10', b'\xff')] {
                        let mut text = vec![before; len];
                        text[at + 1..].fill(behind);
                        text[at] = byte;
                        assert_eq!(found(&text), text.iter().position(|byte| is(*byte)), "{text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn word_tests_agree_with_byte_tests() {
        agrees(colon, |byte| byte == b':');
        agrees(control, |byte| byte < 16);
        agrees(no_json, |byte| byte < 32 || byte == b'"' || byte == b'\\');
        agrees(unquotable, |byte| !(b' '..=b'~').contains(&byte) || byte == b'"' || byte == b'\\');
    }
}
