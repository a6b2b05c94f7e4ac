//! A body on its way through a decompressor (ngx_http_gunzip_filter_module).

use flate2::{Decompress, FlushDecompress, Status};

/// Decompresses one body in the format of gzip (RFC 1952), of one member or several. It holds its window of 32 KiB.
#[derive(Debug)]
pub struct Decoder {
    decompress: Decompress,
    /// A member has ended, and nothing of the next one has come.
    is_between: bool,
}

/// A body that is no gzip, or breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is not what it says (zlib's Z_DATA_ERROR).
    Invalid,
    /// It ends too early.
    Truncated,
}

/// zlib's largest window.
const WINDOW_BITS: u8 = 15;

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { decompress: Decompress::new_gzip(WINDOW_BITS), is_between: false }
    }
}

impl Decoder {
    /// Decompresses from `input`, of which what was taken is cut off, until there is none left or `out` holds `enough`.
    /// Returns true if there is none left.
    ///
    /// # Errors
    /// See [`DecodeError`]; what was decompressed before is in `out`.
    pub fn run(
        &mut self,
        input: &mut &[u8],
        is_last: bool,
        out: &mut Vec<u8>,
        enough: usize,
    ) -> Result<bool, DecodeError> {
        loop {
            if input.is_empty() && self.is_between {
                return Ok(true);
            }
            if out.len() >= enough {
                return Ok(false);
            }
            if std::mem::take(&mut self.is_between) {
                self.decompress = Decompress::new_gzip(WINDOW_BITS);
            }
            out.reserve(enough.saturating_sub(out.len()).max(1024));
            let (before_in, before_out) = (self.decompress.total_in(), self.decompress.total_out());
            let status = self
                .decompress
                .decompress_vec(input, out, FlushDecompress::None)
                .map_err(|_| DecodeError::Invalid)?;
            *input = &input[(self.decompress.total_in() - before_in) as usize..];
            let made = self.decompress.total_out() > before_out;
            match status {
                Status::StreamEnd => self.is_between = true,
                // Where the room is used up there may be more to come out.
                Status::Ok | Status::BufError if made && out.len() == out.capacity() => {}
                Status::Ok | Status::BufError if input.is_empty() => {
                    return if is_last { Err(DecodeError::Truncated) } else { Ok(true) };
                }
                Status::Ok => {}
                Status::BufError if made => {}
                Status::BufError => return Err(DecodeError::Invalid),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn zipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// Decompresses in pieces of this size, with room for so many bytes at a time.
    fn unzipped(bytes: &[u8], piece: usize, enough: usize) -> Result<Vec<u8>, DecodeError> {
        let mut decoder = Decoder::default();
        let mut all = Vec::new();
        let count = bytes.len().div_ceil(piece);
        for (number, mut piece) in bytes.chunks(piece).enumerate() {
            loop {
                let mut out = Vec::new();
                let is_dry = decoder.run(&mut piece, number + 1 == count, &mut out, enough)?;
                assert!(out.len() <= enough.max(1024) * 2, "{} bytes at once", out.len());
                all.extend_from_slice(&out);
                if is_dry {
                    break;
                }
            }
            assert!(piece.is_empty());
        }
        Ok(all)
    }

    #[test]
    fn bodies_come_back_whatever_their_pieces() {
        let text: Vec<u8> = (0..40_000_u32).flat_map(|n| (n / 7 % 251).to_le_bytes()).collect();
        let two = [zipped(&text), zipped(b"more")].concat();
        let both = [&text[..], b"more"].concat();
        for (piece, enough) in [(1, 4096), (1000, 64), (100_000, 65_536)] {
            assert!(unzipped(&zipped(&text), piece, enough) == Ok(text.clone()), "{piece} {enough}");
            assert!(unzipped(&two, piece, enough) == Ok(both.clone()), "{piece} {enough}");
        }
        assert_eq!(unzipped(&zipped(b""), 7, 64), Ok(Vec::new()));
    }

    #[test]
    fn a_small_body_that_becomes_large_comes_in_pieces() {
        let zeros = vec![0; 64 << 20];
        let bytes = zipped(&zeros);
        assert!(bytes.len() < 70_000);
        assert!(unzipped(&bytes, 65_536, 65_536) == Ok(zeros));
    }

    #[test]
    fn invalid_or_truncated_gzip_is_an_error() {
        let bytes = zipped(b"some text that is long enough to be cut");
        assert_eq!(unzipped(&bytes[..bytes.len() - 9], 5, 4096), Err(DecodeError::Truncated));
        assert_eq!(unzipped(&bytes[..bytes.len() - 1], 5, 4096), Err(DecodeError::Truncated));
        assert_eq!(unzipped(b"plain text", 5, 4096), Err(DecodeError::Invalid));
        let mut changed = bytes.clone();
        let at = changed.len() - 6;
        changed[at] ^= 1;
        assert_eq!(unzipped(&changed, 100, 4096), Err(DecodeError::Invalid));
        assert_eq!(unzipped(&[&bytes[..], b"garbage"].concat(), 100, 4096), Err(DecodeError::Invalid));
    }
}
