//! Connection counters: what `stub_status` shows.
//!
//! Each thread writes to numbers of its own; a reader adds them up.

use process::log;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One thread's numbers, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Numbers {
    handled: AtomicU64,
    refused: AtomicU64,
    active: AtomicU64,
    requests: AtomicU64,
    reading: AtomicU64,
    writing: AtomicU64,
}

/// All threads' numbers.
#[derive(Debug)]
pub(crate) struct ProcessCounters {
    threads: Vec<Numbers>,
    /// The serial number of the last connection.
    last: AtomicU64,
}

impl ProcessCounters {
    pub(crate) fn new(threads: usize) -> ProcessCounters {
        ProcessCounters {
            threads: (0..threads).map(|_| Numbers::default()).collect(),
            last: AtomicU64::new(0),
        }
    }

    /// Returns the sums over all threads.
    pub(crate) fn read(&self) -> engine::host::Counters {
        let sum =
            |of: fn(&Numbers) -> &AtomicU64| self.threads.iter().map(|n| of(n).load(Relaxed)).sum::<u64>();
        let (active, reading, writing) = (sum(|n| &n.active), sum(|n| &n.reading), sum(|n| &n.writing));
        let handled = sum(|n| &n.handled);
        engine::host::Counters {
            active,
            accepted: handled + sum(|n| &n.refused),
            handled,
            requests: sum(|n| &n.requests),
            reading,
            writing,
            waiting: active.saturating_sub(reading + writing),
            log_lines_lost: log::lost_lines(),
        }
    }
}

/// The activity of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// Waiting for a request.
    Waiting,
    /// Reading a request's head.
    Reading,
    /// Being answered.
    Writing,
}

/// A connection that is not waiting, as long as this exists; a panic or a cut ends that, too.
#[derive(Debug)]
pub(crate) struct Busy<'a> {
    counters: &'a ThreadCounters,
    activity: Activity,
}

impl Busy<'_> {
    /// Notes that the request's head was read.
    pub(crate) fn answers(&mut self) {
        self.counters.change(self.activity, Activity::Writing);
        self.activity = Activity::Writing;
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.counters.change(self.activity, Activity::Waiting);
    }
}

/// One thread's access to its numbers.
#[derive(Clone, Debug)]
pub(crate) struct ThreadCounters {
    all: Arc<ProcessCounters>,
    thread: usize,
}

impl ThreadCounters {
    pub(crate) fn new(all: Arc<ProcessCounters>, thread: usize) -> ThreadCounters {
        ThreadCounters { all, thread }
    }

    /// Returns the thread's number.
    pub(crate) fn thread(&self) -> usize {
        self.thread
    }

    fn numbers(&self) -> &Numbers {
        &self.all.threads[self.thread]
    }

    /// Only one thread writes, so a load and a store suffice.
    fn add(number: &AtomicU64, step: i64) {
        number.store(number.load(Relaxed).wrapping_add_signed(step), Relaxed);
    }

    /// Returns the serial number of a new connection, counted over all threads: the one in the error log (`*7`).
    pub(crate) fn next_serial(&self) -> u64 {
        self.all.last.fetch_add(1, Relaxed) + 1
    }

    pub(crate) fn opened(&self) {
        Self::add(&self.numbers().handled, 1);
        Self::add(&self.numbers().active, 1);
    }

    /// Counts a connection that was accepted without room for it.
    pub(crate) fn refused(&self) {
        Self::add(&self.numbers().refused, 1);
    }

    pub(crate) fn closed(&self) {
        Self::add(&self.numbers().active, -1);
    }

    pub(crate) fn request(&self) {
        Self::add(&self.numbers().requests, 1);
    }

    /// Notes that a connection begins to read a request's head.
    pub(crate) fn busy(&self) -> Busy<'_> {
        self.change(Activity::Waiting, Activity::Reading);
        Busy { counters: self, activity: Activity::Reading }
    }

    /// Moves a connection from one activity to another.
    fn change(&self, from: Activity, to: Activity) {
        for (activity, step) in [(from, -1), (to, 1)] {
            match activity {
                Activity::Waiting => {}
                Activity::Reading => Self::add(&self.numbers().reading, step),
                Activity::Writing => Self::add(&self.numbers().writing, step),
            }
        }
    }

    /// Returns the sums over all threads.
    pub(crate) fn read(&self) -> engine::host::Counters {
        self.all.read()
    }
}
