//! What a connection says about the bytes that it was given.

use crate::budget::HeadLimits;
use crate::error::HeadError;
use crate::headers::Headers;
use crate::request::RequestHead;
use crate::response::ResponseHead;
use std::ops::Range;

/// How far the input was read, and what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveStep {
    /// Bytes of the input that are done with. With [`Received::Partial`] there may be some too.
    pub consumed: usize,
    /// The event.
    pub received: Received,
}

/// An event of a connection.
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
    /// A response begins; its head is in the one that the caller gave. Before the final one there may be interim ones.
    Response {
        /// Its stream.
        stream: u32,
        /// Whether it has no body.
        ends: bool,
        /// The size of its header block.
        block_bytes: usize,
    },
    /// The fields behind a response's body came, which end it; they are in the list that the caller gave.
    Trailers {
        /// Its stream.
        stream: u32,
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
    /// A stream is over: the peer, or a fault of it, has ended it.
    Gone {
        /// The stream.
        stream: u32,
        /// The words of the error log, behind `client ` or `upstream `.
        words: &'static str,
        /// The code with which the peer has reset it.
        code: Option<u32>,
    },
    /// The server begins no more streams, and does not look at those that are later than this one.
    GoAway {
        /// The last stream that it looks at.
        last_stream: u32,
        /// Why, as an error code.
        code: u32,
    },
    /// More may be sent than before, on some stream.
    Room,
    /// A header block was decoded for the tables alone: its stream is not served.
    Ignored,
}

/// Where heads go: a server reads those of requests, a client those of responses.
#[derive(Debug)]
pub enum HeadSlot<'a> {
    /// The server's side.
    Request {
        /// Where the head of the next request goes.
        head: &'a mut RequestHead,
        /// What heads may hold.
        limits: &'a HeadLimits,
    },
    /// The client's side.
    Response {
        /// Where the head of the response goes.
        head: &'a mut ResponseHead,
        /// Where the fields behind its body go.
        trailers: &'a mut Headers,
    },
}

/// The memory that reading needs, and what it may take.
#[derive(Debug)]
pub struct ReadContext<'a> {
    /// Where heads go.
    pub heads: HeadSlot<'a>,
    /// Memory for strings.
    pub scratch: &'a mut Vec<u8>,
    /// The time in ms, on a clock that does not go back.
    pub now_ms: u64,
}
