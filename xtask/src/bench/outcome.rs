//! What a workload's run found: every side's figures, and whether what the project promises of it holds.
//!
//! It computes and never prints; where ratios are uncertain it has no figure.

use std::collections::BTreeMap;

use super::figures::{LATENCY_LIMIT, RATE_LIMIT, RATIO_LIMIT, Rounds};
use super::peer::Kind;
use super::workload::{Goal, Measure, Workload};

/// The quantiles of latency that are told.
pub(super) const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// Everything about one side.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// The program, and what tells this side from another of it.
    pub(super) label: String,
    /// CPU time per request, in microseconds.
    pub(super) cost_us: Rounds,
    /// The same at the offered rate, which is the same for all sides.
    pub(super) offered_cost_us: Rounds,
    /// How much of the first in user mode, as a share.
    pub(super) user_share: Rounds,
    /// Requests per second, as fast as it can.
    pub(super) rate: Rounds,
    /// What others took of the server's core, as a share of the time.
    pub(super) others_share: Rounds,
    /// Latency at the offered rate, in microseconds, for each of [`QUANTILES`].
    pub(super) latency_us: [Rounds; 3],
    /// Requests at the offered rate that were not answered in time.
    pub(super) unanswered: usize,
    /// System calls per request by name: at one connection, at many. Nothing where strace cannot be had.
    pub(super) calls: Option<[BTreeMap<String, f64>; 2]>,
    pub(super) memory: MemoryFigures,
    pub(super) starts_ms: Rounds,
    pub(super) reloads_ms: Rounds,
    /// How many connections each worker took.
    pub(super) accepts: Vec<u64>,
}

/// Memory of one side.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryFigures {
    /// Once it listens, before any request.
    pub(super) idle_kib: u64,
    /// The most seen under load (Pss).
    pub(super) peak_kib: u64,
    /// The kernel's own record of the most (VmHWM).
    pub(super) peak_rss_kib: u64,
    /// How many connections stood idle, and how many bytes each took.
    pub(super) idle_connections: Option<(usize, f64)>,
}

/// One workload, run.
pub(super) struct Outcome {
    pub(super) workload: &'static Workload,
    pub(super) sides: Vec<Figures>,
    /// Requests per second that were offered to all.
    pub(super) offered: Option<f64>,
    /// What could not take part, and why.
    pub(super) absent: Vec<String>,
}

/// Whether a promise holds.
pub(super) struct Verdict {
    pub(super) goal: &'static Goal,
    /// Nothing where there is no figure.
    pub(super) value: Option<f64>,
    /// Between what it lies where it is too uncertain to be a figure.
    pub(super) between: Option<(f64, f64)>,
}

impl Verdict {
    /// In one word. What is no figure may still lie on one side of the promise for certain.
    pub(super) fn word(&self) -> &'static str {
        let at_most = self.goal.at_most;
        match self.value.map(|value| (value, value)).or(self.between) {
            Some((_, high)) if high <= at_most => "reached",
            Some((low, _)) if low > at_most => "missed",
            _ => "not measured",
        }
    }
}

