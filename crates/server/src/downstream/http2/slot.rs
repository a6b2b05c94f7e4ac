//! A stream's place on its connection: the future that serves it, when that is polled, and how its answer is framed.

use super::stream::StreamEnd;
use http::h2::{H2Connection, PIECE_HEADER_BYTES, PieceHeader, PieceKind};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use transport::pipe::Pipe;

/// Wakes the connection's task, and notes for which stream.
#[derive(Debug)]
struct StreamWaker {
    is_woken: AtomicBool,
    connection: Mutex<Waker>,
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.connection.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

/// See the module.
pub(super) struct Slot {
    pub(super) stream: u32,
    pub(super) pipe: Rc<Pipe>,
    future: Option<Pin<Box<dyn Future<Output = StreamEnd>>>>,
    state: Arc<StreamWaker>,
    waker: Waker,
    /// How the future has ended.
    pub(super) end: Option<StreamEnd>,
    answer: Framer,
}

impl Slot {
    /// Creates the place of a stream that is served by `future`.
    pub(super) fn new(
        stream: u32,
        pipe: Rc<Pipe>,
        future: Pin<Box<dyn Future<Output = StreamEnd>>>,
        connection: &Waker,
    ) -> Slot {
        let state = Arc::new(StreamWaker {
            is_woken: AtomicBool::new(true),
            connection: Mutex::new(connection.clone()),
        });
        let waker = Waker::from(Arc::clone(&state));
        Slot { stream, pipe, future: Some(future), state, waker, end: None, answer: Framer::default() }
    }

    /// Polls the future if it was woken. Returns true if it was.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> bool {
        let Some(future) = &mut self.future else { return false };
        if !self.state.is_woken.swap(false, Ordering::AcqRel) {
            return false;
        }
        self.state.connection.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        let mut own = Context::from_waker(&self.waker);
        // A panic is logged by its hook. It ends this stream, as it ends a connection of HTTP/1, and no other.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut own)));
        let end = match polled {
            Ok(Poll::Pending) => return true,
            Ok(Poll::Ready(end)) => end,
            Err(_) => StreamEnd::Broken,
        };
        self.future = None;
        self.end = Some(end);
        true
    }

    /// Wakes the future, so that it is polled with the next turn.
    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// Returns true if the answer was framed to its end.
    pub(super) fn has_answered(&self) -> bool {
        self.answer.has_ended
    }

    /// Frames what is there of the answer: at most `most` bytes of its body, as the windows allow. Returns true if anything
    /// was framed.
    pub(super) fn frame(&mut self, codec: &mut H2Connection, out: &mut Vec<u8>, most: usize) -> bool {
        self.answer.frame(self.stream, &self.pipe, codec, out, most)
    }
}

/// What is being framed of an answer.
#[derive(Debug, Default)]
struct Framer {
    /// The piece under way, and how many of its bytes are still to come.
    piece: Option<(PieceKind, u64)>,
    /// What has come of a header block.
    block: Vec<u8>,
    /// The most bytes of the body in a frame.
    frame_size: usize,
    has_ended: bool,
}

impl Framer {
    fn frame(
        &mut self,
        stream: u32,
        pipe: &Pipe,
        codec: &mut H2Connection,
        out: &mut Vec<u8>,
        most: usize,
    ) -> bool {
        let mut left = most;
        let mut has_framed = false;
        while !self.has_ended {
            let outgoing = pipe.outgoing();
            let Some((kind, rest)) = self.piece else {
                let Some(header) = PieceHeader::parse(&outgoing) else { break };
                drop(outgoing);
                pipe.consume(PIECE_HEADER_BYTES);
                match header.kind {
                    PieceKind::FrameSize(size) => self.frame_size = usize::from(size),
                    PieceKind::End => {
                        codec.write_data(stream, b"", true, out);
                        self.has_ended = true;
                        has_framed = true;
                    }
                    kind => self.piece = Some((kind, header.len)),
                }
                continue;
            };
            let here = outgoing.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            if kind == PieceKind::Data {
                let count = here.min(left).min(self.frame_size).min(codec.send_room(stream));
                if count == 0 && rest > 0 {
                    break;
                }
                let is_whole = count as u64 == rest;
                let ends = is_whole && is_end(&outgoing[count..]);
                codec.write_data(stream, &outgoing[..count], ends, out);
                drop(outgoing);
                pipe.consume(if ends { count + PIECE_HEADER_BYTES } else { count });
                self.piece = (!is_whole).then_some((kind, rest - count as u64));
                self.has_ended = ends;
                left -= count;
            } else {
                let is_whole = here as u64 == rest;
                self.block.extend_from_slice(&outgoing[..here]);
                let is_last = kind == PieceKind::Trailers;
                let ends = is_whole && (is_last || is_end(&outgoing[here..]));
                drop(outgoing);
                pipe.consume(if ends && !is_last { here + PIECE_HEADER_BYTES } else { here });
                self.piece = (!is_whole).then_some((kind, rest - here as u64));
                if !is_whole {
                    break;
                }
                codec.write_head(stream, &self.block, ends, out);
                self.block = Vec::new();
                self.has_ended = ends;
            }
            has_framed = true;
        }
        has_framed
    }
}

/// Returns true if the next piece is the end.
fn is_end(outgoing: &[u8]) -> bool {
    PieceHeader::parse(outgoing).is_some_and(|header| header.kind == PieceKind::End)
}
