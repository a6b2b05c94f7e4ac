//! Answers compressed with Zstandard (RFC 8878, RFC 9659): the directives of zstd-nginx-module.
//!
//! Owns the settings. Which answers are compressed is for [`super::compression`] to say.

use super::gzip::Precompressed;
use super::{Module, media_types};
use crate::config::{invalid_value, number};
use crate::directive::{Args, Contexts, Directive};
use crate::setting::settings;

settings! {
    /// Settings of one level.
    pub struct ZstdSettings {
        /// `zstd`.
        pub on: bool = false,
        /// `zstd_comp_level`, from 1 to 22.
        pub level: u32 = 1,
        /// `zstd_min_length`, in bytes.
        pub min_length: u64 = 20,
        /// `zstd_types`, in lower case; text/html is always among them, and `*` is all.
        pub types: Vec<Box<[u8]>> = vec![b"text/html"[..].into()],
        /// `zstd_static`.
        pub precompressed: Precompressed = Precompressed::Off,
    }
}

/// The module.
pub static MODULE: Module = Module::new("zstd", &[DIRECTIVES]);

const DIRECTIVES: &[Directive] = &[
    Directive::flag("zstd", Contexts::HSLI, |b| &mut b.settings().filters.zstd.on)
        .default("off")
        .doc(
            "Compresses answers with status 200, 403 and 404 for clients that accept zstd. If a client accepts \
             several codings, the one with the highest weight is used, and among equal ones zstd before br before \
             gzip.",
        )
        .example("zstd on;"),
    Directive::new("zstd_comp_level", Contexts::HSL, Args::Exactly(1), "level", |b, d| {
        let level = number(d.args[0].text()).and_then(|level| u32::try_from(level).ok());
        let level = level.filter(|level| (1..=22).contains(level));
        let level = level.ok_or_else(|| invalid_value(&d.args[0]).help("a number from 1 to 22"))?;
        b.write(d, |s| &mut s.filters.zstd.level, level)
    })
    .default("1")
    .doc("How thoroughly answers are compressed, from 1 (fast) to 22 (small).")
    .example("zstd_comp_level 3;"),
    Directive::new("zstd_types", Contexts::HSL, Args::AtLeast(1), "mime-type ...", |b, d| {
        let types = media_types::read(b, d);
        b.write(d, |s| &mut s.filters.zstd.types, types)
    })
    .default("text/html")
    .doc("The media types of responses that are compressed, besides text/html; * is all.")
    .example("zstd_types text/css application/javascript application/json image/svg+xml;"),
    Directive::number("zstd_min_length", Contexts::HSL, |b| &mut b.settings().filters.zstd.min_length)
        .default("20")
        .doc("Responses with a smaller Content-Length are not compressed.")
        .example("zstd_min_length 1000;"),
    Directive::new("zstd_buffers", Contexts::HSL, Args::Exactly(2), "number size", |b, d| {
        let count = number(d.args[0].text()).filter(|count| *count > 0);
        count.ok_or_else(|| invalid_value(&d.args[0]))?;
        b.size(&d.args[1]).map(drop)
    })
    .default("32 4k")
    .doc("Has no effect: a compressor's buffer grows with its output.")
    .example("zstd_buffers 16 8k;"),
    Directive::new("zstd_static", Contexts::HSL, Args::Exactly(1), "on | off | always", |b, d| {
        let precompressed = Precompressed::read(&d.args[0])?;
        b.write(d, |s| &mut s.filters.zstd.precompressed, precompressed)
    })
    .default("off")
    .doc("Sends FILE.zst instead of a file to clients that accept zstd, or always.")
    .example("zstd_static on;"),
];
