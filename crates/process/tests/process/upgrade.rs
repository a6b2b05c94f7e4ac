//! Binary upgrade: two masters on the same sockets, and the way back.

use crate::test_server::*;
use nix::sys::signal::Signal;
use pointsman_process::{RunningMaster, UpgradeStep, choose_program};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

pub const TESTS: &[(&str, fn())] = &[
    ("an_upgrade_loses_no_connection", an_upgrade_loses_no_connection),
    ("an_upgrade_can_be_reverted", an_upgrade_can_be_reverted),
    ("a_new_binary_that_cannot_start_changes_nothing", a_new_binary_that_cannot_start_changes_nothing),
    ("the_old_master_recovers_when_the_new_one_dies", the_old_master_recovers_when_the_new_one_dies),
    ("a_new_binary_that_hangs_is_ended", a_new_binary_that_hangs_is_ended),
    ("an_upgrade_can_start_another_program", an_upgrade_can_start_another_program),
    (
        "the_new_master_listens_where_its_configuration_says",
        the_new_master_listens_where_its_configuration_says,
    ),
    ("the_new_master_survives_a_kill_of_the_old_one", the_new_master_survives_a_kill_of_the_old_one),
    ("systemd_is_notified_of_the_main_process", systemd_is_notified_of_the_main_process),
];

const CONF: &str = "listen unix:a.sock;\nword one;\nerror_log error.log;\n";

/// Sends USR2 and waits until the new master serves. Gives the old and the new master.
pub fn upgrade(server: &TestServer) -> (i32, i32) {
    let old = server.pid();
    kill(old, Signal::SIGUSR2);
    until("the new master's pid file", || {
        server.read("pid.oldbin") == format!("{old}\n") && number(server) != old
    });
    let new = number(server);
    until("a worker of the new master", || !children(new).is_empty() && answers_of(server, new));
    (old, new)
}

/// Returns the number in the pid file, 0 while there is none.
fn number(server: &TestServer) -> i32 {
    match server.read("pid").trim_end().parse() {
        Ok(number) if number != 0 => number,
        _ => server.read("pid.oldbin").trim_end().parse().unwrap_or(0),
    }
}

pub fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// Returns true if a worker of this master answers one of many requests: the workers of both masters accept.
fn answers_of(server: &TestServer, master: i32) -> bool {
    let workers = children(master);
    (0..64).any(|_| workers.contains(&server.ask("a.sock").pid))
}

pub fn inode(server: &TestServer, name: &str) -> u64 {
    std::fs::metadata(server.path(name)).unwrap().ino()
}

/// Sends requests over new connections, and counts failures.
pub struct Load<'a> {
    address: &'a str,
    pub stop: AtomicBool,
    answered: AtomicUsize,
    pub failed: AtomicUsize,
}

impl Load<'_> {
    pub fn on(address: &str) -> Load<'_> {
        let (stop, answered, failed) = Default::default();
        Load { address, stop, answered, failed }
    }

    pub fn run(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            let answer = std::net::TcpStream::connect(self.address).and_then(|mut stream| {
                stream.write_all(b"hello\n")?;
                Ok(read_line(stream))
            });
            match answer {
                Ok(line) if line.contains(" generation=") => self.answered.fetch_add(1, Ordering::SeqCst),
                _ => self.failed.fetch_add(1, Ordering::SeqCst),
            };
        }
    }

    pub fn go_on(&self) {
        let seen = self.answered.load(Ordering::SeqCst);
        until("answers", || self.answered.load(Ordering::SeqCst) > seen + 20);
    }
}

