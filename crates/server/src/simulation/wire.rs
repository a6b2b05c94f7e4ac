//! Two pipes that make a connection. Each takes and gives what the seed lets it; either end may be shut, closed or reset.
//!
//! Owns what a socket of the system does: how much goes at a time, what a close means to the other end, and what is lost
//! with a reset. Must never know what the bytes mean.

use nix::errno::Errno;
use sim::Seeded;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::time::Instant;
use transport::simulated::SimulatedStream;

/// One direction.
#[derive(Debug)]
struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Nothing more comes.
    ended: bool,
    /// The writer has torn the connection.
    torn: bool,
    /// The reader is closed.
    unread: bool,
    /// Bytes that were put in, and taken out, in all.
    put: u64,
    taken: u64,
    /// When the last of them was put in.
    last_put: Instant,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(capacity: usize) -> Rc<RefCell<Pipe>> {
        Rc::new(RefCell::new(Pipe {
            bytes: VecDeque::new(),
            capacity,
            ended: false,
            torn: false,
            unread: false,
            put: 0,
            taken: 0,
            last_put: Instant::now(),
            reader: None,
            writer: None,
        }))
    }

    /// Wakes both ends.
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// How a direction has fared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fared {
    pub(crate) put: u64,
    pub(crate) taken: u64,
    pub(crate) last_put: Instant,
}

/// One end of a connection. Dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Wire {
    from: Rc<RefCell<Pipe>>,
    to: Rc<RefCell<Pipe>>,
    seeded: RefCell<Seeded>,
    resets: Cell<bool>,
    closed: Cell<bool>,
}

/// How much a direction may hold, in bytes.
const CAPACITIES: [usize; 5] = [30, 600, 5_000, 70_000, 400_000];

impl Wire {
    /// Creates the two ends of a connection.
    pub(crate) fn pair(seeded: &mut Seeded) -> (Wire, Wire) {
        let one = Pipe::new(*seeded.one_of(&CAPACITIES));
        let other = Pipe::new(*seeded.one_of(&CAPACITIES));
        let end = |from: &Rc<RefCell<Pipe>>, to: &Rc<RefCell<Pipe>>, seeded: Seeded| Wire {
            from: Rc::clone(from),
            to: Rc::clone(to),
            seeded: RefCell::new(seeded),
            resets: Cell::new(false),
            closed: Cell::new(false),
        };
        (end(&one, &other, seeded.fork()), end(&other, &one, seeded.fork()))
    }

    /// Returns `most` in `percent` of the cases, else less.
    fn some_of(&self, most: usize, percent: u64) -> usize {
        let mut seeded = self.seeded.borrow_mut();
        if most == 0 || seeded.chance(percent) { most } else { seeded.within(1..=most as u64) as usize }
    }

    /// Adds all of this at once, however much there is already.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut to = self.to.borrow_mut();
        if !to.unread {
            to.bytes.extend(bytes);
            to.put += bytes.len() as u64;
            to.last_put = Instant::now();
            to.wake();
        }
    }

    /// Closes this end: in order if everything was read that came, else with a reset.
    pub(crate) fn close(&self) {
        if self.closed.replace(true) {
            return;
        }
        let mut from = self.from.borrow_mut();
        let mut to = self.to.borrow_mut();
        from.unread = true;
        if self.resets.get() || !from.bytes.is_empty() {
            // What the other end has not taken may be lost on the way.
            let len = to.bytes.len();
            let kept = if len == 0 { 0 } else { self.seeded.borrow_mut().below(len + 1) };
            to.bytes.truncate(kept);
            to.torn = true;
        } else {
            to.ended = true;
        }
        from.wake();
        to.wake();
    }

    /// Reads some of what there is, or waits for it; 0 is the other's end.
    pub(crate) async fn read(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; most];
        let count = std::future::poll_fn(|cx| self.poll_read(cx, &mut bytes)).await?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Writes some of these, or waits until it may; returns how many.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_write(cx, &[IoSlice::new(bytes)])).await
    }

    /// Returns how the incoming direction has fared.
    pub(crate) fn came(&self) -> Fared {
        fared(&self.from)
    }

    /// Returns how the outgoing direction has fared.
    pub(crate) fn went(&self) -> Fared {
        fared(&self.to)
    }

    /// Returns true if the other end is closed, so that nothing that is sent is read.
    pub(crate) fn is_left(&self) -> bool {
        self.to.borrow().unread || self.from.borrow().torn
    }

    /// Waits until it has.
    pub(crate) async fn left(&self) {
        std::future::poll_fn(|cx| {
            if self.is_left() {
                return Poll::Ready(());
            }
            self.to.borrow_mut().writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl SimulatedStream for Wire {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut from = self.from.borrow_mut();
        if from.bytes.is_empty() && !from.ended && !from.torn {
            from.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut to = self.to.borrow_mut();
        if to.bytes.len() >= to.capacity && !to.unread && !self.from.borrow().torn {
            to.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Returns how many bytes there are to read, up to one; 0 is the other's end.
    fn peek(&self) -> io::Result<usize> {
        let from = self.from.borrow();
        match (from.bytes.is_empty(), from.torn, from.ended) {
            (false, ..) => Ok(1),
            (true, true, _) => Err(Errno::ECONNRESET.into()),
            (true, false, true) => Ok(0),
            (true, false, false) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.peek() {
            Ok(0) => return Poll::Ready(Ok(0)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return self.poll_readable(cx).map_ok(|()| 0);
            }
            Err(error) => return Poll::Ready(Err(error)),
        }
        let mut from = self.from.borrow_mut();
        let most = buffer.len().min(from.bytes.len());
        let count = self.some_of(most, 60);
        for (place, byte) in buffer.iter_mut().zip(from.bytes.drain(..count)) {
            *place = byte;
        }
        from.taken += count as u64;
        from.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_write(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let all: usize = parts.iter().map(|part| part.len()).sum();
        if self.from.borrow().torn {
            return Poll::Ready(Err(Errno::ECONNRESET.into()));
        }
        if self.to.borrow().unread {
            // The first that comes after a close goes, for all the sender knows; it is answered with a reset.
            self.from.borrow_mut().torn = true;
            let goes = self.seeded.borrow_mut().chance(50);
            return Poll::Ready(if goes { Ok(all) } else { Err(Errno::EPIPE.into()) });
        }
        if self.poll_writable(cx).is_pending() {
            return Poll::Pending;
        }
        let mut to = self.to.borrow_mut();
        let count = self.some_of((to.capacity - to.bytes.len()).min(all), 70);
        to.bytes.extend(parts.iter().flat_map(|part| part.iter().copied()).take(count));
        to.put += count as u64;
        to.last_put = Instant::now();
        to.wake();
        Poll::Ready(Ok(count))
    }

    fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: &File,
        offset: &mut u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        let mut bytes = vec![0; len];
        let count = file.read_at(&mut bytes, *offset)?;
        let sent = self.poll_write(cx, &[IoSlice::new(&bytes[..count])]);
        if let Poll::Ready(Ok(sent)) = sent {
            *offset += sent as u64;
        }
        sent
    }

    /// The other end sees the end of what this one sends.
    fn shut_down_write(&self) {
        let mut to = self.to.borrow_mut();
        to.ended = true;
        to.wake();
    }

    /// The close that follows is a reset.
    fn reset_on_close(&self) {
        self.resets.set(true);
    }
}

fn fared(pipe: &RefCell<Pipe>) -> Fared {
    let Pipe { put, taken, last_put, .. } = *pipe.borrow();
    Fared { put, taken, last_put }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.close();
    }
}
