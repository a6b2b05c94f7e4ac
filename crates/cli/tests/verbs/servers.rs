//! The servers of groups: changed under traffic, found again after a crash, and docs/servers.md as it is written.

use super::*;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A server on loopback that answers each request with its name, and counts them.
struct Origin {
    address: String,
    asked: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Origin {
    fn start(name: &'static str) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let origin = Origin { address, asked: asked.clone(), stopped: stopped.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), asked) = (stream, asked.clone()) else { continue };
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::spawn(move || serve(stream, name, &asked));
            }
        });
        origin
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(&self.address));
    }
}

/// Answers requests on a connection until it ends.
fn serve(mut stream: TcpStream, name: &str, asked: &AtomicUsize) {
    let (mut head, mut bytes) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut bytes) {
            Ok(read @ 1..) => head.extend_from_slice(&bytes[..read]),
            _ => return,
        }
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            asked.fetch_add(1, Ordering::Relaxed);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Returns a server with a group `pool` of these servers, below `/` of the host `pool`.
fn with_pool(servers: &[&Origin]) -> Server {
    let lines: String = servers.iter().map(|one| format!("server {};", one.address)).collect();
    let beside = format!(
        "upstream pool {{ keepalive 8; {lines} }} upstream empty {{ }}
         server {{ listen unix:{{folder}}/pool; location / {{ proxy_pass http://pool; }}
                   location /empty {{ proxy_pass http://empty; }} }}"
    );
    Server::start("", &beside)
}

impl Server {
    /// Returns a request to the pool, and the body of its answer.
    fn ask_pool(&self, path: &str) -> (String, String) {
        let mut stream = bounded(UnixStream::connect(self.path("pool")).unwrap());
        let request = format!("GET {path} HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    }
}

#[test]
fn servers_come_and_go_under_traffic_without_a_failed_request() {
    let (one, two, three) = (Origin::start("one"), Origin::start("two"), Origin::start("three"));
    let server = Arc::new(with_pool(&[&one]));
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (server, stop, done) = (server.clone(), stop.clone(), done.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let (status, body) = server.ask_pool("/");
                    assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = |count: usize| {
        let from = done.load(Ordering::Relaxed);
        server.until("more answers", || done.load(Ordering::Relaxed) >= from + count);
    };
    let pool = |words: &[&str]| server.say(&[&["server", "pool"], words].concat()).done();
    more(10);
    pool(&["add", &two.address, "weight=3", "--gate"]);
    server.until("the second gets requests", || two.asked() > 0);
    pool(&["add", &three.address]);
    server.until("the third gets requests", || three.asked() > 0);
    pool(&["drain", &one.address, "--wait", "drained"]);
    let (drained, before) = (one.asked(), two.asked());
    more(40);
    assert_eq!(one.asked(), drained, "no request after the acknowledgement");
    assert!(two.asked() > before);
    pool(&["remove", &one.address, &two.address]);
    let gone = two.asked();
    more(20);
    // What had been sent there before is all there is.
    assert!(two.asked() <= gone + 4, "{} {gone}", two.asked());
    let refused = server.say(&["server", "pool", "down", &three.address]);
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert!(refused.err.contains("group \"pool\" would have no server for new requests"), "{}", refused.err);
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let list = server.say(&["server", "pool"]).done();
    assert!(list.contains(&format!("{} was removed by", one.address)), "{list}");
}

/// A server may be written as a name, or without a port: its addresses are others than its name.
#[test]
fn a_server_that_is_written_as_a_name_is_waited_for_and_shown() {
    let (silent, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), Origin::start("other"));
    let name = format!("localhost:{}", silent.local_addr().unwrap().port());
    let beside = format!(
        "upstream pool {{ zone pool 64k; server {name} weight=9; server {} backup; }}
         server {{ listen unix:{{folder}}/pool; location / {{ proxy_pass http://pool; }} }}",
        other.address
    );
    let server = Server::start("", &beside);
    let mut client = bounded(UnixStream::connect(server.path("pool")).unwrap());
    client.write_all(b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n").unwrap();
    let (taken, _) = silent.accept().unwrap();
    let shown = server.say(&["server", "pool", "--json"]).json();
    assert_eq!(
        (&shown["servers"][0]["server"], &shown["servers"][0]["in_flight"]),
        (&json!(name), &json!(1))
    );
    let status = server.say(&["status", "--json"]).json();
    let groups = status["groups"].as_array().unwrap();
    let pool = groups.iter().find(|group| group["name"] == "pool").unwrap();
    assert_eq!(pool["servers"][0]["weight"], 9, "{pool}");
    let drained =
        server.say(&["server", "pool", "drain", &name, "--force", "--wait", "drained", "--timeout", "300ms"]);
    assert_eq!(drained.code, 4, "{}{}", drained.out, drained.err);
    let shown = server.say(&["server", "pool", "--json"]).json();
    assert_eq!(shown["servers"][0]["state"], "draining", "{shown}");
    drop((taken, client));
    server.say(&["wait", "--switch", "groups", "--timeout", "30s"]).done();
}

#[test]
fn an_empty_group_is_filled_and_a_killed_worker_comes_back_with_its_servers() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let server = with_pool(&[&one]);
    assert_eq!(server.ask_pool("/empty").0, "HTTP/1.1 502 Bad Gateway");
    server.say(&["server", "empty", "add", &two.address, "-m", "the first"]).done();
    assert_eq!(server.ask_pool("/empty").1, "two");
    let status = server.say(&["status", "--json"]).json();
    let source = |group: &str| {
        let groups = status["groups"].as_array().unwrap();
        groups.iter().find(|one| one["name"] == group).unwrap()["servers"][0]["source"].clone()
    };
    assert_eq!((source("empty"), source("pool")), ("order".into(), "file".into()));
    let shown = server.say(&["status"]).done();
    assert!(shown.contains(&two.address) && shown.contains("up, by order"), "{shown}");
    server.say(&["server", "pool", "--from", "/dev/null"]).done_or_refused();
    let changes = server.path("changes");
    std::fs::write(&changes, format!("add {} weight=5\nremove {}\n", two.address, one.address)).unwrap();
    let dry = server.say(&["server", "pool", "--from", changes.to_str().unwrap(), "-n"]).done();
    assert!(dry.contains("groups: would change"), "{dry}");
    server.say(&["server", "pool", "--from", changes.to_str().unwrap()]).done();
    for _ in 0..2 {
        server.replace_worker();
        // The first request finds the servers that were acknowledged last.
        for _ in 0..4 {
            assert_eq!((server.ask_pool("/").1, server.ask_pool("/empty").1), ("two".into(), "two".into()));
        }
    }
    // A reload merges anew.
    server.say(&["reload"]).done();
    assert_eq!(server.ask_pool("/").1, "two");
    let history = server.say(&["history", "--switch", "groups"]).done();
    assert!(history.contains(&format!("pool: {} removed", one.address)), "{history}");
    let of = |words: &[&str]| server.say(&[&["history", "--switch", "groups"], words].concat()).done();
    let (pool, empty, added) = (of(&["POOL"]), of(&["empty"]), of(&["pool", &two.address]));
    assert!(pool.contains("     2  ") && !pool.contains("     1  "), "{pool}");
    assert!(empty.contains("\"the first\"") && !empty.contains("pool: "), "{empty}");
    assert!(added.contains("     2  ") && added == of(&["pool", &one.address]), "{added}");
    let filtered = of(&["pool", "--kind", "server", "--since", "1h"]);
    assert!(filtered.contains("     2  ") && !filtered.contains("     1  "), "{filtered}");
    assert_eq!(server.say(&["history", "--switch", "live", "pool", &one.address]).code, 2);
    let undone = server.say(&["undo", "--switch", "groups", "--commit", "2"]).done();
    assert!(undone.contains("groups: revision 3"), "{undone}");
    assert_eq!(server.ask_pool("/").1, "one");
}

#[test]
fn what_orders_say_of_a_group_that_left_the_file_is_shown_and_forgotten() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let server = with_pool(&[&one]);
    server.say(&["server", "pool", "add", &two.address]).done();
    server.say(&["server", "pool", "drain", &one.address]).done();
    let file = server.path("conf/nginx.conf");
    let conf = std::fs::read_to_string(&file).unwrap();
    let block = conf.lines().find(|line| line.contains("upstream pool {")).unwrap();
    let gone = conf.replace(block, "").replace("proxy_pass http://pool;", "return 204;");
    let gone = gone.replace("proxy_pass http://empty;", "return 204;");
    std::fs::write(&file, gone).unwrap();
    server.say(&["reload"]).done();
    let tested = server.say(&["-t"]);
    let remedy = "of 2 servers is without effect; pointsman server pool reset forgets it";
    assert!(tested.err.contains(remedy), "{}", tested.err);
    let shown = server.say(&["server", "pool"]).done();
    let drained = format!("\n  {}: \"drain\" by ", one.address);
    assert!(
        shown.starts_with("pool: the configuration does not have it any more") && shown.contains(&drained),
        "{shown}"
    );
    let all = server.say(&["group", "list"]).done();
    let row = all.lines().find(|line| line.starts_with("pool ")).unwrap_or_default();
    assert!(row.contains("gone") && row.contains("orders on 2 servers alone"), "{all}");
    assert!(server.say(&["server"]).done().contains(&drained));
    let refused = server.say(&["server", "pool", "up", &one.address]);
    assert!(refused.code == 1 && refused.err.contains("pointsman server pool reset"), "{}", refused.err);
    let reset = server.say(&["server", "pool", "reset"]).done();
    assert!(reset.contains(&format!("pool: {} removed", two.address)), "{reset}");
    assert_eq!(server.say(&["server", "pool"]).code, 1);
    assert!(!server.say(&["-t"]).err.contains("pool"));
    std::fs::write(&file, conf).unwrap();
    server.say(&["reload"]).done();
    assert_eq!(server.ask_pool("/").1, "one", "nothing of the orders is left");
}

/// Returns the revision of the groups, and the weight of the one server of `pool`.
fn revision_and_weight(server: &Server) -> (u64, u64) {
    let all = server.say(&["group", "list", "--json"]).json();
    let pool = all["groups"].as_array().unwrap().iter().find(|group| group["name"] == "pool").unwrap();
    let weight = pool["servers"][0]["params"]["weight"].as_u64().unwrap_or(1);
    (all["revision"].as_u64().unwrap(), weight)
}

#[test]
fn a_kill_during_a_change_loses_nothing_acknowledged_and_undo_restores_the_set() {
    let one = Origin::start("one");
    let server = with_pool(&[&one]);
    let mut known = (0, 1);
    for round in 0..5 {
        for weight in [round + 2, round + 20] {
            let weight_is = format!("weight={weight}");
            server.say(&["server", "pool", "set", &one.address, &weight_is]).done();
            known = (known.0 + 1, weight);
            assert_eq!(revision_and_weight(&server), known);
        }
        let pid = server.say(&["status", "--json"]).json()["pid"].clone();
        let wanted = format!("weight={}", round + 40);
        let words = ["server", "pool", "set", &one.address, &wanted];
        let order = command(server.folder.path(), &words).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
        let is_acknowledged = order.unwrap().wait().unwrap().success();
        server.until("another worker", || {
            let said = server.say(&["status", "--json"]);
            said.code == 0 && said.json()["pid"] != pid
        });
        let (found, carried_out) = (revision_and_weight(&server), (known.0 + 1, round + 40));
        assert!(found == carried_out || (!is_acknowledged && found == known), "{found:?} after {known:?}");
        let before = if found == carried_out { known.1 } else { round + 2 };
        server.say(&["undo", "--switch", "groups"]).done();
        known = (found.0 + 1, before);
        assert_eq!(revision_and_weight(&server), known);
    }
}

#[test]
fn a_made_group_serves_is_found_after_kills_and_goes_when_nothing_leads_there() {
    let (one, two) = (Origin::start("one"), Origin::start("two"));
    let beside = "upstream like { keepalive 4; } server { listen unix:{folder}/pool; location / { proxy_pass http://$live; } }";
    let server = Server::start("targets blue green dynamic;", beside);
    let group = |words: &[&str]| server.say(&[&["group"], words].concat());
    let servers = ["--server", &format!("{} weight=3", one.address), "--server", &two.address];
    let dry = group(&[&["create", "teal", "--like", "like", "-n"], &servers[..]].concat()).done();
    assert!(dry.contains("groups: would change") && dry.contains("teal: made, like like"), "{dry}");
    let once = [&["create", "teal", "--like", "like", "--idempotency-key", "k"], &servers[..]].concat();
    group(&once).done();
    let again = group(&once).done();
    assert!(again.contains("already applied"), "{again}");
    server.say(&["switch", "pool", "teal"]).done();
    let bodies = || {
        let mut all: Vec<String> = (0..8).map(|_| server.ask_pool("/").1).collect();
        all.sort();
        all
    };
    let shares = ["one", "one", "one", "one", "one", "one", "two", "two"];
    server.until("both serve by their weights", || bodies() == shares);
    let refused = group(&["remove", "teal"]);
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert!(refused.err.contains("key \"pool\" of switch \"live\""), "{}", refused.err);
    for round in 0..2 {
        server.replace_worker();
        // The first request finds the group.
        assert_eq!(server.ask_pool("/").0, "HTTP/1.1 200 OK", "round {round}");
    }
    server.say(&["reload"]).done();
    assert_eq!(server.ask_pool("/").0, "HTTP/1.1 200 OK");
    server.say(&["server", "teal", "remove", &two.address]).done();
    server.until("the one that is left serves", || bodies().iter().all(|body| body == "one"));
    let list = server.say(&["group", "list", "--json"]).json();
    let groups = list["groups"].as_array().unwrap();
    let teal = groups.iter().find(|group| group["name"] == "teal").unwrap();
    assert_eq!(
        (&teal["source"], &teal["like"], &teal["state"]),
        (&"order".into(), &"like".into(), &"healthy".into())
    );
    assert!(teal["servers"][0]["traffic"]["requests"].as_u64().unwrap() > 0, "{teal}");
    assert!(teal["made"]["actor"].as_str().is_some_and(|actor| !actor.is_empty()), "{teal}");

    // A file that defines it is refused until it says that it takes it over.
    let conf = server.path("conf/nginx.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let with = |block: &str| {
        std::fs::write(&conf, text.replacen("http {", &format!("http {{ {block}"), 1)).unwrap();
    };
    with(&format!("upstream teal {{ server {}; }}", two.address));
    let refused = server.say(&["reload"]);
    assert!(refused.code != 0 && refused.err.contains("upstream teal adopt { … }"), "{}", refused.err);
    let tested = command(server.folder.path(), &["-t"]).output().unwrap();
    assert!(
        !tested.status.success() && String::from_utf8_lossy(&tested.stderr).contains("adopt"),
        "{tested:?}"
    );
    with(&format!("upstream teal adopt {{ server {}; }}", two.address));
    server.say(&["reload"]).done();
    server
        .until("both serve", || bodies().contains(&"two".to_owned()) && bodies().contains(&"one".to_owned()));
    std::fs::write(&conf, &text).unwrap();
    server.say(&["reload"]).done();

    server.say(&["switch", "pool", "blue"]).done();
    group(&["remove", "teal"]).done();
    let undo = server.say(&["undo"]);
    assert!(undo.code == 1 && undo.err.contains("no target \"teal\""), "{}", undo.err);
    server.say(&["undo", "--switch", "groups"]).done();
    server.say(&["undo"]).done();
    assert_eq!(bodies(), ["one"; 8]);
}

impl Said {
    /// Fails if the verb neither succeeded nor was refused.
    fn done_or_refused(self) {
        assert!(self.code <= 2, "{}{}", self.out, self.err);
    }
}

/// Runs the transcripts of docs/servers.md against a server of this configuration, with addresses of loopback for those of
/// the page.
#[test]
fn the_page_about_servers_says_what_is_printed() {
    let page = include_str!("../../../../docs/servers.md");
    let origins = [Origin::start("five"), Origin::start("six"), Origin::start("seven")];
    let names = ["10.0.0.5:8081", "10.0.0.6:8081", "10.0.0.7:8081"];
    let pairs: Vec<(&str, &str)> =
        names.iter().copied().zip(origins.iter().map(|origin| &*origin.address)).collect();
    let beside = format!(
        "upstream green_pool {{ server {}; server {}; }}
         server {{ listen unix:{{folder}}/pool; location / {{ proxy_pass http://green_pool; }} }}",
        pairs[0].1, pairs[1].1
    );
    let server = Server::start("targets blue green dynamic;", &beside);
    let swap = |text: &str, back: bool| {
        pairs.iter().fold(text.to_owned(), |text, (page, real)| {
            if back { text.replace(real, page) } else { text.replace(page, real) }
        })
    };
    let (mut written, mut printed) = (String::new(), String::new());
    for block in page.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        for part in block.split("$ pointsman ").skip(1) {
            let (line, expected) = part.split_once('\n').unwrap();
            let words = shell_words(&swap(line, false));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = server.say(&words);
            written.push_str(&format!("$ pointsman {line}\n{expected}\n"));
            printed.push_str(&format!(
                "$ pointsman {line}\n{}{}\n",
                swap(&said.out, true),
                swap(&said.err, true)
            ));
        }
    }
    assert!(written.matches("$ pointsman").count() > 7);
    assert_eq!(without_chance(&written), without_chance(&printed), "printed:\n{printed}");
}

/// Splits a line into words; those in quotes are one.
fn shell_words(line: &str) -> Vec<String> {
    let quoted = |(number, part): (usize, &str)| match number % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![part.to_owned()],
    };
    line.split('\'').enumerate().flat_map(quoted).collect()
}

/// Returns a text without times, names of users and the widths of columns.
fn without_chance(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let units = ["us", "ms", "s", "min"];
        let mut out: Vec<String> = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let is_number = word.starts_with(|c: char| c.is_ascii_digit());
            let next = words.get(at + 1).map(|next| next.trim_end_matches([',', ':', ';']));
            let is_time = is_number && next.is_some_and(|next| units.contains(&next));
            let is_unit = units.contains(&word.trim_end_matches([',', ':', ';'])) && at > 0;
            let is_moment = is_number && (word.matches(':').count() >= 2 || word.matches('-').count() == 2);
            let is_actor = word.starts_with("unix:") && word.contains('(');
            match (is_time || is_moment, is_unit, is_actor) {
                (true, ..) => out.push("TIME".into()),
                (_, true, _) => {}
                (.., true) => out.push("ACTOR".into()),
                _ => out.push((*word).to_owned()),
            }
        }
        lines.push(out.join(" "));
    }
    lines
}
