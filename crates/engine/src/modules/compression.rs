//! In which coding an answer goes to the client: `gzip`, `brotli`, `zstd`, and files that are compressed already.
//!
//! Owns that there is one coding at most: the one to which the client gives the highest weight, of equal ones the smaller.
//! The bytes are [`Encoder`]'s, which the output holds while a body passes through it.

use super::gzip::{Precompressed, accept};
use super::{Module, gzip, media_types, validators};
use crate::config::FilterSettings;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::output::{Coding, Encoder, HeadRefused};
use http::Known;

/// The module. It has no directives of its own.
pub static MODULE: Module = Module {
    header_filter: Some(filter),
    is_needed: Some(|_, settings| CODINGS.iter().any(|coding| *rule(*coding, &settings.filters).on)),
    ..Module::new("compression", &[])
};

/// All codings, the one first that is chosen of equals.
const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

/// What the settings say of a coding.
struct Rule<'s> {
    on: &'s bool,
    min_length: u64,
    types: &'s [Box<[u8]>],
    precompressed: Precompressed,
}

fn rule(coding: Coding, filters: &FilterSettings) -> Rule<'_> {
    macro_rules! rule {
        ($settings:expr) => {
            Rule {
                on: &$settings.on,
                min_length: *$settings.min_length,
                types: $settings.types.get(),
                precompressed: *$settings.precompressed,
            }
        };
    }
    match coding {
        Coding::Gzip => rule!(filters.gzip),
        Coding::Brotli => rule!(filters.brotli),
        Coding::Zstd => rule!(filters.zstd),
    }
}

/// Returns the weight that the client gives to a coding; `None` if its answer may not have that.
fn weight(exchange: &Exchange, env: &Env<'_>, coding: Coding) -> Option<u16> {
    if exchange.subrequests.is_inner() || coding == Coding::Gzip && !gzip::accepts(exchange, env) {
        return None;
    }
    let accepted = exchange.request.head.headers.get(Known::AcceptEncoding)?;
    accept::weight(accepted, coding.name())
}

/// Returns the coding with the highest weight of those that may be, the first one of equals.
fn best(exchange: &Exchange, env: &Env<'_>, may_be: impl Fn(Coding) -> bool) -> Option<Coding> {
    let weighed = CODINGS.iter().filter(|coding| may_be(**coding));
    let weighed = weighed.filter_map(|coding| Some((weight(exchange, env, *coding)?, *coding)));
    // `max_by_key` returns the last one of equals.
    weighed.rev().max_by_key(|(weight, _)| *weight).map(|(_, coding)| coding)
}

/// Decides if the answer is compressed, and changes its head for that.
fn filter(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), HeadRefused> {
    let filters = &exchange.settings(env.config).filters;
    let response = &exchange.response;
    if !matches!(response.status, 200 | 403 | 404)
        || response.headers.get(Known::ContentEncoding).is_some_and(|coding| !coding.is_empty())
    {
        return Ok(());
    }
    let (kind, len) = (response.content_type.as_deref().unwrap_or_default(), response.content_length);
    let may_be = |coding| {
        let rule = rule(coding, filters);
        *rule.on && len.is_none_or(|len| len >= rule.min_length) && media_types::contains(rule.types, kind)
    };
    if !CODINGS.into_iter().any(may_be) {
        return Ok(());
    }
    let coding = best(exchange, env, may_be);
    exchange.output.varies = true;
    let Some(coding) = coding else { return Ok(()) };
    let encoder = match coding {
        Coding::Gzip => Encoder::gzip(*filters.gzip.level, *filters.gzip.window_bits, len),
        Coding::Brotli => Encoder::brotli(*filters.brotli.level, *filters.brotli.window_bits, len),
        Coding::Zstd => Encoder::zstd(*filters.zstd.level, len),
    };
    exchange.output.encoder = Some(Box::new(encoder));
    let response = &mut exchange.response;
    response.headers.push_known(Known::ContentEncoding, coding.name());
    validators::forget_length(response);
    validators::forget_ranges(response);
    validators::weaken_etag(response);
    Ok(())
}

/// A file that may be sent in the place of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its coding.
    pub(super) coding: Coding,
    /// It is for this client.
    pub(super) is_accepted: bool,
    /// That it is there makes the answer depend on `Accept-Encoding`.
    pub(super) varies: bool,
}

/// Returns the compressed files that may be sent in the place of one, the best first (`gzip_static` and its like).
pub(super) fn precompressed(exchange: &Exchange, env: &Env<'_>) -> Vec<Candidate> {
    let filters = &exchange.settings(env.config).filters;
    let mut candidates: Vec<(u16, Candidate)> = Vec::new();
    for coding in CODINGS {
        let (weight, varies) = match rule(coding, filters).precompressed {
            Precompressed::Off => continue,
            Precompressed::On => (weight(exchange, env, coding), true),
            Precompressed::Always => (Some(accept::MOST), false),
        };
        // One that is not for this client is looked for where that it is there is to be said.
        if weight.is_some() || *filters.gzip.vary {
            let is_accepted = weight.is_some();
            candidates.push((weight.unwrap_or(0), Candidate { coding, is_accepted, varies }));
        }
    }
    candidates.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    candidates.into_iter().map(|(_, candidate)| candidate).collect()
}
