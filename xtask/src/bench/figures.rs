//! What is made of the rounds' figures: medians, ratios with their intervals, quantiles, and when they disagree too much
//! to be told.
//!
//! Pure arithmetic. It must never hide a round: every round that was measured counts.

/// How wide the interval of a ratio may be, as a share of the ratio. Beyond it the workload's figures are not reported.
///
/// A machine that others use too is now faster and now slower, for all sides alike. What one side takes is then no figure
/// at all, however long one measures; how it compares with another in the same moments is.
pub(super) const RATIO_LIMIT: f64 = 0.10;
/// How far apart the middle half of a side's rounds may lie in requests per second, as a share of their median: where it is
/// exceeded, that figure is left out.
pub(super) const RATE_LIMIT: f64 = 0.30;
/// The same for a quantile of latency, which is rarer to hit and so wilder.
pub(super) const LATENCY_LIMIT: f64 = 0.50;

/// One figure, round after round.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds(pub(super) Vec<f64>);

impl Rounds {
    /// The middle of the rounds; nothing of none.
    pub(super) fn median(&self) -> Option<f64> {
        self.at(0.5)
    }

    /// How far apart the first and the third quartile lie, as a share of the median: 0 when all rounds agree.
    pub(super) fn disagreement(&self) -> f64 {
        match (self.at(0.25), self.median(), self.at(0.75)) {
            (Some(low), Some(middle), Some(high)) if middle > 0.0 => (high - low) / middle,
            _ => 0.0,
        }
    }

    /// The median, unless the rounds disagree by more than `limit`.
    pub(super) fn steady(&self, limit: f64) -> Option<f64> {
        self.median().filter(|_| self.disagreement() <= limit)
    }

    /// The ratios round by round: what disturbed both sides of a round disturbs their ratio less.
    pub(super) fn ratios(&self, reference: &Rounds) -> Rounds {
        let pairs = self.0.iter().zip(&reference.0).filter(|(_, other)| **other > 0.0);
        Rounds(pairs.map(|(own, other)| own / other).collect())
    }

    /// Where the true median lies with a confidence of 95 %: between which of the sorted rounds, by the binomial
    /// distribution and with no belief about how the rounds are spread. Nothing of fewer than six rounds, which cannot
    /// tell.
    pub(super) fn interval(&self) -> Option<(f64, f64)> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        // The chance that at most `below` of the rounds lie below the true median.
        let mut chance = 0.5f64.powi(count as i32);
        let (mut term, mut below) = (chance, None);
        for at in 0..count / 2 {
            if chance > 0.025 {
                break;
            }
            below = Some(at);
            term *= (count - at) as f64 / (at + 1) as f64;
            chance += term;
        }
        let below = below?;
        Some((sorted[below], sorted[count - 1 - below]))
    }

    /// How wide that interval is, as a share of the median; without one, how far all rounds lie apart.
    pub(super) fn width(&self) -> f64 {
        let all = || {
            let low = self.0.iter().copied().fold(f64::INFINITY, f64::min);
            (low, self.largest())
        };
        let (low, high) = self.interval().unwrap_or_else(all);
        self.median().filter(|middle| *middle > 0.0).map_or(0.0, |middle| (high - low) / middle)
    }

    /// The largest of the rounds; 0 of none.
    pub(super) fn largest(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// The value at a share of the sorted rounds, between two of them in proportion.
    fn at(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (sorted.len().checked_sub(1)?) as f64 * share;
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        Some(below + (above - below) * place.fract())
    }
}

/// A quantile of sorted values by the nearest rank; nothing where fewer than ten values lie beyond it, which would
/// make it a tale of single requests.
pub(super) fn quantile(sorted: &[u64], share: f64) -> Option<u64> {
    if (sorted.len() as f64) * (1.0 - share) < 10.0 {
        return None;
    }
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quartiles() {
        let rounds = Rounds(vec![5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(rounds.median(), Some(3.0));
        assert_eq!(rounds.disagreement(), 2.0 / 3.0);
        assert_eq!(Rounds(vec![1.0, 2.0]).median(), Some(1.5));
        assert_eq!(Rounds::default().median(), None);
        assert_eq!(Rounds::default().disagreement(), 0.0);
    }

    #[test]
    fn one_wild_round_is_borne_and_two_of_five_are_not() {
        let calm = Rounds(vec![10.0, 10.1, 9.9, 10.0, 90.0]);
        assert_eq!(calm.steady(RATE_LIMIT), Some(10.0));
        let wild = Rounds(vec![10.0, 10.1, 9.9, 80.0, 90.0]);
        assert_eq!(wild.steady(RATE_LIMIT), None);
    }

    #[test]
    fn a_disturbance_of_both_sides_leaves_their_ratio() {
        let own = Rounds(vec![7.0, 14.0, 7.0]);
        let other = Rounds(vec![10.0, 20.0, 10.0]);
        assert_eq!(own.ratios(&other).median(), Some(0.7));
        assert_eq!(own.ratios(&other).width(), 0.0);
        assert_eq!(own.ratios(&Rounds::default()).median(), None);
    }

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        let up_to = |count: u32| Rounds((1..=count).map(f64::from).collect());
        assert_eq!(up_to(5).interval(), None);
        // The tables of the sign test: of 6 the 1st and 6th, of 10 the 2nd and 9th, of 40 the 14th and 27th.
        assert_eq!(up_to(6).interval(), Some((1.0, 6.0)));
        assert_eq!(up_to(10).interval(), Some((2.0, 9.0)));
        assert_eq!(up_to(40).interval(), Some((14.0, 27.0)));
        assert!((up_to(40).width() - 13.0 / 20.5).abs() < 1e-9);
        assert_eq!(Rounds(vec![1.0, 3.0]).width(), 1.0);
    }

    #[test]
    fn quantiles_need_values_beyond_them() {
        let values: Vec<u64> = (1..=1000).collect();
        assert_eq!(quantile(&values, 0.5), Some(500));
        assert_eq!(quantile(&values, 0.99), Some(990));
        assert_eq!(quantile(&values, 0.999), None);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
