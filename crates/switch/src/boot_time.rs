//! Times by the clock of one boot of a machine, which no step of the wall clock moves.
//!
//! Owns: their text, a reading of both clocks, and deadlines by both. Must never read a clock.

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

/// The end of a span of time that processes and boots share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// In ms since 1970 UTC.
    pub wall_ms: u64,
    /// The same by the clock of the boot in which the span began, which counts as long as that boot lasts.
    pub boot: Option<BootTime>,
    /// The length of the span.
    pub span_ms: u64,
}

impl Deadline {
    /// Returns the end of a span that begins now.
    pub fn after(span_ms: u64, now: ClockReading) -> Deadline {
        let boot = now.boot.map(|now| BootTime { ms: now.ms.saturating_add(span_ms), ..now });
        Deadline { wall_ms: now.wall_ms.saturating_add(span_ms), boot, span_ms }
    }

    /// Returns how much of the span is left; 0 when it is over.
    ///
    /// In the boot in which it began its clock counts, in every process: no step of the wall clock moves the deadline. After
    /// a reboot the wall clock counts, and since the whole time of the new boot has passed after the beginning, at most the
    /// span less that time is left. Without a time by a boot only the wall clock counts.
    pub fn left_ms(&self, now: ClockReading) -> u64 {
        let by_wall_ms = self.wall_ms.saturating_sub(now.wall_ms);
        match (self.boot, now.boot) {
            (Some(by), Some(now)) if by.boot == now.boot => by.ms.saturating_sub(now.ms).min(self.span_ms),
            (Some(_), Some(now)) => by_wall_ms.min(self.span_ms.saturating_sub(now.ms)),
            _ => by_wall_ms,
        }
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
    fn a_span_goes_by_the_clock_of_its_boot_and_then_by_the_wall() {
        let at = |wall_ms, boot, ms| ClockReading { wall_ms, boot: Some(BootTime { boot, ms }) };
        let by = Deadline::after(1_000, at(50_000, 1, 200));
        assert_eq!(by.left_ms(at(50_000, 1, 200)), 1_000);
        assert_eq!((by.left_ms(at(9_000_000, 1, 700)), by.left_ms(at(0, 1, 1_200))), (500, 0));
        assert_eq!((by.left_ms(at(50_400, 2, 0)), by.left_ms(at(60_000, 2, 0))), (600, 0));
        assert_eq!(by.left_ms(at(0, 2, 300)), 700, "of the new boot 300 ms have passed");
        assert_eq!(Deadline::after(1_000, 50_000.into()).left_ms(50_400.into()), 600);
    }

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
