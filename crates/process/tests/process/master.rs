//! The master at work: reload, reopening, crashes, the end.

use crate::place::*;
use nix::sys::signal::Signal;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub const TESTS: &[(&str, fn())] = &[
    ("quit_waits_for_what_has_begun", quit_waits_for_what_has_begun),
    ("stop_does_not_wait", stop_does_not_wait),
    ("a_reload_keeps_the_worker_and_its_sockets", a_reload_keeps_the_worker_and_its_sockets),
    ("a_faulty_reload_changes_nothing", a_faulty_reload_changes_nothing),
    ("a_reload_the_worker_refuses_changes_nothing", a_reload_the_worker_refuses_changes_nothing),
    ("a_reload_that_needs_another_process_gets_one", a_reload_that_needs_another_process_gets_one),
    ("an_address_given_up_is_free_again", an_address_given_up_is_free_again),
    ("standard_error_follows_the_error_log", standard_error_follows_the_error_log),
    ("many_reloads_at_once_end_with_the_last", many_reloads_at_once_end_with_the_last),
    ("a_reload_waits_for_a_worker_that_begins", a_reload_waits_for_a_worker_that_begins),
    ("a_worker_that_keeps_dying_is_started_ever_later", a_worker_that_keeps_dying_is_started_ever_later),
    ("a_killed_worker_costs_no_connection", a_killed_worker_costs_no_connection),
    ("the_socket_for_commands_outlives_workers", the_socket_for_commands_outlives_workers),
    ("a_terminated_worker_is_replaced", a_terminated_worker_is_replaced),
    ("logs_are_reopened", logs_are_reopened),
    ("a_worker_without_master_finishes_and_goes", a_worker_without_master_finishes_and_goes),
    ("winch_rests_and_hup_wakes", winch_rests_and_hup_wakes),
    ("the_pid_file_moves_with_a_reload", the_pid_file_moves_with_a_reload),
    ("a_stuck_worker_is_killed_in_the_end", a_stuck_worker_is_killed_in_the_end),
];

const CONF: &str = "listen unix:a.sock;\nword one;\nerror_log error.log;\n";

fn quit_waits_for_what_has_begun() {
    let place = Place::new(CONF);
    place.start();
    let pid = place.pid();
    let begun = begin(&place);
    assert!(place.run("quit").status.success());
    place.await_text("error.log", "gracefully shutting down");
    until("closed sockets", || UnixStream::connect(place.path("a.sock")).is_err());
    assert!(alive(pid));
    assert!(hello(begun).starts_with("one generation=1"));
    place.ended(pid);
    assert!(!place.path("pid").exists());
    assert!(!place.read("error.log").contains("[alert]"));
}

/// A connection that the worker has accepted and reads from.
fn begin(place: &Place) -> UnixStream {
    let stream = UnixStream::connect(place.path("a.sock")).unwrap();
    // Connections are accepted in order: once a later one is answered, this one is taken.
    place.ask("a.sock");
    stream
}

fn stop_does_not_wait() {
    let place = Place::new(CONF);
    place.start();
    let pid = place.pid();
    let begun = begin(&place);
    place.kill(Signal::SIGTERM);
    place.ended(pid);
    assert_eq!(read_line(begun), "");
}

fn a_reload_keeps_the_worker_and_its_sockets() {
    let place = Place::new(CONF);
    place.start();
    let before = place.ask("a.sock");
    let inode = inode(&place, "a.sock");
    let begun = begin(&place);
    place.configure("listen unix:a.sock;\nlisten unix:b.sock;\nword two;\nerror_log second.log;\n");
    assert!(place.run("reload").status.success());
    place.await_text("second.log", "exited with code 0");
    let after = place.ask("b.sock");
    assert_eq!((after.word.as_str(), after.generation, after.pid), ("two", 2, before.pid));
    assert_eq!(place.ask("a.sock").word, "two");
    assert_eq!(inode, self::inode(&place, "a.sock"));
    assert!(hello(begun).starts_with("two"), "a connection begun before the reload is served");
    assert!(place.read("second.log").contains("generation 2 is here"));
    assert!(place.read("error.log").contains("reconfiguring"));

    place.configure("listen unix:b.sock;\nword three;\nerror_log second.log;\n");
    place.kill(Signal::SIGHUP);
    until("the third generation", || place.ask("b.sock").word == "three");
    until("the first socket's file to go", || !place.path("a.sock").exists());
    assert!(!place.read("second.log").contains("[alert]"));
}

