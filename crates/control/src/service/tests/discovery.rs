//! Servers that are looked up: the table of docs/discovery.md, each cell on a real name server (Knot DNS), and files.

use super::*;
use crate::info::GroupInfo;
use crate::journal::{JournalEntry, JournalQuery};
use engine::host::Level;
use engine::modules::switch::GROUPS_NAME;
use std::cell::Cell;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use switch::{ServerOrder, ServerSource, ServerVerb};
use upstream::GroupSets;

/// Knot DNS with the zone `test`.
pub(super) struct NameServer {
    folder: tempfile::TempDir,
    child: Child,
    address: SocketAddr,
    serial: Cell<u32>,
}

impl NameServer {
    /// Starts it with these records; `None` where it is not installed, but for CI.
    pub(super) fn start(records: &str) -> Option<NameServer> {
        let is_there = Command::new("knotd").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !is_there {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "knot is missing, and CI asks a real name server"
            );
            println!("skipped: knot is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let address = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = udp.local_addr().unwrap();
            if TcpListener::bind(address).is_ok() {
                break address;
            }
        };
        let path = folder.path().display();
        let text = format!(
            "server:\n    listen: 127.0.0.1@{}\n    rundir: \"{path}\"\nlog:\n  - target: stderr\n    any: error\n\
             database:\n    storage: \"{path}/db\"\ncontrol:\n    listen: \"{path}/k\"\n\
             template:\n  - id: default\n    storage: \"{path}\"\n    zonefile-sync: -1\n    zonefile-load: whole\n    \
             journal-content: none\n    semantic-checks: off\nzone:\n  - domain: test\n    file: test.zone\n",
            address.port()
        );
        std::fs::write(folder.path().join("knot.conf"), text).unwrap();
        let mut knot = Command::new("knotd");
        knot.arg("-c").arg(folder.path().join("knot.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        let serial = Cell::new(1);
        write_zone(folder.path(), records, 1);
        let child = knot.spawn().unwrap();
        let server = NameServer { folder, child, address, serial };
        let began = Instant::now();
        while !server.is_up() {
            assert!(began.elapsed() < Duration::from_secs(20), "knot does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn is_up(&self) -> bool {
        self.folder.path().join("k").exists() && self.knotc(&["zone-status", "test"])
    }

    fn knotc(&self, words: &[&str]) -> bool {
        let mut knotc = Command::new("knotc");
        knotc.arg("-s").arg(self.folder.path().join("k")).args(["-b", "-f"]).args(words);
        knotc.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Returns where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other records from now on.
    pub(super) fn set(&self, records: &str) {
        self.serial.set(self.serial.get() + 1);
        write_zone(self.folder.path(), records, self.serial.get());
        assert!(self.knotc(&["zone-reload", "test"]), "{records}");
    }

    /// It fails from now on: SERVFAIL.
    fn fail(&self) {
        assert!(self.knotc(&["zone-purge", "test"]));
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Records hold for a second.
fn write_zone(folder: &Path, records: &str, serial: u32) {
    let zone = format!(
        "$ORIGIN test.\n$TTL 1\n@ SOA ns hostmaster {serial} 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n{records}\n"
    );
    std::fs::write(folder.join("test.zone"), zone).unwrap();
}

/// A control plane whose group `app` is looked up, and its workers.
pub(super) struct World {
    folder: tempfile::TempDir,
    http: String,
    pub(super) control: ControlHandle,
    data_plane: Arc<FakeDataPlane>,
}

/// Waits longer than others here: name servers have a say in it.
const PATIENCE: Duration = Duration::from_secs(40);

impl World {
    pub(super) fn start(inside: &str) -> World {
        let folder = folder();
        let http = format!("{} upstream app {{ {inside} }}", two_groups(""));
        World::start_in(folder, http)
    }

    fn start_in(folder: tempfile::TempDir, http: String) -> World {
        let data_plane = FakeDataPlane::new();
        let (control, _) = open(&config(folder.path(), &http), &data_plane).unwrap();
        World { folder, http, control, data_plane }
    }

    /// Returns the group with one name, whose questions take a second at most.
    fn named(server: &NameServer, more: &str) -> World {
        World::named_at(server.address, more)
    }

    /// Returns the same at the address of a name server.
    pub(super) fn named_at(address: SocketAddr, more: &str) -> World {
        let resolver = format!("resolver {address}; resolver_timeout 1s;");
        World::start(&format!("{resolver} server app.test:81 resolve; {more}"))
    }

    /// Brings another configuration into force.
    async fn reload(&self, http: &str) {
        let (control, next) = (self.control.clone(), config(self.folder.path(), http));
        let reload = move || control.prepare_reload(&next).unwrap().store().unwrap().commit();
        tokio::task::spawn_blocking(reload).await.unwrap();
    }

    /// Returns the servers of `app` as they were published last.
    pub(super) fn published(&self) -> Vec<String> {
        self.data_plane.ask(|workers| shown(workers.groups.last().unwrap()))
    }

    pub(super) fn publications(&self) -> usize {
        self.data_plane.ask(|workers| workers.groups.len())
    }

    pub(super) async fn until(&self, expected: &[&str]) {
        let began = Instant::now();
        while self.published() != expected {
            assert!(began.elapsed() < PATIENCE, "{:?} is not {expected:?}", self.published());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The lines of the log about what is looked up, but those that only say which servers there are.
    fn complaints(&self) -> Vec<String> {
        let said = self.data_plane.ask(|workers| workers.said.clone()).into_iter();
        let is_complaint = |level: Level, line: &str| {
            level as u8 <= Level::Notice as u8 && (line.contains("app.test") || line.contains("\"app\""))
        };
        said.filter(|(level, line)| is_complaint(*level, line)).map(|(_, line)| line).collect()
    }

    async fn group(&self) -> GroupInfo {
        self.control.groups(Some("app".into())).await.unwrap().groups.remove(0)
    }

    /// Waits until the only place of the group fails, or is not believed, with these words.
    pub(super) async fn until_said(&self, words: &str) {
        let began = Instant::now();
        loop {
            let source = self.group().await.sources.remove(0);
            let said = format!("{:?} {:?}", source.failure, source.doubt);
            if said.contains(words) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{words:?} is not in {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops, and starts again on the same folder.
    pub(super) fn restart(self) -> World {
        self.control.stop();
        World::start_in(self.folder, self.http)
    }

    async fn order(&self, server: &str, verb: ServerVerb) -> Result<Receipt, Refusal> {
        let order = ServerOrder { group: "app".into(), server: server.into(), verb };
        let order = Order { action: Action::Servers(vec![order]), meta: meta() };
        self.control.order(GROUPS_NAME, order, Options::default()).await
    }
}

fn shown(sets: &GroupSets) -> Vec<String> {
    let Some(set) = sets.get(b"app") else { return Vec::new() };
    let peer = |peer: &upstream::PeerSpec| {
        let mark = |is_so: bool, word: &'static str| if is_so { word } else { "" };
        let weight = if peer.weight == 1 { String::new() } else { format!(" w{}", peer.weight) };
        format!("{}{weight}{}{}", peer.address, mark(peer.backup, " backup"), mark(peer.drain, " drain"))
    };
    set.spec.peers.iter().map(peer).collect()
}

const TWO: &str = "app A 10.0.0.1\napp A 10.0.0.2";

#[tokio::test]
async fn an_answer_that_changes_every_second_is_followed() {
    let Some(server) = NameServer::start("app A 10.0.0.1") else { return };
    let world = World::named(&server, "");
    assert_eq!(world.published(), ["10.0.0.1:81"], "a start waits for the first answer");
    for number in 2..6 {
        let (address, record) = (format!("10.0.0.{number}:81"), format!("app A 10.0.0.{number}"));
        let began = Instant::now();
        server.set(&record);
        world.until(&[&address]).await;
        // Its second, the question and a busy machine.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    world.control.stop();
}

#[tokio::test]
async fn what_changes_is_one_line_of_the_journal_for_each_minute() {
    let Some(server) = NameServer::start("app A 10.0.0.1") else { return };
    let world = World::named(&server, "");
    world.until(&["10.0.0.1:81"]).await;
    let began_ms = now_ms();
    for number in 2..7 {
        server.set(&format!("app A 10.0.0.{number}"));
        world.until(&[&format!("10.0.0.{number}:81")]).await;
    }
    let minutes = now_ms() / 60_000 - began_ms / 60_000 + 1;
    // What has not been written yet is when the process ends.
    let world = world.restart();
    let query = || JournalQuery { kind: Some("discovered".into()), limit: 100, ..JournalQuery::default() };
    let (mut entries, began) = (Vec::new(), Instant::now());
    while entries.iter().map(|entry: &JournalEntry| entry.occurrence.count).sum::<u64>() < 5 {
        assert!(began.elapsed() < PATIENCE, "{entries:?}");
        entries = world.control.journal(query()).await.unwrap().0;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The first answer is of the minute in which it came.
    assert!(entries.len() as u64 <= minutes + 1, "{minutes}: {entries:?}");
    let mut at: Vec<u64> = entries.iter().map(|entry| entry.occurrence.time_ms / 60_000).collect();
    at.dedup();
    assert_eq!(at.len(), entries.len(), "two of one minute: {entries:?}");
    assert!(entries.iter().all(|entry| entry.occurrence.subject.as_deref() == Some("app")), "{entries:?}");
    world.control.stop();
}

#[tokio::test]
async fn an_answer_in_another_order_changes_nothing() {
    let Some(server) = NameServer::start(TWO) else { return };
    let world = World::named(&server, "");
    world.until(&["10.0.0.1:81", "10.0.0.2:81"]).await;
    let before = (world.publications(), world.group().await.sources[0].age_ms);
    server.set("app A 10.0.0.2\napp A 10.0.0.1\nother A 10.0.0.9");
    let began = Instant::now();
    // It has been asked again, more than once.
    let mut ages = before.1.into_iter().collect::<Vec<_>>();
    while began.elapsed() < Duration::from_millis(3_500) {
        ages.extend(world.group().await.sources[0].age_ms);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(ages.windows(2).filter(|ages| ages[1] < ages[0]).count() >= 2, "{ages:?}");
    assert_eq!(world.publications(), before.0);
    world.control.stop();
}

/// The last good set stays while something is so, and what comes after it is taken.
async fn stays_while(words: &str, min: &str, begin: impl FnOnce(&NameServer), end: impl FnOnce(&NameServer)) {
    let Some(server) = NameServer::start(TWO) else { return };
    let world = World::named(&server, min);
    let two = ["10.0.0.1:81", "10.0.0.2:81"];
    world.until(&two).await;
    let publications = world.publications();
    begin(&server);
    world.until_said(words).await;
    assert_eq!((world.published(), world.publications()), (two.map(str::to_owned).to_vec(), publications));
    // A start finds it too, while nothing better is known.
    let world = world.restart();
    assert_eq!(world.published(), two, "kept for the next start");
    end(&server);
    server.set("app A 10.0.0.3\napp A 10.0.0.4");
    world.until(&["10.0.0.3:81", "10.0.0.4:81"]).await;
    world.until_said("None None").await;
    world.control.stop();
}

#[tokio::test]
async fn the_last_good_set_stays_while_the_name_server_fails() {
    stays_while("app.test could not be resolved (2: Server failure)", "", NameServer::fail, |_| {}).await;
}

#[tokio::test]
async fn the_last_good_set_stays_while_there_is_no_such_name() {
    let gone = |server: &NameServer| server.set("other A 10.0.0.1");
    stays_while("it would leave 0 of 2 servers, and min_servers is 1", "", gone, |_| {}).await;
}

#[tokio::test]
async fn the_last_good_set_stays_while_nothing_answers() {
    let stop = |server: &NameServer| server.signal("-STOP");
    let go_on = |server: &NameServer| server.signal("-CONT");
    stays_while("app.test could not be resolved (110: Operation timed out)", "", stop, go_on).await;
}

#[tokio::test]
async fn the_last_good_set_stays_while_the_answer_is_empty() {
    let empty = |server: &NameServer| server.set("app TXT \"no address\"");
    stays_while("it would leave 0 of 2 servers, and min_servers is 1", "", empty, |_| {}).await;
}

#[tokio::test]
async fn the_last_good_set_stays_while_the_answer_is_too_small() {
    let one = |server: &NameServer| server.set("app A 10.0.0.1");
    stays_while("it would leave 1 of 2 servers, and min_servers is 2", "min_servers 2;", one, |_| {}).await;
}

#[tokio::test]
async fn without_a_floor_an_empty_answer_is_believed() {
    let Some(server) = NameServer::start(TWO) else { return };
    let world = World::named(&server, "min_servers 0;");
    for records in ["other A 10.0.0.1", "app TXT \"no address\""] {
        server.set(TWO);
        world.until(&["10.0.0.1:81", "10.0.0.2:81"]).await;
        server.set(records);
        world.until(&[]).await;
    }
    world.control.stop();
}

#[tokio::test]
async fn a_thousand_addresses_are_taken() {
    let records: String = (0..1000).map(|n| format!("app A 10.1.{}.{}\n", n / 250, n % 250 + 1)).collect();
    let Some(server) = NameServer::start(&records) else { return };
    let world = World::named(&server, "");
    let began = Instant::now();
    while world.published().len() != 1000 {
        assert!(began.elapsed() < PATIENCE, "{}", world.published().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.published()[..2], ["10.1.0.1:81", "10.1.0.2:81"]);
    world.until_said("None None").await;
    assert_eq!(world.complaints(), Vec::<String>::new());
    world.control.stop();
}

#[tokio::test]
async fn a_lost_family_goes_and_the_other_stays() {
    let Some(server) = NameServer::start("app A 10.0.0.1\napp AAAA fd00::1") else { return };
    let world = World::named(&server, "");
    world.until(&["10.0.0.1:81", "[fd00::1]:81"]).await;
    server.set("app A 10.0.0.1");
    world.until(&["10.0.0.1:81"]).await;
    server.set("app AAAA fd00::2");
    world.until(&["[fd00::2]:81"]).await;
    world.until_said("None None").await;
    assert_eq!(world.complaints(), Vec::<String>::new());
    // What is said is found by this test.
    server.fail();
    world.until_said("Server failure").await;
    assert_ne!(world.complaints(), Vec::<String>::new());
    world.control.stop();
}

#[tokio::test]
async fn services_have_ports_weights_and_priorities() {
    let hosts = "one A 10.0.0.1\ntwo A 10.0.0.2\ntwo AAAA fd00::2\n";
    let records = format!(
        "{hosts}_http._tcp.app SRV 1 5 8081 one\n_http._tcp.app SRV 1 0 8082 one\n_http._tcp.app SRV 9 7 80 two\nalias CNAME app"
    );
    let Some(server) = NameServer::start(&records) else { return };
    let resolver = format!("resolver {};", server.address);
    let world = World::start(&format!("{resolver} server app.test service=http resolve;"));
    let all = ["10.0.0.1:8081 w5", "10.0.0.1:8082", "10.0.0.2:80 w7 backup", "[fd00::2]:80 w7 backup"];
    world.until(&all).await;
    // The line's weight counts for all, and what would be a backup of a backup does not.
    let world = World::start(&format!(
        "{resolver} server 10.0.0.9; server app.test service=_http._tcp weight=3 backup resolve;"
    ));
    world.until(&["10.0.0.9:80", "10.0.0.1:8081 w3 backup", "10.0.0.1:8082 w3 backup"]).await;
    // A balancer without backups leaves them out.
    let world = World::start(&format!("{resolver} ip_hash; server app.test service=http resolve;"));
    world.until(&["10.0.0.1:8081 w5", "10.0.0.1:8082"]).await;
    server.set(&format!("{hosts}_http._tcp.app SRV 1 5 8081 gone\n_http._tcp.app SRV 9 7 80 two"));
    // What is of the lowest priority has no address: the others are backups still.
    world.until_said("gone.test could not be resolved (3: Host not found)").await;
    assert_eq!(world.published().len(), 2, "the floor stays");
    world.control.stop();
}

#[tokio::test]
async fn orders_lie_over_what_is_looked_up_and_pin_freezes_it() {
    let Some(server) = NameServer::start(TWO) else { return };
    let world = World::named(&server, "hash $uri consistent;");
    world.until(&["10.0.0.1:81", "10.0.0.2:81"]).await;
    assert_eq!(world.group().await.found.servers[0].source, ServerSource::Discovered);
    world.order("10.0.0.1:81", ServerVerb::Drain).await.unwrap();
    assert_eq!(world.published(), ["10.0.0.1:81 drain", "10.0.0.2:81"]);
    // It goes and comes back: the order is as it was.
    server.set("app A 10.0.0.2\napp A 10.0.0.3");
    world.until(&["10.0.0.2:81", "10.0.0.3:81"]).await;
    assert_eq!(world.group().await.found.dormant[0].name, "10.0.0.1:81");
    server.set("app A 10.0.0.1\napp A 10.0.0.2");
    world.until(&["10.0.0.1:81 drain", "10.0.0.2:81"]).await;
    // An answer that would leave only what an order has drained is not believed.
    server.set("app A 10.0.0.1");
    world.until_said("it would leave 0 of 1 servers").await;
    assert_eq!(world.published(), ["10.0.0.1:81 drain", "10.0.0.2:81"]);

    world.order("", ServerVerb::Pin).await.unwrap();
    server.set("app A 10.0.0.7\napp A 10.0.0.8");
    world.until_said("None None").await;
    assert_eq!(world.published(), ["10.0.0.1:81 drain", "10.0.0.2:81"], "pinned");
    let world = world.restart();
    assert_eq!(world.published(), ["10.0.0.1:81 drain", "10.0.0.2:81"], "pinned over a restart");
    assert_eq!(world.group().await.found.pinned, Some(2));
    let undone = world.control.undo(GROUPS_NAME, UndoWhat::Last, meta(), Options::default()).await.unwrap();
    assert_eq!(undone.of, Some(2));
    world.until(&["10.0.0.7:81", "10.0.0.8:81"]).await;
    world.order("", ServerVerb::Pin).await.unwrap();
    server.set("app A 10.0.0.9");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(world.published(), ["10.0.0.7:81", "10.0.0.8:81"]);
    world.order("", ServerVerb::Reset).await.unwrap();
    world.until(&["10.0.0.9:81"]).await;
    world.control.stop();
}

#[tokio::test]
async fn a_reload_keeps_what_is_known_and_looks_up_what_is_new() {
    let Some(server) = NameServer::start(&format!("{TWO}\nnew A 10.0.0.5")) else { return };
    let world = World::named(&server, "");
    world.until(&["10.0.0.1:81", "10.0.0.2:81"]).await;
    // What is known stays, whatever the name server does now; what is new is waited for, and no longer than a second.
    let http = world
        .http
        .replace("server app.test:81", "server 10.0.0.9; server new.test:82 resolve; server app.test:81");
    world.reload(&http).await;
    let group = world.group().await;
    let names: Vec<&str> = group.found.servers.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["10.0.0.9", "10.0.0.5:82", "10.0.0.1:81", "10.0.0.2:81"]);
    server.set("new A 10.0.0.6\napp A 10.0.0.1");
    world.until(&["10.0.0.9:80", "10.0.0.6:82", "10.0.0.1:81"]).await;
    world.control.stop();
}

#[tokio::test]
async fn an_answer_that_was_not_believed_is_judged_again_though_it_stays_the_same() {
    let lists = tempfile::tempdir().unwrap();
    let path: PathBuf = lists.path().join("app.servers");
    std::fs::write(&path, "server 10.0.0.1:81;\nserver 10.0.0.2:81;\n").unwrap();
    let world = World::start(&format!("servers file={} interval=100ms; min_servers 2;", path.display()));
    world.until(&["10.0.0.1:81", "10.0.0.2:81"]).await;
    std::fs::write(&path, "server 10.0.0.1:81;\n").unwrap();
    world.until_said("min_servers is 2").await;
    // A reload does not make it believed, and the doubt stays to be seen.
    for (min, doubt) in [("min_servers 2; keepalive 3", Some("min_servers is 2")), ("min_servers 1", None)] {
        let http = world.http.replace("min_servers 2", min);
        world.reload(&http).await;
        match doubt {
            Some(doubt) => world.until_said(doubt).await,
            None => world.until(&["10.0.0.1:81"]).await,
        }
    }
    assert_eq!(world.group().await.sources.remove(0).doubt, None);
    world.control.stop();
}

#[tokio::test]
async fn the_age_of_the_last_good_set_outlives_a_restart() {
    let lists = tempfile::tempdir().unwrap();
    let path: PathBuf = lists.path().join("app.servers");
    std::fs::write(&path, "server 10.0.0.1:81;\n").unwrap();
    let world = World::start(&format!("servers file={} interval=100ms;", path.display()));
    world.until(&["10.0.0.1:81"]).await;
    std::fs::remove_file(&path).unwrap();
    world.until_said("No such file").await;
    let world = world.restart();
    world.until_said("No such file").await;
    assert!(world.group().await.sources.remove(0).age_ms.is_some_and(|ms| ms < 60_000));
    world.control.stop();
}

#[tokio::test]
async fn a_file_is_followed_and_a_broken_one_changes_nothing() {
    let lists = tempfile::tempdir().unwrap();
    let path: PathBuf = lists.path().join("app.servers");
    std::fs::write(&path, "server 10.0.0.1:81 weight=2;\nserver 10.0.0.2:81;\n").unwrap();
    let world = World::start(&format!("servers file={} interval=100ms; server 10.0.0.9:80;", path.display()));
    world.until(&["10.0.0.9:80", "10.0.0.1:81 w2", "10.0.0.2:81"]).await;
    std::fs::write(
        &path,
        r#"{"servers": ["10.0.0.3:81", {"server": "10.0.0.4", "params": {"backup": true}}]}"#,
    )
    .unwrap();
    world.until(&["10.0.0.9:80", "10.0.0.3:81", "10.0.0.4:80 backup"]).await;
    let publications = world.publications();
    for (text, words) in [
        ("server 10.0.0.5:81;\nserver 10.0.0.", "its last line has no end"),
        ("server 10.0.0.5:81;\nserver 10.0.0.x:81;\n", "line 2: \\\"10.0.0.x:81\\\": a host name"),
    ] {
        std::fs::write(&path, text).unwrap();
        world.until_said(words).await;
    }
    std::fs::remove_file(&path).unwrap();
    world.until_said("No such file").await;
    assert_eq!(world.publications(), publications);
    let world = world.restart();
    assert_eq!(world.published(), ["10.0.0.9:80", "10.0.0.3:81", "10.0.0.4:80 backup"]);
    world.until_said("No such file").await;
    // The floor counts the servers of the block too.
    std::fs::write(&path, "").unwrap();
    world.until(&[]).await;
    world.control.stop();
}
