//! The parts that `mixed` and `long` share: the setup, the clients and the verdict.

use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use super::conf;
use super::ledger::{Ledger, Traffic};
use super::traffic::{Client, Run};
use super::verdicts::SwitchCounts;
use crate::body::Pattern;
use crate::origin::Origin;
use crate::server::{SharedDir, address, prepare};

/// How long there is traffic before the first disturbance and after the last.
pub(super) const UNDISTURBED: Duration = Duration::from_secs(2);
/// The pause between two switches, on average.
pub(super) const SWITCH_PAUSE: Duration = Duration::from_millis(120);
const STACK_BYTES: usize = 512 << 10;

/// A gateway's directory, the servers behind it, and the state of the run.
pub(super) struct Setup {
    pub(super) run: Run,
    pub(super) dir: SharedDir,
    pub(super) origins: Vec<Origin>,
    /// The ports of the servers of blue and green, and of the broken one.
    pub(super) origin_ports: [u16; 5],
}

impl Setup {
    /// Starts the origins, with a broken one if there is one, and prepares the gateway's directory.
    pub(super) fn make(broken: Option<Origin>) -> Result<Setup, String> {
        let pattern = Pattern::new();
        let mut origins = Vec::new();
        for group in ["blue", "blue", "green", "green"] {
            origins.push(Origin::of_group(group, &pattern)?);
        }
        origins.extend(broken);
        // Without a broken origin its port is that of the first one, and not used.
        let origin_ports = std::array::from_fn(|n| origins.get(n).unwrap_or(&origins[0]).port);
        // Side ports are reserved from the beginning, though the first configuration has none.
        let text = format!("{}\n# {}\n", conf::text(0, &origin_ports), conf::SIDES.join(" "));
        let dir = prepare(&text)?;
        let run = Run {
            ledger: Ledger::new(),
            switches: SwitchCounts::new(),
            pattern,
            front: address(&dir, "front")?,
            sides: RwLock::default(),
            epoch: AtomicU64::new(0),
        };
        Ok(Setup { run, dir, origins, origin_ports })
    }
}

/// Returns the traffic of each connection.
fn traffic_of(connections: u64) -> Vec<Traffic> {
    use Traffic::{Fresh, Large, Small, Thinking, Tunnel, Upload};
    // Of sixteen: what a busy gateway sees, with a share of everything that is hard to keep alive.
    let of_sixteen = [
        Small, Thinking, Fresh, Tunnel, Small, Thinking, Upload, Large, Small, Thinking, Fresh, Tunnel,
        Small, Thinking, Upload, Fresh,
    ];
    let of_sides = [Traffic::SidePort; 4];
    of_sixteen.into_iter().cycle().take(connections as usize).chain(of_sides).collect()
}

/// Starts the clients; they end when the ledger says so.
pub(super) fn start_clients<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    run: &'scope Run,
    connections: u64,
) -> Result<(), String> {
    for (number, traffic) in (0..).zip(traffic_of(connections)) {
        let client = thread::Builder::new().stack_size(STACK_BYTES);
        let client = client.spawn_scoped(scope, move || Client::new(run, traffic, number).send_all());
        client.map_err(|e| format!("no thread for a client: {e}"))?;
    }
    Ok(())
}

/// Returns the report, as an error with the violations if there are any; then the server's log is kept.
pub(super) fn verdict(
    name: &str,
    prefix: &Path,
    report: String,
    violations: &[String],
) -> Result<String, String> {
    if violations.is_empty() {
        return Ok(report);
    }
    let kept = format!("target/soak/{name}.log");
    let copied = std::fs::copy(prefix.join("logs/error.log"), crate::root().join(&kept));
    let log = copied.map_or_else(|error| format!("no log: {error}"), |_| format!("the server's log: {kept}"));
    Err(format!("{report}\n  VIOLATIONS ({log})\n    {}", violations.join("\n    ")))
}

/// Describes the lines of the error log that no disturbance explains.
pub(super) fn unexpected(lines: &[String]) -> Option<String> {
    let killed = |line: &&String| line.contains("exited on signal 9");
    let mut lines = lines.iter().filter(|line| !killed(line));
    let first = lines.next()?;
    Some(format!("its error log says ({} more): {first}", lines.count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_traffic_has_connections() {
        for traffic in Traffic::ALL.into_iter().filter(|traffic| *traffic != Traffic::Misbehaving) {
            assert!(traffic_of(64).contains(&traffic), "{traffic:?}");
        }
        assert_eq!(traffic_of(256).len(), 260);
    }

    #[test]
    fn a_kill_is_expected_and_a_crash_is_not() {
        let line = |text: &str| format!("[alert] 1#1: worker process 2 {text}");
        assert_eq!(unexpected(&[line("exited on signal 9")]), None);
        assert!(unexpected(&[line("exited on signal 9"), line("exited on signal 11")]).is_some());
    }
}
