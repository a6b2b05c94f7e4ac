//! The load: connections that send requests and read the answers, on the thread that calls, without ever sleeping.
//!
//! `closed` sends the next request when an answer has come: how much work a server can do. `open` sends at an offered
//! rate whatever comes back: how long people wait (see `arrivals`). It polls and never blocks, so that no server pays for
//! waking it up, and any answer that is not the expected one is an error.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv};

use super::answer::Answer;
use super::arrivals::Arrivals;

/// How long a load waits for anything to come before it gives up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a round at an offered rate may go on to answer what is late.
const GRACE: Duration = Duration::from_secs(2);
/// What is read at once. Bodies are thrown away in the kernel, so that reading costs the load little.
const READ_BYTES: usize = 256 * 1024;

/// What is sent, over and over, and what must come back.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    /// Whole requests, sent in turn.
    pub(super) texts: Vec<Vec<u8>>,
    /// The length of the body that answers each.
    pub(super) answer_bytes: u64,
    /// A connection for each: the server closes it.
    pub(super) closes: bool,
}

/// When a round of the closed load ends: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    length: Duration,
    answers: u64,
}

impl Until {
    /// After a time.
    pub(super) fn after(length: Duration) -> Until {
        Until { length, answers: u64::MAX }
    }

    /// After so many answers.
    pub(super) fn answers(answers: u64) -> Until {
        Until { length: Duration::MAX, answers }
    }

    /// After this time though the answers are not so many.
    pub(super) fn or_after(self, length: Duration) -> Until {
        Until { length, ..self }
    }
}

/// What a round of the closed load did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    pub(super) answers: u64,
    pub(super) seconds: f64,
}

/// What a round at an offered rate found.
pub(super) struct Open {
    /// Of each request that was due, sorted.
    pub(super) latencies_ns: Vec<u64>,
    /// How many of them were not answered in time; they count with what they had waited when the round was given up.
    pub(super) unanswered: usize,
}

/// What goes on beside the load on the same thread: the origin.
pub(super) type Beside<'a> = &'a mut dyn FnMut() -> Result<(), String>;

#[derive(Default)]
struct Slot {
    stream: Option<TcpStream>,
    text: usize,
    sent: usize,
    due_ns: u64,
    answer: Answer,
    /// A request is under way.
    busy: bool,
    /// The answer is whole; the server has yet to close.
    ends: bool,
}

/// A number of connections to one server.
pub(super) struct Load<'a> {
    front: SocketAddr,
    requests: &'a Requests,
    epoll: Epoll,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    slots: Vec<Slot>,
    free: VecDeque<usize>,
    next_text: usize,
    /// The requests that were answered in this turn: when they were due.
    answered: Vec<u64>,
    /// Anything was read or written in this turn.
    moved: bool,
}

