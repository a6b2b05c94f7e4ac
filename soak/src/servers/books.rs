//! The servers of the pool, each with a book of what it was sent.
//!
//! Each request carries the number of the last order that its client knew to be acknowledged when it began. A server that is out
//! knows since which number: a request with it, or with a later one, must not come.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::connection::{Connection, Fault, Head};
use crate::origin::{Origin, echo};

/// The field that carries the number.
pub(super) const FIELD: &str = "x-orders";

/// The book of one server.
#[derive(Default)]
pub(super) struct Book {
    /// It is out since this order; 0 if it is not.
    out_since: AtomicU64,
    /// The requests that came, tunnels among them.
    requests: AtomicU64,
    /// Those that must not have come.
    late: Mutex<Vec<String>>,
}

impl Book {
    /// Notes that the server is out for requests that begin after this order.
    pub(super) fn is_out_after(&self, order: u64) {
        self.out_since.store(order, SeqCst);
    }

    /// Notes that it may get requests again.
    pub(super) fn is_in(&self) {
        self.out_since.store(0, SeqCst);
    }

    fn note(&self, head: &Head) {
        self.requests.fetch_add(1, SeqCst);
        let order: u64 = head.field(FIELD).and_then(|text| text.parse().ok()).unwrap_or_default();
        let out_since = self.out_since.load(SeqCst);
        if out_since > 0 && order >= out_since {
            let text = format!("out since order {out_since}: {}", head.in_one_line());
            self.late.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
    }
}

/// A server of the pool.
pub(super) struct PoolServer {
    origin: Origin,
    pub(super) book: Arc<Book>,
}

impl PoolServer {
    pub(super) fn start() -> Result<PoolServer, String> {
        let book = Arc::new(Book::default());
        let noted = Arc::clone(&book);
        let origin = Origin::start(move |stream, stop| {
            if let Ok(connection) = Connection::accepted(stream, stop) {
                // The client counts what a lost connection did to its request.
                let _ = answer_all(connection, &noted);
            }
        })?;
        Ok(PoolServer { origin, book })
    }

    pub(super) fn port(&self) -> u16 {
        self.origin.port
    }

    /// Returns the number of requests that came; fails if one of them must not have.
    pub(super) fn close(&self) -> Result<u64, String> {
        let late = self.book.late.lock().unwrap_or_else(PoisonError::into_inner);
        match late.first() {
            None => Ok(self.book.requests.load(SeqCst)),
            Some(first) => Err(format!(
                "the server at port {} got {} requests while it was out; the first: {first}",
                self.port(),
                late.len()
            )),
        }
    }
}

fn answer_all(mut connection: Connection, book: &Book) -> Result<(), Fault> {
    loop {
        let head = connection.head()?;
        book.note(&head);
        if head.field("upgrade").is_some() {
            return echo(connection, "pool");
        }
        // `/late/MS` is a long poll.
        let pause_ms = head.word(1).strip_prefix("/late/").and_then(|text| text.parse().ok());
        pause_ms.map(Duration::from_millis).into_iter().for_each(thread::sleep);
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npool")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    #[test]
    fn a_book_notes_what_came_after_its_server_was_out() {
        let server = PoolServer::start().expect("it listens");
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        let mut connection = Connection::open(at).expect("it listens");
        let mut ask = |order: u64| {
            let request = format!("GET /small HTTP/1.1\r\nHost: a\r\nX-Orders: {order}\r\n\r\n");
            connection.send(request.as_bytes()).expect("it reads");
            let head = connection.head().expect("it answers");
            connection.body(head.framing().expect("it has one"), &mut |_| Ok(())).expect("whole");
        };
        server.book.is_out_after(5);
        // It began before.
        ask(4);
        server.book.is_in();
        ask(5);
        assert_eq!(server.close(), Ok(2));
        server.book.is_out_after(6);
        ask(6);
        assert!(
            server.close().expect_err("it must not have come").contains("got 1 requests while it was out")
        );
    }
}
