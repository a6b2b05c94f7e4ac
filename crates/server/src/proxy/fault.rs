//! Faults between the server, an upstream and the client: one table from a fault to its log line, its place in the
//! statistics and what becomes of the try.

use super::http2::wire::H2Fault;
use crate::context::logs::errno_text;
use crate::request::send::CUT;
use engine::host::Level;
use statistics::Failure;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use upstream::Address;
use upstream::retry::TryFailure;

/// The step during which a fault occurred; nginx puts these words behind its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpstreamStage {
    Connecting,
    /// Shaking hands over TLS.
    Handshaking,
    SendingRequest,
    ReadingHead,
    ReadingBody,
    /// Passing bytes both ways after `101`.
    Tunnel,
    SendingToClient,
}

impl fmt::Display for UpstreamStage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            UpstreamStage::Connecting => "while connecting to upstream",
            UpstreamStage::Handshaking => "while SSL handshaking to upstream",
            UpstreamStage::SendingRequest => "while sending request to upstream",
            UpstreamStage::ReadingHead => "while reading response header from upstream",
            UpstreamStage::ReadingBody => "while reading upstream",
            UpstreamStage::Tunnel => "while proxying upgraded connection",
            UpstreamStage::SendingToClient => "while sending to client",
        })
    }
}

/// Why a try, a relay or a tunnel ended early.
#[derive(Debug)]
pub(super) enum UpstreamFault {
    /// The peer did not accept the connection.
    Connect(Address, io::Error),
    /// The address to connect from cannot be had (`proxy_bind`, or a script's). No peer is to blame.
    Bind(Option<SocketAddr>, io::Error),
    /// The handshake of TLS failed, or the peer's certificate is not accepted; the text says why.
    Handshake(String),
    /// The certificate for the peer cannot be read or used; the text says why. No peer is to blame.
    Certificate(String),
    /// This process has no room for another connection.
    NoRoom,
    /// This process is out of descriptors or memory. No peer is to blame, and none would fare better.
    Exhausted(io::Error),
    /// The peer was silent, or took nothing, for too long.
    TimedOut,
    /// The peer ended the connection too early.
    Closed,
    /// Reading from the peer failed.
    Read(io::Error),
    /// Writing to the peer failed.
    Write(io::Error),
    /// The peer sends interim responses without end.
    TooManyInterim,
    /// The head is malformed; the text says how.
    BadHead(Vec<u8>),
    /// Records of FastCGI, or the head in them, are malformed; the text says how.
    BadRecords(Vec<u8>),
    /// A request over HTTP/2 is not answered.
    H2(H2Fault),
    /// The engine does not accept the head, and has logged why if that needs a line.
    NotAccepted(TryFailure),
    /// The body's chunks are malformed.
    BadChunks,
    /// The peer switched protocols before it had the whole request.
    EarlyUpgrade,
    /// The client left while the upstream was waited for.
    ClientLeft,
    /// The client's connection ended before its request was whole, or before it had the whole response.
    ClientClosed,
    /// The client sent or took nothing for too long.
    ClientTimedOut,
    /// The client's chunks are malformed.
    BadBody,
    /// The client's chunks are larger than a body may be: the bytes before the present chunk, and that chunk's.
    BodyTooLarge(u64, u64),
    /// The request is to end, whatever it waits for: its configuration's time is over, or its switch routes elsewhere.
    Cut,
    /// A temporary file for the response failed.
    Spool(io::Error),
}

/// The consequence of a fault for the try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// The peer failed; another one may be tried.
    Peer(TryFailure),
    /// The request ends with this status, and no peer is to blame.
    End(u16),
}

/// A fault's row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) level: Level,
    /// How it is counted.
    pub(super) failure: Failure,
    pub(super) consequence: Consequence,
}

impl From<H2Fault> for UpstreamFault {
    fn from(fault: H2Fault) -> UpstreamFault {
        UpstreamFault::H2(fault)
    }
}

