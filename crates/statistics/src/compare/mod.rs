//! A comparison of two sets of counters: whether the difference is more than noise.
//!
//! Owns: the statistics and how they are done. Must never: call something a difference that is likely none.
//!
//! **Method.** Five things are compared: the part of errors, the quantiles p50, p90 and p99 of the response time, and
//! its mean. Each is tested by itself at 1 %, so that all five together err in at most 5 of 100 comparisons of two
//! things that are the same (Bonferroni).
//!
//! - *Errors*: Fisher's exact test of the two-by-two table where it is small (fewer than 1,000 errors on the
//!   whole, or as few successes), else the two-proportion z-test with a pooled variance. Both two-sided.
//! - *Quantiles*: the interval of order statistics that holds the true quantile whatever the distribution, ranks
//!   n·q ± z·√(n·q·(1−q)) and one more outwards; from the outer edges of the histogram's buckets, so what the buckets
//!   hide (1.6 %) is part of it. The two intervals are combined to one of the difference by the square-and-add rule
//!   (Zou and Donner 2008, *MOVER*). A difference is one if that interval does not hold zero. A quantile needs ten
//!   samples beyond it on both sides: 20 for p50, 100 for p90, 1,000 for p99.
//! - *Mean*: Welch's test, from 100 samples each, with an upper bound of the variance (the buckets hide some). With
//!   heavy tails it is the weakest of the five: look at quantiles.
//!
//! **What it assumes**: that requests are independent of one another. Within one busy second they are not
//! quite (a queue slows all in it), and the two sides may get different requests. So it says how much chance can do,
//! and no more.

use crate::{Counters, Histogram};

/// The two-sided 1 % point of the normal distribution.
const Z: f64 = 2.575_829;
/// The level that [`Z`] belongs to.
const LEVEL: f64 = 0.01;
/// With fewer errors, or fewer successes, on both sides together the exact test is used.
const EXACT_BELOW: u64 = 1_000;
/// Samples that must lie beyond a quantile on either side of it.
const BEYOND: f64 = 10.0;
/// Samples that the mean needs.
const MEAN_MIN: u64 = 100;
/// Requests that each side needs, for errors to be compared.
const ERRORS_MIN: u64 = 20;

/// Two things side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The number of finished requests, of the first and the second.
    pub ended: [u64; 2],
    /// Errors, as parts of what ended: 0 to 1.
    pub error_rate: Compared,
    /// The median of the response time, in microseconds.
    pub p50_us: Compared,
    /// The 90th percentile of the response time, in microseconds.
    pub p90_us: Compared,
    /// The 99th percentile of the response time, in microseconds.
    pub p99_us: Compared,
    /// The mean response time, in microseconds.
    pub mean_us: Compared,
}

/// One number of two things.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// Of the first; `None` without a sample.
    pub first: Option<f64>,
    /// Of the second.
    pub second: Option<f64>,
    /// Whether the difference is significant.
    pub difference: Difference,
}

/// Whether the second differs from the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// One side has too few samples.
    TooFew {
        /// The number of samples that each side needs.
        needed: u64,
    },
    /// The difference may be chance.
    Noise,
    /// The second is lower, and not by chance.
    Lower,
    /// The second is higher, and not by chance.
    Higher,
}

impl Difference {
    /// Returns a stable name.
    pub fn name(self) -> &'static str {
        match self {
            Difference::TooFew { .. } => "too_few",
            Difference::Noise => "noise",
            Difference::Lower => "lower",
            Difference::Higher => "higher",
        }
    }

    fn of(first: f64, second: f64, differ: bool) -> Difference {
        match (differ, second < first) {
            (false, _) => Difference::Noise,
            (true, true) => Difference::Lower,
            (true, false) => Difference::Higher,
        }
    }
}

/// Compares two sets of counters, of the same window.
///
/// ```
/// use pointsman_statistics::compare::{Difference, compare};
/// use pointsman_statistics::{Counters, RequestEnd};
///
/// let side = |errors: u64| {
///     let mut counters = Counters::default();
///     for n in 0..1_000 {
///         let status = if n < errors { 502 } else { 200 };
///         counters.request_ended(&RequestEnd { status, response_us: Some(1_000), ..Default::default() });
///     }
///     counters
/// };
/// assert_eq!(compare(&side(2), &side(40)).error_rate.difference, Difference::Higher);
/// assert_eq!(compare(&side(2), &side(3)).error_rate.difference, Difference::Noise);
/// ```
pub fn compare(first: &Counters, second: &Counters) -> Comparison {
    let times = [&first.response, &second.response];
    Comparison {
        ended: [first.ended, second.ended],
        error_rate: errors(first, second),
        p50_us: quantile(times, 0.5),
        p90_us: quantile(times, 0.9),
        p99_us: quantile(times, 0.99),
        mean_us: mean(times),
    }
}

