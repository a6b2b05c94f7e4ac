//! `split_clients`: values by lot, the same for the same text (ngx_http_split_clients_module).

use super::{Computed, define, entry};
use crate::config::Builder;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::template::Template;
use conf::{Diagnostic, Word};

/// A `split_clients`.
#[derive(Clone, Debug)]
pub struct SplitClients {
    source: Template,
    /// In order: the first whose bound is above the hash; `None` takes what is left.
    parts: Vec<(Option<u32>, Box<[u8]>)>,
}

impl SplitClients {
    pub(super) fn append(&self, exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.source.append(exchange, env, out);
        let hash = murmur_hash2(&out[start..]);
        out.truncate(start);
        if let Some((_, value)) = self.parts.iter().find(|(bound, _)| bound.is_none_or(|bound| hash < bound))
        {
            out.extend_from_slice(value);
        }
    }
}

/// The whole, in hundredths of a percent.
const WHOLE: u64 = 10_000;

pub(super) fn apply(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let source = b.template(&d.args[0])?;
    define(b, &d.args[1])?;
    let mut parts = Vec::new();
    let (mut sum, mut bound) = (0, 0u32);
    let mut too_much = None;
    for inner in d.children() {
        let (share, value) = match *entry(inner) {
            [share, value] => (share, value),
            _ => {
                b.diagnostics.push(
                    Diagnostic::error(inner.words_span(), "invalid number of the split_clients parameters")
                        .help("an entry is a share and a value: `10% new;`, `* old;`"),
                );
                continue;
            }
        };
        match percent(share) {
            // What makes the whole full, or is `*`, takes all that is left, whatever rounding has lost.
            Ok(part) => {
                sum = part.map_or(WHOLE, |part| sum + part);
                if sum > WHOLE {
                    too_much = too_much.or(Some(share.span));
                }
                let part = part.filter(|_| sum != WHOLE);
                let bound = part.map(|part| {
                    bound = bound.wrapping_add((part * u64::from(u32::MAX) / WHOLE) as u32);
                    bound
                });
                parts.push((bound, (**value.text()).into()));
            }
            Err(fault) => b.diagnostics.push(fault),
        }
    }
    if let Some(span) = too_much {
        b.diagnostics.push(
            Diagnostic::error(span, "percent total is greater than 100%")
                .label("from here on it is too much"),
        );
    }
    b.draft.computed.push(Computed::SplitClients(SplitClients { source, parts }));
    Ok(())
}

/// Reads a share in hundredths of a percent; `None` is `*`.
fn percent(word: &Word) -> Result<Option<u64>, Diagnostic> {
    let text: &[u8] = word.text();
    if text == b"*" {
        return Ok(None);
    }
    let share = text.strip_suffix(b"%").and_then(hundredths).filter(|share| *share > 0);
    share.map(Some).ok_or_else(|| {
        Diagnostic::error(word.span, format!("invalid percent value \"{}\"", word.text())).help(
            "a share is a number with at most two decimals and a percent sign (0.5%), or * for the rest",
        )
    })
}

/// Returns a number with at most two decimals, times a hundred (ngx_atofp).
fn hundredths(text: &[u8]) -> Option<u64> {
    let (whole, decimals) = match memchr::memchr(b'.', text) {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    if text.is_empty() || decimals.len() > 2 {
        return None;
    }
    let digits = whole.iter().chain(decimals).chain(std::iter::repeat_n(&b'0', 2 - decimals.len()));
    digits.copied().try_fold(0u64, |number, byte| {
        byte.is_ascii_digit().then(|| number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))).flatten()
    })
}

/// MurmurHash2 with seed 0, as ngx_murmur_hash2: clients keep their values when nginx is replaced.
fn murmur_hash2(text: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = text.len() as u32;
    let (words, rest) = text.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(M);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(M) ^ mixed.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_parsed_as_in_nginx() {
        for (text, share) in [
            ("0.5", Some(50)),
            ("50", Some(5000)),
            ("33.33", Some(3333)),
            (".5", Some(50)),
            ("5.", Some(500)),
            ("0.555", None),
            ("1.2.3", None),
            ("", None),
            ("-1", None),
            ("x", None),
        ] {
            assert_eq!(hundredths(text.as_bytes()), share, "{text}");
        }
    }
}
