//! The header of the PROXY protocol: `http::proxy_protocol`.
//!
//! Compares it with the same bytes in pieces (no beginning of a header is one, nor is it refused), with what comes behind it,
//! with a second reading of the sizes of version 2, and with its own text written anew.

use crate::dice::Dice;
use http::proxy_protocol::{MAX_LEN, decode};
use http::{Progress, ProxyAddress, ProxyEnd, ProxyHeader};
use std::net::IpAddr;

pub(crate) fn check(data: &[u8]) {
    let mut dice = Dice::of(data);
    match decode(data) {
        Ok((Progress::Complete { consumed }, header)) => {
            assert!((15..=data.len()).contains(&consumed), "{consumed} of {}", data.len());
            pieces_agree(data, consumed, &mut dice);
            let mut longer = data[..consumed].to_vec();
            longer.extend_from_slice(b"\r\nPROXY ");
            assert_eq!(decode(&longer), Ok((Progress::Complete { consumed }, header.clone())));
            match data[0] {
                b'P' => line_agrees(&data[..consumed], header.as_ref()),
                _ => block_agrees(&data[..consumed], header.as_ref()),
            }
        }
        Ok((Progress::Partial, header)) => {
            assert!(header.is_none() && data.len() < MAX_LEN);
            pieces_agree(data, data.len() + 1, &mut dice);
        }
        Err(fault) => {
            let mut text = Vec::new();
            fault.append_to(&mut text);
            assert!(!text.is_empty() && text.len() <= 150 && !text.contains(&b'\n'), "{fault}");
            let mut longer = data.to_vec();
            longer.push(b'\n');
            assert!(decode(&longer).is_err(), "more bytes make no header of {fault}");
        }
    }
}

/// Checks that no beginning of a whole header means anything.
fn pieces_agree(data: &[u8], whole: usize, dice: &mut Dice) {
    for _ in 0..8 {
        let len = dice.below(whole.min(data.len() + 1));
        assert_eq!(decode(&data[..len]), Ok((Progress::Partial, None)), "{len} of {whole}");
    }
}

fn line_agrees(line: &[u8], header: Option<&ProxyHeader>) {
    assert!(line.len() <= 107 && line.ends_with(b"\r\n"));
    let Some(header) = header else { return assert!(line.starts_with(b"PROXY UNKNOWN")) };
    let text = |end: &ProxyEnd| match &end.address {
        ProxyAddress::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        ProxyAddress::Ip(_) => panic!("version 1 has texts"),
    };
    let (source, destination) = (&header.source, &header.destination);
    let anew =
        format!("PROXY TCP6 {} {} {} {}\r\n", text(source), text(destination), source.port, destination.port);
    if anew.len() <= 107 {
        let again = decode(anew.as_bytes());
        assert_eq!(again, Ok((Progress::Complete { consumed: anew.len() }, Some(header.clone()))));
    }
    for kind in [0, 1, 0x20, 255] {
        assert!(
            header.tlv(kind).is_none() && header.ssl_tlv(kind).is_none() && header.ssl_verify().is_none()
        );
    }
}

fn block_agrees(block: &[u8], header: Option<&ProxyHeader>) {
    let len = usize::from(block[14]) << 8 | usize::from(block[15]);
    assert_eq!(block.len(), 16 + len);
    assert_eq!(block[12] >> 4, 2);
    let size = match (block[12] & 15, block[13]) {
        (1, 0x11) => 4,
        (1, 0x21) => 16,
        _ => return assert!(header.is_none()),
    };
    let header = header.unwrap();
    for (at, end) in [(0, &header.source), (1, &header.destination)] {
        let octets = &block[16 + at * size..][..size];
        let port = &block[16 + 2 * size + 2 * at..][..2];
        assert_eq!(end.port.to_be_bytes(), port);
        match &end.address {
            ProxyAddress::Ip(IpAddr::V4(v4)) => assert_eq!(v4.octets(), octets),
            ProxyAddress::Ip(IpAddr::V6(v6)) => assert_eq!(v6.octets(), octets),
            ProxyAddress::Text(_) => panic!("version 2 has addresses"),
        }
    }
    let tlvs = &block[20 + 2 * size..];
    for kind in 0..=255 {
        let (value, within) = (header.tlv(kind), header.ssl_tlv(kind));
        assert!(value.is_none_or(|value| value.len() + 3 <= tlvs.len()));
        assert!(within.is_none_or(|within| within.len() + 11 <= tlvs.len()));
    }
}