impl UpstreamFault {
    /// Returns the fault's row of the table.
    pub(super) fn row(&self, stage: UpstreamStage) -> Row {
        use Consequence::{End, Peer};
        use UpstreamFault as Fault;
        let (level, failure, consequence) = match self {
            // As in nginx: an error that is not a peer's usual way to refuse is critical.
            Fault::Connect(_, error) if !is_usual(error) => {
                (Level::Crit, Failure::Connect, Peer(TryFailure::Error))
            }
            Fault::Connect(..) | Fault::Handshake(_) => {
                (Level::Error, Failure::Connect, Peer(TryFailure::Error))
            }
            Fault::Certificate(_) => (Level::Error, Failure::Connect, End(500)),
            Fault::Bind(..) => (Level::Crit, Failure::Connect, End(500)),
            Fault::NoRoom | Fault::Exhausted(_) => (Level::Alert, Failure::Connect, End(500)),
            Fault::TimedOut if matches!(stage, UpstreamStage::Connecting | UpstreamStage::Handshaking) => {
                (Level::Error, Failure::ConnectTimeout, Peer(TryFailure::Timeout))
            }
            Fault::TimedOut => (Level::Error, Failure::Timeout, Peer(TryFailure::Timeout)),
            Fault::Closed | Fault::Read(_) | Fault::Write(_) | Fault::H2(H2Fault::Unprocessed) => {
                (Level::Error, Failure::Closed, Peer(TryFailure::Error))
            }
            Fault::TooManyInterim
            | Fault::BadHead(_)
            | Fault::BadRecords(_)
            | Fault::BadChunks
            | Fault::H2(_) => (Level::Error, Failure::InvalidHeader, Peer(TryFailure::InvalidHeader)),
            Fault::NotAccepted(failure @ TryFailure::InvalidHeader) => {
                (Level::Error, Failure::InvalidHeader, Peer(*failure))
            }
            Fault::NotAccepted(failure) => (Level::Error, Failure::HttpStatus, Peer(*failure)),
            Fault::EarlyUpgrade => (Level::Error, Failure::InvalidHeader, End(502)),
            Fault::ClientLeft => (Level::Info, Failure::ClientGone, End(499)),
            Fault::ClientClosed => (Level::Info, Failure::ClientGone, End(400)),
            Fault::ClientTimedOut => (Level::Info, Failure::ClientGone, End(408)),
            Fault::BadBody => (Level::Error, Failure::ClientGone, End(400)),
            Fault::BodyTooLarge(..) => (Level::Error, Failure::ClientGone, End(413)),
            Fault::Cut => (Level::Info, Failure::Cut, End(499)),
            // No upstream is to blame, as when the client leaves.
            Fault::Spool(_) => (Level::Crit, Failure::ClientGone, End(500)),
        };
        Row { level, failure, consequence }
    }

