//! Connections that have been idle for some seconds are kept without a task: no client may notice.

use super::floods::ended;
use super::*;

const HTTP: &str = "server { listen unix:{folder}/front; keepalive_timeout 1h; client_header_timeout 1h;
    location / { return 200 here; } location /active { stub_status; } }";

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

impl Server {
    /// Returns how many connections are parked: what a file of events watches that is itself watched by another.
    fn parked(&self) -> usize {
        let Some(worker) = self.worker() else { return 0 };
        let Ok(files) = std::fs::read_dir(format!("/proc/{worker}/fd")) else { return 0 };
        let polls: Vec<(String, Vec<String>)> = files
            .flatten()
            .filter(|file| {
                let target = std::fs::read_link(file.path()).unwrap_or_default();
                target.to_string_lossy().contains("eventpoll")
            })
            .map(|file| {
                let name = file.file_name().to_string_lossy().into_owned();
                let info =
                    std::fs::read_to_string(format!("/proc/{worker}/fdinfo/{name}")).unwrap_or_default();
                let watched = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
                let watched = watched.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
                (name, watched.collect())
            })
            .collect();
        let is_inner = |name: &String| polls.iter().any(|(_, watched)| watched.contains(name));
        polls.iter().filter(|(name, _)| is_inner(name)).map(|(_, watched)| watched.len()).sum()
    }

    /// Asks on a connection that is kept.
    fn ask_on(&self, stream: &mut UnixStream) -> String {
        stream.write_all(REQUEST).unwrap();
        let mut bytes = Vec::new();
        let mut piece = [0; 512];
        while !bytes.ends_with(b"here") {
            match stream.read(&mut piece) {
                Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
                other => panic!("{other:?} after {:?}\n{}", String::from_utf8_lossy(&bytes), self.log()),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[test]
fn parked_connections_are_answered_and_end_with_the_server() {
    let server = Server::start(Setup { http: HTTP, ..Setup::default() });
    let mut kept: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for stream in &mut kept {
        assert!(server.ask_on(stream).starts_with("HTTP/1.1 200 OK\r\n"));
    }
    let mut silent = server.connect();
    server.until("all are parked", || server.parked() == 101);
    // The one that asks is the hundred and second.
    assert!(server.get("/active").contains("Active connections: 102 "), "{}", server.get("/active"));
    for stream in &mut kept[..50] {
        assert!(server.ask_on(stream).starts_with("HTTP/1.1 200 OK\r\n"));
    }
    server.until("who was answered is not", || server.parked() < 101);
    server.until("all are parked again", || server.parked() == 101);
    let mut gone = kept.drain(..10).collect::<Vec<_>>();
    gone.iter_mut().for_each(|stream| stream.shutdown(std::net::Shutdown::Both).unwrap());
    server.until("who has closed is forgotten", || server.get("/active").contains("connections: 92 "));
    assert!(server.say(&["-s", "quit"]).status.success());
    server.until("who had an answer is closed", || kept.iter().all(ended));
    // Who has never asked may: the answer is his last.
    assert!(server.ask_on(&mut silent).contains("\r\nConnection: close\r\n"));
    assert!(rest_of(silent).is_empty());
}

#[test]
fn parked_connections_time_out() {
    let http = HTTP.replace("keepalive_timeout 1h", "keepalive_timeout 6s");
    let server = Server::start(Setup { http: &http, ..Setup::default() });
    let mut stream = server.connect();
    server.ask_on(&mut stream);
    let answered = Instant::now();
    server.until("it is parked", || server.parked() == 1);
    assert!(!ended(&stream));
    server.until("its time is up", || ended(&stream));
    // A little less, because its time began before we had read the answer; up to a second more, and what a busy machine
    // takes.
    let lived = answered.elapsed();
    assert!(lived > Duration::from_millis(5900) && lived < Duration::from_secs(10), "{lived:?}");
    server.until("it is forgotten", || server.parked() == 0);
}

#[test]
fn parked_connections_make_room() {
    let main = "events { worker_connections 64; }";
    let server = Server::start(Setup { main, http: HTTP, ..Setup::default() });
    let mut first = server.connect();
    server.ask_on(&mut first);
    server.until("the first is parked", || server.parked() == 1);
    let mut others: Vec<_> = (0..50).map(|_| server.connect()).collect();
    others.iter_mut().for_each(|stream| drop(server.ask_on(stream)));
    server.until("all are parked", || server.parked() == 51);
    assert_eq!(server.said("worker_connections"), 0);
    let more: Vec<_> = (0..12).map(|_| server.connect()).collect();
    server.until("room is made", || server.said("64 worker_connections are not enough, reusing") > 0);
    server.until("by the oldest", || ended(&first));
    drop(more);
    assert!(server.get("/").ends_with("here"));
}

/// Between the end of its time and the close a connection looks open: a request then is answered.
#[test]
fn a_request_that_crosses_the_timeout_is_answered() {
    let http = HTTP.replace("keepalive_timeout 1h", "keepalive_timeout 4s");
    let server = Server::start(Setup { http: &http, ..Setup::default() });
    let mut kept: Vec<(UnixStream, Instant)> = Vec::new();
    // They end one after another, wherever in a second the server looks for those whose time is up.
    while kept.len() < 20 {
        if kept.last().is_none_or(|(_, answered)| answered.elapsed() > Duration::from_millis(50)) {
            let mut stream = server.connect();
            server.ask_on(&mut stream);
            kept.push((stream, Instant::now()));
        }
    }
    let mut asked = 0;
    for (mut stream, answered) in kept {
        server.until("its time is up", || answered.elapsed() > Duration::from_millis(4005));
        if !ended(&stream) {
            asked += usize::from(server.ask_on(&mut stream).starts_with("HTTP/1.1 200 OK\r\n"));
        }
    }
    println!("{asked} asked after their time");
}

/// What is written last is written, though connections are parked.
#[test]
fn logs_are_written_out_at_the_end() {
    let http = HTTP.replace(
        "keepalive_timeout 1h;",
        "keepalive_timeout 1h; access_log logs/late.log combined buffer=64k;",
    );
    let server = Server::start(Setup { http: &http, ..Setup::default() });
    let mut kept = server.connect();
    server.ask_on(&mut kept);
    server.until("it is parked", || server.parked() == 1);
    let late = server.path("logs/late.log");
    assert_eq!(std::fs::metadata(&late).unwrap().len(), 0);
    assert!(server.say(&["-s", "stop"]).status.success());
    server.until("it is written", || std::fs::read_to_string(&late).unwrap().contains("GET / HTTP/1.1"));
}

/// Connections to an address that is no longer listened on are closed, and no others.
#[test]
fn a_reload_ends_those_whose_address_is_given_up() {
    let http = HTTP.replace("{folder}/front;", "{folder}/front; listen unix:{folder}/side;");
    let server = Server::start(Setup { http: &http, ..Setup::default() });
    let mut front = server.connect();
    let mut side = UnixStream::connect(server.path("side")).unwrap();
    server.ask_on(&mut front);
    server.ask_on(&mut side);
    server.until("both are parked", || server.parked() == 2);
    let conf = server.path("conf/nginx.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let side_path = server.path("side").display().to_string();
    std::fs::write(&conf, text.replace(&format!("listen unix:{side_path};"), "")).unwrap();
    assert!(server.say(&["-s", "reload"]).status.success());
    server.until("one is closed", || ended(&side));
    assert_eq!(server.parked(), 1);
    assert!(server.ask_on(&mut front).starts_with("HTTP/1.1 200 OK\r\n"));
}
