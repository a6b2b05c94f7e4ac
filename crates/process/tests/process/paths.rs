//! Other files at the paths of sockets, pid files and directories: they are kept.

use crate::test_server::*;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

pub const TESTS: &[(&str, fn())] = &[
    ("a_test_changes_nothing_at_a_socket_path", a_test_changes_nothing_at_a_socket_path),
    ("a_start_replaces_only_dead_sockets", a_start_replaces_only_dead_sockets),
    ("a_test_leaves_no_trace", a_test_leaves_no_trace),
    ("a_test_reports_the_errors_of_a_start", a_test_reports_the_errors_of_a_start),
    ("other_files_are_not_overwritten_or_given_away", other_files_are_not_overwritten_or_given_away),
    ("a_file_that_replaced_a_socket_is_kept", a_file_that_replaced_a_socket_is_kept),
    ("the_pid_file_of_another_process_is_kept", the_pid_file_of_another_process_is_kept),
    ("an_upgraded_server_removes_only_its_own_socket", an_upgraded_server_removes_only_its_own_socket),
    (
        "a_configuration_that_is_no_file_is_refused_at_once",
        a_configuration_that_is_no_file_is_refused_at_once,
    ),
    ("a_pid_file_that_is_no_file_blocks_no_command", a_pid_file_that_is_no_file_blocks_no_command),
    ("seeded_files_at_all_paths_are_kept", seeded_files_at_all_paths_are_kept),
    ("linked_logs_keep_their_owner_when_reopened", linked_logs_keep_their_owner_when_reopened),
];

/// The two ways in which a configuration names a socket.
const DIRECTIVES: [&str; 2] = ["listen unix:here.sock;\n", "control here.sock 0600;\n"];

/// Files at the path of a socket that are not dead sockets.
const USED: [&str; 7] = ["file", "folder", "link to file", "link to dead", "link to nothing", "fifo", "live"];

/// Creates a file. A returned listener must live as long as the test.
fn put(server: &TestServer, what: &str) -> Option<UnixListener> {
    put_at(&server.path("here.sock"), &server.path("aim"), what)
}

/// Creates a file at a path, with another one that it leads to if it is a link.
fn put_at(path: &Path, aim: &Path, what: &str) -> Option<UnixListener> {
    match what {
        "nothing" => {}
        "number" => fs::write(path, "99999999\n").unwrap(),
        "file" => fs::write(path, "precious").unwrap(),
        "folder" => fs::create_dir(path).unwrap(),
        "link to file" => {
            fs::write(aim, "precious").unwrap();
            symlink(aim, path).unwrap();
        }
        "link to dead" => {
            drop(UnixListener::bind(aim).unwrap());
            symlink(aim, path).unwrap();
        }
        "link to nothing" => symlink(aim, path).unwrap(),
        "fifo" => nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        "live" => return Some(UnixListener::bind(path).unwrap()),
        "dead" => drop(UnixListener::bind(path).unwrap()),
        other => panic!("{other}?"),
    }
    None
}

/// Returns the metadata of all files below a directory, except logs and outputs of the commands themselves.
fn seen(folder: &Path) -> Vec<(String, u64, u32, i64, u64)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if ["first.log", "stdout", "stderr", "nginx.conf"].contains(&name.as_str()) {
            continue;
        }
        let found = entry.metadata().unwrap();
        all.push((name, found.ino(), found.mode() ^ found.uid(), found.ctime_nsec(), found.len()));
        if found.is_dir() {
            all.extend(seen(&entry.path()));
        }
    }
    all.sort();
    all
}

fn a_test_changes_nothing_at_a_socket_path() {
    for directive in DIRECTIVES {
        for what in USED.iter().chain(&["dead"]) {
            let server = TestServer::new(&format!("{directive}word x;\n"));
            let _live = put(&server, what);
            fs::write(server.path("access.log"), "").unwrap();
            let before = seen(&server.path(""));
            let output = server.run("test");
            assert_eq!(seen(&server.path("")), before, "{directive}{what}");
            // It may be the socket of this server.
            let fine = ["live", "dead"].contains(what);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.success(), fine, "{directive}{what}: {stderr}");
            assert_eq!(stderr.contains(&in_use(&server)), !fine, "{directive}{what}: {stderr}");
        }
    }
}

