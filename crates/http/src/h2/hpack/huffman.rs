//! Huffman's code for the strings of HPACK (RFC 7541 §5.2, appendix B).
//!
//! The code is canonical: the lengths of the codes determine the codes, so that only these are written down here.

/// The lengths of the codes in bits, of each byte and of EOS.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const SYMBOLS: usize = 257;
const EOS: usize = 256;
const MAX_BITS: u8 = 30;

/// The codes, each in the lowest bits.
static CODES: [u32; SYMBOLS] = codes();

const fn codes() -> [u32; SYMBOLS] {
    let mut codes = [0; SYMBOLS];
    let mut code = 0;
    let mut bits = 1;
    while bits <= MAX_BITS {
        code <<= 1;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] == bits {
                codes[symbol] = code;
                code += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    codes
}

/// A step of the decoder: four bits further from one node of the code's tree.
#[derive(Clone, Copy)]
struct Transition {
    /// The node that is reached.
    node: u8,
    /// The byte that was completed on the way.
    byte: u8,
    kind: u8,
}

/// A byte was completed.
const COMPLETES: u8 = 1;
/// The bits since the last byte are the beginning of EOS, and fewer than eight: what may pad the last byte.
const MAY_END: u8 = 2;
/// EOS was completed, which no string may hold.
const REFUSED: u8 = 4;

/// By node and the next four bits. The tree's inner nodes are numbered in the order in which the codes reach them.
static TRANSITIONS: [[Transition; 16]; 256] = transitions();

/// Returns the children of each inner node: below 256 another one, from 256 on a symbol.
const fn tree() -> [[u16; 2]; 256] {
    let codes = codes();
    let mut tree = [[u16::MAX; 2]; 256];
    let mut nodes = 1;
    let mut symbol = 0;
    while symbol < SYMBOLS {
        let mut node = 0;
        let mut left = LENGTHS[symbol];
        while left > 0 {
            left -= 1;
            let bit = (codes[symbol] >> left & 1) as usize;
            if left == 0 {
                tree[node][bit] = 256 + symbol as u16;
            } else {
                if tree[node][bit] == u16::MAX {
                    tree[node][bit] = nodes;
                    nodes += 1;
                }
                node = tree[node][bit] as usize;
            }
        }
        symbol += 1;
    }
    tree
}

const fn transitions() -> [[Transition; 16]; 256] {
    let tree = tree();
    let may_end = may_end(&tree);
    let mut table = [[Transition { node: 0, byte: 0, kind: REFUSED }; 16]; 256];
    let mut from = 0;
    while from < 256 {
        let mut bits = 0;
        while bits < 16 {
            let mut step = Transition { node: 0, byte: 0, kind: 0 };
            let mut node = from;
            let mut shift = 4;
            while shift > 0 {
                shift -= 1;
                let next = tree[node][bits >> shift & 1] as usize;
                if next == 256 + EOS {
                    step.kind |= REFUSED;
                    node = 0;
                } else if next >= 256 {
                    step.byte = (next - 256) as u8;
                    step.kind |= COMPLETES;
                    node = 0;
                } else {
                    node = next;
                }
            }
            step.node = node as u8;
            if may_end[node] {
                step.kind |= MAY_END;
            }
            table[from][bits] = step;
            bits += 1;
        }
        from += 1;
    }
    table
}

/// Returns which nodes are reached by at most seven bits of ones.
const fn may_end(tree: &[[u16; 2]; 256]) -> [bool; 256] {
    let mut may_end = [false; 256];
    let mut node = 0;
    let mut ones = 0;
    while ones <= 7 {
        may_end[node] = true;
        node = tree[node][1] as usize;
        ones += 1;
    }
    may_end
}

/// The string is no such code: it is padded with other bits than EOS begins with, or with more than seven, or holds EOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCode;

/// Appends what a string decodes to.
///
/// # Errors
/// The string is refused (RFC 7541 §5.2); some of it may have been appended.
pub fn decode(string: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidCode> {
    // The shortest code has five bits.
    out.reserve(string.len() * 8 / 5);
    let mut node = 0;
    let mut may_end = true;
    for byte in string {
        for bits in [byte >> 4, byte & 15] {
            let step = TRANSITIONS[node as usize][bits as usize];
            if step.kind & REFUSED != 0 {
                return Err(InvalidCode);
            }
            if step.kind & COMPLETES != 0 {
                out.push(step.byte);
            }
            node = step.node;
            may_end = step.kind & MAY_END != 0;
        }
    }
    if may_end { Ok(()) } else { Err(InvalidCode) }
}

/// Returns how many bytes a text takes when it is encoded.
pub fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Appends a text, encoded.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    let mut bits = 0u64;
    let mut count = 0;
    for byte in text {
        let len = u32::from(LENGTHS[usize::from(*byte)]);
        bits = bits << len | u64::from(CODES[usize::from(*byte)]);
        count += len;
        if count >= 32 {
            count -= 32;
            out.extend_from_slice(&((bits >> count) as u32).to_be_bytes());
        }
    }
    while count >= 8 {
        count -= 8;
        out.push((bits >> count) as u8);
    }
    if count > 0 {
        // EOS begins with ones.
        out.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_encoded_as_in_the_rfc() {
        // RFC 7541, appendices C.4 and C.6.
        for (text, encoded) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-key", "25a849e95ba97d7f"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            ("302", "6402"),
            ("private", "aec3771a4b"),
            ("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
            ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
            ("", ""),
        ] {
            let mut out = Vec::new();
            encode(text.as_bytes(), &mut out);
            let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, encoded, "{text}");
            assert_eq!(encoded_len(text.as_bytes()), out.len());
            let mut back = Vec::new();
            decode(&out, &mut back).unwrap();
            assert_eq!(back, text.as_bytes());
        }
    }

    #[test]
    fn each_byte_survives_at_each_place() {
        for byte in 0..=255u8 {
            for before in 0..8 {
                let mut text = vec![b'0'; before];
                text.extend_from_slice(&[byte, byte, b'a']);
                let (mut out, mut back) = (Vec::new(), Vec::new());
                encode(&text, &mut out);
                decode(&out, &mut back).unwrap();
                assert_eq!(back, text);
            }
        }
    }

    #[test]
    fn wrong_padding_and_eos_are_refused() {
        let refused = |string: &[u8]| decode(string, &mut Vec::new()).is_err();
        // "0" is 00000, padded with ones.
        assert!(!refused(&[0b0000_0111]));
        assert!(refused(&[0b0000_0110]), "not the beginning of EOS");
        assert!(refused(&[0b0000_0000]), "no padding at all: the beginning of another code");
        assert!(refused(&[0b0000_0111, 0xff]), "more than seven bits");
        assert!(refused(&[0xff]), "nothing but padding, of eight bits");
        assert!(refused(&[0xff, 0xff, 0xff, 0xff]), "EOS");
        assert!(refused(&[0xff, 0xff, 0xff, 0xfc, 0x07]), "EOS, then more");
    }
}
