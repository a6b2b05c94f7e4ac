//! The master at work: reload, reopening, crashes, the end.

use crate::test_server::*;
use nix::sys::signal::Signal;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub const TESTS: &[(&str, fn())] = &[
    ("quit_waits_for_open_requests", quit_waits_for_open_requests),
    ("stop_does_not_wait", stop_does_not_wait),
    ("a_reload_keeps_the_worker_and_its_sockets", a_reload_keeps_the_worker_and_its_sockets),
    ("an_invalid_reload_changes_nothing", an_invalid_reload_changes_nothing),
    ("a_reload_that_the_worker_refuses_changes_nothing", a_reload_that_the_worker_refuses_changes_nothing),
    ("a_reload_with_other_limits_starts_a_new_process", a_reload_with_other_limits_starts_a_new_process),
    ("an_address_that_a_reload_drops_is_free", an_address_that_a_reload_drops_is_free),
    ("standard_error_follows_the_error_log", standard_error_follows_the_error_log),
    ("of_many_reloads_the_last_one_wins", of_many_reloads_the_last_one_wins),
    ("a_reload_waits_for_a_starting_worker", a_reload_waits_for_a_starting_worker),
    ("a_crash_loop_is_slowed_down", a_crash_loop_is_slowed_down),
    ("a_killed_worker_refuses_no_connection", a_killed_worker_refuses_no_connection),
    ("the_control_socket_outlives_workers", the_control_socket_outlives_workers),
    ("a_terminated_worker_is_replaced", a_terminated_worker_is_replaced),
    ("logs_are_reopened", logs_are_reopened),
    ("a_worker_without_master_finishes_and_exits", a_worker_without_master_finishes_and_exits),
    ("winch_stops_workers_and_hup_starts_them", winch_stops_workers_and_hup_starts_them),
    ("the_pid_file_moves_with_a_reload", the_pid_file_moves_with_a_reload),
    ("a_stuck_worker_is_killed_after_a_second", a_stuck_worker_is_killed_after_a_second),
];

const CONF: &str = "listen unix:a.sock;\nword one;\nerror_log error.log;\n";

fn quit_waits_for_open_requests() {
    let server = TestServer::new(CONF);
    server.start();
    let pid = server.pid();
    let begun = begin(&server);
    assert!(server.run("quit").status.success());
    server.await_text("error.log", "gracefully shutting down");
    until("closed sockets", || UnixStream::connect(server.path("a.sock")).is_err());
    assert!(alive(pid));
    assert!(hello(begun).starts_with("one generation=1"));
    server.ended(pid);
    assert!(!server.path("pid").exists());
    assert!(!server.read("error.log").contains("[alert]"));
}

/// Returns a connection that the worker has accepted and reads from.
fn begin(server: &TestServer) -> UnixStream {
    let stream = UnixStream::connect(server.path("a.sock")).unwrap();
    // Connections are accepted in order: once a later one is answered, this one is taken.
    server.ask("a.sock");
    stream
}

fn stop_does_not_wait() {
    let server = TestServer::new(CONF);
    server.start();
    let pid = server.pid();
    let begun = begin(&server);
    server.kill(Signal::SIGTERM);
    server.ended(pid);
    assert_eq!(read_line(begun), "");
}

fn a_reload_keeps_the_worker_and_its_sockets() {
    let server = TestServer::new(CONF);
    server.start();
    let before = server.ask("a.sock");
    let inode = inode(&server, "a.sock");
    let begun = begin(&server);
    server.configure("listen unix:a.sock;\nlisten unix:b.sock;\nword two;\nerror_log second.log;\n");
    assert!(server.run("reload").status.success());
    server.await_text("second.log", "exited with code 0");
    let after = server.ask("b.sock");
    assert_eq!((after.word.as_str(), after.generation, after.pid), ("two", 2, before.pid));
    assert_eq!(server.ask("a.sock").word, "two");
    assert_eq!(inode, self::inode(&server, "a.sock"));
    assert!(hello(begun).starts_with("two"), "a connection begun before the reload is served");
    assert!(server.read("second.log").contains("generation 2 is here"));
    assert!(server.read("error.log").contains("reconfiguring"));

    server.configure("listen unix:b.sock;\nword three;\nerror_log second.log;\n");
    server.kill(Signal::SIGHUP);
    until("the third generation", || server.ask("b.sock").word == "three");
    until("the first socket's file to go", || !server.path("a.sock").exists());
    assert!(!server.read("second.log").contains("[alert]"));
}