fn in_use(server: &TestServer) -> String {
    let path = server.path("here.sock");
    format!("pointsman: [emerg] bind() to unix:{} failed (98: Address already in use)\n", path.display())
}

fn a_start_replaces_only_dead_sockets() {
    std::thread::scope(|scope| {
        for directive in DIRECTIVES {
            for what in USED {
                // Each retries for two seconds.
                scope.spawn(move || {
                    let server = TestServer::new(&format!("{directive}word x;\n"));
                    let _live = put(&server, what);
                    fs::write(server.path("access.log"), "").unwrap();
                    let before = seen(&server.path(""));
                    let output = server.run("");
                    assert_eq!(seen(&server.path("")), before, "{directive}{what}");
                    assert_eq!(output.status.code(), Some(1), "{directive}{what}");
                    let stderr = String::from_utf8(output.stderr).unwrap();
                    assert!(stderr.contains(&in_use(&server)), "{directive}{what}: {stderr}");
                });
            }
        }
    });
    for directive in DIRECTIVES {
        let server = TestServer::new(&format!("{directive}listen unix:a.sock;\nword x;\n"));
        put(&server, "dead");
        server.start();
        UnixStream::connect(server.path("here.sock")).unwrap();
        let pid = server.pid();
        assert!(server.run("stop").status.success());
        server.ended(pid);
        assert!(!server.path("here.sock").exists());
    }
}

