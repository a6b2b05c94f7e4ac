//! Pools of idle connections, and the queues of those who wait for one.
//!
//! They belong to one thread's Lua of one configuration: with it they end, and so do the connections in them. Sizes and
//! queues count as in ngx_lua, where they belong to a worker process.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use engine::network::{DialedConnection, Direction, Waiting};

/// All pools, by their keys.
#[derive(Default)]
pub(crate) struct Pools {
    pools: RefCell<HashMap<Rc<[u8]>, Rc<Pool>>>,
    /// Wakes who watches the idle connections.
    watcher: RefCell<Option<Waker>>,
    is_watched: Cell<bool>,
}

/// The pool of one key.
pub(crate) struct Pool {
    key: Rc<[u8]>,
    size: usize,
    /// How many may wait for a connection; `None`: there is no queue, and connections are not limited.
    backlog: Option<usize>,
    /// The connections in use and idle, and those who wait for one.
    connections: Cell<usize>,
    /// The newest is first.
    idle: RefCell<VecDeque<Idle>>,
    queue: RefCell<VecDeque<Rc<Ticket>>>,
    pools: Weak<Pools>,
}

/// An idle connection.
pub(super) struct Idle {
    pub(super) connection: Box<dyn DialedConnection>,
    /// How often it has come out of the pool.
    pub(super) reused: u32,
    is_timed: bool,
}

/// A place in the queue.
#[derive(Default)]
pub(super) struct Ticket {
    is_next: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// What a pool says to one who wants a connection.
pub(super) enum Entry {
    /// This one is idle.
    Idle(Idle),
    /// A new one may be made; it is counted.
    Free,
    /// Wait until it is your turn.
    Wait(Rc<Ticket>),
    /// Too many wait.
    Full,
}

impl Pools {
    /// Returns the pool of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Rc<Pool>> {
        self.pools.borrow().get(key).cloned()
    }

    /// Makes a pool.
    pub(super) fn create(self: &Rc<Self>, key: &[u8], size: usize, backlog: Option<usize>) -> Rc<Pool> {
        let key: Rc<[u8]> = Rc::from(key);
        let pool = Rc::new(Pool {
            key: Rc::clone(&key),
            size,
            backlog,
            connections: Cell::new(0),
            idle: RefCell::default(),
            queue: RefCell::default(),
            pools: Rc::downgrade(self),
        });
        self.pools.borrow_mut().insert(key, Rc::clone(&pool));
        pool
    }

    /// Closes every idle connection.
    pub(crate) fn close(&self) {
        let pools: Vec<Rc<Pool>> = self.pools.borrow().values().cloned().collect();
        for pool in pools {
            loop {
                let idle = pool.idle.borrow_mut().pop_front();
                if idle.is_none() {
                    break;
                }
                pool.leave();
            }
        }
    }

    /// Returns what must be polled for idle connections to be closed when their time is up or their peer closes them;
    /// `None` if it is polled already.
    pub(crate) fn watch(self: &Rc<Self>) -> Option<Waiting> {
        if self.is_watched.replace(true) {
            return None;
        }
        let pools = Rc::downgrade(self);
        Some(Waiting::new(poll_fn(move |cx| {
            let Some(pools) = pools.upgrade() else { return Poll::Ready(()) };
            *pools.watcher.borrow_mut() = Some(cx.waker().clone());
            let all: Vec<Rc<Pool>> = pools.pools.borrow().values().cloned().collect();
            all.iter().for_each(|pool| pool.drop_ended(cx));
            Poll::Pending
        })))
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        if let Some(waker) = self.watcher.take() {
            waker.wake();
        }
    }
}

impl Idle {
    /// Returns true if it is of no use any more; otherwise it wakes who watches when it is.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> bool {
        self.connection.poll_stirred(cx).is_ready()
            || self.is_timed && self.connection.poll_timer(Direction::Read, cx).is_ready()
    }
}

