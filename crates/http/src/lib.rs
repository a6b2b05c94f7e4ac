//! HTTP on the wire. HTTP/1: heads, header lists, framing, chunked coding, URIs, escaping, dates and ranges. HTTP/2: [`h2`].
//!
//! Owns every decision about which bytes mean what. It must never open a socket or a file, read a clock or draw
//! a random number: bytes come in as slices, bytes go out into the caller's buffers.
//!
//! Where RFC 9110/9112 leave room, or where nginx is known to differ, this crate does what nginx does, because the
//! configurations it serves were written for nginx. Framing is the exception: there the stricter of the two wins, so
//! that no peer can see the end of a message in another place than we do.

pub mod args;
pub mod authority;
mod budget;
pub mod cgi;
pub mod chunked;
pub mod cookie;
pub mod date;
pub mod encode;
mod error;
pub mod escape;
mod field;
pub mod framing;
pub mod grpc;
pub mod h2;
mod headers;
mod known;
pub mod line_end;
pub mod masking;
mod method;
pub mod proxy_protocol;
pub mod range;
mod request;
mod request_line;
mod response;
pub mod scan;
pub mod uri;
pub mod websocket;

pub use budget::HeadLimits;
pub use chunked::{ChunkError, ChunkLimits, ChunkStep, ChunkedDecoder, chunk_size_line};
pub use encode::HeadEncoder;
pub use error::{HeadError, ResponseError};
pub use framing::{BodyFraming, FramingError};
pub use headers::{Headers, Iter, Values};
pub use known::Known;
pub use method::Method;
pub use proxy_protocol::{ProxyAddress, ProxyEnd, ProxyHeader, ProxyHeaderError};
pub use request::{H2Head, H2HeadFault, RequestHead};
pub use response::{CgiForm, ResponseHead};

/// The protocol version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// A request line without a version (`GET /`), answered with a body alone; or an upstream that answered
    /// with bytes that are no HTTP head at all.
    Http09,
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1, and any later minor version of HTTP/1, as RFC 9110 §2.5 demands.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// Returns the text of a request line; empty for 0.9.
    pub const fn name(self) -> &'static str {
        match self {
            Version::Http09 => "",
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2.0",
        }
    }
}

/// How far a decoder has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed: call again with the same bytes and more behind them.
    Partial,
    /// The head is complete.
    Complete {
        /// Bytes of the input that belong to the head; what follows is the body or the next message.
        consumed: usize,
    },
}
