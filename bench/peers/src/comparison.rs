//! The result of a workload: the measurements of every side, and whether the goals are reached.
//!
//! Where ratios are uncertain it has none.

use std::collections::BTreeMap;

use crate::peer::Kind;
use crate::samples::{LATENCY_LIMIT, RATE_LIMIT, RATIO_LIMIT, Samples};
use crate::workload::{Goal, Measure, Workload};

/// The reported quantiles of latency.
pub(crate) const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// The measurements of one side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measurements {
    /// The program, and the suffix of this side if it has several.
    pub(crate) label: String,
    /// CPU time per request, in microseconds.
    pub(crate) cost_us: Samples,
    /// The same at the offered rate, which is the same for all sides.
    pub(crate) offered_cost_us: Samples,
    /// The share of `cost_us` in user mode.
    pub(crate) user_share: Samples,
    /// The highest rate in requests per second.
    pub(crate) rate: Samples,
    /// The share of the time in which other processes used the server's core.
    pub(crate) others_share: Samples,
    /// Latency at the offered rate, in microseconds, for each of [`QUANTILES`].
    pub(crate) latency_us: [Samples; 3],
    /// Requests at the offered rate that were not answered in time.
    pub(crate) unanswered: usize,
    /// System calls per request by name, at one connection and at many; `None` without strace.
    pub(crate) calls: Option<[BTreeMap<String, f64>; 2]>,
    pub(crate) memory: MemoryUse,
    pub(crate) starts_ms: Samples,
    pub(crate) reloads_ms: Samples,
    /// The number of connections that each worker accepted.
    pub(crate) accepts: Vec<u64>,
}

/// Memory of one side.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryUse {
    /// Once it listens, before any request.
    pub(crate) idle_kib: u64,
    /// The highest sample under load (Pss).
    pub(crate) peak_kib: u64,
    /// The kernel's own record of the peak (VmHWM).
    pub(crate) peak_rss_kib: u64,
    /// The number of idle connections, and the bytes of each.
    pub(crate) idle_connections: Option<(usize, f64)>,
}

/// The result of one workload.
pub(crate) struct Comparison {
    pub(crate) workload: &'static Workload,
    pub(crate) sides: Vec<Measurements>,
    /// The rate that was offered to all, in requests per second.
    pub(crate) offered: Option<f64>,
    /// Programs that could not take part, and why.
    pub(crate) absent: Vec<String>,
}

/// Whether a goal is reached.
pub(crate) struct GoalResult {
    pub(crate) goal: &'static Goal,
    /// `None` if there is no certain value.
    pub(crate) value: Option<f64>,
    /// The interval of a value that is too uncertain to be reported.
    pub(crate) between: Option<(f64, f64)>,
}

impl GoalResult {
    /// Returns the result as a word. An uncertain value may still lie entirely on one side of the goal.
    pub(crate) fn word(&self) -> &'static str {
        let at_most = self.goal.at_most;
        match self.value.map(|value| (value, value)).or(self.between) {
            Some((_, high)) if high <= at_most => "reached",
            Some((low, _)) if low > at_most => "missed",
            _ => "not measured",
        }
    }
}

impl Measurements {
    /// Returns the value of a measurement.
    pub(crate) fn value(&self, measure: Measure) -> Option<f64> {
        match measure {
            Measure::Cost => self.cost_us.median(),
            Measure::P99 => self.latency_us[1].steady(LATENCY_LIMIT),
            Measure::CallsAtOne => self.calls_per_request(0),
            Measure::IdleConnection => self.memory.idle_connections.map(|(_, bytes)| bytes),
            Measure::AcceptSpread => spread(&self.accepts),
            Measure::Start => self.starts_ms.median(),
            Measure::Reload => self.reloads_ms.median(),
        }
    }

    /// Returns the CPU time per request at the offered rate as a ratio to another side's, unless it is too uncertain.
    pub(crate) fn offered_ratio(&self, other: &Measurements) -> Option<f64> {
        let ratios = self.offered_cost_us.ratios(&other.offered_cost_us);
        ratios.median().filter(|_| ratios.width() <= RATIO_LIMIT * 2.0)
    }

