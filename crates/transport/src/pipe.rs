//! A stream of bytes in memory: between a connection that carries many of them and what serves one.
//!
//! Owns the bytes on their way, the bounds on them, and who is woken when there are more or fewer. It must never know what
//! they mean.

use std::cell::{Cell, Ref, RefCell};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The most bytes that one stream may have on their way out.
const MAX_OUTGOING: usize = 32 << 10;

/// How many files the streams of a connection may keep open while they wait for its client.
const MAX_FILES: usize = 16;

/// How many bytes all streams of a connection may have on their way out, and how many files open for them.
#[derive(Debug)]
pub struct PipeBudget {
    left: Cell<usize>,
    files: Cell<usize>,
    /// Whether a stream has found nothing left.
    is_short: Cell<bool>,
}

impl PipeBudget {
    /// Creates the budget of a connection.
    pub fn new(bytes: usize) -> Rc<PipeBudget> {
        Rc::new(PipeBudget {
            left: Cell::new(bytes),
            files: Cell::new(MAX_FILES),
            is_short: Cell::new(false),
        })
    }

    /// Returns true if a stream found nothing left, and there is something now: its writer should be woken.
    pub fn take_relief(&self) -> bool {
        self.left.get() > 0 && self.is_short.replace(false)
    }
}

/// The right to keep a file open while its reader waits. Dropping it gives it back.
#[derive(Debug)]
pub struct FileTicket(Option<Rc<PipeBudget>>);

impl FileTicket {
    /// Returns one for a connection of a single stream, whose number is bounded.
    pub(crate) fn of_connection() -> FileTicket {
        FileTicket(None)
    }
}

impl Drop for FileTicket {
    fn drop(&mut self) {
        if let Some(budget) = &self.0 {
            budget.files.set(budget.files.get() + 1);
        }
    }
}

/// Bytes that wait for the other side.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.bytes.len() + bytes.len() > self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }
}

#[derive(Debug, Default)]
struct State {
    incoming: Queue,
    /// Nothing more comes in.
    has_ended: bool,
    outgoing: Queue,
    /// The connection, or the stream of it, is gone.
    is_broken: bool,
    /// Bytes that were read and that the connection has not been told of.
    taken: usize,
    /// The reader waits for more than there is.
    is_wanted: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The connection's side of a stream.
#[derive(Debug)]
pub struct Pipe {
    state: RefCell<State>,
    budget: Rc<PipeBudget>,
}

/// The other side, as what serves the stream has it: see [`crate::stream::Stream`].
#[derive(Debug)]
pub struct PipeEnd(Rc<Pipe>);

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Pipe {
    /// Creates a stream of a connection with this budget.
    pub fn new(budget: &Rc<PipeBudget>) -> (Rc<Pipe>, PipeEnd) {
        let pipe = Rc::new(Pipe { state: RefCell::default(), budget: Rc::clone(budget) });
        (Rc::clone(&pipe), PipeEnd(pipe))
    }

    /// Passes bytes on to the reader. The caller bounds them.
    pub fn feed(&self, bytes: &[u8]) {
        let mut state = self.state.borrow_mut();
        state.incoming.push(bytes);
        state.is_wanted = false;
        wake(&mut state.reader);
    }

    /// Notes that nothing more comes in.
    pub fn end(&self) {
        let mut state = self.state.borrow_mut();
        state.has_ended = true;
        wake(&mut state.reader);
    }

    /// Breaks the stream: reads and writes fail from now on, and what is on its way out is dropped.
    pub fn break_off(&self) {
        let mut state = self.state.borrow_mut();
        state.is_broken = true;
        self.drop_outgoing(&mut state);
        wake(&mut state.reader);
        wake(&mut state.writer);
    }

    fn drop_outgoing(&self, state: &mut State) {
        self.budget.left.set(self.budget.left.get() + state.outgoing.len());
        state.outgoing = Queue::default();
    }

    /// Returns the bytes on their way out.
    pub fn outgoing(&self) -> Ref<'_, [u8]> {
        Ref::map(self.state.borrow(), |state| state.outgoing.unread())
    }

