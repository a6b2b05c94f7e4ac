//! The handshake of TLS on a socket that is connected.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use engine::network::{
    DialRequest, Dialing, Direction, Handshake, HandshakeFault, HandshakeRequest, Waiting,
};

use super::script_socket::{ScriptSocket, Tried};

/// A handshake under way.
struct Shaking {
    socket: Rc<ScriptSocket>,
    wanted: HandshakeRequest,
    /// Makes the connection anew: the one out of the pool is over another TLS.
    dialing: Option<Dialing>,
    has_timer: bool,
    is_over: bool,
}

impl ScriptSocket {
    /// Notes what it is connected to.
    pub(crate) fn note_dial(&self, request: &DialRequest) {
        self.state.borrow_mut().destination = Some(request.clone());
    }

    /// Returns what it is connected to.
    pub(crate) fn dialed_to(&self) -> Option<DialRequest> {
        self.state.borrow().destination.clone()
    }

    /// Shakes hands. It is connected, and nothing else uses it. `dialing` makes another connection like its own: one out of a
    /// pool that is over TLS with another name, or verified otherwise, is not used.
    pub(crate) fn shake_hands(self: &Rc<Self>, wanted: HandshakeRequest, dialing: Dialing) -> Tried {
        let (begun, is_pooled) = {
            let mut state = self.state.borrow_mut();
            state.shaken = None;
            let Some(connection) = &mut state.connection else { return Tried::Done(Err(())) };
            let begun = connection.begin_handshake(&wanted);
            (begun, state.reused > 0)
        };
        let dialing = match begun {
            Ok(Handshake::Done) => return Tried::Done(Ok(())),
            Ok(Handshake::Begun) => None,
            Ok(Handshake::Other) if is_pooled => Some(dialing),
            Ok(Handshake::Other) => {
                let text = "the connection is over TLS with another name or verification already".to_owned();
                return self.shaking_failed(HandshakeFault { text, log: None });
            }
            Err(fault) => return self.shaking_failed(fault),
        };
        self.set_connecting(true);
        Tried::Wait(Waiting::new(Shaking {
            socket: Rc::clone(self),
            wanted,
            dialing,
            has_timer: false,
            is_over: false,
        }))
    }

    fn shaking_failed(&self, fault: HandshakeFault) -> Tried {
        self.close();
        self.state.borrow_mut().shaken = Some(fault);
        Tried::Done(Err(()))
    }

    /// Returns why the handshake failed, once.
    pub(crate) fn take_handshake_fault(&self) -> Option<HandshakeFault> {
        self.state.borrow_mut().shaken.take()
    }
}

impl Shaking {
    fn poll_dial(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeFault>> {
        let Some(dialing) = &mut self.dialing else { return Poll::Ready(Ok(())) };
        let dialed = ready!(dialing.as_mut().poll(cx));
        self.dialing = None;
        let mut connection = match dialed {
            Ok(connection) => connection,
            Err(fault) => {
                return Poll::Ready(Err(HandshakeFault { text: fault.text, log: fault.log }));
            }
        };
        let begun = connection.begin_handshake(&self.wanted);
        let mut state = self.socket.state.borrow_mut();
        state.reused = 0;
        let unused = state.connection.replace(connection);
        drop(state);
        drop(unused);
        Poll::Ready(begun.map(drop))
    }

    fn poll_shaking(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeFault>> {
        ready!(self.poll_dial(cx))?;
        let mut state = self.socket.state.borrow_mut();
        let gone = || HandshakeFault { text: "closed".to_owned(), log: None };
        let Some(connection) = &mut state.connection else { return Poll::Ready(Err(gone())) };
        if let Poll::Ready(shaken) = connection.poll_handshake(cx) {
            return Poll::Ready(shaken);
        }
        if !std::mem::replace(&mut self.has_timer, true) {
            connection.start_timer(Direction::Read, self.socket.times.get().connect_ms);
        }
        ready!(connection.poll_timer(Direction::Read, cx));
        Poll::Ready(Err(HandshakeFault { text: "timeout".to_owned(), log: None }))
    }
}

impl Future for Shaking {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shaken = ready!(self.poll_shaking(cx));
        self.is_over = true;
        if let Err(fault) = shaken {
            self.socket.shaking_failed(fault);
        }
        Poll::Ready(())
    }
}

impl Drop for Shaking {
    fn drop(&mut self) {
        self.socket.set_connecting(false);
        if !self.is_over {
            self.socket.close();
        }
    }
}
