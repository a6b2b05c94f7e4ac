//! The history of a switch: one commit for each revision, each chained to the one before.
//!
//! Owns the forms of a commit and its hash. The hashes are on disk: the serialisations below never change; a new one
//! needs another first line.
//!
//! A commit has one of two forms, by what is in it ([`Commit::form`]): form 1 if that can say everything, which is
//! all that versions before 0.2 know, else form 2. Form 2 is generic: what a program does not know in it, it keeps and
//! verifies all the same.
//!
//! ## The canonical serialisations
//!
//! SHA-256 over these, one after the other. Numbers are 8 bytes, least significant first. A *text* is its length in
//! bytes as a number, then its UTF-8 bytes. A *perhaps* is one byte 0 for nothing, or one byte 1 and the thing.
//!
//! 1. the 19 bytes `pointsman commit 1\n`
//! 2. the hash of the previous commit, 32 bytes (zeros for revision 1)
//! 3. revision, number
//! 4. time in ms since 1970 UTC, number
//! 5. kind: one byte (0 set, 1 undo, 2 undo of keys, 3 confirm, 4 revert), then the revision it is about, number
//!    (0 for set and undo of keys)
//! 6. actor, text
//! 7. reason, perhaps text
//! 8. idempotency key, perhaps text
//! 9. forced: one byte, 0 or 1
//! 10. confirm by, perhaps number (ms since 1970 UTC)
//! 11. how many changes, number; for each of them: the key, text; the route before, perhaps text; the route after,
//!     perhaps text; the revision it undoes, perhaps number
//! 12. how many notes of the gate, number; each a text
//!
//! Form 2 differs in these:
//!
//! 1. the 19 bytes `pointsman commit 2\n`
//! 5. kind: its name, text; the revision it is about, perhaps number
//! 11. how many changes, number; first those of keys, then the others. For each of them: its subject, text (`key` for a
//!     key); its name, text; the value before, perhaps text; the value after, perhaps text; the revision it undoes,
//!     perhaps number
//! 13. how many extra fields, number; for each of them, in the order of their names: its name, text; its value, text
//!
//! Must never leave a field of [`Commit`] out of them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::{BootTime, CommitKind, DEFAULT_SUBJECT, KEY_SUBJECT, Key, Route, SubjectChange};

/// The first bytes of form 1.
const FORM_1: &[u8] = b"pointsman commit 1\n";
/// The first bytes of form 2.
const FORM_2: &[u8] = b"pointsman commit 2\n";
/// The extra field with the deadline of a confirmation by the clock of a boot ([`BootTime`]).
const CONFIRM_BY_BOOT: &str = "confirm_by_boot";

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The previous hash of revision 1.
    pub const ZERO: Hash = Hash([0; 32]);
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Hash, Self::Err> {
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return Err("a hash has 64 hexadecimal digits");
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            let (Some(high), Some(low)) = (value(pair[0]), value(pair[1])) else {
                return Err("a hash has 64 hexadecimal digits");
            };
            *byte = (high * 16 + low) as u8;
        }
        Ok(Hash(bytes))
    }
}

/// The change of one key by a commit. `None` is the switch's default.
///
/// A revert may leave a key as it is, and only say that its older change is taken back (see [`crate::Undoing`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// Its route before.
    pub before: Option<Route>,
    /// Its route since.
    pub after: Option<Route>,
    /// The revision whose change of this key was taken back by this one (commits of the kinds undo and revert).
    pub undoes: Option<u64>,
}

impl Change {
    /// Returns true if the key has another route since.
    pub fn moves(&self) -> bool {
        self.before != self.after
    }
}

