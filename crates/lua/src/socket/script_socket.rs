//! One socket of a script: its connection, and what is read from it and written to it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use engine::LocationId;
use engine::modules::lua::SocketSettings;
use engine::network::{
    Destination, DialFault, DialRequest, DialedConnection, Direction, HandshakeFault, SocketOption, Waiting,
};

use super::fault::SocketFault;
use super::input::{Input, Progress, Wanted};
use super::operation::Operation;
use super::pool::{Pool, Pools};
use crate::vm::scripts::Scripts;

/// From how many bytes on what a socket holds is counted towards `lua_memory_limit`.
const COUNTED_FROM: usize = 16 << 10;

/// The result of trying an operation.
#[derive(Debug)]
pub(crate) enum Tried {
    /// It is done, or has failed: the reason is in the socket.
    Done(Result<(), ()>),
    /// The script must wait for this.
    Wait(Waiting),
}

/// The times that a socket waits, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketTimeouts {
    pub(crate) connect_ms: u64,
    pub(crate) send_ms: u64,
    pub(crate) read_ms: u64,
}

/// The outcome of an attempt to keep a connection in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Pooled,
    Closed,
    Unread,
    Dubious,
}

/// A socket; see the module.
pub(crate) struct ScriptSocket {
    /// The number of the request or timer's function that it belongs to; 0 once that is over.
    pub(crate) owner: Cell<u32>,
    scripts: Weak<Scripts>,
    pub(super) state: RefCell<State>,
    /// Its timeouts.
    pub(crate) times: Cell<SocketTimeouts>,
    /// The timeouts that the script has set; 0 if none.
    pub(crate) given: Cell<SocketTimeouts>,
    /// The location whose settings it has.
    pub(crate) location: Cell<LocationId>,
    /// The address that it connects from.
    pub(crate) local: Cell<Option<IpAddr>>,
    busy: Busy,
    /// The bytes that count towards the machine's limit.
    counted: Cell<usize>,
}

/// Which operations are under way.
#[derive(Default)]
struct Busy {
    connecting: Cell<bool>,
    reading: Cell<bool>,
    writing: Cell<bool>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) connection: Option<Box<dyn DialedConnection>>,
    pool: Option<Rc<Pool>>,
    key: Option<Rc<[u8]>>,
    pub(super) reused: u32,
    pub(super) input: Input,
    /// How much is read at a time.
    buffer_size: usize,
    output: Output,
    is_read_closed: bool,
    is_write_closed: bool,
    dialed: Option<DialFault>,
    pub(super) shaken: Option<HandshakeFault>,
    /// What it was last connected to.
    pub(super) destination: Option<DialRequest>,
    pub(super) read: Option<SocketFault>,
    /// A wait has begun, and its timer runs.
    pub(super) read_timer: bool,
}

/// What is being written.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    done: usize,
    timer: bool,
    fault: Option<SocketFault>,
}

impl ScriptSocket {
    /// Makes a socket that is not connected.
    pub(crate) fn new(request: u32, scripts: &Rc<Scripts>) -> Rc<ScriptSocket> {
        Rc::new(ScriptSocket {
            owner: Cell::new(request),
            scripts: Rc::downgrade(scripts),
            state: RefCell::default(),
            times: Cell::default(),
            given: Cell::default(),
            location: Cell::new(LocationId(0)),
            local: Cell::new(None),
            busy: Busy::default(),
            counted: Cell::new(0),
        })
    }

    pub(super) fn pools(&self) -> Option<Rc<Pools>> {
        self.scripts.upgrade().map(|scripts| Rc::clone(&scripts.pools))
    }

    /// Sets what the script says of how long it waits; 0 is nothing.
    pub(crate) fn set_given_times(&self, connect_ms: u64, send_ms: u64, read_ms: u64) {
        self.given.set(SocketTimeouts { connect_ms, send_ms, read_ms });
    }

    /// Waits as long as the script says, and else as the configuration does.
    pub(crate) fn apply_times(&self, settings: &SocketSettings) {
        let given = self.given.get();
        let or = |given: u64, configured: u64| if given > 0 { given } else { configured };
        self.times.set(SocketTimeouts {
            connect_ms: or(given.connect_ms, *settings.connect_timeout_ms),
            send_ms: or(given.send_ms, *settings.send_timeout_ms),
            read_ms: or(given.read_ms, *settings.read_timeout_ms),
        });
    }