fn inode(place: &Place, name: &str) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(place.path(name)).unwrap())
}

fn a_faulty_reload_changes_nothing() {
    let place = Place::new(CONF);
    place.start();
    let faulty = [
        ("wrong;\n".to_owned(), "[emerg]"),
        (
            "listen unix:nowhere/b.sock;\nlisten unix:c.sock;\nword two;\n".to_owned(),
            "failed (2: No such file",
        ),
        ("listen unix:c.sock;\nlog nowhere/log;\nword two;\n".to_owned(), "nowhere/log\" failed"),
    ];
    for (conf, text) in faulty {
        place.configure(&conf);
        place.kill(Signal::SIGHUP);
        place.await_text("error.log", text);
        let answer = place.ask("a.sock");
        assert_eq!((answer.word.as_str(), answer.generation), ("one", 1));
        assert!(!place.path("c.sock").exists());
    }
}

fn a_reload_the_worker_refuses_changes_nothing() {
    let place = Place::new(CONF);
    place.start();
    place.configure("listen unix:a.sock;\nlisten unix:b.sock;\nword two;\nreload_fails bad-lua;\n");
    place.kill(Signal::SIGHUP);
    place.await_text("error.log", "bad-lua");
    until("the new socket to go", || !place.path("b.sock").exists());
    assert_eq!(place.ask("a.sock").word, "one");
    // The way is free for another.
    place.configure("listen unix:a.sock;\nword three;\nerror_log error.log;\n");
    place.kill(Signal::SIGHUP);
    until("the next reload", || place.ask("a.sock").word == "three");
}

fn a_reload_that_needs_another_process_gets_one() {
    let place = Place::new(CONF);
    place.start();
    let before = place.ask("a.sock");
    let begun = begin(&place);
    place.configure(&format!("{CONF}open_files 512;\nword two;\n"));
    place.kill(Signal::SIGHUP);
    place.await_text("error.log", "gracefully shutting down");
    // Both accept until the old one has heard of it.
    let mut after = place.ask("a.sock");
    until("another worker", || {
        after = place.ask("a.sock");
        after.pid != before.pid
    });
    assert_eq!((after.word.as_str(), after.generation), ("two", 2));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", after.pid)).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert!(files.contains(" 512 "), "{files}");
    assert!(hello(begun).starts_with("one"), "the old process finishes what it has begun");
    place.await_text("error.log", &format!("worker process {} exited with code 0", before.pid));

    // A new process that cannot start leaves the old one in its place.
    place.configure(&format!("{CONF}open_files 600;\ninit_fails no-good;\n"));
    place.kill(Signal::SIGHUP);
    place.await_text("error.log", "the previous one stays active");
    assert_eq!(place.ask("a.sock").pid, after.pid);
}

fn an_address_given_up_is_free_again() {
    let address = free_address();
    let place = Place::new(&format!("{CONF}listen {address};\n"));
    place.start();
    // A worker that was forked for a reload must not hold more than its own descriptors either.
    place.configure(&format!("{CONF}listen {address};\nopen_files 512;\nword two;\n"));
    place.kill(Signal::SIGHUP);
    place.await_text("error.log", "exited with code 0");
    assert_eq!(place.ask("a.sock").word, "two");
    place.configure(&format!("{CONF}open_files 512;\nword three;\n"));
    place.kill(Signal::SIGHUP);
    until("the third generation", || place.ask("a.sock").word == "three");
    until("the address to be free", || std::net::TcpListener::bind(&address).is_ok());
}

fn standard_error_follows_the_error_log() {
    let place = Place::new(CONF);
    place.start();
    place.ask("a.sock");
    place.await_text("error.log", "on stderr in generation 1");
    std::fs::rename(place.path("error.log"), place.path("error.log.1")).unwrap();
    place.kill(Signal::SIGUSR1);
    until("a line in the new file", || {
        place.ask("a.sock");
        place.read("error.log").contains("on stderr in generation 1")
    });
    place.configure(&CONF.replace("error.log", "second.log"));
    place.kill(Signal::SIGHUP);
    until("a line in the second log", || {
        place.ask("a.sock");
        place.read("second.log").contains("on stderr in generation 2")
    });
}

