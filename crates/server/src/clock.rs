//! The time, read once for each time that a task is woken.
//!
//! A loop that is never idle has no turns: what took five milliseconds in it would be told as nothing.

use crate::process::log::utc_offset_s;
use engine::host::Now;
use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    /// The system's time when the clock began, as it was when last asked, and when that was, in microseconds.
    began_epoch_us: Cell<u64>,
    asked_us: Cell<u64>,
}

/// How often the system's time is asked for, in microseconds: in between it goes on with the clock that never jumps,
/// so that the time costs one look and not two.
const ASK_EVERY_US: u64 = 100_000;

impl Clock {
    /// A clock whose monotonic time begins at this moment: the same for all threads of the process.
    pub(crate) fn new(began: Instant) -> Clock {
        Clock {
            began,
            now: Cell::new(Now::default()),
            offset_for_s: Cell::new(u64::MAX),
            began_epoch_us: Cell::new(0),
            asked_us: Cell::new(0),
        }
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

    /// The moment that is so many milliseconds on the clock that never jumps.
    pub(crate) fn moment(&self, monotonic_ms: u64) -> Instant {
        self.began + Duration::from_millis(monotonic_ms)
    }

    fn read(&self) {
        let monotonic_us = instant().saturating_duration_since(self.began).as_micros() as u64;
        if monotonic_us - self.asked_us.get() >= ASK_EVERY_US || self.began_epoch_us.get() == 0 {
            let epoch_us = system_us();
            self.began_epoch_us.set(epoch_us.saturating_sub(monotonic_us));
            self.asked_us.set(monotonic_us);
        }
        let mut now = Now {
            epoch_us: self.began_epoch_us.get() + monotonic_us,
            monotonic_us,
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

/// The clock that never jumps.
fn instant() -> Instant {
    #[cfg(test)]
    return tokio::time::Instant::now().into_std();
    #[cfg(not(test))]
    Instant::now()
}

/// The system's time, in microseconds since the Unix epoch.
fn system_us() -> u64 {
    #[cfg(test)]
    if let Some(us) = crate::simulation::system_us() {
        return us;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