impl<'a> Load<'a> {
    /// Prepares connections; each is opened when its first request is sent.
    pub(super) fn new(
        front: SocketAddr,
        requests: &'a Requests,
        connections: usize,
    ) -> Result<Load<'a>, String> {
        Ok(Load {
            front,
            requests,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|e| format!("epoll: {e}"))?,
            events: vec![EpollEvent::empty(); connections.min(256)],
            buffer: vec![0; READ_BYTES],
            slots: (0..connections).map(|_| Slot::default()).collect(),
            free: (0..connections).collect(),
            next_text: 0,
            answered: Vec::new(),
            moved: false,
        })
    }

    /// A round in which each connection sends as soon as it has its answer. All of them are answered at its end.
    pub(super) fn closed(&mut self, until: Until, beside: Beside) -> Result<Closed, String> {
        let begin = Instant::now();
        let (mut sent, mut answers, mut progress) = (0, 0, begin);
        loop {
            let now = Instant::now();
            let late = now - begin >= until.length;
            while !late
                && sent < until.answers
                && let Some(slot) = self.free.pop_front()
            {
                self.send(slot, 0)?;
                sent += 1;
            }
            if (late || sent >= until.answers) && self.free.len() == self.slots.len() {
                let seconds = begin.elapsed().as_secs_f64();
                return Ok(Closed { answers, seconds });
            }
            beside()?;
            self.turn()?;
            if self.moved {
                progress = now;
            } else if now - progress > PATIENCE {
                return Err(format!("nothing came for {} s", PATIENCE.as_secs()));
            }
            answers += self.answered.drain(..).count() as u64;
        }
    }

    /// A round at an offered rate, in requests per second.
    pub(super) fn open(
        &mut self,
        rate: f64,
        length: Duration,
        seed: u64,
        beside: Beside,
    ) -> Result<Open, String> {
        let mut arrivals = Arrivals::new(rate, length.as_nanos() as u64, seed);
        let begin = Instant::now();
        let mut unanswered = 0;
        loop {
            let now_ns = begin.elapsed().as_nanos() as u64;
            while let Some(&slot) = self.free.front()
                && let Some(due_ns) = arrivals.take(now_ns)
            {
                self.free.pop_front();
                self.send(slot, due_ns)?;
            }
            if arrivals.is_over() && self.free.len() == self.slots.len() {
                break;
            }
            if now_ns > (length + GRACE).as_nanos() as u64 {
                unanswered = self.give_up(&mut arrivals, now_ns);
                break;
            }
            beside()?;
            self.turn()?;
            let now_ns = begin.elapsed().as_nanos() as u64;
            for due_ns in self.answered.drain(..) {
                arrivals.answered(due_ns, now_ns);
            }
        }
        let mut latencies_ns = arrivals.latencies_ns;
        latencies_ns.sort_unstable();
        Ok(Open { latencies_ns, unanswered })
    }

    fn give_up(&mut self, arrivals: &mut Arrivals, now_ns: u64) -> usize {
        let mut count = arrivals.give_up(now_ns);
        for slot in self.slots.iter().filter(|slot| slot.busy) {
            arrivals.answered(slot.due_ns, now_ns);
            count += 1;
        }
        // What is under way on these connections belongs to nobody any more.
        let connections = self.slots.len();
        self.slots = (0..connections).map(|_| Slot::default()).collect();
        self.free = (0..connections).collect();
        count
    }

    /// Sends the next request on a free connection.
    fn send(&mut self, at: usize, due_ns: u64) -> Result<(), String> {
        let slot = &mut self.slots[at];
        slot.due_ns = due_ns;
        slot.text = self.next_text;
        slot.sent = 0;
        slot.busy = true;
        self.next_text = (self.next_text + 1) % self.requests.texts.len();
        if slot.stream.is_none() {
            // Over loopback the kernel completes a connection while the call runs, as long as the queue has room.
            let stream = TcpStream::connect(self.front).map_err(|e| format!("connect: {e}"))?;
            stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true))
                .map_err(|e| format!("socket: {e}"))?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, at as u64);
            self.epoll.add(&stream, event).map_err(|e| format!("epoll: {e}"))?;
            slot.stream = Some(stream);
        }
        self.write(at, false)
    }

    /// Writes what is left of a request; `waited` says that the connection was watched for room.
    fn write(&mut self, at: usize, waited: bool) -> Result<(), String> {
        let slot = &mut self.slots[at];
        let (Some(stream), text) = (&slot.stream, &self.requests.texts[slot.text]) else { return Ok(()) };
        let mut writer = stream;
        while slot.sent < text.len() {
            match writer.write(&text[slot.sent..]) {
                Ok(count) => slot.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("send: {error}")),
            }
        }
        let waits = slot.sent < text.len();
        if waits != waited {
            let flags = if waits { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
            self.epoll
                .modify(stream, &mut EpollEvent::new(flags, at as u64))
                .map_err(|e| format!("epoll: {e}"))?;
        }
        Ok(())
    }

    /// Reads and writes whatever can be.
    fn turn(&mut self) -> Result<(), String> {
        let mut events = std::mem::take(&mut self.events);
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(format!("epoll: {error}")),
        };
        self.moved = count > 0;
        for event in &events[..count] {
            let at = event.data() as usize;
            if event.events().contains(EpollFlags::EPOLLOUT) {
                self.write(at, true)?;
            }
            if event.events().intersects(!EpollFlags::EPOLLOUT) {
                self.read(at)?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn read(&mut self, at: usize) -> Result<(), String> {
        let slot = &mut self.slots[at];
        let Some(stream) = &slot.stream else { return Ok(()) };
        let rest = slot.answer.rest();
        let whole = if rest > 0 {
            // MSG_TRUNC on TCP throws bytes away without copying them.
            let limit = (self.buffer.len() as u64).min(rest) as usize;
            match recv(stream.as_raw_fd(), &mut self.buffer[..limit], MsgFlags::MSG_TRUNC) {
                Ok(0) => return Err("a connection was closed in the middle of an answer".to_owned()),
                Ok(count) => slot.answer.skip(count as u64)?,
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(format!("receive: {error}")),
            }
        } else {
            let mut reader = stream;
            match reader.read(&mut self.buffer) {
                Ok(0) if slot.ends => {
                    *slot = Slot::default();
                    self.free.push_back(at);
                    return Ok(());
                }
                // A server may close a connection that it finds idle for too long; the next request opens another.
                Ok(0) if !slot.busy => {
                    *slot = Slot::default();
                    return Ok(());
                }
                Ok(0) => return Err("a connection was closed instead of an answer".to_owned()),
                Ok(_) if slot.ends => return Err("bytes follow an answer that is whole".to_owned()),
                Ok(count) => slot.answer.feed(&self.buffer[..count], self.requests.answer_bytes)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("receive: {error}")),
            }
        };
        if whole {
            self.answered.push(slot.due_ns);
            slot.busy = false;
            slot.ends = self.requests.closes;
            match slot.ends {
                // Most often the end comes with the answer.
                true => return self.read(at),
                false => self.free.push_back(at),
            }
        }
        Ok(())
    }
}
