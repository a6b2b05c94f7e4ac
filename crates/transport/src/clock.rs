//! The time, read once for each time that a task is woken.
//!
//! Once per turn of the event loop would not do: a loop that is never idle has no turns.

use engine::host::Now;
use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

thread_local! {
    /// Whether the event loop of this thread woke, or a task began to wait, since the time was last read.
    static STALE: Cell<bool> = const { Cell::new(true) };
}

/// Makes the time stale: the event loop of this thread woke, or a task begins to wait.
#[inline]
pub fn turn() {
    STALE.set(true);
}

/// A thread's clock. The first call after [`turn`] reads the time.
#[derive(Debug)]
pub struct Clock {
    began: Instant,
    /// The offset of local time from UTC at an epoch second, in seconds.
    utc_offset_s: fn(u64) -> i32,
    now: Cell<Now>,
    offset_for_s: Cell<u64>,
    /// The system's time when the clock began, by the last look at it, and when that look was, in microseconds.
    began_epoch_us: Cell<u64>,
    asked_us: Cell<u64>,
}

/// How often the system's time is read, in microseconds: in between it is derived from the monotonic clock, so that the
/// time costs one read and not two.
const ASK_EVERY_US: u64 = 100_000;

impl Clock {
    /// Creates a clock whose monotonic time is zero at `began`: the same for all threads of the process. `utc_offset_s` gives
    /// the offset of local time from UTC at an epoch second.
    pub fn new(began: Instant, utc_offset_s: fn(u64) -> i32) -> Clock {
        Clock {
            began,
            utc_offset_s,
            now: Cell::new(Now::default()),
            offset_for_s: Cell::new(u64::MAX),
            began_epoch_us: Cell::new(0),
            asked_us: Cell::new(0),
        }
    }

    /// Returns the time, as read at most once for each time that a task is woken.
    #[inline]
    pub fn now(&self) -> Now {
        if STALE.replace(false) || self.now.get().epoch_us == 0 {
            self.read();
        }
        self.now.get()
    }

    /// Reads the time anew.
    pub fn fresh(&self) -> Now {
        self.read();
        self.now.get()
    }

    /// Returns the instant at a time of the monotonic clock.
    pub fn moment(&self, monotonic_ms: u64) -> Instant {
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
            now.utc_offset_s = (self.utc_offset_s)(now.epoch_s());
        }
        self.now.set(now);
    }
}

/// Returns the monotonic time.
fn instant() -> Instant {
    #[cfg(feature = "simulation")]
    return tokio::time::Instant::now().into_std();
    #[cfg(not(feature = "simulation"))]
    Instant::now()
}

/// Returns the system's time, in microseconds since the Unix epoch.
fn system_us() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(us) = crate::simulated::epoch_us() {
        return us;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
