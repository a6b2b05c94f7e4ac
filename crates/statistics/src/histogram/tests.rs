//! Every bucket has its edges, and quantiles are as near to the exact ones as promised.

use super::*;
use crate::testing::Dice;

#[test]
fn buckets_have_no_gaps() {
    for bucket in 0..Histogram::LEN {
        let from = lower_edge(bucket);
        assert_eq!(bucket_of(from), bucket);
        if bucket > 0 {
            assert_eq!(bucket_of(from - 1), bucket - 1);
            let width = from - lower_edge(bucket - 1);
            assert!((width - 1) as f64 / 2.0 <= Histogram::ERROR * lower_edge(bucket - 1) as f64, "{bucket}");
        }
    }
    assert_eq!(bucket_of(u64::MAX), Histogram::LEN - 1);
    assert_eq!(
        bucket_of(3_600_000_000 * 19),
        Histogram::LEN - 1,
        "19 hours is on the scale, in the last octave"
    );
}

/// Draws from shapes that traffic has: narrow, two humps, heavy tail, everything.
fn durations(dice: &mut Dice, shape: u64, len: usize) -> Vec<u64> {
    (0..len)
        .map(|_| match shape {
            0 => 900 + dice.below(200),
            1 if dice.below(10) == 0 => 1_000_000 + dice.below(500_000),
            1 => 2_000 + dice.below(1_000),
            2 => (500.0 * (-(dice.unit().ln())).exp()).min(1e10) as u64,
            3 => 1 << dice.below(36),
            _ => {
                let octave = dice.below(35);
                dice.below(2 << octave)
            }
        })
        .collect()
}

#[test]
fn quantiles_are_within_the_error_of_the_exact_ones() {
    let mut dice = Dice::new(7);
    for round in 0..400 {
        let len = 1 + dice.below(3_000) as usize;
        let mut exact = durations(&mut dice, round % 5, len);
        let mut histogram = Histogram::new();
        exact.iter().for_each(|&us| histogram.record(us));
        exact.sort_unstable();
        for q in [0.0, 0.001, 0.1, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0] {
            let rank = ((q * len as f64).ceil() as usize).clamp(1, len);
            let (wanted, got) = (exact[rank - 1] as f64, histogram.quantile(q).expect("some") as f64);
            // The answer is in whole microseconds, which is a half more where they are few.
            assert!(
                (wanted - got).abs() <= wanted * 0.02_f64.min(Histogram::ERROR) + 0.5,
                "{q}: {wanted}, {got}"
            );
            let (from, to) = histogram.edges_of_rank(rank as u64).expect("some");
            assert!((from..=to).contains(&exact[rank - 1]));
        }
        assert_eq!(histogram.count(), len as u64);
        assert_eq!(histogram.sum_us(), exact.iter().sum::<u64>());
        assert_eq!(histogram.max_us(), *exact.last().expect("some"));
        assert!(histogram.quantile(1.0).expect("some") <= histogram.max_us());
    }
}

#[test]
fn merged_parts_equal_the_whole() {
    let mut dice = Dice::new(11);
    for round in 0..100 {
        let all = durations(&mut dice, round % 5, 500);
        let (mut whole, mut parts) = (Histogram::new(), [const { None }; 4]);
        for &us in &all {
            whole.record(us);
            parts[dice.below(4) as usize].get_or_insert_with(Histogram::new).record(us);
        }
        let mut merged = Histogram::new();
        parts.iter().flatten().for_each(|part| merged.merge(part));
        assert_eq!(merged, whole);
        merged.clear();
        assert_eq!(merged, Histogram::new());
        assert_eq!(merged.quantile(0.5), None);
    }
}

#[test]
fn cumulative_counts_rise_to_the_total() {
    let mut histogram = Histogram::new();
    durations(&mut Dice::new(3), 2, 2_000).into_iter().for_each(|us| histogram.record(us));
    let bounds = [0, 1, 10, 100, 1_000, 10_000, 100_000, u64::MAX];
    let counts = histogram.cumulative(&bounds);
    assert!(counts.is_sorted());
    assert_eq!(counts.last(), Some(&2_000));
    let mut sharp = Histogram::new();
    [999, 1_000, 1_100].into_iter().for_each(|us| sharp.record(us));
    assert_eq!(sharp.cumulative(&[1_000]), [2], "a duration on a round bound is counted below it");
}

#[test]
fn an_empty_histogram_owns_no_memory() {
    let mut histogram = Histogram::new();
    assert_eq!(histogram.heap_bytes(), 0);
    assert_eq!((histogram.quantile(0.5), histogram.mean_us(), histogram.variance()), (None, None, None));
    (600..4_000).for_each(|us| histogram.record(us));
    assert_eq!(histogram.heap_bytes(), 3 * 256, "one page for each octave in use");
    (0..u64::from(u32::MAX)).step_by(60_000).for_each(|us| histogram.record(us));
    assert!(histogram.heap_bytes() <= 32 * 256);
}

#[test]
fn the_mean_is_exact_and_the_variance_close() {
    let mut histogram = Histogram::new();
    (1..=1_000).for_each(|us| histogram.record(us * 100));
    assert_eq!(histogram.mean_us(), Some(50_050.0));
    let exact = (1_000.0_f64 * 1_001.0 / 12.0) * 100.0 * 100.0;
    let bound = histogram.variance().expect("some");
    assert!(bound >= exact && bound < exact * 1.05, "{bound} {exact}");
    let mut narrow = Histogram::new();
    [2_000, 2_010].into_iter().for_each(|us| narrow.record(us));
    assert!(narrow.variance().expect("some") >= 50.0, "what lies in one bucket varies too");
}
