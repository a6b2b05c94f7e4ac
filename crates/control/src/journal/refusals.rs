//! Refusals of authenticated callers, folded by actor, code and minute.
//!
//! Owns the count of each: a loop that fails a thousand times a minute is one entry. Must never grow with the number of
//! requests.

use super::entry::Occurrence;
use std::collections::HashMap;

/// The maximum number of different ones in a minute; the actors of further ones are counted together.
const MAX: usize = 256;
/// The actor under whose name these are counted.
const OTHERS: &str = "(others)";
const MINUTE_MS: u64 = 60_000;

/// Refusals that are not in the journal yet.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// By minute, actor and code.
    counted: HashMap<(u64, String, &'static str), Counted>,
}

#[derive(Debug)]
struct Counted {
    last_ms: u64,
    /// Of the first one.
    reason: String,
    count: u64,
}

impl Refusals {
    /// Counts a refusal.
    pub(super) fn count(&mut self, now_ms: u64, actor: &str, code: &'static str, reason: &str) {
        let minute = now_ms / MINUTE_MS;
        let mut name = (minute, actor.to_owned(), code);
        if self.counted.len() >= MAX && !self.counted.contains_key(&name) {
            name.1 = OTHERS.to_owned();
        }
        let counted = self.counted.entry(name).or_insert_with(|| Counted {
            last_ms: now_ms,
            reason: reason.to_owned(),
            count: 0,
        });
        counted.last_ms = now_ms;
        counted.count += 1;
    }

    /// Takes those of the minutes that have ended; with `None`, all of them.
    pub(super) fn take(&mut self, now_ms: Option<u64>) -> Vec<Occurrence> {
        let minute = now_ms.map_or(u64::MAX, |now_ms| now_ms / MINUTE_MS);
        // A minute in the future has ended too: the clock was set back.
        let ended = self.counted.extract_if(|(begun, _, _), _| *begun != minute);
        let mut taken: Vec<Occurrence> = ended
            .map(|((_, actor, code), Counted { last_ms, reason, count })| Occurrence {
                time_ms: last_ms,
                kind: "refused".into(),
                subject: Some(code.into()),
                actor,
                reason: Some(reason),
                count,
                switch: None,
            })
            .collect();
        taken.sort_by_key(|refused| refused.time_ms);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_folded_by_actor_code_and_minute() {
        let mut refusals = Refusals::default();
        for at_ms in 0..1000 {
            refusals.count(at_ms, "ci", "bad_key", "first");
        }
        refusals.count(59_999, "ci", "forbidden", "");
        refusals.count(59_999, "ann", "bad_key", "");
        refusals.count(60_000, "ci", "bad_key", "");
        assert!(refusals.take(Some(0)).len() == 1, "of the other minute only");
        let taken = refusals.take(Some(60_001));
        assert_eq!(taken.len(), 3);
        assert_eq!(
            (taken[0].count, taken[0].time_ms, taken[0].reason.as_deref()),
            (1000, 999, Some("first"))
        );
        assert!(refusals.take(None).is_empty());
    }

    #[test]
    fn their_number_is_bounded() {
        let mut refusals = Refusals::default();
        for actor in 0..10_000 {
            refusals.count(1, &format!("http:{actor}"), "forbidden", "");
        }
        let taken = refusals.take(None);
        assert!(taken.len() <= MAX + 1, "{}", taken.len());
        assert_eq!(taken.iter().map(|refused| refused.count).sum::<u64>(), 10_000, "none is lost");
    }
}
