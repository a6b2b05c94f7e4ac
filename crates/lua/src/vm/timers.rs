//! Timers: which of them wait, how many of their functions run, and when the next one is due.
//!
//! Only times and numbers are kept here: functions and arguments are Lua's, and the `Vm` runs them. All times are in
//! milliseconds of the monotonic clock.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

/// The origin of a timer: the request whose script made it.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerOrigin {
    /// The number of its location, whose settings the timer's function has.
    pub(crate) location: u32,
    /// The text that follows that of log lines.
    pub(crate) text: Box<[u8]>,
}

/// A timer that waits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PendingTimer {
    due_ms: u64,
    /// Timers that are due at the same time run in the order in which they were made.
    order: u64,
    pub(crate) timer: i32,
    every_ms: Option<u64>,
    pub(crate) origin: Rc<TimerOrigin>,
}

/// A timer's function that sleeps.
struct SleepingFunction {
    due_ms: u64,
    function: u32,
}

/// A timer's function that waits for something of the host's.
pub(crate) struct ParkedFunction {
    function: u32,
    /// Set once that is there.
    pub(super) outcome: Cell<Option<Waited>>,
}

/// The result that a parked function has waited for.
#[derive(Debug)]
pub(crate) enum Waited {
    /// The outcome of its order to a switch.
    Order(Result<u64, String>),
    /// An event, whose result is with the one who asked for it.
    Event,
}

/// The timers of one machine.
pub(crate) struct Timers {
    waiting: RefCell<BinaryHeap<Reverse<PendingTimer>>>,
    sleeping: RefCell<Vec<SleepingFunction>>,
    parked: RefCell<Vec<Rc<ParkedFunction>>>,
    running: Cell<u32>,
    last_timer: Cell<i32>,
    last_order: Cell<u64>,
    now_ms: Cell<u64>,
    max_pending: u64,
    max_running: u64,
    exiting: Cell<bool>,
    /// Timers made before this one run with `premature` set: they waited when the thread or its configuration ended.
    first_after_exit: Cell<u64>,
    /// Called when a timer may be due sooner than [`Timers::next_ms`] said last.
    alarm: RefCell<Option<Box<dyn Fn()>>>,
}

/// The next timer that is due.
pub(crate) enum Due {
    /// A timer, and whether it waits again.
    Timer(PendingTimer, bool),
    /// A function whose sleep is over, by its number.
    Goes(u32),
    /// A function whose order to a switch has its outcome.
    Answered(u32, Result<u64, String>),
}

impl Timers {
    pub(super) fn new(max_pending: u64, max_running: u64) -> Timers {
        Timers {
            waiting: RefCell::default(),
            sleeping: RefCell::default(),
            parked: RefCell::default(),
            running: Cell::new(0),
            last_timer: Cell::new(0),
            last_order: Cell::new(0),
            now_ms: Cell::new(0),
            max_pending,
            max_running,
            exiting: Cell::new(false),
            first_after_exit: Cell::new(0),
            alarm: RefCell::new(None),
        }
    }

    /// Sets the time.
    pub(super) fn tick(&self, now_ms: u64) {
        self.now_ms.set(now_ms);
    }

    pub(super) fn set_alarm(&self, alarm: Box<dyn Fn()>) {
        *self.alarm.borrow_mut() = Some(alarm);
    }

    /// Adds a timer and returns its number; 0 when there are too many, -1 when the worker is about to end.
    pub(crate) fn add(&self, delay_ms: u64, every: bool, origin: Rc<TimerOrigin>) -> i32 {
        if self.exiting.get() && delay_ms > 0 {
            return -1;
        }
        if self.pending() as u64 >= self.max_pending {
            return 0;
        }
        // Numbers are used again after two thousand million timers.
        let timer = self.last_timer.get().checked_add(1).unwrap_or(1);
        self.last_timer.set(timer);
        self.wait(PendingTimer {
            due_ms: self.now_ms.get().saturating_add(delay_ms),
            order: 0,
            timer,
            every_ms: every.then_some(delay_ms),
            origin,
        });
        timer
    }

    fn wait(&self, mut pending: PendingTimer) {
        pending.order = self.last_order.get();
        self.last_order.set(pending.order + 1);
        self.waiting.borrow_mut().push(Reverse(pending));
        self.ring();
    }

    /// Puts a running function to sleep.
    pub(super) fn sleep(&self, ms: u64, function: u32) {
        let due_ms = self.now_ms.get().saturating_add(ms);
        self.sleeping.borrow_mut().push(SleepingFunction { due_ms, function });
        self.ring();
    }

    /// Keeps a running function until what it waits for is there.
    pub(super) fn park(&self, function: u32) -> Rc<ParkedFunction> {
        let parked = Rc::new(ParkedFunction { function, outcome: Cell::new(None) });
        self.parked.borrow_mut().push(Rc::clone(&parked));
        parked
    }

