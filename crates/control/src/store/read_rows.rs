//! The changes that were read from each file, for tests that bound them.
//!
//! Owns the counters. Must never be there outside tests.

use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static READ: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

/// Counts rows that were read through a connection.
pub(super) fn add(connection: &Connection, rows: usize) {
    let path = connection.path().map(PathBuf::from).unwrap_or_default();
    *READ.lock().unwrap_or_else(PoisonError::into_inner).entry(path).or_default() += rows;
}

/// Returns how many rows of a file were read since it was asked last.
pub(crate) fn take(path: &Path) -> usize {
    READ.lock().unwrap_or_else(PoisonError::into_inner).remove(path).unwrap_or(0)
}
