//! All processes killed at random instants while they switch, and what the store then knows: every switch that was
//! acknowledged, none by half, and a history that verifies.

use super::Plan;
use super::control::{Control, number};
use super::gateway::{GROUPS, Gateway};
use crate::server::Server;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const KEYS: usize = 8;
/// The longest a server lives under switching.
const LIFE_MS: u64 = 60;

/// What is known of the switch by those who were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Known {
    /// The last acknowledged revision.
    revision: u64,
    /// Where it led all keys to.
    group: usize,
    /// An order was under way, so that the revision may be one more and the keys may lead to the other group.
    open: bool,
}

/// Runs it, and gives the figures.
pub(super) fn run(plan: &Plan) -> Result<String, String> {
    let gateway = Gateway::make("kills")?;
    let mut random = Random::new();
    let mut known = Known::default();
    let (mut acknowledged, mut open_kept) = (0, 0);
    for kill in 1..=plan.kills {
        let server = Server::start_in(&plan.program, &gateway.folder, gateway.front)?;
        let found = look(gateway.folder.path()).map_err(|e| {
            format!("after kill {}: {e}; its log: {}", kill - 1, last_words(gateway.folder.path()))
        })?;
        let fits = found == Known { open: false, ..known }
            || (known.open && found.revision == known.revision + 1 && found.group != known.group);
        if !fits {
            return Err(format!(
                "after kill {} the store has {found:?}, and {known:?} was answered",
                kill - 1
            ));
        }
        open_kept += u64::from(found.revision > known.revision);
        let before = found.revision;
        known = switch_until_killed(server, gateway.folder.path(), found, random.below(LIFE_MS * 1000))?;
        acknowledged += known.revision - before;
    }
    let server = Server::start_in(&plan.program, &gateway.folder, gateway.front)?;
    look(gateway.folder.path())?;
    server.finish(&["emerg"])?;
    Ok(format!(
        "{} kills during {acknowledged} acknowledged commits of {KEYS} keys; none lost, none by half, the history verifies; \
         {open_kept} that were under way had been kept",
        plan.kills
    ))
}

/// The end of a server's error log.
fn last_words(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("logs/error.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].join(" | ")
}

/// What a server that was just started knows.
fn look(folder: &Path) -> Result<Known, String> {
    let mut control = Control::open(folder)?;
    let history = control.get("/v1/switches/live/history?limit=1&verify=true")?;
    if history["verified"]["intact"] != json!(true) {
        return Err(format!("the history is not intact: {history}"));
    }
    let table = control.get("/v1/switches/live/keys?limit=100")?;
    let revision = number(&table, "revision")?;
    let entries = table["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    if revision == 0 && entries.is_empty() {
        return Ok(Known::default());
    }
    let targets: Vec<&Value> = entries.iter().map(|entry| &entry["route"]).collect();
    let group = GROUPS.iter().position(|group| targets.iter().all(|target| *target == group));
    match group {
        Some(group) if targets.len() == KEYS => Ok(Known { revision, group, open: false }),
        _ => Err(format!("revision {revision} is there by half: {table}")),
    }
}

/// Switches all keys to and fro until the server is killed, after so many microseconds.
fn switch_until_killed(
    server: Server,
    folder: &Path,
    mut known: Known,
    life_us: u64,
) -> Result<Known, String> {
    let killed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let switching = scope.spawn(|| {
            let Ok(mut control) = Control::open_now(folder) else { return Ok(known) };
            loop {
                let group = 1 - known.group;
                let change = |n: usize| json!({"key": format!("k{n}.example.com"), "target": GROUPS[group]});
                let body = json!({"changes": (0..KEYS).map(change).collect::<Vec<_>>()});
                known.open = true;
                match control.order("POST", "/v1/switches/live/commits", None, &body) {
                    Ok(said) if said.status == 200 => {
                        known = Known { revision: number(&said.body, "revision")?, group, open: false };
                    }
                    Ok(said) => return Err(format!("{} {}", said.status, said.body)),
                    Err(_) if killed.load(Ordering::SeqCst) => return Ok(known),
                    Err(error) => return Err(error),
                }
            }
        });
        std::thread::sleep(Duration::from_micros(life_us));
        killed.store(true, Ordering::SeqCst);
        server.kill()?;
        switching.join().map_err(|_| "the switching thread panicked".to_owned())?
    })
}

/// Random numbers, seeded by the clock: which instants are hit is to differ from run to run.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Random(now.as_nanos() as u64 | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
