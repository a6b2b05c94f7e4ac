//! The record for programs: JSON with every round.
//!
//! It holds what was measured, also where the report refuses to tell a figure; `refused` says so.

use serde_json::{Value, json};

use super::outcome::{Figures, Outcome, QUANTILES};
use super::report::Run;

impl Run {
    /// Everything, as one value.
    pub(super) fn json(&self) -> Value {
        let reasons = |list: &[(&'static str, String)]| -> Value {
            list.iter().map(|(name, reason)| ((*name).to_owned(), json!(reason))).collect()
        };
        json!({
            "facts": self.facts.iter().map(|(name, fact)| (name.clone(), json!(fact))).collect::<Value>(),
            "absent": self.absent,
            "skipped": reasons(&self.skipped),
            "failed": reasons(&self.failed),
            "workloads": self.outcomes.iter().map(outcome).collect::<Vec<_>>(),
        })
    }
}

fn outcome(outcome: &Outcome) -> Value {
    let goals = outcome.verdicts().into_iter().map(|verdict| {
        json!({
            "measure": verdict.goal.measure.name(),
            "side": verdict.goal.side,
            "against": verdict.goal.against,
            "at_most": verdict.goal.at_most,
            "found": verdict.value,
            "between": verdict.between,
            "verdict": verdict.word(),
        })
    });
    json!({
        "letter": outcome.workload.letter,
        "name": outcome.workload.name,
        "title": outcome.workload.title,
        "reference": outcome.workload.reference,
        "offered_per_second": outcome.offered,
        "refused": outcome.refusal(),
        "absent": outcome.absent,
        "goals": goals.collect::<Vec<_>>(),
        "sides": outcome.sides.iter().map(side).collect::<Vec<_>>(),
    })
}

fn side(side: &Figures) -> Value {
    let latency = QUANTILES
        .iter()
        .zip(&side.latency_us)
        .map(|(share, us)| (format!("p{}", share * 100.0), json!(us.0)));
    json!({
        "label": side.label,
        "cpu_us_per_request": side.cost_us.0,
        "cpu_us_per_request_at_offered_rate": side.offered_cost_us.0,
        "user_share": side.user_share.0,
        "requests_per_second": side.rate.0,
        "others_share_of_core": side.others_share.0,
        "latency_us": latency.collect::<Value>(),
        "unanswered": side.unanswered,
        "calls_per_request_at_one": side.calls.as_ref().map(|calls| &calls[0]),
        "calls_per_request_at_many": side.calls.as_ref().map(|calls| &calls[1]),
        "memory_idle_kib": side.memory.idle_kib,
        "memory_peak_kib": side.memory.peak_kib,
        "memory_peak_rss_kib": side.memory.peak_rss_kib,
        "idle_connections": side.memory.idle_connections.map(|(count, _)| count),
        "bytes_per_idle_connection": side.memory.idle_connections.map(|(_, bytes)| bytes),
        "starts_ms": side.starts_ms.0,
        "reloads_ms": side.reloads_ms.0,
        "accepts": side.accepts,
    })
}

#[cfg(test)]
mod tests {
    use super::super::figures::Rounds;
    use super::super::workload::WORKLOADS;
    use super::*;

    #[test]
    fn every_round_is_in_it() {
        let side = |label: &str, cost_us: [f64; 2]| Figures {
            label: label.to_owned(),
            cost_us: Rounds(cost_us.to_vec()),
            ..Figures::default()
        };
        let sides = vec![side("nginx", [1.0, 9.0]), side("pointsman", [1.0, 1.0])];
        let outcome = Outcome { workload: &WORKLOADS[0], sides, offered: None, absent: Vec::new() };
        let run = Run {
            facts: Vec::new(),
            outcomes: vec![outcome],
            absent: Vec::new(),
            skipped: Vec::new(),
            failed: vec![("lua", "no answer".into())],
        };
        let json = run.json();
        assert_eq!(json["workloads"][0]["sides"][0]["cpu_us_per_request"], json!([1.0, 9.0]));
        assert_eq!(json["workloads"][0]["sides"][0]["latency_us"]["p99.9"], json!([]));
        assert!(json["workloads"][0]["refused"].is_string());
        assert_eq!(json["failed"]["lua"], json!("no answer"));
    }
}