fn an_upgrade_loses_no_connection() {
    let address = free_address();
    let server = TestServer::new(&format!("listen {address};\ncontrol run/c.sock 0600;\n{CONF}"));
    server.start();
    let files = [inode(&server, "a.sock"), inode(&server, "run/c.sock")];
    let load = Load::on(&address);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&load.stop);
        for _ in 0..2 {
            scope.spawn(|| load.run());
        }
        for _ in 0..3 {
            load.go_on();
            let (old, new) = upgrade(&server);
            let workers = children(old);
            // A second one is not begun.
            kill(old, Signal::SIGUSR2);
            kill(new, Signal::SIGUSR2);
            server.await_text("error.log", &format!("master process {new} must end"));
            server.await_text("error.log", &format!("master process {old} must end"));
            load.go_on();
            kill(old, Signal::SIGWINCH);
            // The new master is a child of the old one too.
            until("the old worker to go", || !workers.iter().any(|worker| *worker != new && alive(*worker)));
            assert!(alive(old));
            load.go_on();
            kill(old, Signal::SIGQUIT);
            server.ended(old);
            load.go_on();
            assert_eq!(server.pid(), new);
            assert!(!server.path("pid.oldbin").exists());
        }
    });
    assert_eq!(load.failed.into_inner(), 0, "{}", server.read("error.log"));
    assert_eq!(files, [inode(&server, "a.sock"), inode(&server, "run/c.sock")]);
    let mode = std::fs::metadata(server.path("run/c.sock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(!server.read("error.log").contains("[alert]"), "{}", server.read("error.log"));
    let last = server.pid();
    assert!(server.run("stop").status.success());
    server.ended(last);
    assert!(!server.path("a.sock").exists() && !server.path("pid").exists(), "the last one tidies up");
}

fn an_upgrade_can_be_reverted() {
    let server = TestServer::new(CONF);
    server.start();
    let (old, new) = upgrade(&server);
    kill(old, Signal::SIGWINCH);
    until("the old worker to go", || children(old) == [new]);
    let begun = UnixStream::connect(server.path("a.sock")).unwrap();
    kill(old, Signal::SIGHUP);
    until("a worker again", || children(old).len() == 2);
    kill(new, Signal::SIGQUIT);
    assert!(hello(begun).starts_with("one"), "the worker that accepted it finishes it");
    server.ended(new);
    until("the old pid file", || server.read("pid") == format!("{old}\n"));
    assert!(!server.path("pid.oldbin").exists());
    assert_eq!(server.ask("a.sock").pid, children(old)[0]);
    // It is as it was: the next upgrade works, and so does a reload.
    server.configure(&CONF.replace("one", "two"));
    assert!(server.run("reload").status.success());
    until("the reload", || server.ask("a.sock").word == "two");
    let (_, newer) = upgrade(&server);
    kill(old, Signal::SIGTERM);
    server.ended(old);
    assert_eq!(server.pid(), newer);
    assert_eq!(server.ask("a.sock").word, "two");
}

fn a_new_binary_that_cannot_start_changes_nothing() {
    let server = TestServer::new(CONF);
    server.start();
    let (old, worker) = (server.pid(), server.ask("a.sock").pid);
    for conf in ["broken;\n".to_owned(), format!("{CONF}init_fails no-good;\n")] {
        server.configure(&conf);
        kill(old, Signal::SIGUSR2);
        server.await_text("error.log", "exited with code 1, process");
        until("the old pid file", || server.read("pid") == format!("{old}\n"));
        assert!(!server.path("pid.oldbin").exists());
        assert_eq!(server.ask("a.sock").pid, worker);
        std::fs::write(server.path("error.log"), "").unwrap();
    }
}

fn the_old_master_recovers_when_the_new_one_dies() {
    let server = TestServer::new(CONF);
    server.start();
    let (old, new) = upgrade(&server);
    kill(old, Signal::SIGWINCH);
    until("the old worker to go", || children(old) == [new]);
    kill(new, Signal::SIGKILL);
    until("a worker of the old master", || answers_of(&server, old));
    assert_eq!(server.read("pid"), format!("{old}\n"));
    server.await_text("error.log", &format!("new binary process {new} exited on signal 9"));
}

fn a_new_binary_that_hangs_is_ended() {
    let server = TestServer::new(CONF);
    server.start();
    let (old, worker) = (server.pid(), server.ask("a.sock").pid);
    let script = server.path("hangs");
    let text = "#!/bin/sh\ntrap '' TERM\nsleep 100 &\necho $$ $! >\"${0%/*}/hung\"\nwhile :; do wait; done\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    choose_program(&server.path("pid"), &script).unwrap();
    let master = RunningMaster::named(&server.path("pid")).unwrap();
    // Longer than the start of the script, which writes its file, and far shorter than its sleep.
    master.signal(UpgradeStep::ChangeBinary(Duration::from_secs(1))).unwrap();
    server.await_text("error.log", "it hangs, and is ended");
    server.await_text("error.log", "exited on signal 9");
    let hung = server.read("hung");
    until("the end of its processes", || !hung.split_whitespace().any(|pid| alive(pid.parse().unwrap())));
    assert_eq!(hung.split_whitespace().count(), 2);
    until("the old pid file", || server.read("pid") == format!("{old}\n"));
    assert!(!server.path("pid.oldbin").exists());
    assert_eq!(server.ask("a.sock").pid, worker);
    server.configure(&CONF.replace("one", "two"));
    assert!(server.run("reload").status.success());
    until("the reload", || server.ask("a.sock").word == "two");
    // One that is a running master in time stays.
    master.signal(UpgradeStep::ChangeBinary(Duration::from_secs(1))).unwrap();
    until("the new master's pid file", || server.path("pid.oldbin").exists() && number(&server) != old);
    let new = number(&server);
    // Until its time has passed: what is checked is that nothing happens then.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(answers_of(&server, new));
    kill(old, Signal::SIGQUIT);
    server.ended(old);
    assert_eq!(server.pid(), new);
}

fn an_upgrade_can_start_another_program() {
    let server = TestServer::new(CONF);
    server.start();
    let old = server.pid();
    std::fs::write(server.path("pid.newbin"), "/nonexistent/program\n").unwrap();
    std::fs::set_permissions(server.path("pid.newbin"), PermissionsExt::from_mode(0o600)).unwrap();
    kill(old, Signal::SIGUSR2);
    server.await_text("error.log", "execve() \"/nonexistent/program\" failed (2: No such file");
    until("the old pid file", || server.read("pid") == format!("{old}\n"));
    let copy = server.path("another");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    std::fs::write(server.path("pid.newbin"), copy.to_str().unwrap()).unwrap();
    std::fs::set_permissions(server.path("pid.newbin"), PermissionsExt::from_mode(0o600)).unwrap();
    let (_, new) = upgrade(&server);
    assert_eq!(std::fs::read_link(format!("/proc/{new}/exe")).unwrap(), copy);
    kill(old, Signal::SIGQUIT);
    server.ended(old);
    // From now on it is the program.
    let (_, newer) = upgrade(&server);
    assert_eq!(std::fs::read_link(format!("/proc/{newer}/exe")).unwrap(), copy);
    kill(new, Signal::SIGQUIT);
    server.ended(new);
}

fn the_new_master_listens_where_its_configuration_says() {
    let (given_up, kept, added) = (free_address(), free_address(), free_address());
    let server = TestServer::new(&format!("{CONF}listen {given_up};\nlisten {kept};\n"));
    server.start();
    server.configure(&format!("{CONF}listen {kept};\nlisten {added};\nlisten unix:b.sock;\n"));
    let (old, _) = upgrade(&server);
    let begun = std::net::TcpStream::connect(&given_up).unwrap();
    assert!(hello(begun).starts_with("one"), "the old one still listens there");
    kill(old, Signal::SIGQUIT);
    server.ended(old);
    until("the address to be free", || std::net::TcpListener::bind(&given_up).is_ok());
    for address in [&kept, &added] {
        assert!(hello(std::net::TcpStream::connect(address).unwrap()).starts_with("one"));
    }
    assert_eq!(server.ask("b.sock").word, "one");
}

fn the_new_master_survives_a_kill_of_the_old_one() {
    let server = TestServer::new(CONF);
    server.start();
    let (old, new) = upgrade(&server);
    kill(old, Signal::SIGKILL);
    server.ended(old);
    until("the new one alone", || children(new).contains(&server.ask("a.sock").pid));
    assert_eq!(server.pid(), new);
    // The files that the killed one left do not prevent the next upgrade.
    let (_, newer) = upgrade(&server);
    kill(new, Signal::SIGQUIT);
    server.ended(new);
    assert_eq!(server.pid(), newer);
    assert!(server.run("stop").status.success());
    server.ended(newer);
    assert!(!server.path("a.sock").exists());
}

fn systemd_is_notified_of_the_main_process() {
    let server = TestServer::new(CONF);
    let socket = UnixDatagram::bind(server.path("notify")).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut bytes = [0; 512];
        let read = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    };
    let mut command = server.command("");
    command.env("NOTIFY_SOCKET", server.path("notify"));
    assert!(status_of(command).success());
    let old = server.pid();
    assert!(hear().starts_with(&format!("READY=1\nMAINPID={old}\n")));
    for conf in ["broken;\n", CONF] {
        server.configure(conf);
        server.kill(Signal::SIGHUP);
        assert!(hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(hear().contains("refused"), conf != CONF);
    }
    let (_, new) = upgrade(&server);
    assert!(hear().starts_with(&format!("READY=1\nMAINPID={new}\n")));
    kill(new, Signal::SIGKILL);
    assert!(hear().starts_with(&format!("READY=1\nMAINPID={old}\n")));
    let (_, new) = upgrade(&server);
    assert!(hear().starts_with(&format!("READY=1\nMAINPID={new}\n")));
    kill(old, Signal::SIGQUIT);
    assert_eq!(hear(), format!("MAINPID={new}"));
    server.ended(old);
    kill(new, Signal::SIGTERM);
    assert!(hear().starts_with("STOPPING=1\n"));
    server.ended(new);
}
