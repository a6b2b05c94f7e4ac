//! Processes are killed and stopped at random instants while they switch and serve a load. Afterwards the store must hold
//! every acknowledged switch, none partially, and a history that verifies.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::{TestDir, proc};

use crate::Plan;
use crate::client::Client;
use crate::control::{Control, list, number};
use crate::gateway::{GROUPS, Gateway};
use crate::server::{Program, Server, signal, until};

const KEYS: usize = 8;
/// The longest that a server switches before its processes are struck.
pub(crate) const MAX_LIFE_US: u64 = 60_000;
/// The time for which a process is stopped.
const STOP: Duration = Duration::from_millis(30);
/// The connections of the load.
const CLIENTS: usize = 16;

/// What happens to the processes. Each comes in its turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Strike {
    /// All are killed at once.
    All,
    /// The worker is killed.
    Worker,
    /// The master is killed, and the next one takes over from the worker.
    Master,
    /// The worker is stopped, and goes on.
    Stop,
    /// The worker is stopped, and killed.
    StopAndKill,
}

pub(crate) const STRIKES: [Strike; 5] =
    [Strike::All, Strike::Worker, Strike::Master, Strike::Stop, Strike::StopAndKill];

impl Strike {
    /// Does it.
    pub(crate) fn hit(self, server: &Server, worker: u32) -> Result<(), String> {
        match self {
            Strike::All => server.kill_all(),
            Strike::Worker => signal(worker, Signal::SIGKILL),
            Strike::Master => signal(server.pid(), Signal::SIGKILL),
            Strike::Stop | Strike::StopAndKill => {
                signal(worker, Signal::SIGSTOP)?;
                std::thread::sleep(STOP);
                let next = if self == Strike::Stop { Signal::SIGCONT } else { Signal::SIGKILL };
                signal(worker, next)
            }
        }
    }

    /// Returns the server that serves afterwards.
    pub(crate) fn recover(
        self,
        server: Server,
        worker: u32,
        gateway: &Gateway,
        program: &Program,
    ) -> Result<Server, String> {
        let is_gone = || until("the end of the worker", || (!proc::is_running(worker)).then_some(()));
        match self {
            Strike::All => {
                drop(server);
                gateway.start(program)
            }
            Strike::Master => {
                let next = gateway.start(program)?;
                is_gone()?;
                Ok(next)
            }
            Strike::Worker | Strike::StopAndKill => is_gone().map(|()| server),
            Strike::Stop => Ok(server),
        }
    }
}

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
    let load = Load { front: gateway.front, answered: AtomicU64::new(0), stop: AtomicBool::new(false) };
    let summary = std::thread::scope(|scope| {
        scope.spawn(|| load.run());
        let summary = strike_all(plan, &gateway);
        load.stop.store(true, Ordering::SeqCst);
        summary
    })?;
    match load.answered.into_inner() {
        0 => Err("no request was answered meanwhile".to_owned()),
        answered => Ok(format!("{summary}; {answered} requests were answered meanwhile")),
    }
}

fn strike_all(plan: &Plan, gateway: &Gateway) -> Result<String, String> {
    let program = plan.program();
    let prefix = gateway.dir.prefix();
    let mut known = Known::default();
    let (mut acknowledged, mut kept_orders) = (0, 0);
    let strikes = plan.kills.unwrap_or(500);
    let mut server = gateway.start(&program)?;
    for (number, strike) in (0..strikes).zip(STRIKES.into_iter().cycle()) {
        let found = read_state(prefix)
            .map_err(|e| format!("after {number} strikes: {e}; its log: {}", log_tail(&gateway.dir)))?;
        check(number, found, known)?;
        kept_orders += u64::from(found.revision > known.revision);
        let worker = until("a worker", || server.worker())?;
        known = switch_until_struck(&server, strike, worker, prefix, found)
            .map_err(|e| format!("strike {number} ({strike:?}): {e}; its log: {}", log_tail(&gateway.dir)))?;
        acknowledged += known.revision - found.revision;
        server = strike.recover(server, worker, gateway, &program).map_err(|e| {
            format!("after strike {number} ({strike:?}): {e}; its log: {}", log_tail(&gateway.dir))
        })?;
    }
    check(strikes, read_state(prefix)?, known)?;
    server.finish(&["emerg"])?;
    Ok(format!(
        "{strikes} strikes, in turn all processes, the worker and the master killed, the worker stopped, and stopped and killed, \
         during {acknowledged} acknowledged commits of {KEYS} keys; none lost, none partial, the history verifies; \
         {kept_orders} unacknowledged ones were kept"
    ))
}

