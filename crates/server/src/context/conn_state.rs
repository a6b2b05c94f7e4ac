//! The open connections of a thread: how many there are, and which of them are idle, so that idle ones can be woken when
//! the thread is to end and closed to make room for others.

use crate::context::counters::ThreadCounters;
use process::log::Level;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use tokio_util::time::delay_queue::Key;

/// How many connections may be set aside: as many as the control plane lets calls stay open for long, in all.
const MAX_ASIDE: usize = 64;

/// A connection's deadline.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    /// On the thread's clock, in ms.
    pub(crate) at_ms: Cell<u64>,
    /// Its entry in the queue, and when that is due.
    pub(crate) entry: Cell<Option<(Key, u64)>>,
}

impl Deadline {
    /// Returns true if it has passed.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.at_ms.get()
    }
}

/// A connection with a task, as the registry knows it.
#[derive(Debug, Default)]
pub(crate) struct ConnState {
    waker: RefCell<Option<Waker>>,
    /// Until when its task waits.
    pub(crate) deadline: Deadline,
    /// From when on its response counts as a stream, on the thread's clock, in ms.
    stream_from_ms: Cell<Option<u64>>,
    /// Whether a response of its request was a stream when it ended.
    was_stream: Cell<bool>,
    /// Whether its stream is to end now.
    is_cut: Cell<bool>,
    /// Since when it is idle, in the order in which connections became idle; 0 if it is not.
    idle_since: Cell<u64>,
    /// Whether it is to make room for another, unless a request has come meanwhile.
    is_unwanted: Cell<bool>,
    /// The generation of the request being served; 0 between requests.
    generation: Cell<u64>,
}

impl ConnState {
    /// Sets from when on the response counts as a stream, in ms; 0 is from its beginning.
    pub(crate) fn stream_from(&self, ms: u64) {
        self.stream_from_ms.set(Some(ms));
    }

    /// Ends the response.
    pub(crate) fn no_stream(&self, now_ms: u64) {
        self.was_stream.set(self.is_stream(now_ms));
        self.stream_from_ms.set(None);
    }

    /// Ends the request. Returns whether its response was a stream, and whether it was cut.
    pub(crate) fn end_stream(&self) -> (bool, bool) {
        self.stream_from_ms.set(None);
        (self.was_stream.replace(false), self.is_cut.replace(false))
    }

    /// Returns true if the response under way counts as a stream.
    pub(crate) fn is_stream(&self, now_ms: u64) -> bool {
        self.stream_from_ms.get().is_some_and(|from| from <= now_ms)
    }

    /// Cuts the stream: whatever its task waits for, it is woken and finds that its time is up.
    pub(crate) fn cut(&self) {
        self.is_cut.set(true);
        self.wake();
    }

    /// Wakes its task.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Sets the generation of the request that begins; 0 when it has ended.
    pub(crate) fn serve(&self, generation: u64) {
        self.generation.set(generation);
    }

    /// Returns true if the stream is to end.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Returns true if it is to be closed to make room.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.is_unwanted.get()
    }

    /// Registers the polling task for [`ConnState::wake`].
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

/// Counts a connection as long as it exists: to an upstream, as set aside, or of a request that nothing waits for.
#[derive(Debug)]
pub(crate) struct ConnCount(Rc<Cell<usize>>);

impl ConnCount {
    fn new(count: &Rc<Cell<usize>>) -> ConnCount {
        count.set(count.get() + 1);
        ConnCount(Rc::clone(count))
    }
}