fn inode(server: &TestServer, name: &str) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(server.path(name)).unwrap())
}

fn an_invalid_reload_changes_nothing() {
    let server = TestServer::new(CONF);
    server.start();
    let faulty = [
        ("wrong;\n".to_owned(), "[emerg]"),
        (
            "listen unix:nowhere/b.sock;\nlisten unix:c.sock;\nword two;\n".to_owned(),
            "failed (2: No such file",
        ),
        ("listen unix:c.sock;\nlog nowhere/log;\nword two;\n".to_owned(), "nowhere/log\" failed"),
    ];
    for (conf, text) in faulty {
        server.configure(&conf);
        server.kill(Signal::SIGHUP);
        server.await_text("error.log", text);
        let answer = server.ask("a.sock");
        assert_eq!((answer.word.as_str(), answer.generation), ("one", 1));
        assert!(!server.path("c.sock").exists());
    }
}

fn a_reload_that_the_worker_refuses_changes_nothing() {
    let server = TestServer::new(CONF);
    server.start();
    server.configure("listen unix:a.sock;\nlisten unix:b.sock;\nword two;\nreload_fails bad-lua;\n");
    server.kill(Signal::SIGHUP);
    server.await_text("error.log", "bad-lua");
    until("the new socket to go", || !server.path("b.sock").exists());
    assert_eq!(server.ask("a.sock").word, "one");
    // The way is free for another.
    server.configure("listen unix:a.sock;\nword three;\nerror_log error.log;\n");
    server.kill(Signal::SIGHUP);
    until("the next reload", || server.ask("a.sock").word == "three");
}

fn a_reload_with_other_limits_starts_a_new_process() {
    let server = TestServer::new(CONF);
    server.start();
    let before = server.ask("a.sock");
    let begun = begin(&server);
    server.configure(&format!("{CONF}open_files 512;\nword two;\n"));
    server.kill(Signal::SIGHUP);
    server.await_text("error.log", "gracefully shutting down");
    // Both accept until the old one has heard of it.
    let mut after = server.ask("a.sock");
    until("another worker", || {
        after = server.ask("a.sock");
        after.pid != before.pid
    });
    assert_eq!((after.word.as_str(), after.generation), ("two", 2));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", after.pid)).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert!(files.contains(" 512 "), "{files}");
    assert!(hello(begun).starts_with("one"), "the old process finishes what it has begun");
    server.await_text("error.log", &format!("worker process {} exited with code 0", before.pid));

    // A new process that cannot start leaves the old one in its server.
    server.configure(&format!("{CONF}open_files 600;\ninit_fails no-good;\n"));
    server.kill(Signal::SIGHUP);
    server.await_text("error.log", "the previous one stays active");
    assert_eq!(server.ask("a.sock").pid, after.pid);
}

fn an_address_that_a_reload_drops_is_free() {
    let address = free_address();
    let server = TestServer::new(&format!("{CONF}listen {address};\n"));
    server.start();
    // A worker that was forked for a reload must not hold more than its own descriptors either.
    server.configure(&format!("{CONF}listen {address};\nopen_files 512;\nword two;\n"));
    server.kill(Signal::SIGHUP);
    server.await_text("error.log", "exited with code 0");
    assert_eq!(server.ask("a.sock").word, "two");
    server.configure(&format!("{CONF}open_files 512;\nword three;\n"));
    server.kill(Signal::SIGHUP);
    until("the third generation", || server.ask("a.sock").word == "three");
    until("the address to be free", || std::net::TcpListener::bind(&address).is_ok());
}

fn standard_error_follows_the_error_log() {
    let server = TestServer::new(CONF);
    server.start();
    server.ask("a.sock");
    server.await_text("error.log", "on stderr in generation 1");
    std::fs::rename(server.path("error.log"), server.path("error.log.1")).unwrap();
    server.kill(Signal::SIGUSR1);
    until("a line in the new file", || {
        server.ask("a.sock");
        server.read("error.log").contains("on stderr in generation 1")
    });
    server.configure(&CONF.replace("error.log", "second.log"));
    server.kill(Signal::SIGHUP);
    until("a line in the second log", || {
        server.ask("a.sock");
        server.read("second.log").contains("on stderr in generation 2")
    });
}

