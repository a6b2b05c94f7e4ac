//! The command that started a daemon: when the reader of its output hears the end.

use crate::place::*;
use nix::sys::signal::Signal;

pub const TESTS: &[(&str, fn())] = &[
    ("a_daemon_lets_go_of_its_starters_output", a_daemon_lets_go_of_its_starters_output),
    ("a_failed_start_is_told_to_the_starter", a_failed_start_is_told_to_the_starter),
    ("a_daemon_that_logs_to_stderr_keeps_it", a_daemon_that_logs_to_stderr_keeps_it),
    ("a_reload_away_from_stderr_lets_go_of_it", a_reload_away_from_stderr_lets_go_of_it),
    ("an_upgraded_daemon_lets_go_of_stderr_too", an_upgraded_daemon_lets_go_of_stderr_too),
    ("stderr_of_a_daemon_means_where_it_was_sent_last", stderr_of_a_daemon_means_where_it_was_sent_last),
    ("in_the_foreground_stderr_stays_what_it_was", in_the_foreground_stderr_stays_what_it_was),
];

const CONF: &str = "listen unix:a.sock;\nword one;\nerror_log error.log;\n";
const MODES: [&str; 2] = ["", "master_process off;\n"];

fn a_daemon_lets_go_of_its_starters_output() {
    for mode in MODES {
        let place = Place::new(&format!("{mode}warn careful;\n{CONF}"));
        let (status, mut output) = place.start_piped();
        assert!(status.success());
        let text = output.until_end();
        assert!(text.starts_with("pointsman: [warn] careful in "), "{text}");
        assert_eq!(place.ask("a.sock").word, "one");
        place.await_text("error.log", "on stderr in generation 1");
    }
}

fn a_failed_start_is_told_to_the_starter() {
    for mode in MODES {
        let place = Place::new(&format!("{mode}{CONF}init_fails no-lua;\n"));
        let (status, mut output) = place.start_piped();
        assert_eq!(status.code(), Some(1));
        assert!(output.until_end().contains("pointsman: [emerg] no-lua\n"));
    }
}

fn a_daemon_that_logs_to_stderr_keeps_it() {
    let place = Place::new(&CONF.replace("error.log", "stderr"));
    let (status, mut output) = place.start_piped();
    assert!(status.success());
    place.ask("a.sock");
    output.until_text("on stderr in generation 1");
    kill(place.ask("a.sock").pid, Signal::SIGKILL);
    output.until_text("exited on signal 9");
    let pid = place.pid();
    assert!(place.run("stop").status.success());
    place.ended(pid);
    assert!(output.until_end().contains(": exit\n"));
}

fn a_reload_away_from_stderr_lets_go_of_it() {
    // In place, and with another worker process.
    for other in ["", "open_files 500;\n"] {
        for mode in MODES {
            let place = Place::new(&format!("{mode}{}", CONF.replace("error.log", "stderr")));
            let (status, mut output) = place.start_piped();
            assert!(status.success());
            let worker = place.ask("a.sock").pid;
            place.configure(&format!("{mode}{other}{CONF}"));
            place.kill(Signal::SIGHUP);
            output.until_end();
            if mode.is_empty() {
                assert_eq!(place.ask("a.sock").pid == worker, other.is_empty());
            }
            place.ask("a.sock");
            place.await_text("error.log", "on stderr in generation 2");
            kill(place.ask("a.sock").pid, Signal::SIGTERM);
            place.await_text("error.log", ": exit\n");
        }
    }
}

fn an_upgraded_daemon_lets_go_of_stderr_too() {
    let place = Place::new(&CONF.replace("error.log", "stderr"));
    let (status, mut output) = place.start_piped();
    assert!(status.success());
    let old = place.pid();
    place.configure(CONF);
    kill(old, Signal::SIGUSR2);
    // What the new program says before it has a log of its own goes to the old one's.
    place.await_text("error.log", "ready to serve");
    until("the new master's pid file", || place.pid() != old);
    kill(old, Signal::SIGQUIT);
    output.until_end();
    place.ended(old);
    assert_eq!(place.ask("a.sock").word, "one");
}

fn stderr_of_a_daemon_means_where_it_was_sent_last() {
    let place = Place::new(CONF);
    let (status, mut output) = place.start_piped();
    assert!(status.success());
    output.until_end();
    place.configure(&CONF.replace("error.log", "stderr"));
    place.kill(Signal::SIGHUP);
    place.await_text("error.log", "generation 2 is here");
    // A file that is named again is another one after it was renamed.
    std::fs::rename(place.path("error.log"), place.path("error.log.1")).unwrap();
    place.configure(CONF);
    place.kill(Signal::SIGHUP);
    place.await_text("error.log", "generation 3 is here");
    std::fs::rename(place.path("error.log"), place.path("error.log.2")).unwrap();
    place.kill(Signal::SIGUSR1);
    until("a line in the new file", || {
        place.ask("a.sock");
        place.read("error.log").contains("on stderr in generation 3")
    });
}

fn in_the_foreground_stderr_stays_what_it_was() {
    let mut place = Place::new(&format!("daemon off;\n{CONF}"));
    place.start_in_foreground();
    place.ask("a.sock");
    place.await_text("error.log", "on stderr in generation 1");
    place.configure(&format!("daemon off;\n{}", CONF.replace("error.log", "stderr")));
    place.kill(Signal::SIGHUP);
    place.await_text("stderr", "generation 2 is here");
}