    /// Removes and returns a function whose outcome is known.
    fn take_answered(&self) -> Option<Due> {
        let mut parked = self.parked.borrow_mut();
        for at in 0..parked.len() {
            if let Some(outcome) = parked[at].outcome.take() {
                let function = parked.remove(at).function;
                return Some(match outcome {
                    Waited::Order(outcome) => Due::Answered(function, outcome),
                    Waited::Event => Due::Goes(function),
                });
            }
        }
        None
    }

    /// Rings the alarm: something may be due.
    pub(super) fn ring(&self) {
        if let Some(alarm) = &*self.alarm.borrow() {
            alarm();
        }
    }

    /// Removes and returns what is due, if anything is.
    pub(super) fn take_due(&self) -> Option<Due> {
        if let Some(answered) = self.take_answered() {
            return Some(answered);
        }
        let now_ms = self.now_ms.get();
        let mut sleeping = self.sleeping.borrow_mut();
        if let Some(at) = sleeping.iter().position(|sleeper| sleeper.due_ms <= now_ms) {
            return Some(Due::Goes(sleeping.remove(at).function));
        }
        drop(sleeping);
        let mut waiting = self.waiting.borrow_mut();
        let is_due =
            waiting.peek().is_some_and(|Reverse(first)| first.due_ms <= now_ms || self.exiting.get());
        let Reverse(pending) = if is_due { waiting.pop()? } else { return None };
        drop(waiting);
        let again = pending.every_ms.filter(|_| !self.exiting.get());
        if let Some(every_ms) = again {
            self.wait(PendingTimer { due_ms: now_ms.saturating_add(every_ms), ..pending.clone() });
        }
        Some(Due::Timer(pending, again.is_some()))
    }

    /// Returns the milliseconds until something is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let sleeping = self.sleeping.borrow().iter().map(|sleeper| sleeper.due_ms).min();
        let waiting = self.waiting.borrow().peek().map(|Reverse(first)| first.due_ms);
        let due_ms = [sleeping, waiting].into_iter().flatten().min()?;
        Some(due_ms.saturating_sub(self.now_ms.get()))
    }

    pub(crate) fn pending(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub(crate) fn running(&self) -> u32 {
        self.running.get()
    }

    /// Counts a function that begins.
    ///
    /// # Errors
    /// Returns the limit if it is reached.
    pub(super) fn begin(&self) -> Result<(), u64> {
        if u64::from(self.running.get()) >= self.max_running {
            return Err(self.max_running);
        }
        self.running.set(self.running.get() + 1);
        Ok(())
    }

    /// Counts a function that has ended.
    pub(super) fn end(&self) {
        self.running.set(self.running.get().saturating_sub(1));
    }

    /// Makes every timer due, and refuses new ones that would wait.
    pub(super) fn exit(&self) {
        self.exiting.set(true);
        self.first_after_exit.set(self.last_order.get());
    }

    pub(crate) fn is_exiting(&self) -> bool {
        self.exiting.get()
    }

    /// Returns whether a timer waited when the end began.
    pub(super) fn is_premature(&self, timer: &PendingTimer) -> bool {
        self.exiting.get() && timer.order < self.first_after_exit.get()
    }

    /// Returns whether timers wait, or functions of theirs.
    pub(super) fn has_work(&self) -> bool {
        self.running() > 0 || self.pending() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(timers: &Timers) -> Vec<i32> {
        let mut all = Vec::new();
        while let Some(due) = timers.take_due() {
            match due {
                Due::Timer(pending, _) => all.push(pending.timer),
                Due::Goes(_) => all.push(-1),
                Due::Answered(..) => all.push(-2),
            }
        }
        all
    }

    #[test]
    fn timers_run_by_time_and_then_by_age() {
        let timers = Timers::new(10, 10);
        let origin: Rc<TimerOrigin> = Rc::default();
        timers.tick(1000);
        let made: Vec<i32> =
            [50, 10, 10, 0].iter().map(|ms| timers.add(*ms, false, origin.clone())).collect();
        assert_eq!(made, [1, 2, 3, 4]);
        assert_eq!((timers.next_ms(), taken(&timers)), (Some(0), vec![4]));
        timers.tick(1010);
        assert_eq!((taken(&timers), timers.next_ms(), timers.pending()), (vec![2, 3], Some(40), 1));
    }

    #[test]
    fn repeated_timers_wait_again() {
        let timers = Timers::new(10, 10);
        timers.add(10, true, Rc::default());
        timers.tick(10);
        assert_eq!((taken(&timers), timers.next_ms()), (vec![1], Some(10)));
        timers.exit();
        assert_eq!((taken(&timers), timers.next_ms()), (vec![1], None));
    }

    #[test]
    fn pending_and_running_timers_are_limited() {
        let timers = Timers::new(1, 1);
        let origin: Rc<TimerOrigin> = Rc::default();
        assert_eq!((timers.add(1, false, origin.clone()), timers.add(1, false, origin.clone())), (1, 0));
        assert_eq!((timers.begin(), timers.begin()), (Ok(()), Err(1)));
        timers.end();
        assert_eq!(timers.begin(), Ok(()));
        timers.exit();
        assert_eq!(timers.add(1, false, origin), -1);
    }
}
