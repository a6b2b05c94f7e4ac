//! HTTP/2 to a peer: one request at a time on a connection, as in nginx.
//!
//! [`wire`] has the frames of the connection, and what it says between two requests; [`exchange`] sends a request and reads the
//! head of its response, while [`upload`] has the request's body, perhaps until the response ends; [`body`] has the pieces of
//! the response's.

mod body;
mod exchange;
mod upload;
pub(super) mod wire;

pub(super) use body::next_h2_piece;
pub(super) use exchange::{H2Awaited, H2Awaiting, H2Request};
pub(super) use upload::H2Upload;
