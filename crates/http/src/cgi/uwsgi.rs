//! A request of uWSGI's protocol: four bytes of header, and parameters behind their lengths.
//!
//! Source: <https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html>.

use super::TooLarge;

/// Length of a packet's header.
const HEADER_BYTES: usize = 4;

/// Appends a packet's header with these modifiers, whose length [`end`] fills in.
pub fn begin(modifiers: [u8; 2], out: &mut Vec<u8>) {
    out.extend_from_slice(&[modifiers[0], 0, 0, modifiers[1]]);
}

/// Appends one parameter. What is too long for a length is too large for the packet, which [`end`] says.
pub fn append_param(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for text in [name, value] {
        out.extend_from_slice(&(text.len() as u16).to_le_bytes());
        out.extend_from_slice(text);
    }
}

/// Fills in the length of the packet that begins at `start`.
///
/// # Errors
/// It is longer than its header can say.
pub fn end(start: usize, out: &mut [u8]) -> Result<(), TooLarge> {
    let len = out.len() - start - HEADER_BYTES;
    let [low, high] = u16::try_from(len).map_err(|_| TooLarge(len))?.to_le_bytes();
    (out[start + 1], out[start + 2]) = (low, high);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_says_how_long_the_parameters_are() {
        let mut out = b"-".to_vec();
        begin([5, 6], &mut out);
        append_param(b"A", &[b'x'; 300], &mut out);
        end(1, &mut out).unwrap();
        assert_eq!(out[..10], *b"-\x05\x31\x01\x06\x01\0A\x2c\x01");
        assert_eq!(out.len(), 1 + 4 + 305);
        begin([0, 0], &mut out);
        append_param(b"A", &[b'x'; 70_000], &mut out);
        assert_eq!(end(310, &mut out), Err(TooLarge(70_005)));
    }
}
