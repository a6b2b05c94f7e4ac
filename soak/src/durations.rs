//! Durations in microseconds, and their quantiles.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Recorded durations; a quantile is off by 0.1 % at most.
#[derive(Debug)]
pub(crate) struct Durations(Histogram<u64>);

impl Durations {
    pub(crate) fn new() -> Result<Durations, String> {
        Histogram::new(3).map(Durations).map_err(|e| e.to_string())
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        self.record_us(duration.as_micros() as u64);
    }

    pub(crate) fn record_us(&mut self, us: u64) {
        // It resizes itself: every value fits.
        let _ = self.0.record(us);
    }

    /// Returns the number of durations.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Returns the duration below which this share of them lies, in microseconds; the longest one for 1.
    pub(crate) fn quantile_us(&self, share: f64) -> u64 {
        if share >= 1.0 { self.0.max() } else { self.0.value_at_quantile(share) }
    }

    /// Quantiles in milliseconds as text, such as `p50 1.2 ms, max 3.4 ms`.
    pub(crate) fn in_ms(&self, shares: &[f64]) -> String {
        let mut text = String::new();
        for share in shares {
            let name = if *share < 1.0 { format!("p{}", share * 100.0) } else { "max".to_owned() };
            let comma = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{comma}{name} {:.2} ms", self.quantile_us(*share) as f64 / 1000.0);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_recorded_values() {
        let mut durations = Durations::new().expect("three digits are allowed");
        (1..=100).for_each(|us| durations.record_us(us));
        let quantiles = [0.5, 0.99, 1.0].map(|share| durations.quantile_us(share));
        assert_eq!((durations.count(), quantiles), (100, [50, 99, 100]));
        assert_eq!(durations.in_ms(&[0.5, 1.0]), "p50 0.05 ms, max 0.10 ms");
    }
}
