//! Binary upgrade: two masters on the same sockets, and the way back.

use crate::place::*;
use nix::sys::signal::Signal;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub const TESTS: &[(&str, fn())] = &[
    ("an_upgrade_loses_no_connection", an_upgrade_loses_no_connection),
    ("an_upgrade_can_be_taken_back", an_upgrade_can_be_taken_back),
    ("a_new_binary_that_cannot_start_changes_nothing", a_new_binary_that_cannot_start_changes_nothing),
    ("a_new_master_that_dies_gives_everything_back", a_new_master_that_dies_gives_everything_back),
    ("another_program_can_be_named", another_program_can_be_named),
    (
        "the_new_master_listens_where_its_configuration_says",
        the_new_master_listens_where_its_configuration_says,
    ),
    (
        "an_old_master_that_is_killed_leaves_the_new_one_alone",
        an_old_master_that_is_killed_leaves_the_new_one_alone,
    ),
    ("systemd_is_told_who_serves", systemd_is_told_who_serves),
];

const CONF: &str = "listen unix:a.sock;\nword one;\nerror_log error.log;\n";

/// Sends USR2 and waits until the new master serves. Gives the old and the new master.
fn upgrade(place: &Place) -> (i32, i32) {
    let old = place.pid();
    kill(old, Signal::SIGUSR2);
    until("the new master's pid file", || {
        place.read("pid.oldbin") == format!("{old}\n") && number(place) != old
    });
    let new = number(place);
    until("a worker of the new master", || !children(new).is_empty() && answers_of(place, new));
    (old, new)
}

/// The number in the pid file, 0 while there is none.
fn number(place: &Place) -> i32 {
    match place.read("pid").trim_end().parse() {
        Ok(number) if number != 0 => number,
        _ => place.read("pid.oldbin").trim_end().parse().unwrap_or(0),
    }
}

fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// Whether a worker of this master answers one of many questions: both masters' workers accept.
fn answers_of(place: &Place, master: i32) -> bool {
    let workers = children(master);
    (0..64).any(|_| workers.contains(&place.ask("a.sock").pid))
}

fn inode(place: &Place, name: &str) -> u64 {
    std::fs::metadata(place.path(name)).unwrap().ino()
}

/// Asks again and again over a new connection each, and counts what was not answered.
struct Load<'a> {
    address: &'a str,
    stop: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
}

impl Load<'_> {
    fn on(address: &str) -> Load<'_> {
        let (stop, answered, failed) = Default::default();
        Load { address, stop, answered, failed }
    }

    fn run(&self) {
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

    fn go_on(&self) {
        let seen = self.answered.load(Ordering::SeqCst);
        until("answers", || self.answered.load(Ordering::SeqCst) > seen + 20);
    }
}