impl Drop for ConnCount {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// An open connection, counted as long as this exists: a quitting thread waits for the last one.
#[derive(Debug)]
pub(crate) struct OpenConn {
    registry: Rc<ConnRegistry>,
}

impl Drop for OpenConn {
    fn drop(&mut self) {
        self.registry.leave();
    }
}

/// All connections of a thread.
#[derive(Debug)]
pub(crate) struct ConnRegistry {
    /// Their counts in `stub_status`.
    counters: ThreadCounters,
    /// Open connections, parked ones included.
    open: Cell<usize>,
    /// Connections with a task.
    states: RefCell<Vec<Weak<ConnState>>>,
    /// How many of `states` are in use.
    tracked: Cell<usize>,
    /// Connections to upstreams.
    upstream_conns: Rc<Cell<usize>>,
    /// Connections that do not count against the limit.
    aside: Rc<Cell<usize>>,
    /// Requests that nothing waits for.
    copies: Rc<Cell<usize>>,
    /// Idle connections that are asked to close and are not closed yet.
    leaving: Cell<usize>,
    idle_times: Cell<u64>,
    /// The second of the last line about missing room: as an alert, as a warning, and about copies.
    logged_s: Cell<[Option<u64>; 3]>,
    emptied: RefCell<Option<Waker>>,
    /// Connections in the handshake of TLS, by their serial numbers: the oldest first.
    handshakes: RefCell<BTreeMap<u64, Rc<ConnState>>>,
}

/// A connection in the handshake of TLS, counted as long as this exists.
#[derive(Debug)]
pub(crate) struct HandshakeGuard {
    registry: Rc<ConnRegistry>,
    serial: u64,
}

impl Drop for HandshakeGuard {
    fn drop(&mut self) {
        self.registry.handshakes.borrow_mut().remove(&self.serial);
    }
}

impl ConnRegistry {
    /// Creates a registry without connections.
    pub(crate) fn new(counters: ThreadCounters) -> ConnRegistry {
        ConnRegistry {
            counters,
            open: Cell::default(),
            states: RefCell::default(),
            tracked: Cell::default(),
            upstream_conns: Rc::default(),
            aside: Rc::default(),
            copies: Rc::default(),
            leaving: Cell::default(),
            idle_times: Cell::default(),
            logged_s: Cell::default(),
            emptied: RefCell::default(),
            handshakes: RefCell::default(),
        }
    }

    /// Counts a new connection.
    pub(crate) fn open(self: &Rc<Self>) -> OpenConn {
        self.open.set(self.open.get() + 1);
        self.counters.opened();
        OpenConn { registry: Rc::clone(self) }
    }

    /// Creates the state of a connection that has a task.
    pub(crate) fn track(&self) -> Rc<ConnState> {
        let conn_state = Rc::new(ConnState::default());
        self.states.borrow_mut().push(Rc::downgrade(&conn_state));
        self.tracked.set(self.tracked.get() + 1);
        conn_state
    }

