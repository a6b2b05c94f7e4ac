//! A body on its way through a compressor.

use flate2::{Compress, Compression, FlushCompress, Status};

/// Bytes before and after compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// Bytes of the body.
    pub plain: u64,
    /// Bytes of what was sent instead.
    pub encoded: u64,
}

/// Compresses one body. What it holds back is bounded by its window.
#[derive(Debug)]
pub struct Encoder {
    compress: Compress,
    encoded: Vec<u8>,
    /// True if `encoded` was handed out.
    is_handed_out: bool,
}

/// What comes out in smaller pieces waits for more, as nginx fills a buffer of `gzip_buffers` before it sends it.
const FULL: usize = 4096;

/// The lowest power of two that a window can have.
const MIN_WINDOW_BITS: u8 = 9;

impl Encoder {
    /// Creates one for the format of gzip (RFC 1952). A body of a known length gets no larger a window than it can use.
    pub fn gzip(level: u32, window_bits: u8, len: Option<u64>) -> Encoder {
        let mut bits = window_bits;
        while bits > MIN_WINDOW_BITS && len.is_some_and(|len| len < (1 << (bits - 1)) - 262) {
            bits -= 1;
        }
        Encoder {
            compress: Compress::new_gzip(Compression::new(level), bits),
            encoded: Vec::new(),
            is_handed_out: false,
        }
    }

    /// Compresses the next bytes; what came out is in [`Encoder::ready`], once there is enough of it. With `last` it ends,
    /// with `flush` nothing is held back.
    pub(crate) fn write(&mut self, data: &[u8], last: bool, flush: bool) {
        if std::mem::take(&mut self.is_handed_out) {
            self.encoded.clear();
        }
        self.compress(data, last, flush);
        self.is_handed_out = last || flush || self.encoded.len() >= FULL;
    }

    /// Returns what is to be sent after the last call of [`Encoder::write`].
    pub(crate) fn ready(&self) -> &[u8] {
        if self.is_handed_out { &self.encoded } else { &[] }
    }

    fn compress(&mut self, mut data: &[u8], last: bool, flush: bool) {
        let how = match (last, flush) {
            (true, _) => FlushCompress::Finish,
            (false, true) => FlushCompress::Sync,
            (false, false) => FlushCompress::None,
        };
        loop {
            self.encoded.reserve(1024.max(data.len() / 2));
            let before = self.compress.total_in();
            let status = self.compress.compress_vec(data, &mut self.encoded, how);
            data = &data[(self.compress.total_in() - before) as usize..];
            let has_room = self.encoded.len() < self.encoded.capacity();
            match status {
                // Without room there may be more to come out.
                Ok(Status::Ok | Status::BufError) if !has_room || !data.is_empty() => {}
                Ok(Status::Ok) if last => {}
                // No input is an error for a compressor.
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Returns the bytes so far.
    pub fn ratio(&self) -> Ratio {
        Ratio { plain: self.compress.total_in(), encoded: self.compress.total_out() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn decoded(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn bodies_come_back_whatever_their_pieces() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7 % 251 * (n % 97)).to_le_bytes()).collect();
        for (level, bits, piece, flush) in
            [(1, 15, 16_384, false), (9, 9, 1000, true), (6, 15, 1, false), (4, 12, 800_000, false)]
        {
            let text = if piece == 1 { &text[..5000] } else { &text[..] };
            let mut encoder = Encoder::gzip(level, bits, None);
            let mut out = Vec::new();
            for piece in text.chunks(piece) {
                encoder.write(piece, false, flush);
                let encoded = encoder.ready();
                assert!(flush || encoded.is_empty() || encoded.len() >= FULL, "a piece of {}", encoded.len());
                out.extend_from_slice(encoded);
            }
            encoder.write(b"", true, false);
            out.extend_from_slice(encoder.ready());
            assert!(decoded(&out) == text, "{level} {bits} {piece}");
            assert_eq!(encoder.ratio(), Ratio { plain: text.len() as u64, encoded: out.len() as u64 });
        }
    }

    #[test]
    fn a_flush_holds_nothing_back() {
        let mut encoder = Encoder::gzip(1, 15, None);
        encoder.write(b"data: one\n\n", false, true);
        let mut decoder = flate2::read::GzDecoder::new(encoder.ready());
        let mut out = [0; 11];
        decoder.read_exact(&mut out).unwrap();
        assert_eq!(&out, b"data: one\n\n");
    }

    #[test]
    fn a_short_body_gets_a_small_window() {
        let mut encoder = Encoder::gzip(1, 15, Some(6));
        encoder.write(b"body", false, false);
        assert_eq!(encoder.ready(), b"", "the head of the format is not sent alone");
        encoder.write(b"\r\n", true, false);
        assert_eq!(decoded(encoder.ready()), b"body\r\n");
    }
}
