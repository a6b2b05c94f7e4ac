//! The streams of a connection, from the first of them to the last: what comes is given to them, what they answer is sent in
//! turns, many answers in one write.

use super::limits;
use super::slot::Slot;
use super::stream::{self, Opened};
use crate::context::conn_guard::ConnGuard;
use crate::context::timeout::Timeout;
use crate::downstream::conn::{Http2Conn, IdleConn};
use crate::request::host::with_env;
use engine::host::Level;
use engine::{Exchange, log_line, start_request};
use http::HeadError;
use http::h2::{ConnectionFault, ErrorCode, HeadSlot, ReadContext, Received};
use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use transport::pipe::{Pipe, PipeBudget};
use transport::stream::Stream;

/// How many bytes of a body one stream may send before it is the next one's turn.
const TURN_BYTES: usize = 16 << 10;
/// How many bytes are gathered for one write.
const WRITE_BYTES: usize = 64 << 10;
/// How many bytes of answers a connection holds that its client has not taken.
const MAX_UNSENT: usize = 1 << 20;
/// How many turns there are before the other connections of the thread have theirs.
const MAX_TURNS: u32 = 8;
/// How long a client may take to answer that it knows of the connection's end, in ms.
const FAREWELL_MS: u64 = 1_000;

/// A connection that has streams.
pub(super) struct Session<'a> {
    pub(super) conn: Box<Http2Conn>,
    pub(super) idle: &'a mut IdleConn,
    slots: Vec<Slot>,
    budget: Rc<PipeBudget>,
    /// Where the head of the next request goes.
    spare: Option<Box<Exchange>>,
    timeout: Timeout,
    /// Frames on their way to the client.
    out: Vec<u8>,
    /// How much of them has gone.
    sent: usize,
    /// Which stream's turn is first.
    first: usize,
    /// Whether the client was told of a fault: what comes from it means nothing any more.
    has_failed: bool,
    /// Whether the socket is of no use any more.
    is_over: bool,
    /// Whether the time of a connection without streams runs.
    is_timed: bool,
    /// For streams that came before the end of the handshake: whether that is over.
    secured: Option<Rc<Cell<bool>>>,
}

/// What a connection is at the end of its turns.
enum Turn {
    /// It waits for something.
    Waits,
    /// Its turns are used up, and there is more to do.
    More,
    /// It has no stream, and nothing more to do.
    Ends(SessionEnd),
}

/// What becomes of a connection without a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// It is idle.
    Idle,
    /// It is over, and all that there was to say is sent.
    Said,
    /// Its client is gone, or takes nothing.
    Gone,
}

impl<'a> Session<'a> {
    /// Begins with a connection that has no stream.
    pub(super) fn new(conn: Box<Http2Conn>, idle: &'a mut IdleConn) -> Session<'a> {
        let ConnGuard { thread, conn_state, .. } = &idle.guard;
        let timeout = Timeout::new(thread, conn_state);
        Session {
            conn,
            idle,
            slots: Vec::new(),
            budget: PipeBudget::new(MAX_UNSENT),
            spare: None,
            timeout,
            out: Vec::new(),
            sent: 0,
            first: 0,
            has_failed: false,
            is_over: false,
            is_timed: false,
            secured: None,
        }
    }

    /// Becomes ready when there is no stream left.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        self.idle.guard.conn_state.register(cx);
        match self.take_turns(cx) {
            Turn::Ends(end) => {
                self.release();
                Poll::Ready(end)
            }
            Turn::More => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Turn::Waits => self.wait(cx),
        }
    }

    /// Gives back what only streams need.
    fn release(&mut self) {
        let buffers = &self.idle.guard.thread.buffers;
        if let Some(spare) = self.spare.take() {
            buffers.give_back_exchange(spare);
        }
        self.conn.read_buffer.release(buffers);
        buffers.give_back_text(std::mem::take(&mut self.out));
    }

