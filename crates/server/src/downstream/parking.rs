//! Connections that have been idle for some seconds: most of those that are open.
//!
//! Owns them until something comes. A parked connection is a few hundred bytes: no task, no timer, nothing in the event loop
//! but the one descriptor through which the system reports all of them. Must never read a byte, nor keep a connection that
//! has something to read.

use crate::context::conn_state::{OpenConn, worth_closing};
use crate::context::listen_socket::ListenSocket;
use crate::worker::panics::Vital;
use engine::exchange::Connection;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
#[cfg(test)]
use transport::stream::Socket;
use transport::stream::{Aside, Stream};

/// A connection without a task.
pub(crate) struct Parked {
    pub(crate) open: OpenConn,
    pub(crate) stream: Aside,
    pub(crate) socket: Rc<ListenSocket>,
    pub(crate) connection: Connection,
    /// Since when it is idle, on the thread's clock, in ms.
    pub(crate) since_ms: u64,
}

impl Parked {
    /// Returns true if its address is no longer listened on.
    pub(crate) fn is_given_up(&self) -> bool {
        self.socket.is_given_up()
    }
}

/// Returns until when a connection that is idle since `since_ms` must not be closed early, on the thread's clock, in ms: a
/// client that asks again soon must not meet a close on its way (`keepalive_min_timeout`).
pub(crate) fn spared_until_ms(connection: &Connection, since_ms: u64) -> u64 {
    since_ms.saturating_add(u64::from(connection.idle_min_ms))
}

/// The descriptor that reports all of them.
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
    /// Those that need a task, until [`Parking::keep_watching`] gives them one.
    waking: RefCell<Vec<Parked>>,
    woken: Notify,
    has_grown: Cell<bool>,
}

/// How many are handled at a time.
const BATCH: usize = 64;

impl Parking {
    /// Creates an empty one.
    ///
    /// # Errors
    /// Fails if the system has no descriptor for it.
    pub(crate) fn new() -> io::Result<Parking> {
        let watch = Watch(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        #[allow(unsafe_code)]
        // SAFETY: the watch owns its descriptor and shows always the same one, until it is dropped.
        let watch =
            unsafe { AsyncFd::register_with_interest(watch, Interest::READABLE) }.map_err(io::Error::from)?;
        Ok(Parking {
            watch,
            parked: RefCell::default(),
            waking: RefCell::default(),
            woken: Notify::new(),
            has_grown: Cell::new(false),
        })
    }

    /// Begins to watch a stream that is about to be parked. Returns false if that is not possible.
    pub(crate) fn watch(&self, stream: &Stream) -> bool {
        // A simulated stream has no descriptor.
        #[cfg(test)]
        if matches!(stream, Stream::Plain(Socket::Simulated(_))) {
            return false;
        }
        let fd = stream.as_fd();
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, fd.as_raw_fd() as u64);
        self.watch.get_ref().0.add(fd, event).is_ok()
    }

    /// Keeps a connection whose stream is watched, at most until `until_ms`.
    pub(crate) fn keep(&self, until_ms: u64, parked: Parked) {
        let fd = parked.stream.as_fd().as_raw_fd();
        self.parked.borrow_mut().insert(fd, (until_ms, Box::new(parked)));
        self.has_grown.set(true);
    }

