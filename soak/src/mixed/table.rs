//! The report of a run: traffic, disturbances, and every failure that is not excused.

use std::fmt::Write;
use std::sync::atomic::Ordering::SeqCst;

use super::disturbances::Disturber;
use super::ledger::{Disturbance, Failure, Ledger, Traffic};
use super::switching::Switched;
use crate::connection::FaultKind;

/// How many failures are shown one by one.
const SHOWN: usize = 20;

/// Returns the report; violations are added to `broken`.
pub(super) fn show(
    ledger: &Ledger,
    disturber: &Disturber<'_>,
    switched: &Switched,
    broken: &mut Vec<String>,
) -> String {
    let failures = ledger.failures();
    let mut told = traffic(ledger, &failures);
    let _ = writeln!(
        told,
        "  {:<16} {:>6} {:>12} {:>14} {:>8}  took",
        "disturbance", "done", "overlapped", "lost by kills", "failed"
    );
    for disturbance in Disturbance::ALL {
        let (done, overlapped) = ledger.disturbances(disturbance);
        let during: Vec<&Failure> = failures.iter().filter(|one| one.during[disturbance as usize]).collect();
        let excused = during.iter().filter(|one| one.is_excused()).count();
        let took = match disturbance {
            Disturbance::Switch => switched.times(),
            disturbance => disturber.times(disturbance),
        };
        let _ = writeln!(
            told,
            "  {:<16} {done:>6} {overlapped:>12} {excused:>14} {:>8}  {took}",
            disturbance.name(),
            during.len() - excused
        );
    }
    let calm = failures.iter().filter(|one| one.during == [false; 4]).count();
    let count = |kind| failures.iter().filter(|one| one.fault.kind == kind).count();
    let raced = failures.iter().filter(|one| one.fault.kind == FaultKind::Raced && !one.is_excused()).count();
    let [clear, under_way, behind, max_lag_ms] = [0, 1, 2, 3].map(|n| ledger.judged[n].load(SeqCst));
    let _ = write!(
        told,
        "  failed without a disturbance: {calm}; refused connections: {}; sent into a close: {raced}; idle connections \
         closed: {}\n  answers with one right group: {clear}, during a switch of their key: {under_way}, from a process \
         that lagged behind in an upgrade: {behind} (by {max_lag_ms} ms at most)\n  \
         configurations rejected: {}; orders looked up after a lost connection: {}, of which {} had been kept",
        count(FaultKind::Refused),
        ledger.closed_idle.load(SeqCst),
        disturber.rejected,
        switched.looked_up,
        switched.kept
    );
    let bad: Vec<&Failure> = failures.iter().filter(|one| !one.is_excused()).collect();
    broken.extend(bad.iter().take(SHOWN).map(|one| describe(one)));
    if bad.len() > SHOWN {
        broken.push(format!("and {} more requests", bad.len() - SHOWN));
    }
    told
}

fn traffic(ledger: &Ledger, failures: &[Failure]) -> String {
    let mut told = format!(
        "  {:<16} {:>10} {:>10} {:>14} {:>8}\n",
        "traffic", "succeeded", "MiB", "lost by kills", "failed"
    );
    for traffic in Traffic::ALL {
        let tally = ledger.tally(traffic);
        let of_kind: Vec<&Failure> = failures.iter().filter(|one| one.traffic == traffic).collect();
        let excused = of_kind.iter().filter(|one| one.is_excused()).count();
        let _ = writeln!(
            told,
            "  {:<16} {:>10} {:>10} {excused:>14} {:>8}",
            traffic.name(),
            tally.succeeded.load(SeqCst),
            tally.bytes.load(SeqCst) >> 20,
            of_kind.len() - excused
        );
    }
    told
}

fn describe(failure: &Failure) -> String {
    let during: Vec<&str> = Disturbance::ALL
        .iter()
        .filter(|disturbance| failure.during[**disturbance as usize])
        .map(|disturbance| disturbance.name())
        .collect();
    let during = if during.is_empty() { "no disturbance".to_owned() } else { during.join(" and ") };
    format!(
        "{} during {during}, {:.1} s after the start: {:?}: {}",
        failure.traffic.name(),
        failure.at_ms as f64 / 1000.0,
        failure.fault.kind,
        failure.fault.text
    )
}
