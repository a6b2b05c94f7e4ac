//! A small DNS server for cases with a `resolver`: it answers A questions from a list and counts nothing.
//!
//! Owns its thread and one UDP socket. It speaks only what a test needs of RFC 1035: one question per message, and
//! no compression but the pointer to the question's name.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::case::{NameAnswer, Names};
use crate::case_state::CaseState;
use crate::failure::Fault;

/// Reads lines such as `a.test 127.0.0.1 127.0.0.2`, `b.test none` and `c.test silent`.
pub(crate) fn parse(lines: &[String]) -> Result<Names, String> {
    let mut names = Names::new();
    for line in lines.iter().filter(|l| !l.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().to_ascii_lowercase();
        let answer = match words.clone().next() {
            Some("none") => NameAnswer::NoSuchName,
            Some("silent") => NameAnswer::Silence,
            _ => NameAnswer::Addresses(
                words
                    .map(|w| w.parse().map_err(|_| format!("{w}: not an address")))
                    .collect::<Result<_, _>>()?,
            ),
        };
        names.insert(name, answer);
    }
    Ok(names)
}

/// Starts to answer on a port until the state ends.
pub(crate) fn start(
    state: &Arc<CaseState>,
    port: &str,
    names: Names,
    line: usize,
) -> Result<JoinHandle<()>, Fault> {
    let bound = state.dir.port(port).and_then(|number| {
        let socket = UdpSocket::bind(("127.0.0.1", number)).map_err(|e| e.to_string())?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).map_err(|e| e.to_string())?;
        Ok(socket)
    });
    let socket = bound.map_err(|e| Fault::new(line, format!("the name server cannot listen: {e}")))?;
    let state = Arc::clone(state);
    Ok(std::thread::spawn(move || {
        let mut message = [0u8; 512];
        while !state.is_over() {
            match socket.recv_from(&mut message) {
                Ok((length, from)) => {
                    if let Some(reply) = reply(&message[..length], &names) {
                        let _ = socket.send_to(&reply, from);
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => state.fail(Fault::new(line, format!("the name server: {e}"))),
            }
        }
    }))
}

/// Returns the reply to a query, or nothing when it is to be met with silence or cannot be read.
fn reply(query: &[u8], names: &Names) -> Option<Vec<u8>> {
    const A: [u8; 2] = [0, 1];
    let mut name = String::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = query.get(at..at + 2)?;
    let question = query.get(12..at + 4)?;
    let (code, addresses) = match names.get(&name) {
        Some(NameAnswer::Silence) => return None,
        Some(NameAnswer::Addresses(addresses)) if kind == A => (0, addresses.as_slice()),
        Some(NameAnswer::Addresses(_)) => (0, &[][..]),
        Some(NameAnswer::NoSuchName) | None => (3, &[][..]),
    };
    let mut out = query.get(..2)?.to_vec();
    // A response, recursion desired and available.
    out.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).ok()?, 0, 0, 0, 0]);
    out.extend(question);
    for address in addresses {
        // The name by pointer, type A, class IN, 60 seconds to live, four bytes.
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        out.extend(address.octets());
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut out = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            out.push(label.len().try_into().unwrap());
            out.extend(label.as_bytes());
        }
        out.extend([0, 0, kind, 0, 1]);
        out
    }

    #[test]
    fn names_are_answered_as_listed() {
        let lines = ["a.test 127.0.0.1 127.0.0.2", "b.test none", "c.test silent"].map(String::from);
        let names = parse(&lines).unwrap();
        let two = reply(&query("A.test", 1), &names).unwrap();
        assert_eq!((&two[..2], two[3] & 15, two[7]), (&[7, 9][..], 0, 2));
        assert!(two.ends_with(&[127, 0, 0, 2]));
        assert_eq!(reply(&query("a.test", 28), &names).unwrap()[7], 0);
        assert_eq!(reply(&query("b.test", 1), &names).unwrap()[3] & 15, 3);
        assert_eq!(reply(&query("c.test", 1), &names), None);
        assert_eq!(reply(&[1, 2, 3], &names), None);
        assert!(parse(&["a.test x".to_owned()]).is_err());
    }
}
