//! Why a stream or a connection ends.

/// An error code (RFC 9113 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorCode {
    /// A graceful end.
    NoError = 0,
    /// The protocol was violated in a way that has no code of its own.
    Protocol = 1,
    /// An unexpected condition on the sender's side.
    Internal = 2,
    /// Flow control was violated.
    FlowControl = 3,
    /// SETTINGS were not acknowledged in time.
    SettingsTimeout = 4,
    /// A frame for a stream that is closed.
    StreamClosed = 5,
    /// A frame of a size that its type does not have.
    FrameSize = 6,
    /// The stream was not processed at all.
    RefusedStream = 7,
    /// The stream is no longer wanted.
    Cancel = 8,
    /// The compression's state cannot be kept.
    Compression = 9,
    /// The connection of a CONNECT request failed.
    Connect = 10,
    /// The peer causes too much load.
    EnhanceYourCalm = 11,
    /// The transport is not secure enough.
    InadequateSecurity = 12,
    /// The request is to be sent over HTTP/1.1.
    Http11Required = 13,
}

/// A fault that ends the connection (RFC 9113 §5.4.1): GOAWAY with this code, then a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionFault {
    /// The code that GOAWAY names.
    pub code: ErrorCode,
    /// The words of the error log, behind `client ` or `upstream `.
    pub words: &'static str,
}

impl ConnectionFault {
    pub(crate) const fn new(code: ErrorCode, words: &'static str) -> ConnectionFault {
        ConnectionFault { code, words }
    }

    pub(crate) const fn protocol(words: &'static str) -> ConnectionFault {
        ConnectionFault::new(ErrorCode::Protocol, words)
    }

    pub(crate) const fn size(words: &'static str) -> ConnectionFault {
        ConnectionFault::new(ErrorCode::FrameSize, words)
    }

    pub(crate) const fn flood(words: &'static str) -> ConnectionFault {
        ConnectionFault::new(ErrorCode::EnhanceYourCalm, words)
    }
}
