//! Semaphores of scripts (`ngx.semaphore`): a count of resources, and those who wait for one, in their order.
//!
//! They belong to no request: one posts and another waits. Nothing here runs Lua.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use engine::network::Waiting;

/// See the module.
#[derive(Default)]
pub(crate) struct Semaphore {
    resources: Cell<i32>,
    queue: RefCell<VecDeque<Rc<Ticket>>>,
    /// Tickets whose waits have ended with a resource.
    granted: RefCell<Vec<u32>>,
    last: Cell<u32>,
}

/// A place in the queue.
struct Ticket {
    number: u32,
    is_granted: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

/// One that waits.
struct Wait {
    semaphore: Rc<Semaphore>,
    ticket: Rc<Ticket>,
    time: Waiting,
    is_over: bool,
}

impl Semaphore {
    /// Makes one with so many resources.
    pub(crate) fn new(resources: i32) -> Rc<Semaphore> {
        Rc::new(Semaphore { resources: Cell::new(resources), ..Semaphore::default() })
    }

    /// Takes a resource, if there is one and no wait for it.
    pub(crate) fn take(&self) -> bool {
        let is_free = self.resources.get() > 0 && self.queue.borrow().is_empty();
        if is_free {
            self.resources.set(self.resources.get() - 1);
        }
        is_free
    }

    /// Adds resources: those that wait longest get them.
    pub(crate) fn post(&self, count: i32) {
        self.resources.set(self.resources.get().saturating_add(count));
        while self.resources.get() > 0 {
            let Some(ticket) = self.queue.borrow_mut().pop_front() else { break };
            self.resources.set(self.resources.get() - 1);
            ticket.is_granted.set(true);
            if let Some(waker) = ticket.waker.take() {
                waker.wake();
            }
        }
    }

    /// Returns the number of resources, less those that wait for one.
    pub(crate) fn count(&self) -> i32 {
        self.resources.get().saturating_sub_unsigned(self.queue.borrow().len() as u32)
    }

    /// Waits for a resource, for as long as `time` does. Returns the wait's number for [`Semaphore::take_granted`].
    pub(crate) fn wait(self: &Rc<Self>, time: Waiting) -> (u32, Waiting) {
        self.last.set(self.last.get().wrapping_add(1));
        let number = self.last.get();
        let ticket = Rc::new(Ticket { number, is_granted: Cell::new(false), waker: Cell::new(None) });
        self.queue.borrow_mut().push_back(Rc::clone(&ticket));
        (number, Waiting::new(Wait { semaphore: Rc::clone(self), ticket, time, is_over: false }))
    }

    /// Returns whether a wait has ended with a resource, once.
    pub(crate) fn take_granted(&self, number: u32) -> bool {
        let mut granted = self.granted.borrow_mut();
        let found = granted.iter().position(|ticket| *ticket == number);
        if let Some(at) = found {
            granted.swap_remove(at);
        }
        found.is_some()
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ticket.is_granted.get() {
            self.ticket.waker.set(Some(cx.waker().clone()));
            ready!(Pin::new(&mut self.time).poll(cx));
            return Poll::Ready(());
        }
        self.semaphore.granted.borrow_mut().push(self.ticket.number);
        self.is_over = true;
        Poll::Ready(())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.ticket.is_granted.get() {
            // One that was killed meanwhile has no use for it.
            if !self.is_over {
                self.semaphore.post(1);
            }
            return;
        }
        self.semaphore.queue.borrow_mut().retain(|ticket| !Rc::ptr_eq(ticket, &self.ticket));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polled(wait: &mut Waiting) -> bool {
        Pin::new(wait).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn endless() -> Waiting {
        Waiting::new(std::future::pending())
    }

    #[test]
    fn the_first_in_the_queue_gets_what_is_posted() {
        let semaphore = Semaphore::new(1);
        assert!(semaphore.take());
        assert!(!semaphore.take());
        let (first, mut waits) = semaphore.wait(endless());
        let (second, mut later) = semaphore.wait(endless());
        assert!(!polled(&mut waits) && !polled(&mut later));
        assert_eq!(semaphore.count(), -2);
        semaphore.post(1);
        assert_eq!((semaphore.count(), semaphore.take()), (-1, false));
        assert!(polled(&mut waits) && !polled(&mut later));
        assert!(semaphore.take_granted(first));
        assert!(!semaphore.take_granted(first) && !semaphore.take_granted(second));
    }

    #[test]
    fn a_wait_that_is_dropped_takes_nothing() {
        let semaphore = Semaphore::new(0);
        let (_, gone) = semaphore.wait(endless());
        let (number, mut waits) = semaphore.wait(endless());
        let (_, granted) = semaphore.wait(endless());
        drop(gone);
        assert_eq!(semaphore.count(), -2);
        semaphore.post(2);
        assert!(polled(&mut waits) && semaphore.take_granted(number));
        drop(granted);
        assert_eq!((semaphore.count(), semaphore.take()), (1, true));
    }

    #[test]
    fn a_wait_ends_with_its_time() {
        let semaphore = Semaphore::new(0);
        let (number, mut waits) = semaphore.wait(Waiting::new(std::future::ready(())));
        assert!(polled(&mut waits));
        drop(waits);
        assert_eq!((semaphore.take_granted(number), semaphore.count()), (false, 0));
    }
}