fn an_upgrade_loses_no_connection() {
    let address = free_address();
    let place = Place::new(&format!("listen {address};\ncontrol run/c.sock 0600;\n{CONF}"));
    place.start();
    let files = [inode(&place, "a.sock"), inode(&place, "run/c.sock")];
    let load = Load::on(&address);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&load.stop);
        for _ in 0..2 {
            scope.spawn(|| load.run());
        }
        for _ in 0..3 {
            load.go_on();
            let (old, new) = upgrade(&place);
            let workers = children(old);
            // A second one is not begun.
            kill(old, Signal::SIGUSR2);
            kill(new, Signal::SIGUSR2);
            place.await_text("error.log", &format!("master process {new} must end"));
            place.await_text("error.log", &format!("master process {old} must end"));
            load.go_on();
            kill(old, Signal::SIGWINCH);
            // The new master is a child of the old one too.
            until("the old worker to go", || !workers.iter().any(|worker| *worker != new && alive(*worker)));
            assert!(alive(old));
            load.go_on();
            kill(old, Signal::SIGQUIT);
            place.ended(old);
            load.go_on();
            assert_eq!(place.pid(), new);
            assert!(!place.path("pid.oldbin").exists());
        }
    });
    assert_eq!(load.failed.into_inner(), 0, "{}", place.read("error.log"));
    assert_eq!(files, [inode(&place, "a.sock"), inode(&place, "run/c.sock")]);
    let mode = std::fs::metadata(place.path("run/c.sock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(!place.read("error.log").contains("[alert]"), "{}", place.read("error.log"));
    let last = place.pid();
    assert!(place.run("stop").status.success());
    place.ended(last);
    assert!(!place.path("a.sock").exists() && !place.path("pid").exists(), "the last one tidies up");
}

fn an_upgrade_can_be_taken_back() {
    let place = Place::new(CONF);
    place.start();
    let (old, new) = upgrade(&place);
    kill(old, Signal::SIGWINCH);
    until("the old worker to go", || children(old) == [new]);
    let begun = UnixStream::connect(place.path("a.sock")).unwrap();
    kill(old, Signal::SIGHUP);
    until("a worker again", || children(old).len() == 2);
    kill(new, Signal::SIGQUIT);
    assert!(hello(begun).starts_with("one"), "the process that has it finishes it");
    place.ended(new);
    until("the old pid file", || place.read("pid") == format!("{old}\n"));
    assert!(!place.path("pid.oldbin").exists());
    assert_eq!(place.ask("a.sock").pid, children(old)[0]);
    // It is as it was: the next upgrade works, and so does a reload.
    place.configure(&CONF.replace("one", "two"));
    assert!(place.run("reload").status.success());
    until("the reload", || place.ask("a.sock").word == "two");
    let (_, newer) = upgrade(&place);
    kill(old, Signal::SIGTERM);
    place.ended(old);
    assert_eq!(place.pid(), newer);
    assert_eq!(place.ask("a.sock").word, "two");
}

fn a_new_binary_that_cannot_start_changes_nothing() {
    let place = Place::new(CONF);
    place.start();
    let (old, worker) = (place.pid(), place.ask("a.sock").pid);
    for conf in ["broken;\n".to_owned(), format!("{CONF}init_fails no-good;\n")] {
        place.configure(&conf);
        kill(old, Signal::SIGUSR2);
        place.await_text("error.log", "exited with code 1, process");
        until("the old pid file", || place.read("pid") == format!("{old}\n"));
        assert!(!place.path("pid.oldbin").exists());
        assert_eq!(place.ask("a.sock").pid, worker);
        std::fs::write(place.path("error.log"), "").unwrap();
    }
}

fn a_new_master_that_dies_gives_everything_back() {
    let place = Place::new(CONF);
    place.start();
    let (old, new) = upgrade(&place);
    kill(old, Signal::SIGWINCH);
    until("the old worker to go", || children(old) == [new]);
    kill(new, Signal::SIGKILL);
    until("a worker of the old master", || answers_of(&place, old));
    assert_eq!(place.read("pid"), format!("{old}\n"));
    place.await_text("error.log", &format!("new binary process {new} exited on signal 9"));
}

fn another_program_can_be_named() {
    let place = Place::new(CONF);
    place.start();
    let old = place.pid();
    std::fs::write(place.path("pid.newbin"), "/nonexistent/program\n").unwrap();
    std::fs::set_permissions(place.path("pid.newbin"), PermissionsExt::from_mode(0o600)).unwrap();
    kill(old, Signal::SIGUSR2);
    place.await_text("error.log", "execve() \"/nonexistent/program\" failed (2: No such file");
    until("the old pid file", || place.read("pid") == format!("{old}\n"));
    let copy = place.path("another");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    std::fs::write(place.path("pid.newbin"), copy.to_str().unwrap()).unwrap();
    std::fs::set_permissions(place.path("pid.newbin"), PermissionsExt::from_mode(0o600)).unwrap();
    let (_, new) = upgrade(&place);
    assert_eq!(std::fs::read_link(format!("/proc/{new}/exe")).unwrap(), copy);
    kill(old, Signal::SIGQUIT);
    place.ended(old);
    // From now on it is the program.
    let (_, newer) = upgrade(&place);
    assert_eq!(std::fs::read_link(format!("/proc/{newer}/exe")).unwrap(), copy);
    kill(new, Signal::SIGQUIT);
    place.ended(new);
}

fn the_new_master_listens_where_its_configuration_says() {
    let (given_up, kept, added) = (free_address(), free_address(), free_address());
    let place = Place::new(&format!("{CONF}listen {given_up};\nlisten {kept};\n"));
    place.start();
    place.configure(&format!("{CONF}listen {kept};\nlisten {added};\nlisten unix:b.sock;\n"));
    let (old, _) = upgrade(&place);
    let begun = std::net::TcpStream::connect(&given_up).unwrap();
    assert!(hello(begun).starts_with("one"), "the old one still listens there");
    kill(old, Signal::SIGQUIT);
    place.ended(old);
    until("the address to be free", || std::net::TcpListener::bind(&given_up).is_ok());
    for address in [&kept, &added] {
        assert!(hello(std::net::TcpStream::connect(address).unwrap()).starts_with("one"));
    }
    assert_eq!(place.ask("b.sock").word, "one");
}

fn an_old_master_that_is_killed_leaves_the_new_one_alone() {
    let place = Place::new(CONF);
    place.start();
    let (old, new) = upgrade(&place);
    kill(old, Signal::SIGKILL);
    place.ended(old);
    until("the new one alone", || children(new).contains(&place.ask("a.sock").pid));
    assert_eq!(place.pid(), new);
    // What the killed one has left is in no one's way.
    let (_, newer) = upgrade(&place);
    kill(new, Signal::SIGQUIT);
    place.ended(new);
    assert_eq!(place.pid(), newer);
    assert!(place.run("stop").status.success());
    place.ended(newer);
    assert!(!place.path("a.sock").exists());
}

fn systemd_is_told_who_serves() {
    let place = Place::new(CONF);
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut bytes = [0; 512];
        let read = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    };
    let mut command = place.command("");
    command.env("NOTIFY_SOCKET", place.path("notify"));
    assert!(status_of(command).success());
    let old = place.pid();
    assert!(hear().starts_with(&format!("READY=1\nMAINPID={old}\n")));
    for conf in ["broken;\n", CONF] {
        place.configure(conf);
        place.kill(Signal::SIGHUP);
        assert!(hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(hear().contains("refused"), conf != CONF);
    }
    let (_, new) = upgrade(&place);
    assert!(hear().starts_with(&format!("READY=1\nMAINPID={new}\n")));
    kill(new, Signal::SIGKILL);
    assert!(hear().starts_with(&format!("READY=1\nMAINPID={old}\n")));
    let (_, new) = upgrade(&place);
    assert!(hear().starts_with(&format!("READY=1\nMAINPID={new}\n")));
    kill(old, Signal::SIGQUIT);
    assert_eq!(hear(), format!("MAINPID={new}"));
    place.ended(old);
    kill(new, Signal::SIGTERM);
    assert!(hear().starts_with("STOPPING=1\n"));
    place.ended(new);
}
