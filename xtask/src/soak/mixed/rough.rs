//! Clients that misbehave: slow, gone in the middle, hostile; and requests for an origin that breaks everything.
//!
//! Owns what they send. What they get may be a refusal or a close, never silence and never what belongs to another.

use super::boards::host;
use super::faulty::{FAULTS, reset};
use super::ledger::Kind;
use super::traffic::{Random, World};
use super::wire::{Fault, Line, What};
use std::io::Read;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Heads that no server may serve; each is refused or closed on.
const HOSTILE: [&[u8]; 9] = [
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked, x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /../../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// Sends until the run is over.
pub(super) fn live(world: &World, number: u64) {
    let mut random = Random::new(1000 + number);
    while !world.ledger.is_over() {
        let seen = world.ledger.begin();
        match one(world, &mut random) {
            Ok(()) => world.ledger.ended_well(Kind::Rough, seen, 0),
            Err(fault) => world.ledger.failed(Kind::Rough, seen, fault),
        }
        std::thread::sleep(Duration::from_millis(random.below(100)));
    }
}

fn one(world: &World, random: &mut Random) -> Result<(), Fault> {
    let mut line = Line::open(world.front)?;
    let host = host(random.below(8) as usize);
    let request =
        |target: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    match random.below(10) {
        // Gone in the middle of a head, with and without a word.
        0 => line.send(b"GET /small HTTP/1.1\r\nHost: half")?,
        1 => {
            line.send(b"GET /small HTTP/1.1\r\nHo")?;
            pause(world, random.below(1000));
            reset(&line);
        }
        // Gone in the middle of an answer, and of a body of one's own.
        2 => {
            line.send(request("/large/3/3000000").as_bytes())?;
            let _ = line.exactly(random.below(200_000) as usize);
            reset(&line);
        }
        3 => {
            line.send(
                format!("POST /upload/1/500000 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 500000\r\n\r\n")
                    .as_bytes(),
            )?;
            line.send(world.pattern.piece(1, 0, random.below(400_000) as usize))?;
            reset(&line);
        }
        // Reads at a crawl for a while.
        4 => {
            line.send(request("/streamed/large/2/2000000").as_bytes())?;
            let mut stream = line.stream();
            let mut piece = [0; 16 << 10];
            for _ in 0..20 {
                if matches!(stream.read(&mut piece), Ok(0) | Err(_)) {
                    break;
                }
                pause(world, 50);
            }
        }
        5 => {
            // Leaves after fifty requests without waiting for one answer.
            let many = format!("GET /small HTTP/1.1\r\nHost: {host}\r\n\r\n").repeat(50);
            line.send(many.as_bytes())?;
        }
        6 => {
            let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "z".repeat(100_000));
            // The refusal may come before all of it is sent.
            let _ = line.send(long.as_bytes());
            refused(&mut line)?;
        }
        7 => {
            let hostile = HOSTILE[random.below(HOSTILE.len() as u64) as usize];
            line.send(hostile)?;
            refused(&mut line)?;
        }
        8 => {
            line.send(request("/dead/").as_bytes())?;
            broken(&mut line)?;
        }
        _ => {
            let fault = FAULTS[random.below(FAULTS.len() as u64) as usize];
            line.send(request(&format!("/broken/{fault}")).as_bytes())?;
            broken(&mut line).map_err(|error| Fault { text: format!("{fault}: {}", error.text), ..error })?;
        }
    }
    Ok(())
}

/// A pause that ends with the run.
fn pause(world: &World, ms: u64) {
    if !world.ledger.stop.load(SeqCst) {
        std::thread::sleep(Duration::from_millis(ms));
    }
}

/// An answer that refuses, or a close.
fn refused(line: &mut Line) -> Result<(), Fault> {
    match line.head() {
        // 501 is what a coding of the body gets that nobody knows (RFC 9112 section 6.1).
        Ok(head) if (400..500).contains(&head.status()) || head.status() == 501 => Ok(()),
        Ok(head) => {
            Err(Fault::wrong(format!("served instead of refused: {}", head.0.replace("\r\n", " | "))))
        }
        Err(Fault { what: What::Lost, .. }) => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// What a broken origin leaves: an answer of its own, one that says so, or a connection that ends.
fn broken(line: &mut Line) -> Result<(), Fault> {
    let end = line.head().and_then(|head| {
        let known = match head.status() {
            200 => head.field("x-origin") == Some("broken"),
            502 | 504 => true,
            _ => false,
        };
        if !known {
            return Err(Fault::wrong(format!("answered with {}", head.0.replace("\r\n", " | "))));
        }
        match head.framing() {
            Some(framing) => line.body(framing, &mut |_| Ok(())).map(drop),
            None => Ok(()),
        }
    });
    match end {
        Err(Fault { what: What::Lost, .. }) | Ok(()) => Ok(()),
        Err(fault) => Err(fault),
    }
}