    /// Forgets the state of a connection whose task ends.
    pub(crate) fn release(&self, conn_state: &ConnState) {
        self.mark_active(conn_state);
        self.tracked.set(self.tracked.get() - 1);
        let mut states = self.states.borrow_mut();
        if states.len() > 64 && states.len() > 2 * self.tracked.get() {
            // This one still has its task, but nothing will wake that any more.
            states.retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), conn_state));
            let enough = 2 * states.len();
            states.shrink_to(enough);
        }
    }

    fn leave(&self) {
        self.counters.closed();
        self.open.set(self.open.get() - 1);
        if self.open.get() == 0
            && let Some(waker) = self.emptied.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Returns the number of open connections, those to upstreams included. One that is asked to close counts as closed,
    /// and one that is set aside does not count.
    pub(crate) fn len(&self) -> usize {
        let all = self.open.get() + self.upstream_conns.get();
        all.saturating_sub(self.leaving.get() + self.aside.get())
    }

    /// Sets the open connection of a call to the control API aside: it does not count against the limit while the value lives.
    /// `None` if too many are set aside already. To be called once for a connection, and not for requests that are none of
    /// their own: streams of HTTP/2 and subrequests.
    pub(crate) fn set_aside(&self) -> Option<ConnCount> {
        (self.aside.get() < MAX_ASIDE).then(|| ConnCount::new(&self.aside))
    }

    /// Counts a request that nothing waits for; `None` if there are so many that they take an eighth of `limit` connections:
    /// each has one to its upstream, too.
    pub(crate) fn begin_copy(&self, limit: usize) -> Option<ConnCount> {
        (self.copies.get() < (limit / 16).max(1)).then(|| ConnCount::new(&self.copies))
    }

    /// Counts a connection to an upstream.
    pub(crate) fn add_upstream(&self) -> ConnCount {
        ConnCount::new(&self.upstream_conns)
    }

    /// Counts a connection in the handshake of TLS. If there are `limit` already, the oldest one is cut.
    pub(crate) fn begin_handshake(
        self: &Rc<Self>,
        serial: u64,
        conn_state: &Rc<ConnState>,
        limit: usize,
    ) -> HandshakeGuard {
        let mut handshakes = self.handshakes.borrow_mut();
        if handshakes.len() >= limit
            && let Some((_, oldest)) = handshakes.pop_first()
        {
            oldest.cut();
        }
        handshakes.insert(serial, Rc::clone(conn_state));
        HandshakeGuard { registry: Rc::clone(self), serial }
    }

    /// Notes that a connection waits for a request, or only for its end.
    pub(crate) fn mark_idle(&self, conn_state: &ConnState) {
        self.idle_times.set(self.idle_times.get() + 1);
        conn_state.idle_since.set(self.idle_times.get());
    }

    /// Notes that a connection is no longer idle: a request has come, or it is closed.
    pub(crate) fn mark_active(&self, conn_state: &ConnState) {
        conn_state.idle_since.set(0);
        if conn_state.is_unwanted.replace(false) {
            self.leaving.set(self.leaving.get() - 1);
        }
    }

    /// Returns true if a line of this level may report missing room: once a second, so that a flood of connections does not
    /// flood the log.
    pub(crate) fn may_log(&self, level: Level, now_s: u64) -> bool {
        let mut logged = self.logged_s.get();
        let last = logged[usize::from(level > Level::Alert)].replace(now_s);
        self.logged_s.set(logged);
        last != Some(now_s)
    }

    /// Returns true if a line may say that a copy was dropped: once a second.
    pub(crate) fn may_log_dropped(&self, now_s: u64) -> bool {
        let mut logged = self.logged_s.get();
        let last = logged[2].replace(now_s);
        self.logged_s.set(logged);
        last != Some(now_s)
    }

    /// Returns true if less than a sixteenth of `limit` is left (as in nginx).
    pub(crate) fn is_nearly_full(&self, limit: usize) -> bool {
        limit.saturating_sub(self.len()) <= limit / 16
    }

    /// Asks the connections that have been idle longest to close, to make room below `limit`: an eighth of them, but not
    /// too many at once. Returns how many.
    pub(crate) fn close_oldest(&self, limit: usize) -> usize {
        let states = self.states.borrow();
        let mut idle: Vec<_> = states
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|conn_state| conn_state.idle_since.get() > 0 && !conn_state.is_unwanted())
            .collect();
        if idle.is_empty() {
            return 0;
        }
        let wanted = worth_closing(idle.len(), limit);
        idle.select_nth_unstable_by_key(wanted - 1, |conn_state| conn_state.idle_since.get());
        for conn_state in &idle[..wanted] {
            conn_state.is_unwanted.set(true);
            conn_state.wake();
        }
        self.leaving.set(self.leaving.get() + wanted);
        wanted
    }

    /// Cuts the requests of this generation and of older ones.
    pub(crate) fn cut_up_to(&self, generation: u64) {
        let states: Vec<Rc<ConnState>> = self.states.borrow().iter().filter_map(Weak::upgrade).collect();
        for conn_state in
            states.iter().filter(|conn_state| (1..=generation).contains(&conn_state.generation.get()))
        {
            conn_state.cut();
        }
    }

    /// Wakes every connection, so that each checks whether it should end.
    pub(crate) fn wake_all(&self) {
        for conn_state in self.states.borrow().iter().filter_map(Weak::upgrade) {
            conn_state.wake();
        }
    }

    /// Waits until no connection is open.
    pub(crate) async fn emptied(&self) {
        std::future::poll_fn(|cx| match self.open.get() {
            0 => std::task::Poll::Ready(()),
            _ => {
                *self.emptied.borrow_mut() = Some(cx.waker().clone());
                std::task::Poll::Pending
            }
        })
        .await;
    }
}

