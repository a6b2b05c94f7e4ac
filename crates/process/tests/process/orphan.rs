//! Workers whose master was killed: they serve on, until the next master takes their sockets or the time is over.

use crate::test_server::*;
use crate::upgrade::{Load, children, inode, upgrade};
use nix::sys::signal::Signal;
use std::net::{TcpListener, TcpStream};

pub const TESTS: &[(&str, fn())] = &[
    ("the_next_master_takes_over_from_an_orphan", the_next_master_takes_over_from_an_orphan),
    ("an_orphan_ends_when_its_time_is_over", an_orphan_ends_when_its_time_is_over),
    ("a_next_master_that_fails_leaves_the_orphan_alone", a_next_master_that_fails_leaves_the_orphan_alone),
    (
        "a_next_master_that_is_killed_leaves_the_orphan_alone",
        a_next_master_that_is_killed_leaves_the_orphan_alone,
    ),
    ("an_orphan_hands_over_what_a_reload_has_opened", an_orphan_hands_over_what_a_reload_has_opened),
    ("an_orphan_ends_while_another_master_runs", an_orphan_ends_while_another_master_runs),
    ("an_orphan_can_be_stopped", an_orphan_can_be_stopped),
    (
        "a_second_start_takes_nothing_from_a_running_server",
        a_second_start_takes_nothing_from_a_running_server,
    ),
    ("a_single_process_takes_over_from_an_orphan", a_single_process_takes_over_from_an_orphan),
];

const CONF: &str = "listen unix:a.sock;\nword one;\nerror_log error.log;\norphan_timeout 60;\n";

/// Kills the master, and returns the number of its worker, which serves on.
fn orphaned(server: &TestServer) -> i32 {
    let (master, worker) = (server.pid(), server.ask("a.sock").pid);
    assert!(children(master).contains(&worker));
    kill(master, Signal::SIGKILL);
    server.await_text("error.log", "the master process is gone: serving on for 60 s");
    assert_eq!(server.ask("a.sock").pid, worker);
    worker
}

fn the_next_master_takes_over_from_an_orphan() {
    let address = free_address();
    let server = TestServer::new(&format!("listen {address};\ncontrol run/c.sock 0600;\n{CONF}"));
    server.start();
    let files = ["a.sock", "run/c.sock", "pid.handover"];
    let before = files.map(|name| inode(&server, name));
    let load = Load::on(&address);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&load.stop);
        for _ in 0..2 {
            scope.spawn(|| load.run());
        }
        for _ in 0..5 {
            load.go_on();
            let orphan = orphaned(&server);
            load.go_on();
            server.start();
            server.ended(orphan);
            assert_eq!(children(server.pid()), [server.ask("a.sock").pid]);
            load.go_on();
            std::fs::write(server.path("error.log"), "").unwrap();
        }
    });
    assert_eq!(load.failed.into_inner(), 0, "{}", server.read("error.log"));
    assert_eq!(before, files.map(|name| inode(&server, name)));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(server.path("pid.handover")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let last = server.pid();
    assert!(server.run("stop").status.success());
    server.ended(last);
    for name in files {
        assert!(!server.path(name).exists(), "{name}");
    }
}

fn an_orphan_ends_when_its_time_is_over() {
    let server = TestServer::new(&CONF.replace("60", "1"));
    server.start();
    let worker = server.ask("a.sock").pid;
    let begun = std::os::unix::net::UnixStream::connect(server.path("a.sock")).unwrap();
    until("the connection is accepted", || server.ask("a.sock").pid == worker);
    kill(server.pid(), Signal::SIGKILL);
    server.await_text("error.log", "no other master process came in time");
    assert!(alive(worker), "it finishes what it has begun");
    assert!(hello(begun).starts_with("one"));
    server.ended(worker);
    assert!(std::os::unix::net::UnixStream::connect(server.path("a.sock")).is_err());
    server.start();
    assert_eq!(server.ask("a.sock").word, "one");
}

fn a_next_master_that_fails_leaves_the_orphan_alone() {
    let server = TestServer::new(CONF);
    server.start();
    let orphan = orphaned(&server);
    for (conf, error) in [
        ("broken;\n".to_owned(), "broken"),
        (format!("{CONF}init_fails no-good;\n"), "no-good"),
        (format!("{CONF}pid nowhere/pid;\nlisten unix:nowhere/b.sock;\n"), "nowhere"),
        // Another pid file: the orphan is not found, and has the socket.
        (CONF.replace("word", "pid a-folder;\nword"), "a.sock"),
    ] {
        let _ = std::fs::create_dir(server.path("a-folder"));
        server.configure(&conf);
        let output = server.run("");
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(error), "{error}: {said}");
        assert_eq!(server.ask("a.sock").pid, orphan, "{conf}");
    }
    server.configure(&CONF.replace("one", "two"));
    server.start();
    server.ended(orphan);
    assert_eq!(server.ask("a.sock").word, "two");
}

