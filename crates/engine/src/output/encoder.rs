//! A body on its way through a compressor.

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::{Compress, Compression, FlushCompress, Status};
use std::fmt;
use std::io::Write;
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip` (RFC 1952).
    Gzip,
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
}

impl Coding {
    /// Returns its name in `Content-Encoding`.
    pub fn name(self) -> &'static [u8] {
        match self {
            Coding::Gzip => b"gzip",
            Coding::Brotli => b"br",
            Coding::Zstd => b"zstd",
        }
    }

    /// Returns what stands behind the name of a file that has it.
    pub(crate) fn ending(self) -> &'static [u8] {
        match self {
            Coding::Gzip => b".gz",
            Coding::Brotli => b".br",
            Coding::Zstd => b".zst",
        }
    }
}

/// Bytes before and after compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// The coding.
    pub coding: Coding,
    /// Bytes of the body.
    pub plain: u64,
    /// Bytes of what was sent instead.
    pub encoded: u64,
}

/// Compresses one body. What it holds back is bounded by its window.
#[derive(Debug)]
pub struct Encoder {
    codec: Codec,
    encoded: Vec<u8>,
    /// True if `encoded` was handed out.
    is_handed_out: bool,
    plain: u64,
    /// Bytes that were handed out before.
    before: u64,
}

/// What compresses.
enum Codec {
    Gzip(Compress),
    /// `None` once it has ended.
    Brotli(Option<Box<CompressorWriter<Vec<u8>>>>),
    Zstd(CCtx<'static>),
}

impl fmt::Debug for Codec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Codec::Gzip(_) => "Gzip",
            Codec::Brotli(_) => "Brotli",
            Codec::Zstd(_) => "Zstd",
        })
    }
}

/// What comes out in smaller pieces waits for more, as nginx fills a buffer of `gzip_buffers` before it sends it.
const FULL: usize = 4096;

/// The lowest power of two that a window of gzip can have.
const MIN_WINDOW_BITS: u8 = 9;
/// The lowest one of brotli.
const MIN_BROTLI_BITS: u8 = 10;
/// The highest one that browsers take of zstd (RFC 9659).
const MAX_ZSTD_BITS: u32 = 23;
/// How much a compressor is given room for at a time.
const ROOM: usize = 1024;

impl Encoder {
    fn of(codec: Codec) -> Encoder {
        Encoder { codec, encoded: Vec::new(), is_handed_out: false, plain: 0, before: 0 }
    }

    /// Creates one for gzip. A body of a known length gets no larger a window than it can use.
    pub fn gzip(level: u32, window_bits: u8, len: Option<u64>) -> Encoder {
        let mut bits = window_bits;
        while bits > MIN_WINDOW_BITS && len.is_some_and(|len| len < (1 << (bits - 1)) - 262) {
            bits -= 1;
        }
        Encoder::of(Codec::Gzip(Compress::new_gzip(Compression::new(level), bits)))
    }

    /// Returns the same for brotli.
    pub fn brotli(level: u32, window_bits: u8, len: Option<u64>) -> Encoder {
        let mut bits = window_bits;
        while bits > MIN_BROTLI_BITS && len.is_some_and(|len| len < (1 << (bits - 1)) - 16) {
            bits -= 1;
        }
        let params = BrotliEncoderParams {
            quality: level as i32,
            lgwin: i32::from(bits),
            size_hint: len.map_or(0, |len| len as usize),
            ..BrotliEncoderParams::default()
        };
        let writer = CompressorWriter::with_params(Vec::new(), FULL, &params);
        Encoder::of(Codec::Brotli(Some(Box::new(writer))))
    }

    /// Returns the same for zstd, whose window is bounded by what browsers take.
    pub fn zstd(level: u32, len: Option<u64>) -> Encoder {
        let mut context = CCtx::create();
        // They are in range, so that none is refused; a body of another length than was said would be, later.
        let _ = context.set_parameter(CParameter::CompressionLevel(level as i32));
        let bits = match len {
            Some(len) => len.next_power_of_two().trailing_zeros().clamp(10, MAX_ZSTD_BITS),
            None if level > 19 => MAX_ZSTD_BITS,
            None => 0,
        };
        if bits > 0 && (level > 19 || bits < 19) {
            let _ = context.set_parameter(CParameter::WindowLog(bits));
        }
        Encoder::of(Codec::Zstd(context))
    }

    /// Compresses the next bytes; what came out is in [`Encoder::ready`], once there is enough of it. With `last` it ends,
    /// with `flush` nothing is held back. Returns false if it fails.
    #[must_use]
    pub(crate) fn write(&mut self, data: &[u8], last: bool, flush: bool) -> bool {
        if std::mem::take(&mut self.is_handed_out) {
            self.before += self.encoded.len() as u64;
            self.encoded.clear();
        }
        self.plain += data.len() as u64;
        let Encoder { codec, encoded, .. } = self;
        let is_done = match codec {
            Codec::Gzip(compress) => {
                gzip(compress, encoded, data, last, flush);
                true
            }
            Codec::Brotli(writer) => brotli(writer, encoded, data, last, flush).is_some(),
            Codec::Zstd(context) => zstd(context, encoded, data, last, flush).is_some(),
        };
        self.is_handed_out = last || flush || self.encoded.len() >= FULL;
        is_done
    }

    /// Returns what is to be sent after the last call of [`Encoder::write`].
    pub(crate) fn ready(&self) -> &[u8] {
        if self.is_handed_out { &self.encoded } else { &[] }
    }

    /// Returns the bytes so far.
    pub fn ratio(&self) -> Ratio {
        let coding = match &self.codec {
            Codec::Gzip(_) => Coding::Gzip,
            Codec::Brotli(_) => Coding::Brotli,
            Codec::Zstd(_) => Coding::Zstd,
        };
        Ratio { coding, plain: self.plain, encoded: self.before + self.encoded.len() as u64 }
    }
}

fn gzip(compress: &mut Compress, encoded: &mut Vec<u8>, mut data: &[u8], last: bool, flush: bool) {
    let how = match (last, flush) {
        (true, _) => FlushCompress::Finish,
        (false, true) => FlushCompress::Sync,
        (false, false) => FlushCompress::None,
    };
    loop {
        encoded.reserve(ROOM.max(data.len() / 2));
        let before = compress.total_in();
        let status = compress.compress_vec(data, encoded, how);
        data = &data[(compress.total_in() - before) as usize..];
        let has_room = encoded.len() < encoded.capacity();
        match status {
            // Without room there may be more to come out.
            Ok(Status::Ok | Status::BufError) if !has_room || !data.is_empty() => {}
            Ok(Status::Ok) if last => {}
            // No input is an error for a compressor.
            Ok(_) | Err(_) => return,
        }
    }
}

fn brotli(
    writer: &mut Option<Box<CompressorWriter<Vec<u8>>>>,
    encoded: &mut Vec<u8>,
    data: &[u8],
    last: bool,
    flush: bool,
) -> Option<()> {
    let mut open = writer.take()?;
    open.write_all(data).ok()?;
    if last {
        encoded.extend_from_slice(&open.into_inner());
        return Some(());
    }
    if flush {
        open.flush().ok()?;
    }
    encoded.append(open.get_mut());
    *writer = Some(open);
    Some(())
}

fn zstd(
    context: &mut CCtx<'static>,
    encoded: &mut Vec<u8>,
    data: &[u8],
    last: bool,
    flush: bool,
) -> Option<()> {
    let how = match (last, flush) {
        (true, _) => ZSTD_EndDirective::ZSTD_e_end,
        (false, true) => ZSTD_EndDirective::ZSTD_e_flush,
        (false, false) => ZSTD_EndDirective::ZSTD_e_continue,
    };
    let mut input = InBuffer::around(data);
    loop {
        encoded.reserve(ROOM.max(data.len() / 2));
        let at = encoded.len();
        let left = {
            let mut out = OutBuffer::around_pos(encoded, at);
            context.compress_stream2(&mut out, &mut input, how).ok()?
        };
        let is_taken = input.pos() == data.len();
        if is_taken && (left == 0 || !last && !flush) {
            return Some(());
        }
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
                assert!(encoder.write(piece, false, flush));
                let encoded = encoder.ready();
                assert!(flush || encoded.is_empty() || encoded.len() >= FULL, "a piece of {}", encoded.len());
                out.extend_from_slice(encoded);
            }
            assert!(encoder.write(b"", true, false));
            out.extend_from_slice(encoder.ready());
            assert!(decoded(&out) == text, "{level} {bits} {piece}");
            let encoded = out.len() as u64;
            assert_eq!(encoder.ratio(), Ratio { coding: Coding::Gzip, plain: text.len() as u64, encoded });
        }
    }

    #[test]
    fn a_flush_holds_nothing_back() {
        let mut encoder = Encoder::gzip(1, 15, None);
        assert!(encoder.write(b"data: one\n\n", false, true));
        let mut decoder = flate2::read::GzDecoder::new(encoder.ready());
        let mut out = [0; 11];
        decoder.read_exact(&mut out).unwrap();
        assert_eq!(&out, b"data: one\n\n");
    }

    #[test]
    fn a_short_body_gets_a_small_window() {
        let mut encoder = Encoder::gzip(1, 15, Some(6));
        assert!(encoder.write(b"body", false, false));
        assert_eq!(encoder.ready(), b"", "the head of the format is not sent alone");
        assert!(encoder.write(b"\r\n", true, false));
        assert_eq!(decoded(encoder.ready()), b"body\r\n");
    }

    fn unbrotlied(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap();
        out
    }

    fn unzstded(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 << 20);
        zstd_safe::decompress(&mut out, bytes).unwrap();
        out
    }

    #[test]
    fn other_codings_come_back_too() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 7 % 251 * (n % 97)).to_le_bytes()).collect();
        for (level, piece, flush) in
            [(1, 16_384, false), (5, 1000, true), (11, 1, false), (22, 400_000, false)]
        {
            let text = if piece == 1 { &text[..500] } else { &text[..] };
            for len in [None, Some(text.len() as u64)] {
                let brotli = Encoder::brotli(level.min(11), 19, len);
                for mut encoder in [brotli, Encoder::zstd(level, len)] {
                    let mut out = Vec::new();
                    for piece in text.chunks(piece) {
                        assert!(encoder.write(piece, false, flush));
                        out.extend_from_slice(encoder.ready());
                    }
                    assert!(encoder.write(b"", true, false));
                    out.extend_from_slice(encoder.ready());
                    let Ratio { coding, plain, encoded } = encoder.ratio();
                    assert_eq!((plain, encoded), (text.len() as u64, out.len() as u64));
                    let back = if coding == Coding::Brotli { unbrotlied(&out) } else { unzstded(&out) };
                    assert!(back == text, "{coding:?} {level} {piece}");
                }
            }
        }
    }

    #[test]
    fn a_flush_holds_nothing_back_in_other_codings() {
        let mut encoder = Encoder::brotli(5, 19, None);
        assert!(encoder.write(b"data: one\n\n", false, true));
        let mut out = [0; 11];
        brotli::Decompressor::new(encoder.ready(), 64).read_exact(&mut out).unwrap();
        assert_eq!(&out, b"data: one\n\n");
        let mut encoder = Encoder::zstd(3, None);
        assert!(encoder.write(b"data: two\n\n", false, true));
        let mut made = Vec::with_capacity(64);
        let mut context = zstd_safe::DCtx::create();
        {
            let (mut out, mut input) = (OutBuffer::around(&mut made), InBuffer::around(encoder.ready()));
            context.decompress_stream(&mut out, &mut input).unwrap();
        }
        assert_eq!(made, b"data: two\n\n");
    }
}
