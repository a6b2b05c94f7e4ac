//! HTTP/2 on the wire (RFC 9113, and HPACK of RFC 7541): frames, header compression, windows and the states of streams.
//!
//! Owns what a frame means and how a connection answers it, as a state machine over slices. It must never wait, hold a
//! message's body, or decide what a request is answered with. Where nginx answers with less than the RFC asks for, the
//! RFC wins.

mod connection;
mod error;
pub mod frame;
pub mod hpack;
mod limits;
mod pieces;
mod window;

pub use connection::{H2Connection, HeadSlot, ReadContext, ReceiveStep, Received};
pub use error::{ConnectionFault, ErrorCode};
pub use limits::H2Limits;
pub use pieces::{PIECE_HEADER_BYTES, PieceHeader, PieceKind};
