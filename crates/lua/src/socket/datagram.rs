//! Sockets of datagrams: a piece is one datagram, and a failure closes nothing.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use engine::network::{Direction, Waiting};

use super::fault::SocketFault;
use super::script_socket::{ScriptSocket, State, Tried};

impl ScriptSocket {
    /// Reads one datagram, of at most `size` bytes. Nothing else reads.
    pub(crate) fn receive_datagram(self: &Rc<Self>, size: usize) -> Tried {
        {
            let mut state = self.state.borrow_mut();
            state.read_timer = false;
            state.read = None;
        }
        if let Poll::Ready(()) = self.poll_datagram(&mut Context::from_waker(Waker::noop()), size) {
            return Tried::Done(self.received());
        }
        let (socket, mut reading) = (Rc::clone(self), self.begin_read());
        Tried::Wait(Waiting::new(poll_fn(move |cx| reading.polled(socket.poll_datagram(cx, size)))))
    }

    fn poll_datagram(&self, cx: &mut Context<'_>, size: usize) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        let State { connection, input, read_timer, read, .. } = &mut *state;
        let Some(connection) = connection else {
            *read = Some(SocketFault::Closed);
            return Poll::Ready(());
        };
        match connection.poll_read(cx, input.datagram_room(size)) {
            Poll::Ready(Ok(count)) => input.take_datagram(count),
            Poll::Ready(Err(error)) => *read = Some(error.into()),
            Poll::Pending => {
                if !std::mem::replace(read_timer, true) {
                    connection.start_timer(Direction::Read, self.times.get().read_ms);
                }
                ready!(connection.poll_timer(Direction::Read, cx));
                *read = Some(SocketFault::Timeout);
            }
        }
        Poll::Ready(())
    }

    /// Sends one datagram.
    pub(crate) fn send_datagram(&self, bytes: &[u8]) -> Result<(), SocketFault> {
        let mut state = self.state.borrow_mut();
        let Some(connection) = &mut state.connection else { return Err(SocketFault::Closed) };
        match connection.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(Ok(count)) if count == bytes.len() => Ok(()),
            Poll::Ready(Ok(_)) => Err(SocketFault::Other("partial write".into())),
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Pending => Err(SocketFault::System(libc::EAGAIN)),
        }
    }
}
