//! A simple HTTP client: at most one request under way on a connection, bodies as text.

use std::net::SocketAddr;
use std::path::Path;

use crate::connection::{Connection, Fault};

/// An answer, as far as it matters.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) closes: bool,
}

/// A connection of a client.
pub(crate) struct Client(Connection);

impl Client {
    /// Connects over TCP.
    pub(crate) fn connect(front: SocketAddr) -> Result<Client, Fault> {
        Connection::open(front).map(Client)
    }

    /// Connects to a unix socket.
    pub(crate) fn connect_unix(path: &Path) -> Result<Client, Fault> {
        Connection::open_unix(path).map(Client)
    }

    /// Sends a GET request and reads its answer.
    pub(crate) fn get(&mut self, target: &str) -> Result<Answer, Fault> {
        self.send(target)?;
        self.answer()
    }

    /// Sends a GET request.
    pub(crate) fn send(&mut self, target: &str) -> Result<(), Fault> {
        self.send_to(target, "127.0.0.1")
    }

    /// Sends a GET request for another host.
    pub(crate) fn send_to(&mut self, target: &str, host: &str) -> Result<(), Fault> {
        self.0.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
    }

    /// Sends a request with more fields and a body.
    pub(crate) fn send_body(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Result<(), Fault> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
        for (name, value) in fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        self.0.send(request.as_bytes())
    }

    /// Reads an answer.
    pub(crate) fn answer(&mut self) -> Result<Answer, Fault> {
        let head = self.0.head()?;
        let framing = head.framing().ok_or_else(|| Fault::wrong("an answer without a length"))?;
        let mut body = Vec::new();
        self.0.body(framing, &mut |piece| {
            body.extend_from_slice(piece);
            Ok(())
        })?;
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: head.status(), body, closes: head.closes() })
    }
}
