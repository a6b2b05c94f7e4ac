//! The tables in a store's file, and their two formats.
//!
//! Owns: their shape, and the marks by which a file is known as ours. Must never: be changed without another [`Format`]
//! and a way to it from every earlier one (`migration.rs`).
//!
//! Format 2 adds to format 1 what form 2 of a commit needs ([`switch::Commit`]): extra fields, changes of what is no key,
//! the table of their values, and in `head` the epoch and the mark that there is a second file.

/// `application_id` of our files: "PNTS" as a number.
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"PNTS");

/// The shape of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// That of versions before 0.2. It holds commits of form 1 only.
    One,
    /// That of today.
    Two,
}

impl Format {
    /// The newest.
    pub(super) const NEWEST: Format = Format::Two;

    /// Returns the format with this `user_version`.
    pub(super) fn of_version(version: i32) -> Option<Format> {
        match version {
            1 => Some(Format::One),
            2 => Some(Format::Two),
            _ => None,
        }
    }

    /// Returns its `user_version`.
    pub(super) fn version(self) -> i32 {
        match self {
            Format::One => 1,
            Format::Two => 2,
        }
    }

    /// Returns the columns of a commit, in reading order.
    pub(super) fn commit_columns(self) -> &'static str {
        match self {
            Format::One => {
                "revision, time_ms, kind, about, actor, reason, idempotency, forced, confirm_by_ms, gate, previous, \
                 hash, NULL"
            }
            Format::Two => {
                "revision, time_ms, kind, about, actor, reason, idempotency, forced, confirm_by_ms, gate, previous, \
                 hash, extra"
            }
        }
    }

    /// Returns the columns of a change, in reading order.
    pub(super) fn change_columns(self) -> &'static str {
        match self {
            Format::One => "revision, key, before, after, undoes, 'key'",
            Format::Two => "revision, key, before, after, undoes, subject",
        }
    }

    /// Returns the condition that selects the changes of keys.
    pub(super) fn of_keys(self) -> &'static str {
        match self {
            Format::One => "",
            Format::Two => "AND subject = 'key'",
        }
    }
}

/// Makes the tables of format 1.
///
/// `head` has the one row that says how far the history is and what `entries` must add up to, so that damage which
/// SQLite cannot see (it has no checksums) is found when the file is opened. `digest` is the sum of all entries'
/// digests ([`super::rows::entry_digest`]).
pub(super) const TABLES: &str = "
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    key_kind TEXT NOT NULL,
    revision INTEGER NOT NULL,
    hash BLOB NOT NULL,
    keys INTEGER NOT NULL,
    digest BLOB NOT NULL,
    opened_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE entries (
    key TEXT PRIMARY KEY,
    route TEXT NOT NULL,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE commits (
    revision INTEGER PRIMARY KEY,
    time_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    about INTEGER,
    actor TEXT NOT NULL,
    reason TEXT,
    idempotency TEXT,
    forced INTEGER NOT NULL,
    confirm_by_ms INTEGER,
    gate TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE changes (
    revision INTEGER NOT NULL,
    place INTEGER NOT NULL,
    key TEXT NOT NULL,
    before TEXT,
    after TEXT,
    undoes INTEGER,
    PRIMARY KEY (revision, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX changes_by_key ON changes (key, revision);
CREATE TABLE idempotency (
    name TEXT PRIMARY KEY,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE pending (
    revision INTEGER PRIMARY KEY,
    confirm_by_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE receipts (
    revision INTEGER PRIMARY KEY,
    receipt TEXT NOT NULL
) STRICT;
";

/// Makes the tables of format 2 out of those of format 1.
///
/// `extra` is a JSON object of texts. `changes.key` is the name within `changes.subject`. `subjects` has the present
/// value of each subject but keys; `head.digest` covers it too. `head.anchored` is 1 once there has been a second file.
pub(super) const TO_TWO: &str = "
ALTER TABLE head ADD COLUMN epoch INTEGER NOT NULL DEFAULT 1;
ALTER TABLE head ADD COLUMN anchored INTEGER NOT NULL DEFAULT 0;
ALTER TABLE commits ADD COLUMN extra TEXT;
ALTER TABLE changes ADD COLUMN subject TEXT NOT NULL DEFAULT 'key';
CREATE TABLE subjects (
    subject TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (subject, name)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 2;
";

/// The table of orders that changed nothing (`unchanged.rs`); part of format 2. A file that was made before it existed gets
/// it when it is opened, and a program that does not know it leaves it alone.
pub(super) const UNCHANGED: &str = "
CREATE TABLE IF NOT EXISTS unchanged (
    name TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    revision INTEGER NOT NULL,
    time_ms INTEGER NOT NULL
) STRICT;
";
