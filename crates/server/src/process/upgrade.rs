//! Binary upgrade (USR2): the place for it.
//!
//! Will own the start of a new program that inherits the listening sockets. Until it does, the signal is refused in
//! the log, so that nobody waits for a second master.

use super::journal::Journal;
use super::log::Level;

/// Says that the signal has no effect.
pub(super) fn refuse(journal: &Journal) {
    journal.say(
        Level::Error,
        format_args!("changing the binary while running is not supported, the signal has no effect"),
    );
}