    /// Returns the interval of the ratio of CPU time per request to another side's, if there are enough rounds.
    pub(crate) fn cost_interval(&self, other: &Measurements) -> Option<(f64, f64)> {
        self.cost_us.ratios(&other.cost_us).interval()
    }

    /// Returns the highest rate, unless the rounds disagree too much.
    pub(crate) fn steady_rate(&self) -> Option<f64> {
        self.rate.steady(RATE_LIMIT)
    }

    /// Returns all system calls per request: at one connection (0) or at many (1).
    pub(crate) fn calls_per_request(&self, at: usize) -> Option<f64> {
        self.calls.as_ref().map(|calls| calls[at].values().sum())
    }

    /// Returns a measurement as a ratio to another side's, round by round if it has rounds.
    pub(crate) fn ratio(&self, measure: Measure, other: &Measurements) -> Option<f64> {
        let (own, others) = (self.value(measure)?, other.value(measure)?);
        match measure {
            Measure::Cost => {
                let ratios = self.cost_us.ratios(&other.cost_us);
                ratios.median().filter(|_| ratios.width() <= RATIO_LIMIT)
            }
            Measure::P99 => self.latency_us[1].ratios(&other.latency_us[1]).median(),
            _ => (others > 0.0).then(|| own / others),
        }
    }
}

impl Comparison {
    /// Finds a side by its label.
    pub(crate) fn side(&self, label: &str) -> Option<&Measurements> {
        self.sides.iter().find(|side| side.label == label)
    }

    /// Returns the side that the others are ratios to.
    pub(crate) fn reference(&self) -> Option<&Measurements> {
        self.side(self.workload.reference)
    }

    /// Returns the ratios that are too uncertain to be reported, each with how far its rounds disagree.
    pub(crate) fn uncertain(&self) -> Vec<String> {
        self.compared()
            .map(|(side, other)| (side, other, side.cost_us.ratios(&other.cost_us).width()))
            .filter(|(_, _, width)| *width > RATIO_LIMIT)
            .map(|(side, other, width)| {
                format!("{} to {}, by {:.0} %", side.label, other.label, width * 100.0)
            })
            .collect()
    }

    /// Returns the reason why nothing that was measured in rounds is reported: no ratio is certain. If some are, only the
    /// others are left out.
    pub(crate) fn refusal(&self) -> Option<String> {
        let uncertain = self.uncertain();
        let all = !uncertain.is_empty() && uncertain.len() == self.compared().count();
        all.then(|| format!("the rounds disagree: {}", uncertain.join(", ")))
    }

    /// Returns the ratios that a workload is run for: ours to the reference, and those of its goals.
    fn compared(&self) -> impl Iterator<Item = (&Measurements, &Measurements)> {
        let ours = self.sides.iter().filter(|side| side.label.starts_with(Kind::Pointsman.name()));
        let to_reference = ours.filter_map(|side| Some((side, self.reference()?)));
        let goals = self.workload.goals.iter().filter(|goal| goal.measure == Measure::Cost);
        let in_goals = goals.filter_map(|goal| Some((self.side(goal.side)?, self.side(goal.against?)?)));
        let extra = in_goals.filter(|(_, other)| other.label != self.workload.reference);
        to_reference.filter(|(side, other)| side.label != other.label).chain(extra)
    }

    /// Returns the results of all goals.
    pub(crate) fn goal_results(&self) -> Vec<GoalResult> {
        let refused = self.refusal().is_some();
        let found = |goal: &Goal| {
            if refused && goal.measure.is_of_rounds() {
                return None;
            }
            let side = self.side(goal.side)?;
            match goal.against {
                Some(other) => side.ratio(goal.measure, self.side(other)?),
                None => side.value(goal.measure),
            }
        };
        let between = |goal: &Goal| match (goal.measure, goal.against) {
            (Measure::Cost, Some(other)) => self.side(goal.side)?.cost_interval(self.side(other)?),
            _ => None,
        };
        let goals = self.workload.goals.iter();
        goals.map(|goal| GoalResult { goal, value: found(goal), between: between(goal) }).collect()
    }
}