/// One revision of a switch, as its history keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// 1 is the first.
    pub revision: u64,
    /// When, in ms since 1970 UTC.
    pub time_ms: u64,
    /// Its kind.
    pub kind: CommitKind,
    /// Who.
    pub actor: String,
    /// Why, in the actor's words.
    pub reason: Option<String>,
    /// The caller's own name for the order, so that the same order twice is one commit.
    pub idempotency: Option<String>,
    /// A gate or a newer change was overridden.
    pub forced: bool,
    /// Reverted at this time (ms since 1970 UTC) unless it is confirmed before.
    pub confirm_by_ms: Option<u64>,
    /// In the order of the order; each key once. Not every one [moves](Change::moves) its key.
    pub changes: Vec<Change>,
    /// The changes of what is no key. Form 2.
    pub subjects: Vec<SubjectChange>,
    /// Further fields, by name. Form 2. A program that does not know a name ignores it.
    pub extra: BTreeMap<String, String>,
    /// The gate's results.
    pub gate: Vec<String>,
    /// The hash of the revision before.
    pub previous: Hash,
    /// Of this one: SHA-256 over the canonical serialisation (see the module's text in the source).
    pub hash: Hash,
}

/// How a chain of commits is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainBreak {
    /// A revision is missing, doubled or out of order.
    Revision {
        /// The expected revision.
        expected: u64,
    },
    /// It does not name the commit before it.
    Previous,
    /// Its hash is not that of its fields.
    Hash,
}

/// Where a chain breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainFault {
    /// The commit that does not fit.
    pub revision: u64,
    /// The fault.
    pub what: ChainBreak,
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revision = self.revision;
        match self.what {
            ChainBreak::Revision { expected } => {
                write!(f, "found revision {revision} in place of revision {expected}")
            }
            ChainBreak::Previous => write!(f, "revision {revision} does not follow the one before it"),
            ChainBreak::Hash => write!(f, "revision {revision} was altered after it was committed"),
        }
    }
}

impl std::error::Error for ChainFault {}

impl Commit {
    /// Returns its form: 1 if that can say everything, else 2.
    pub fn form(&self) -> u32 {
        let is_first = self.kind.form_1().is_some() && self.subjects.is_empty() && self.extra.is_empty();
        if is_first { 1 } else { 2 }
    }

    /// Returns the number of its changes: of keys, and of what else there is.
    pub fn change_count(&self) -> usize {
        self.changes.len() + self.subjects.len()
    }

    /// Returns a copy without the changes of keys.
    pub(crate) fn without_keys(&self) -> Commit {
        let Commit { revision, time_ms, forced, confirm_by_ms, previous, hash, .. } = *self;
        Commit {
            revision,
            time_ms,
            kind: self.kind.clone(),
            actor: self.actor.clone(),
            reason: self.reason.clone(),
            idempotency: self.idempotency.clone(),
            forced,
            confirm_by_ms,
            changes: Vec::new(),
            subjects: self.subjects.clone(),
            extra: self.extra.clone(),
            gate: self.gate.clone(),
            previous,
            hash,
        }
    }