fn a_test_leaves_no_trace() {
    let server = TestServer::new(
        "listen unix:a.sock;\ncontrol run/c.sock 0600;\nerror_log error.log;\nlog other.log;\ntemp body;\nstate kept;\n",
    );
    // A start would change its owner and permissions.
    fs::create_dir(server.path("body")).unwrap();
    fs::set_permissions(server.path("body"), fs::Permissions::from_mode(0o755)).unwrap();
    let before = seen(&server.path(""));
    let output = server.run("test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(seen(&server.path("")), before);
}

fn a_test_reports_the_errors_of_a_start() {
    for (line, text) in [
        (
            "listen unix:nowhere/a.sock;",
            "bind() to unix:PREFIX/nowhere/a.sock failed (2: No such file or directory)",
        ),
        ("pid nowhere/pid;", "open() \"PREFIX/nowhere/pid\" failed (2: No such file or directory)"),
        ("pid body;", "open() \"PREFIX/body\" failed (21: Is a directory)"),
        ("log nowhere/x.log;", "open() \"PREFIX/nowhere/x.log\" failed (2: No such file or directory)"),
        ("log body;", "open() \"PREFIX/body\" failed (21: Is a directory)"),
        ("temp nowhere/body;", "mkdir() \"PREFIX/nowhere/body\" failed (2: No such file or directory)"),
        ("temp nginx.conf;", "mkdir() \"PREFIX/nginx.conf\" failed (17: File exists)"),
        ("state nginx.conf/x;", "mkdir() \"PREFIX/nginx.conf/x\" failed (20: Not a directory)"),
    ] {
        let server = TestServer::new(&format!("{line}\n"));
        fs::create_dir(server.path("body")).unwrap();
        let prefix = server.path("x").parent().unwrap().to_str().unwrap().to_owned();
        for action in ["test", ""] {
            let output = server.run(action);
            assert_eq!(output.status.code(), Some(1), "{line} {action}");
            let stderr = String::from_utf8(output.stderr).unwrap().replace(&prefix, "PREFIX");
            assert!(stderr.contains(&format!("pointsman: [emerg] {text}\n")), "{line} {action}: {stderr}");
        }
    }
}

fn other_files_are_not_overwritten_or_given_away() {
    for (line, text) in
        [("temp data.db;", "failed (17: File exists)"), ("pid data.db;", "failed (17: File exists)")]
    {
        let server = TestServer::new(&format!("listen unix:a.sock;\n{line}\n"));
        fs::write(server.path("data.db"), "precious").unwrap();
        fs::write(server.path("access.log"), "").unwrap();
        let before = seen(&server.path(""));
        for action in ["test", ""] {
            let output = server.run(action);
            assert_eq!(output.status.code(), Some(1), "{line}");
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(stderr.contains(text), "{line}: {stderr}");
            assert_eq!(seen(&server.path("")), before, "{line}");
        }
    }
    // The pid file of a killed server is overwritten.
    for left in ["", "99999999\n", "99999999"] {
        let server = TestServer::new("listen unix:a.sock;\nword x;\n");
        fs::write(server.path("pid"), left).unwrap();
        server.start();
        until("the new number", || !server.read("pid").starts_with("99999999"));
    }
}

fn a_file_that_replaced_a_socket_is_kept() {
    for mode in ["", "master_process off;\n"] {
        let server = TestServer::new(&format!(
            "{mode}listen unix:a.sock;\nlisten unix:b.sock;\nword x;\nerror_log error.log;\n"
        ));
        server.start();
        for name in ["a.sock", "b.sock"] {
            fs::remove_file(server.path(name)).unwrap();
        }
        fs::write(server.path("a.sock"), "precious").unwrap();
        let _other = UnixListener::bind(server.path("b.sock")).unwrap();
        let before = ["a.sock", "b.sock"].map(|name| server.path(name).metadata().unwrap().ino());
        // A reload drops one, the end of the server the other.
        server.configure(&format!("{mode}listen unix:a.sock;\nword y;\nerror_log error.log;\n"));
        server.kill(Signal::SIGHUP);
        server.await_text("error.log", "b.sock was replaced by another file, which is not removed");
        let pid = server.pid();
        assert!(server.run("stop").status.success());
        server.ended(pid);
        let after = ["a.sock", "b.sock"].map(|name| server.path(name).metadata().unwrap().ino());
        assert_eq!(after, before);
        assert_eq!(server.read("a.sock"), "precious");
    }
}

fn the_pid_file_of_another_process_is_kept() {
    let server = TestServer::new("listen unix:a.sock;\nword x;\n");
    server.start();
    let pid = server.pid();
    fs::write(server.path("pid"), "1\n").unwrap();
    kill(pid, Signal::SIGTERM);
    server.ended(pid);
    assert_eq!(server.read("pid"), "1\n");
}

fn an_upgraded_server_removes_only_its_own_socket() {
    let server = TestServer::new("listen unix:a.sock;\nlisten unix:b.sock;\nword x;\nerror_log error.log;\n");
    server.start();
    let old = server.pid();
    // The new program finds the socket of another server at the path of the one that it inherits.
    fs::remove_file(server.path("b.sock")).unwrap();
    let _other = UnixListener::bind(server.path("b.sock")).unwrap();
    kill(old, Signal::SIGUSR2);
    until("the new master", || server.path("pid.oldbin").exists() && server.pid() != old);
    until("its worker", || server.read("error.log").matches("ready to serve").count() == 2);
    kill(old, Signal::SIGQUIT);
    server.ended(old);
    let new = server.pid();
    assert!(server.path("a.sock").metadata().unwrap().file_type().is_socket());
    assert!(server.run("stop").status.success());
    server.ended(new);
    assert!(!server.path("a.sock").exists());
    UnixStream::connect(server.path("b.sock")).unwrap();
}

fn a_configuration_that_is_no_file_is_refused_at_once() {
    let server = TestServer::new("word x;\n");
    let conf = server.path("nginx.conf");
    for (what, error) in [
        ("fifo", "failed (Operation not supported (os error 95))"),
        ("live", "failed (Operation not supported (os error 95))"),
        ("folder", "failed (Is a directory (os error 21))"),
    ] {
        fs::remove_file(&conf).unwrap();
        let _live = put_at(&conf, &server.path("aim"), what);
        for action in ["test", "dump", "reload", ""] {
            let output = server.run(action);
            assert_eq!(output.status.code(), Some(1), "{what} {action}");
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(stderr.contains(error), "{what} {action}: {stderr}");
        }
        let _ = fs::remove_dir(&conf);
        server.configure("word x;\n");
    }
}

fn a_pid_file_that_is_no_file_blocks_no_command() {
    let server = TestServer::new("listen unix:a.sock;\nword x;\n");
    put_at(&server.path("pid"), &server.path("aim"), "fifo");
    for action in ["test", "stop", ""] {
        let output = server.run(action);
        assert_eq!(output.status.code(), Some(1), "{action}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("/pid\" failed ("), "{action}");
    }
    assert_eq!(pointsman_process::RunningMaster::named(&server.path("pid")), None);
}

/// The paths that a configuration names, and the kinds of files that may be there.
const PATHS: [&str; 7] = ["a.sock", "c.sock", "pid", "pid.handover", "error.log", "other.log", "body"];
const KINDS: [&str; 10] = [
    "nothing",
    "nothing",
    "number",
    "file",
    "folder",
    "link to file",
    "link to nothing",
    "fifo",
    "live",
    "dead",
];