/// Checks that a state has all that was acknowledged, and at most the order that was under way beside it.
fn check(strikes: u64, found: Known, known: Known) -> Result<(), String> {
    let fits = found == Known { order_under_way: false, ..known }
        || (known.order_under_way && found.revision == known.revision + 1 && found.group != known.group);
    match fits {
        true => Ok(()),
        false => Err(format!("after {strikes} strikes the store has {found:?}, acknowledged was {known:?}")),
    }
}

/// Returns the last lines of the error log.
pub(crate) fn log_tail(dir: &TestDir) -> String {
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

/// Switches all keys to and fro until the processes are struck, after a random time.
fn switch_until_struck(
    server: &Server,
    strike: Strike,
    worker: u32,
    prefix: &Path,
    mut known: Known,
) -> Result<Known, String> {
    // Orders may fail from then on, and none is given any more.
    let (may_fail, struck) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let switching = scope.spawn(|| {
            let Ok(mut control) = Control::open_now(prefix) else { return Ok(known) };
            while !struck.load(Ordering::SeqCst) {
                let group = 1 - known.group;
                let change = |n: usize| json!({"key": format!("k{n}.example.com"), "target": GROUPS[group]});
                let body = json!({"changes": (0..KEYS).map(change).collect::<Vec<_>>()});
                known.order_under_way = true;
                match control.order("POST", "/v1/switches/live/commits", None, &body) {
                    Ok(reply) if reply.status == 200 => {
                        let revision = number(&reply.body, "revision")?;
                        known = Known { revision, group, order_under_way: false };
                    }
                    // A worker without a master takes no orders.
                    Ok(_) if strike == Strike::Master && may_fail.load(Ordering::SeqCst) => {
                        return Ok(Known { order_under_way: false, ..known });
                    }
                    Ok(reply) => return Err(format!("{} {}", reply.status, reply.body)),
                    Err(_) if may_fail.load(Ordering::SeqCst) && strike != Strike::Stop => return Ok(known),
                    Err(error) => return Err(error),
                }
            }
            Ok(known)
        });
        std::thread::sleep(Duration::from_micros(fastrand::u64(..MAX_LIFE_US)));
        may_fail.store(true, Ordering::SeqCst);
        let hit = strike.hit(server, worker);
        struck.store(true, Ordering::SeqCst);
        let known = switching.join().map_err(|_| "the switching thread panicked".to_owned())?;
        hit.and(known)
    })
}

/// Clients that send requests all the time, whether or not they are answered.
pub(crate) struct Load {
    pub(crate) front: SocketAddr,
    pub(crate) answered: AtomicU64,
    pub(crate) stop: AtomicBool,
}

impl Load {
    pub(crate) fn run(&self) {
        let mut clients: Vec<Option<Client>> = (0..CLIENTS).map(|_| None).collect();
        while !self.stop.load(Ordering::SeqCst) {
            for (number, client) in clients.iter_mut().enumerate() {
                let ask = |mut client: Client| {
                    client.send_to("/", &format!("k{}.example.com", number % KEYS)).ok()?;
                    let answer = client.answer().ok()?;
                    Some((answer.status == 200, (!answer.closes).then_some(client)))
                };
                let asked = client.take().or_else(|| Client::connect(self.front).ok()).and_then(ask);
                if let Some((is_well, rest)) = asked {
                    self.answered.fetch_add(u64::from(is_well), Ordering::SeqCst);
                    *client = rest;
                }
            }
            // It must leave the processors to the switches.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
