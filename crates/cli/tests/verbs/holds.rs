//! Holds of real processes: what outlives a worker, and in which order requests go on.

use super::*;

impl Server {
    fn worker(&self) -> i64 {
        self.say(&["status", "--json"]).json()["pid"].as_i64().unwrap()
    }

    /// Kills the worker, and waits until another one serves.
    fn kill_worker(&self) {
        let pid = self.worker();
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
        self.until("another worker serves", || {
            let said = self.say(&["status", "--json"]);
            said.code == 0 && said.json()["pid"].as_i64() != Some(pid)
        });
    }

    /// Returns the first hold, as `show --json` has it.
    fn held(&self, key: &str) -> Value {
        self.say(&["show", key, "--json"]).json()["hold"].clone()
    }

    fn until_waiting(&self, key: &str, count: u64) {
        self.until("they wait", || self.held(key)["waiting"] == count);
    }
}

fn answer(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn promise_11_a_hold_outlives_the_worker_and_an_upgrade() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    server.say(&["hold", "a.example", "-m", "migration"]).done();
    server.kill_worker();
    let waits = server.ask("a.example");
    server.until_waiting("a.example", 1);
    assert_eq!((server.held("a.example")["reason"].as_str()), Some("migration"));
    // The request waits in the old process, and the one that releases it is the new one.
    server.say(&["upgrade"]).done();
    assert_eq!(server.held("a.example")["state"], "held");
    let new = server.ask("a.example");
    server.until_waiting("a.example", 2);
    let released = server.say(&["release", "a.example"]).done();
    assert!(released.contains("2 waiting requests released, 1 of them in another process"), "{released}");
    assert!(answer(new).ends_with("green"));
    let old = answer(waits);
    let log = std::fs::read_to_string(server.path("logs/error.log")).unwrap_or_default();
    assert!(old.ends_with("green"), "the old process follows: {old}{log}");
    server.kill_worker();
    assert!(server.get("a.example").ends_with("green"), "it is over");
    let journal = server.say(&["history", "--kind", "release"]).done();
    assert_eq!(journal.lines().count(), 1, "{journal}");
}

#[test]
fn promise_11_a_hold_expires_as_it_says() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "b.example", "green"]).done();
    server.say(&["hold", "a.example", "--for", "300ms"]).done();
    server.say(&["hold", "b.example", "--for", "300ms", "--then", "release"]).done();
    let (refused, released) = (server.ask("a.example"), server.ask("b.example"));
    let refused = answer(refused);
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("Retry-After:"), "{refused}");
    assert!(answer(released).ends_with("green"));
    assert!(server.get("a.example").starts_with("HTTP/1.1 503"), "also a new one");
    let shown = server.say(&["show", "a.example"]).done();
    assert!(shown.contains("refused since its hold has expired"), "{shown}");
    server.kill_worker();
    assert!(server.get("a.example").starts_with("HTTP/1.1 503"), "and in the next worker");
    let status = server.say(&["status", "--json"]).json();
    assert_eq!(status["switches"][0]["holds"][0]["state"], "refusing", "{status}");
    server.say(&["split", "a.example", "green=1", "blue=0"]).done();
    assert!(server.get("a.example").ends_with("green"), "a newer order ends it");
    let expired = server.say(&["history", "--kind", "expire"]).done();
    assert_eq!(expired.lines().count(), 2, "{expired}");
    let none = server.say(&["hold", "a.example", "--then", "refuse"]);
    assert_eq!(none.code, 2, "{}", none.err);
}

#[test]
fn promise_11_the_next_worker_settles_an_order_that_was_waiting() {
    let server = Server::start("", "");
    let in_flight = server.ask("a.example");
    let _origin = server.asked_blue();
    let folder = server.folder.path().to_owned();
    let ordering = std::thread::spawn(move || {
        say(&folder, &["switch", "a.example", "green", "--hold", "--timeout", "60s", "--hold-timeout", "60s"])
    });
    server.until("it waits", || server.held("a.example")["of_order"] == true);
    let upgrade = server.say(&["upgrade"]);
    assert!(upgrade.code == 1 && upgrade.err.contains("waits with a hold"), "{}", upgrade.err);
    server.kill_worker();
    // The verb repeats its order, and the next worker carries it out.
    ordering.join().unwrap().done();
    drop(in_flight);
    let settled = "the process of its order is gone; it was not committed";
    let journal = || server.say(&["history", "--kind", "release"]).done();
    server.until("it is settled", || journal().contains(settled));
    assert!(server.held("a.example").is_null());
    assert!(server.get("a.example").ends_with("green"));
}

#[test]
fn promise_11_a_paced_release_goes_by_arrival_over_all_workers() {
    const COUNT: usize = 6;
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    server.say(&["hold", "a.example", "--timeout", "60s"]).done();
    let mut waiting = Vec::new();
    for number in 0..COUNT {
        // Connections go to both workers.
        waiting.push(server.ask("a.example"));
        server.until_waiting("a.example", number as u64 + 1);
    }
    server.say(&["release", "a.example", "--rate", "4"]).done();
    // It joins the queue, although the key is released.
    waiting.push(server.ask("a.example"));
    let began = Instant::now();
    let (sender, ended) = std::sync::mpsc::channel();
    for (number, stream) in waiting.into_iter().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let text = answer(stream);
            sender.send((number, Instant::now(), text)).unwrap();
        });
    }
    let mut ends: Vec<(usize, Instant, String)> = (0..=COUNT).map(|_| ended.recv().unwrap()).collect();
    ends.sort_by_key(|(_, at, _)| *at);
    let order: Vec<usize> = ends.iter().map(|(number, ..)| *number).collect();
    assert_eq!(order, (0..=COUNT).collect::<Vec<_>>(), "by arrival");
    assert!(ends.iter().all(|(_, _, text)| text.ends_with("green")));
    let took = ends[COUNT].1 - began;
    assert!(took >= Duration::from_millis(250 * (COUNT as u64 - 1)), "{took:?} at 4 a second");
    server.until("nothing is held", || server.held("a.example").is_null());
    assert!(server.get("a.example").ends_with("green"));
}

#[test]
fn a_hold_of_a_key_that_is_perhaps_mistyped_says_so() {
    let server = Server::start("", "");
    server.say(&["switch", "shop.example", "green"]).done();
    let held = server.say(&["hold", "shpo.example"]).done();
    assert!(
        held.contains("note: no request of \"shpo.example\" was seen yet; did you mean \"shop.example\"?"),
        "{held}"
    );
    let refused = server.say(&["hold", "green"]);
    assert!(refused.code == 1 && refused.err.contains("spelt like a target"), "{}", refused.err);
}
