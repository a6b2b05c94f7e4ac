//! Connections that have been idle for some seconds: most of those that are open.
//!
//! Owns them until they say something. Here a connection is what must be remembered of it, in a few hundred bytes: no
//! task, no timer, nothing in the event loop but the one descriptor through which the system tells of all of them. Must
//! never read a byte, nor keep a connection that has something to say.

use crate::idle::{self, Idle, Open, Presence, go_on};
use crate::listeners::Socket;
use crate::panics::Vital;
use crate::process::log::Level;
use crate::stream::{Aside, Stream};
use crate::worker::Worker;
use engine::exchange::Connection;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_local;

/// A connection without a task.
pub(crate) struct Parked {
    open: Open,
    stream: Aside,
    socket: Rc<Socket>,
    connection: Connection,
    /// Since when it is idle, on the thread's clock, in ms.
    since_ms: u64,
}

impl Parked {
    /// Parks a connection. One that cannot be parked comes back.
    pub(crate) fn park(mut idle: Idle) -> Result<(), Box<Idle>> {
        let worker = Rc::clone(&idle.presence.worker);
        let (Some(stream), Some(until_ms)) = (idle.stream.take(), idle.until_ms()) else {
            return Err(Box::new(idle));
        };
        // What is simulated has no descriptor that the system could tell of.
        #[cfg(test)]
        if matches!(stream, Stream::Simulated(_)) {
            idle.stream = Some(stream);
            return Err(Box::new(idle));
        }
        let parking = &worker.parking;
        let fd = stream.as_fd().as_raw_fd();
        // Before it leaves the event loop: if there is no room here, it stays there.
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, fd as u64);
        if parking.watch.get_ref().0.add(stream.as_fd(), event).is_err() {
            idle.stream = Some(stream);
            return Err(Box::new(idle));
        }
        let Idle { presence, socket, connection, since_ms, .. } = idle;
        match (presence.leave_seat(), stream.set_aside()) {
            (Some(open), Ok(stream)) => {
                let parked = Box::new(Parked { open, stream, socket, connection, since_ms });
                parking.parked.borrow_mut().insert(fd, (until_ms, parked));
                parking.has_grown.set(true);
            }
            // It is closed.
            (_, Err(error)) => worker.say_unwatched(&error),
            (None, Ok(_)) => {}
        }
        Ok(())
    }

    /// Is its address no longer listened on?
    pub(crate) fn is_given_up(&self) -> bool {
        self.socket.is_given_up()
    }

    /// Gives it a task again.
    fn resume(self) {
        let Parked { open, stream, socket, connection, since_ms } = self;
        match Stream::resume(stream) {
            Ok(stream) => {
                let presence = Presence::of(open);
                spawn_local(go_on(Idle { presence, stream: Some(stream), socket, connection, since_ms }));
            }
            Err(error) => open.worker.say_unwatched(&error),
        }
    }

    /// Closes it, unless a request has come that nobody has heard of yet.
    fn end(self) {
        if self.stream.has_bytes() {
            self.resume();
        }
    }
}

/// What tells of all of them.
struct Watch(Epoll);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

/// The parked connections of a thread.
pub(crate) struct Parking {
    watch: AsyncFd<Watch>,
    /// By descriptor, with the time at which each is closed.
    parked: RefCell<HashMap<RawFd, (u64, Box<Parked>)>>,
    has_grown: Cell<bool>,
}

/// How many are told of at a time.
const AT_A_TIME: usize = 64;

