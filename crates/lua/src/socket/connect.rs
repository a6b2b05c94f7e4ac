//! Connecting a socket: to an idle connection of its pool, to a new one, or after waiting in the pool's queue.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use engine::network::{DialFault, Dialing, Waiting};

use super::pool::{Entry, Pool, Ticket};
use super::script_socket::{ScriptSocket, Tried};

/// Which pool a connection is for.
pub(crate) struct ConnectPoolSpec<'a> {
    pub(crate) key: &'a [u8],
    /// Makes the pool, if there is none; 0 does not.
    pub(crate) size: usize,
    pub(crate) backlog: Option<usize>,
}

/// How a socket is to be connected.
pub(crate) struct Connect<'a> {
    pub(crate) pool: ConnectPoolSpec<'a>,
    /// Makes a new connection, if one must be made.
    pub(crate) dialing: Dialing,
    /// Waits as long as a place in the queue may take.
    pub(crate) queue_time: Box<dyn FnOnce() -> Waiting + 'a>,
    /// Where to, for the log.
    pub(crate) shown: &'a str,
}

/// A socket's connection under way.
struct Connecting {
    socket: Rc<ScriptSocket>,
    pool: Option<Rc<Pool>>,
    dialing: Option<Dialing>,
    stage: Stage,
}

enum Stage {
    /// In the pool's queue, for this time at most.
    Queued(Rc<Ticket>, Waiting, String),
    Dialing,
    Done,
}

impl ScriptSocket {
    /// Connects. The socket is neither connected nor busy.
    pub(crate) fn connect(self: &Rc<Self>, wanted: Connect<'_>) -> Tried {
        let Connect { pool: spec, dialing, queue_time, shown } = wanted;
        let pools = self.pools();
        let pool = match pools.as_ref().and_then(|pools| pools.get(spec.key)) {
            Some(pool) => Some(pool),
            None if spec.size > 0 => pools.map(|pools| pools.create(spec.key, spec.size, spec.backlog)),
            None => None,
        };
        let mut stage = Stage::Dialing;
        match pool.as_ref().map(|pool| pool.enter(false)) {
            None | Some(Entry::Free) => {}
            Some(Entry::Idle(idle)) => {
                self.connected(idle.connection, idle.reused + 1, pool);
                return Tried::Done(Ok(()));
            }
            Some(Entry::Full) => {
                let text = "too many waiting connect operations".to_owned();
                self.set_dialed(Err(DialFault { text, log: None, is_critical: false }));
                return Tried::Done(Err(()));
            }
            Some(Entry::Wait(ticket)) => stage = Stage::Queued(ticket, queue_time(), shown.to_owned()),
        }
        self.set_connecting(true);
        Tried::Wait(Waiting::new(Connecting { socket: Rc::clone(self), pool, dialing: Some(dialing), stage }))
    }
}

impl ScriptSocket {
    /// Connects without a pool.
    pub(crate) fn connect_alone(self: &Rc<Self>, dialing: Dialing) -> Tried {
        let (socket, stage) = (Rc::clone(self), Stage::Dialing);
        self.set_connecting(true);
        let mut connecting = Connecting { socket, pool: None, dialing: Some(dialing), stage };
        match Pin::new(&mut connecting).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => Tried::Done(if self.is_connected() { Ok(()) } else { Err(()) }),
            Poll::Pending => Tried::Wait(Waiting::new(connecting)),
        }
    }
}

impl Connecting {
    /// Waits for its turn in the queue.
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Stage::Queued(ticket, time, shown), Some(pool)) = (&mut self.stage, &self.pool) else {
            return Poll::Ready(());
        };
        if pool.poll_turn(ticket, cx).is_ready() {
            self.stage = Stage::Dialing;
            match pool.enter(true) {
                Entry::Idle(idle) => {
                    self.stage = Stage::Done;
                    self.socket.connected(idle.connection, idle.reused + 1, self.pool.take());
                }
                Entry::Free | Entry::Wait(_) | Entry::Full => {}
            }
            return Poll::Ready(());
        }
        ready!(Pin::new(time).poll(cx));
        let line = format!("lua tcp socket queued connect timed out, when trying to connect to {shown}");
        pool.give_up(ticket);
        self.stage = Stage::Done;
        self.socket.set_dialed(Err(DialFault {
            text: "timeout".to_owned(),
            log: Some(line),
            is_critical: false,
        }));
        Poll::Ready(())
    }
}

impl Future for Connecting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_queue(cx));
        if matches!(self.stage, Stage::Done) {
            return Poll::Ready(());
        }
        let Some(dialing) = &mut self.dialing else { return Poll::Ready(()) };
        let dialed = ready!(dialing.as_mut().poll(cx));
        self.stage = Stage::Done;
        match dialed {
            Ok(connection) => {
                let pool = self.pool.take();
                self.socket.connected(connection, 0, pool);
            }
            Err(fault) => {
                if let Some(pool) = self.pool.take() {
                    pool.leave();
                }
                self.socket.set_dialed(Err(fault));
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.socket.set_connecting(false);
        match (&self.stage, &self.pool) {
            (Stage::Queued(ticket, ..), Some(pool)) => pool.give_up(ticket),
            (Stage::Dialing, Some(pool)) => pool.leave(),
            _ => {}
        }
    }
}
