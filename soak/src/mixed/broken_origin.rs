//! An origin that breaks every request, in the way that the path names.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use crate::connection::{Connection, Fault};
use crate::origin::Origin;

/// The faults: the last segment of the path.
pub(super) const FAULTS: [&str; 10] = [
    "reset",
    "reset-in-head",
    "reset-in-body",
    "short",
    "hang",
    "hang-in-body",
    "trickle",
    "garbage",
    "endless-head",
    "bad-chunks",
];

/// Longer than the gateway's timeout.
const LONG: Duration = Duration::from_millis(900);

/// Starts it.
pub(super) fn start() -> Result<Origin, String> {
    Origin::start(|stream, stop| {
        let _ = answer(stream, stop);
    })
}

fn answer(stream: TcpStream, stop: &Arc<AtomicBool>) -> Result<(), Fault> {
    let mut connection = Connection::accepted(stream, stop).map_err(|e| Fault::wrong(e.to_string()))?;
    let head = connection.head()?;
    let ok = "HTTP/1.1 200 OK\r\nX-Origin: broken\r\n";
    match head.word(1).rsplit('/').next().unwrap_or_default() {
        "reset" => connection.reset_on_close(),
        "reset-in-head" => {
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")?;
            connection.reset_on_close();
        }
        "reset-in-body" => {
            connection
                .send(format!("{ok}Content-Length: 100000\r\n\r\n{}", "x".repeat(50_000)).as_bytes())?;
            connection.reset_on_close();
        }
        "short" => connection.send(format!("{ok}Content-Length: 100\r\n\r\nnot a hundred").as_bytes())?,
        "hang" => thread::sleep(LONG),
        "hang-in-body" => {
            connection.send(format!("{ok}Content-Length: 100\r\n\r\nnot yet").as_bytes())?;
            thread::sleep(LONG);
        }
        "trickle" => {
            for byte in format!("{ok}Content-Length: 20\r\n\r\na trickle of letters").bytes() {
                connection.send(&[byte])?;
                thread::sleep(Duration::from_millis(10));
            }
        }
        "endless-head" => {
            connection.send(ok.as_bytes())?;
            for number in 0..100_000 {
                connection.send(format!("X-Field-{number}: {}\r\n", "y".repeat(100)).as_bytes())?;
            }
        }
        "bad-chunks" => connection
            .send(format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nzz\r\n").as_bytes())?,
        _ => connection.send(&(0..2000).map(|n| (n * 7 % 256) as u8).collect::<Vec<u8>>())?,
    }
    connection.half_close();
    Ok(())
}
