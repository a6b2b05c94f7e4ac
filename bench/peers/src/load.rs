//! The load: connections that send requests and read the answers, on the calling thread.
//!
//! A closed loop sends the next request when an answer has come, and measures how much work a server can do. An open
//! loop sends at an offered rate, and measures how long users wait (see `arrivals`). It polls and never sleeps, so that
//! no server pays for waking it up, and any unexpected answer is an error.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv};

use hdrhistogram::Histogram;

use crate::answer::Answer;
use crate::arrivals::Arrivals;

/// How long a load waits for bytes before it gives up.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a round at an offered rate waits for late answers.
const GRACE: Duration = Duration::from_secs(2);
/// The size of a read. The kernel discards bodies, so that reading costs the load little.
const READ_BYTES: usize = 256 * 1024;

/// The requests of a load, and the answer that they must get.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    /// Whole requests, sent in turn.
    pub(crate) texts: Vec<Vec<u8>>,
    /// The length of the body that answers each.
    pub(crate) answer_bytes: u64,
    /// Each uses a connection of its own, which the server closes.
    pub(crate) closes: bool,
}

/// When a round of the closed load ends: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until {
    length: Duration,
    answers: u64,
}

impl Until {
    /// Ends after a time.
    pub(crate) fn after(length: Duration) -> Until {
        Until { length, answers: u64::MAX }
    }

    /// Ends after this number of answers.
    pub(crate) fn answers(answers: u64) -> Until {
        Until { length: Duration::MAX, answers }
    }

    /// Ends after this time, even if there are fewer answers.
    pub(crate) fn or_after(self, length: Duration) -> Until {
        Until { length, ..self }
    }
}

/// The result of a round of the closed loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) answers: u64,
    pub(crate) seconds: f64,
}

/// The result of a round at an offered rate.
pub(crate) struct Open {
    /// Of each request that was due.
    pub(crate) latencies_ns: Histogram<u64>,
    /// How many of them were not answered in time; they count with their wait until the round was given up.
    pub(crate) unanswered: usize,
}

impl Open {
    /// Returns a quantile of latency in microseconds; `None` if fewer than ten requests lie beyond it, which would make it
    /// the latency of single requests.
    pub(crate) fn quantile_us(&self, share: f64) -> Option<f64> {
        let beyond = self.latencies_ns.len() as f64 * (1.0 - share);
        (beyond >= 10.0).then(|| self.latencies_ns.value_at_quantile(share) as f64 / 1e3)
    }
}

/// The work that is interleaved with the load on the same thread: the origin.
pub(crate) type Beside<'a> = &'a mut dyn FnMut() -> Result<(), String>;

#[derive(Default)]
struct Slot {
    stream: Option<TcpStream>,
    text: usize,
    sent: usize,
    due_ns: u64,
    answer: Answer,
    /// A request is under way.
    busy: bool,
    /// The answer is complete; the server has yet to close.
    ends: bool,
}

/// A number of connections to one server.
pub(crate) struct Load<'a> {
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
    /// Prepares connections; each is opened with its first request.
    pub(crate) fn new(
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

    /// Runs a round in which each connection sends as soon as it has its answer, until all are answered.
    pub(crate) fn closed(&mut self, until: Until, beside: Beside) -> Result<Closed, String> {
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
            } else if now - progress > TIMEOUT {
                return Err(format!("no bytes came for {} s", TIMEOUT.as_secs()));
            }
            answers += self.answered.drain(..).count() as u64;
        }
    }

    /// Runs a round at an offered rate, in requests per second.
    pub(crate) fn open(
        &mut self,
        rate: f64,
        length: Duration,
        seed: u64,
        beside: Beside,
    ) -> Result<Open, String> {
        let mut arrivals = Arrivals::new(rate, length.as_nanos() as u64, seed)?;
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
        Ok(Open { latencies_ns: arrivals.latencies_ns, unanswered })
    }

    fn give_up(&mut self, arrivals: &mut Arrivals, now_ns: u64) -> usize {
        let mut count = arrivals.give_up(now_ns);
        for slot in self.slots.iter().filter(|slot| slot.busy) {
            arrivals.answered(slot.due_ns, now_ns);
            count += 1;
        }
        // Answers that are under way on these connections are not wanted any more.
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

    /// Writes the rest of a request; `waited` says that epoll waits for room.
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

    /// Reads and writes as far as possible without waiting.
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
            // MSG_TRUNC on TCP discards bytes without copying them.
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
