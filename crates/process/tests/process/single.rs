//! `master_process off`.

use crate::place::*;
use nix::sys::signal::Signal;

pub const TESTS: &[(&str, fn())] = &[
    ("one_process_does_it_all", one_process_does_it_all),
    ("one_process_reloads_in_place", one_process_reloads_in_place),
    ("one_process_reopens_its_logs", one_process_reopens_its_logs),
    ("one_process_finishes_what_has_begun", one_process_finishes_what_has_begun),
];

const CONF: &str = "master_process off;\nlisten unix:a.sock;\nword one;\nerror_log error.log;\n";

fn one_process_does_it_all() {
    let place = Place::new(CONF);
    place.start();
    let pid = place.pid();
    let answer = place.ask("a.sock");
    assert_eq!((answer.pid, answer.generation), (pid, 1));
    assert!(place.run("stop").status.success());
    place.ended(pid);
    assert!(!place.path("pid").exists() && !place.path("a.sock").exists());
    let log = place.read("error.log");
    assert!(log.contains("signal 15 (SIGTERM) received from") && log.ends_with(": exit\n"), "{log}");
}

fn one_process_reloads_in_place() {
    let place = Place::new(CONF);
    place.start();
    place.configure("broken;\n");
    place.kill(Signal::SIGHUP);
    place.await_text("error.log", "unknown directive");
    assert_eq!(place.ask("a.sock").word, "one");

    place.configure(&CONF.replace("one", "two").replace("a.sock", "b.sock"));
    place.kill(Signal::SIGHUP);
    place.await_text("error.log", "exited with code 0");
    let answer = place.ask("b.sock");
    assert_eq!((answer.word.as_str(), answer.generation, answer.pid), ("two", 2, place.pid()));
    until("the first socket's file to go", || !place.path("a.sock").exists());

    place.configure(&CONF.replace("one", "three\nreload_fails bad-lua"));
    place.kill(Signal::SIGHUP);
    place.await_text("error.log", "bad-lua");
    assert_eq!(place.ask("b.sock").word, "two");

    for number in 0..20 {
        place.configure(&CONF.replace("one", &format!("w{number}")));
        place.kill(Signal::SIGHUP);
    }
    until("the last word", || place.path("a.sock").exists() && place.ask("a.sock").word == "w19");
}

fn one_process_reopens_its_logs() {
    let place = Place::new(CONF);
    place.start();
    place.ask("a.sock");
    place.await_text("access.log", "said one");
    std::fs::rename(place.path("access.log"), place.path("access.log.1")).unwrap();
    place.kill(Signal::SIGUSR1);
    until("a line in the new file", || {
        place.ask("a.sock");
        place.read("access.log").contains("said one")
    });
}

fn one_process_finishes_what_has_begun() {
    let place = Place::new(CONF);
    place.start();
    let pid = place.pid();
    let begun = std::os::unix::net::UnixStream::connect(place.path("a.sock")).unwrap();
    place.ask("a.sock");
    place.kill(Signal::SIGQUIT);
    place.await_text("error.log", "gracefully shutting down");
    assert!(alive(pid));
    assert!(hello(begun).starts_with("one"));
    place.ended(pid);
}
