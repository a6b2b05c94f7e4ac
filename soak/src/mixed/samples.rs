//! Memory and descriptors over time, and the rule that they stay flat. The first quarter is the warm-up and does not count.

use std::fmt::Write;

use super::servers::Resources;

/// One sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at_s: u64,
    pub(super) resources: Resources,
    /// Requests that have ended.
    pub(super) ended: u64,
}

/// How much the median of the last quarter may be above that of the second, as a share of it…
const MAX_GROWTH: f64 = 0.05;
/// … or in KiB and descriptors, whichever is more: one kill or upgrade more in a quarter weighs about as much.
const MAX_GROWTH_KIB: u64 = 4 << 10;
const MAX_GROWTH_DESCRIPTORS: u64 = 40;

/// The rule as text.
const RULE: &str = "the median of the last quarter is at most 5 % (or 4 MiB, or 40 descriptors) above that of the second quarter";

/// Returns the medians of the second and the last quarter; fails if they are not flat.
fn flat(
    samples: &[Sample],
    what: &str,
    allowed: u64,
    of: impl Fn(&Sample) -> u64,
) -> Result<(u64, u64), String> {
    let median = |from: usize, to: usize| {
        let (from, to) = (samples.len() * from / 4, samples.len() * to / 4);
        let mut part: Vec<u64> = samples[from..to].iter().map(&of).collect();
        part.sort_unstable();
        part.get(part.len() / 2).copied()
    };
    let (Some(second), Some(last)) = (median(1, 2), median(3, 4)) else {
        return Err(format!("{what}: {} samples are too few", samples.len()));
    };
    let most = second + ((second as f64 * MAX_GROWTH) as u64).max(allowed);
    match last <= most {
        true => Ok((second, last)),
        false => Err(format!("{what} grew from {second} in the second quarter to {last} in the last")),
    }
}

/// Returns the result for both as text; violations are added to `broken`.
pub(super) fn judge(samples: &[Sample], broken: &mut Vec<String>) -> String {
    let memory = flat(samples, "memory in KiB", MAX_GROWTH_KIB, |sample| sample.resources.memory_kib);
    let descriptors =
        flat(samples, "descriptors", MAX_GROWTH_DESCRIPTORS, |sample| sample.resources.descriptors);
    let shown = |flat: &Result<(u64, u64), String>, unit: &str| match flat {
        Ok((second, last)) => format!("{second} and {last} {unit}"),
        Err(error) => error.clone(),
    };
    let text = format!(
        "second quarter and last quarter: memory {}, descriptors {}; the rule: {RULE}",
        shown(&memory, "KiB"),
        shown(&descriptors, "open")
    );
    broken.extend(memory.err());
    broken.extend(descriptors.err());
    text
}

/// Returns the series as a table.
pub(super) fn table(samples: &[Sample]) -> String {
    let mut text = "  second  processes  memory_kib  descriptors  requests\n".to_owned();
    for Sample { at_s, resources, ended } in samples {
        let Resources { processes, memory_kib, descriptors } = resources;
        let _ = writeln!(text, "{at_s:>8} {processes:>10} {memory_kib:>11} {descriptors:>12} {ended:>9}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(of: impl Fn(u64) -> u64) -> Vec<Sample> {
        let resources = |n| Resources { processes: 2, memory_kib: of(n), descriptors: 100 };
        (0..80).map(|n| Sample { at_s: 5 * n, resources: resources(n), ended: n }).collect()
    }

    #[test]
    fn a_leak_is_not_flat_but_a_warm_up_and_waves_are() {
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
