//! Times by the clock of one boot of a machine, which no step of the wall clock moves.
//!
//! Owns: their text, and a reading of both clocks. Must never read a clock.

use std::fmt;
use std::str::FromStr;

/// A time by the clock of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootTime {
    /// The boot (on Linux `/proc/sys/kernel/random/boot_id`).
    pub boot: u128,
    /// In milliseconds since that boot, time asleep included.
    pub ms: u64,
}

/// A reading of the clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The wall clock, in ms since 1970 UTC.
    pub wall_ms: u64,
    /// The clock of the boot, if the machine has one.
    pub boot: Option<BootTime>,
}

impl From<u64> for ClockReading {
    /// Returns a reading of the wall clock alone.
    fn from(wall_ms: u64) -> ClockReading {
        ClockReading { wall_ms, boot: None }
    }
}

impl fmt::Display for BootTime {
    /// Writes `BOOT:MS`, the boot as 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}:{}", self.boot, self.ms)
    }
}

impl FromStr for BootTime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<BootTime, Self::Err> {
        let fault = "a time since boot is 32 hexadecimal digits, a colon and milliseconds";
        let (boot, ms) = text.split_once(':').filter(|(boot, _)| boot.len() == 32).ok_or(fault)?;
        let boot = u128::from_str_radix(boot, 16).map_err(|_| fault)?;
        Ok(BootTime { boot, ms: ms.parse().map_err(|_| fault)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_times_parse_back() {
        let time = BootTime { boot: 0xabc, ms: 12 };
        assert_eq!(time.to_string(), "00000000000000000000000000000abc:12");
        assert_eq!(time.to_string().parse(), Ok(time));
        for text in
            ["", ":", "abc:12", "00000000000000000000000000000abc:", "00000000000000000000000000000abg:1"]
        {
            assert!(text.parse::<BootTime>().is_err(), "{text}");
        }
    }
}