fn many_reloads_at_once_end_with_the_last() {
    let place = Place::new(CONF);
    place.start();
    for number in 0..30 {
        place.configure(&CONF.replace("one", &format!("w{number}")));
        place.kill(Signal::SIGHUP);
    }
    until("the last word", || place.ask("a.sock").word == "w29");
    assert!(!place.read("error.log").contains("[alert]"));
}

fn a_reload_waits_for_a_worker_that_begins() {
    let mut place = Place::new(&format!("daemon off;\n{CONF}init_waits go;\n"));
    place.start_in_foreground();
    // Only a worker can say that it does not take this; a process started beside it would not be asked.
    place.configure("listen unix:a.sock;\nword two;\nerror_log error.log;\nreload_fails bad-lua;\n");
    place.kill(Signal::SIGHUP);
    place.await_text("error.log", ", reconfiguring");
    std::fs::write(place.path("go"), "").unwrap();
    place.await_text("error.log", "bad-lua");
    place.await_text("error.log", "the previous one stays active");
    assert_eq!(place.ask("a.sock").word, "one");
    assert_eq!(place.read("error.log").matches("start worker process ").count(), 1);
}

fn a_worker_that_keeps_dying_is_started_ever_later() {
    let place = Place::new(&format!("{CONF}dies_while bad\n"));
    place.start();
    let worker = place.ask("a.sock").pid;
    std::fs::write(place.path("bad"), "").unwrap();
    slay(worker, Signal::SIGSEGV);
    place.await_text("error.log", &format!("worker process {worker} exited on signal 11"));
    place.await_text("error.log", "[alert]");
    place.await_text("error.log", "keep dying; the next one is started in 400 ms");
    // Who comes meanwhile waits.
    let early = UnixStream::connect(place.path("a.sock")).unwrap();
    std::fs::remove_file(place.path("bad")).unwrap();
    assert!(hello(early).starts_with("one"));
    // A reload does not wait for the pause to be over.
    std::fs::write(place.path("bad"), "").unwrap();
    slay(place.ask("a.sock").pid, Signal::SIGABRT);
    place.await_text("error.log", "the next one is started in 1600 ms");
    place.configure(&CONF.replace("one", "two"));
    place.kill(Signal::SIGHUP);
    until("the corrected one", || place.ask("a.sock").word == "two");
}

/// Sends a signal until the process is dead: Rust's runtime takes a first SIGSEGV for a fault that will come again.
fn slay(pid: i32, signal: Signal) {
    until("its death", || {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        !alive(pid)
    });
}

fn a_killed_worker_costs_no_connection() {
    let address = free_address();
    let place = Place::new(&format!("listen {address};\n{CONF}"));
    place.start();
    let (refused, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    match std::net::TcpStream::connect(&address) {
                        Err(_) => refused.fetch_add(1, Ordering::SeqCst),
                        // A connection that the dead worker had accepted is lost with it; writing may fail then.
                        Ok(mut stream) => {
                            let said = stream.write_all(b"hello\n").map(|()| read_line(stream));
                            answered.fetch_add(
                                usize::from(said.is_ok_and(|line| line.starts_with("one"))),
                                Ordering::SeqCst,
                            )
                        }
                    };
                }
            });
        }
        for signal in [Signal::SIGKILL, Signal::SIGSEGV, Signal::SIGABRT] {
            let seen = answered.load(Ordering::SeqCst);
            until("answers", || answered.load(Ordering::SeqCst) > seen + 20);
            let worker = place.ask("a.sock").pid;
            slay(worker, signal);
            let number = signal as i32;
            place.await_text("error.log", &format!("worker process {worker} exited on signal {number}"));
        }
        let seen = answered.load(Ordering::SeqCst);
        until("answers", || answered.load(Ordering::SeqCst) > seen + 20);
    });
    assert_eq!(refused.into_inner(), 0);
    assert_eq!(place.read("error.log").matches("start worker process ").count(), 4);
}

