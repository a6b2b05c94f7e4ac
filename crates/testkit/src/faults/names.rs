//! The name server of a run: what it answers for a cell's name depends on the cell's fault.
//!
//! Owns a UDP socket, a TCP listener for what is too long, and their threads (RFC 1035, sections 4.1 and 4.2).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::conf::{Role, address, host};
use super::table::{Cell, Fault, Stage};

const GLANCE: Duration = Duration::from_millis(20);

/// The number of addresses of a name that has too many.
const THOUSANDS: usize = 4000;

/// A running name server.
pub(crate) struct Names {
    known: Arc<Known>,
    threads: Vec<JoinHandle<()>>,
}

struct Known {
    cells: BTreeMap<String, Cell>,
    /// The number of queries for each name.
    asked: Mutex<BTreeMap<String, usize>>,
    over: AtomicBool,
}

impl Names {
    /// Starts to answer on this port of 127.0.0.1.
    pub(crate) fn start(cells: &[Cell], port: u16) -> Result<Names, String> {
        let show = |e: std::io::Error| format!("the name server: {e}");
        let of = cells.iter().filter(|cell| cell.row.stage == Stage::LookUp).map(|cell| (host(cell), *cell));
        let known =
            Arc::new(Known { cells: of.collect(), asked: Mutex::default(), over: AtomicBool::new(false) });
        let udp = UdpSocket::bind(("127.0.0.1", port)).map_err(show)?;
        udp.set_read_timeout(Some(GLANCE)).map_err(show)?;
        let tcp = TcpListener::bind(("127.0.0.1", port)).map_err(show)?;
        tcp.set_nonblocking(true).map_err(show)?;
        let (one, other) = (Arc::clone(&known), Arc::clone(&known));
        let threads = vec![
            std::thread::spawn(move || datagrams(&one, &udp)),
            std::thread::spawn(move || streams(&other, &tcp)),
        ];
        Ok(Names { known, threads })
    }

    /// Returns true if a cell's name has been queried.
    pub(crate) fn was_asked(&self, cell: &Cell) -> bool {
        self.known.asked.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&host(cell))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.known.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic shows on stderr.
            let _ = thread.join();
        }
    }
}

fn datagrams(known: &Known, socket: &UdpSocket) {
    let mut message = [0; 512];
    while !known.over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut message) else { continue };
        if let Some(mut reply) = known.reply(&message[..length], true) {
            if reply.len() > 512 {
                // Truncated: the client should ask over TCP.
                reply.truncate(length);
                reply[2] |= 2;
                reply[6..8].fill(0);
            }
            let _ = socket.send_to(&reply, from);
        }
    }
}

fn streams(known: &Known, listener: &TcpListener) {
    while !known.over.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(GLANCE);
            continue;
        };
        let mut length = [0; 2];
        let _ = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(GLANCE * 50)));
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut message).is_ok()
            && let Some(reply) = known.reply(&message, false)
        {
            let length = u16::try_from(reply.len()).unwrap_or(u16::MAX).to_be_bytes();
            let _ = stream.write_all(&[&length, &reply[..]].concat());
        }
    }
}

impl Known {
    /// Returns the reply to a query, or `None` for silence.
    fn reply(&self, query: &[u8], counts: bool) -> Option<Vec<u8>> {
        let mut name = String::new();
        let mut at = 12;
        while let Some(&length @ 1..) = query.get(at) {
            let end = at + 1 + usize::from(length);
            name.push_str(if name.is_empty() { "" } else { "." });
            name.push_str(&String::from_utf8_lossy(query.get(at + 1..end)?).to_ascii_lowercase());
            at = end;
        }
        let question = query.get(12..at + 5)?;
        let before = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let count = asked.entry(name.clone()).or_default();
            *count += usize::from(counts);
            count.saturating_sub(1)
        };
        let cell = self.cells.get(&name);
        let good = cell.map(|cell| address(cell, Role::Backup));
        let (code, addresses) = match cell.map(|cell| cell.row.fault) {
            Some(Fault::Silence) => return None,
            Some(Fault::Malformed) => return Some([&query[..2], &[0x81, 0x80, 0xff, 0xff, 0xff]].concat()),
            Some(Fault::ServerFailure) => (2, Vec::new()),
            Some(Fault::NoAddress) => (0, Vec::new()),
            Some(Fault::Thousands) => {
                let others = (1..THOUSANDS as u32).map(|n| Ipv4Addr::from(0x7f04_0000 + n));
                (0, good.into_iter().chain(others).collect())
            }
            Some(Fault::Changes) if before == 0 => {
                (0, cell.map(|cell| address(cell, Role::Dead)).into_iter().collect())
            }
            Some(Fault::Changes) => (0, good.into_iter().collect()),
            _ => (3, Vec::new()),
        };
        let mut out = query.get(..2)?.to_vec();
        out.extend([0x81, 0x80 | code, 0, 1]);
        out.extend(u16::try_from(addresses.len()).ok()?.to_be_bytes());
        out.extend([0; 4]);
        out.extend(question);
        for address in addresses {
            // The question's name by pointer, type A, class IN, no time to live, four bytes.
            out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            out.extend(address.octets());
        }
        Some(out)
    }
}
