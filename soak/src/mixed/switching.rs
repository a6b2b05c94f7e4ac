//! Switches over the control socket while everything else goes on.
//!
//! An order whose connection broke is looked up: either it was kept, or it is given again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use super::ledger::Disturbance;
use super::traffic::Run;
use super::verdicts::{GROUPS, KEYS, host};
use crate::connection::TIMEOUT;
use crate::control::{Control, Reply, list, number};
use crate::durations::Durations;

/// The results of all orders.
#[derive(Debug)]
pub(super) struct Switched {
    pub(super) done: u64,
    /// Orders that were looked up because their connection broke or none could be made.
    pub(super) looked_up: u64,
    /// Those of them that had been kept.
    pub(super) kept: u64,
    /// Violations.
    pub(super) faults: Vec<String>,
    took: Durations,
    revision: u64,
}

impl Switched {
    pub(super) fn new() -> Result<Switched, String> {
        let (took, faults) = (Durations::new()?, Vec::new());
        Ok(Switched { done: 0, looked_up: 0, kept: 0, faults, took, revision: 0 })
    }

    /// Returns how long the orders took, as text.
    pub(super) fn times(&self) -> String {
        self.took.in_ms(&[0.5, 0.99, 1.0])
    }
}

/// Gives `total` orders with pauses of `pause` on average between them, and no more once `end` is set.
pub(super) fn switch_until(
    run: &Run,
    prefix: &Path,
    total: u64,
    pause: Duration,
    end: &AtomicBool,
) -> Result<Switched, String> {
    let mut switched = Switched::new()?;
    let mut random = Rng::with_seed(7);
    while switched.done < total && !end.load(SeqCst) && !run.ledger.is_over() {
        let keys: Vec<usize> = match switched.done % 4 {
            3 => (0..KEYS).collect(),
            _ => vec![random.usize(..KEYS)],
        };
        let wanted: Vec<(usize, &str)> = keys.iter().map(|key| (*key, run.switches.next(*key))).collect();
        run.ledger.disturb(Disturbance::Switch);
        keys.iter().for_each(|key| run.switches.begin(*key));
        let started = Instant::now();
        let given = give(run, prefix, &wanted, &mut switched);
        run.ledger.done(Disturbance::Switch);
        match given {
            Ok(()) => keys.iter().for_each(|key| run.switches.done(*key)),
            Err(error) => {
                // The state of the keys is unknown now: no answer can be judged any more.
                switched.faults.push(format!("switch {}: {error}", switched.done + 1));
                return Ok(switched);
            }
        }
        switched.took.record(started.elapsed());
        switched.done += 1;
        std::thread::sleep(pause.mul_f64(2.0 * random.f64()));
    }
    if let Err(error) = check(prefix, &switched) {
        switched.faults.push(error);
    }
    Ok(switched)
}

/// Gives one order until it is carried out.
fn give(run: &Run, prefix: &Path, wanted: &[(usize, &str)], switched: &mut Switched) -> Result<(), String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let start = run.ledger.begin();
        let error = match order(prefix, wanted) {
            Ok(reply) if reply.status == 200 => return check_receipt(&reply.body, switched),
            Ok(reply) if reply.status == 503 => format!("503 {}", reply.body),
            Ok(reply) => return Err(format!("{} {}", reply.status, reply.body)),
            Err(error) => error,
        };
        switched.looked_up += 1;
        let during = run.ledger.during(start);
        if !during[Disturbance::Kill as usize] {
            let names = Disturbance::ALL
                .iter()
                .filter(|disturbance| during[**disturbance as usize])
                .map(|disturbance| disturbance.name());
            let names: Vec<&str> = names.collect();
            switched.faults.push(format!("an order failed during {names:?}: {error}"));
        }
        // The process that answers next knows whether it was kept.
        let revision = loop {
            match in_force(prefix, wanted) {
                Ok(revision) => break revision,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        if let Some(revision) = revision {
            switched.kept += 1;
            switched.revision = revision;
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(error);
        }
    }
}

fn order(prefix: &Path, wanted: &[(usize, &str)]) -> Result<Reply, String> {
    let mut control = Control::open_now(prefix)?;
    match wanted {
        [(key, target)] => {
            let path = format!("/v1/switches/live/keys/{}", host(*key));
            control.order("PUT", &path, None, &json!({"target": target, "reason": "mixed traffic"}))
        }
        many => {
            let changes: Vec<Value> =
                many.iter().map(|(key, target)| json!({"key": host(*key), "target": target})).collect();
            control.order("POST", "/v1/switches/live/commits", None, &json!({"changes": changes}))
        }
    }
}

/// Checks that a receipt has the next revision, and that every worker has applied it.
fn check_receipt(receipt: &Value, switched: &mut Switched) -> Result<(), String> {
    let revision = number(receipt, "revision")?;
    if revision != switched.revision + 1 {
        switched.faults.push(format!("revision {revision} was acknowledged after {}", switched.revision));
    }
    switched.revision = revision;
    let workers = list(&receipt["workers"]).len() as u64;
    if workers == 0 || workers != number(receipt, "workers_asked")? {
        switched
            .faults
            .push(format!("revision {revision} was acknowledged before every worker had it: {receipt}"));
    }
    Ok(())
}

/// Returns the revision of the table if the keys route as wanted.
fn in_force(prefix: &Path, wanted: &[(usize, &str)]) -> Result<Option<u64>, String> {
    let table = Control::open_now(prefix)?.get("/v1/switches/live/keys?limit=100")?;
    let entries = list(&table["keys"]);
    let routes = |key: usize, target: &str| {
        let entry = entries.iter().find(|entry| entry["key"] == host(key).as_str());
        // A key without an entry gets the default, which is the first group.
        entry.map_or(target == GROUPS[0], |entry| entry["route"] == target)
    };
    let all = wanted.iter().all(|(key, target)| routes(*key, target));
    Ok(if all { Some(number(&table, "revision")?) } else { None })
}

/// Checks at the end that nothing was lost: the history verifies and has one entry for each order.
fn check(prefix: &Path, switched: &Switched) -> Result<(), String> {
    let mut control = Control::open(prefix)?;
    control.check_history()?;
    let revision = control.revision()?;
    match revision == switched.done && revision == switched.revision {
        true => Ok(()),
        false => Err(format!(
            "{} switches were carried out, the last acknowledged revision was {}, and the table is at {revision}",
            switched.done, switched.revision
        )),
    }
}
