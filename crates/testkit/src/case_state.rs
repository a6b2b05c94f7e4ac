//! The state that all threads of one running case share: its directory, events, faults, and edits for blessing.
//!
//! It must never talk to a server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::case::Text;
use crate::connection::{Connection, PATIENCE, PeerEnd};
use crate::failure::{Fault, readable};
use crate::test_dir::TestDir;
use crate::tls::{TlsClient, TlsLayer, TlsSessions};

/// Lines of the case file to be replaced because the oracle says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) line: usize,
    pub(crate) count: usize,
    pub(crate) with: Vec<String>,
}

#[derive(Default)]
struct Shared {
    raised: BTreeSet<String>,
    faults: Vec<Fault>,
    over: bool,
    connections: BTreeMap<String, usize>,
    edits: Vec<Edit>,
    tls: TlsSessions,
}

/// One running case.
pub(crate) struct CaseState {
    pub(crate) dir: TestDir,
    /// Output that differs replaces the expected lines instead of failing the case.
    pub(crate) blessing: bool,
    shared: Mutex<Shared>,
    changed: Condvar,
}

/// The result of waiting for bytes.
#[derive(PartialEq, Eq)]
pub(crate) enum Waited {
    /// More bytes, or the end.
    News,
    /// The deadline passed.
    Late,
    /// The case is over.
    Over,
}

impl CaseState {
    /// Makes the directory for a case of this text.
    pub(crate) fn new(text: &str, blessing: bool) -> Result<CaseState, String> {
        let dir = TestDir::new(text)?;
        Ok(CaseState { dir, blessing, shared: Mutex::default(), changed: Condvar::default() })
    }

    /// Sends all bytes. A peer that has gone is not an error here: what it answered shows it.
    pub(crate) fn send(&self, connection: &mut Connection, bytes: &[u8], line: usize) -> Result<(), Fault> {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        match connection.send(bytes) {
            Err(e) if !matches!(e.kind(), BrokenPipe | ConnectionReset) => {
                Err(Fault::new(line, format!("cannot send: {e}")))
            }
            _ => Ok(()),
        }
    }

    /// Waits for bytes until the deadline or the end of the case.
    pub(crate) fn read(&self, connection: &mut Connection, deadline: Instant) -> Waited {
        while !connection.read() {
            if self.is_over() {
                return Waited::Over;
            }
            if Instant::now() >= deadline {
                return Waited::Late;
            }
        }
        Waited::News
    }

    /// Waits for the peer to close; bytes before that are a fault.
    pub(crate) fn expect_end(&self, connection: &mut Connection, line: usize) -> Result<(), Fault> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if !connection.buffer.is_empty() {
                let seen = readable(&connection.buffer[..connection.buffer.len().min(2000)]);
                return Err(Fault::new(line, "bytes came where the connection was to be closed").with(seen));
            }
            if connection.end == Some(PeerEnd::CutOff) {
                return Err(Fault::new(line, "the connection was closed without the closing alert of TLS"));
            }
            if connection.has_ended() {
                return Ok(());
            }
            if self.read(connection, deadline) != Waited::News {
                return Err(Fault::new(line, "the connection was not closed"));
            }
        }
    }

    /// Opens a client's side of TLS; those that resume share their sessions.
    pub(crate) fn tls(&self, client: &TlsClient) -> Result<TlsLayer, String> {
        let conf = self.dir.path("conf")?;
        client.open(&conf, &mut self.lock().tls).map(TlsLayer::new)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces an event to the threads that wait for it.
    pub(crate) fn raise(&self, event: &str) {
        self.lock().raised.insert(event.to_owned());
        self.changed.notify_all();
    }

    /// Waits for an event, or for the case to fail or end.
    pub(crate) fn wait_for(&self, event: &str, line: usize) -> Result<(), Fault> {
        let deadline = Instant::now() + PATIENCE;
        let mut shared = self.lock();
        while !shared.raised.contains(event) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || shared.over || !shared.faults.is_empty() {
                return Err(Fault::new(line, format!("\"{event}\" was never raised")));
            }
            shared = self.changed.wait_timeout(shared, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Records a fault found by another thread than the one that runs the steps.
    pub(crate) fn fail(&self, fault: Fault) {
        self.lock().faults.push(fault);
        self.changed.notify_all();
    }

    /// Returns the first recorded fault.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.lock().faults.first().cloned()
    }

    /// Ends the case for all its threads.
    pub(crate) fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_over(&self) -> bool {
        let shared = self.lock();
        shared.over || !shared.faults.is_empty()
    }

    /// Counts a connection to an origin.
    pub(crate) fn count_connection(&self, origin: &str) {
        *self.lock().connections.entry(origin.to_owned()).or_default() += 1;
    }

    pub(crate) fn connections(&self, origin: &str) -> usize {
        self.lock().connections.get(origin).copied().unwrap_or_default()
    }

    /// Settles a mismatch: with an edit of the case file when blessing, with a fault otherwise.
    pub(crate) fn settle(&self, edit: impl FnOnce() -> Edit, fault: Fault) -> Result<(), Fault> {
        if !self.blessing {
            return Err(fault);
        }
        let edit = edit();
        self.lock().edits.push(edit);
        Ok(())
    }

    pub(crate) fn edits(&self) -> Vec<Edit> {
        self.lock().edits.clone()
    }
}

impl Edit {
    /// Replaces all the lines of a section's text.
    pub(crate) fn of_text(text: &Text, with: Vec<String>) -> Edit {
        Edit { line: text.line, count: text.lines.len(), with }
    }
}
