//! The time, read once for each time that a task is woken.
//!
//! A loop that is never idle has no turns: what took five milliseconds in it would be told as nothing.

use crate::process::log::utc_offset_s;
use engine::host::Now;
use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

thread_local! {
    /// The loop of this thread woke, or a task began to wait, since the time was last read.
    static STALE: Cell<bool> = const { Cell::new(true) };
}

/// The loop of this thread woke, or a task waits from now on: what was read is old for the next one.
pub(crate) fn turn() {
    STALE.set(true);
}

/// A thread's clock. [`turn`] is called when the loop wakes; the first who asks after that reads the time.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    now: Cell<Now>,
    offset_for_s: Cell<u64>,
}

impl Clock {
    /// A clock whose monotonic time begins at this moment: the same for all threads of the process.
    pub(crate) fn new(began: Instant) -> Clock {
        Clock { began, now: Cell::new(Now::default()), offset_for_s: Cell::new(u64::MAX) }
    }

    /// The time of this turn.
    pub(crate) fn now(&self) -> Now {
        if STALE.replace(false) || self.now.get().epoch_us == 0 {
            self.read();
        }
        self.now.get()
    }

    /// The time of this very moment.
    pub(crate) fn fresh(&self) -> Now {
        self.read();
        self.now.get()
    }

    fn read(&self) {
        let epoch_us =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        let mut now = Now {
            epoch_us,
            monotonic_us: self.began.elapsed().as_micros() as u64,
            utc_offset_s: self.now.get().utc_offset_s,
        };
        // The offset from UTC changes at most twice a year, on a full quarter of an hour.
        let quarter = now.epoch_s() / 900;
        if self.offset_for_s.replace(quarter) != quarter {
            now.utc_offset_s = utc_offset_s(now.epoch_s());
        }
        self.now.set(now);
    }
}
