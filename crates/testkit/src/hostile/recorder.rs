//! The origin that records every byte of every connection, and the requests in it.
//!
//! Owns its threads and its connections. It answers only what it can read: a request that is ambiguous to the strict reader
//! gets 400 and the end of the connection.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use socket2::SockAddr;

use crate::connection::{Connection, accept_all, listen};
use crate::message::{self, Read, Request};

/// The record of an origin.
#[derive(Clone, Debug, Default)]
pub struct OriginRecord {
    /// One for each connection that sent anything, in the order of their coming.
    pub connections: Vec<Vec<u8>>,
    /// Every request, in the order in which they were whole, with the number of its connection.
    pub requests: Vec<(usize, Request)>,
    /// Unreadable bytes, with the number of their connection.
    pub faults: Vec<(usize, String)>,
    /// The bytes of a connection after `101`.
    pub tunnel: Vec<u8>,
}

/// A listening origin.
#[derive(Debug)]
pub struct RecordingOrigin {
    path: PathBuf,
    over: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

/// What the connections share.
#[derive(Debug, Default)]
struct State {
    record: OriginRecord,
    /// The number of requests that were answered.
    answered: usize,
}

impl RecordingOrigin {
    /// Listens on a unix socket. The first request is answered with `answer` if there is one, and the connection then
    /// closed if `closes`; every other request with an echo of its method, target and body length.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn start(path: &Path, answer: Option<Vec<u8>>, closes: bool) -> std::io::Result<RecordingOrigin> {
        let _ = std::fs::remove_file(path);
        let listener = listen(&SockAddr::unix(path)?, None)?;
        let (over, state) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(State::default())));
        let script = Script { answer, closes };
        let thread = std::thread::spawn({
            let (over, state) = (Arc::clone(&over), Arc::clone(&state));
            move || {
                let is_over = || over.load(Ordering::Relaxed);
                accept_all(&listener, is_over, |connection, _| {
                    let received = Vec::new();
                    let caller = Caller {
                        connection,
                        script: &script,
                        state: &state,
                        number: None,
                        received,
                        tunnel: false,
                    };
                    caller.serve(&is_over);
                });
            }
        });
        Ok(RecordingOrigin { path: path.to_owned(), over, state, thread: Some(thread) })
    }

    /// Returns the record so far.
    pub fn record(&self) -> OriginRecord {
        lock(&self.state).record.clone()
    }

    /// Takes the record so far.
    pub fn take(&self) -> OriginRecord {
        std::mem::take(&mut lock(&self.state).record)
    }

    /// Ends the origin; returns the record.
    pub fn finish(mut self) -> OriginRecord {
        self.stop();
        self.record()
    }

    fn stop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread if it sleeps.
        drop(UnixStream::connect(&self.path));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for RecordingOrigin {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Script {
    answer: Option<Vec<u8>>,
    closes: bool,
}

/// One connection to the origin.
struct Caller<'a> {
    connection: Connection,
    script: &'a Script,
    state: &'a Mutex<State>,
    /// Its place in the record, once it has sent anything.
    number: Option<usize>,
    /// Bytes of a request that is not whole yet.
    received: Vec<u8>,
    tunnel: bool,
}

impl Caller<'_> {
    fn serve(mut self, is_over: &dyn Fn() -> bool) {
        loop {
            // Bytes that are under way at the end still count.
            let is_last = is_over();
            let came = self.connection.read();
            let bytes = std::mem::take(&mut self.connection.buffer);
            let goes_on = bytes.is_empty() || self.take(&bytes);
            if !goes_on || self.connection.has_ended() || (is_last && !came) {
                return;
            }
        }
    }

    /// Records bytes, and answers the requests that are whole. Returns false if the connection is to be closed.
    fn take(&mut self, bytes: &[u8]) -> bool {
        {
            let record = &mut lock(self.state).record;
            let number = *self.number.get_or_insert(record.connections.len());
            // The record may have been taken in the meantime.
            if record.connections.len() <= number {
                record.connections.resize(number + 1, Vec::new());
            }
            if self.tunnel {
                record.tunnel.extend_from_slice(bytes);
                return true;
            }
            record.connections[number].extend_from_slice(bytes);
            self.received.extend_from_slice(bytes);
        }
        while !self.received.is_empty() {
            match message::request(&self.received) {
                Read::Partial => return true,
                Read::Whole(request, len) => {
                    self.received.drain(..len);
                    if !self.answer(request) {
                        return false;
                    }
                }
                Read::Bad(why) => {
                    let number = self.number.unwrap_or_default();
                    lock(self.state).record.faults.push((number, why));
                    self.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    return false;
                }
            }
        }
        true
    }

    /// Answers a request. Returns false if the connection is to be closed.
    fn answer(&mut self, request: Request) -> bool {
        let number = self.number.unwrap_or_default();
        let (answer, is_first) = {
            let state = &mut *lock(self.state);
            let answer = match (&self.script.answer, state.answered) {
                (Some(answer), 0) => answer.clone(),
                _ => echo(&request, state.answered),
            };
            state.record.requests.push((number, request));
            state.answered += 1;
            self.tunnel = answer.starts_with(b"HTTP/1.1 101");
            if self.tunnel {
                let rest = std::mem::take(&mut self.received);
                if let Some(bytes) = state.record.connections.get_mut(number) {
                    bytes.truncate(bytes.len().saturating_sub(rest.len()));
                }
                state.record.tunnel.extend_from_slice(&rest);
            }
            (answer, state.answered == 1)
        };
        self.send(&answer);
        !(self.script.closes && self.script.answer.is_some() && is_first)
    }

    /// Sends all bytes, unless the peer has gone.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.connection.send(bytes);
    }
}

/// Returns the answer that names its request.
fn echo(request: &Request, number: usize) -> Vec<u8> {
    let body = format!("{} {} {}", request.method, request.target, request.body.len());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Request: {number}\r\n\r\n", body.len());
    let body = if request.method == "HEAD" { "" } else { &body };
    format!("{head}{body}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn requests_are_recorded_and_answered() {
        let path = std::env::temp_dir().join(format!("hostile-origin-{}", std::process::id()));
        let origin = RecordingOrigin::start(&path, None, false).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nxGET\r\n").unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.contains("\r\n\r\nGET /a 0HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("X-Request: 1\r\n\r\nPOST /b 1HTTP/1.1 400 "), "{text}");
        let record = origin.finish();
        assert_eq!((record.requests.len(), record.connections.len(), record.faults.len()), (2, 1, 1));
    }
}
