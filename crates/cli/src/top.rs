//! `pointsman top`: the screen of `status`, redrawn each second.
//!
//! Owns the terminal while it runs, and restores it: on `q`, on Ctrl-C, on an error. Must never be used without a
//! terminal: a program takes `status --json`.

use crate::error::{Code, Error, say_raw};
use crate::session::GlobalOptions;
use crate::status::{self, Period};
use clap::Args;
use control::api::types;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{IsTerminal, stdin, stdout};
use std::time::{Duration, Instant};

/// Between two screens.
const EACH: Duration = Duration::from_secs(1);
/// Switches to the alternate screen, without a cursor (xterm control sequences).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Switches back, with the cursor.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Moves to the first line.
const HOME: &str = "\x1b[H";
/// Erases the rest of the line, of the screen.
const REST_OF_LINE: &str = "\x1b[K";
const REST_OF_SCREEN: &str = "\x1b[J";

/// Show the status and redraw it each second, until q or Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = "Keys: 1 2 3 4 show the last 10 seconds, minute, 5 minutes, hour; q quits.")]
pub(crate) struct Top {
    /// Period that the figures cover
    #[arg(long, value_name = "TIME", value_enum, default_value = "10s")]
    window: Period,
}

impl Top {
    pub(crate) fn run(&self, global: &GlobalOptions) -> Result<Code, Error> {
        if global.json || !stdin().is_terminal() || !stdout().is_terminal() {
            return Err(Error::usage(
                "top needs a terminal",
                "use pointsman status, with --json for programs",
            ));
        }
        let session = global.session()?;
        // Asked once before the terminal is touched, so that an error is printed on the usual screen.
        let mut window = self.window;
        let (mut shown, _) = session.client.ask::<types::Status>(&status::call(window))?;
        let _terminal = Terminal::take()?;
        loop {
            draw(&status::screen(&shown, session.switch_name()))?;
            match key(EACH)? {
                Some(b'q' | b'Q' | 0x03 | 0x04) => return Ok(Code::Done),
                Some(b'1') => window = Period::TenSeconds,
                Some(b'2') => window = Period::Minute,
                Some(b'3') => window = Period::FiveMinutes,
                Some(b'4') => window = Period::Hour,
                _ => {}
            }
            shown = session.client.ask::<types::Status>(&status::call(window))?.0;
        }
    }
}

/// Draws as much of the text as fits the screen.
fn draw(text: &str) -> Result<(), Error> {
    let (rows, columns) = size();
    let mut out = HOME.to_owned();
    for line in switch::visible(text).lines().take(rows.saturating_sub(1)) {
        out.extend(line.chars().take(columns));
        out.push_str(REST_OF_LINE);
        out.push_str("\r\n");
    }
    out.push_str(REST_OF_SCREEN);
    say_raw(&out)
}

/// Returns the screen's lines and columns; 24 and 80 where they are unknown.
fn size() -> (usize, usize) {
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => (24, 80),
    }
}

/// Returns the next key pressed within this time.
fn key(within: Duration) -> Result<Option<u8>, Error> {
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
            Err(error) => return Err(Error::usage(format!("the terminal: {error}"), "")),
        }
    }
}

/// A terminal that delivers each key at once, and is restored on drop.
struct Terminal {
    before: Termios,
}

impl Terminal {
    fn take() -> Result<Terminal, Error> {
        let fault = |error| Error::usage(format!("the terminal: {error}"), "");
        let before = tcgetattr(stdin()).map_err(fault)?;
        let mut raw = before.clone();
        // Without signals Ctrl-C is a key like others, and nothing can end the program before the terminal is restored.
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(fault)?;
        let terminal = Terminal { before };
        say_raw(ENTER)?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = say_raw(LEAVE);
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
