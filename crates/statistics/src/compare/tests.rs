//! Simulated traffic, by seed: how often the same is called different, and how soon the different is seen.

use super::*;
use crate::RequestEnd;
use crate::testing::Dice;

/// Log-normal response times around a median, and errors.
#[derive(Clone, Copy)]
struct Side {
    median_us: f64,
    sigma: f64,
    errors: f64,
    /// The part of requests that take ten times as long.
    slow: f64,
}

const USUAL: Side = Side { median_us: 2_000.0, sigma: 0.5, errors: 0.01, slow: 0.0 };

fn simulate(side: Side, requests: u64, dice: &mut Dice) -> Counters {
    let mut counters = Counters::default();
    for _ in 0..requests {
        let normal = (-2.0 * dice.unit().ln()).sqrt() * (std::f64::consts::TAU * dice.unit()).cos();
        let slow = if dice.unit() <= side.slow { 10.0 } else { 1.0 };
        let us = side.median_us * (side.sigma * normal).exp() * slow;
        let status = if dice.unit() <= side.errors { 503 } else { 200 };
        counters.request_ended(&RequestEnd { status, response_us: Some(us as u64), received: 0, sent: 0 });
    }
    counters
}

fn differences(comparison: &Comparison) -> [Difference; 5] {
    let Comparison { error_rate, p50_us, p90_us, p99_us, mean_us, .. } = comparison;
    [error_rate, p50_us, p90_us, p99_us, mean_us].map(|compared| compared.difference)
}

/// Returns the number of rounds that found a difference: by each test, and by any.
fn found(sides: [Side; 2], requests: [u64; 2], rounds: u64) -> ([u64; 5], u64) {
    let mut dice = Dice::new(requests[0] * 31 + requests[1]);
    let (mut each, mut any) = ([0; 5], 0);
    for _ in 0..rounds {
        let [first, second] = [0, 1].map(|at| simulate(sides[at], requests[at], &mut dice));
        let differ = differences(&compare(&first, &second))
            .map(|difference| matches!(difference, Difference::Lower | Difference::Higher));
        each.iter_mut().zip(differ).for_each(|(count, differ)| *count += u64::from(differ));
        any += u64::from(differ.contains(&true));
    }
    (each, any)
}

#[test]
fn equal_sides_rarely_differ() {
    let rounds = 400;
    for (side, requests) in [
        (USUAL, [1_200, 1_200]),
        (USUAL, [300, 3_000]),
        (Side { sigma: 1.2, errors: 0.0005, ..USUAL }, [2_000, 2_000]),
        (Side { slow: 0.02, errors: 0.3, ..USUAL }, [1_500, 3_000]),
        // So narrow that all falls into a bucket or two.
        (Side { sigma: 0.004, errors: 0.0, ..USUAL }, [1_500, 1_500]),
    ] {
        let (each, any) = found([side, side], requests, rounds);
        println!("{requests:?}: {each:?} of {rounds} by test, {any} by any");
        // 1 % each and 5 % together, and three standard deviations of the simulation.
        assert!(each.iter().all(|&count| count <= 4 + 6), "{each:?}");
        assert!(any <= 20 + 13, "{any}");
    }
}

#[test]
fn a_real_difference_is_found() {
    let rounds = 100;
    let slower = Side { median_us: USUAL.median_us * 1.15, ..USUAL };
    let (each, _) = found([USUAL, slower], [3_000, 3_000], rounds);
    assert!(each[1] >= 98 && each[4] >= 98, "a median 15 % up: {each:?}");
    let tail = Side { slow: 0.03, ..USUAL };
    let (each, _) = found([USUAL, tail], [3_000, 3_000], rounds);
    assert!(each[3] >= 98, "one in thirty ten times slower: {each:?}");
    assert!(each[1] <= 10, "which the median does not know: {each:?}");
    let failing = Side { errors: 0.03, ..USUAL };
    let (each, _) = found([USUAL, failing], [3_000, 3_000], rounds);
    assert!(each[0] >= 95, "three times the errors: {each:?}");
}

