//! How groups did, slot by slot of a window.
//!
//! Owns: the shape in which it is read. Must never: be changed after it was made.

use std::sync::Arc;

/// The slots of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// The length of a slot.
    pub slot_ms: u64,
    /// The number of the oldest slot that was counted from its beginning. Slot `n` begins at `n` times `slot_ms`.
    pub first: u64,
    /// The number of the newest slot, which is under way.
    pub last: u64,
    /// The present, in the time of the slots.
    pub now_ms: u64,
    /// Each group of the configuration, and its slots in which a request ended.
    pub groups: Vec<(Arc<str>, Vec<CoursePoint>)>,
}

/// A slot of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoursePoint {
    /// The number of the slot.
    pub slot: u64,
    /// Requests that ended in it.
    pub ended: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// The median of their response times.
    pub p50_us: Option<u64>,
    /// The 99th percentile.
    pub p99_us: Option<u64>,
}
