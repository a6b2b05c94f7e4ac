//! A body on its way from one charset into another.

use super::map::{Conversion, Decoded, decode};
use std::io::Write;
use std::sync::Arc;

/// The most bytes of a character of which more are to come.
const MOST_PARTIAL: usize = 3;

/// Converts one body. It holds back at most the beginning of a character.
#[derive(Debug)]
pub struct Recoder {
    conversion: Arc<Conversion>,
    partial: [u8; MOST_PARTIAL],
    partial_len: usize,
}

impl Recoder {
    /// Creates one.
    pub fn new(conversion: Arc<Conversion>) -> Recoder {
        Recoder { conversion, partial: [0; MOST_PARTIAL], partial_len: 0 }
    }

    /// Converts from the front of `input` until there is none left or `out` holds `enough`. Returns true if there is none left:
    /// the beginning of a character is kept for the next time.
    pub fn run(&mut self, input: &mut &[u8], out: &mut Vec<u8>, enough: usize) -> bool {
        let conversion = Arc::clone(&self.conversion);
        match &*conversion {
            Conversion::Bytes(table) => {
                let (taken, rest) = input.split_at(input.len().min(enough));
                out.extend(taken.iter().map(|byte| table[usize::from(*byte)]));
                *input = rest;
            }
            Conversion::ToUtf8(table) => {
                while let Some((byte, rest)) = input.split_first()
                    && out.len() < enough
                {
                    out.extend_from_slice(table[usize::from(*byte)].bytes());
                    *input = rest;
                }
            }
            Conversion::FromUtf8(pages) => self.take_utf8(pages, input, out, enough),
        }
        input.is_empty()
    }

    fn take_utf8(
        &mut self,
        pages: &[Option<Box<[u8; 256]>>; 256],
        input: &mut &[u8],
        out: &mut Vec<u8>,
        enough: usize,
    ) {
        while out.len() < enough && !input.is_empty() {
            let kept = std::mem::take(&mut self.partial_len);
            let decoded = match kept {
                0 => decode(input),
                _ => {
                    let mut bytes = [0; MOST_PARTIAL + 1];
                    bytes[..kept].copy_from_slice(&self.partial[..kept]);
                    let more = input.len().min(bytes.len() - kept);
                    bytes[kept..kept + more].copy_from_slice(&input[..more]);
                    decode(&bytes[..kept + more])
                }
            };
            let (len, number) = match decoded {
                Decoded::Character(number, len) => (len, Some(number)),
                Decoded::Invalid(len) => (len, None),
                Decoded::Incomplete => {
                    let more = input.len().min(MOST_PARTIAL - kept);
                    self.partial[kept..kept + more].copy_from_slice(&input[..more]);
                    self.partial_len = kept + more;
                    *input = &input[more..];
                    continue;
                }
            };
            match len.checked_sub(kept) {
                Some(taken) => *input = &input[taken..],
                // What was kept was no beginning of a character after all; the rest of it is looked at again.
                None => {
                    self.partial.copy_within(len..kept, 0);
                    self.partial_len = kept - len;
                }
            }
            let known = number.and_then(|number| {
                let page = pages.get((number >> 8) as usize)?.as_ref()?;
                Some(page[(number & 0xff) as usize]).filter(|byte| *byte != 0)
            });
            match (known, number) {
                (Some(byte), _) => out.push(byte),
                // As nginx, whatever the type of the body is. Writing to a Vec cannot fail.
                (None, Some(number @ ..=0x10_ffff)) => drop(write!(out, "&#{number};")),
                (None, _) => out.push(b'?'),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::map::CharsetMap;
    use super::*;

    fn map() -> CharsetMap {
        let pairs = [["C0", "D18E"], ["80", "E282AC"]].map(|pair| pair.map(str::as_bytes));
        CharsetMap::read([b"koi8-r", b"utf-8"], pairs).unwrap()
    }

    fn recoded(conversion: &Arc<Conversion>, text: &[u8], piece: usize, enough: usize) -> Vec<u8> {
        let mut recoder = Recoder::new(Arc::clone(conversion));
        let mut all = Vec::new();
        for mut piece in text.chunks(piece) {
            loop {
                let mut out = Vec::new();
                let is_dry = recoder.run(&mut piece, &mut out, enough);
                assert!(out.len() < enough + 12);
                all.extend_from_slice(&out);
                if is_dry {
                    break;
                }
            }
        }
        all
    }

    #[test]
    fn bodies_are_converted_whatever_their_pieces() {
        let [to_utf8, from_utf8] = map().conversions;
        for (text, expected) in [
            ("a\u{44e}\u{20ac}b", &b"a\xc0\x80b"[..]),
            ("\u{44f}\u{1f600}", b"&#1103;&#128512;"),
            ("plain", b"plain"),
        ] {
            for (piece, enough) in [(1, 100), (2, 1), (3, 2), (100, 100)] {
                assert_eq!(recoded(&from_utf8, text.as_bytes(), piece, enough), expected, "{text} {piece}");
            }
        }
        let broken = b"\xe2a\xd1\x8e\x80\xf7\xbf\xbf\xbf\xe2\x82";
        for piece in 1..20 {
            assert_eq!(recoded(&from_utf8, broken, piece, 100), b"?\xc0??", "pieces of {piece}");
            assert_eq!(
                recoded(&from_utf8, b"\xf7\0\0b\xf0\x80\x00\xf7\xf7\xf7\xf7", piece, 100),
                b"?&#0;b??",
                "{piece}"
            );
            assert_eq!(recoded(&to_utf8, b"a\xc0\x81\x80", piece, 2), "a\u{44e}?\u{20ac}".as_bytes());
        }
    }
}
