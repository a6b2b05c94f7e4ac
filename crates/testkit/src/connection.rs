//! One byte stream with what was read from it and not yet claimed.
//!
//! Owns deadlines: no read outlasts the case's patience, and none outlasts a case that has failed elsewhere.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::failure::{Fault, readable};
use crate::stage::{PATIENCE, Stage};

/// How often a blocked read looks whether the case is over.
const GLANCE: Duration = Duration::from_millis(50);

/// A connection of a client or of an origin.
pub(crate) struct Connection {
    socket: Socket,
    /// Bytes that came and that no expectation has claimed.
    pub(crate) buffer: Vec<u8>,
    /// The peer has closed, or reset, its side.
    pub(crate) ended: bool,
}

/// What one attempt to read brought.
#[derive(PartialEq, Eq)]
pub(crate) enum Read1 {
    /// More bytes, or the end.
    News,
    /// The deadline passed.
    Late,
    /// The case is over.
    Over,
}

impl Connection {
    pub(crate) fn new(socket: Socket) -> std::io::Result<Connection> {
        socket.set_read_timeout(Some(GLANCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { socket, buffer: Vec::new(), ended: false })
    }

    /// Sends all bytes. A peer that has gone is not an error here: what it answered tells.
    pub(crate) fn send(&mut self, bytes: &[u8], line: usize) -> Result<(), Fault> {
        match self.socket.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(()),
            Err(e) => Err(Fault::new(line, format!("cannot send: {e}"))),
        }
    }

    /// Reads once, waiting until the deadline.
    pub(crate) fn read(&mut self, stage: &Stage, deadline: Instant) -> Read1 {
        let mut chunk = [0u8; 65536];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) =>
                {
                    if stage.is_over() {
                        return Read1::Over;
                    }
                    if Instant::now() >= deadline {
                        return Read1::Late;
                    }
                    continue;
                }
                Err(_) => self.ended = true,
            }
            return Read1::News;
        }
    }

    /// Waits for the peer to close; bytes before that are a fault.
    pub(crate) fn expect_end(&mut self, stage: &Stage, line: usize) -> Result<(), Fault> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if !self.buffer.is_empty() {
                let seen = readable(&self.buffer[..self.buffer.len().min(2000)]);
                return Err(Fault::new(line, "bytes came where the connection was to be closed").with(seen));
            }
            if self.ended {
                return Ok(());
            }
            if self.read(stage, deadline) != Read1::News {
                return Err(Fault::new(line, "the connection was not closed"));
            }
        }
    }

    /// What came and was not claimed, without waiting for more.
    pub(crate) fn leftover(&mut self) -> &[u8] {
        if !self.ended && self.socket.set_nonblocking(true).is_ok() {
            let mut chunk = [0u8; 4096];
            while let Ok(count) = self.socket.read(&mut chunk) {
                if count == 0 {
                    break;
                }
                self.buffer.extend_from_slice(&chunk[..count]);
            }
        }
        &self.buffer
    }

    /// Ends our sending side.
    pub(crate) fn half_close(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Closes with a reset instead of an orderly end.
    pub(crate) fn reset(self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }
}
