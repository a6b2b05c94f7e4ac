//! Mixed traffic while the server is reloaded, upgraded, switched and killed: nothing is dropped.
//!
//! Every request knows which disturbances overlapped it. None may fail; those alone are excused that were under way on
//! a process while that was killed. No connection is ever refused, and every answer comes from the group that was in
//! force. Owns the run and its table; see the parts for the traffic ([`traffic`]), what is done to the server
//! ([`disturbances`], [`switching`]) and the counts ([`ledger`]). [`long`] is the same for minutes, with everything broken
//! that can be.

mod boards;
mod conf;
mod disturbances;
mod faulty;
mod fleet;
mod frames;
mod ledger;
pub(super) mod long;
mod origin;
mod rough;
mod samples;
mod switching;
mod table;
mod traffic;
mod wire;

use super::Plan;
use crate::server::{Folder, free_ports};
use boards::Boards;
use conf::Ports;
use disturbances::{Amounts, Disturber};
use fleet::Fleet;
use ledger::{Kind, Ledger};
use origin::{Origin, Pattern};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use switching::Switched;
use traffic::{Client, World};

/// How long there is traffic before the first disturbance and after the last.
const UNDISTURBED: Duration = Duration::from_secs(2);
/// The pause between two disturbances, on average.
const PAUSE_MS: u64 = 500;
/// The pause between two switches, on average.
const SWITCH_PAUSE: Duration = Duration::from_millis(120);
const STACK_BYTES: usize = 512 << 10;
/// More than all disturbances take.
const MOST: Duration = Duration::from_secs(1800);

/// How much of everything; what is not said is what the part is for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amount {
    pub(super) connections: Option<u64>,
    pub(super) reloads: Option<u64>,
    pub(super) upgrades: Option<u64>,
    pub(super) switches: Option<u64>,
    pub(super) kills: Option<u64>,
    pub(super) minutes: Option<u64>,
}

/// A server, the servers behind it, and what clients know of them.
struct Stage {
    world: World,
    ports: Ports,
    folder: Folder,
    origins: Vec<Origin>,
}

