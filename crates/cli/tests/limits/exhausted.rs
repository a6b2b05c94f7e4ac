//! Descriptors, connections, disks and ports that have run out: said in the log, and over when the cause is.

use super::*;
use std::os::unix::net::UnixListener;

/// No descriptor is left to accept with: accepting rests, idle connections give theirs back, the next one is served.
#[test]
fn without_descriptors_accepting_goes_on_later() {
    let http = "server { listen unix:{folder}/front; return 200 here; }";
    let main = "events { worker_connections 512; }";
    let through = &["prlimit", "--nofile=64:64"];
    let server = Server::start(Setup { main, http, through });
    let silent: Vec<_> = (0..100).map(|_| server.connect()).collect();
    assert!(server.get("/").ends_with("here"), "{}", server.log());
    assert!(server.said("accept4() failed (24: Too many open files)") > 0, "{}", server.log());
    assert!(server.said("512 worker_connections exceed open file resource limit: 64") == 1);
    drop(silent);
    assert!(server.get("/").ends_with("here"));
}

/// No descriptor is left for the upstream: that request fails, no server is to blame, and the next is served.
#[test]
fn without_descriptors_no_upstream_is_to_blame() {
    let http = "upstream back { server unix:{folder}/back1; server unix:{folder}/back2; }
        server { listen unix:{folder}/front; client_body_timeout 600s;
            location / { proxy_pass http://back; } }";
    let through = &["prlimit", "--nofile=64:64"];
    let folder = tempfile::tempdir().unwrap();
    for name in ["back1", "back2"] {
        // Ends with the test's process.
        origin(UnixListener::bind(folder.path().join(name)).unwrap());
    }
    let server = Server::start_in(folder, Setup { main: "", http, through });
    assert!(server.get("/").ends_with("back"));
    let upload = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n";
    let mut busy: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for stream in &mut busy {
        let _ = stream.write_all(upload);
    }
    server.until("descriptors are gone", || server.said("accept4() failed (24: Too many open files)") > 0);
    for stream in &mut busy {
        let _ = stream.write_all(b"123456789");
    }
    server.until("it is said", || {
        server.said("socket() failed (24: Too many open files) while connecting") > 0
    });
    drop(busy);
    server.until("it is over", || server.get("/").ends_with("back"));
    assert_eq!(server.said("temporarily disabled"), 0, "{}", server.log());
    assert_eq!(server.said("no live upstreams"), 0, "{}", server.log());
}

/// Answers every request.
fn origin(listener: UnixListener) {
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = Vec::new();
            let mut bytes = [0; 4096];
            // A head without a body, or with the nine bytes that the test sends.
            while !request.ends_with(b"\r\n\r\n") && !request.ends_with(b"123456789") {
                match stream.read(&mut bytes) {
                    Ok(count @ 1..) => request.extend_from_slice(&bytes[..count]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nback");
        }
    });
}

/// Connections to upstreams count as well, as in nginx.
#[test]
fn worker_connections_bound_upstream_connections_too() {
    let http = "server { listen unix:{folder}/front; proxy_pass_request_body on;
            location / { return 200 here; } location /up { proxy_pass http://unix:{folder}/back; } }";
    let main = "events { worker_connections 8; }";
    let folder = tempfile::tempdir().unwrap();
    // Takes connections and says nothing.
    let silent = UnixListener::bind(folder.path().join("back")).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path().join("back"), open).unwrap();
    let server = Server::start_in(folder, Setup { main, http, ..Setup::default() });
    let waiting: Vec<_> = (0..4).map(|_| server.ask("/up")).collect();
    let taken: Vec<_> = (0..4).map(|_| silent.accept().unwrap()).collect();
    // Four clients, four connections to the upstream: all eight.
    server.until("there is no room", || server.get("/").is_empty());
    assert!(server.said("8 worker_connections are not enough") > 0);
    drop((waiting, taken));
    server.until("there is room", || server.get("/").ends_with("here"));
}

/// An access log that cannot be written: requests are served, it is said once, and in the end how much is missing.
#[test]
fn a_full_disk_stops_the_log_and_nothing_else() {
    let http = "server { listen unix:{folder}/front; access_log logs/full/access.log; return 200 here; }";
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("full")).unwrap();
    let disk = folder.path().join("full");
    let http = http.replace("logs/full", &disk.display().to_string());
    let log = disk.join("access.log");
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    let server = Server::start(Setup { http: &http, ..Setup::default() });
    for _ in 0..20 {
        assert!(server.get("/").ends_with("here"));
    }
    let failed = format!("write() to \"{}\" failed (28: No space left on device)", log.display());
    server.until("it is said", || server.said(&failed) == 1);
    server.until("all are counted", || {
        let status = server.say(&["status", "--json"]).stdout;
        String::from_utf8_lossy(&status).contains("\"log_lines_lost\":20")
    });
    std::fs::remove_file(&log).unwrap();
    assert!(server.say(&["-s", "reopen"]).status.success());
    server.until("it is written again", || {
        assert!(server.get("/").ends_with("here"));
        std::fs::read_to_string(&log).is_ok_and(|text| !text.is_empty())
    });
    server.until("the end is said", || server.said("is written again, ") == 1);
    assert_eq!(server.said(&failed), 1, "{}", server.log());
}

/// The folder of a server on a disk of its own, as `through`; `$DISK` of so many KiB is mounted on `{folder}/disk`.
const ON_SMALL_DISK: [&str; 5] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mkdir -p \"$PREFIX/disk\" && mount -t tmpfs -o size=512k,mode=777 none \"$PREFIX/disk\" && exec \"$0\" \"$@\"",
];

