//! The time as a request sees it: three readings of the host's clocks, taken at once.

/// The time, read once per turn of the loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since the Unix epoch.
    pub epoch_us: u64,
    /// Microseconds of a clock that never goes back.
    pub monotonic_us: u64,
    /// Seconds east of UTC, for `$time_local`.
    pub utc_offset_s: i32,
}

impl Now {
    /// Returns the whole seconds since the Unix epoch.
    pub fn epoch_s(self) -> u64 {
        self.epoch_us / 1_000_000
    }
    /// Milliseconds since the Unix epoch.
    pub fn epoch_ms(self) -> u64 {
        self.epoch_us / 1_000
    }
    /// Milliseconds of the clock that never goes back.
    pub fn monotonic_ms(self) -> u64 {
        self.monotonic_us / 1_000
    }
}