/// Returns the largest distance of a share from an even one, as a share of it.
fn spread(counts: &[u64]) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let even = total as f64 / counts.len() as f64;
    let far = counts.iter().map(|count| (*count as f64 - even).abs()).fold(0.0, f64::max);
    (total > 0).then(|| far / even)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WORKLOADS;

    fn measured(label: &str, cost_us: &[f64]) -> Measurements {
        Measurements {
            label: label.to_owned(),
            cost_us: Samples(cost_us.to_vec()),
            ..Measurements::default()
        }
    }

    fn comparison(sides: Vec<Measurements>) -> Comparison {
        Comparison { workload: &WORKLOADS[0], sides, offered: None, absent: Vec::new() }
    }

    #[test]
    fn a_goal_is_reached_missed_or_not_measured() {
        let words = |own: f64| {
            let comparison = comparison(vec![measured("pointsman", &[own]), measured("nginx", &[20.0])]);
            comparison.goal_results().iter().map(GoalResult::word).collect::<Vec<_>>()
        };
        assert_eq!(words(15.0), ["reached", "not measured", "not measured"]);
        assert_eq!(words(16.0), ["missed", "not measured", "not measured"]);
    }

    #[test]
    fn ratios_of_rounds_that_disagree_are_not_reported() {
        let own = measured("pointsman", &[10.0, 14.0, 12.0]);
        let along = measured("nginx", &[20.0, 28.0, 24.0]);
        assert_eq!(comparison(vec![own.clone(), along]).refusal(), None);
        let refused = comparison(vec![own, measured("nginx", &[20.0, 20.0, 20.0])]);
        assert_eq!(refused.refusal().as_deref(), Some("the rounds disagree: pointsman to nginx, by 33 %"));
        assert_eq!(refused.goal_results()[0].word(), "not measured");
        let counted = [BTreeMap::from([("recvfrom".to_owned(), 2.0)]), BTreeMap::new()];
        let own = Measurements { calls: Some(counted), ..measured("pointsman", &[10.0, 14.0, 12.0]) };
        let refused = comparison(vec![own, measured("nginx", &[20.0, 20.0, 20.0])]);
        let words = refused.goal_results().iter().map(GoalResult::word).collect::<Vec<_>>();
        assert_eq!(words, ["not measured", "not measured", "reached"], "counts do not depend on rounds");
    }

    #[test]
    fn an_uncertain_ratio_does_not_affect_the_others() {
        let tutorial = WORKLOADS.iter().find(|workload| workload.name == "tutorial").expect("it is there");
        let even = [10.0, 10.0, 10.0];
        let sides = vec![
            measured("pointsman", &even),
            measured("nginx", &[20.0, 30.0, 40.0]),
            measured("nginx keepalive", &[20.0, 20.0, 20.0]),
        ];
        let comparison = Comparison { workload: tutorial, ..comparison(sides) };
        assert_eq!(comparison.refusal(), None);
        assert_eq!(comparison.uncertain(), ["pointsman to nginx, by 75 %"]);
        let words: Vec<_> = comparison.goal_results().iter().map(GoalResult::word).collect();
        assert_eq!(words, ["not measured", "reached"]);
    }

    #[test]
    fn an_uncertain_value_may_still_miss_its_goal() {
        let word = |own: f64| {
            let all = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5].map(|one| one * own);
            let comparison = comparison(vec![measured("pointsman", &all), measured("nginx", &[10.0; 6])]);
            assert!(comparison.refusal().is_some());
            comparison.goal_results()[0].word()
        };
        assert_eq!((word(5.0), word(6.0), word(8.0)), ("reached", "not measured", "missed"));
    }

    #[test]
    fn the_spread_is_the_distance_from_an_even_share() {
        assert_eq!(spread(&[100, 100]), Some(0.0));
        assert_eq!(spread(&[150, 50]), Some(0.5));
        assert_eq!(spread(&[100, 0]), Some(1.0));
        assert_eq!(spread(&[]), None);
    }
}
