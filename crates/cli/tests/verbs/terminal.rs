//! `top`, in a terminal.

use super::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;

#[test]
fn top_gives_the_terminal_back_as_it_was() {
    let server = Server::start("", "");
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let open = || {
        let path = std::ffi::OsStr::from_bytes(name.as_bytes());
        OpenOptions::new().read(true).write(true).open(path).unwrap()
    };
    let end = open();
    let before = tcgetattr(&end).unwrap().local_modes;
    for leave in [&b"q"[..], b"\x03"] {
        let mut top = command(server.folder.path(), &["top"]);
        let top = ProcessGroup::start(top.stdin(Stdio::from(open())).stdout(Stdio::from(open()))).unwrap();
        let mut screen = Screen { terminal: File::from(terminal.try_clone().unwrap()), seen: Vec::new() };
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