    fn take_turns(&mut self, cx: &mut Context<'_>) -> Turn {
        if self.idle.guard.thread.quitting.get() || self.idle.socket.is_given_up() {
            self.conn.codec.announce_end();
        }
        if self.idle.guard.conn_state.is_cut() {
            // Its time is up, whatever its streams do.
            self.conn.codec.name_last();
        }
        for _ in 0..MAX_TURNS {
            let has_read = self.read(cx);
            if self.secured.is_some() && !self.conn.stream.is_early() {
                self.tell_secured();
            }
            let has_run = self.run_streams(cx);
            let has_framed = self.frame();
            let has_sent = self.send(cx);
            if self.is_over && self.slots.is_empty() {
                return Turn::Ends(SessionEnd::Gone);
            }
            let is_quiet = self.slots.is_empty() && self.out.is_empty();
            if is_quiet && self.conn.codec.is_last_named() {
                return Turn::Ends(SessionEnd::Said);
            }
            if !(has_read || has_run || has_framed || has_sent) {
                let is_idle = is_quiet
                    && self.conn.codec.is_idle()
                    && self.conn.read_buffer.is_empty()
                    && !self.conn.codec.is_going_away();
                return if is_idle { self.become_idle() } else { Turn::Waits };
            }
        }
        Turn::More
    }

    /// Tells the streams that the handshake is over.
    #[cold]
    fn tell_secured(&mut self) {
        if let Some(secured) = self.secured.take() {
            secured.set(true);
            self.slots.iter().for_each(Slot::wake);
        }
    }

    fn become_idle(&mut self) -> Turn {
        let thread = &self.idle.guard.thread;
        let Some((generation, listener)) = self.idle.socket.serving(thread.generation()) else {
            return Turn::Ends(SessionEnd::Gone);
        };
        let scope = generation.default_scope(listener);
        let keepalive = &generation.config.location(scope).settings.core.keepalive;
        let short = |ms| u32::try_from(ms).unwrap_or(u32::MAX);
        self.idle.connection.idle_timeout_ms = short(keepalive.idle.timeout_ms);
        self.idle.connection.idle_min_ms = short(*keepalive.min_ms);
        Turn::Ends(SessionEnd::Idle)
    }