    /// Returns the changes that move their key.
    pub fn moves(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.moves())
    }

    /// Computes the hash of its fields.
    pub fn computed_hash(&self) -> Hash {
        let mut sum = Canonical(Sha256::new());
        let is_first = self.form() == 1;
        sum.0.update(if is_first { FORM_1 } else { FORM_2 });
        sum.0.update(self.previous.0);
        sum.number(self.revision);
        sum.number(self.time_ms);
        match self.kind.form_1() {
            Some(kind) if is_first => {
                sum.byte(kind);
                sum.number(self.kind.of().unwrap_or(0));
            }
            _ => {
                sum.text(self.kind.name());
                sum.perhaps(self.kind.of(), Canonical::number);
            }
        }
        sum.text(&self.actor);
        sum.perhaps(self.reason.as_deref(), Canonical::text);
        sum.perhaps(self.idempotency.as_deref(), Canonical::text);
        sum.byte(u8::from(self.forced));
        sum.perhaps(self.confirm_by_ms, Canonical::number);
        sum.number((self.changes.len() + self.subjects.len()) as u64);
        for change in &self.changes {
            if !is_first {
                sum.text(KEY_SUBJECT);
            }
            sum.text(change.key.as_str());
            sum.perhaps(change.before.as_ref(), |sum, route| sum.text(&route.to_string()));
            sum.perhaps(change.after.as_ref(), |sum, route| sum.text(&route.to_string()));
            sum.perhaps(change.undoes, Canonical::number);
        }
        for change in &self.subjects {
            sum.text(&change.subject);
            sum.text(&change.name);
            sum.perhaps(change.before.as_deref(), Canonical::text);
            sum.perhaps(change.after.as_deref(), Canonical::text);
            sum.perhaps(change.undoes, Canonical::number);
        }
        sum.number(self.gate.len() as u64);
        for note in &self.gate {
            sum.text(note);
        }
        if !is_first {
            sum.number(self.extra.len() as u64);
            for (name, value) in &self.extra {
                sum.text(name);
                sum.text(value);
            }
        }
        Hash(sum.0.finalize().into())
    }

    /// Returns it with the hash of its fields: after a change of one.
    #[must_use]
    pub fn sealed(mut self) -> Commit {
        self.hash = self.computed_hash();
        self
    }

    /// Returns the deadline of its confirmation by the clock of a boot, if it has one.
    pub fn confirm_by_boot(&self) -> Option<BootTime> {
        self.extra.get(CONFIRM_BY_BOOT)?.parse().ok()
    }

    /// Returns it with a deadline of its confirmation by the clock of a boot, sealed.
    #[must_use]
    pub fn with_confirm_by_boot(mut self, by: BootTime) -> Commit {
        self.extra.insert(CONFIRM_BY_BOOT.to_owned(), by.to_string());
        self.sealed()
    }

    /// Returns it without the fields that form 1 lacks and that it can do without, sealed: for a store that still has
    /// format 1.
    #[must_use]
    pub fn without_optional(mut self) -> Commit {
        self.extra.remove(CONFIRM_BY_BOOT);
        if self.kind.form_1().is_some() && self.moved_default().is_none() {
            self.subjects.retain(|change| change.subject != DEFAULT_SUBJECT);
        }
        self.sealed()
    }

    /// Checks that it follows a commit with this hash, and that it was not altered.
    ///
    /// # Errors
    /// [`ChainBreak::Previous`] or [`ChainBreak::Hash`].
    pub fn verify(&self, previous: Hash) -> Result<(), ChainFault> {
        let fault = |what| Err(ChainFault { revision: self.revision, what });
        if self.previous != previous {
            return fault(ChainBreak::Previous);
        }
        if self.computed_hash() != self.hash {
            return fault(ChainBreak::Hash);
        }
        Ok(())
    }
}

/// Verifies commits one after the other, oldest first. For histories too long to hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The last revision that fitted; 0 before the first.
    pub revision: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Chain {
    /// Creates the chain before revision 1.
    pub fn start() -> Chain {
        Chain { revision: 0, hash: Hash::ZERO }
    }

    /// Takes the next commit.
    ///
    /// # Errors
    /// It does not fit; the chain is unchanged.
    pub fn follow(&mut self, commit: &Commit) -> Result<(), ChainFault> {
        let expected = self.revision + 1;
        let skips = commit.kind == CommitKind::Restore && commit.revision > expected;
        if commit.revision != expected && !skips {
            return Err(ChainFault { revision: commit.revision, what: ChainBreak::Revision { expected } });
        }
        commit.verify(self.hash)?;
        *self = Chain { revision: commit.revision, hash: commit.hash };
        Ok(())
    }
}

/// Verifies a whole history from revision 1 on, oldest first, and returns its end.
///
/// # Errors
/// The first commit that does not fit.
pub fn verify_chain<'a>(commits: impl IntoIterator<Item = &'a Commit>) -> Result<Chain, ChainFault> {
    let mut chain = Chain::start();
    commits.into_iter().try_for_each(|commit| chain.follow(commit))?;
    Ok(chain)
}

/// The bytes that are hashed.
struct Canonical(Sha256);

