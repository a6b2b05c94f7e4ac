//! The streams of a connection (RFC 9113 §5.1): those that are open, and what is remembered of those that were.

use crate::h2::window::FlowWindow;
use std::collections::VecDeque;

/// An open stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenStream {
    pub(super) id: u32,
    /// How much may be sent on it.
    pub(super) send: FlowWindow,
    /// How much may come on it.
    pub(super) receive: FlowWindow,
    /// Bytes of the body that have come and were not taken yet.
    pub(super) held: u32,
    /// Bytes that were taken and that the peer does not know of yet.
    pub(super) due: u32,
    /// How much of the body is still to come, if the head says so.
    pub(super) body_left: Option<u64>,
    /// The peer has sent all of its message.
    pub(super) has_ended: bool,
    /// How a response is read; a request's head has come with its stream.
    pub(super) response: ResponseState,
}

/// How far a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseState {
    /// Its head has not come; whether it has no body, whatever the head says (HEAD).
    Awaited { is_bodiless: bool },
    /// Its head has come, or this is a request.
    Begun,
}

/// How a stream that is closed came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Both sides have ended it, or the peer has reset it.
    ByPeer,
    /// It was reset by us while the peer was sending: what it had sent before it knew must be ignored.
    ByUs,
    /// It was never opened, or that was long ago.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct StreamTable {
    /// In the order of their numbers.
    open: Vec<OpenStream>,
    /// Streams that we have reset while the peer was sending, the latest last.
    reset: VecDeque<u32>,
    /// The streams that the peer ended last.
    ended: [u32; 4],
}

/// How many streams that we have reset are remembered: more than are open at a time.
const MAX_RESET: usize = 512;

impl StreamTable {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn position(&self, id: u32) -> Result<usize, usize> {
        self.open.binary_search_by_key(&id, |stream| stream.id)
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut OpenStream> {
        let at = self.position(id).ok()?;
        self.open.get_mut(at)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut OpenStream> {
        self.open.iter_mut()
    }

    /// Adds a stream, whose number is higher than all before it.
    pub(super) fn open(&mut self, stream: OpenStream) {
        self.open.push(stream);
    }

    /// Removes a stream that is closed.
    pub(super) fn close(&mut self, id: u32, by: Closed) -> Option<OpenStream> {
        let at = self.position(id).ok()?;
        let stream = self.open.remove(at);
        self.note(id, by);
        if self.open.is_empty() {
            self.open = Vec::new();
        }
        Some(stream)
    }

    /// Remembers how a stream was closed.
    pub(super) fn note(&mut self, id: u32, by: Closed) {
        if by == Closed::ByUs {
            if self.reset.len() >= MAX_RESET {
                self.reset.pop_front();
            }
            self.reset.push_back(id);
        } else {
            self.ended.rotate_right(1);
            self.ended[0] = id;
        }
    }

    /// Returns how a stream was closed.
    pub(super) fn closed(&self, id: u32) -> Closed {
        match () {
            () if self.reset.contains(&id) => Closed::ByUs,
            () if self.ended.contains(&id) => Closed::ByPeer,
            () => Closed::Unknown,
        }
    }
}
