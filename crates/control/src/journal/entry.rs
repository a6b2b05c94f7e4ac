//! An entry of the journal and its hash.
//!
//! Owns the canonical form. The hashes are on disk: it never changes; a new one needs another first line.
//!
//! SHA-256 over these, one after the other. Numbers are 8 bytes, least significant first. A *text* is its length in bytes
//! as a number, then its UTF-8 bytes. A *perhaps* is one byte 0 for nothing, or one byte 1 and the thing.
//!
//! 1. the 20 bytes `pointsman journal 1\n`
//! 2. the hash of the entry before, 32 bytes (zeros for the first)
//! 3. sequence, number; time in ms since 1970 UTC, number
//! 4. kind, text; switch, perhaps text; subject, perhaps text; actor, text; reason, perhaps text
//! 5. count, number

use sha2::{Digest, Sha256};
use switch::Hash;

const FORM: &[u8] = b"pointsman journal 1\n";

/// Something that happened and changed no table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occurrence {
    /// When, in ms since 1970 UTC; of a folded one, the last time.
    pub time_ms: u64,
    /// `hold`, `release`, `expire`, `overdue`, `reload`, `start`, `upgrade`, `purge`, `revoke`, `refused` or `lost`. A reader keeps a kind that
    /// it does not know.
    pub kind: String,
    /// The switch, if it is about one.
    pub switch: Option<String>,
    /// The key, the code of a refusal, or the outcome of a reload.
    pub subject: Option<String>,
    /// Who.
    pub actor: String,
    /// Why, or what exactly.
    pub reason: Option<String>,
    /// How many times; of a release or an expired hold, how many requests waited.
    pub count: u64,
}

/// An occurrence as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// 1 is the first.
    pub sequence: u64,
    /// The event.
    pub occurrence: Occurrence,
    /// Of the entry before.
    pub previous: Hash,
    /// Of this one.
    pub hash: Hash,
}

impl JournalEntry {
    /// Chains an occurrence to the entry before it.
    pub(super) fn following(sequence: u64, previous: Hash, occurrence: Occurrence) -> JournalEntry {
        let mut entry = JournalEntry { sequence, occurrence, previous, hash: Hash::ZERO };
        entry.hash = entry.computed_hash();
        entry
    }

    /// Computes the hash of its fields.
    pub(super) fn computed_hash(&self) -> Hash {
        let JournalEntry { sequence, occurrence, previous, hash: _ } = self;
        let Occurrence { time_ms, kind, switch, subject, actor, reason, count } = occurrence;
        let mut sum = Sha256::new();
        sum.update(FORM);
        sum.update(previous.0);
        sum.update(sequence.to_le_bytes());
        sum.update(time_ms.to_le_bytes());
        text(&mut sum, kind);
        perhaps(&mut sum, switch.as_deref());
        perhaps(&mut sum, subject.as_deref());
        text(&mut sum, actor);
        perhaps(&mut sum, reason.as_deref());
        sum.update(count.to_le_bytes());
        Hash(sum.finalize().into())
    }
}

fn text(sum: &mut Sha256, text: &str) {
    sum.update((text.len() as u64).to_le_bytes());
    sum.update(text);
}

fn perhaps(sum: &mut Sha256, value: Option<&str>) {
    sum.update([u8::from(value.is_some())]);
    if let Some(value) = value {
        text(sum, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_in_the_hash() {
        let first = Occurrence {
            time_ms: 1,
            kind: "hold".into(),
            switch: Some("live".into()),
            subject: None,
            actor: "ann".into(),
            reason: None,
            count: 1,
        };
        let with = |change: fn(&mut Occurrence)| {
            let mut occurrence = first.clone();
            change(&mut occurrence);
            JournalEntry::following(1, Hash::ZERO, occurrence).hash
        };
        let hashes = [
            with(|_| {}),
            with(|it| it.time_ms = 2),
            with(|it| it.kind = "release".into()),
            with(|it| it.switch = None),
            with(|it| it.subject = Some(String::new())),
            with(|it| it.actor = "bob".into()),
            with(|it| it.reason = Some(String::new())),
            with(|it| it.count = 2),
            JournalEntry::following(2, Hash::ZERO, first.clone()).hash,
            JournalEntry::following(1, Hash([1; 32]), first.clone()).hash,
        ];
        let unique: std::collections::HashSet<_> = hashes.iter().collect();
        assert_eq!(unique.len(), hashes.len());
    }
}
