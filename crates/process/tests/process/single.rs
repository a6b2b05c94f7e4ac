//! `master_process off`.

use crate::test_server::*;
use nix::sys::signal::Signal;

pub const TESTS: &[(&str, fn())] = &[
    ("a_single_process_serves_and_stops", a_single_process_serves_and_stops),
    ("a_single_process_reloads_in_place", a_single_process_reloads_in_place),
    ("a_single_process_reopens_its_logs", a_single_process_reopens_its_logs),
    ("a_single_process_finishes_open_requests", a_single_process_finishes_open_requests),
];

const CONF: &str = "master_process off;\nlisten unix:a.sock;\nword one;\nerror_log error.log;\n";

fn a_single_process_serves_and_stops() {
    let server = TestServer::new(CONF);
    server.start();
    let pid = server.pid();
    let answer = server.ask("a.sock");
    assert_eq!((answer.pid, answer.generation), (pid, 1));
    assert!(server.run("stop").status.success());
    server.ended(pid);
    assert!(!server.path("pid").exists() && !server.path("a.sock").exists());
    let log = server.read("error.log");
    assert!(log.contains("signal 15 (SIGTERM) received from") && log.ends_with(": exit\n"), "{log}");
}

fn a_single_process_reloads_in_place() {
    let server = TestServer::new(CONF);
    server.start();
    server.configure("broken;\n");
    server.kill(Signal::SIGHUP);
    server.await_text("error.log", "unknown directive");
    assert_eq!(server.ask("a.sock").word, "one");

    server.configure(&CONF.replace("one", "two").replace("a.sock", "b.sock"));
    server.kill(Signal::SIGHUP);
    server.await_text("error.log", "exited with code 0");
    let answer = server.ask("b.sock");
    assert_eq!((answer.word.as_str(), answer.generation, answer.pid), ("two", 2, server.pid()));
    until("the first socket's file to go", || !server.path("a.sock").exists());

    server.configure(&CONF.replace("one", "three\nreload_fails bad-lua"));
    server.kill(Signal::SIGHUP);
    server.await_text("error.log", "bad-lua");
    assert_eq!(server.ask("b.sock").word, "two");

    for number in 0..20 {
        server.configure(&CONF.replace("one", &format!("w{number}")));
        server.kill(Signal::SIGHUP);
    }
    until("the last word", || server.path("a.sock").exists() && server.ask("a.sock").word == "w19");
}

fn a_single_process_reopens_its_logs() {
    let server = TestServer::new(CONF);
    server.start();
    server.ask("a.sock");
    server.await_text("access.log", "served one");
    std::fs::rename(server.path("access.log"), server.path("access.log.1")).unwrap();
    server.kill(Signal::SIGUSR1);
    until("a line in the new file", || {
        server.ask("a.sock");
        server.read("access.log").contains("served one")
    });
}

fn a_single_process_finishes_open_requests() {
    let server = TestServer::new(CONF);
    server.start();
    let pid = server.pid();
    let begun = std::os::unix::net::UnixStream::connect(server.path("a.sock")).unwrap();
    server.ask("a.sock");
    server.kill(Signal::SIGQUIT);
    server.await_text("error.log", "gracefully shutting down");
    assert!(alive(pid));
    assert!(hello(begun).starts_with("one"));
    server.ended(pid);
}
