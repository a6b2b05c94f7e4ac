//! A thousand changes of a group's servers under load: no request fails, none comes to a server that was out before it began,
//! and a change is published as fast as a switch.

mod books;
pub(crate) mod kills;
mod traffic;

use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Plan;
use crate::connection::TIMEOUT;
use crate::control::{Control, list, number};
use crate::durations::Durations;
use crate::server::{SEVERE, Server, address, test_dir};
use books::PoolServer;
use traffic::{Client, Run};

const CONF: &str = include_str!("servers.conf");
const SERVERS: usize = 4;
const CHANGES: u64 = 1000;
const CONNECTIONS: u64 = 256;
/// The answers between two orders.
const ANSWERS: u64 = 20;
/// The publication of a change may take so many times that of a switch, at the median.
const MAX_RATIO: f64 = 1.2;
const SHARES: [f64; 4] = [0.5, 0.9, 0.99, 1.0];

/// The actions on one server after the other.
const ROUND: [Change; 8] = [
    Change::Weigh(3),
    Change::Drain,
    Change::Up,
    Change::Down,
    Change::Up,
    Change::Drain,
    Change::Remove,
    Change::Add,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Weigh(u32),
    Drain,
    Down,
    Up,
    Remove,
    Add,
}

impl Change {
    fn body(self, server: &str) -> Value {
        let change = match self {
            Change::Weigh(weight) => json!({"do": "set", "server": server, "params": {"weight": weight}}),
            Change::Drain => json!({"do": "drain", "server": server}),
            Change::Down => json!({"do": "down", "server": server}),
            Change::Up => json!({"do": "up", "server": server}),
            Change::Remove => json!({"do": "remove", "server": server}),
            Change::Add => json!({"do": "add", "server": server}),
        };
        json!({"changes": [change], "reason": "soak test"})
    }

    /// Returns true if the server gets no new requests from then on.
    fn takes_out(self) -> bool {
        matches!(self, Change::Drain | Change::Down | Change::Remove)
    }
}

/// Runs the test; returns a summary.
pub(crate) fn run(plan: &Plan) -> Result<String, String> {
    let pool = (0..SERVERS).map(|_| PoolServer::start()).collect::<Result<Vec<_>, String>>()?;
    let dir = test_dir(CONF)?;
    let conf = pool.iter().enumerate().fold(CONF.to_owned(), |conf, (at, server)| {
        conf.replace(&format!("{{pool:{at}}}"), &server.port().to_string())
    });
    dir.write("conf/nginx.conf", dir.fill_in(&conf).as_bytes(), 0o644)?;
    let (front, dir) = (address(&dir, "front")?, Rc::new(dir));
    let server = Server::start(&plan.program(), &dir, front)?;
    let mut control = Control::open(dir.prefix())?;
    let run = Run::new(front);
    let changes = plan.switches.unwrap_or(CHANGES);
    let published = std::thread::scope(|scope| {
        for number in 0..plan.connections.unwrap_or(CONNECTIONS) {
            let run = &run;
            scope.spawn(move || Client::new(run, number).send_all());
        }
        let published = change_all(&mut control, &run, &pool, changes);
        run.stop.store(true, SeqCst);
        published
    })?;
    let answered = run.close()?;
    let mut came = Vec::new();
    for server in &pool {
        came.push(server.close()?.to_string());
    }
    check(&mut control, &pool, changes)?;
    server.finish(&SEVERE)?;
    let [of_servers, of_switches] = published;
    let ratio = of_servers.quantile_us(0.5) as f64 / of_switches.quantile_us(0.5).max(1) as f64;
    let summary = format!(
        "{changes} changes of servers under {answered}; none failed, and none came to a server that was out before it began; the \
         servers' books have {} requests; from commit to the last worker: a change of servers {}, a switch {}, {ratio:.2} times at \
         the median",
        came.join(" + "),
        of_servers.in_ms(&SHARES),
        of_switches.in_ms(&SHARES)
    );
    match ratio <= MAX_RATIO {
        true => Ok(summary),
        false => Err(format!("{summary}: more than {MAX_RATIO}")),
    }
}

/// Changes servers and, in turns with that, switches a key. Returns how long their publications took.
fn change_all(
    control: &mut Control,
    run: &Run,
    pool: &[PoolServer],
    changes: u64,
) -> Result<[Durations; 2], String> {
    let [mut of_servers, mut of_switches] = [Durations::new()?, Durations::new()?];
    for (number, change) in (0..changes).zip(ROUND.into_iter().cycle()) {
        let server = &pool[number as usize / ROUND.len() % SERVERS];
        let is_out_before = run.is_one_out.load(SeqCst);
        if !change.takes_out() {
            server.book.is_in();
            run.is_one_out.store(false, SeqCst);
        }
        let body = change.body(&format!("127.0.0.1:{}", server.port()));
        let receipt = control
            .must("POST", "/v1/groups/pool/servers", &body)
            .map_err(|e| format!("change {number} ({change:?}): {e}"))?;
        of_servers.record_us(published_us(&receipt)?);
        if change.takes_out() {
            // A request that begins with this number has begun after the acknowledgement.
            let order = run.orders.load(SeqCst) + 1;
            if !is_out_before {
                server.book.is_out_after(order);
            }
            run.orders.store(order, SeqCst);
            run.is_one_out.store(true, SeqCst);
        }
        wait_for_answers(run)?;
        let target = if number.is_multiple_of(2) { "other" } else { "pool" };
        let body = json!({"target": target, "reason": "soak test"});
        let receipt = control.must("PUT", "/v1/switches/live/keys/www.example.com", &body)?;
        of_switches.record_us(published_us(&receipt)?);
        wait_for_answers(run)?;
    }
    Ok([of_servers, of_switches])
}

fn wait_for_answers(run: &Run) -> Result<(), String> {
    let (enough, deadline) = (run.answered() + ANSWERS, Instant::now() + TIMEOUT);
    while run.answered() < enough {
        if Instant::now() > deadline {
            return Err("no more answers".to_owned());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Returns the time from the commit to the last worker's acknowledgement.
fn published_us(receipt: &Value) -> Result<u64, String> {
    let workers = list(&receipt["workers"]);
    if workers.is_empty() || workers.len() as u64 != number(receipt, "workers_asked")? {
        return Err(format!("not every worker has acknowledged: {receipt}"));
    }
    let after = workers.iter().map(|one| number(one, "after_us")).collect::<Result<Vec<_>, String>>()?;
    Ok(after.into_iter().max().unwrap_or_default())
}

/// Checks that the group has what the last orders say, and that all are in the history.
fn check(control: &mut Control, pool: &[PoolServer], changes: u64) -> Result<(), String> {
    control.check_history_of("groups")?;
    control.check_history_of("live")?;
    let groups = control.get("/v1/groups")?;
    if number(&groups, "revision")? != changes {
        return Err(format!(
            "{changes} changes were acknowledged, and the groups are at {}",
            groups["revision"]
        ));
    }
    if !changes.is_multiple_of(ROUND.len() as u64) {
        return Ok(());
    }
    let group = control.get("/v1/groups/pool/servers")?;
    let mut found: Vec<&str> =
        list(&group["servers"]).iter().filter_map(|server| server["server"].as_str()).collect();
    let mut expected: Vec<String> =
        pool.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    found.sort_unstable();
    expected.sort_unstable();
    match found == expected {
        true => Ok(()),
        false => Err(format!("the pool has {found:?}, not {expected:?}")),
    }
}
