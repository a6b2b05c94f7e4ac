//! The tables in a store's file.
//!
//! Owns: their shape, and the marks by which a file is known as ours. Must never: be changed without another
//! [`VERSION`] and a way to it from every earlier one.

/// `application_id` of our files: "PNTS" as a number.
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"PNTS");

/// `user_version` of files of this shape.
pub(super) const VERSION: i32 = 1;

/// Makes the tables.
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
