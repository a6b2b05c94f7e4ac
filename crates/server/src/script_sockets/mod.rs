//! The network of scripts' sockets: connections, as [`engine::network`] wants them.
//!
//! Each counts against `worker_connections` as long as it exists, idle ones in the pools of a generation's Lua too. Nothing
//! here knows what a script reads or writes.

mod body;
mod connection;
mod datagram;
mod dial;
mod timer;

pub(crate) use body::poll_tap;
pub(crate) use dial::dial;

use engine::network::{BodyTap, DialedConnection};
use std::rc::Rc;

/// Returns what a script reads the body of its request from.
pub(crate) fn tap(tap: Rc<BodyTap>) -> Box<dyn DialedConnection> {
    Box::new(body::TappedBody::new(tap))
}
