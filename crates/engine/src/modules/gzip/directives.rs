//! The directives.

use super::{Precompressed, Proxied};
use crate::config::{Builder, invalid_choice, invalid_value, number};
use crate::directive::{Apply, Args, Contexts, Directive};
use crate::modules::media_types;
use crate::regex::Regex;
use conf::Diagnostic;
use http::Version;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::flag("gzip", Contexts::HSLI, |b| &mut b.settings().filters.gzip.on)
        .default("off")
        .doc("Compresses answers with status 200, 403 and 404 for clients that accept gzip.")
        .example("gzip on;"),
    Directive::new("gzip_comp_level", Contexts::HSL, Args::Exactly(1), "level", |b, d| {
        let level = number(d.args[0].text()).and_then(|level| u32::try_from(level).ok());
        let level = level.filter(|level| (1..=9).contains(level));
        let level = level.ok_or_else(|| invalid_value(&d.args[0]).help("a number from 1 to 9"))?;
        b.write(d, |s| &mut s.filters.gzip.level, level)
    })
    .default("1")
    .doc("How thoroughly answers are compressed, from 1 (fast) to 9 (small).")
    .example("gzip_comp_level 5;"),
    Directive::new("gzip_types", Contexts::HSL, Args::AtLeast(1), "mime-type ...", |b, d| {
        let types = media_types::read(b, d);
        b.write(d, |s| &mut s.filters.gzip.types, types)
    })
        .default("text/html")
        .doc("The media types of responses that are compressed, besides text/html; * is all.")
        .example("gzip_types text/css application/javascript application/json image/svg+xml;"),
    Directive::number("gzip_min_length", Contexts::HSL, |b| &mut b.settings().filters.gzip.min_length)
        .default("20")
        .doc("Responses with a smaller Content-Length are not compressed.")
        .example("gzip_min_length 1000;"),
    Directive::flag("gzip_vary", Contexts::HSL, |b| &mut b.settings().filters.gzip.vary)
        .default("off")
        .doc("Whether responses that may be compressed have the field Vary: Accept-Encoding.")
        .example("gzip_vary on;"),
    Directive::new("gzip_http_version", Contexts::HSL, Args::Exactly(1), "1.0 | 1.1", |b, d| {
        let version = match d.args[0].str()? {
            "1.0" => Version::Http10,
            "1.1" => Version::Http11,
            _ => return Err(invalid_choice(&d.args[0])),
        };
        b.write(d, |s| &mut s.filters.gzip.version, version)
    })
    .default("1.1")
    .doc("The lowest HTTP version of requests whose responses are compressed.")
    .example("gzip_http_version 1.0;"),
    Directive::new(
        "gzip_proxied",
        Contexts::HSL,
        Args::AtLeast(1),
        "off | expired | no-cache | no-store | private | no_last_modified | no_etag | auth | any ...",
        proxied,
    )
    .default("off")
    .doc(
        "Which responses are compressed for requests that came through a proxy, which their Via field shows: for \
         example those that must not be cached.",
    )
    .example("gzip_proxied any;"),
    Directive::new("gzip_disable", Contexts::HSL, Args::AtLeast(1), "regex ...", disable)
        .doc("Browsers, by their User-Agent, that get no compressed responses; msie6 is Internet Explorer 4 to 6.")
        .example("gzip_disable msie6;"),
    Directive::new("gzip_window", Contexts::HSL, Args::Exactly(1), "size", |b, d| {
        let size = b.size(&d.args[0])?;
        let bits = (9..=15_u8).find(|bits| 1 << bits == size);
        let bits = bits.ok_or_else(|| invalid_value(&d.args[0]).help("512, 1k, 2k, 4k, 8k, 16k or 32k"))?;
        b.write(d, |s| &mut s.filters.gzip.window_bits, bits)
    })
    .default("32k")
    .doc("The compressor's window; larger ones take more memory for each response.")
    .example("gzip_window 16k;"),
    Directive::new("gzip_buffers", Contexts::HSL, Args::Exactly(2), "number size", |b, d| {
        let count = number(d.args[0].text()).filter(|count| *count > 0);
        count.ok_or_else(|| invalid_value(&d.args[0]))?;
        b.size(&d.args[1]).map(drop)
    })
    .default("32 4k")
    .doc("Has no effect: a compressor's buffer grows with its output.")
    .example("gzip_buffers 16 8k;"),
    Directive::ignored("gzip_hash", Contexts::HSL, Apply::IgnoredSize)
        .doc("Has no effect: the compression level determines the size of the hash table.")
        .example("gzip_hash 64k;"),
    Directive::new("gzip_static", Contexts::HSL, Args::Exactly(1), "on | off | always", |b, d| {
        let precompressed = Precompressed::read(&d.args[0])?;
        b.write(d, |s| &mut s.filters.gzip.precompressed, precompressed)
    })
    .default("off")
    .doc("Sends FILE.gz instead of a file to clients that accept gzip, or always.")
    .example("gzip_static on;"),
];

fn proxied(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let mut rule = Proxied::default();
    for word in &d.args {
        let flag = match word.str()? {
            "off" if d.args.len() == 1 => continue,
            "expired" => &mut rule.expired,
            "no-cache" => &mut rule.no_cache,
            "no-store" => &mut rule.no_store,
            "private" => &mut rule.private,
            "no_last_modified" => &mut rule.no_last_modified,
            "no_etag" => &mut rule.no_etag,
            "auth" => &mut rule.auth,
            "any" => &mut rule.any,
            _ => return Err(invalid_choice(word)),
        };
        *flag = true;
    }
    b.write(d, |s| &mut s.filters.gzip.proxied, rule)
}

fn disable(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    for word in &d.args {
        let pattern = match word.str()? {
            // The mask of nginx: not what only claims to be one of them.
            "msie6" => r"MSIE [45]\.|^(?!.*SV1).*MSIE 6\.",
            "degradation" => continue,
            pattern => pattern,
        };
        let regex = Regex::new(pattern, true).map_err(|fault| Diagnostic::error(word.span, fault))?;
        b.settings().filters.gzip.disable.push(regex);
    }
    Ok(())
}