    /// Returns the line of the error log; `None` if the fault has been logged elsewhere.
    pub(super) fn line(&self, stage: UpstreamStage) -> Option<Vec<u8>> {
        use UpstreamFault as Fault;
        let text = match self {
            Fault::NoRoom | Fault::NotAccepted(_) => return None,
            Fault::Cut => return Some(CUT.into()),
            Fault::EarlyUpgrade => {
                return Some("upstream switched protocols before it had the whole request".into());
            }
            Fault::Spool(error) => {
                return Some(format!("a temporary file for an upstream response failed: {error}").into());
            }
            Fault::BadHead(text) | Fault::BadRecords(text) => {
                return Some([text, " ".as_bytes(), stage.to_string().as_bytes()].concat());
            }
            Fault::Connect(Address::Unix(path), error) => {
                format!("connect() to unix:{} {}", path.display(), failed(error))
            }
            Fault::Connect(Address::Inet(address), error) if fails_at_once(error) => {
                format!("connect() to {address} {}", failed(error))
            }
            Fault::Connect(Address::Inet(_), error) => format!("connect() {}", failed(error)),
            Fault::Bind(address, error) => {
                let shown = address.map_or_else(String::new, |address| match address.port() {
                    0 => address.ip().to_string(),
                    _ => address.to_string(),
                });
                format!("bind({shown}) {}", failed(error))
            }
            Fault::Handshake(text) | Fault::Certificate(text) => text.clone(),
            Fault::Exhausted(error) => format!("socket() {}", failed(error)),
            Fault::TimedOut => "upstream timed out (110: Connection timed out)".to_owned(),
            Fault::Closed => "upstream prematurely closed connection".to_owned(),
            Fault::Read(error) => format!("recv() {}", failed(error)),
            Fault::Write(error) => format!("writev() {}", failed(error)),
            Fault::TooManyInterim => "upstream sent too many interim responses".to_owned(),
            Fault::H2(H2Fault::BadFrames(words)) => format!("upstream {words}"),
            Fault::H2(H2Fault::Rejected(code)) => format!("upstream rejected request with error {code}"),
            Fault::H2(H2Fault::GoneAway(code)) => format!("upstream sent goaway with error {code}"),
            Fault::H2(H2Fault::Unprocessed) => "upstream refused request unprocessed".to_owned(),
            Fault::BadChunks => "upstream sent invalid chunked response".to_owned(),
            Fault::ClientLeft => "epoll_wait() reported that client prematurely closed connection, \
                so upstream connection is closed too"
                .to_owned(),
            Fault::ClientClosed => "client prematurely closed connection".to_owned(),
            Fault::ClientTimedOut => "client timed out (110: Connection timed out)".to_owned(),
            Fault::BadBody => "client sent invalid chunked body".to_owned(),
            Fault::BodyTooLarge(before, chunk) => {
                format!("client intended to send too large chunked body: {before}+{chunk} bytes")
            }
        };
        Some(format!("{text} {stage}").into())
    }

    /// Returns true if the upstream is to blame.
    pub(super) fn is_upstreams(&self, stage: UpstreamStage) -> bool {
        matches!(self.row(stage).consequence, Consequence::Peer(_))
    }
}

/// Returns true if a connection that is not made for this reason is nothing unusual.
fn is_usual(error: &io::Error) -> bool {
    use libc::{ECONNREFUSED, ECONNRESET, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ETIMEDOUT};
    let usual = [ECONNREFUSED, ECONNRESET, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ETIMEDOUT];
    error.raw_os_error().is_some_and(|code| usual.contains(&code))
}

/// Returns true if connect(2) itself has failed: the system has not even asked the peer. nginx names the peer then.
fn fails_at_once(error: &io::Error) -> bool {
    !is_usual(error) || matches!(error.raw_os_error(), Some(libc::ENETUNREACH | libc::ENETDOWN))
}

/// Returns nginx's text for a failed system call: `failed (111: Connection refused)`.
fn failed(error: &io::Error) -> String {
    let code = error.raw_os_error().unwrap_or_default();
    format!("failed ({code}: {})", errno_text(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_not_made_is_counted_apart_from_one_that_broke() {
        let refused = UpstreamFault::Connect(
            Address::Unix("/run/a.sock".into()),
            io::Error::from_raw_os_error(libc::ECONNREFUSED),
        );
        let row = refused.row(UpstreamStage::Connecting);
        assert_eq!((row.failure, row.consequence), (Failure::Connect, Consequence::Peer(TryFailure::Error)));
        assert_eq!(
            refused.line(UpstreamStage::Connecting).unwrap(),
            b"connect() to unix:/run/a.sock failed (111: Connection refused) while connecting to upstream"
        );
        assert_eq!(UpstreamFault::TimedOut.row(UpstreamStage::Connecting).failure, Failure::ConnectTimeout);
        assert_eq!(UpstreamFault::TimedOut.row(UpstreamStage::ReadingHead).failure, Failure::Timeout);
        assert_eq!(UpstreamFault::Closed.row(UpstreamStage::ReadingHead).failure, Failure::Closed);
    }

    #[test]
    fn no_peer_is_blamed_for_the_client_or_for_ourselves() {
        let exhausted = UpstreamFault::Exhausted(io::Error::from_raw_os_error(libc::EMFILE));
        for fault in [exhausted, UpstreamFault::NoRoom, UpstreamFault::ClientLeft, UpstreamFault::Cut] {
            assert!(!fault.is_upstreams(UpstreamStage::Connecting), "{fault:?}");
        }
    }
}
