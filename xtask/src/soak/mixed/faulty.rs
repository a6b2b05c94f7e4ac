//! An origin that breaks whatever it is asked, in the way that the path names.
//!
//! Owns the faults. Must never hang on for longer than the gateway's patience by much: the soak is to end.

use super::origin::Origin;
use super::wire::{Fault, Line};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

/// The last word of the path.
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

/// Longer than the gateway waits.
const LONG: Duration = Duration::from_millis(900);

/// Starts it.
pub(super) fn start() -> Result<Origin, String> {
    Origin::start(|stream, stop| {
        let _ = answer(stream, stop);
    })
}

fn answer(stream: TcpStream, stop: &Arc<AtomicBool>) -> Result<(), Fault> {
    let mut line = Line::accepted(stream, stop).map_err(|e| Fault::wrong(e.to_string()))?;
    let head = line.head()?;
    let ok = "HTTP/1.1 200 OK\r\nX-Origin: broken\r\n";
    match head.word(1).rsplit('/').next().unwrap_or_default() {
        "reset" => reset(&line),
        "reset-in-head" => {
            line.send(b"HTTP/1.1 200 OK\r\nContent-Le")?;
            reset(&line);
        }
        "reset-in-body" => {
            line.send(format!("{ok}Content-Length: 100000\r\n\r\n{}", "x".repeat(50_000)).as_bytes())?;
            reset(&line);
        }
        "short" => line.send(format!("{ok}Content-Length: 100\r\n\r\nnot a hundred").as_bytes())?,
        "hang" => thread::sleep(LONG),
        "hang-in-body" => {
            line.send(format!("{ok}Content-Length: 100\r\n\r\nnot yet").as_bytes())?;
            thread::sleep(LONG);
        }
        "trickle" => {
            for byte in format!("{ok}Content-Length: 20\r\n\r\na trickle of letters").bytes() {
                line.send(&[byte])?;
                thread::sleep(Duration::from_millis(10));
            }
        }
        "endless-head" => {
            line.send(ok.as_bytes())?;
            for number in 0..100_000 {
                line.send(format!("X-Field-{number}: {}\r\n", "y".repeat(100)).as_bytes())?;
            }
        }
        "bad-chunks" => {
            line.send(format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nzz\r\n").as_bytes())?
        }
        _ => line.send(&(0..2000).map(|n| (n * 7 % 256) as u8).collect::<Vec<u8>>())?,
    }
    let _ = line.stream().shutdown(Shutdown::Write);
    Ok(())
}

/// The connection ends with a reset and not with an orderly close.
pub(super) fn reset(line: &Line) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = setsockopt(line.stream(), sockopt::Linger, &linger);
}
