//! Why a name could not be resolved.

use std::fmt;

/// Why a name has no address; displayed as in the parentheses of nginx's error log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveFault {
    /// The name server failed: RCODE 2 (RFC 1035, section 4.1.1).
    ServerFailure,
    /// There is no such name (RCODE 3), or there are no addresses under it, or it is no host name at all.
    HostNotFound,
    /// RCODE 4.
    Unimplemented,
    /// RCODE 5.
    OperationRefused,
    /// No server gave a usable answer in time.
    TimedOut,
}

impl fmt::Display for ResolveFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResolveFault::ServerFailure => "2: Server failure",
            ResolveFault::HostNotFound => "3: Host not found",
            ResolveFault::Unimplemented => "4: Unimplemented",
            ResolveFault::OperationRefused => "5: Operation refused",
            ResolveFault::TimedOut => "110: Operation timed out",
        })
    }
}
