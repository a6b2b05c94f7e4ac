//! Integers with a prefix (RFC 7541 §5.1).

use super::error::HpackError;

/// Reads an integer whose prefix is the lowest `bits` of the first byte; moves `at` behind it.
///
/// # Errors
/// The block ends within it, or it is larger than any length or index can be.
pub(super) fn read(block: &[u8], at: &mut usize, bits: u32) -> Result<usize, HpackError> {
    let mask = (1u8 << bits) - 1;
    let first = *block.get(*at).ok_or(HpackError::Truncated)? & mask;
    *at += 1;
    if first < mask {
        return Ok(usize::from(first));
    }
    let mut value = usize::from(mask);
    for shift in [0, 7, 14, 21] {
        let byte = *block.get(*at).ok_or(HpackError::Truncated)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(HpackError::HugeInteger)
}

/// Appends an integer; `pattern` has the bits before its prefix.
pub(super) fn write(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_the_rfc() {
        // RFC 7541, appendix C.1.
        for (bits, value, bytes) in
            [(5, 10, &b"\x0a"[..]), (5, 1337, b"\x1f\x9a\x0a"), (7, 127, b"\x7f\x00"), (8, 42, b"\x2a")]
        {
            let (bits, pattern) = if bits == 8 { (7, 0) } else { (bits, 0) };
            let mut out = Vec::new();
            write(&mut out, pattern, bits, value);
            assert_eq!(out, bytes);
            let mut at = 0;
            assert_eq!(read(&out, &mut at, bits), Ok(value));
            assert_eq!(at, out.len());
        }
    }

    #[test]
    fn integer_that_is_cut_or_huge_is_refused() {
        assert_eq!(read(b"", &mut 0, 7), Err(HpackError::Truncated));
        assert_eq!(read(b"\x7f\x80", &mut 0, 7), Err(HpackError::Truncated));
        assert_eq!(read(b"\x7f\x80\x80\x80\x80\x00", &mut 0, 7), Err(HpackError::HugeInteger));
        assert_eq!(read(b"\x7f\xff\xff\xff\x7f", &mut 0, 7), Ok(127 + (1 << 28) - 1));
        assert_eq!(read(b"\x7f\x80\x00", &mut 0, 7), Ok(127), "a longer form than needed is allowed");
    }
}