impl Stage {
    fn make(name: &str, broken: Option<Origin>) -> Result<Stage, String> {
        let pattern = Pattern::new();
        let mut origins = Vec::new();
        for group in ["blue", "blue", "green", "green"] {
            origins.push(Origin::of_group(group, &pattern)?);
        }
        let [front, one, two, dead]: [u16; 4] = free_ports()?;
        let ports = Ports {
            front,
            sides: [one, two],
            dead,
            origins: std::array::from_fn(|n| origins[n].port),
            broken: broken.as_ref().map_or(dead, |broken| broken.port),
        };
        origins.extend(broken);
        let world = World {
            ledger: Ledger::new(),
            boards: Boards::new(),
            pattern,
            front: SocketAddr::from((Ipv4Addr::LOCALHOST, front)),
            sides: RwLock::default(),
            epoch: AtomicU64::new(0),
        };
        let folder = Folder::make(name, &[("conf/nginx.conf", conf::text(0, &ports))])?;
        Ok(Stage { world, ports, folder, origins })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

/// What each connection does.
fn kinds(connections: u64) -> Vec<Kind> {
    // Of sixteen: what a busy gateway sees, with a share of everything that is hard to keep.
    let of_sixteen = [
        Kind::Small,
        Kind::Thinking,
        Kind::Fresh,
        Kind::Tunnel,
        Kind::Small,
        Kind::Thinking,
        Kind::Upload,
        Kind::Large,
        Kind::Small,
        Kind::Thinking,
        Kind::Fresh,
        Kind::Tunnel,
        Kind::Small,
        Kind::Thinking,
        Kind::Upload,
        Kind::Fresh,
    ];
    of_sixteen.into_iter().cycle().take(connections as usize).chain([Kind::Side; 4]).collect()
}

/// Starts the clients; they end when the ledger says so.
fn start_clients<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    world: &'scope World,
    connections: u64,
) -> Result<(), String> {
    for (number, kind) in (0..).zip(kinds(connections)) {
        let client = thread::Builder::new().stack_size(STACK_BYTES);
        let client = client.spawn_scoped(scope, move || Client::new(world, kind, number).live());
        client.map_err(|e| format!("a client has no thread: {e}"))?;
    }
    Ok(())
}

/// Runs it, and gives the table.
pub(super) fn run(plan: &Plan) -> Result<String, String> {
    let amount = plan.mixed;
    let amounts = Amounts {
        reloads: amount.reloads.unwrap_or(100),
        upgrades: amount.upgrades.unwrap_or(20),
        kills: amount.kills.unwrap_or(20),
    };
    let switches = amount.switches.unwrap_or(1000);
    let connections = amount.connections.unwrap_or(256);
    let stage = Stage::make("mixed", None)?;
    let fleet = Fleet::start(&plan.program, &stage.folder)?;
    let mut disturber = Disturber::new(&stage.world, fleet, stage.ports, stage.path());
    let started = Instant::now();
    let (disturbed, mut switched) = thread::scope(|scope| {
        // Whatever happens from here on, the clients are to end.
        let stop = Stop(&stage.world.ledger.stop);
        let disturbed = disturb(scope, &stage, &mut disturber, (amounts, switches, connections));
        drop(stop);
        disturbed
    });
    let seconds = started.elapsed().as_secs_f64();
    let mut broken = switched.faults.clone();
    broken.extend(disturbed.err());
    drop(stage.origins);
    broken.extend(disturber.fleet.settle().err());
    broken.extend(disturber.fleet.finish().err());
    broken.extend(unexpected(&disturber.fleet.log(&["alert", "crit"])));
    let told = table::show(&stage.world.ledger, &mut disturber, &mut switched, &mut broken);
    let told = format!("{connections} connections for {seconds:.0} s\n{told}");
    verdict("mixed", stage.folder.path(), told, &broken)
}

/// What was told, and what was broken; in that case the server's log is kept.
fn verdict(name: &str, folder: &Path, told: String, broken: &[String]) -> Result<String, String> {
    if broken.is_empty() {
        return Ok(told);
    }
    let kept = format!("target/xtask/soak-{name}.log");
    let copied = std::fs::copy(folder.join("logs/error.log"), crate::root().join(&kept));
    let log = copied.map_or_else(|error| format!("no log: {error}"), |_| format!("the server's log: {kept}"));
    Err(format!("{told}\n  BROKEN PROMISES ({log})\n    {}", broken.join("\n    ")))
}

/// Sets a flag when it goes.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Everything between the first request and the last.
fn disturb<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    stage: &'scope Stage,
    disturber: &mut Disturber<'_>,
    (amounts, switches, connections): (Amounts, u64, u64),
) -> (Result<(), String>, Switched) {
    if let Err(error) = start_clients(scope, &stage.world, connections) {
        return (Err(error), Switched::default());
    }
    thread::sleep(UNDISTURBED);
    let end = AtomicBool::new(false);
    let (world, folder) = (&stage.world, stage.folder.path());
    let (disturbed, switched) = thread::scope(|inner| {
        let switching = inner.spawn(|| switching::switch_on(world, folder, switches, SWITCH_PAUSE, &end));
        let give_up = Stop(&end);
        let started = Instant::now();
        let mut disturbed = Ok(());
        for doing in amounts.order() {
            disturber.pause(PAUSE_MS);
            disturbed = disturber.disturb(doing);
            if disturbed.is_err() {
                break;
            }
        }
        while disturbed.is_ok() && !switching.is_finished() && started.elapsed() < MOST {
            thread::sleep(Duration::from_millis(20));
        }
        drop(give_up);
        (disturbed, switching.join().map_err(|_| "the switching thread panicked".to_owned()))
    });
    thread::sleep(UNDISTURBED);
    match switched {
        Ok(mut switched) => {
            if disturbed.is_ok() && switched.done < switches {
                switched.faults.push(format!("{} of {switches} switches were carried out", switched.done));
            }
            (disturbed, switched)
        }
        Err(error) => (disturbed.and(Err(error)), Switched::default()),
    }
}

/// Lines of the error log that no disturbance asked for.
fn unexpected(lines: &[String]) -> Option<String> {
    let killed = |line: &&String| line.contains("exited on signal 9");
    let mut lines = lines.iter().filter(|line| !killed(line));
    let first = lines.next()?;
    Some(format!("its error log says ({} more): {first}", lines.count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_connections() {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Rough) {
            assert!(kinds(64).contains(&kind), "{kind:?}");
        }
        assert_eq!(kinds(256).len(), 260);
    }

    #[test]
    fn a_kill_is_expected_and_a_crash_is_not() {
        let line = |text: &str| format!("[alert] 1#1: worker process 2 {text}");
        assert_eq!(unexpected(&[line("exited on signal 9")]), None);
        assert!(unexpected(&[line("exited on signal 9"), line("exited on signal 11")]).is_some());
    }
}
