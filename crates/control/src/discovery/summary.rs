//! What changed in a group by what was looked up, folded by minute: one line of the journal.

use crate::journal::Occurrence;
use std::collections::HashMap;

const MINUTE_MS: u64 = 60_000;

/// The changes that are not in the journal yet.
#[derive(Debug, Default)]
pub(crate) struct Summaries(HashMap<(u64, String), Summary>);

#[derive(Debug, Default)]
struct Summary {
    last_ms: u64,
    changes: u64,
    added: usize,
    gone: usize,
    now: usize,
}

impl Summaries {
    /// Counts a change of a group, which has so many servers now.
    pub(crate) fn count(&mut self, now_ms: u64, group: &str, (added, gone, now): (usize, usize, usize)) {
        let summary = self.0.entry((now_ms / MINUTE_MS, group.to_owned())).or_default();
        summary.changes += 1;
        summary.added += added;
        summary.gone += gone;
        (summary.last_ms, summary.now) = (now_ms, now);
    }

    /// Takes those of the minutes that have ended; with `None`, all.
    pub(crate) fn take(&mut self, now_ms: Option<u64>) -> Vec<Occurrence> {
        let minute = now_ms.map_or(u64::MAX, |now_ms| now_ms / MINUTE_MS);
        // A minute in the future has ended too: the clock was set back.
        let ended = self.0.extract_if(|(begun, _), _| *begun != minute);
        let mut taken: Vec<Occurrence> = ended
            .map(|((_, group), summary)| Occurrence {
                time_ms: summary.last_ms,
                kind: "discovered".into(),
                switch: None,
                subject: Some(group),
                actor: "pointsman".into(),
                reason: Some(format!(
                    "{} server{}; {} joined, {} left",
                    summary.now,
                    if summary.now == 1 { "" } else { "s" },
                    summary.added,
                    summary.gone
                )),
                count: summary.changes,
            })
            .collect();
        taken.sort_by(|one, other| (one.time_ms, &one.subject).cmp(&(other.time_ms, &other.subject)));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_one_line_for_each_group_and_minute() {
        let mut summaries = Summaries::default();
        for second in 0..60 {
            summaries.count(second * 1_000, "blue", (2, 1, 5));
        }
        summaries.count(59_999, "green", (1, 0, 1));
        summaries.count(60_000, "blue", (0, 1, 4));
        assert_eq!(summaries.take(Some(59_999)).len(), 1, "of the other minute only");
        let taken = summaries.take(Some(60_001));
        let shown: Vec<_> = taken
            .iter()
            .map(|one| (one.subject.as_deref().unwrap(), one.count, one.reason.as_deref().unwrap()))
            .collect();
        assert_eq!(
            shown,
            [("blue", 60, "5 servers; 120 joined, 60 left"), ("green", 1, "1 server; 1 joined, 0 left")]
        );
        assert!(summaries.take(None).is_empty());
    }
}
