//! Replies of name servers, as the crate `transport` reads RFC 1035.
//!
//! Compares what a reply says with the question, and with what fits into its bytes. The file is that crate's own, compiled
//! here alone. The first byte chooses the question.

use std::net::IpAddr;

/// As in the crate `transport`.
mod fault {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum ResolveFault {
        ServerFailure,
        HostNotFound,
        Unimplemented,
        OperationRefused,
    }
}

#[allow(unreachable_pub, reason = "the crate that it is of shows a part of it")]
#[path = "../../../crates/transport/src/resolver/message.rs"]
mod message;

use message::{Query, RecordType, Reply};

pub(crate) fn check(data: &[u8]) {
    let Some((choice, reply)) = data.split_first() else { return };
    let kind = match choice & 1 {
        // No reply of an input has room for so many records.
        _ if *choice >= 0xf0 => RecordType::Srv,
        0 => RecordType::A,
        _ => RecordType::Aaaa,
    };
    let asked = Query::new(0x1234, b"a.example", kind).expect("a name");
    // Bytes as they are, and bytes that follow a header and the question, so that there is a way behind them.
    let mut behind = asked.datagram().to_vec();
    behind[2..4].copy_from_slice(&[0x81, 0x80]);
    let count = if kind == RecordType::Srv { choice & 15 } else { choice >> 1 };
    behind[6..8].copy_from_slice(&[0, count]);
    behind.extend_from_slice(reply);
    for bytes in [reply, &behind] {
        if let Some(Reply::Answer(answer)) = asked.read(bytes) {
            let each = if kind == RecordType::A { 4 } else { 16 };
            assert!(answer.addresses.len() * (each + 11) <= bytes.len(), "more addresses than bytes");
            assert!(answer.addresses.iter().all(|address| matches!(
                (address, kind),
                (IpAddr::V4(_), RecordType::A) | (IpAddr::V6(_), RecordType::Aaaa)
            )));
            assert!(answer.services.is_empty() || kind == RecordType::Srv);
            assert!(answer.services.len() * (7 + 11) <= bytes.len(), "more servers than bytes");
            for service in &answer.services {
                let target = service.target.as_bytes();
                assert!(target.len() <= 253 && !target.iter().any(u8::is_ascii_uppercase));
            }
            let alias = answer.alias.unwrap_or_default();
            assert!(alias.len() <= 253 && !alias.iter().any(u8::is_ascii_uppercase));
        }
        // To another number it is no reply.
        let mut other = bytes.to_vec();
        if let Some(first) = other.first_mut() {
            *first ^= 1;
        }
        assert!(asked.read(bytes).is_none() || asked.read(&other).is_none());
    }
    if let Some(query) = Query::new(7, reply, kind) {
        assert_eq!(query.framed()[2..], *query.datagram());
        assert_eq!(
            usize::from(u16::from_be_bytes([query.framed()[0], query.framed()[1]])),
            query.datagram().len()
        );
        assert!(!reply.is_empty() && query.datagram().len() <= 12 + 255 + 4);
    }
}