fn of_many_reloads_the_last_one_wins() {
    let server = TestServer::new(CONF);
    server.start();
    for number in 0..30 {
        server.configure(&CONF.replace("one", &format!("w{number}")));
        server.kill(Signal::SIGHUP);
    }
    until("the last word", || server.ask("a.sock").word == "w29");
    assert!(!server.read("error.log").contains("[alert]"));
}

fn a_reload_waits_for_a_starting_worker() {
    let mut server = TestServer::new(&format!("daemon off;\n{CONF}init_waits go;\n"));
    server.start_in_foreground();
    // Only a worker can say that it does not take this; a process started beside it would not be asked.
    server.configure("listen unix:a.sock;\nword two;\nerror_log error.log;\nreload_fails bad-lua;\n");
    server.kill(Signal::SIGHUP);
    server.await_text("error.log", ", reconfiguring");
    std::fs::write(server.path("go"), "").unwrap();
    server.await_text("error.log", "bad-lua");
    server.await_text("error.log", "the previous one stays active");
    assert_eq!(server.ask("a.sock").word, "one");
    assert_eq!(server.read("error.log").matches("start worker process ").count(), 1);
}

fn a_crash_loop_is_slowed_down() {
    let server = TestServer::new(&format!("{CONF}dies_while bad\n"));
    server.start();
    let worker = server.ask("a.sock").pid;
    std::fs::write(server.path("bad"), "").unwrap();
    slay(worker, Signal::SIGSEGV);
    server.await_text("error.log", &format!("worker process {worker} exited on signal 11"));
    server.await_text("error.log", "[alert]");
    server.await_text("error.log", "keep dying; the next one is started in 400 ms");
    // Who comes meanwhile waits.
    let early = UnixStream::connect(server.path("a.sock")).unwrap();
    std::fs::remove_file(server.path("bad")).unwrap();
    assert!(hello(early).starts_with("one"));
    // A reload does not wait for the pause to be over.
    std::fs::write(server.path("bad"), "").unwrap();
    slay(server.ask("a.sock").pid, Signal::SIGABRT);
    server.await_text("error.log", "the next one is started in 1600 ms");
    server.configure(&CONF.replace("one", "two"));
    server.kill(Signal::SIGHUP);
    until("the fixed worker", || server.ask("a.sock").word == "two");
}

/// Sends a signal until the process is dead: Rust's runtime takes a first SIGSEGV for a fault that will come again.
fn slay(pid: i32, signal: Signal) {
    until("its death", || {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        !alive(pid)
    });
}

fn a_killed_worker_refuses_no_connection() {
    let address = free_address();
    let server = TestServer::new(&format!("listen {address};\n{CONF}"));
    server.start();
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
                            let reply = stream.write_all(b"hello\n").map(|()| read_line(stream));
                            answered.fetch_add(
                                usize::from(reply.is_ok_and(|line| line.starts_with("one"))),
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
            let worker = server.ask("a.sock").pid;
            slay(worker, signal);
            let number = signal as i32;
            server.await_text("error.log", &format!("worker process {worker} exited on signal {number}"));
        }
        let seen = answered.load(Ordering::SeqCst);
        until("answers", || answered.load(Ordering::SeqCst) > seen + 20);
    });
    assert_eq!(refused.into_inner(), 0);
    assert_eq!(server.read("error.log").matches("start worker process ").count(), 4);
}

