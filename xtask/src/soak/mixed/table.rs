//! The table of a run: what was sent, what was done, what failed and why.
//!
//! Owns the words. Must never leave a failure out that is not excused.

use super::disturbances::Disturber;
use super::ledger::{Doing, Failure, Kind, Ledger};
use super::switching::Switched;
use super::wire::What;
use std::fmt::Write;
use std::sync::atomic::Ordering::SeqCst;

/// How many failures are shown one by one.
const SHOWN: usize = 20;

/// The table; what breaks a promise is added to `broken`.
pub(super) fn show(
    ledger: &Ledger,
    disturber: &mut Disturber<'_>,
    switched: &mut Switched,
    broken: &mut Vec<String>,
) -> String {
    let failures = ledger.failures();
    let mut told = traffic(ledger, &failures);
    let _ = writeln!(
        told,
        "  {:<16} {:>6} {:>12} {:>14} {:>8}  took",
        "disturbance", "done", "overlapped", "lost by kills", "failed"
    );
    for doing in Doing::ALL {
        let (done, overlapped) = ledger.mark(doing);
        let during: Vec<&Failure> = failures.iter().filter(|one| one.during[doing as usize]).collect();
        let excused = during.iter().filter(|one| one.is_excused()).count();
        let took = match doing {
            Doing::Switch => switched.times(),
            doing => disturber.times(doing),
        };
        let _ = writeln!(
            told,
            "  {:<16} {done:>6} {overlapped:>12} {excused:>14} {:>8}  {took}",
            doing.name(),
            during.len() - excused
        );
    }
    let calm = failures.iter().filter(|one| one.during == [false; 4]).count();
    let count = |what| failures.iter().filter(|one| one.fault.what == what).count();
    let raced = failures.iter().filter(|one| one.fault.what == What::Raced && !one.is_excused()).count();
    let [clear, under_way, behind, most_ms] = [0, 1, 2, 3].map(|n| ledger.judged[n].load(SeqCst));
    let _ = write!(
        told,
        "  failed while nothing was done: {calm}; refused connections: {}; sent into a close: {raced}; idle connections closed \
         by right: {}\n  answers with one right group: {clear}, during a switch of their key: {under_way}, of an upgrade's \
         other process that had not read it yet: {behind} (the latest {most_ms} ms after it was told)\n  \
         configurations refused: {}; orders looked up after a lost connection: {}, of which {} had been kept",
        count(What::Refused),
        ledger.closed_idle.load(SeqCst),
        disturber.refused,
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
        "traffic", "ended well", "MiB", "lost by kills", "failed"
    );
    for kind in Kind::ALL {
        let tally = ledger.tally(kind);
        let of_kind: Vec<&Failure> = failures.iter().filter(|one| one.kind == kind).collect();
        let excused = of_kind.iter().filter(|one| one.is_excused()).count();
        let _ = writeln!(
            told,
            "  {:<16} {:>10} {:>10} {excused:>14} {:>8}",
            kind.name(),
            tally.ended_well.load(SeqCst),
            tally.bytes.load(SeqCst) >> 20,
            of_kind.len() - excused
        );
    }
    told
}

fn describe(failure: &Failure) -> String {
    let during: Vec<&str> = Doing::ALL
        .iter()
        .filter(|doing| failure.during[**doing as usize])
        .map(|doing| doing.name())
        .collect();
    let during = if during.is_empty() { "nothing".to_owned() } else { during.join(" and ") };
    format!(
        "{} during {during}, {:.1} s after the start: {:?}: {}",
        failure.kind.name(),
        failure.at_ms as f64 / 1000.0,
        failure.fault.what,
        failure.fault.text
    )
}
