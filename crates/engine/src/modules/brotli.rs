//! Answers compressed with Brotli (RFC 7932): the directives of ngx_brotli.
//!
//! Owns the settings. Which answers are compressed is for [`super::compression`] to say.

use super::gzip::Precompressed;
use super::{Module, media_types};
use crate::config::{invalid_value, number};
use crate::directive::{Args, Contexts, Directive};
use crate::setting::settings;

settings! {
    /// Settings of one level.
    pub struct BrotliSettings {
        /// `brotli`.
        pub on: bool = false,
        /// `brotli_comp_level`, from 0 to 11.
        pub level: u32 = 6,
        /// `brotli_window`, as the power of two.
        pub window_bits: u8 = 19,
        /// `brotli_min_length`, in bytes.
        pub min_length: u64 = 20,
        /// `brotli_types`, in lower case; text/html is always among them, and `*` is all.
        pub types: Vec<Box<[u8]>> = vec![b"text/html"[..].into()],
        /// `brotli_static`.
        pub precompressed: Precompressed = Precompressed::Off,
    }
}

/// The module.
pub static MODULE: Module = Module::new("brotli", &[DIRECTIVES]);

const DIRECTIVES: &[Directive] = &[
    Directive::flag("brotli", Contexts::HSLI, |b| &mut b.settings().filters.brotli.on)
        .default("off")
        .doc(
            "Compresses answers with status 200, 403 and 404 for clients that accept br. If a client accepts several \
             codings, the one with the highest weight is used, and among equal ones zstd before br before gzip.",
        )
        .example("brotli on;"),
    Directive::new("brotli_comp_level", Contexts::HSL, Args::Exactly(1), "level", |b, d| {
        let level = number(d.args[0].text()).and_then(|level| u32::try_from(level).ok());
        let level = level.filter(|level| *level <= 11);
        let level = level.ok_or_else(|| invalid_value(&d.args[0]).help("a number from 0 to 11"))?;
        b.write(d, |s| &mut s.filters.brotli.level, level)
    })
    .default("6")
    .doc("How thoroughly answers are compressed, from 0 (fast) to 11 (small).")
    .example("brotli_comp_level 4;"),
    Directive::new("brotli_types", Contexts::HSL, Args::AtLeast(1), "mime-type ...", |b, d| {
        let types = media_types::read(b, d);
        b.write(d, |s| &mut s.filters.brotli.types, types)
    })
    .default("text/html")
    .doc("The media types of responses that are compressed, besides text/html; * is all.")
    .example("brotli_types text/css application/javascript application/json image/svg+xml;"),
    Directive::number("brotli_min_length", Contexts::HSL, |b| {
        &mut b.settings().filters.brotli.min_length
    })
    .default("20")
    .doc("Responses with a smaller Content-Length are not compressed.")
    .example("brotli_min_length 1000;"),
    Directive::new("brotli_window", Contexts::HSL, Args::Exactly(1), "size", |b, d| {
        let size = b.size(&d.args[0])?;
        let bits = (10..=24_u8).find(|bits| 1 << bits == size);
        let bits = bits.ok_or_else(|| invalid_value(&d.args[0]).help("1k, 2k, 4k … up to 16m"))?;
        b.write(d, |s| &mut s.filters.brotli.window_bits, bits)
    })
    .default("512k")
    .doc("The compressor's window; larger ones take more memory for each response.")
    .example("brotli_window 256k;"),
    Directive::new("brotli_buffers", Contexts::HSL, Args::Exactly(2), "number size", |b, d| {
        let count = number(d.args[0].text()).filter(|count| *count > 0);
        count.ok_or_else(|| invalid_value(&d.args[0]))?;
        b.size(&d.args[1]).map(drop)
    })
    .default("32 4k")
    .doc("Has no effect: a compressor's buffer grows with its output.")
    .example("brotli_buffers 16 8k;"),
    Directive::new("brotli_static", Contexts::HSL, Args::Exactly(1), "on | off | always", |b, d| {
        let precompressed = Precompressed::read(&d.args[0])?;
        b.write(d, |s| &mut s.filters.brotli.precompressed, precompressed)
    })
    .default("off")
    .doc("Sends FILE.br instead of a file to clients that accept br, or always.")
    .example("brotli_static on;"),
];
