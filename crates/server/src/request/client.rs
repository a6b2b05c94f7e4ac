//! A client's connection while a request is served.

use crate::context::conn_state::ConnState;
use crate::context::thread_context::ThreadContext;
use crate::context::timeout::Timeout;
use crate::switching::in_flight_guard::InFlightGuard;
use engine::exchange::BodyFile;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use transport::body_reader::BodyReader;
use transport::read_buffer::ReadBuffer;
use transport::stream::Stream;

/// How much of a body is kept.
#[derive(Debug)]
pub(crate) enum Keep {
    Memory(Vec<u8>),
    File(BodyFile),
    Nothing,
}

/// A body of which some is read.
#[derive(Debug)]
pub(crate) struct PartialBody {
    pub(crate) keep: Keep,
    pub(crate) len: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Stream,
    /// Its timer.
    pub(crate) timeout: Timeout,
    /// Bytes not used yet.
    pub(crate) read_buffer: ReadBuffer,
    /// Reads the rest of the request's body.
    pub(crate) body: BodyReader,
    /// The part of the body that was read when reading it whole was broken off.
    pub(crate) partial_body: Option<Box<PartialBody>>,
    /// Whether `100 Continue` is still owed, should the body be wanted.
    pub(crate) owes_continue: bool,
    /// Where switches have routed its request.
    pub(crate) in_flight: InFlightGuard,
    pub(crate) conn_state: Rc<ConnState>,
    pub(crate) thread: Rc<ThreadContext>,
}

impl Client {
    /// Creates the client of a connection, or of one stream of it, before its request.
    pub(crate) fn new(stream: Stream, thread: &Rc<ThreadContext>, conn_state: &Rc<ConnState>) -> Client {
        Client {
            stream,
            timeout: Timeout::new(thread, conn_state),
            read_buffer: ReadBuffer::default(),
            body: BodyReader::Done,
            partial_body: None,
            owes_continue: false,
            in_flight: InFlightGuard::new(thread, conn_state),
            conn_state: Rc::clone(conn_state),
            thread: Rc::clone(thread),
        }
    }

    /// Returns true if its end can be seen while its body is read: of a stream of many on one connection.
    pub(crate) fn watches_while_reading(&self) -> bool {
        self.body.is_done() || matches!(self.stream, Stream::Piped(_))
    }

    /// Returns true if the body is known to end with the bytes that were read.
    pub(crate) fn is_body_read(&self) -> bool {
        matches!(self.body, BodyReader::UntilEnd(_)) && self.read_buffer.is_empty() && self.stream.is_at_end()
    }

    /// Reads more into the buffer; `Ok(0)` is the client's end, unless a body is whole with it.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.read_buffer.poll_fill(cx, &mut self.stream, &self.thread.buffers) {
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(usize::from(self.body.end_with_input()))),
            filled => filled,
        }
    }
}
