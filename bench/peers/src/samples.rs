//! Samples of a measurement, one for each round: medians, ratios with their confidence intervals, and the limits of
//! disagreement beyond which they are not reported.
//!
//! Every measured round counts.

/// The widest interval of a ratio that is reported, as a share of the ratio.
///
/// A shared machine is sometimes faster and sometimes slower, for all sides alike. The cost of one side alone is then
/// meaningless, however long one measures; its ratio to another side in the same moments is not.
pub(crate) const RATIO_LIMIT: f64 = 0.10;
/// The widest spread of the middle half of the rates that is reported, as a share of their median.
pub(crate) const RATE_LIMIT: f64 = 0.30;
/// The same for quantiles of latency, which vary more.
pub(crate) const LATENCY_LIMIT: f64 = 0.50;

/// One measurement, round after round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    /// Returns the median; `None` without rounds.
    pub(crate) fn median(&self) -> Option<f64> {
        self.at(0.5)
    }

    /// Returns the distance of the first and the third quartile as a share of the median: 0 if all rounds agree.
    pub(crate) fn disagreement(&self) -> f64 {
        match (self.at(0.25), self.median(), self.at(0.75)) {
            (Some(low), Some(middle), Some(high)) if middle > 0.0 => (high - low) / middle,
            _ => 0.0,
        }
    }

    /// Returns the median, unless the rounds disagree by more than `limit`.
    pub(crate) fn steady(&self, limit: f64) -> Option<f64> {
        self.median().filter(|_| self.disagreement() <= limit)
    }

    /// Returns the ratios round by round: a disturbance of both sides of a round hardly changes their ratio.
    pub(crate) fn ratios(&self, reference: &Samples) -> Samples {
        let pairs = self.0.iter().zip(&reference.0).filter(|(_, other)| **other > 0.0);
        Samples(pairs.map(|(own, other)| own / other).collect())
    }

    /// Returns the interval of the true median with 95 % confidence, by the sign test, which assumes nothing about how the
    /// rounds are distributed. `None` of fewer than six rounds, which are too few.
    pub(crate) fn interval(&self) -> Option<(f64, f64)> {
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

    /// Returns the width of that interval as a share of the median; without one, that of all rounds.
    pub(crate) fn width(&self) -> f64 {
        let all = || {
            let low = self.0.iter().copied().fold(f64::INFINITY, f64::min);
            (low, self.largest())
        };
        let (low, high) = self.interval().unwrap_or_else(all);
        self.median().filter(|middle| *middle > 0.0).map_or(0.0, |middle| (high - low) / middle)
    }

    /// Returns the largest of the rounds; 0 of none.
    pub(crate) fn largest(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// Returns the value at a share of the sorted rounds, interpolated between two of them.
    fn at(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (sorted.len().checked_sub(1)?) as f64 * share;
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        Some(below + (above - below) * place.fract())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quartiles() {
        let rounds = Samples(vec![5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(rounds.median(), Some(3.0));
        assert_eq!(rounds.disagreement(), 2.0 / 3.0);
        assert_eq!(Samples(vec![1.0, 2.0]).median(), Some(1.5));
        assert_eq!(Samples::default().median(), None);
        assert_eq!(Samples::default().disagreement(), 0.0);
    }

    #[test]
    fn one_outlier_is_tolerated_and_two_of_five_are_not() {
        let calm = Samples(vec![10.0, 10.1, 9.9, 10.0, 90.0]);
        assert_eq!(calm.steady(RATE_LIMIT), Some(10.0));
        let wild = Samples(vec![10.0, 10.1, 9.9, 80.0, 90.0]);
        assert_eq!(wild.steady(RATE_LIMIT), None);
    }

    #[test]
    fn a_disturbance_of_both_sides_does_not_change_their_ratio() {
        let own = Samples(vec![7.0, 14.0, 7.0]);
        let other = Samples(vec![10.0, 20.0, 10.0]);
        assert_eq!(own.ratios(&other).median(), Some(0.7));
        assert_eq!(own.ratios(&other).width(), 0.0);
        assert_eq!(own.ratios(&Samples::default()).median(), None);
    }

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        let up_to = |count: u32| Samples((1..=count).map(f64::from).collect());
        assert_eq!(up_to(5).interval(), None);
        // The tables of the sign test: of 6 the 1st and 6th, of 10 the 2nd and 9th, of 40 the 14th and 27th.
        assert_eq!(up_to(6).interval(), Some((1.0, 6.0)));
        assert_eq!(up_to(10).interval(), Some((2.0, 9.0)));
        assert_eq!(up_to(40).interval(), Some((14.0, 27.0)));
        assert!((up_to(40).width() - 13.0 / 20.5).abs() < 1e-9);
        assert_eq!(Samples(vec![1.0, 3.0]).width(), 1.0);
    }
}
