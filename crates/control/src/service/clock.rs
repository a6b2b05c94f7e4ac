//! The time of day, for the record, and the clock of the boot, for deadlines.
//!
//! Owns the one place where the control plane reads them, so that a simulation can set them.

use nix::time::{ClockId, clock_gettime};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};
use switch::{BootTime, ClockReading};

/// The boot of this machine, if the kernel gives it.
static BOOT: LazyLock<Option<u128>> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
});

/// Reads both clocks.
pub(crate) fn now() -> ClockReading {
    #[cfg(test)]
    if let Some(now) = super::simulation::now() {
        return now;
    }
    ClockReading { wall_ms: now_ms(), boot: boot_time() }
}

fn boot_time() -> Option<BootTime> {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let ms = since.tv_sec() * 1000 + since.tv_nsec() / 1_000_000;
    Some(BootTime { boot: (*BOOT)?, ms: ms.try_into().ok()? })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_and_its_clock_are_read() {
        let (first, second) = (now().boot.unwrap(), now().boot.unwrap());
        assert_eq!(first.boot, second.boot);
        assert!(first.boot != 0 && first.ms > 0 && second.ms >= first.ms);
    }
}
