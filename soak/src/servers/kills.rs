//! Processes are killed and stopped at random instants while servers are changed under a load. Afterwards the group must have
//! exactly what was acknowledged last, or the order that was under way whole, with a history that verifies; and undoing a
//! change restores exactly what was before.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::books::PoolServer;
use crate::Plan;
use crate::control::{Control, list, number};
use crate::gateway::Gateway;
use crate::kills::{Load, MAX_LIFE_US, STRIKES, Strike, log_tail};
use crate::server::{Server, until};

/// Servers that come and go.
const SERVERS: usize = 3;
/// The group that is changed.
const GROUP: &str = "blue";

/// What a group has, and what orders say of it, by server: parameters as JSON, or that it was removed.
type Set = BTreeMap<String, String>;

/// The state of the group as far as acknowledgements tell.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    /// The last acknowledged revision.
    revision: u64,
    set: Set,
    /// What it had before that revision.
    before: Set,
    /// The set if the order that is under way is carried out.
    under_way: Option<Set>,
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
    let (program, prefix) = (plan.program(), gateway.dir.prefix());
    let strikes = plan.kills.unwrap_or(500);
    // An order may not name what the gateway itself listens at.
    let pool = (0..SERVERS).map(|_| PoolServer::start()).collect::<Result<Vec<_>, String>>()?;
    let servers: Vec<String> = pool.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    let (mut acknowledged, mut kept_orders, mut undone) = (0, 0, 0);
    let mut server = gateway.start(&program)?;
    let set = read(prefix)?.1;
    let mut known = Known { before: set.clone(), set, ..Known::default() };
    for (number, strike) in (0..strikes).zip(STRIKES.into_iter().cycle()) {
        let whose =
            |e: String| format!("strike {number} ({strike:?}): {e}; its log: {}", log_tail(&gateway.dir));
        let worker = until("a worker", || server.worker())?;
        let begun = known.revision;
        known = change_until_struck((prefix, &servers), &server, strike, worker, known).map_err(whose)?;
        acknowledged += known.revision - begun;
        server = strike.recover(server, worker, gateway, &program).map_err(whose)?;
        let is_kept = known.under_way.is_some();
        let revision = known.revision;
        known = check(read(prefix).map_err(whose)?, known).map_err(whose)?;
        kept_orders += u64::from(is_kept && known.revision > revision);
        if known.revision > 0 && number % 3 == 2 {
            known = undo(prefix, known).map_err(whose)?;
            undone += 1;
        }
    }
    server.finish(&["emerg"])?;
    Ok(format!(
        "{strikes} strikes, in turn all processes, the worker and the master killed, the worker stopped, and stopped and killed, \
         during {acknowledged} acknowledged changes of servers; none lost, none partial, the history verifies; {undone} changes undone, each \
         to exactly the set before it; {kept_orders} unacknowledged ones were kept"
    ))
}

/// Checks that a group has all that was acknowledged, and at most the order that was under way beside it. Returns what is known
/// then.
fn check(found: (u64, Set), known: Known) -> Result<Known, String> {
    let (revision, set) = found;
    if revision == known.revision && set == known.set {
        return Ok(Known { under_way: None, ..known });
    }
    if revision == known.revision + 1 && known.under_way.as_ref() == Some(&set) {
        return Ok(Known { revision, set, before: known.set, under_way: None });
    }
    Err(format!("the group is at {revision} with {set:?}; acknowledged was {known:?}"))
}

/// Undoes the last change.
fn undo(prefix: &Path, known: Known) -> Result<Known, String> {
    let mut control = Control::open(prefix)?;
    let body = json!({"commit": known.revision, "reason": "soak test"});
    let receipt = control.must("POST", "/v1/switches/groups/undo", &body)?;
    let (revision, set) = read(prefix)?;
    if set != known.before || number(&receipt, "revision")? != revision || revision != known.revision + 1 {
        return Err(format!(
            "undoing revision {} led to {revision} with {set:?}; before it there was {:?}",
            known.revision, known.before
        ));
    }
    Ok(Known { revision, set, before: known.set, under_way: None })
}

