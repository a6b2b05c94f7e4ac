//! The origin that records every byte of every connection, and the requests in it.
//!
//! Owns its thread and its connections. It answers only what it can read: a request that is ambiguous to the strict reader
//! gets 400 and the end of the connection.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

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
    record: Arc<Mutex<OriginRecord>>,
    thread: Option<JoinHandle<()>>,
}

impl RecordingOrigin {
    /// Listens on a unix socket. The first request is answered with `answer` if there is one, and the connection then
    /// closed if `closes`; every other request with an echo of its method, target and body length.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn start(path: &Path, answer: Option<Vec<u8>>, closes: bool) -> std::io::Result<RecordingOrigin> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
        let (over, record) =
            (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(OriginRecord::default())));
        let script = Script { answer, closes };
        let thread = std::thread::spawn({
            let (over, record) = (Arc::clone(&over), Arc::clone(&record));
            move || serve(&listener, &script, &over, &record)
        });
        Ok(RecordingOrigin { path: path.to_owned(), over, record, thread: Some(thread) })
    }

    /// Returns the record so far.
    pub fn record(&self) -> OriginRecord {
        lock(&self.record).clone()
    }

    /// Takes the record so far.
    pub fn take(&self) -> OriginRecord {
        std::mem::take(&mut *lock(&self.record))
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

fn lock(record: &Mutex<OriginRecord>) -> std::sync::MutexGuard<'_, OriginRecord> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Script {
    answer: Option<Vec<u8>>,
    closes: bool,
}

/// One connection to the origin.
struct Caller {
    stream: UnixStream,
    /// Its place in the record, once it has sent anything.
    number: Option<usize>,
    /// The number of bytes that were answered.
    used: usize,
    tunnel: bool,
    over: bool,
}

fn serve(listener: &UnixListener, script: &Script, over: &AtomicBool, record: &Mutex<OriginRecord>) {
    let mut callers: Vec<Caller> = Vec::new();
    let mut answered = 0;
    while !over.load(Ordering::Relaxed) {
        {
            let mut ready = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            ready.extend(callers.iter().map(|c| PollFd::new(c.stream.as_fd(), PollFlags::POLLIN)));
            let _ = poll(&mut ready, PollTimeout::from(200u8));
        }
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                callers.push(Caller { stream, number: None, used: 0, tunnel: false, over: false });
            }
        }
        for caller in &mut callers {
            caller.attend(script, record, &mut answered);
        }
        callers.retain(|caller| !caller.over);
    }
    // Bytes that are under way still count.
    for caller in &mut callers {
        caller.attend(script, record, &mut answered);
    }
}

impl Caller {
    fn attend(&mut self, script: &Script, record: &Mutex<OriginRecord>, answered: &mut usize) {
        let mut chunk = [0; 16384];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.over = true,
                Ok(count) => {
                    self.take(&chunk[..count], script, &mut lock(record), answered);
                    if !self.over {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.over = true,
            }
            return;
        }
    }

    fn take(&mut self, bytes: &[u8], script: &Script, record: &mut OriginRecord, answered: &mut usize) {
        let number = *self.number.get_or_insert_with(|| {
            record.connections.push(Vec::new());
            record.connections.len() - 1
        });
        // The record may have been taken in the meantime.
        if record.connections.len() <= number {
            record.connections.resize(number + 1, Vec::new());
            self.used = 0;
        }
        if self.tunnel {
            record.tunnel.extend_from_slice(bytes);
            return;
        }
        record.connections[number].extend_from_slice(bytes);
        while !self.over && self.used < record.connections[number].len() {
            match message::request(&record.connections[number][self.used..]) {
                Read::Partial => return,
                Read::Whole(request, len) => {
                    self.used += len;
                    let answer = match (&script.answer, *answered) {
                        (Some(answer), 0) => answer.clone(),
                        _ => echo(&request, *answered),
                    };
                    record.requests.push((number, request));
                    self.say(&answer);
                    self.tunnel = answer.starts_with(b"HTTP/1.1 101");
                    self.over = script.closes && script.answer.is_some() && *answered == 0;
                    *answered += 1;
                    if self.tunnel {
                        let rest = record.connections[number].split_off(self.used);
                        record.tunnel.extend_from_slice(&rest);
                    }
                }
                Read::Bad(why) => {
                    record.faults.push((number, why));
                    self.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    self.over = true;
                }
            }
        }
    }

    /// Sends all bytes, unless the peer has gone.
    fn say(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut ready = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
                    if !matches!(poll(&mut ready, PollTimeout::from(5000u16)), Ok(1..)) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
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
