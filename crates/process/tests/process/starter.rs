//! The output of the command that started a daemon: its reader must see the end.

use crate::test_server::*;
use nix::sys::signal::Signal;

pub const TESTS: &[(&str, fn())] = &[
    ("promise_14_a_daemon_closes_its_starters_output", promise_14_a_daemon_closes_its_starters_output),
    (
        "promise_14_a_failed_start_is_reported_to_the_starter",
        promise_14_a_failed_start_is_reported_to_the_starter,
    ),
    ("a_daemon_that_logs_to_stderr_keeps_it", a_daemon_that_logs_to_stderr_keeps_it),
    ("a_reload_away_from_stderr_closes_it", a_reload_away_from_stderr_closes_it),
    ("promise_14_an_upgraded_daemon_closes_stderr_too", promise_14_an_upgraded_daemon_closes_stderr_too),
    ("stderr_of_a_daemon_is_its_last_redirection", stderr_of_a_daemon_is_its_last_redirection),
    ("in_the_foreground_stderr_is_restored", in_the_foreground_stderr_is_restored),
];

const CONF: &str = "listen unix:a.sock;\nword one;\nerror_log error.log;\n";
const MODES: [&str; 2] = ["", "master_process off;\n"];

fn promise_14_a_daemon_closes_its_starters_output() {
    for mode in MODES {
        let server = TestServer::new(&format!("{mode}warn careful;\n{CONF}"));
        let (status, mut output) = server.start_piped();
        assert!(status.success());
        let text = output.until_end();
        assert!(text.starts_with("pointsman: [warn] careful in "), "{text}");
        assert_eq!(server.ask("a.sock").word, "one");
        server.await_text("error.log", "on stderr in generation 1");
    }
}

fn promise_14_a_failed_start_is_reported_to_the_starter() {
    for mode in MODES {
        let server = TestServer::new(&format!("{mode}{CONF}init_fails no-lua;\n"));
        let (status, mut output) = server.start_piped();
        assert_eq!(status.code(), Some(1));
        assert!(output.until_end().contains("pointsman: [emerg] no-lua\n"));
    }
}

fn a_daemon_that_logs_to_stderr_keeps_it() {
    let server = TestServer::new(&CONF.replace("error.log", "stderr"));
    let (status, mut output) = server.start_piped();
    assert!(status.success());
    server.ask("a.sock");
    output.until_text("on stderr in generation 1");
    kill(server.ask("a.sock").pid, Signal::SIGKILL);
    output.until_text("exited on signal 9");
    let pid = server.pid();
    assert!(server.run("stop").status.success());
    server.ended(pid);
    assert!(output.until_end().contains(": exit\n"));
}

fn a_reload_away_from_stderr_closes_it() {
    // In server, and with another worker process.
    for other in ["", "open_files 500;\n"] {
        for mode in MODES {
            let server = TestServer::new(&format!("{mode}{}", CONF.replace("error.log", "stderr")));
            let (status, mut output) = server.start_piped();
            assert!(status.success());
            let worker = server.ask("a.sock").pid;
            server.configure(&format!("{mode}{other}{CONF}"));
            server.kill(Signal::SIGHUP);
            output.until_end();
            if mode.is_empty() {
                assert_eq!(server.ask("a.sock").pid == worker, other.is_empty());
            }
            server.ask("a.sock");
            server.await_text("error.log", "on stderr in generation 2");
            kill(server.ask("a.sock").pid, Signal::SIGTERM);
            server.await_text("error.log", ": exit\n");
        }
    }
}

fn promise_14_an_upgraded_daemon_closes_stderr_too() {
    let server = TestServer::new(&CONF.replace("error.log", "stderr"));
    let (status, mut output) = server.start_piped();
    assert!(status.success());
    let old = server.pid();
    server.configure(CONF);
    kill(old, Signal::SIGUSR2);
    // Before it has a log of its own, the new program writes to that of the old one.
    server.await_text("error.log", "ready to serve");
    until("the new master's pid file", || server.pid() != old);
    kill(old, Signal::SIGQUIT);
    output.until_end();
    server.ended(old);
    assert_eq!(server.ask("a.sock").word, "one");
}

fn stderr_of_a_daemon_is_its_last_redirection() {
    let server = TestServer::new(CONF);
    let (status, mut output) = server.start_piped();
    assert!(status.success());
    output.until_end();
    server.configure(&CONF.replace("error.log", "stderr"));
    server.kill(Signal::SIGHUP);
    server.await_text("error.log", "generation 2 is here");
    // After a rename the same path is another file.
    std::fs::rename(server.path("error.log"), server.path("error.log.1")).unwrap();
    server.configure(CONF);
    server.kill(Signal::SIGHUP);
    server.await_text("error.log", "generation 3 is here");
    std::fs::rename(server.path("error.log"), server.path("error.log.2")).unwrap();
    server.kill(Signal::SIGUSR1);
    until("a line in the new file", || {
        server.ask("a.sock");
        server.read("error.log").contains("on stderr in generation 3")
    });
}

fn in_the_foreground_stderr_is_restored() {
    let mut server = TestServer::new(&format!("daemon off;\n{CONF}"));
    server.start_in_foreground();
    server.ask("a.sock");
    server.await_text("error.log", "on stderr in generation 1");
    server.configure(&format!("daemon off;\n{}", CONF.replace("error.log", "stderr")));
    server.kill(Signal::SIGHUP);
    server.await_text("stderr", "generation 2 is here");
}