/// Reads the revision and the group of a server that may just have started.
fn read(prefix: &Path) -> Result<(u64, Set), String> {
    let mut control = Control::open(prefix)?;
    control.check_history_of("groups")?;
    let groups = control.get("/v1/groups")?;
    let group = list(&groups["groups"]).iter().find(|group| group["name"] == GROUP);
    let group = group.ok_or_else(|| format!("no group {GROUP} in {groups}"))?;
    let mut set = Set::new();
    for (field, what) in [("servers", "params"), ("removed", "says"), ("dormant", "says")] {
        for server in list(&group[field]) {
            let name = server["server"].as_str().unwrap_or_default();
            set.insert(name.to_owned(), server[what].to_string());
        }
    }
    Ok((number(&groups, "revision")?, set))
}

/// Returns a change of a server that is there, or the addition of one that is not, and the set that it makes.
///
/// Those of the file are never changed, so that the group serves, and what a changed one has is what orders say.
fn next(set: &Set, servers: &[String]) -> (Value, Set) {
    let server = &servers[fastrand::usize(..servers.len())];
    let mut after = set.clone();
    let Some(now) = set.get(server) else {
        after.insert(server.clone(), json!({}).to_string());
        return (json!({"do": "add", "server": server}), after);
    };
    let mut params: Value = serde_json::from_str(now).unwrap_or_default();
    let is_out = params["drain"] == true || params["down"] == true;
    let change = match fastrand::u8(..4) {
        0 => {
            after.remove(server);
            return (json!({"do": "remove", "server": server}), after);
        }
        _ if is_out => {
            params.as_object_mut().map(|params| (params.remove("drain"), params.remove("down")));
            json!({"do": "up", "server": server})
        }
        1 => {
            params["drain"] = json!(true);
            json!({"do": "drain", "server": server})
        }
        2 => {
            params["down"] = json!(true);
            json!({"do": "down", "server": server})
        }
        _ => {
            let weight = if params["weight"] == 7 { 5 } else { 7 };
            params["weight"] = json!(weight);
            json!({"do": "set", "server": server, "params": {"weight": weight}})
        }
    };
    after.insert(server.clone(), params.to_string());
    (change, after)
}

/// Changes servers until the processes are struck, after a random time.
fn change_until_struck(
    (prefix, servers): (&Path, &[String]),
    server: &Server,
    strike: Strike,
    worker: u32,
    mut known: Known,
) -> Result<Known, String> {
    // Orders may fail from then on, and none is given any more.
    let (may_fail, struck) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let Ok(mut control) = Control::open_now(prefix) else { return Ok(known) };
            while !struck.load(Ordering::SeqCst) {
                let (change, set) = next(&known.set, servers);
                known.under_way = Some(set.clone());
                let body = json!({"changes": [change], "reason": "soak test"});
                match control.order("POST", &format!("/v1/groups/{GROUP}/servers"), None, &body) {
                    Ok(reply) if reply.status == 200 => {
                        let revision = number(&reply.body, "revision")?;
                        known = Known { revision, set, before: known.set, under_way: None };
                    }
                    // A worker without a master takes no orders.
                    Ok(_) if strike == Strike::Master && may_fail.load(Ordering::SeqCst) => {
                        return Ok(Known { under_way: None, ..known });
                    }
                    Ok(reply) => return Err(format!("{body}: {} {}", reply.status, reply.body)),
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
        let known = changing.join().map_err(|_| "the changing thread panicked".to_owned())?;
        hit.and(known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(of: &[(&str, &str)]) -> Set {
        of.iter().map(|(name, params)| ((*name).to_owned(), (*params).to_owned())).collect()
    }

    #[test]
    fn only_what_was_acknowledged_or_under_way_is_right() {
        let (one, two, three) = (set(&[("a", "{}")]), set(&[("a", "{}"), ("b", "{}")]), set(&[("b", "{}")]));
        let known =
            Known { revision: 4, set: one.clone(), before: two.clone(), under_way: Some(two.clone()) };
        let found = |revision, set: &Set| check((revision, set.clone()), known.clone());
        assert_eq!(found(4, &one), Ok(Known { under_way: None, ..known.clone() }));
        let kept = Known { revision: 5, set: two.clone(), before: one.clone(), under_way: None };
        assert_eq!(found(5, &two), Ok(kept));
        for (revision, set) in [(3, &two), (4, &two), (5, &one), (5, &three), (6, &two)] {
            assert!(found(revision, set).is_err(), "{revision} {set:?}");
        }
    }

    #[test]
    fn each_change_makes_another_set() {
        let servers = ["a".to_owned(), "b".to_owned()];
        let mut now = Set::new();
        for _ in 0..1000 {
            let (change, after) = next(&now, &servers);
            assert_ne!(after, now, "{change}");
            now = after;
        }
    }
}
