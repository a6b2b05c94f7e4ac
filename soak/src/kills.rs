//! All processes are killed at random instants while they switch. Afterwards the store must hold every acknowledged
//! switch, none partially, and a history that verifies.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::TestDir;

use crate::Plan;
use crate::control::{Control, list, number};
use crate::gateway::{GROUPS, Gateway};
use crate::server::Server;

const KEYS: usize = 8;
/// The longest that a server lives while it switches.
const MAX_LIFE_US: u64 = 60_000;

/// The state of the switch as far as acknowledgements tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Known {
    /// The last acknowledged revision.
    revision: u64,
    /// The group that all keys route to at that revision.
    group: usize,
    /// An order was under way, so that the revision may be one higher and the keys may route to the other group.
    order_under_way: bool,
}

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let gateway = Gateway::prepare()?;
    let prefix = gateway.dir.prefix();
    let mut known = Known::default();
    let (mut acknowledged, mut kept_orders) = (0, 0);
    let kills = plan.kills.unwrap_or(500);
    for kill in 0..kills {
        let server = gateway.start(&plan.program())?;
        let found = read_state(prefix)
            .map_err(|e| format!("after {kill} kills: {e}; its log: {}", log_tail(&gateway.dir)))?;
        let fits = found == Known { order_under_way: false, ..known }
            || (known.order_under_way && found.revision == known.revision + 1 && found.group != known.group);
        if !fits {
            return Err(format!("after {kill} kills the store has {found:?}, acknowledged was {known:?}"));
        }
        kept_orders += u64::from(found.revision > known.revision);
        let before = found.revision;
        known = switch_until_killed(server, prefix, found, fastrand::u64(..MAX_LIFE_US))?;
        acknowledged += known.revision - before;
    }
    let server = gateway.start(&plan.program())?;
    read_state(prefix)?;
    server.finish(&["emerg"])?;
    Ok(format!(
        "{kills} kills during {acknowledged} acknowledged commits of {KEYS} keys; none lost, none partial, the history verifies; \
         {kept_orders} unacknowledged ones were kept"
    ))
}

fn log_tail(dir: &TestDir) -> String {
    let log = std::fs::read_to_string(dir.prefix().join("logs/error.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].join(" | ")
}

/// Reads the state of a server that just started.
fn read_state(prefix: &Path) -> Result<Known, String> {
    let mut control = Control::open(prefix)?;
    control.check_history()?;
    let table = control.get("/v1/switches/live/keys?limit=100")?;
    let revision = number(&table, "revision")?;
    let entries = list(&table["keys"]);
    if revision == 0 && entries.is_empty() {
        return Ok(Known::default());
    }
    let targets: Vec<&Value> = entries.iter().map(|entry| &entry["route"]).collect();
    let group = GROUPS.iter().position(|group| targets.iter().all(|target| *target == group));
    match group {
        Some(group) if targets.len() == KEYS => Ok(Known { revision, group, order_under_way: false }),
        _ => Err(format!("revision {revision} is partial: {table}")),
    }
}

/// Switches all keys to and fro until the server is killed, after `life_us` microseconds.
fn switch_until_killed(
    server: Server,
    prefix: &Path,
    mut known: Known,
    life_us: u64,
) -> Result<Known, String> {
    let killed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let switching = scope.spawn(|| {
            let Ok(mut control) = Control::open_now(prefix) else { return Ok(known) };
            loop {
                let group = 1 - known.group;
                let change = |n: usize| json!({"key": format!("k{n}.example.com"), "target": GROUPS[group]});
                let body = json!({"changes": (0..KEYS).map(change).collect::<Vec<_>>()});
                known.order_under_way = true;
                match control.order("POST", "/v1/switches/live/commits", None, &body) {
                    Ok(reply) if reply.status == 200 => {
                        let revision = number(&reply.body, "revision")?;
                        known = Known { revision, group, order_under_way: false };
                    }
                    Ok(reply) => return Err(format!("{} {}", reply.status, reply.body)),
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