impl Figures {
    /// A figure.
    pub(super) fn value(&self, measure: Measure) -> Option<f64> {
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

    /// CPU time per request at the offered rate, as a ratio to another side's, unless that is too uncertain.
    pub(super) fn offered_ratio(&self, other: &Figures) -> Option<f64> {
        let ratios = self.offered_cost_us.ratios(&other.offered_cost_us);
        ratios.median().filter(|_| ratios.width() <= RATIO_LIMIT * 2.0)
    }

    /// Where the ratio of CPU time per request to another side's lies, if there are rounds enough to tell.
    pub(super) fn cost_interval(&self, other: &Figures) -> Option<(f64, f64)> {
        self.cost_us.ratios(&other.cost_us).interval()
    }

    /// Requests per second, unless the rounds disagree too much.
    pub(super) fn steady_rate(&self) -> Option<f64> {
        self.rate.steady(RATE_LIMIT)
    }

    /// All system calls per request: at one connection (0) or at many (1).
    pub(super) fn calls_per_request(&self, at: usize) -> Option<f64> {
        self.calls.as_ref().map(|calls| calls[at].values().sum())
    }

    /// A figure as a ratio to another side's, round by round where there are rounds.
    pub(super) fn ratio(&self, measure: Measure, other: &Figures) -> Option<f64> {
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

impl Outcome {
    /// A side by its label.
    pub(super) fn side(&self, label: &str) -> Option<&Figures> {
        self.sides.iter().find(|side| side.label == label)
    }

    /// The side that the others are ratios to.
    pub(super) fn reference(&self) -> Option<&Figures> {
        self.side(self.workload.reference)
    }

    /// The ratios that are too uncertain to be told, each with how far its rounds disagree.
    pub(super) fn uncertain(&self) -> Vec<String> {
        self.compared()
            .map(|(side, other)| (side, other, side.cost_us.ratios(&other.cost_us).width()))
            .filter(|(_, _, width)| *width > RATIO_LIMIT)
            .map(|(side, other, width)| {
                format!("{} to {}, by {:.0} %", side.label, other.label, width * 100.0)
            })
            .collect()
    }

    /// Why nothing that was measured in rounds is reported, if so: none of the ratios is certain. Where some are, those
    /// that are not are left out by themselves.
    pub(super) fn refusal(&self) -> Option<String> {
        let uncertain = self.uncertain();
        let all = !uncertain.is_empty() && uncertain.len() == self.compared().count();
        all.then(|| format!("the rounds disagree: {}", uncertain.join(", ")))
    }

    /// Which ratios a workload is run for: ours to the reference, and what goals compare besides.
    fn compared(&self) -> impl Iterator<Item = (&Figures, &Figures)> {
        let ours = self.sides.iter().filter(|side| side.label.starts_with(Kind::Pointsman.name()));
        let to_reference = ours.filter_map(|side| Some((side, self.reference()?)));
        let goals = self.workload.goals.iter().filter(|goal| goal.measure == Measure::Cost);
        let in_goals = goals.filter_map(|goal| Some((self.side(goal.side)?, self.side(goal.against?)?)));
        let extra = in_goals.filter(|(_, other)| other.label != self.workload.reference);
        to_reference.filter(|(side, other)| side.label != other.label).chain(extra)
    }

    /// What was promised, and what was found.
    pub(super) fn verdicts(&self) -> Vec<Verdict> {
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
        goals.map(|goal| Verdict { goal, value: found(goal), between: between(goal) }).collect()
    }
}

/// How far the share that is farthest from an even one is from it.
fn spread(counts: &[u64]) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let even = total as f64 / counts.len() as f64;
    let far = counts.iter().map(|count| (*count as f64 - even).abs()).fold(0.0, f64::max);
    (total > 0).then(|| far / even)
}

#[cfg(test)]
mod tests {
    use super::super::workload::WORKLOADS;
    use super::*;

    fn figures(label: &str, cost_us: &[f64]) -> Figures {
        Figures { label: label.to_owned(), cost_us: Rounds(cost_us.to_vec()), ..Figures::default() }
    }

    fn outcome(sides: Vec<Figures>) -> Outcome {
        Outcome { workload: &WORKLOADS[0], sides, offered: None, absent: Vec::new() }
    }

    #[test]
    fn a_goal_is_reached_missed_or_not_measured() {
        let words = |own: f64| {
            let outcome = outcome(vec![figures("pointsman", &[own]), figures("nginx", &[20.0])]);
            outcome.verdicts().iter().map(Verdict::word).collect::<Vec<_>>()
        };
        assert_eq!(words(15.0), ["reached", "not measured", "not measured"]);
        assert_eq!(words(16.0), ["missed", "not measured", "not measured"]);
    }

    #[test]
    fn rounds_that_disagree_are_refused_by_name() {
        let own = figures("pointsman", &[10.0, 14.0, 12.0]);
        let along = figures("nginx", &[20.0, 28.0, 24.0]);
        assert_eq!(outcome(vec![own.clone(), along]).refusal(), None);
        let refused = outcome(vec![own, figures("nginx", &[20.0, 20.0, 20.0])]);
        assert_eq!(refused.refusal().as_deref(), Some("the rounds disagree: pointsman to nginx, by 33 %"));
        assert_eq!(refused.verdicts()[0].word(), "not measured");
        let counted = [BTreeMap::from([("recvfrom".to_owned(), 2.0)]), BTreeMap::new()];
        let own = Figures { calls: Some(counted), ..figures("pointsman", &[10.0, 14.0, 12.0]) };
        let refused = outcome(vec![own, figures("nginx", &[20.0, 20.0, 20.0])]);
        let words = refused.verdicts().iter().map(Verdict::word).collect::<Vec<_>>();
        assert_eq!(
            words,
            ["not measured", "not measured", "reached"],
            "what is counted does not hang on rounds"
        );
    }

    #[test]
    fn a_ratio_that_is_uncertain_leaves_the_others() {
        let tutorial = WORKLOADS.iter().find(|workload| workload.name == "tutorial").expect("it is there");
        let even = [10.0, 10.0, 10.0];
        let sides = vec![
            figures("pointsman", &even),
            figures("nginx", &[20.0, 30.0, 40.0]),
            figures("nginx keepalive", &[20.0, 20.0, 20.0]),
        ];
        let outcome = Outcome { workload: tutorial, ..outcome(sides) };
        assert_eq!(outcome.refusal(), None);
        assert_eq!(outcome.uncertain(), ["pointsman to nginx, by 75 %"]);
        let words: Vec<_> = outcome.verdicts().iter().map(Verdict::word).collect();
        assert_eq!(words, ["not measured", "reached"]);
    }

    #[test]
    fn what_is_no_figure_may_still_be_missed() {
        let word = |own: f64| {
            let all = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5].map(|one| one * own);
            let outcome = outcome(vec![figures("pointsman", &all), figures("nginx", &[10.0; 6])]);
            assert!(outcome.refusal().is_some());
            outcome.verdicts()[0].word()
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
