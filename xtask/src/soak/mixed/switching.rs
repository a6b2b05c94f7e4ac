//! Switches over the control socket while everything else goes on.
//!
//! Owns the orders and what their answers must say. An order whose connection broke is looked up, not guessed: either
//! it was kept, or it is given again. Must never count a switch as done before everybody was told.

use super::super::control::{Control, Said, number, quantile};
use super::boards::{KEYS, host};
use super::ledger::Doing;
use super::traffic::{Random, World};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// What came of all orders.
#[derive(Debug, Default)]
pub(super) struct Switched {
    pub(super) done: u64,
    /// Orders whose connection broke, or that found nobody to take them, and were looked up.
    pub(super) looked_up: u64,
    /// Of these, the ones that had been kept.
    pub(super) kept: u64,
    /// Broken promises.
    pub(super) faults: Vec<String>,
    took_us: Vec<u64>,
    revision: u64,
}

impl Switched {
    /// How long the orders took, in words.
    pub(super) fn times(&mut self) -> String {
        self.took_us.sort_unstable();
        let at = |share| quantile(&self.took_us, share) as f64 / 1000.0;
        format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0))
    }
}

/// Gives `total` orders with pauses of `pause` between, and no more once `end` is set.
pub(super) fn switch_on(
    world: &World,
    folder: &Path,
    total: u64,
    pause: Duration,
    end: &AtomicBool,
) -> Switched {
    let mut switched = Switched::default();
    let mut random = Random::new(7);
    while switched.done < total && !end.load(SeqCst) && !world.ledger.is_over() {
        let keys: Vec<usize> = match switched.done % 4 {
            3 => (0..KEYS).collect(),
            _ => vec![random.below(KEYS as u64) as usize],
        };
        let wanted: Vec<(usize, &str)> = keys.iter().map(|key| (*key, world.boards.next(*key))).collect();
        world.ledger.doing(Doing::Switch);
        keys.iter().for_each(|key| world.boards.begin(*key));
        let started = Instant::now();
        let given = give(world, folder, &wanted, &mut switched);
        world.ledger.done(Doing::Switch);
        match given {
            Ok(()) => keys.iter().for_each(|key| world.boards.done(*key)),
            Err(error) => {
                // Nobody knows where the keys lead now: nothing can be judged any more.
                switched.faults.push(format!("switch {}: {error}", switched.done + 1));
                return switched;
            }
        }
        switched.took_us.push(started.elapsed().as_micros() as u64);
        switched.done += 1;
        std::thread::sleep(pause.mul_f64(random.below(2000) as f64 / 1000.0));
    }
    if let Err(error) = check(folder, &switched) {
        switched.faults.push(error);
    }
    switched
}

/// Gives one order until it is carried out.
fn give(
    world: &World,
    folder: &Path,
    wanted: &[(usize, &str)],
    switched: &mut Switched,
) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = world.ledger.begin();
        let error = match order(folder, wanted) {
            Ok(said) if said.status == 200 => return acknowledged(&said.body, switched),
            Ok(said) if said.status == 503 => format!("503 {}", said.body),
            Ok(said) => return Err(format!("{} {}", said.status, said.body)),
            Err(error) => error,
        };
        switched.looked_up += 1;
        let during = world.ledger.during(seen);
        if !during[Doing::Kill as usize] {
            let names = Doing::ALL.iter().filter(|doing| during[**doing as usize]).map(|doing| doing.name());
            let names: Vec<&str> = names.collect();
            switched.faults.push(format!("an order failed during {names:?}: {error}"));
        }
        // Whoever is there after it knows whether it was kept.
        let revision = loop {
            match in_force(folder, wanted) {
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

fn order(folder: &Path, wanted: &[(usize, &str)]) -> Result<Said, String> {
    let mut control = Control::open_now(folder)?;
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

/// A receipt must be the next revision's, and every worker must have taken it over.
fn acknowledged(receipt: &Value, switched: &mut Switched) -> Result<(), String> {
    let revision = number(receipt, "revision")?;
    if revision != switched.revision + 1 {
        switched.faults.push(format!("revision {revision} was told after {}", switched.revision));
    }
    switched.revision = revision;
    let workers = receipt["workers"].as_array().map_or(0, Vec::len) as u64;
    if workers == 0 || workers != number(receipt, "workers_asked")? {
        switched.faults.push(format!("revision {revision} was told before every worker had it: {receipt}"));
    }
    Ok(())
}

/// The table's revision, if the keys lead where they are wanted.
fn in_force(folder: &Path, wanted: &[(usize, &str)]) -> Result<Option<u64>, String> {
    let table = Control::open_now(folder)?.get("/v1/switches/live/keys?limit=100")?;
    let entries = table["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    let leads = |key: usize, target: &str| {
        let entry = entries.iter().find(|entry| entry["key"] == host(key).as_str());
        // A key without an entry gets the default, which is the first group.
        entry.map_or(target == super::boards::GROUPS[0], |entry| entry["route"] == target)
    };
    let all = wanted.iter().all(|(key, target)| leads(*key, target));
    Ok(if all { Some(number(&table, "revision")?) } else { None })
}

/// At the end nothing is lost: the history is whole, and as long as the orders that were carried out.
fn check(folder: &Path, switched: &Switched) -> Result<(), String> {
    let history = Control::open(folder)?.get("/v1/switches/live/history?limit=1&verify=true")?;
    if history["verified"]["intact"] != json!(true) {
        return Err(format!("the history is not intact: {history}"));
    }
    let table = Control::open(folder)?.get("/v1/switches/live/keys?limit=1")?;
    let revision = number(&table, "revision")?;
    match revision == switched.done && revision == switched.revision {
        true => Ok(()),
        false => Err(format!(
            "{} switches were carried out, the last one told was revision {}, and the table is at {revision}",
            switched.done, switched.revision
        )),
    }
}
