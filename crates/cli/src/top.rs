//! `pointsman top`: the screen of `status`, again each second.
//!
//! Owns the terminal while it runs, and gives it back as it was: on `q`, on Ctrl-C, on an error. Must never be used
//! without a terminal: a program takes `status --json`.

use crate::fault::{Code, Fault, say};
use crate::status::{self, Window};
use crate::verbs::Reach;
use clap::Args;
use control::api::types;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{IsTerminal, stdin, stdout};
use std::time::{Duration, Instant};

/// Between two screens.
const EACH: Duration = Duration::from_secs(1);
/// Another screen beside the usual one, without a cursor (xterm control sequences).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Back, with the cursor.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the first line.
const HOME: &str = "\x1b[H";
/// What is left of the line, of the screen.
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

/// Show the status again each second, until q or Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = "Keys: 1 2 3 4 show the last 10 seconds, minute, 5 minutes, hour; q ends.")]
pub(crate) struct Top {
    /// How far back the figures reach
    #[arg(long, value_name = "TIME", value_enum, default_value = "10s")]
    window: Window,
}

impl Top {
    pub(crate) fn run(&self, reach: &Reach) -> Result<Code, Fault> {
        if reach.json || !stdin().is_terminal() || !stdout().is_terminal() {
            return Err(Fault::usage(
                "top needs a terminal",
                "for programs there is pointsman status --json, for logs pointsman status",
            ));
        }
        let session = reach.session()?;
        // Asked once before the terminal is touched, so that a fault is told on the usual screen.
        let mut window = self.window;
        let (mut shown, _) = session.client.ask::<types::Status>(&status::call(window))?;
        let _terminal = Terminal::take()?;
        loop {
            draw(&status::screen(&shown))?;
            match key(EACH)? {
                Some(b'q' | b'Q' | 0x03 | 0x04) => return Ok(Code::Done),
                Some(b'1') => window = Window::TenSeconds,
                Some(b'2') => window = Window::Minute,
                Some(b'3') => window = Window::FiveMinutes,
                Some(b'4') => window = Window::Hour,
                _ => {}
            }
            shown = session.client.ask::<types::Status>(&status::call(window))?.0;
        }
    }
}

/// As much of the text as fits the screen.
fn draw(text: &str) -> Result<(), Fault> {
    let (rows, columns) = size();
    let mut out = HOME.to_owned();
    for line in text.lines().take(rows.saturating_sub(1)) {
        out.extend(line.chars().take(columns));
        out.push_str(REST_OF_LINE);
        out.push_str("\r\n");
    }
    out.push_str(REST_OF_SCREEN);
    say(&out)
}

/// The screen's lines and columns; the usual ones where they are not known.
fn size() -> (usize, usize) {
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => (24, 80),
    }
}

/// The next key within this time.
fn key(within: Duration) -> Result<Option<u8>, Fault> {
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&stdin(), PollFlags::IN)], Some(&wait)) {
            Ok(0) => return Ok(None),
            Ok(_) => {
                let mut byte = [0];
                // Past the buffer of `stdin()`, whose contents poll would not see. The end of the input is the end of
                // the terminal.
                return match rustix::io::read(stdin(), &mut byte) {
                    Ok(1) => Ok(Some(byte[0])),
                    _ => Ok(Some(b'q')),
                };
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(Fault::usage(format!("the terminal: {error}"), "")),
        }
    }
}

/// A terminal that gives each key at once, and is as it was when this is dropped.
struct Terminal {
    before: Termios,
}

impl Terminal {
    fn take() -> Result<Terminal, Fault> {
        let fault = |error| Fault::usage(format!("the terminal: {error}"), "");
        let before = tcgetattr(stdin()).map_err(fault)?;
        let mut raw = before.clone();
        // Without signals Ctrl-C is a key like others, and nothing can end the program before the terminal is restored.
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(fault)?;
        let terminal = Terminal { before };
        say(ENTER)?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = say(LEAVE);
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
