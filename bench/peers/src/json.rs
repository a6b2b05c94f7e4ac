//! The results for programs: JSON with every round, including those that the report leaves out (`refused` says why).

use serde_json::{Value, json};

use crate::comparison::{Comparison, Measurements, QUANTILES};
use crate::report::Run;

impl Run {
    /// Returns all results.
    pub(crate) fn json(&self) -> Value {
        let reasons = |list: &[(&'static str, String)]| -> Value {
            list.iter().map(|(name, reason)| ((*name).to_owned(), json!(reason))).collect()
        };
        json!({
            "facts": self.facts.iter().map(|(name, fact)| (name.clone(), json!(fact))).collect::<Value>(),
            "absent": self.absent,
            "skipped": reasons(&self.skipped),
            "failed": reasons(&self.failed),
            "workloads": self.comparisons.iter().map(comparison).collect::<Vec<_>>(),
        })
    }
}

fn comparison(comparison: &Comparison) -> Value {
    let goals = comparison.goal_results().into_iter().map(|result| {
        json!({
            "measure": result.goal.measure.name(),
            "side": result.goal.side,
            "against": result.goal.against,
            "at_most": result.goal.at_most,
            "found": result.value,
            "between": result.between,
            "result": result.word(),
        })
    });
    json!({
        "letter": comparison.workload.letter,
        "name": comparison.workload.name,
        "title": comparison.workload.title,
        "reference": comparison.workload.reference,
        "offered_per_second": comparison.offered,
        "refused": comparison.refusal(),
        "absent": comparison.absent,
        "goals": goals.collect::<Vec<_>>(),
        "sides": comparison.sides.iter().map(side).collect::<Vec<_>>(),
    })
}

fn side(side: &Measurements) -> Value {
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
    use super::*;
    use crate::samples::Samples;
    use crate::workload::WORKLOADS;

    #[test]
    fn every_round_is_included() {
        let side = |label: &str, cost_us: [f64; 2]| Measurements {
            label: label.to_owned(),
            cost_us: Samples(cost_us.to_vec()),
            ..Measurements::default()
        };
        let sides = vec![side("nginx", [1.0, 9.0]), side("pointsman", [1.0, 1.0])];
        let comparison = Comparison { workload: &WORKLOADS[0], sides, offered: None, absent: Vec::new() };
        let run = Run {
            facts: Vec::new(),
            comparisons: vec![comparison],
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
