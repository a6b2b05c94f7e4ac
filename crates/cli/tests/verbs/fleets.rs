//! Nodes that switch as one, over a real etcd. Without it (Debian's package `etcd-server`) the tests are skipped.

use super::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::EtcdProcess;

/// Starts an etcd and nodes that are in one fleet.
fn fleet(names: &[&str]) -> Option<(EtcdProcess, Vec<Server>)> {
    if !EtcdProcess::is_installed() {
        return None;
    }
    let etcd = EtcdProcess::start().unwrap();
    let nodes: Vec<Server> = names.iter().map(|name| node(&etcd, name)).collect();
    nodes[0].say(&["fleet", "init"]).done();
    for node in &nodes[1..] {
        node.say(&["fleet", "join"]).done();
    }
    Some((etcd, nodes))
}

fn node(etcd: &EtcdProcess, name: &str) -> Server {
    Server::start("state fleet;", &format!("fleet etcd {} prefix=/test/verbs node={name};", etcd.url()))
}

fn worker(server: &Server) -> Pid {
    let status = server.say(&["status", "--json"]).json();
    Pid::from_raw(i32::try_from(status["pid"].as_i64().unwrap()).unwrap())
}

fn revision(server: &Server) -> u64 {
    server.say(&["list", "--json"]).json()["revision"].as_u64().unwrap_or_else(|| {
        server.say(&["status", "--json"]).json()["switches"][0]["revision"].as_u64().unwrap()
    })
}

