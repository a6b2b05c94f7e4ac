//! Clients that misbehave: slow, gone in the middle, hostile; and requests for an origin that breaks everything.
//!
//! The server may refuse them or close; it must not stay silent, nor send them what belongs to another client.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use fastrand::Rng;

use super::broken_origin::FAULTS;
use super::ledger::Traffic;
use super::traffic::Run;
use super::verdicts::host;
use crate::connection::{Connection, Fault, FaultKind};

/// Heads that no server may serve: it must refuse them or close the connection.
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
pub(super) fn run_client(run: &Run, number: u64) {
    let mut random = Rng::with_seed(1000 + number);
    while !run.ledger.is_over() {
        let start = run.ledger.begin();
        match misbehave(run, &mut random) {
            Ok(()) => run.ledger.succeeded(Traffic::Misbehaving, start, 0),
            Err(fault) => run.ledger.failed(Traffic::Misbehaving, start, fault),
        }
        std::thread::sleep(Duration::from_millis(random.u64(..100)));
    }
}

fn misbehave(run: &Run, random: &mut Rng) -> Result<(), Fault> {
    let mut connection = Connection::open(run.front)?;
    let host = host(random.usize(..8));
    let request =
        |target: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    match random.u64(..10) {
        // Leaves in the middle of a head, with a close or a reset.
        0 => connection.send(b"GET /small HTTP/1.1\r\nHost: half")?,
        1 => {
            connection.send(b"GET /small HTTP/1.1\r\nHo")?;
            pause(run, random.u64(..1000));
            connection.reset_on_close();
        }
        // Leaves in the middle of an answer, and of its own body.
        2 => {
            connection.send(request("/large/3/3000000").as_bytes())?;
            let _ = connection.exactly(random.usize(..200_000));
            connection.reset_on_close();
        }
        3 => {
            connection.send(
                format!("POST /upload/1/500000 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 500000\r\n\r\n")
                    .as_bytes(),
            )?;
            connection.send(run.pattern.piece(1, 0, random.usize(..400_000)))?;
            connection.reset_on_close();
        }
        // Reads slowly for a while.
        4 => {
            connection.send(request("/streamed/large/2/2000000").as_bytes())?;
            let mut piece = [0; 16 << 10];
            for _ in 0..20 {
                if matches!(connection.read_raw(&mut piece), Ok(0) | Err(_)) {
                    break;
                }
                pause(run, 50);
            }
        }
        5 => {
            // Leaves after fifty requests without waiting for one answer.
            let many = format!("GET /small HTTP/1.1\r\nHost: {host}\r\n\r\n").repeat(50);
            connection.send(many.as_bytes())?;
        }
        6 => {
            let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "z".repeat(100_000));
            // The refusal may come before all of it is sent.
            let _ = connection.send(long.as_bytes());
            expect_refusal(&mut connection)?;
        }
        7 => {
            let hostile = HOSTILE[random.usize(..HOSTILE.len())];
            connection.send(hostile)?;
            expect_refusal(&mut connection)?;
        }
        8 => {
            connection.send(request("/dead/").as_bytes())?;
            expect_broken(&mut connection)?;
        }
        _ => {
            let fault = FAULTS[random.usize(..FAULTS.len())];
            connection.send(request(&format!("/broken/{fault}")).as_bytes())?;
            expect_broken(&mut connection)
                .map_err(|error| Fault { text: format!("{fault}: {}", error.text), ..error })?;
        }
    }
    Ok(())
}

/// Pauses, unless the run is over.
fn pause(run: &Run, ms: u64) {
    if !run.ledger.stop.load(SeqCst) {
        std::thread::sleep(Duration::from_millis(ms));
    }
}

/// Expects an answer that refuses, or a close.
fn expect_refusal(connection: &mut Connection) -> Result<(), Fault> {
    match connection.head() {
        // 501 is the answer to an unknown transfer coding (RFC 9112 §6.1).
        Ok(head) if (400..500).contains(&head.status()) || head.status() == 501 => Ok(()),
        Ok(head) => Err(Fault::wrong(format!("served instead of refused: {}", head.in_one_line()))),
        Err(Fault { kind: FaultKind::Lost, .. }) => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// Expects what a broken origin leads to: its own answer, an error from the gateway, or a connection that ends.
fn expect_broken(connection: &mut Connection) -> Result<(), Fault> {
    let end = connection.head().and_then(|head| {
        let known = match head.status() {
            200 => head.field("x-origin") == Some("broken"),
            502 | 504 => true,
            _ => false,
        };
        if !known {
            return Err(Fault::wrong(format!("answered with {}", head.in_one_line())));
        }
        match head.framing() {
            Some(framing) => connection.body(framing, &mut |_| Ok(())).map(drop),
            None => Ok(()),
        }
    });
    match end {
        Err(Fault { kind: FaultKind::Lost, .. }) | Ok(()) => Ok(()),
        Err(fault) => Err(fault),
    }
}