impl Pool {
    /// Asks for a connection. One who has waited may not be sent to the queue again.
    pub(super) fn enter(&self, has_waited: bool) -> Entry {
        while let Some(mut idle) = { self.idle.borrow_mut().pop_front() } {
            if idle.connection.poll_stirred(&mut Context::from_waker(Waker::noop())).is_pending() {
                return Entry::Idle(idle);
            }
            self.forget_one();
        }
        let connections = self.connections.get() + 1;
        if let (Some(backlog), false) = (self.backlog, has_waited) {
            if connections > self.size + backlog {
                return Entry::Full;
            }
            if connections > self.size {
                self.connections.set(connections);
                let ticket = Rc::new(Ticket::default());
                self.queue.borrow_mut().push_back(Rc::clone(&ticket));
                return Entry::Wait(ticket);
            }
        }
        self.connections.set(connections);
        Entry::Free
    }

    /// Counts one connection less.
    fn forget_one(&self) {
        self.connections.set(self.connections.get().saturating_sub(1));
    }

    /// Notes that one in use or idle is closed: another may be made. Forgets an empty pool.
    pub(super) fn leave(&self) {
        self.forget_one();
        if self.connections.get() > 0 {
            return self.admit_next();
        }
        let Some(pools) = self.pools.upgrade() else { return };
        let is_known = pools.pools.borrow().get(&self.key).is_some_and(|pool| std::ptr::eq(&**pool, self));
        if is_known {
            drop(pools.pools.borrow_mut().remove(&self.key));
        }
    }

    /// Lets the first in the queue go on.
    pub(super) fn admit_next(&self) {
        let Some(ticket) = self.queue.borrow_mut().pop_front() else { return };
        ticket.is_next.set(true);
        if let Some(waker) = ticket.waker.take() {
            waker.wake();
        }
    }

    /// Keeps a connection, in place of the one that has been idle longest if there are too many. `was_counted`: it was made
    /// for this pool. `timeout_ms` of 0 is without limit.
    pub(super) fn keep(
        &self,
        mut connection: Box<dyn DialedConnection>,
        reused: u32,
        was_counted: bool,
        timeout_ms: u64,
    ) {
        let oldest = match self.idle.borrow().len() >= self.size {
            true => self.idle.borrow_mut().pop_back(),
            false => None,
        };
        match (&oldest, was_counted) {
            (Some(_), true) => self.forget_one(),
            (None, false) => self.connections.set(self.connections.get() + 1),
            _ => {}
        }
        drop(oldest);
        if timeout_ms > 0 {
            connection.start_timer(Direction::Read, timeout_ms);
        }
        let mut idle = Idle { connection, reused, is_timed: timeout_ms > 0 };
        let watcher = self.pools.upgrade().and_then(|pools| pools.watcher.borrow().clone());
        if let Some(waker) = watcher {
            // Were it ended now, it would be found when it is asked for.
            let _ = idle.poll_ended(&mut Context::from_waker(&waker));
        }
        self.idle.borrow_mut().push_front(idle);
        self.admit_next();
    }

    /// Closes the idle connections that are of no use any more.
    fn drop_ended(&self, cx: &mut Context<'_>) {
        let mut ended = Vec::new();
        {
            let mut idle = self.idle.borrow_mut();
            let mut at = 0;
            while at < idle.len() {
                if idle[at].poll_ended(cx) {
                    ended.extend(idle.remove(at));
                } else {
                    at += 1;
                }
            }
        }
        for connection in ended {
            drop(connection);
            self.leave();
        }
    }

    /// Becomes ready when it is the ticket's turn; it is out of the queue then, and no longer counted.
    pub(super) fn poll_turn(&self, ticket: &Ticket, cx: &mut Context<'_>) -> Poll<()> {
        if ticket.is_next.get() {
            self.forget_one();
            return Poll::Ready(());
        }
        *ticket.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Gives a ticket back that is not used.
    pub(super) fn give_up(&self, ticket: &Rc<Ticket>) {
        self.forget_one();
        if ticket.is_next.get() {
            return self.admit_next();
        }
        self.queue.borrow_mut().retain(|other| !Rc::ptr_eq(other, ticket));
    }
}