impl Canonical {
    fn byte(&mut self, byte: u8) {
        self.0.update([byte]);
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn perhaps<T>(&mut self, thing: Option<T>, add: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(thing.is_some()));
        if let Some(thing) = thing {
            add(self, thing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyKind;

    fn key(text: &str) -> Key {
        Key::parse(KeyKind::Text, text.as_bytes(), 64).unwrap()
    }

    fn full() -> Commit {
        let change = Change {
            key: key("shop"),
            before: None,
            after: Some(Route::parse("green=10 blue=90").unwrap()),
            undoes: Some(3),
        };
        let mut commit = Commit {
            revision: 7,
            time_ms: 1_700_000_000_123,
            kind: CommitKind::Undo { of: 3 },
            actor: "anna".to_owned(),
            reason: Some("wrong side".to_owned()),
            idempotency: None,
            forced: true,
            confirm_by_ms: Some(1_700_000_600_123),
            changes: vec![change],
            subjects: Vec::new(),
            extra: BTreeMap::new(),
            gate: vec!["127.0.0.1:8083 answered 200".to_owned()],
            previous: Hash([0xab; 32]),
            hash: Hash::ZERO,
        };
        commit.hash = commit.computed_hash();
        commit
    }

    #[test]
    fn the_serialisation_is_the_same_in_every_version() {
        // Written down once, by a program that knows the list in the module's text alone.
        assert_eq!(
            full().hash.to_string(),
            "c78e0db6a8a907adcc0b28b10b645f23400a9de17124f65d746d38fa31b8103b"
        );
    }

    /// Returns one of form 2, with all that it can have.
    fn extended() -> Commit {
        let server = SubjectChange {
            subject: "server".to_owned(),
            name: "green/127.0.0.1:8083".to_owned(),
            before: None,
            after: Some("down".to_owned()),
            undoes: Some(4),
        };
        let by = BootTime { boot: 0xabcd, ms: 77 };
        let kind = CommitKind::from_parts("promote", Some(3));
        Commit { kind, subjects: vec![server], ..full() }.with_confirm_by_boot(by)
    }

    #[test]
    fn form_2_is_the_same_in_every_version() {
        assert_eq!((full().form(), extended().form()), (1, 2));
        // Written down once, by a program that knows the list in the module's text alone.
        assert_eq!(
            extended().hash.to_string(),
            "3ef6165527458a42124b486b7dadfa556493dc2238cba880da65baa039c6e757"
        );
        assert_eq!(extended().confirm_by_boot(), Some(BootTime { boot: 0xabcd, ms: 77 }));
        assert_eq!(full().with_confirm_by_boot(BootTime { boot: 1, ms: 2 }).without_optional(), full());
    }

    #[test]
    fn every_field_of_form_2_is_hashed() {
        let edits: &[fn(&mut Commit)] = &[
            |c| c.kind = CommitKind::from_parts("promoted", Some(3)),
            |c| c.kind = CommitKind::from_parts("promote", Some(4)),
            |c| c.kind = CommitKind::from_parts("promote", None),
            |c| c.kind = CommitKind::Undo { of: 3 },
            |c| c.changes.clear(),
            |c| c.subjects.clear(),
            |c| c.subjects.push(c.subjects[0].clone()),
            |c| c.subjects[0].subject = "serve".to_owned(),
            |c| c.subjects[0].name = String::new(),
            |c| c.subjects[0].before = Some(String::new()),
            |c| c.subjects[0].after = None,
            |c| c.subjects[0].undoes = None,
            |c| c.extra.clear(),
            |c| drop(c.extra.insert("a".to_owned(), String::new())),
            |c| drop(c.extra.insert(CONFIRM_BY_BOOT.to_owned(), String::new())),
        ];
        let mut hashes = vec![extended().hash];
        for edit in edits {
            let mut commit = extended();
            edit(&mut commit);
            assert!(!hashes.contains(&commit.computed_hash()), "{commit:?}");
            hashes.push(commit.computed_hash());
        }
    }

    #[test]
    fn only_a_restore_leaves_revisions_out() {
        let mut commits = history();
        let last = commits.last().unwrap().hash;
        let far = Commit { revision: 9, previous: last, kind: CommitKind::Restore, ..full() }.sealed();
        commits.push(far.clone());
        assert_eq!(verify_chain(&commits), Ok(Chain { revision: 9, hash: far.hash }));
        let forged = Commit { kind: CommitKind::Set, ..far.clone() }.sealed();
        *commits.last_mut().unwrap() = forged;
        assert_eq!(verify_chain(&commits).unwrap_err().what, ChainBreak::Revision { expected: 6 });
        let back = Commit { revision: 5, ..far }.sealed();
        *commits.last_mut().unwrap() = back;
        assert_eq!(verify_chain(&commits).unwrap_err().what, ChainBreak::Revision { expected: 6 });
    }

    #[test]
    fn every_field_is_hashed() {
        let edits: &[fn(&mut Commit)] = &[
            |c| c.revision = 8,
            |c| c.time_ms += 1,
            |c| c.kind = CommitKind::Revert { of: 3 },
            |c| c.kind = CommitKind::Confirm { of: 3 },
            |c| c.kind = CommitKind::Undo { of: 4 },
            |c| c.kind = CommitKind::UndoKeys,
            |c| c.kind = CommitKind::Set,
            |c| c.actor = "ann".to_owned(),
            |c| c.reason = None,
            |c| c.reason = Some(String::new()),
            |c| c.idempotency = Some(String::new()),
            |c| std::mem::swap(&mut c.reason, &mut c.idempotency),
            |c| c.forced = false,
            |c| c.confirm_by_ms = None,
            |c| c.confirm_by_ms = Some(0),
            |c| c.changes.clear(),
            |c| c.changes.push(c.changes[0].clone()),
            |c| c.changes[0].key = key("shoq"),
            |c| c.changes[0].before = Some(Route::One("red".into())),
            |c| c.changes[0].after = None,
            |c| c.changes[0].after = Some(Route::parse("green=10 blue=91").unwrap()),
            |c| c.changes[0].undoes = None,
            |c| c.gate.clear(),
            |c| c.gate.push(String::new()),
            |c| c.previous = Hash::ZERO,
            // What leaves one field and enters the next is another text.
            |c| {
                c.actor = "annawrong side".to_owned();
                c.reason = Some(String::new());
            },
        ];
        let mut hashes = vec![full().hash];
        for edit in edits {
            let mut commit = full();
            edit(&mut commit);
            assert!(!hashes.contains(&commit.computed_hash()), "{commit:?}");
            hashes.push(commit.computed_hash());
        }
    }

    fn history() -> Vec<Commit> {
        let mut chain = Chain::start();
        let mut commits = Vec::new();
        for revision in 1..=5 {
            let mut commit = Commit { revision, previous: chain.hash, ..full() };
            commit.hash = commit.computed_hash();
            chain.follow(&commit).unwrap();
            commits.push(commit);
        }
        commits
    }

    #[test]
    fn a_broken_chain_is_located() {
        let good = history();
        assert_eq!(verify_chain(&good), Ok(Chain { revision: 5, hash: good[4].hash }));
        assert_eq!(verify_chain([]), Ok(Chain::start()));
        let broken = |edit: fn(&mut Vec<Commit>)| {
            let mut commits = history();
            edit(&mut commits);
            let fault = verify_chain(&commits).unwrap_err();
            assert!(fault.to_string().contains(&format!("revision {}", fault.revision)));
            (fault.revision, fault.what)
        };
        assert_eq!(broken(|c| c[2].actor = "eve".to_owned()), (3, ChainBreak::Hash));
        // A forger who hashes again breaks the next one.
        let forged = broken(|c| {
            c[2].actor = "eve".to_owned();
            c[2].hash = c[2].computed_hash();
        });
        assert_eq!(forged, (4, ChainBreak::Previous));
        assert_eq!(broken(|c| drop(c.remove(2))), (4, ChainBreak::Revision { expected: 3 }));
        assert_eq!(broken(|c| drop(c.remove(0))), (2, ChainBreak::Revision { expected: 1 }));
        assert_eq!(broken(|c| c.swap(1, 2)), (3, ChainBreak::Revision { expected: 2 }));
        assert_eq!(broken(|c| c.insert(1, c[0].clone())), (1, ChainBreak::Revision { expected: 2 }));
    }

    #[test]
    fn written_hashes_parse_back() {
        let hash = full().hash;
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for text in ["", "00", &"g".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
            assert!(text.parse::<Hash>().is_err(), "{text}");
        }
    }
}