#[test]
fn higher_means_that_the_second_is_higher() {
    let mut dice = Dice::new(9);
    let slow = Side { median_us: 9_000.0, errors: 0.5, ..USUAL };
    let [fast, slow] = [USUAL, slow].map(|side| simulate(side, 2_000, &mut dice));
    assert_eq!(differences(&compare(&fast, &slow)), [Difference::Higher; 5]);
    assert_eq!(differences(&compare(&slow, &fast)), [Difference::Lower; 5]);
    assert_eq!(differences(&compare(&slow, &slow)), [Difference::Noise; 5]);
}

#[test]
fn too_few_samples_are_reported_with_the_number_needed() {
    let mut dice = Dice::new(2);
    let [few, many] = [19, 5_000].map(|requests| simulate(USUAL, requests, &mut dice));
    let needed = [20, 20, 100, 1_000, 100];
    for pair in [[&few, &many], [&many, &few], [&Counters::default(), &many]] {
        let comparison = compare(pair[0], pair[1]);
        assert_eq!(differences(&comparison), needed.map(|needed| Difference::TooFew { needed }));
    }
    let nothing = compare(&Counters::default(), &Counters::default());
    assert_eq!((nothing.error_rate.first, nothing.p50_us.second, nothing.ended), (None, None, [0, 0]));
}

#[test]
fn the_intervals_hold_the_true_quantile() {
    let mut dice = Dice::new(77);
    // The quantiles of the standard normal distribution.
    for (q, z) in [(0.5, 0.0_f64), (0.9, 1.281_552), (0.99, 2.326_348)] {
        let truth = USUAL.median_us * (USUAL.sigma * z).exp();
        let missed = (0..400).filter(|_| {
            let counters = simulate(USUAL, 1_000, &mut dice);
            let (low, high) = interval(&counters.response, q).expect("enough");
            !(low..=high).contains(&truth)
        });
        let missed = missed.count();
        assert!(missed <= 4 + 6, "{missed} of 400 at {q}");
    }
}

/// Tables with known answers, worked out with exact fractions.
#[test]
fn fishers_test_is_exact() {
    let table = |a: u64, n: u64, b: u64, m: u64| {
        let side = |errors, ended| Counters { errors, ended, ..Counters::default() };
        fisher(&side(a, n), &side(b, m))
    };
    // Fisher's lady tasting tea: three of four right, 34/70.
    assert!((table(3, 4, 1, 4) - 34.0 / 70.0).abs() < 1e-9);
    // All four right, both tails: 2/70.
    assert!((table(4, 4, 0, 4) - 2.0 / 70.0).abs() < 1e-9);
    // None of ten against five of ten: 2 · C(10,5) / C(20,5) = 504/15504.
    assert!((table(0, 10, 5, 10) - 504.0 / 15_504.0).abs() < 1e-9);
    assert!((table(7, 50, 7, 50) - 1.0).abs() < 1e-9);
    assert!((table(50, 50, 50, 50) - 1.0).abs() < 1e-9);
    assert!((log_factorial(170) - (2..=170_u64).map(|k| (k as f64).ln()).sum::<f64>()).abs() < 1e-9);
}

#[test]
fn the_two_tests_of_errors_agree_where_they_meet() {
    let side = |errors, ended| Counters { errors, ended, ..Counters::default() };
    for (more, differ) in [(490, false), (520, false), (700, true)] {
        let below = errors(&side(499, 10_000), &side(more.min(500), 10_000));
        let above = errors(&side(510, 10_000), &side(more, 10_000));
        assert_eq!(below.difference, Difference::Noise);
        assert_eq!(matches!(above.difference, Difference::Higher), differ, "{more}");
    }
    assert!(fisher(&side(510, 10_000), &side(600, 10_000)) < LEVEL);
    assert_eq!(errors(&side(510, 10_000), &side(600, 10_000)).difference, Difference::Higher);
}
