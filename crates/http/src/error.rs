//! Why a head is refused.
//!
//! Owns the kinds of fault, the status of the response to each and its message in nginx's error log. The
//! bytes that are quoted in the log come from the head itself: see `RequestHead::explain`.

/// A request head that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// A byte that no method has.
    InvalidMethod,
    /// The request line is malformed.
    InvalidRequest,
    /// A major version other than 1.
    InvalidVersion,
    /// HTTP/0.9 with a method other than GET.
    InvalidHttp09Method,
    /// The request line is longer than a large buffer.
    UriTooLong,
    /// A header line is longer than a large buffer, or all of them are full.
    HeaderLineTooLong,
    /// The buffers are full before the first header line.
    HeadTooLarge,
    /// More fields than `max_headers`.
    TooManyFields,
    /// A byte that no header line has, a line that begins with a space (obs-fold), a CR without LF, a NUL.
    InvalidHeaderLine,
    /// A second field of a kind of which there may be one.
    DuplicateField,
    /// A second `Host`.
    DuplicateHost,
    /// `Host` holds no valid host.
    InvalidHost,
    /// An absolute-form target whose authority is no host.
    InvalidTargetHost,
    /// HTTP/1.1 without `Host`.
    MissingHost,
    /// HTTP/2 without `:authority` and `Host`.
    MissingAuthority,
    /// CONNECT, which a reverse proxy does not do.
    ConnectRefused,
    /// CONNECT with a body.
    ConnectWithBody,
    /// TRACE, which nginx refuses.
    TraceRefused,
}

impl HeadError {
    /// Returns the status that nginx finalizes the request with. 494 is nginx's own number: an `error_page` can name
    /// it, the client gets 400.
    pub const fn status(self) -> u16 {
        match self {
            HeadError::InvalidVersion => 505,
            HeadError::UriTooLong => 414,
            HeadError::HeaderLineTooLong | HeadError::HeadTooLarge | HeadError::TooManyFields => 494,
            HeadError::ConnectRefused | HeadError::TraceRefused => 405,
            _ => 400,
        }
    }

    /// Returns nginx's message for the error log, at level info, without the bytes it quotes behind some of them.
    pub const fn words(self) -> &'static str {
        match self {
            HeadError::InvalidMethod => "client sent invalid method",
            HeadError::InvalidRequest => "client sent invalid request",
            HeadError::InvalidVersion => "client sent invalid version",
            HeadError::InvalidHttp09Method => "client sent invalid method in HTTP/0.9 request",
            HeadError::UriTooLong => "client sent too long URI",
            HeadError::HeaderLineTooLong => "client sent too long header line",
            HeadError::HeadTooLarge => "client sent too large request",
            HeadError::TooManyFields => "client sent too many header lines",
            HeadError::InvalidHeaderLine => "client sent invalid header line",
            HeadError::DuplicateField => "client sent duplicate header line",
            HeadError::DuplicateHost => "client sent duplicate host header",
            HeadError::InvalidHost => "client sent invalid host header",
            HeadError::InvalidTargetHost => "client sent invalid host in request line",
            HeadError::MissingHost => "client sent HTTP/1.1 request without \"Host\" header",
            HeadError::MissingAuthority => "client sent neither \":authority\" nor \"Host\" header",
            HeadError::ConnectRefused => "client sent CONNECT method",
            HeadError::ConnectWithBody => "client sent CONNECT request with body",
            HeadError::TraceRefused => "client sent TRACE method",
        }
    }
}

/// A response head that an upstream should not have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// The first bytes are no status line. nginx logs it and passes everything on as the body of a 200 in
    /// HTTP/0.9; the safe response is 502.
    NoStatusLine,
    /// A malformed header line.
    InvalidHeader,
    /// The `Status` of a CGI response is none.
    InvalidStatus,
    /// The head does not fit in `proxy_buffer_size`.
    TooLarge,
}

impl ResponseError {
    /// Returns nginx's message for the error log, at level error.
    pub const fn words(self) -> &'static str {
        match self {
            ResponseError::NoStatusLine => "upstream sent no valid HTTP/1.0 header",
            ResponseError::InvalidHeader => "upstream sent invalid header",
            ResponseError::InvalidStatus => "upstream sent invalid status",
            ResponseError::TooLarge => "upstream sent too big header",
        }
    }
}