fn the_socket_for_commands_outlives_workers() {
    let conf = format!("control run/c.sock 0600;\nstate kept;\nstate .;\n{CONF}");
    let place = Place::new(&conf);
    let folder_before = owner_of(&place.path(""));
    place.start();
    let rights = |place: &Place, name: &str| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(place.path(name)).unwrap().permissions())
            & 0o777
    };
    assert_eq!(rights(&place, "run/c.sock"), 0o600);
    let inode = inode(&place, "run/c.sock");
    let worker = place.ask("run/c.sock");
    if is_root() {
        assert_eq!(owner_of(&place.path("kept")), worker.uid, "the folder that was made is the worker's");
        assert_eq!(owner_of(&place.path("")), folder_before, "the one that was there is not");
        assert_eq!(owner_of(&place.path("run/c.sock")), 0);
    }
    kill(worker.pid, Signal::SIGKILL);
    place.await_text("error.log", &format!("worker process {} exited on signal 9", worker.pid));
    // Nothing is refused meanwhile: who comes now waits for the next worker.
    assert_ne!(place.ask("run/c.sock").pid, worker.pid);
    assert_eq!(self::inode(&place, "run/c.sock"), inode);

    place.configure(&conf.replace("0600", "0660").replace("one", "two"));
    place.kill(Signal::SIGHUP);
    until("the second generation", || place.ask("run/c.sock").word == "two");
    assert_eq!((self::inode(&place, "run/c.sock"), rights(&place, "run/c.sock")), (inode, 0o660));
    place.configure(CONF);
    place.kill(Signal::SIGHUP);
    until("the socket to go", || !place.path("run/c.sock").exists());
}

fn a_terminated_worker_is_replaced() {
    let place = Place::new(CONF);
    place.start();
    let before = place.ask("a.sock").pid;
    kill(before, Signal::SIGTERM);
    until("another worker", || {
        UnixStream::connect(place.path("a.sock")).is_ok_and(|stream| {
            hello(stream).split_once("pid=").is_some_and(|(_, rest)| !rest.starts_with(&before.to_string()))
        })
    });
    place.await_text("error.log", &format!("worker process {before} exited with code 0"));
}

fn logs_are_reopened() {
    let place = Place::new(CONF);
    place.start();
    place.ask("a.sock");
    place.await_text("access.log", "said one");
    for name in ["access.log", "error.log"] {
        std::fs::rename(place.path(name), place.path(&format!("{name}.1"))).unwrap();
    }
    assert!(place.run("reopen").status.success());
    until("new files", || place.path("access.log").exists() && place.path("error.log").exists());
    until("a line in the new file", || {
        place.ask("a.sock");
        place.read("access.log").contains("said one")
    });
    if is_root() {
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
        assert_eq!(owner_of(&place.path("access.log")), nobody);
    }
    let pid = place.pid();
    assert!(place.run("stop").status.success());
    place.ended(pid);
    assert!(place.read("error.log").ends_with(": exit\n"));
    assert!(place.read("error.log.1").contains("reopening logs"));
}

fn a_worker_without_master_finishes_and_goes() {
    let place = Place::new(CONF);
    place.start();
    let worker = place.ask("a.sock").pid;
    let begun = begin(&place);
    place.kill(Signal::SIGKILL);
    place.await_text("error.log", "the master process is gone");
    assert!(alive(worker));
    assert!(hello(begun).starts_with("one"));
    place.ended(worker);
    // What was left behind is in no one's way.
    place.start();
    assert_eq!(place.ask("a.sock").word, "one");
}

fn winch_rests_and_hup_wakes() {
    let place = Place::new(CONF);
    place.start();
    let worker = place.ask("a.sock").pid;
    place.kill(Signal::SIGWINCH);
    place.ended(worker);
    place.await_text("error.log", &format!("worker process {worker} exited with code 0"));
    // The socket is still there, and a client that connects now is served later.
    let early = UnixStream::connect(place.path("a.sock")).unwrap();
    place.kill(Signal::SIGHUP);
    assert!(hello(early).starts_with("one generation=2"));
}

fn the_pid_file_moves_with_a_reload() {
    let place = Place::new(CONF);
    place.start();
    let pid = place.pid();
    place.configure(&format!("{CONF}pid moved;\n"));
    place.kill(Signal::SIGHUP);
    until("the new pid file", || place.read("moved") == format!("{pid}\n") && !place.path("pid").exists());
    assert!(place.run("stop").status.success());
    place.ended(pid);
    assert!(!place.path("moved").exists());
}

fn a_stuck_worker_is_killed_in_the_end() {
    let place = Place::new(CONF);
    place.start();
    let (pid, worker) = (place.pid(), place.ask("a.sock").pid);
    kill(worker, Signal::SIGSTOP);
    place.kill(Signal::SIGTERM);
    place.ended(pid);
    assert!(!alive(worker));
    assert!(place.read("error.log").contains(&format!("worker process {worker} exited on signal 9")));
}