fn seeded_files_at_all_paths_are_kept() {
    let seeds: Vec<u64> = (0..48).collect();
    std::thread::scope(|scope| {
        // A start on an address in use retries for two seconds.
        for seeds in seeds.chunks(6) {
            scope.spawn(move || seeds.iter().for_each(|seed| keeps_files(*seed)));
        }
    });
}

/// Puts files at some of the paths, tests the configuration, starts and stops a server.
fn keeps_files(seed: u64) {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % limit
    };
    let server = TestServer::new(
        "listen unix:a.sock;\ncontrol c.sock 0600;\nerror_log error.log;\nlog other.log;\ntemp body;\n\
         orphan_timeout 1;\nword x;\n",
    );
    fs::create_dir(server.path("aims")).unwrap();
    // Most starts are to succeed: one or two of the paths are taken.
    let mut chosen: Vec<(&str, &str, Option<UnixListener>)> = Vec::new();
    for _ in 0..1 + below(2) {
        let (path, kind) = (PATHS[below(PATHS.len())], KINDS[below(KINDS.len())]);
        if !chosen.iter().any(|(known, ..)| *known == path) {
            let live = put_at(&server.path(path), &server.path("aims").join(path), kind);
            chosen.push((path, kind, live));
        }
    }
    let told =
        format!("seed {seed}: {:?}", chosen.iter().map(|(path, kind, _)| (path, kind)).collect::<Vec<_>>());
    let before = seen(&server.path(""));
    server.run("test");
    assert_eq!(seen(&server.path("")), before, "-t: {told}");
    let output = server.run("");
    if output.status.success() {
        assert_eq!(server.ask("a.sock").word, "x", "{told}");
        let pid = server.pid();
        assert!(server.run("stop").status.success(), "{told}");
        server.ended(pid);
    } else {
        let stderr = String::from_utf8(output.stderr).unwrap();
        let named = chosen.iter().any(|(path, ..)| stderr.contains(&server.path(path).display().to_string()));
        assert!(stderr.contains("[emerg]") && named, "{told}: {stderr}");
    }
    for (path, kind, _) in &chosen {
        let is_log = path.ends_with(".log");
        let kept = |name: &Path, text: &str| {
            let now = fs::read_to_string(name).unwrap();
            // A log may lead elsewhere, as in nginx.
            assert!(now == text || is_log && now.starts_with(text), "{told}: {now}");
        };
        let (at, aim) = (server.path(path), server.path("aims").join(path));
        let found = at.symlink_metadata().map(|found| found.file_type());
        match *kind {
            "file" => kept(&at, "precious"),
            "folder" => assert!(found.unwrap().is_dir(), "{told}"),
            "link to file" => {
                assert!(found.unwrap().is_symlink(), "{told}");
                kept(&aim, "precious");
            }
            "link to nothing" => {
                assert!(found.unwrap().is_symlink(), "{told}");
                assert!(!aim.exists() || is_log, "{told}");
            }
            "fifo" => assert!(found.unwrap().is_fifo(), "{told}"),
            "live" => drop(UnixStream::connect(&at).unwrap()),
            "dead" if !path.contains("sock") && *path != "pid.handover" => {
                assert!(found.unwrap().is_socket(), "{told}");
            }
            "number" if *path != "pid" => kept(&at, "99999999\n"),
            _ => {}
        }
    }
}

fn linked_logs_keep_their_owner_when_reopened() {
    if !is_root() {
        // Only root changes owners.
        return;
    }
    let server = TestServer::new(
        "listen unix:a.sock;\nword x;\nerror_log error.log;\nlog linked.log;\nlog twice.log;\n",
    );
    for name in ["target", "first"] {
        fs::write(server.path(name), "root's").unwrap();
    }
    symlink(server.path("target"), server.path("linked.log")).unwrap();
    fs::hard_link(server.path("first"), server.path("twice.log")).unwrap();
    server.start();
    server.kill(Signal::SIGUSR1);
    server.await_text("error.log", "reopening logs");
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    until("the log's new owner", || owner_of(&server.path("error.log")) == nobody);
    until("the last log's reopening", || owner_of(&server.path("access.log")) == nobody);
    assert_eq!(["target", "first"].map(|name| owner_of(&server.path(name))), [0, 0]);
}