impl Server {
    /// Returns a path as the server sees it, whose mounts are its own.
    fn inside(&self, name: &str) -> PathBuf {
        let outside = self.path(name);
        PathBuf::from(format!("/proc/{}/root{}", self.master().unwrap(), outside.display()))
    }

    /// Fills the disk to the last byte; answers the file to delete.
    fn fill(&self) -> PathBuf {
        let path = self.inside("disk/filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
        path
    }
}

/// The same on a disk that is really full, and that gets room again while the server runs.
#[test]
fn a_log_goes_on_when_its_disk_has_room_again() {
    if !has_namespaces("a_log_goes_on_when_its_disk_has_room_again") {
        return;
    }
    let http = "server { listen unix:{folder}/front; access_log {folder}/disk/access.log; return 200 here; }";
    let server = Server::start(Setup { http, through: &ON_SMALL_DISK, ..Setup::default() });
    let filler = server.fill();
    let long = format!("/{}", "x".repeat(1000));
    for _ in 0..20 {
        assert!(server.get(&long).ends_with("here"));
    }
    server.until("it is said", || server.said("write() to ") >= 1);
    std::fs::remove_file(filler).unwrap();
    server.until("it goes on", || {
        assert!(server.get(&long).ends_with("here"));
        server.said("is written again, ") == 1
    });
    let log = std::fs::read_to_string(server.inside("disk/access.log")).unwrap();
    // The one line that was cut is followed by a whole one.
    let broken = log.lines().filter(|line| !line.starts_with("unix:") || !line.ends_with('"')).count();
    assert!(broken <= 1, "{log}");
}

/// A store that cannot write refuses: the table stays, and the same order is done when there is room.
#[test]
fn a_switch_that_cannot_be_kept_is_refused() {
    if !has_namespaces("a_switch_that_cannot_be_kept_is_refused") {
        return;
    }
    let http = "upstream blue { server unix:{folder}/blue; } upstream green { server unix:{folder}/green; }
        switch $host $live { default blue; state {folder}/disk/live.db; }
        server { listen unix:{folder}/front; location / { proxy_pass http://$live; } }
        server { listen unix:{folder}/blue; return 200 blue; }
        server { listen unix:{folder}/green; return 200 green; }";
    let server = Server::start(Setup { http, through: &ON_SMALL_DISK, ..Setup::default() });
    server.until("it takes orders", || server.say(&["list"]).status.success());
    assert!(server.say(&["switch", "first", "green"]).status.success());
    let filler = server.fill();
    // What the file has room for may still go in.
    let mut refused = None;
    for at in 0..200 {
        let said = server.say(&["switch", &format!("host{at}"), "green", "-m", &"x".repeat(900)]);
        if !said.status.success() {
            refused = Some((at, String::from_utf8(said.stderr).unwrap()));
            break;
        }
    }
    let (at, told) = refused.expect("a full disk refuses");
    assert!(told.contains("no space is left for the store"), "{told}");
    let listed = String::from_utf8(server.say(&["list", "--limit", "1000"]).stdout).unwrap();
    assert!(!listed.contains(&format!("host{at} ")), "{listed}");
    assert!(server.get("/").ends_with("blue"), "{}", server.log());
    std::fs::remove_file(filler).unwrap();
    let again = server.say(&["switch", &format!("host{at}"), "green"]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
}

/// No port is left for a connection to an upstream: said as critical, and over when one is free again.
#[test]
fn without_ports_an_upstream_is_asked_later() {
    if !has_namespaces("without_ports_an_upstream_is_asked_later") {
        return;
    }
    let through = [
        "unshare",
        "--net",
        "sh",
        "-c",
        "ip link set lo up && echo '50000 50003' > /proc/sys/net/ipv4/ip_local_port_range && exec \"$0\" \"$@\"",
    ];
    let http = "server { listen unix:{folder}/front; location / { proxy_pass http://127.0.0.1:8000; } }
        server { listen 127.0.0.1:8000;
            location / { content_by_lua_block {
                while not io.open('{folder}/go') do ngx.sleep(0.01) end ngx.print('back') } } }";
    let server = Server::start(Setup { http, through: &through, ..Setup::default() });
    let waiting: Vec<_> = (0..8).map(|_| server.ask("/")).collect();
    let failed = "failed (99: Cannot assign requested address) while connecting to upstream";
    server.until("no port is left", || server.said(failed) > 0);
    assert!(server.log().lines().filter(|line| line.contains(failed)).all(|line| line.contains("[crit]")));
    std::fs::write(server.path("go"), "").unwrap();
    let answers: Vec<_> = waiting.into_iter().map(rest_of).collect();
    let count = |status: &str| answers.iter().filter(|answer| answer.contains(status)).count();
    assert_eq!(count(" 200 ") + count(" 502 "), 8, "{answers:?}");
    assert!(count(" 200 ") > 0 && count(" 502 ") > 0, "{answers:?}");
    server.until("a port is free again", || server.get("/").ends_with("back"));
}