fn the_control_socket_outlives_workers() {
    let conf = format!("control run/c.sock 0600;\nstate kept;\nstate .;\n{CONF}");
    let server = TestServer::new(&conf);
    let folder_before = owner_of(&server.path(""));
    server.start();
    let rights = |server: &TestServer, name: &str| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(server.path(name)).unwrap().permissions())
            & 0o777
    };
    assert_eq!(rights(&server, "run/c.sock"), 0o600);
    let inode = inode(&server, "run/c.sock");
    let worker = server.ask("run/c.sock");
    if is_root() {
        assert_eq!(owner_of(&server.path("kept")), worker.uid, "the folder that was made is the worker's");
        assert_eq!(owner_of(&server.path("")), folder_before, "the one that was there is not");
        assert_eq!(owner_of(&server.path("run/c.sock")), 0);
    }
    kill(worker.pid, Signal::SIGKILL);
    server.await_text("error.log", &format!("worker process {} exited on signal 9", worker.pid));
    // Nothing is refused meanwhile: who comes now waits for the next worker.
    assert_ne!(server.ask("run/c.sock").pid, worker.pid);
    assert_eq!(self::inode(&server, "run/c.sock"), inode);

    server.configure(&conf.replace("0600", "0660").replace("one", "two"));
    server.kill(Signal::SIGHUP);
    until("the second generation", || server.ask("run/c.sock").word == "two");
    assert_eq!((self::inode(&server, "run/c.sock"), rights(&server, "run/c.sock")), (inode, 0o660));
    server.configure(CONF);
    server.kill(Signal::SIGHUP);
    until("the socket to go", || !server.path("run/c.sock").exists());
}

fn a_terminated_worker_is_replaced() {
    let server = TestServer::new(CONF);
    server.start();
    let before = server.ask("a.sock").pid;
    kill(before, Signal::SIGTERM);
    until("another worker", || {
        UnixStream::connect(server.path("a.sock")).is_ok_and(|stream| {
            hello(stream).split_once("pid=").is_some_and(|(_, rest)| !rest.starts_with(&before.to_string()))
        })
    });
    server.await_text("error.log", &format!("worker process {before} exited with code 0"));
}

fn logs_are_reopened() {
    let server = TestServer::new(CONF);
    server.start();
    server.ask("a.sock");
    server.await_text("access.log", "served one");
    for name in ["access.log", "error.log"] {
        std::fs::rename(server.path(name), server.path(&format!("{name}.1"))).unwrap();
    }
    assert!(server.run("reopen").status.success());
    until("new files", || server.path("access.log").exists() && server.path("error.log").exists());
    until("a line in the new file", || {
        server.ask("a.sock");
        server.read("access.log").contains("served one")
    });
    if is_root() {
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
        assert_eq!(owner_of(&server.path("access.log")), nobody);
    }
    let pid = server.pid();
    assert!(server.run("stop").status.success());
    server.ended(pid);
    assert!(server.read("error.log").ends_with(": exit\n"));
    assert!(server.read("error.log.1").contains("reopening logs"));
}

fn a_worker_without_master_finishes_and_exits() {
    let server = TestServer::new(CONF);
    server.start();
    let worker = server.ask("a.sock").pid;
    let begun = begin(&server);
    server.kill(Signal::SIGKILL);
    server.await_text("error.log", "the master process is gone");
    assert!(alive(worker));
    assert!(hello(begun).starts_with("one"));
    server.ended(worker);
    // The files that were left behind do not prevent it.
    server.start();
    assert_eq!(server.ask("a.sock").word, "one");
}

fn winch_stops_workers_and_hup_starts_them() {
    let server = TestServer::new(CONF);
    server.start();
    let worker = server.ask("a.sock").pid;
    server.kill(Signal::SIGWINCH);
    server.ended(worker);
    server.await_text("error.log", &format!("worker process {worker} exited with code 0"));
    // The socket is still open: a connection waits for the next worker.
    let early = UnixStream::connect(server.path("a.sock")).unwrap();
    server.kill(Signal::SIGHUP);
    assert!(hello(early).starts_with("one generation=2"));
}

fn the_pid_file_moves_with_a_reload() {
    let server = TestServer::new(CONF);
    server.start();
    let pid = server.pid();
    server.configure(&format!("{CONF}pid moved;\n"));
    server.kill(Signal::SIGHUP);
    until("the new pid file", || server.read("moved") == format!("{pid}\n") && !server.path("pid").exists());
    assert!(server.run("stop").status.success());
    server.ended(pid);
    assert!(!server.path("moved").exists());
}

fn a_stuck_worker_is_killed_after_a_second() {
    let server = TestServer::new(CONF);
    server.start();
    let (pid, worker) = (server.pid(), server.ask("a.sock").pid);
    kill(worker, Signal::SIGSTOP);
    server.kill(Signal::SIGTERM);
    server.ended(pid);
    assert!(!alive(worker));
    assert!(server.read("error.log").contains(&format!("worker process {worker} exited on signal 9")));
}
