//! The time of day, for the record.
//!
//! Owns the one place where the control plane reads it, so that a simulation can set it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    now_us() / 1000
}

/// Microseconds since the Unix epoch.
pub(crate) fn now_us() -> u64 {
    #[cfg(test)]
    if let Some(now_us) = super::simulation::now_us() {
        return now_us;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