    /// Takes bytes from the beginning of those on their way out.
    pub fn consume(&self, count: usize) {
        let mut state = self.state.borrow_mut();
        state.outgoing.consume(count);
        self.budget.left.set(self.budget.left.get() + count);
        wake(&mut state.writer);
    }

    /// Wakes a writer that has found the budget used up.
    pub fn wake_writer(&self) {
        wake(&mut self.state.borrow_mut().writer);
    }

    /// Returns how many bytes were read since the last call, and whether the reader waits for more.
    pub fn take_progress(&self) -> (usize, bool) {
        let mut state = self.state.borrow_mut();
        (std::mem::take(&mut state.taken), std::mem::take(&mut state.is_wanted))
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        self.0.drop_outgoing(&mut state);
    }
}

/// Registers a task to be woken.
fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(known) => known.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}

impl PipeEnd {
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state.borrow_mut();
        if state.incoming.len() > 0 || state.has_ended || state.is_broken {
            return Poll::Ready(Ok(()));
        }
        state.is_wanted = true;
        register(&mut state.reader, cx);
        Poll::Pending
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.state.borrow_mut();
        if state.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let count = state.incoming.len().min(buffer.len());
        if count == 0 && !state.has_ended {
            state.is_wanted = true;
            register(&mut state.reader, cx);
            return Poll::Pending;
        }
        buffer[..count].copy_from_slice(&state.incoming.unread()[..count]);
        state.incoming.consume(count);
        state.taken += count;
        Poll::Ready(Ok(count))
    }

    /// Returns how many bytes may be written now, or registers the task.
    fn poll_room(&self, state: &mut State, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        if state.is_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let left = self.0.budget.left.get();
        let room = MAX_OUTGOING.saturating_sub(state.outgoing.len()).min(left);
        if room == 0 {
            self.0.budget.is_short.set(left == 0 || self.0.budget.is_short.get());
            register(&mut state.writer, cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(room))
    }

    fn push(&self, state: &mut State, bytes: &[u8]) {
        state.outgoing.push(bytes);
        self.0.budget.left.set(self.0.budget.left.get() - bytes.len());
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.state.borrow_mut();
        let room = match self.poll_room(&mut state, cx) {
            Poll::Ready(Ok(room)) => room,
            other => return other,
        };
        let mut written = 0;
        for part in parts {
            let count = part.len().min(room - written);
            self.push(&mut state, &part[..count]);
            written += count;
        }
        Poll::Ready(Ok(written))
    }

    pub(crate) fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &File,
        offset: &mut u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.state.borrow_mut();
        let room = match self.poll_room(&mut state, cx) {
            Poll::Ready(Ok(room)) => room,
            other => return other,
        };
        let mut buffer = [0; 8 << 10];
        let want = len.min(buffer.len()).min(room);
        let count = file.read_at(&mut buffer[..want], *offset)?;
        self.push(&mut state, &buffer[..count]);
        *offset += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Returns the right to keep a file open, if there is one left.
    pub(crate) fn file_ticket(&self) -> Option<FileTicket> {
        let files = &self.0.budget.files;
        let left = files.get().checked_sub(1)?;
        files.set(left);
        Some(FileTicket(Some(Rc::clone(&self.0.budget))))
    }

    /// Becomes ready when something may be written, or nothing any more.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state.borrow_mut();
        self.poll_room(&mut state, cx).map_ok(drop)
    }

    /// Returns true if so many bytes may be written at once.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let len = self.0.state.borrow().outgoing.len();
        MAX_OUTGOING.saturating_sub(len).min(self.0.budget.left.get()) >= bytes
    }

    /// Becomes ready with the number of bytes on their way out once that differs from `known`; an error if they cannot go.
    pub(crate) fn poll_unsent(&self, cx: &mut Context<'_>, known: usize) -> Poll<io::Result<usize>> {
        let mut state = self.0.state.borrow_mut();
        if state.is_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match state.outgoing.len() {
            len if len == known && len > 0 => {
                register(&mut state.writer, cx);
                Poll::Pending
            }
            len => Poll::Ready(Ok(len)),
        }
    }

    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.0.state.borrow_mut();
        if state.is_broken {
            return Poll::Ready(true);
        }
        register(&mut state.reader, cx);
        Poll::Pending
    }

    /// Returns true if everything that comes in was read.
    pub(crate) fn is_at_end(&self) -> bool {
        let state = self.0.state.borrow();
        state.has_ended && state.incoming.len() == 0 && !state.is_broken
    }

    pub(crate) fn has_bytes(&self) -> bool {
        let state = self.0.state.borrow();
        state.incoming.len() > 0 || state.is_broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_cx<T>(call: impl FnOnce(&mut Context<'_>) -> T) -> T {
        call(&mut Context::from_waker(Waker::noop()))
    }

    fn write(end: &mut PipeEnd, bytes: &[u8]) -> Option<usize> {
        match with_cx(|cx| end.poll_write(cx, &[IoSlice::new(bytes)])) {
            Poll::Ready(written) => Some(written.unwrap_or(0)),
            Poll::Pending => None,
        }
    }

    #[test]
    fn bytes_on_their_way_out_are_bounded() {
        let budget = PipeBudget::new(40_000);
        let (pipe, mut end) = Pipe::new(&budget);
        let (_other, mut other_end) = Pipe::new(&budget);
        assert_eq!(write(&mut end, &[1; 50_000]), Some(MAX_OUTGOING));
        assert_eq!(write(&mut end, b"x"), None, "the stream's own bound");
        assert!(!budget.take_relief());
        assert_eq!(write(&mut other_end, &[2; 50_000]), Some(40_000 - MAX_OUTGOING));
        assert_eq!(write(&mut other_end, b"x"), None, "the bound of all");
        pipe.consume(100);
        assert!(budget.take_relief() && !budget.take_relief());
        assert_eq!(write(&mut other_end, &[2; 200]), Some(100));
        assert_eq!(pipe.outgoing().len(), MAX_OUTGOING - 100);
        drop(end);
        assert_eq!(pipe.outgoing().len(), 0);
        pipe.break_off();
        assert_eq!(budget.left.get(), MAX_OUTGOING - 100, "what was dropped is given back once");
    }

    #[test]
    fn files_that_are_kept_open_are_bounded_for_all_streams() {
        let budget = PipeBudget::new(1);
        let (_pipe, end) = Pipe::new(&budget);
        let (_other, other) = Pipe::new(&budget);
        let mut tickets: Vec<_> = (0..MAX_FILES - 1).map(|_| end.file_ticket().unwrap()).collect();
        tickets.push(other.file_ticket().unwrap());
        assert!(end.file_ticket().is_none() && other.file_ticket().is_none());
        tickets.pop();
        assert!(end.file_ticket().is_some());
    }

    #[test]
    fn a_reader_sees_the_end_and_a_break() {
        let (pipe, mut end) = Pipe::new(&PipeBudget::new(1));
        let mut buffer = [0; 4];
        assert!(with_cx(|cx| end.poll_read(cx, &mut buffer)).is_pending());
        assert_eq!(pipe.take_progress(), (0, true));
        pipe.feed(b"hello");
        assert!(matches!(with_cx(|cx| end.poll_read(cx, &mut buffer)), Poll::Ready(Ok(4))));
        assert_eq!((&buffer, pipe.take_progress()), (b"hell", (4, false)));
        pipe.end();
        assert!(matches!(with_cx(|cx| end.poll_read(cx, &mut buffer)), Poll::Ready(Ok(1))));
        assert!(matches!(with_cx(|cx| end.poll_read(cx, &mut buffer)), Poll::Ready(Ok(0))));
        assert!(
            with_cx(|cx| end.poll_closed(cx)).is_pending(),
            "the end of a request is no end of its client"
        );
        pipe.break_off();
        assert!(matches!(with_cx(|cx| end.poll_closed(cx)), Poll::Ready(true)));
        assert!(matches!(with_cx(|cx| end.poll_read(cx, &mut buffer)), Poll::Ready(Err(_))));
    }
}