fn a_next_master_that_is_killed_leaves_the_orphan_alone() {
    let mut server = TestServer::new(CONF);
    server.start();
    let orphan = orphaned(&server);
    server.configure(&format!("daemon off;\n{CONF}init_waits never;\n"));
    let _ = std::fs::remove_file(server.path("pid"));
    server.start_in_foreground();
    server.await_text("error.log", "sockets sent to the next master process");
    let next = server.pid();
    kill(next, Signal::SIGKILL);
    let _ = server.foreground().wait();
    server.await_text("error.log", "the next master process is gone too, serving on");
    assert_eq!(server.ask("a.sock").pid, orphan);
    server.configure(CONF);
    server.start();
    server.ended(orphan);
    assert_eq!(children(server.pid()), [server.ask("a.sock").pid]);
}

fn an_orphan_hands_over_what_a_reload_has_opened() {
    let (given_up, added, never) = (free_address(), free_address(), free_address());
    let server = TestServer::new(&format!("{CONF}listen {given_up};\n"));
    server.start();
    server.configure(&format!("{CONF}listen {added};\nlisten unix:b.sock;\n"));
    assert!(server.run("reload").status.success());
    until("the reload", || TcpStream::connect(&added).is_ok());
    until("the old address to be free", || TcpListener::bind(&given_up).is_ok());
    // What a refused reload had opened is not kept.
    server.configure(&format!(
        "{CONF}listen {added};\nlisten unix:b.sock;\nlisten {never};\nreload_fails bad;\n"
    ));
    assert!(server.run("reload").status.success());
    server.await_text("error.log", "the previous one stays active");
    until("the address of the refused reload to be free", || TcpListener::bind(&never).is_ok());
    let orphan = orphaned(&server);
    let before = inode(&server, "b.sock");
    server.configure(&format!("{CONF}listen {added};\nlisten unix:b.sock;\n"));
    server.start();
    server.ended(orphan);
    let worker = server.ask("a.sock").pid;
    assert_eq!(server.ask("b.sock").pid, worker);
    assert_eq!(Reply::parse(&hello(TcpStream::connect(&added).unwrap())).pid, worker);
    assert_eq!(inode(&server, "b.sock"), before);
    assert!(TcpListener::bind(&given_up).is_ok());
}

fn an_orphan_ends_while_another_master_runs() {
    let server = TestServer::new(CONF);
    server.start();
    // The newer master of an upgrade is killed: the older one serves on.
    let (old, new) = upgrade(&server);
    let workers = children(new);
    kill(new, Signal::SIGKILL);
    workers.into_iter().for_each(|worker| server.ended(worker));
    until("the old pid file", || server.read("pid") == format!("{old}\n"));
    // The older one is.
    let (old, new) = upgrade(&server);
    let workers: Vec<i32> = children(old).into_iter().filter(|child| *child != new).collect();
    assert!(!workers.is_empty());
    kill(old, Signal::SIGKILL);
    workers.into_iter().for_each(|worker| server.ended(worker));
    assert_eq!(children(new), [server.ask("a.sock").pid]);
}

fn an_orphan_can_be_stopped() {
    for signal in [Signal::SIGTERM, Signal::SIGQUIT] {
        let server = TestServer::new(CONF);
        server.start();
        let orphan = orphaned(&server);
        kill(orphan, Signal::SIGHUP);
        assert_eq!(server.ask("a.sock").pid, orphan);
        kill(orphan, signal);
        server.ended(orphan);
    }
}

fn a_second_start_takes_nothing_from_a_running_server() {
    let server = TestServer::new(CONF);
    server.start();
    let (pid, worker) = (server.pid(), server.ask("a.sock").pid);
    let output = server.run("");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Address already in use"));
    assert_eq!((server.pid(), server.ask("a.sock").pid), (pid, worker));
    let orphan = orphaned(&server);
    server.start();
    server.ended(orphan);
}

fn a_single_process_takes_over_from_an_orphan() {
    let server = TestServer::new(CONF);
    server.start();
    let orphan = orphaned(&server);
    server.configure(&format!("master_process off;\n{CONF}"));
    server.start();
    server.ended(orphan);
    assert_eq!(server.ask("a.sock").pid, server.pid());
}