/// Returns how many of `idle` connections to close at a time. Finding the oldest takes time in proportion to the number of
/// connections, so each search must close enough of them.
pub(crate) fn worth_closing(idle: usize, limit: usize) -> usize {
    (idle / 8).clamp(1, (limit / 64).max(32)).min(idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::counters::ProcessCounters;
    use std::sync::Arc;

    fn registry() -> Rc<ConnRegistry> {
        Rc::new(ConnRegistry::new(ThreadCounters::new(Arc::new(ProcessCounters::new(1)), 0)))
    }

    #[test]
    fn longest_idle_connections_make_room() {
        let registry = registry();
        let _open: Vec<_> = (0..32).map(|_| registry.open()).collect();
        let states: Vec<_> = (0..32).map(|_| registry.track()).collect();
        assert_eq!(registry.close_oldest(32), 0, "all are busy");
        states.iter().rev().for_each(|conn_state| registry.mark_idle(conn_state));
        assert!(registry.is_nearly_full(34) && !registry.is_nearly_full(35));
        assert_eq!(registry.close_oldest(32), 4);
        let unwanted: Vec<_> = (0..32).filter(|at| states[*at].is_unwanted()).collect();
        assert_eq!(unwanted, [28, 29, 30, 31]);
        assert_eq!(registry.len(), 28, "counted as closed");
        registry.mark_active(&states[31]);
        assert!(!states[31].is_unwanted(), "a request has come");
        assert_eq!(registry.len(), 29);
    }

    #[test]
    fn connections_to_upstreams_count_against_the_limit() {
        let registry = registry();
        let open = registry.open();
        let idle = registry.track();
        registry.mark_idle(&idle);
        let to_upstreams: Vec<_> = (0..15).map(|_| registry.add_upstream()).collect();
        assert_eq!(registry.len(), 16);
        assert!(registry.is_nearly_full(17));
        assert_eq!(registry.close_oldest(16), 1);
        assert!(idle.is_unwanted());
        drop(to_upstreams);
        assert_eq!(registry.len(), 0);
        registry.release(&idle);
        drop(open);
        assert_eq!(registry.len(), 0, "closed connections are counted once");
    }

    #[test]
    fn connections_set_aside_do_not_count_against_the_limit() {
        let registry = registry();
        let _open: Vec<_> = (0..100).map(|_| registry.open()).collect();
        let aside: Vec<_> = (0..100).filter_map(|_| registry.set_aside()).collect();
        assert_eq!(
            (aside.len(), registry.len()),
            (MAX_ASIDE, 100 - MAX_ASIDE),
            "and their number is bounded"
        );
        drop(aside);
        assert_eq!(registry.len(), 100);
    }

    #[test]
    fn fewer_open_than_set_aside_counts_as_none() {
        let registry = registry();
        let _open = registry.open();
        let _aside: Vec<_> = (0..3).filter_map(|_| registry.set_aside()).collect();
        assert_eq!(registry.len(), 0);
        assert!(!registry.is_nearly_full(8));
    }

    #[test]
    fn copies_take_an_eighth_of_the_connections() {
        let registry = registry();
        // Each has a connection of its own, and one to its upstream.
        let mut copies: Vec<_> = (0..100).map_while(|_| registry.begin_copy(64)).collect();
        assert_eq!(copies.len(), 4);
        copies.pop();
        assert!(registry.begin_copy(64).is_some());
        drop(copies);
        assert!(registry.begin_copy(1).is_some(), "one in any case");
    }

    #[test]
    fn oldest_handshake_makes_room() {
        let registry = registry();
        let states: Vec<_> = (0..4).map(|_| registry.track()).collect();
        let mut guards: Vec<_> =
            (0..3).map(|at| registry.begin_handshake(at, &states[at as usize], 2)).collect();
        assert_eq!(
            states.iter().map(|state| state.is_cut()).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        guards.remove(1);
        let _fourth = registry.begin_handshake(3, &states[3], 2);
        assert!(!states[2].is_cut(), "one had ended");
    }

    #[test]
    fn untracked_connections_stay_open() {
        let registry = registry();
        let _open: Vec<_> = (0..200).map(|_| registry.open()).collect();
        let states: Vec<_> = (0..200).map(|_| registry.track()).collect();
        states.into_iter().for_each(|conn_state| registry.release(&conn_state));
        assert_eq!((registry.len(), registry.tracked.get()), (200, 0));
        assert!(registry.states.borrow().len() <= 64, "free states are not kept");
    }
}
