//! Sockets that scripts open: what is read and written, pools of idle connections, queues for connections.
//!
//! The network itself is the host's ([`engine::network`]). An operation is tried at once; if it must wait, it is a
//! [`Waiting`](engine::network::Waiting), which the server polls, and its result is in the socket when the script goes on.
//! A socket belongs to one request, or to one timer's function, and is closed with it. Nothing here runs Lua.

mod connect;
mod datagram;
mod fault;
mod handshake;
mod input;
mod operation;
pub(crate) mod pool;
mod script_socket;
mod until;

pub(crate) use connect::{Connect, ConnectPoolSpec};
pub(crate) use fault::{SocketFault, system_words};
pub(crate) use input::Wanted;
pub(crate) use pool::Pools;
pub(crate) use script_socket::{Kept, ScriptSocket, Tried};
pub(crate) use until::Until;

use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// The sockets of a request or of a timer's function: closed when this is dropped.
#[derive(Default)]
pub(crate) struct OpenSockets(RefCell<Vec<Weak<ScriptSocket>>>);

impl OpenSockets {
    /// Adds a socket.
    pub(crate) fn add(&self, socket: &Rc<ScriptSocket>) {
        let mut sockets = self.0.borrow_mut();
        // One that Lua has forgotten is gone already.
        if sockets.len() == sockets.capacity() {
            sockets.retain(|socket| socket.strong_count() > 0);
        }
        sockets.push(Rc::downgrade(socket));
    }
}

impl Drop for OpenSockets {
    fn drop(&mut self) {
        for socket in self.0.take().iter().filter_map(Weak::upgrade) {
            socket.abandon();
        }
    }
}
