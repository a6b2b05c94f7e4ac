//! The tasks of a thread that wait for the next publication of tables.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    wakers: RefCell<Vec<Waker>>,
    /// How often they were woken.
    turn: Cell<u64>,
}

impl Waiting {
    /// Registers the polling task for the next publication. `noted` is the turn for which it is registered already.
    pub(crate) fn note(&self, noted: &mut Option<u64>, cx: &Context<'_>) {
        if noted.replace(self.turn.get()) != Some(self.turn.get()) {
            self.wakers.borrow_mut().push(cx.waker().clone());
        }
    }

    /// Wakes every task; each checks for itself whether it may go on.
    pub(crate) fn wake_all(&self) {
        self.turn.set(self.turn.get() + 1);
        self.wakers.take().into_iter().for_each(Waker::wake);
    }
}
