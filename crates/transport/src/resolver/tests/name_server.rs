//! A name server for the tests, over UDP and TCP on a port of its own; what it answers is the test's to say.

use super::super::*;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Notify;

pub(super) const A: u16 = 1;
pub(super) const CNAME: u16 = 5;
pub(super) const AAAA: u16 = 28;

/// A record's type, time to live and data.
pub(super) type Record = (u16, u32, Vec<u8>);

/// How a name server treats a question.
pub(super) enum Play {
    Records(Vec<Record>),
    /// The same after replies to other questions, which say otherwise.
    AfterForgeries(Vec<Record>),
    Code(u8),
    Bytes(Vec<u8>),
    Silence,
}

pub(super) fn a(last: u8, ttl: u32) -> Record {
    (A, ttl, vec![127, 0, 0, last])
}

pub(super) fn aaaa(last: u16, ttl: u32) -> Record {
    (AAAA, ttl, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).octets().to_vec())
}

pub(super) fn cname(target: &str, ttl: u32) -> Record {
    (CNAME, ttl, wire(target))
}

pub(super) fn wire(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

pub(super) fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

pub(super) fn v6(last: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into()
}

/// A name server; it truncates what is too long for a datagram, and tells all over TCP.
pub(super) struct NameServer {
    pub(super) address: SocketAddr,
    /// The questions, in their order; those over TCP have `tcp ` before the name.
    pub(super) asked: Rc<RefCell<Vec<(String, u16)>>>,
    /// Notified of each question.
    pub(super) heard: Rc<Notify>,
}

impl NameServer {
    pub(super) async fn start(play: impl Fn(&str, u16) -> Play + 'static) -> NameServer {
        NameServer::start_gated(None, play).await
    }

    /// With a gate it answers nothing until the gate is opened.
    pub(super) async fn start_gated(
        gate: Option<Rc<Notify>>,
        play: impl Fn(&str, u16) -> Play + 'static,
    ) -> NameServer {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::new(Notify::new());
        let play = Rc::new(play);
        let server = NameServer { address, asked: Rc::clone(&asked), heard: Rc::clone(&heard) };
        let (udp_play, udp_asked) = (Rc::clone(&play), Rc::clone(&asked));
        spawn_local(async move {
            let mut message = [0; 512];
            loop {
                let (length, from) = udp.recv_from(&mut message).await.unwrap();
                let (name, kind) = question(&message[..length]);
                udp_asked.borrow_mut().push((name.clone(), kind));
                heard.notify_one();
                if let Some(gate) = &gate {
                    gate.notified().await;
                }
                for mut reply in replies(&message[..length], udp_play(&name, kind)) {
                    if reply.len() > 512 {
                        reply.truncate(length);
                        reply[2] |= 2;
                        reply[6..8].fill(0);
                    }
                    udp.send_to(&reply, from).await.unwrap();
                }
            }
        });
        spawn_local(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut message).await.unwrap();
                let (name, kind) = question(&message);
                asked.borrow_mut().push((format!("tcp {name}"), kind));
                for reply in replies(&message, play(&name, kind)) {
                    stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
                    stream.write_all(&reply).await.unwrap();
                }
            }
        });
        server
    }

    pub(super) fn asked(&self) -> Vec<(String, u16)> {
        let mut asked = self.asked.borrow().clone();
        asked.sort();
        asked
    }
}

pub(super) fn question(message: &[u8]) -> (String, u16) {
    // A standard query, recursion desired, one question.
    assert_eq!(message[2..12], [1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let mut name = String::new();
    let mut at = 12;
    while message[at] != 0 {
        let end = at + 1 + usize::from(message[at]);
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(std::str::from_utf8(&message[at + 1..end]).unwrap());
        at = end;
    }
    assert_eq!(message[at + 3..], [0, 1]);
    (name, message[at + 2].into())
}

pub(super) fn replies(query: &[u8], play: Play) -> Vec<Vec<u8>> {
    match play {
        Play::Records(records) => vec![reply(query, 0, &records)],
        Play::Code(code) => vec![reply(query, code, &[])],
        Play::Bytes(bytes) => vec![[&query[..2], &bytes].concat()],
        Play::Silence => vec![],
        Play::AfterForgeries(records) => {
            let mut wrong_number = reply(query, 0, &[a(66, 60)]);
            wrong_number[1] ^= 1;
            let mut wrong_name = reply(query, 0, &[a(66, 60)]);
            wrong_name[13] ^= 1;
            let mut no_response = reply(query, 3, &[]);
            no_response[2] &= 0x7f;
            let short = query[..5].to_vec();
            vec![wrong_number, wrong_name, no_response, short, reply(query, 0, &records)]
        }
    }
}

pub(super) fn reply(query: &[u8], code: u8, records: &[Record]) -> Vec<u8> {
    let mut out = query.to_vec();
    out[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    out[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
    // Servers may answer in letters of another case.
    out[12..query.len() - 5].make_ascii_uppercase();
    for (kind, ttl, data) in records {
        // The question's name, by pointer.
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(ttl.to_be_bytes());
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    out
}