    /// Hands every connection that has something to read, or is to be served for another reason, to `resume`. Runs until
    /// the event loop ends.
    pub(crate) async fn keep_watching(&self, resume: impl Fn(Parked)) {
        let _vital = Vital;
        loop {
            let ready = tokio::select! {
                // It fails when the event loop has ended, and nothing else goes on then.
                ready = self.watch.readable() => match ready {
                    Ok(ready) => Some(ready),
                    Err(_) => return,
                },
                () = self.woken.notified() => None,
            };
            self.waking.take().into_iter().for_each(&resume);
            if let Some(mut ready) = ready {
                let mut events = [EpollEvent::empty(); BATCH];
                let count =
                    ready.try_io(|watch| match watch.get_ref().0.wait(&mut events, EpollTimeout::ZERO)? {
                        0 => Err(io::ErrorKind::WouldBlock.into()),
                        count => Ok(count),
                    });
                for event in &events[..count.map_or(0, |count| count.unwrap_or(0))] {
                    self.take(event.data() as RawFd).into_iter().for_each(&resume);
                }
            }
            // Others are served in between.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Returns true if connections have come since the last call: what they needed before is free now.
    pub(crate) fn has_grown(&self) -> bool {
        self.has_grown.take()
    }

    fn take(&self, fd: RawFd) -> Option<Parked> {
        let (_, parked) = self.parked.borrow_mut().remove(&fd)?;
        // It is watched as long as it is here; a descriptor is forgotten with its last close in any case.
        let _ = self.watch.get_ref().0.delete(parked.stream.as_fd());
        Some(*parked)
    }

    /// Has the connection served again.
    fn wake(&self, parked: Parked) {
        self.waking.borrow_mut().push(parked);
        self.woken.notify_one();
    }

    /// Closes the connection, unless a request has come that the event loop has not reported yet.
    fn end(&self, parked: Parked) {
        if parked.stream.has_bytes() {
            self.wake(parked);
        }
    }

    /// Closes those whose time is up.
    pub(crate) async fn close_overdue(&self, now_ms: u64) {
        let overdue: Vec<RawFd> = {
            let parked = self.parked.borrow();
            parked.iter().filter(|(_, (until_ms, _))| *until_ms <= now_ms).map(|(fd, _)| *fd).collect()
        };
        for some in overdue.chunks(BATCH) {
            for fd in some {
                // The descriptor may belong to another connection by now.
                if self.parked.borrow().get(fd).is_some_and(|(until_ms, _)| *until_ms <= now_ms)
                    && let Some(parked) = self.take(*fd)
                {
                    self.end(parked);
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

    /// Closes those that have been idle longest, to make room below `limit`: an eighth of them, but not too many at once.
    /// Returns how many.
    pub(crate) fn close_oldest(&self, limit: usize, now_ms: u64) -> usize {
        let parked = self.parked.borrow();
        let may_go = parked
            .iter()
            .filter(|(_, (_, parked))| spared_until_ms(&parked.connection, parked.since_ms) <= now_ms);
        let mut all: Vec<(u64, RawFd)> = may_go.map(|(fd, (_, parked))| (parked.since_ms, *fd)).collect();
        drop(parked);
        if all.is_empty() {
            return 0;
        }
        let wanted = worth_closing(all.len(), limit);
        all.select_nth_unstable(wanted - 1);
        for (_, fd) in &all[..wanted] {
            self.take(*fd).into_iter().for_each(|parked| self.end(parked));
        }
        wanted
    }

    /// Wakes the connections that `is_meant` selects, so that each checks whether it should end.
    pub(crate) fn wake_where(&self, is_meant: impl Fn(&Parked) -> bool) {
        let parked = self.parked.borrow();
        let fds: Vec<RawFd> =
            parked.iter().filter(|(_, (_, parked))| is_meant(parked)).map(|(fd, _)| *fd).collect();
        drop(parked);
        for fd in fds {
            self.take(fd).into_iter().for_each(|parked| self.wake(parked));
        }
    }

    /// Closes those that have had a response and are silent, because the thread is to end. The others get a task.
    pub(crate) fn finish(&self) {
        let fds: Vec<RawFd> = self.parked.borrow().keys().copied().collect();
        for parked in fds.into_iter().filter_map(|fd| self.take(fd)) {
            // One that is still spared (`keepalive_min_timeout`) needs a task, too.
            if parked.connection.requests > 0 && parked.connection.idle_min_ms == 0 {
                self.end(parked);
            } else {
                self.wake(parked);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_connection_is_small() {
        // With its entry in the map some 220 bytes; the rest of what the process takes for it is the allocator's.
        let bytes = size_of::<Parked>();
        assert!(bytes <= 192, "{bytes}");
    }
}