    /// Waits; a connection without a stream not for long.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        if !self.slots.is_empty() {
            self.is_timed = false;
            return Poll::Pending;
        }
        if !std::mem::replace(&mut self.is_timed, true) {
            let timeout_ms = self.quiet_ms();
            self.timeout.start(timeout_ms);
        }
        if self.timeout.poll_elapsed(cx).is_pending() {
            return Poll::Pending;
        }
        // A part of a frame has come and no more, the client takes nothing, or it does not answer to its farewell.
        self.conn.codec.name_last();
        self.frame();
        self.send(cx);
        self.release();
        Poll::Ready(SessionEnd::Gone)
    }

    fn quiet_ms(&self) -> u64 {
        if self.conn.codec.is_going_away() && self.out.is_empty() {
            return FAREWELL_MS;
        }
        let Some((generation, listener)) = self.idle.socket.serving(self.idle.guard.thread.generation())
        else {
            return FAREWELL_MS;
        };
        let core = &generation.config.location(generation.default_scope(listener)).settings.core;
        if self.out.is_empty() { *core.head.timeout_ms } else { *core.send.timeout_ms }
    }

    /// Reads what has come, and gives it to the streams. Returns true if there was anything.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_over || self.out.len() - self.sent > 4 * WRITE_BYTES {
            return false;
        }
        // What is there already was not looked at yet, or is a part of a frame.
        let before = self.conn.read_buffer.unread().len();
        self.take_frames(cx);
        if self.is_over {
            return true;
        }
        let buffers = &self.idle.guard.thread.buffers;
        match self.conn.read_buffer.poll_fill(cx, &mut self.conn.stream, buffers) {
            Poll::Pending => before != self.conn.read_buffer.unread().len(),
            Poll::Ready(Ok(1..)) => {
                self.take_frames(cx);
                true
            }
            Poll::Ready(_) => {
                self.break_off();
                true
            }
        }
    }

    fn take_frames(&mut self, cx: &Context<'_>) {
        if self.has_failed {
            let unread = self.conn.read_buffer.unread().len();
            self.conn.read_buffer.consume(unread);
            return;
        }
        if self.conn.read_buffer.is_empty()
            || self.conn.codec.is_last_named() && self.conn.codec.open_streams() == 0
        {
            return;
        }
        let thread = Rc::clone(&self.idle.guard.thread);
        let Some((generation, listener)) = self.idle.socket.serving(thread.generation()) else {
            return self.break_off();
        };
        let head_limits = start_request::head_limits(&generation.config, listener);
        let now_ms = thread.clock.now().monotonic_ms();
        let mut scratch = thread.buffers.lease_text();
        let fault = loop {
            let spare = self.spare.get_or_insert_with(|| thread.buffers.lease_exchange());
            let mut read = ReadContext {
                heads: HeadSlot::Request { head: &mut spare.request.head, limits: &head_limits },
                scratch: &mut scratch,
                now_ms,
            };
            let input = self.conn.read_buffer.unread();
            let step = match self.conn.codec.receive(input, &mut read) {
                Ok(step) => step,
                Err(fault) => break Some(fault),
            };
            let consumed = self.conn.read_buffer.consume(step.consumed);
            match step.received {
                Received::Partial if step.consumed == 0 => break None,
                Received::Request { stream, ends, refused } => self.open(stream, ends, refused, listener, cx),
                Received::Data { stream, range, ends } => {
                    let range = consumed.start + range.start..consumed.start + range.end;
                    self.feed(stream, range, ends);
                }
                Received::Gone { stream, words, .. } => {
                    if let Some(slot) = self.slot(stream) {
                        slot.pipe.break_off();
                    }
                    self.log(words);
                }
                Received::Partial | Received::Nothing | Received::Room | Received::Ignored => {}
                // For clients.
                Received::Response { .. } | Received::Trailers { .. } | Received::GoAway { .. } => {}
            }
        };
        thread.buffers.give_back_text(scratch);
        if let Some(fault) = fault {
            self.fail(fault);
        }
    }

    fn slot(&mut self, stream: u32) -> Option<&mut Slot> {
        // In the order of their numbers.
        let at = self.slots.binary_search_by_key(&stream, |slot| slot.stream).ok()?;
        self.slots.get_mut(at)
    }

    /// Passes a part of a body on.
    fn feed(&mut self, stream: u32, range: std::ops::Range<usize>, ends: bool) {
        let Ok(at) = self.slots.binary_search_by_key(&stream, |slot| slot.stream) else {
            return self.conn.codec.taken(stream, range.len() as u32);
        };
        let slot = &self.slots[at];
        if slot.end.is_some() {
            self.conn.codec.taken(stream, range.len() as u32);
        } else if !range.is_empty() {
            slot.pipe.feed(self.conn.read_buffer.slice(range));
        }
        if ends {
            slot.pipe.end();
        }
    }

    /// Begins to serve a stream.
    fn open(
        &mut self,
        stream: u32,
        ends: bool,
        refused: Option<HeadError>,
        listener: usize,
        cx: &Context<'_>,
    ) {
        let thread = Rc::clone(&self.idle.guard.thread);
        let Some((generation, _)) = self.idle.socket.serving(thread.generation()) else { return };
        let connection = &mut self.idle.connection;
        connection.listener = listener;
        let limits = limits(&generation.config, connection);
        let Some(mut exchange) = self.spare.take() else { return };
        // Streams that the client has reset may take a while to end: they count, too.
        if self.slots.len() >= (limits.max_streams as usize).saturating_mul(2) {
            self.spare = Some(exchange);
            return self.conn.codec.reset(stream, ErrorCode::RefusedStream);
        }
        exchange.connection.clone_from(connection);
        connection.requests += 1;
        let core = &generation.config.location(generation.default_scope(listener)).settings.core;
        let age_ms = thread.clock.now().monotonic_us.saturating_sub(connection.opened.monotonic_us) / 1000;
        if connection.requests >= *core.keepalive.requests || age_ms >= *core.keepalive.time_ms {
            self.conn.codec.name_last();
        } else if std::mem::replace(&mut self.conn.checked, generation.number) != generation.number
            && let Some(tls) = &connection.tls
        {
            let servers = generation.config.listeners[listener].servers_at(connection.local);
            let server = tls.server_name.as_deref().map_or(servers.default, |name| servers.by_name(name));
            if generation.config.server(server).ssl.terms != tls.terms {
                self.conn.codec.announce_end();
            }
        }
        let (pipe, end) = Pipe::new(&self.budget);
        if ends {
            pipe.end();
        }
        let guard = ConnGuard::without_connection(thread);
        let secured = self.conn.stream.is_early().then(|| Rc::clone(self.secured.get_or_insert_default()));
        let opened = Opened { refused, secured };
        let future = Box::pin(stream::serve(guard, Stream::Piped(end), exchange, generation, opened));
        self.slots.push(Slot::new(stream, pipe, future, cx.waker()));
    }

    /// Polls the streams that were woken, and removes those that are done. Returns true if there was any.
    fn run_streams(&mut self, cx: &Context<'_>) -> bool {
        if self.budget.take_relief() {
            self.slots.iter().for_each(|slot| slot.pipe.wake_writer());
        }
        let codec = &mut self.conn.codec;
        let mut has_run = false;
        for slot in &mut self.slots {
            has_run |= slot.poll(cx);
            let (taken, is_wanted) = slot.pipe.take_progress();
            if taken > 0 {
                codec.taken(slot.stream, taken as u32);
            }
            if is_wanted {
                codec.wanted(slot.stream);
            }
        }
        has_run
    }

    /// Frames what the streams have answered, in turns. Returns true if there was anything.
    fn frame(&mut self) -> bool {
        let Http2Conn { codec, .. } = &mut *self.conn;
        let mut has_framed = false;
        // First: the settings come before anything else, and a window may be what the client waits for.
        if !codec.control().is_empty() && self.out.len() < 2 * WRITE_BYTES {
            if self.out.is_empty() {
                std::mem::swap(&mut self.out, codec.control());
            } else {
                self.out.append(codec.control());
            }
            has_framed = true;
        }
        let count = self.slots.len();
        if self.out.len() < WRITE_BYTES && count > 0 {
            self.first %= count;
            for at in (self.first..count).chain(0..self.first) {
                if self.out.len() >= WRITE_BYTES {
                    // The next turn begins where this one ends.
                    self.first = at;
                    break;
                }
                has_framed |= self.slots[at].frame(codec, &mut self.out, TURN_BYTES);
            }
        }
        self.slots.retain(|slot| {
            let Some(end) = slot.end else {
                return true;
            };
            match slot.has_answered() {
                true => codec.finish(slot.stream),
                false => codec.reset(slot.stream, end.code()),
            }
            has_framed = true;
            false
        });
        has_framed
    }

    /// Sends what is framed. Returns true if anything went.
    fn send(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_over {
            self.out.clear();
            self.sent = 0;
            return false;
        }
        if self.out.is_empty() {
            return false;
        }
        let before = self.sent;
        let written = self.conn.stream.poll_write_all(cx, &[&self.out], &mut self.sent);
        let has_sent = self.sent > before;
        match written {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.out.clear();
                self.sent = 0;
            }
            Poll::Ready(Err(_)) => self.break_off(),
        }
        has_sent
    }

    /// Ends the connection for a fault of the client.
    fn fail(&mut self, fault: ConnectionFault) {
        self.log(fault.words);
        self.conn.codec.fail(fault.code);
        self.has_failed = true;
        self.slots.iter().for_each(|slot| slot.pipe.break_off());
        let unread = self.conn.read_buffer.unread().len();
        self.conn.read_buffer.consume(unread);
    }

    /// Ends all streams: the client is gone.
    fn break_off(&mut self) {
        self.is_over = true;
        self.slots.iter().for_each(|slot| slot.pipe.break_off());
    }

    fn log(&self, words: &str) {
        let thread = &self.idle.guard.thread;
        let text = format!("client {words}");
        with_env(thread, &thread.generation(), |env| {
            log_line::connection_error(&self.idle.connection, env, Level::Info, text.as_bytes());
        });
    }
}