    /// Returns what another thread of the request does with it that forbids these uses, in ngx_lua's words.
    pub(crate) fn obstacle(&self, reads: bool, writes: bool) -> Option<&'static str> {
        match () {
            () if self.busy.connecting.get() => Some("socket busy connecting"),
            () if reads && self.busy.reading.get() => Some("socket busy reading"),
            () if writes && self.busy.writing.get() => Some("socket busy writing"),
            () => None,
        }
    }

    /// Returns true while it is being connected to an address that is known.
    pub(crate) fn is_dialing(&self) -> bool {
        let is_known = |request: &DialRequest| matches!(request.destination, Destination::Known(_));
        self.busy.connecting.get() && self.state.borrow().destination.as_ref().is_some_and(is_known)
    }

    pub(super) fn set_connecting(&self, connecting: bool) {
        self.busy.connecting.set(connecting);
    }

    /// Prepares it for a connection to the pool of this key.
    pub(crate) fn prepare(&self, key: &[u8], buffer_size: usize) {
        self.close();
        *self.state.borrow_mut() = State { key: Some(Rc::from(key)), buffer_size, ..State::default() };
        self.count();
    }

    /// Connects it to what is no connection of its own.
    pub(crate) fn attach(&self, connection: Box<dyn DialedConnection>) {
        self.connected(connection, 0, None);
    }

    /// Takes its connection.
    pub(super) fn connected(
        &self,
        connection: Box<dyn DialedConnection>,
        reused: u32,
        pool: Option<Rc<Pool>>,
    ) {
        let mut state = self.state.borrow_mut();
        state.connection = Some(connection);
        state.reused = reused;
        state.pool = pool;
    }

    pub(super) fn set_dialed(&self, dialed: Result<(), DialFault>) {
        self.state.borrow_mut().dialed = dialed.err();
    }

    /// Returns why it could not be connected, once.
    pub(crate) fn take_dial_fault(&self) -> Option<DialFault> {
        self.state.borrow_mut().dialed.take()
    }

    /// Returns true if it is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.state.borrow().connection.is_some()
    }

    /// Returns whether it can be read, and written.
    pub(crate) fn usable(&self) -> (bool, bool) {
        let state = self.state.borrow();
        let is_open = state.connection.is_some();
        (is_open && !state.is_read_closed, is_open && !state.is_write_closed)
    }

    /// Returns what ngx_lua's message about a closed socket ends with.
    pub(crate) fn shown(&self) -> String {
        let state = self.state.borrow();
        let place = state.connection.as_ref().map_or(0, |connection| (&raw const **connection).addr());
        let has_ended = u8::from(state.input.has_ended);
        format!("u:{:016X}, c:{place:016X}, ft:0 eof:{has_ended}", std::ptr::from_ref(self).addr())
    }

    /// Returns how often its connection came out of a pool.
    pub(crate) fn reused(&self) -> u32 {
        self.state.borrow().reused
    }

    /// Closes it. Returns false if it was closed.
    pub(crate) fn close(&self) -> bool {
        let (connection, pool) = {
            let mut state = self.state.borrow_mut();
            let was_open = !(state.is_read_closed && state.is_write_closed);
            (state.connection.take().filter(|_| was_open), state.pool.take())
        };
        let was_open = connection.is_some();
        drop(connection);
        if let Some(pool) = pool {
            pool.leave();
        }
        was_open
    }

    /// Closes it, and gives back what it holds: its request is over.
    pub(crate) fn abandon(&self) {
        self.close();
        *self.state.borrow_mut() = State::default();
        self.count();
        self.owner.set(0);
    }

    /// Counts what it holds towards the machine's limit.
    fn count(&self) {
        let held = {
            let state = self.state.borrow();
            state.input.held_bytes() + state.output.bytes.capacity()
        };
        let now = if held < COUNTED_FROM { 0 } else { held };
        let before = self.counted.replace(now);
        if before != now
            && let Some(scripts) = self.scripts.upgrade()
        {
            scripts.machine.count_outside(before, now);
        }
    }

    /// Returns by how many bytes what it holds may grow.
    fn room(&self) -> usize {
        self.scripts.upgrade().map_or(usize::MAX, |scripts| scripts.machine.room_outside())
    }

    /// Begins a read that its script waits for. One that does not come to its end closes the socket.
    pub(super) fn begin_read(self: &Rc<Self>) -> Operation<impl FnMut(bool) + use<>> {
        self.busy.reading.set(true);
        let socket = Rc::clone(self);
        Operation::new(move |is_over| {
            socket.busy.reading.set(false);
            if !is_over {
                socket.close();
            }
        })
    }

    /// Does the same for a write.
    fn begin_write(self: &Rc<Self>) -> Operation<impl FnMut(bool) + use<>> {
        self.busy.writing.set(true);
        let socket = Rc::clone(self);
        Operation::new(move |is_over| {
            socket.busy.writing.set(false);
            if !is_over {
                socket.close();
            }
        })
    }

    /// Reads a piece. It is open for reading, and nothing else reads.
    pub(crate) fn receive(self: &Rc<Self>, wanted: Wanted) -> Tried {
        {
            let mut state = self.state.borrow_mut();
            state.input.begin(wanted);
            state.read_timer = false;
            state.read = None;
        }
        match self.poll_receive(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => Tried::Done(self.received()),
            Poll::Pending => {
                let (socket, mut reading) = (Rc::clone(self), self.begin_read());
                Tried::Wait(Waiting::new(poll_fn(move |cx| reading.polled(socket.poll_receive(cx)))))
            }
        }
    }

    /// Returns whether the last piece is whole.
    pub(crate) fn received(&self) -> Result<(), ()> {
        if self.state.borrow().read.is_some() { Err(()) } else { Ok(()) }
    }

    /// Returns why the last piece is not whole, once.
    pub(crate) fn take_read_fault(&self) -> Option<SocketFault> {
        self.state.borrow_mut().read.take()
    }

    /// Calls `see` with the last piece, or with what there is of it.
    pub(crate) fn with_piece<R>(&self, see: impl FnOnce(&[u8], &Wanted) -> R) -> R {
        let state = self.state.borrow();
        see(state.input.answer(), &state.input.wanted)
    }

    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<()> {
        let done = ready!(self.poll_piece(cx));
        let mut state = self.state.borrow_mut();
        if let Err(fault) = done {
            state.input.give_up();
            // After a timeout it can be read on.
            state.is_read_closed |= fault != SocketFault::Timeout;
            state.read = Some(fault);
        }
        drop(state);
        self.count();
        Poll::Ready(())
    }

    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Result<(), SocketFault>> {
        loop {
            let mut state = self.state.borrow_mut();
            let State { connection, input, buffer_size, read_timer, .. } = &mut *state;
            match input.advance() {
                Progress::Done => return Poll::Ready(Ok(())),
                Progress::Ended => return Poll::Ready(Err(SocketFault::Closed)),
                Progress::More => {}
            }
            let Some(connection) = connection else { return Poll::Ready(Err(SocketFault::Closed)) };
            let most = if input.held_bytes() < COUNTED_FROM { usize::MAX } else { self.room() };
            let Some(room) = input.room(*buffer_size, most) else {
                return Poll::Ready(Err(SocketFault::NoMemory));
            };
            match connection.poll_read(cx, room) {
                Poll::Ready(Ok(0)) => input.has_ended = true,
                Poll::Ready(Ok(count)) => {
                    input.filled(count);
                    *read_timer = false;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    if !std::mem::replace(read_timer, true) {
                        connection.start_timer(Direction::Read, self.times.get().read_ms);
                    }
                    ready!(connection.poll_timer(Direction::Read, cx));
                    return Poll::Ready(Err(SocketFault::Timeout));
                }
            }
            let held = input.held_bytes();
            drop(state);
            if held >= COUNTED_FROM {
                self.count();
            }
        }
    }

    /// Writes. It is open for writing, and nothing else writes.
    pub(crate) fn send(self: &Rc<Self>, bytes: &[u8]) -> Tried {
        let mut done = 0;
        {
            let mut state = self.state.borrow_mut();
            state.output.fault = None;
            let Some(connection) = &mut state.connection else { return Tried::Done(Err(())) };
            let mut cx = Context::from_waker(Waker::noop());
            while done < bytes.len() {
                match connection.poll_write(&mut cx, &bytes[done..]) {
                    Poll::Ready(Ok(count)) if count > 0 => done += count,
                    Poll::Ready(Ok(_)) => return self.send_failed(&mut state, SocketFault::Closed),
                    Poll::Ready(Err(error)) => return self.send_failed(&mut state, error.into()),
                    Poll::Pending => break,
                }
            }
            if done == bytes.len() {
                return Tried::Done(Ok(()));
            }
            let rest = &bytes[done..];
            if rest.len() >= COUNTED_FROM && self.room() < rest.len() {
                return self.send_failed(&mut state, SocketFault::NoMemory);
            }
            state.output = Output { bytes: rest.to_vec(), ..Output::default() };
        }
        self.count();
        let (socket, mut writing) = (Rc::clone(self), self.begin_write());
        Tried::Wait(Waiting::new(poll_fn(move |cx| writing.polled(socket.poll_send(cx)))))
    }

    fn send_failed(&self, state: &mut State, fault: SocketFault) -> Tried {
        state.is_write_closed = true;
        state.output.fault = Some(fault);
        Tried::Done(Err(()))
    }

    /// Returns why the last write failed, once.
    pub(crate) fn take_write_fault(&self) -> Option<SocketFault> {
        self.state.borrow_mut().output.fault.take()
    }

    fn poll_send(&self, cx: &mut Context<'_>) -> Poll<()> {
        let sent = ready!(self.poll_write_all(cx));
        let mut state = self.state.borrow_mut();
        state.is_write_closed |= sent.is_err();
        state.output = Output { fault: sent.err(), ..Output::default() };
        drop(state);
        self.count();
        Poll::Ready(())
    }

    fn poll_write_all(&self, cx: &mut Context<'_>) -> Poll<Result<(), SocketFault>> {
        let mut state = self.state.borrow_mut();
        let State { connection, output, .. } = &mut *state;
        let Some(connection) = connection else { return Poll::Ready(Err(SocketFault::Closed)) };
        while output.done < output.bytes.len() {
            match connection.poll_write(cx, &output.bytes[output.done..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(SocketFault::Closed)),
                Poll::Ready(Ok(count)) => {
                    output.done += count;
                    output.timer = false;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    if !std::mem::replace(&mut output.timer, true) {
                        connection.start_timer(Direction::Write, self.times.get().send_ms);
                    }
                    ready!(connection.poll_timer(Direction::Write, cx));
                    return Poll::Ready(Err(SocketFault::Timeout));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives its connection to the pool of its key, which is made with this size if there is none.
    pub(crate) fn keep_alive(&self, pools: &Rc<Pools>, size: usize, timeout_ms: u64) -> Kept {
        let (connection, reused, counted, key) = {
            let mut state = self.state.borrow_mut();
            if state.is_read_closed || state.is_write_closed || state.input.has_ended {
                return Kept::Closed;
            }
            let Some(connection) = &mut state.connection else { return Kept::Closed };
            let stirred = connection.poll_stirred(&mut Context::from_waker(Waker::noop()));
            if stirred == Poll::Ready(true) {
                return Kept::Closed;
            }
            if state.input.has_unread() {
                return Kept::Unread;
            }
            if stirred.is_ready() {
                drop(state);
                self.close();
                return Kept::Dubious;
            }
            let (Some(connection), Some(key)) = (state.connection.take(), state.key.clone()) else {
                return Kept::Closed;
            };
            (connection, state.reused, state.pool.take(), key)
        };
        let pool = pools.get(&key).unwrap_or_else(|| pools.create(&key, size, None));
        pool.keep(connection, reused, counted.is_some(), timeout_ms);
        *self.state.borrow_mut() = State::default();
        self.count();
        Kept::Pooled
    }

    /// Gets an option; `None` if it is not connected.
    pub(crate) fn option(&self, option: SocketOption) -> Option<io::Result<i32>> {
        Some(self.state.borrow().connection.as_ref()?.option(option))
    }

    /// Sets an option; `None` if it is not connected.
    pub(crate) fn set_option(&self, option: SocketOption, value: i32) -> Option<io::Result<()>> {
        Some(self.state.borrow().connection.as_ref()?.set_option(option, value))
    }
}

impl Drop for ScriptSocket {
    fn drop(&mut self) {
        self.abandon();
    }
}
