//! Memory and descriptors over time, and whether they are flat.
//!
//! Owns the series and the rule. Must never judge what is left of a warm-up: the first quarter does not count.

use super::fleet::Held;
use std::fmt::Write;

/// One look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at_s: u64,
    pub(super) held: Held,
    /// Requests that had ended.
    pub(super) ended: u64,
}

/// The median of the last quarter may be so much above that of the second, as a part of it...
const GROWTH: f64 = 0.05;
/// ...or this, whichever is more: a kill or an upgrade more or less in a quarter weighs about as much.
const WAVES: (u64, u64) = (4 << 10, 40);

/// The rule, in words.
pub(super) const RULE: &str = "the median of the last quarter is at most 5 % (or 4 MiB, or 40 descriptors) above that of the second quarter";

/// Is it flat? Answers the medians of the second quarter and the last.
pub(super) fn flat(
    samples: &[Sample],
    what: &str,
    waves: u64,
    of: impl Fn(&Sample) -> u64,
) -> Result<(u64, u64), String> {
    let median = |from: usize, to: usize| {
        let (from, to) = (samples.len() * from / 4, samples.len() * to / 4);
        let mut part: Vec<u64> = samples[from..to].iter().map(&of).collect();
        part.sort_unstable();
        part.get(part.len() / 2).copied()
    };
    let (Some(second), Some(last)) = (median(1, 2), median(3, 4)) else {
        return Err(format!("{what}: {} looks are too few", samples.len()));
    };
    let most = second + ((second as f64 * GROWTH) as u64).max(waves);
    match last <= most {
        true => Ok((second, last)),
        false => Err(format!("{what} grew from {second} in the second quarter to {last} in the last")),
    }
}

/// Both, in words; what is not flat is added to `broken`.
pub(super) fn judge(samples: &[Sample], broken: &mut Vec<String>) -> String {
    let memory = flat(samples, "memory in KiB", WAVES.0, |sample| sample.held.memory_kib);
    let descriptors = flat(samples, "descriptors", WAVES.1, |sample| sample.held.descriptors);
    let told = |flat: &Result<(u64, u64), String>, unit: &str| match flat {
        Ok((second, last)) => format!("{second} and {last} {unit}"),
        Err(error) => error.clone(),
    };
    let told = format!(
        "second quarter and last quarter: memory {}, descriptors {}; the rule: {RULE}",
        told(&memory, "KiB"),
        told(&descriptors, "open")
    );
    broken.extend(memory.err());
    broken.extend(descriptors.err());
    told
}

/// The series as a table.
pub(super) fn table(samples: &[Sample]) -> String {
    let mut text = "  second  processes  memory_kib  descriptors  requests\n".to_owned();
    for Sample { at_s, held, ended } in samples {
        let Held { processes, memory_kib, descriptors } = held;
        let _ = writeln!(text, "{at_s:>8} {processes:>10} {memory_kib:>11} {descriptors:>12} {ended:>9}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(of: impl Fn(u64) -> u64) -> Vec<Sample> {
        let held = |n| Held { processes: 2, memory_kib: of(n), descriptors: 100 };
        (0..80).map(|n| Sample { at_s: 5 * n, held: held(n), ended: n }).collect()
    }

    #[test]
    fn a_warm_up_and_waves_are_flat_and_a_leak_is_not() {
        let judged = |samples: &[Sample]| {
            let mut broken = Vec::new();
            judge(samples, &mut broken);
            broken.len()
        };
        assert_eq!(judged(&samples(|n| if n < 15 { 10_000 + n * 1000 } else { 30_000 + n % 7 * 300 })), 0);
        assert_eq!(judged(&samples(|n| 30_000 + n * 200)), 1);
        assert_eq!(judged(&[]), 2);
        assert_eq!(table(&samples(|_| 1)).lines().count(), 81);
    }
}
