//! What a peer may cost, whatever the configuration says.

/// The limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H2Limits {
    /// The most streams at a time (`http2_max_concurrent_streams`).
    pub max_streams: u32,
    /// How many bytes of a body may come before anything asks for them (`http2_body_preread_size`).
    pub initial_window: u32,
    /// The most that the fields of a head may take, 32 bytes for each of them included (RFC 9113 §6.5.2).
    pub max_list_bytes: usize,
}

impl Default for H2Limits {
    fn default() -> H2Limits {
        H2Limits { max_streams: 128, initial_window: 64 << 10, max_list_bytes: MAX_LIST_BYTES }
    }
}

/// The most that a head's fields may take without a configuration.
const MAX_LIST_BYTES: usize = 32 << 10;

/// The most CONTINUATION frames of a header block: 8 frames are 128 KiB, and no list that is allowed needs as much.
pub(crate) const MAX_CONTINUATIONS: u8 = 8;

/// The same for a response, whose sender is asked for it.
pub(crate) const MAX_RESPONSE_CONTINUATIONS: u8 = 128;

/// The most bytes of a header block.
pub(crate) const MAX_BLOCK_BYTES: usize = 256 << 10;

/// The most bytes of control frames that wait to be sent.
pub(crate) const MAX_CONTROL_BYTES: usize = 64 << 10;

/// The most bytes of bodies that a connection holds and nothing has asked for yet.
pub(crate) const MAX_BUFFERED: u32 = 1 << 20;

/// A number of events that is allowed at once, and how many more with each second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    left: u32,
    most: u32,
    per_second: u32,
    /// When it last grew, on the caller's clock.
    grown_ms: u64,
}

impl Allowance {
    pub(crate) const fn new(most: u32, per_second: u32) -> Allowance {
        Allowance { left: most, most, per_second, grown_ms: 0 }
    }

    /// Streams that are reset: 1,000, and 200 a second. A browser that leaves a page resets some dozens.
    pub(crate) const fn of_resets() -> Allowance {
        Allowance::new(1_000, 200)
    }

    /// Frames that carry nothing: 2,000, and 1,000 a second beside those that answer to what was sent.
    pub(crate) const fn of_idle_frames() -> Allowance {
        Allowance::new(2_000, 1_000)
    }

    /// Returns the same for an upstream, which may answer to each part of a body with several of them.
    pub(crate) const fn of_an_upstream_s_idle_frames() -> Allowance {
        Allowance::new(20_000, 10_000)
    }

    /// Uses one; returns false if none is left.
    pub(crate) fn take(&mut self, now_ms: u64) -> bool {
        if self.left == 0 {
            let grown =
                now_ms.saturating_sub(self.grown_ms).saturating_mul(u64::from(self.per_second)) / 1000;
            if grown > 0 {
                self.grant(u32::try_from(grown).unwrap_or(u32::MAX));
                self.grown_ms = now_ms;
            }
        } else if self.left == self.most {
            // Nothing grows beyond the most.
            self.grown_ms = now_ms;
        }
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        true
    }

    /// Adds some.
    pub(crate) fn grant(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowance_grows_with_time_up_to_its_most() {
        let mut allowance = Allowance::new(1_000, 200);
        let taken =
            |allowance: &mut Allowance, now_ms| (0..5_000).take_while(|_| allowance.take(now_ms)).count();
        assert_eq!(taken(&mut allowance, 10_000), 1_000);
        assert_eq!(taken(&mut allowance, 10_000), 0);
        assert_eq!(taken(&mut allowance, 11_000), 200);
        assert_eq!(taken(&mut allowance, 11_500), 100);
        assert_eq!(taken(&mut allowance, 60_000), 1_000);
        allowance.grant(7);
        assert_eq!(taken(&mut allowance, 60_000), 7);
    }
}