/// Returns the difference of a test of two numbers, unless there are too few samples.
fn compared(
    numbers: [Option<f64>; 2],
    samples: u64,
    needed: u64,
    test: impl Fn(f64, f64) -> bool,
) -> Compared {
    let [first, second] = numbers;
    let difference = match (first, second) {
        (Some(a), Some(b)) if samples >= needed => Difference::of(a, b, a != b && test(a, b)),
        _ => Difference::TooFew { needed },
    };
    Compared { first, second, difference }
}

fn errors(first: &Counters, second: &Counters) -> Compared {
    let rates = [first.error_rate(), second.error_rate()];
    compared(rates, first.ended.min(second.ended), ERRORS_MIN, |a, b| {
        let (all, wrong) = (first.ended + second.ended, first.errors + second.errors);
        if wrong.min(all - wrong) < EXACT_BELOW {
            return fisher(first, second) < LEVEL;
        }
        let pooled = wrong as f64 / all as f64;
        let spread = pooled * (1.0 - pooled) * (1.0 / first.ended as f64 + 1.0 / second.ended as f64);
        (a - b).abs() > Z * spread.sqrt()
    })
}

/// Computes Fisher's exact test: how likely a table with these margins is that is no likelier than this one.
fn fisher(first: &Counters, second: &Counters) -> f64 {
    let (all, wrong) = (first.ended + second.ended, first.errors + second.errors);
    // The rarer outcome, so that the sum is short.
    let (rare, seen) = match wrong <= all - wrong {
        true => (wrong, first.errors),
        false => (all - wrong, first.ended - first.errors),
    };
    let total = log_choose(all, rare);
    let likelihood = |of_first: u64| {
        let ways = log_choose(first.ended, of_first) + log_choose(second.ended, rare - of_first);
        (ways - total).exp()
    };
    // Rounding must not leave out tables exactly as likely.
    let bound = likelihood(seen) * (1.0 + 1e-7);
    let tables = rare.saturating_sub(second.ended)..=rare.min(first.ended);
    tables.map(likelihood).filter(|&one| one <= bound).sum()
}

fn log_choose(n: u64, k: u64) -> f64 {
    log_factorial(n) - log_factorial(k) - log_factorial(n - k)
}

/// Computes ln(n!): Stirling's series, exact to more than ten digits from 20 on.
fn log_factorial(n: u64) -> f64 {
    if n < 20 {
        return (2..=n).map(|k| (k as f64).ln()).sum();
    }
    let x = n as f64;
    x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln() + 1.0 / (12.0 * x) - 1.0 / (360.0 * x * x * x)
}

fn quantile(times: [&Histogram; 2], q: f64) -> Compared {
    let needed = (BEYOND / q.min(1.0 - q)).round() as u64;
    let of = times.map(|histogram| histogram.quantile(q).map(|us| us as f64));
    compared(of, times[0].count().min(times[1].count()), needed, |a, b| {
        let [Some((a_low, a_high)), Some((b_low, b_high))] = times.map(|histogram| interval(histogram, q))
        else {
            return false;
        };
        let low = (b - a) - ((b - b_low).powi(2) + (a_high - a).powi(2)).sqrt();
        let high = (b - a) + ((b_high - b).powi(2) + (a - a_low).powi(2)).sqrt();
        low > 0.0 || high < 0.0
    })
}

/// Returns the interval of order statistics that holds the true quantile in all but [`LEVEL`] of cases.
fn interval(histogram: &Histogram, q: f64) -> Option<(f64, f64)> {
    let n = histogram.count() as f64;
    let spread = Z * (n * q * (1.0 - q)).sqrt();
    let low = (n * q - spread).floor().max(1.0) as u64;
    let high = (n * q + spread).ceil().min(n - 1.0) as u64 + 1;
    Some((histogram.edges_of_rank(low)?.0 as f64, histogram.edges_of_rank(high)?.1 as f64))
}

fn mean(times: [&Histogram; 2]) -> Compared {
    let samples = times[0].count().min(times[1].count());
    compared(times.map(Histogram::mean_us), samples, MEAN_MIN, |a, b| {
        let error = |histogram: &Histogram| Some(histogram.variance()? / histogram.count() as f64);
        match times.map(error) {
            [Some(of_a), Some(of_b)] => (a - b).abs() > Z * (of_a + of_b).sqrt(),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests;