impl Parking {
    /// Room for parked connections, empty.
    ///
    /// # Errors
    /// The system has no descriptor for it.
    pub(crate) fn new() -> io::Result<Parking> {
        let watch = Watch(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        #[allow(unsafe_code)]
        // SAFETY: the watch owns its descriptor and shows always the same one, until it is dropped.
        let watch =
            unsafe { AsyncFd::register_with_interest(watch, Interest::READABLE) }.map_err(io::Error::from)?;
        Ok(Parking { watch, parked: RefCell::default(), has_grown: Cell::new(false) })
    }

    /// Resumes whoever has something to say, for ever.
    pub(crate) async fn keep_watching(&self) {
        let _vital = Vital;
        loop {
            // It fails when the event loop has ended, and nothing else goes on then.
            let Ok(mut ready) = self.watch.readable().await else { return };
            let mut events = [EpollEvent::empty(); AT_A_TIME];
            let told =
                ready.try_io(|watch| match watch.get_ref().0.wait(&mut events, EpollTimeout::ZERO)? {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    count => Ok(count),
                });
            for event in &events[..told.map_or(0, |count| count.unwrap_or(0))] {
                if let Some(parked) = self.take(event.data() as RawFd) {
                    parked.resume();
                }
            }
            // Others are served in between.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Have connections come since the last time that this was asked? What they needed before is free now.
    pub(crate) fn has_grown(&self) -> bool {
        self.has_grown.take()
    }

    fn take(&self, fd: RawFd) -> Option<Parked> {
        let (_, parked) = self.parked.borrow_mut().remove(&fd)?;
        // It is watched as long as it is here; a descriptor is forgotten with its last close in any case.
        let _ = self.watch.get_ref().0.delete(parked.stream.as_fd());
        Some(*parked)
    }

    /// Closes those whose time is up.
    pub(crate) async fn close_overdue(&self, now_ms: u64) {
        let overdue: Vec<RawFd> = {
            let parked = self.parked.borrow();
            parked.iter().filter(|(_, (until_ms, _))| *until_ms <= now_ms).map(|(fd, _)| *fd).collect()
        };
        for some in overdue.chunks(AT_A_TIME) {
            for fd in some {
                // It may be another one by now, that came under the same descriptor.
                if self.parked.borrow().get(fd).is_some_and(|(until_ms, _)| *until_ms <= now_ms) {
                    self.take(*fd).into_iter().for_each(Parked::end);
                }
            }
            // Those that came in one burst are due in one burst, and others are served in between.
            tokio::task::yield_now().await;
        }
        let mut parked = self.parked.borrow_mut();
        if parked.len() < parked.capacity() / 4 {
            parked.shrink_to_fit();
        }
    }

    /// Closes those that have been idle longest, to make room where `limit` connections are the most: an eighth of them,
    /// but not too many at once. Answers how many.
    fn close_oldest(&self, limit: usize, now_ms: u64) -> usize {
        let parked = self.parked.borrow();
        let may_go = parked
            .iter()
            .filter(|(_, (_, parked))| idle::spared_until_ms(&parked.connection, parked.since_ms) <= now_ms);
        let mut all: Vec<(u64, RawFd)> = may_go.map(|(fd, (_, parked))| (parked.since_ms, *fd)).collect();
        drop(parked);
        if all.is_empty() {
            return 0;
        }
        let wanted = crate::registry::worth_closing(all.len(), limit);
        all.select_nth_unstable(wanted - 1);
        for (_, fd) in &all[..wanted] {
            self.take(*fd).into_iter().for_each(Parked::end);
        }
        wanted
    }

    /// Gives a task to each of which this is so, to look whether it should end.
    pub(crate) fn resume_where(&self, is_meant: impl Fn(&Parked) -> bool) {
        let parked = self.parked.borrow();
        let fds: Vec<RawFd> =
            parked.iter().filter(|(_, (_, parked))| is_meant(parked)).map(|(fd, _)| *fd).collect();
        drop(parked);
        for fd in fds {
            self.take(fd).into_iter().for_each(Parked::resume);
        }
    }

    /// Closes those that have had an answer and say nothing: the thread is to end. The others have a task from here on.
    fn finish(&self) {
        let fds: Vec<RawFd> = self.parked.borrow().keys().copied().collect();
        for parked in fds.into_iter().filter_map(|fd| self.take(fd)) {
            // Who is spared for a while yet (`keepalive_min_timeout`) needs one, too.
            if parked.connection.requests > 0 && parked.connection.idle_min_ms == 0 {
                parked.end();
            } else {
                parked.resume();
            }
        }
    }
}

/// Closes what is parked when the thread ends, however it does: each of them holds on to the worker that it is parked
/// with, whose logs are written out when it goes.
pub(crate) struct ClosedAtTheEnd(pub(crate) Rc<Worker>);

impl Drop for ClosedAtTheEnd {
    fn drop(&mut self) {
        drop(self.0.parking.parked.take());
    }
}

impl Worker {
    /// Has every connection end that is idle, now that the thread is to end.
    pub(crate) fn end_idle(&self) {
        self.parking.finish();
        self.registry.wake_all();
    }

    /// Says that a connection was closed because the event loop cannot watch it.
    fn say_unwatched(&self, error: &io::Error) {
        if self.registry.may_say(Level::Alert, self.clock.now().monotonic_ms() / 1000) {
            self.generation()
                .alert(format_args!("an idle connection cannot be watched and is closed: {error}"));
        }
    }

    /// Makes room when hardly any is left of `limit`: idle connections are closed, those first that
    /// are idle longest. Answers how many.
    pub(crate) fn make_room(&self, limit: usize) -> usize {
        if !self.registry.is_nearly_full(limit) {
            return 0;
        }
        match self.parking.close_oldest(limit, self.clock.now().monotonic_ms()) {
            0 => self.registry.tell_oldest(limit),
            closed => closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_connection_is_small() {
        // With its entry among the others some 220 bytes; the rest of what the process takes for it is the allocator's.
        let bytes = size_of::<Parked>();
        assert!(bytes <= 192, "{bytes}");
    }
}
