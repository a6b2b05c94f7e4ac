//! What stands where a configuration wants a socket, a pid file or a folder: it survives.

use crate::place::*;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

pub const TESTS: &[(&str, fn())] = &[
    ("a_test_changes_nothing_at_a_socket_path", a_test_changes_nothing_at_a_socket_path),
    ("a_start_replaces_dead_sockets_alone", a_start_replaces_dead_sockets_alone),
    ("a_test_leaves_no_trace", a_test_leaves_no_trace),
    ("a_test_says_what_a_start_would_fail_at", a_test_says_what_a_start_would_fail_at),
    ("no_folder_or_pid_file_is_made_of_another_file", no_folder_or_pid_file_is_made_of_another_file),
    ("a_replaced_socket_survives_its_server", a_replaced_socket_survives_its_server),
    ("the_pid_file_of_another_survives", the_pid_file_of_another_survives),
    ("an_upgraded_server_removes_its_own_socket_alone", an_upgraded_server_removes_its_own_socket_alone),
    ("reopened_logs_are_given_away_by_their_own_name", reopened_logs_are_given_away_by_their_own_name),
];

/// The two ways in which a configuration names a socket.
const DIRECTIVES: [&str; 2] = ["listen unix:here.sock;\n", "control here.sock 0600;\n"];

/// What may stand at the path of a socket without being one that is unused.
const USED: [&str; 7] = ["file", "folder", "link to file", "link to dead", "link to nothing", "fifo", "live"];

/// Puts something at a path. What it gives back must live as long as the test.
fn put(place: &Place, what: &str) -> Option<UnixListener> {
    let (path, aim) = (place.path("here.sock"), place.path("aim"));
    match what {
        "file" => fs::write(&path, "precious").unwrap(),
        "folder" => fs::create_dir(&path).unwrap(),
        "link to file" => {
            fs::write(&aim, "precious").unwrap();
            symlink(&aim, &path).unwrap();
        }
        "link to dead" => {
            drop(UnixListener::bind(&aim).unwrap());
            symlink(&aim, &path).unwrap();
        }
        "link to nothing" => symlink(&aim, &path).unwrap(),
        "fifo" => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        "live" => return Some(UnixListener::bind(&path).unwrap()),
        "dead" => drop(UnixListener::bind(&path).unwrap()),
        other => panic!("{other}?"),
    }
    None
}

/// All that can be seen of the files below a folder, without the logs and outputs of the commands themselves.
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
            let place = Place::new(&format!("{directive}word x;\n"));
            let _live = put(&place, what);
            fs::write(place.path("access.log"), "").unwrap();
            let before = seen(&place.path(""));
            let output = place.run("test");
            assert_eq!(seen(&place.path("")), before, "{directive}{what}");
            // A socket may be this server's own.
            let fine = ["live", "dead"].contains(what);
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.success(), fine, "{directive}{what}: {stderr}");
            assert_eq!(stderr.contains(&in_use(&place)), !fine, "{directive}{what}: {stderr}");
        }
    }
}

fn in_use(place: &Place) -> String {
    let path = place.path("here.sock");
    format!("pointsman: [emerg] bind() to unix:{} failed (98: Address already in use)\n", path.display())
}

fn a_start_replaces_dead_sockets_alone() {
    std::thread::scope(|scope| {
        for directive in DIRECTIVES {
            for what in USED {
                // Each tries for two seconds.
                scope.spawn(move || {
                    let place = Place::new(&format!("{directive}word x;\n"));
                    let _live = put(&place, what);
                    fs::write(place.path("access.log"), "").unwrap();
                    let before = seen(&place.path(""));
                    let output = place.run("");
                    assert_eq!(seen(&place.path("")), before, "{directive}{what}");
                    assert_eq!(output.status.code(), Some(1), "{directive}{what}");
                    let stderr = String::from_utf8(output.stderr).unwrap();
                    assert!(stderr.contains(&in_use(&place)), "{directive}{what}: {stderr}");
                });
            }
        }
    });
    for directive in DIRECTIVES {
        let place = Place::new(&format!("{directive}listen unix:a.sock;\nword x;\n"));
        put(&place, "dead");
        place.start();
        UnixStream::connect(place.path("here.sock")).unwrap();
        let pid = place.pid();
        assert!(place.run("stop").status.success());
        place.ended(pid);
        assert!(!place.path("here.sock").exists());
    }
}

fn a_test_leaves_no_trace() {
    let place = Place::new(
        "listen unix:a.sock;\ncontrol run/c.sock 0600;\nerror_log error.log;\nlog other.log;\ntemp body;\nstate kept;\n",
    );
    // Of another owner and with other rights than a start would give it.
    fs::create_dir(place.path("body")).unwrap();
    fs::set_permissions(place.path("body"), fs::Permissions::from_mode(0o755)).unwrap();
    let before = seen(&place.path(""));
    let output = place.run("test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(seen(&place.path("")), before);
}

fn a_test_says_what_a_start_would_fail_at() {
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
        let place = Place::new(&format!("{line}\n"));
        fs::create_dir(place.path("body")).unwrap();
        let prefix = place.path("x").parent().unwrap().to_str().unwrap().to_owned();
        for action in ["test", ""] {
            let output = place.run(action);
            assert_eq!(output.status.code(), Some(1), "{line} {action}");
            let stderr = String::from_utf8(output.stderr).unwrap().replace(&prefix, "PREFIX");
            assert!(stderr.contains(&format!("pointsman: [emerg] {text}\n")), "{line} {action}: {stderr}");
        }
    }
}

