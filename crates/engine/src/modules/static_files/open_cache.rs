//! `open_file_cache`: how long what is known of files is used again, instead of asking the system.
//!
//! Owns the directives; what they say goes with each [`crate::host::OpenRequest`] to the host, which keeps the files.

use crate::config::{Builder, invalid_parameter};
use crate::directive::{Args, Contexts, Directive};
use crate::host::KeptOpen;
use crate::setting::settings;
use conf::Diagnostic;

/// One `open_file_cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCache {
    /// Its number in the configuration.
    pub number: usize,
    /// The most files.
    pub max: usize,
    /// How long a file that is not asked for stays, in ms.
    pub inactive_ms: u64,
}

settings! {
    /// Settings of one level.
    pub struct OpenCacheSettings {
        /// `open_file_cache`; `None` is off.
        pub cache: Option<OpenCache> = None,
        /// `open_file_cache_valid`, in ms.
        pub valid_ms: u64 = 60_000,
        /// `open_file_cache_min_uses`.
        pub min_uses: u64 = 1,
        /// `open_file_cache_errors`.
        pub errors: bool = false,
    }
}

impl OpenCacheSettings {
    /// Returns what goes with a request for a file.
    pub fn kept(&self) -> Option<KeptOpen> {
        let OpenCache { number, max, inactive_ms } = (*self.cache)?;
        let (valid_ms, min_uses, errors) = (*self.valid_ms, *self.min_uses, *self.errors);
        Some(KeptOpen { number, max, inactive_ms, valid_ms, min_uses, errors })
    }
}

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("open_file_cache", Contexts::HSL, Args::Between(1, 2), "off | max=N [inactive=time]", cache)
        .default("off")
        .doc(
            "Caches up to max= open files in each thread, and also the existence of directories and errors. Entries \
             not used within `inactive` (60s) are dropped; changes are noticed after open_file_cache_valid.",
        )
        .example("open_file_cache max=1000 inactive=20s;"),
    Directive::time("open_file_cache_valid", Contexts::HSL, |b| {
        &mut b.settings().static_files.open_cache.valid_ms
    })
    .default("60s")
    .doc("How long a cached entry is used before the file is checked again.")
    .example("open_file_cache_valid 30s;"),
    Directive::number("open_file_cache_min_uses", Contexts::HSL, |b| {
        &mut b.settings().static_files.open_cache.min_uses
    })
    .default("1")
    .doc("The number of requests after which a file is kept open.")
    .example("open_file_cache_min_uses 2;"),
    Directive::flag("open_file_cache_errors", Contexts::HSL, |b| {
        &mut b.settings().static_files.open_cache.errors
    })
    .default("off")
    .doc("Whether errors of opening files are cached too.")
    .example("open_file_cache_errors on;"),
];

fn cache(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let (mut max, mut inactive_ms, mut is_off) = (None, 60_000, false);
    let wrong = |word: &conf::Word| {
        Diagnostic::error(word.span, format!("invalid \"open_file_cache\" parameter \"{}\"", word.text()))
    };
    for word in &d.args {
        let text = word.str()?;
        match text.split_once('=') {
            None if text == "off" => is_off = true,
            Some(("max", number)) => {
                let number = crate::config::number(number.as_bytes()).filter(|number| *number > 0);
                max = Some(number.ok_or_else(|| wrong(word))?);
            }
            Some(("inactive", time)) => {
                inactive_ms = conf::value::parse_time_ms(time.as_bytes()).ok_or_else(|| wrong(word))?;
            }
            _ => return Err(invalid_parameter(word)),
        }
    }
    let value = match (is_off, max) {
        (true, _) => None,
        (false, Some(max)) => {
            let number = b.draft.http.open_file_caches;
            b.draft.http.open_file_caches += 1;
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            Some(OpenCache { number, max, inactive_ms })
        }
        (false, None) => {
            let text = "\"open_file_cache\" must have the \"max\" parameter";
            return Err(Diagnostic::error(d.span, text).help("open_file_cache max=1000;"));
        }
    };
    b.write(d, |s| &mut s.static_files.open_cache.cache, value)
}
