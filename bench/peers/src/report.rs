//! The report for people: Markdown, with the goals first.
//!
//! Ratios lead; the absolute values behind them are those of one machine at one time. Values that `Comparison` refuses
//! are not shown.

use std::fmt::Write as _;

use crate::chart::Chart;
use crate::comparison::{Comparison, GoalResult, Measurements};
use crate::rounds::{CONNECTIONS, OFFERED_SHARE, TIMES_AT_MOST};
use crate::samples::{LATENCY_LIMIT, RATE_LIMIT, RATIO_LIMIT};
use crate::workload::Measure;

/// The results of a run.
pub(crate) struct Run {
    /// Versions, kernel and so on.
    pub(crate) facts: Vec<(String, String)>,
    pub(crate) comparisons: Vec<Comparison>,
    /// Programs that are missing.
    pub(crate) absent: Vec<String>,
    /// Workloads without an comparison: the name, and why.
    pub(crate) skipped: Vec<(&'static str, String)>,
    pub(crate) failed: Vec<(&'static str, String)>,
}

/// Returns a value as text, or a dash without one.
pub(crate) fn formatted(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

impl Run {
    /// Returns the report.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "# What a request costs\n\nWritten by `cargo xtask bench` (`make bench`); all rounds are in \
             [report.json](report.json), the configurations in [conf](conf).\n",
        );
        self.rules(&mut text);
        text.push_str("\n## Compared\n\n| | |\n|---|---|\n");
        for (name, fact) in &self.facts {
            let _ = writeln!(text, "| {name} | {fact} |");
        }
        for line in &self.absent {
            let _ = writeln!(text, "| missing | {line} |");
        }
        self.goals(&mut text);
        for (name, title, _) in self.charts() {
            let _ = writeln!(text, "\n![{title}](plots/{name}.svg)");
        }
        for comparison in &self.comparisons {
            section(&mut text, comparison);
        }
        let refused = self.comparisons.iter().filter_map(|o| Some((o.workload.name, o.refusal()?)));
        let rest: Vec<(&str, String)> = refused
            .chain(self.skipped.iter().cloned())
            .chain(self.failed.iter().map(|(name, error)| (*name, format!("failed: {error}"))))
            .collect();
        if !rest.is_empty() {
            text.push_str("\n## Not reported\n\n");
        }
        for (name, reason) in rest {
            let _ = writeln!(text, "- `{name}`: {reason}");
        }
        text
    }

    fn rules(&self, text: &mut String) {
        let _ = write!(
            text,
            "\nAll servers run at once with one worker on a core of their own; load and origin share another and never \
             sleep, so that no server pays for waking them. A round belongs to one server, and rounds take turns, each time \
             in another order. CPU time is the kernel's account of all processes of a server; ratios are medians of the \
             ratios round by round; \"at the rate\" is the same ratio where all sides get the same rate. The rate is that of \
             {CONNECTIONS} connections; latencies are those of the same connections at {:.0} % of the reference's rate, with \
             random gaps, counted from when a request was due and not from when it could be sent. Memory is Pss; that of idle \
             connections is read after six seconds without a request, before and after.\n\n\
             A ratio of CPU time is followed by its 95 % confidence interval, by the sign test over the rounds. A ratio is not \
             reported if that interval is wider than {:.0} % of it after up to {TIMES_AT_MOST} times as many rounds; without any \
             ratio, CPU time, rates and latencies of the workload are not reported either. All of the interval may still reach \
             or miss a goal, and then is used for the value. Counts do not depend on this. A shared machine is faster and slower \
             for all sides alike, so that absolute values of one side mean little. A rate is left out if the middle half of the \
             rounds lies further apart than {:.0} % of their median, a latency beyond {:.0} %, and a quantile with fewer than ten \
             requests beyond it.\n",
            OFFERED_SHARE * 100.0,
            RATIO_LIMIT * 100.0,
            RATE_LIMIT * 100.0,
            LATENCY_LIMIT * 100.0
        );
    }

    fn goals(&self, text: &mut String) {
        text.push_str(
            "\n## Goals\n\n| | measurement | of | at most | measured | |\n|---|---|---|---|---|---|\n",
        );
        for comparison in &self.comparisons {
            for result in comparison.goal_results() {
                let GoalResult { goal, value, between } = &result;
                let found = match (value, between) {
                    (None, Some((low, high))) => format!("{low:.2}–{high:.2}"),
                    _ => formatted(*value, 2),
                };
                let of = match goal.against {
                    Some(other) => format!("{} to {other}", goal.side),
                    None => goal.side.to_owned(),
                };
                let _ = writeln!(
                    text,
                    "| ({}) {} | {} | {of} | {} | {} | {} |",
                    comparison.workload.letter,
                    comparison.workload.name,
                    goal.measure.name(),
                    goal.at_most,
                    found,
                    result.word()
                );
            }
        }
    }

    /// Returns the charts, with file names and titles. Ratios are to the reference of each workload.
    pub(crate) fn charts(&self) -> Vec<(&'static str, &'static str, Chart)> {
        let chart = |title: &str, figure: &dyn Fn(&Measurements, &Measurements) -> Option<f64>| {
            let reported = self.comparisons.iter().filter(|comparison| comparison.refusal().is_none());
            let mut series: Vec<String> = Vec::new();
            for side in reported.clone().flat_map(|comparison| &comparison.sides) {
                // "nginx keepalive" has the colour of nginx only if nginx itself is missing.
                let name = side.label.split(' ').next().unwrap_or_default();
                if !series.iter().any(|known| known == name) {
                    series.push(name.to_owned());
                }
            }
            let groups = reported.filter_map(|comparison| {
                let reference = comparison.reference()?;
                let value = |name: &String| {
                    let side = match reference.label.split(' ').next() == Some(name) {
                        true => reference,
                        false => comparison.sides.iter().find(|s| s.label.split(' ').next() == Some(name))?,
                    };
                    figure(side, reference)
                };
                Some((comparison.workload.name.to_owned(), series.iter().map(value).collect()))
            });
            Chart {
                title: title.to_owned(),
                groups: groups.collect(),
                series: series.clone(),
                line: Some(1.0),
            }
        };
        let ratio =
            |measure: Measure| move |side: &Measurements, other: &Measurements| side.ratio(measure, other);
        let calls = |side: &Measurements, other: &Measurements| {
            Some(side.calls_per_request(1)? / other.calls_per_request(1).filter(|calls| *calls > 0.0)?)
        };
        let cost = "CPU time per request as a ratio to nginx's (lower is better)";
        let p99 = "p99 at the offered rate as a ratio to nginx's (lower is better)";
        let system = "System calls per request as a ratio to nginx's (lower is better)";
        vec![
            ("cpu", cost, chart(cost, &ratio(Measure::Cost))),
            ("p99", p99, chart(p99, &ratio(Measure::P99))),
            ("calls", system, chart(system, &calls)),
        ]
    }
}

fn section(text: &mut String, comparison: &Comparison) {
    let Some(reference) = comparison.reference() else { return };
    if comparison.refusal().is_some() {
        return;
    }
    let workload = comparison.workload;
    let _ = write!(
        text,
        "\n## ({}) {}\n\n{}. Ratios to {}; offered: {} requests per second.\n\n",
        workload.letter,
        workload.name,
        workload.title,
        reference.label,
        formatted(comparison.offered, 0)
    );
    text.push_str(
        "| | CPU | at the rate | µs | user | requests/s | p50 µs | p99 µs | p99.9 µs | calls at 1 | at 64 | idle KiB | peak KiB |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for side in &comparison.sides {
        let [p50, p99, p999] =
            side.latency_us.each_ref().map(|rounds| formatted(rounds.steady(LATENCY_LIMIT), 0));
        let user = side.user_share.median().map(|share| share * 100.0);
        let _ = writeln!(
            text,
            "| {} | **{}** {} | {} | {} | {} % | {} | {p50} | {p99} | {p999} | {} | {} | {} | {} |",
            side.label,
            formatted(side.ratio(Measure::Cost, reference), 2),
            interval(side, reference),
            formatted(side.offered_ratio(reference), 2),
            formatted(side.value(Measure::Cost), 2),
            formatted(user, 0),
            formatted(side.steady_rate(), 0),
            formatted(side.calls_per_request(0), 2),
            formatted(side.calls_per_request(1), 2),
            side.memory.idle_kib,
            side.memory.peak_kib
        );
    }
    text.push('\n');
    for side in &comparison.sides {
        notes(text, side);
    }
    for ratio in comparison.uncertain() {
        let _ = writeln!(text, "- not reported, since the rounds disagree: {ratio}");
    }
    for line in &comparison.absent {
        let _ = writeln!(text, "- missing: {line}");
    }
    if comparison.sides.iter().any(|side| side.calls.is_some()) && workload.name == "proxy" {
        calls_by_name(text, comparison);
    }
}

/// Returns the interval of a ratio of CPU time, as text.
fn interval(side: &Measurements, reference: &Measurements) -> String {
    let told = side.label != reference.label && side.ratio(Measure::Cost, reference).is_some();
    let interval = side.cost_interval(reference).filter(|_| told);
    interval.map_or_else(String::new, |(low, high)| format!("({low:.2}–{high:.2})"))
}

/// Notes on measurements that only some sides have.
fn notes(text: &mut String, side: &Measurements) {
    if let Some((count, bytes)) = side.memory.idle_connections {
        let _ = writeln!(text, "- {}: {bytes:.0} bytes for each of {count} idle connections", side.label);
    }
    if side.unanswered > 0 {
        let _ = writeln!(
            text,
            "- {}: {} requests at the offered rate were not answered within two seconds after the round",
            side.label, side.unanswered
        );
    }
    if !side.accepts.is_empty() {
        let _ = writeln!(
            text,
            "- {}: two workers accepted {:?} connections, {:.0} % from even",
            side.label,
            side.accepts,
            side.value(Measure::AcceptSpread).unwrap_or(0.0) * 100.0
        );
    }
    if let (Some(start), Some(reload)) = (side.value(Measure::Start), side.value(Measure::Reload)) {
        let _ = writeln!(
            text,
            "- {}: answers {start:.0} ms after a start, {reload:.0} ms after a reload",
            side.label
        );
    }
    if side.others_share.largest() > 0.1 {
        let _ = writeln!(
            text,
            "- {}: other processes used up to {:.0} % of the server's core in a round",
            side.label,
            side.others_share.largest() * 100.0
        );
    }
}

/// The system calls at one connection, by name.
fn calls_by_name(text: &mut String, comparison: &Comparison) {
    let counted: Vec<&Measurements> = comparison.sides.iter().filter(|side| side.calls.is_some()).collect();
    let mut names: Vec<&String> =
        counted.iter().filter_map(|side| side.calls.as_ref()).flat_map(|calls| calls[0].keys()).collect();
    names.sort();
    names.dedup();
    let labels: Vec<&str> = counted.iter().map(|side| side.label.as_str()).collect();
    let _ = write!(
        text,
        "\nSystem calls per request at one connection:\n\n| | {} |\n|---|{}\n",
        labels.join(" | "),
        "---|".repeat(labels.len())
    );
    for name in names {
        let of = |side: &&Measurements| side.calls.as_ref().and_then(|calls| calls[0].get(name)).copied();
        let cells: Vec<String> = counted.iter().map(|side| formatted(of(side), 2)).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Samples;
    use crate::workload::WORKLOADS;

    fn side(label: &str, cost_us: &[f64]) -> Measurements {
        Measurements {
            label: label.to_owned(),
            cost_us: Samples(cost_us.to_vec()),
            rate: Samples(vec![20_000.0]),
            accepts: vec![60, 40],
            ..Measurements::default()
        }
    }

    fn run(nginx: &[f64]) -> Run {
        let sides = vec![side("pointsman", &[14.0, 14.0, 14.0]), side("nginx", nginx)];
        let comparison = Comparison {
            workload: &WORKLOADS[0],
            sides,
            offered: Some(14_000.0),
            absent: vec!["haproxy: gone".into()],
        };
        Run {
            facts: vec![("kernel".into(), "Linux 6".into())],
            comparisons: vec![comparison],
            absent: Vec::new(),
            skipped: vec![("switch", "pointsman: unknown directive".into())],
            failed: Vec::new(),
        }
    }

    #[test]
    fn a_steady_run_is_reported_with_ratios_and_goals() {
        let text = run(&[20.0, 20.0, 20.0]).markdown();
        assert!(text.contains("| pointsman | **0.70**  | – | 14.00 |"), "{text}");
        assert!(
            text.contains("| (a) proxy | CPU per request | pointsman to nginx | 0.78 | 0.70 | reached |"),
            "{text}"
        );
        assert!(
            text.contains("- pointsman: two workers accepted [60, 40] connections, 20 % from even"),
            "{text}"
        );
        assert!(text.contains("- missing: haproxy: gone"), "{text}");
        assert!(text.contains("- `switch`: pointsman: unknown directive"), "{text}");
    }

    #[test]
    fn a_run_whose_rounds_disagree_is_not_reported() {
        let run = run(&[20.0, 30.0, 25.0]);
        let text = run.markdown();
        assert!(!text.contains("**0.70**") && !text.contains("14.00"), "{text}");
        assert!(text.contains("- `proxy`: the rounds disagree: pointsman to nginx, by 42 %"), "{text}");
        assert!(run.charts()[0].2.groups.is_empty());
    }
}
