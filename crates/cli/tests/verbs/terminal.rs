//! `top`, the progress of a drain, and the question of `undo`, in a terminal.

use super::*;
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;

/// Returns a new terminal: its other side, and the path of the side that a program gets.
fn terminal() -> (Screen, std::path::PathBuf) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let path = std::ffi::OsStr::from_bytes(name.as_bytes()).into();
    (Screen { terminal: File::from(terminal), seen: Vec::new() }, path)
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Starts a verb in a terminal.
fn start(server: &Server, path: &Path, words: &[&str]) -> ProcessGroup {
    let mut verb = command(server.folder.path(), words);
    verb.env("TERM", "xterm").env_remove("NO_COLOR");
    ProcessGroup::start(verb.stdin(Stdio::from(open(path))).stdout(Stdio::from(open(path)))).unwrap()
}

#[test]
fn top_gives_the_terminal_back_as_it_was() {
    let server = Server::start("", "");
    let (mut screen, path) = terminal();
    let end = open(&path);
    let before = tcgetattr(&end).unwrap().local_modes;
    for leave in [&b"q"[..], b"\x03"] {
        let top = start(&server, &path, &["top"]);
        screen.seen.clear();
        screen.see("live: revision 0");
        screen.see("\x1b[?1049h");
        assert!(!tcgetattr(&end).unwrap().local_modes.contains(LocalModes::ICANON));
        screen.terminal.write_all(b"2").unwrap();
        screen.see("last 1m;");
        screen.terminal.write_all(leave).unwrap();
        screen.see("\x1b[?1049l");
        assert_eq!(end_of(&top), 0);
        assert_eq!(tcgetattr(&end).unwrap().local_modes, before);
    }
}

#[test]
fn a_terminal_shows_the_drain() {
    let server = Server::start("", "");
    let _request = server.ask("a.example");
    let mut blue = server.asked_blue();
    let (mut screen, path) = terminal();
    let _end = open(&path);
    let switching = start(&server, &path, &["switch", "a.example", "green", "--wait", "drained"]);
    screen.see("\x1b[32mlive: revision 1\x1b[m");
    screen.see("draining: 1 left, ");
    screen.see(" s, oldest GET / ");
    blue.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    screen.see("old side: empty after ");
    assert_eq!(end_of(&switching), 0);
    // The receipt goes on counting.
    let text = server.say(&["receipt", "1"]).done();
    assert!(text.starts_with("live: revision 1\n  a.example: default (blue) -> green\n"), "{text}");
    assert!(text.contains("answers are counted until ") && text.contains(": pointsman receipt 1"), "{text}");
}

#[test]
fn promise_2_a_repeated_order_waits_on_a_terminal_too() {
    let server = Server::start("", "");
    let _request = server.ask("a.example");
    let mut blue = server.asked_blue();
    server.say(&["switch", "a.example", "green"]).done();
    let (mut screen, path) = terminal();
    let _end = open(&path);
    let again = start(&server, &path, &["switch", "a.example", "green", "--wait", "drained"]);
    screen.see("no change");
    assert_eq!(again.wait(Duration::from_millis(300)), None, "it does not wait");
    blue.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    screen.see("old side: empty");
    assert_eq!(end_of(&again), 0);
}

#[test]
fn promise_2_a_drain_that_is_shown_can_be_interrupted() {
    let server = Server::start("", "");
    let _request = server.ask("a.example");
    let _blue = server.asked_blue();
    let (mut screen, path) = terminal();
    let _end = open(&path);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let words = ["switch", "a.example", "green", "--wait", "drained", "--timeout", "60s"];
        let switching = start(&server, &path, &words);
        screen.see("draining: 1 left, ");
        switching.signal(signal).unwrap();
        assert_eq!(end_of(&switching), 128 + signal as i32);
        screen.seen.clear();
        // The commit stays; with another one there is a drain to be shown again.
        server.say(&["undo", "a.example"]).done();
    }
}

#[test]
fn undo_asks_on_a_terminal() {
    let server = Server::start("", "");
    server.say(&["switch", "a.example", "green"]).done();
    let (mut screen, path) = terminal();
    let _end = open(&path);
    for (answer, code, left) in [(&b"\n"[..], 1, "green"), (b"y\n", 0, "blue")] {
        let undo = start(&server, &path, &["undo"]);
        screen.see("undo it? [y/N] ");
        screen.seen.clear();
        screen.terminal.write_all(answer).unwrap();
        assert_eq!(end_of(&undo), code);
        assert!(server.say(&["show", "a.example"]).done().contains(left));
    }
}

/// The other side of the terminal, and what was shown on it.
struct Screen {
    terminal: File,
    seen: Vec<u8>,
}

impl Screen {
    /// Looks on until this is shown.
    fn see(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: 0 };
            let more = poll(&mut [PollFd::new(&self.terminal, PollFlags::IN)], Some(&wait)).unwrap();
            assert!(more > 0, "{text:?} is not shown: {}", String::from_utf8_lossy(&self.seen));
            let mut piece = [0; 4096];
            let n = self.terminal.read(&mut piece).unwrap();
            self.seen.extend_from_slice(&piece[..n]);
        }
    }
}
