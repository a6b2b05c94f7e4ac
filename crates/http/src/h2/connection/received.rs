//! What a connection says about the bytes that it was given.

use crate::budget::HeadLimits;
use crate::error::HeadError;
use crate::request::RequestHead;
use std::ops::Range;

/// How far the input was read, and what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveStep {
    /// Bytes of the input that are done with. With [`Received::Partial`] there may be some too.
    pub consumed: usize,
    /// What happened.
    pub received: Received,
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// More input is needed.
    Partial,
    /// Nothing that the caller need know; there may be something to send.
    Nothing,
    /// A request begins; its head is in the one that the caller gave.
    Request {
        /// Its stream.
        stream: u32,
        /// Whether it has no body.
        ends: bool,
        /// Why it is answered without being looked at further.
        refused: Option<HeadError>,
    },
    /// A part of a body came.
    Data {
        /// Its stream.
        stream: u32,
        /// Where the bytes are in the input.
        range: Range<usize>,
        /// Whether the body ends with them.
        ends: bool,
    },
    /// A stream is over: the client, or a fault of it, has ended it.
    Gone {
        /// The stream.
        stream: u32,
        /// The words of the error log, behind `client `.
        words: &'static str,
    },
    /// More may be sent than before, on some stream.
    Room,
    /// A header block was decoded for the tables alone: its stream is not served.
    Ignored,
}

/// The memory that reading needs, and what it may take.
#[derive(Debug)]
pub struct ReadContext<'a> {
    /// Where the head of the next request goes.
    pub head: &'a mut RequestHead,
    /// What heads may hold.
    pub head_limits: &'a HeadLimits,
    /// Memory for strings.
    pub scratch: &'a mut Vec<u8>,
    /// The time in ms, on a clock that does not go back.
    pub now_ms: u64,
}