fn history(server: &Server) -> Vec<String> {
    let history = server.say(&["history", "--json"]).json();
    let commits = history["commits"].as_array().unwrap();
    commits.iter().map(|commit| commit["hash"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn fleet_nodes_switch_together_and_report_it() {
    let Some((_etcd, nodes)) = fleet(&["a", "b", "c"]) else { return };
    let [a, b, c] = &nodes[..] else { unreachable!() };
    let done = a.say(&["switch", "shop.example", "green"]).done();
    assert!(
        done.contains("live: revision 1\n") && done.contains("applied by all of 3 nodes within"),
        "{done}"
    );
    for name in ["a", "b", "c"] {
        assert!(done.contains(&format!("    {name}: 2 workers, ")), "{done}");
    }
    // After that answer no node serves the old side.
    for server in &nodes {
        assert!(server.get("shop.example").ends_with("green"));
    }
    b.say(&["split", "shop.example", "green=50", "blue=50"]).done();
    c.say(&["switch", "other.example", "green"]).done();
    let undone = c.say(&["undo", "shop.example"]).done();
    assert!(undone.contains("applied by all of 3 nodes"), "{undone}");
    for server in &nodes {
        assert!(server.get("shop.example").ends_with("green"));
        assert!(server.say(&["history", "--verify"]).done().contains("live: 4 commits verified"));
    }
    assert_eq!((history(a), history(b)), (history(c), history(c)));
    // The same order with the same key is one commit, on whichever node.
    let again = ["switch", "once.example", "green", "--idempotency-key", "k1"];
    a.say(&again).done();
    assert!(b.say(&again).done().contains("already applied"));
    assert!(b.say(&["receipt", "--id", "k1"]).done().contains("revision 5"));
    let shown = b.say(&["fleet"]).done();
    assert!(shown.contains("this node") && shown.contains("live at revision 5"), "{shown}");
    let status = b.say(&["fleet", "status", "--json"]).json();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(status["trouble"], Value::Null);
    // What a fleet does not take has a way out.
    for (words, way) in [
        (&["switch", "shop.example", "blue", "--confirm-within", "1m"][..], "undo"),
        (&["switch", "shop.example", "blue", "--hold"], "leave the hold out"),
        (&["hold", "shop.example"], "route the key"),
        (&["fleet", "init"], "fleet restore"),
        (&["fleet", "remove", "nobody"], "its nodes are a, b, c"),
    ] {
        let refused = a.say(words);
        assert!(
            refused.code == 1 && refused.err.contains(way),
            "{words:?}: {} {}",
            refused.code,
            refused.err
        );
    }
    assert_eq!(revision(a), 5);
}

#[test]
fn a_node_that_does_not_follow_is_named() {
    let Some((etcd, nodes)) = fleet(&["a", "b", "c"]) else { return };
    let [a, b, c] = &nodes[..] else { unreachable!() };
    a.say(&["switch", "shop.example", "green"]).done();
    // It stops while its signs of life are fresh: committed, not applied.
    let stopped = worker(c);
    kill(stopped, Signal::SIGSTOP).unwrap();
    let committed = a.say(&["switch", "shop.example", "blue"]);
    assert_eq!(committed.code, 6, "{}{}", committed.out, committed.err);
    assert!(committed.out.contains("committed, NOT applied by c"), "{}", committed.out);
    // By now it is known to be silent.
    let refused = a.say(&["switch", "shop.example", "green", "--json"]);
    assert_eq!((refused.code, &refused.json()["code"]), (1, &Value::from("node_not_ready")));
    assert!(refused.json()["text"].as_str().unwrap().contains("node \"c\""), "{}", refused.out);
    assert!(b.say(&["fleet"]).done().contains("SILENT"));
    assert_eq!((revision(a), revision(b)), (2, 2));
    kill(stopped, Signal::SIGCONT).unwrap();
    c.until("c catches up", || revision(c) == 2);
    a.until("c is heard", || a.say(&["switch", "shop.example", "green"]).code == 0);
    // A worker that dies comes back with the copy, and follows on.
    kill(worker(c), Signal::SIGKILL).unwrap();
    c.until("another worker", || c.say(&["list"]).code == 0);
    a.until("c is back", || a.say(&["switch", "more.example", "green"]).code == 0);
    assert!(c.get("more.example").ends_with("green"));
    // Without c, all are a and b; c says why it takes no order.
    a.say(&["fleet", "remove", "c"]).done();
    let done = b.say(&["switch", "more.example", "blue"]).done();
    assert!(done.contains("applied by all of 2 nodes"), "{done}");
    c.until("c knows", || {
        c.say(&["switch", "x.example", "green"]).err.contains("was removed from the fleet")
    });
    c.say(&["fleet", "join"]).done();
    c.until("c follows again", || history(c) == history(a));
    // A second node of a name is refused.
    let twin = node(&etcd, "a");
    let refused = twin.say(&["fleet", "join"]);
    assert!(refused.code == 1 && refused.err.contains("fleet remove a"), "{}", refused.err);
}

#[test]
fn a_wiped_etcd_changes_no_table() {
    let Some((etcd, nodes)) = fleet(&["a", "b"]) else { return };
    let [a, b] = &nodes[..] else { unreachable!() };
    a.say(&["switch", "shop.example", "green"]).done();
    b.say(&["switch", "other.example", "green"]).done();
    let before = history(a);
    etcd.wipe().unwrap();
    for server in &nodes {
        server.until("the alarm", || {
            server.say(&["fleet"]).out.contains("no fleet below /test/verbs any more")
        });
        let refused = server.say(&["switch", "shop.example", "blue", "--json"]);
        assert_eq!(
            (refused.code, &refused.json()["code"]),
            (1, &Value::from("store_foreign")),
            "{}",
            refused.out
        );
        assert!(server.get("shop.example").ends_with("green"));
        let log = std::fs::read_to_string(server.path("logs/error.log")).unwrap();
        assert!(log.contains("[crit]") && log.contains("it was wiped, or is another one"), "{log}");
    }
    assert_eq!((history(a), history(b)), (before.clone(), before));
    assert!(a.say(&["fleet", "restore"]).done().contains("2 commits written"));
    b.until("it is in order again", || b.say(&["switch", "shop.example", "blue"]).code == 0);
    a.until("a follows", || revision(a) == 3);
    assert!(a.say(&["history", "--verify"]).done().contains("live: 3 commits verified"));
}

#[test]
fn an_etcd_that_does_not_answer_stops_orders_and_no_traffic() {
    let Some((etcd, nodes)) = fleet(&["a", "b"]) else { return };
    let [a, b] = &nodes[..] else { unreachable!() };
    a.say(&["switch", "shop.example", "green"]).done();
    etcd.signal(Signal::SIGSTOP).unwrap();
    let refused = a.say(&["switch", "shop.example", "blue", "--json"]);
    assert_eq!(
        (refused.code, &refused.json()["code"]),
        (1, &Value::from("store_unreachable")),
        "{}",
        refused.out
    );
    b.until("b notices", || {
        b.say(&["fleet"]).out.contains("silent") || b.say(&["fleet"]).out.contains("cannot be reached")
    });
    assert!(b.get("shop.example").ends_with("green"));
    // A restart serves from the copy.
    kill(worker(b), Signal::SIGKILL).unwrap();
    b.until("another worker", || b.say(&["list"]).code == 0);
    assert!(b.get("shop.example").ends_with("green"));
    etcd.signal(Signal::SIGCONT).unwrap();
    b.until("it goes on", || b.say(&["switch", "shop.example", "blue"]).code == 0);
    a.until("a follows", || revision(a) == 2);
}

#[test]
fn a_node_without_a_target_is_named_and_nothing_is_switched() {
    let Some((etcd, nodes)) = fleet(&["a", "b"]) else { return };
    let [a, b] = &nodes[..] else { unreachable!() };
    let file = b.path("conf/nginx.conf");
    let conf = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, conf.replace("state fleet;", "state fleet; targets blue;")).unwrap();
    b.say(&["reload"]).done();
    let refused = a.say(&["switch", "shop.example", "green"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("node \"b\" has no target \"green\""), "{}", refused.err);
    std::fs::write(&file, conf.replace("node=b", "node=z")).unwrap();
    let rejected = b.say(&["reload"]);
    assert!(rejected.code == 1 && rejected.err.contains("takes a restart"), "{}", rejected.err);
    std::fs::write(&file, conf).unwrap();
    b.say(&["reload"]).done();
    a.until("both have it", || a.say(&["switch", "shop.example", "green"]).code == 0);
    assert!(b.get("shop.example").ends_with("green"));
    drop(etcd);
}