fn no_folder_or_pid_file_is_made_of_another_file() {
    for (line, text) in
        [("temp data.db;", "failed (17: File exists)"), ("pid data.db;", "failed (17: File exists)")]
    {
        let place = Place::new(&format!("listen unix:a.sock;\n{line}\n"));
        fs::write(place.path("data.db"), "precious").unwrap();
        fs::write(place.path("access.log"), "").unwrap();
        let before = seen(&place.path(""));
        for action in ["test", ""] {
            let output = place.run(action);
            assert_eq!(output.status.code(), Some(1), "{line}");
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(stderr.contains(text), "{line}: {stderr}");
            assert_eq!(seen(&place.path("")), before, "{line}");
        }
    }
    // What a server that was killed has left is a pid file.
    for left in ["", "4711\n", "4711"] {
        let place = Place::new("listen unix:a.sock;\nword x;\n");
        fs::write(place.path("pid"), left).unwrap();
        place.start();
        until("the new number", || !place.read("pid").starts_with("4711"));
    }
}

fn a_replaced_socket_survives_its_server() {
    for mode in ["", "master_process off;\n"] {
        let place = Place::new(&format!(
            "{mode}listen unix:a.sock;\nlisten unix:b.sock;\nword x;\nerror_log error.log;\n"
        ));
        place.start();
        for name in ["a.sock", "b.sock"] {
            fs::remove_file(place.path(name)).unwrap();
        }
        fs::write(place.path("a.sock"), "precious").unwrap();
        let _other = UnixListener::bind(place.path("b.sock")).unwrap();
        let before = ["a.sock", "b.sock"].map(|name| place.path(name).metadata().unwrap().ino());
        // One is given up by a reload, the other at the end.
        place.configure(&format!("{mode}listen unix:a.sock;\nword y;\nerror_log error.log;\n"));
        place.kill(Signal::SIGHUP);
        place.await_text("error.log", "b.sock was replaced by another file, which is not removed");
        let pid = place.pid();
        assert!(place.run("stop").status.success());
        place.ended(pid);
        let after = ["a.sock", "b.sock"].map(|name| place.path(name).metadata().unwrap().ino());
        assert_eq!(after, before);
        assert_eq!(place.read("a.sock"), "precious");
    }
}

fn the_pid_file_of_another_survives() {
    let place = Place::new("listen unix:a.sock;\nword x;\n");
    place.start();
    let pid = place.pid();
    fs::write(place.path("pid"), "1\n").unwrap();
    kill(pid, Signal::SIGTERM);
    place.ended(pid);
    assert_eq!(place.read("pid"), "1\n");
}

fn an_upgraded_server_removes_its_own_socket_alone() {
    let place = Place::new("listen unix:a.sock;\nlisten unix:b.sock;\nword x;\nerror_log error.log;\n");
    place.start();
    let old = place.pid();
    // Before the upgrade: the new program finds another server's socket at the path of the one that it inherits.
    fs::remove_file(place.path("b.sock")).unwrap();
    let _other = UnixListener::bind(place.path("b.sock")).unwrap();
    kill(old, Signal::SIGUSR2);
    until("the new master", || place.path("pid.oldbin").exists() && place.pid() != old);
    until("its worker", || place.read("error.log").matches("ready to serve").count() == 2);
    kill(old, Signal::SIGQUIT);
    place.ended(old);
    let new = place.pid();
    assert!(place.path("a.sock").metadata().unwrap().file_type().is_socket());
    assert!(place.run("stop").status.success());
    place.ended(new);
    assert!(!place.path("a.sock").exists());
    UnixStream::connect(place.path("b.sock")).unwrap();
}

fn reopened_logs_are_given_away_by_their_own_name() {
    if !is_root() {
        // Nothing is given away.
        return;
    }
    let place =
        Place::new("listen unix:a.sock;\nword x;\nerror_log error.log;\nlog linked.log;\nlog twice.log;\n");
    for name in ["target", "first"] {
        fs::write(place.path(name), "root's").unwrap();
    }
    symlink(place.path("target"), place.path("linked.log")).unwrap();
    fs::hard_link(place.path("first"), place.path("twice.log")).unwrap();
    place.start();
    place.kill(Signal::SIGUSR1);
    place.await_text("error.log", "reopening logs");
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    until("the log's new owner", || owner_of(&place.path("error.log")) == nobody);
    until("the last log's reopening", || owner_of(&place.path("access.log")) == nobody);
    assert_eq!(["target", "first"].map(|name| owner_of(&place.path(name))), [0, 0]);
}
