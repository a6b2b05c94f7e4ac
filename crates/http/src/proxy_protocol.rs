//! The header of the PROXY protocol, versions 1 and 2: what a balancer says about a connection before its first byte.
//!
//! Owns where the header ends and whose addresses it gives. It is nginx's reading, with two differences: a header may come
//! in pieces, and its length has a bound of its own. Must never judge whether the sender may be believed.

use crate::Progress;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that a header gives. A header without any (`UNKNOWN`, `LOCAL`, unix sockets) is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client.
    pub source: ProxyEnd,
    /// The address that the client connected to.
    pub destination: ProxyEnd,
    /// The additions of version 2, as they came: see [`ProxyHeader::tlv`].
    tlvs: Box<[u8]>,
}

/// One end of the connection that a header is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyEnd {
    /// The address.
    pub address: ProxyAddress,
    /// The port.
    pub port: u16,
}

/// An address as the header has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyAddress {
    /// Version 1: a text of hexadecimal digits, dots and colons, which need not be an address.
    Text(Box<[u8]>),
    /// Version 2.
    Ip(IpAddr),
}

/// Why a header is refused. `Display` has nginx's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// It is none, or not to the end. The text is its first line.
    Broken(Box<[u8]>),
    /// A version 2 header of another version.
    UnknownVersion(u8),
    /// A version 2 header of more than [`MAX_LEN`] bytes.
    TooLarge,
    /// A version 2 header that ends before its addresses do.
    TooShort,
}

impl ProxyHeaderError {
    /// Appends the words for the log. What the client sent is in them as it came.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        match self {
            ProxyHeaderError::Broken(line) => {
                out.extend_from_slice(b"broken header: \"");
                out.extend_from_slice(line);
                out.push(b'"');
            }
            other => out.extend_from_slice(other.to_string().as_bytes()),
        }
    }
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyHeaderError::Broken(line) => write!(f, "broken header: {:?}", bstr::BStr::new(line)),
            ProxyHeaderError::UnknownVersion(version) => {
                write!(f, "unknown PROXY protocol version: {version}")
            }
            ProxyHeaderError::TooLarge => write!(f, "header is too large"),
            ProxyHeaderError::TooShort => write!(f, "header is too short"),
        }
    }
}

impl std::error::Error for ProxyHeaderError {}

/// The longest line of version 1, its end included: what the protocol allows.
const MAX_LINE: usize = 107;

/// The longest header of version 2, as nginx takes it.
pub const MAX_LEN: usize = 4096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of version 2 before the addresses.
const FIXED: usize = 16;

/// Decodes the header at the beginning of a connection. The second value is `None` if the header gives no addresses, or is
/// not complete.
///
/// # Errors
/// It is no header: the connection must be closed.
pub fn decode(input: &[u8]) -> Result<(Progress, Option<ProxyHeader>), ProxyHeaderError> {
    let seen = input.len().min(SIGNATURE.len());
    if input[..seen] == SIGNATURE[..seen] {
        return decode_v2(input);
    }
    decode_v1(input)
}

/// Returns the fault of a connection that ended before its header did.
pub fn cut_short(input: &[u8]) -> ProxyHeaderError {
    let end = memchr::memchr2(b'\r', b'\n', input).unwrap_or(input.len());
    ProxyHeaderError::Broken(input[..end.min(MAX_LINE)].into())
}

fn decode_v1(input: &[u8]) -> Result<(Progress, Option<ProxyHeader>), ProxyHeaderError> {
    const START: &[u8] = b"PROXY ";
    let seen = input.len().min(START.len());
    if input[..seen] != START[..seen] {
        return Err(cut_short(input));
    }
    let within = &input[..input.len().min(MAX_LINE)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if within.len() < MAX_LINE { Ok((Progress::Partial, None)) } else { Err(cut_short(input)) };
    };
    let whole = (Progress::Complete { consumed: end + 1 }, None);
    let line = within[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(START));
    let line = line.ok_or_else(|| cut_short(input))?;
    if line.starts_with(b"UNKNOWN") {
        return Ok(whole);
    }
    let header = addresses_v1(line).ok_or_else(|| cut_short(input))?;
    Ok((whole.0, Some(header)))
}

/// `TCP4 SOURCE DESTINATION PORT PORT`, with single spaces.
fn addresses_v1(line: &[u8]) -> Option<ProxyHeader> {
    let rest = line.strip_prefix(b"TCP4 ").or_else(|| line.strip_prefix(b"TCP6 "))?;
    let mut words = rest.split(|byte| *byte == b' ');
    let (source, destination) = (address_v1(words.next()?)?, address_v1(words.next()?)?);
    let (source_port, destination_port) = (port_v1(words.next()?)?, port_v1(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    Some(ProxyHeader {
        source: ProxyEnd { address: source, port: source_port },
        destination: ProxyEnd { address: destination, port: destination_port },
        tlvs: Box::default(),
    })
}

fn address_v1(word: &[u8]) -> Option<ProxyAddress> {
    let fits = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    word.iter().all(fits).then(|| ProxyAddress::Text(word.into()))
}

fn port_v1(word: &[u8]) -> Option<u16> {
    if word.is_empty() {
        return None;
    }
    let digit = |port: u16, byte: &u8| match byte {
        b'0'..=b'9' => port.checked_mul(10)?.checked_add(u16::from(byte - b'0')),
        _ => None,
    };
    word.iter().try_fold(0, digit)
}

fn decode_v2(input: &[u8]) -> Result<(Progress, Option<ProxyHeader>), ProxyHeaderError> {
    let Some(version_command) = input.get(SIGNATURE.len()) else { return Ok((Progress::Partial, None)) };
    if version_command >> 4 != 2 {
        return Err(ProxyHeaderError::UnknownVersion(version_command >> 4));
    }
    let [family_transport, high, low] = match input.get(SIGNATURE.len() + 1..FIXED) {
        Some(&[family_transport, high, low]) => [family_transport, high, low],
        _ => return Ok((Progress::Partial, None)),
    };
    let end = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if end > MAX_LEN {
        return Err(ProxyHeaderError::TooLarge);
    }
    let Some(body) = input.get(FIXED..end) else { return Ok((Progress::Partial, None)) };
    // Only a proxied stream over IP has addresses.
    let header = match (version_command & 15, family_transport) {
        (1, 0x11) => Some(addresses_v2::<4>(body, |octets| Ipv4Addr::from(octets).into())?),
        (1, 0x21) => Some(addresses_v2::<16>(body, |octets| Ipv6Addr::from(octets).into())?),
        _ => None,
    };
    Ok((Progress::Complete { consumed: end }, header))
}

fn addresses_v2<const N: usize>(
    body: &[u8],
    ip: fn([u8; N]) -> IpAddr,
) -> Result<ProxyHeader, ProxyHeaderError> {
    let split = || {
        let (source, rest) = body.split_first_chunk::<N>()?;
        let (destination, rest) = rest.split_first_chunk::<N>()?;
        let (source_port, rest) = rest.split_first_chunk::<2>()?;
        let (destination_port, tlvs) = rest.split_first_chunk::<2>()?;
        let end = |octets: &[u8; N], port: &[u8; 2]| ProxyEnd {
            address: ProxyAddress::Ip(ip(*octets)),
            port: u16::from_be_bytes(*port),
        };
        Some(ProxyHeader {
            source: end(source, source_port),
            destination: end(destination, destination_port),
            tlvs: tlvs.into(),
        })
    };
    split().ok_or(ProxyHeaderError::TooShort)
}

/// The type of the addition that holds others about the client's TLS.
const SSL: u8 = 0x20;

/// Bytes of that one before the others: what the client did, and the result of verifying it.
const SSL_FIXED: usize = 5;

impl ProxyHeader {
    /// Returns the value of the first addition of this type.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        find(&self.tlvs, kind)
    }

    /// Returns the value of the first addition of this type among those about the client's TLS.
    pub fn ssl_tlv(&self, kind: u8) -> Option<&[u8]> {
        find(self.tlv(SSL)?.get(SSL_FIXED..)?, kind)
    }

    /// Returns the result of verifying the client's certificate: 0 if it has shown a valid one.
    pub fn ssl_verify(&self) -> Option<u32> {
        let (verify, _) = self.tlv(SSL)?.get(1..)?.split_first_chunk::<4>()?;
        Some(u32::from_be_bytes(*verify))
    }
}

fn find(mut tlvs: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [kind, high, low, rest @ ..] = tlvs {
        let (value, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        if *kind == wanted {
            return Some(value);
        }
        tlvs = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(input: &[u8]) -> String {
        let end = |end: &ProxyEnd| match &end.address {
            ProxyAddress::Text(text) => format!("{} {}", bstr::BStr::new(text), end.port),
            ProxyAddress::Ip(ip) => format!("{ip} {}", end.port),
        };
        match decode(input) {
            Ok((Progress::Partial, _)) => "partial".to_owned(),
            Ok((Progress::Complete { consumed }, None)) => format!("{consumed}"),
            Ok((Progress::Complete { consumed }, Some(header))) => {
                format!("{consumed}: {} {}", end(&header.source), end(&header.destination))
            }
            Err(fault) => fault.to_string(),
        }
    }

    /// Returns a version 2 header.
    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family][..], &len, body].concat()
    }

    #[test]
    fn version_1_is_read_as_nginx_reads_it() {
        for (input, wanted) in [
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\nGET", "36: 1.2.3.4 1000 5.6.7.8 80"),
            ("PROXY TCP6 2001:DB8::1 ::1 0 65535\r\n", "36: 2001:DB8::1 0 ::1 65535"),
            ("PROXY TCP4 face :: 0001 2\r\n", "27: face 1 :: 2"),
            ("PROXY UNKNOWN\r\nGET", "15"),
            ("PROXY UNKNOWN some thing\r\n", "26"),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r", "partial"),
            ("PRO", "partial"),
            ("", "partial"),
            ("GET / HTTP/1.1\r\n", "broken header: \"GET / HTTP/1.1\""),
            ("PROXY\t", "broken header: \"PROXY\\t\""),
            ("PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n", "broken header: \"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\""),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "broken header: \"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\""),
            (
                "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
                "broken header: \"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\"",
            ),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n", "broken header: \"PROXY TCP4 1.2.3.4 5.6.7.8 1 \""),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n", "broken header: \"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\""),
            ("PROXY TCP4 1.2.3.g 5.6.7.8 1 2\r\n", "broken header: \"PROXY TCP4 1.2.3.g 5.6.7.8 1 2\""),
            ("PROXY TCP4 1.2.3.4\r\n", "broken header: \"PROXY TCP4 1.2.3.4\""),
        ] {
            assert_eq!(shown(input.as_bytes()), wanted, "{input:?}");
        }
    }

    #[test]
    fn a_line_has_a_bound() {
        let line = |len: usize| [b"PROXY UNKNOWN".as_slice(), &vec![b'x'; len - 15], b"\r\n"].concat();
        assert_eq!(shown(&line(107)), "107");
        assert_eq!(shown(&line(107)[..106]), "partial");
        assert!(shown(&line(108)).starts_with("broken header"));
        assert!(shown(&line(108)[..107]).starts_with("broken header"));
    }

    #[test]
    fn version_2_is_read_as_nginx_reads_it() {
        let inet = [1, 2, 3, 4, 5, 6, 7, 8, 0x03, 0xe8, 0, 80];
        assert_eq!(shown(&v2(0x21, 0x11, &inet)), "28: 1.2.3.4 1000 5.6.7.8 80");
        let mut inet6 = [0; 36];
        (inet6[15], inet6[31], inet6[33], inet6[35]) = (1, 2, 3, 4);
        assert_eq!(shown(&v2(0x21, 0x21, &inet6)), "52: ::1 3 ::2 4");
        assert_eq!(shown(&v2(0x20, 0x11, &inet)), "28", "LOCAL");
        assert_eq!(shown(&v2(0x20, 0, b"")), "16", "LOCAL without addresses");
        assert_eq!(shown(&v2(0x21, 0x12, &inet)), "28", "a datagram");
        assert_eq!(shown(&v2(0x21, 0x31, &[0; 216])), "232", "unix sockets");
        assert_eq!(shown(&v2(0x21, 0x11, &inet[..11])), "header is too short");
        assert_eq!(shown(&v2(0x31, 0x11, &inet)), "unknown PROXY protocol version: 3");
        assert_eq!(shown(&v2(0x20, 0, &[0; 4080])), "4096");
        assert_eq!(shown(&v2(0x20, 0, &[0; 4081])[..16]), "header is too large");
    }

    #[test]
    fn every_beginning_of_a_header_is_partial() {
        let v1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n".to_vec();
        let v2 = v2(0x21, 0x11, &[7; 30]);
        for header in [v1, v2] {
            for len in 0..header.len() {
                assert_eq!(shown(&header[..len]), "partial", "{len} of {header:?}");
            }
            assert_ne!(shown(&header), "partial");
        }
    }

    #[test]
    fn additions_are_found_by_their_type() {
        let mut body = vec![1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2];
        body.extend([1, 0, 2, b'h', b'2']);
        body.extend([SSL, 0, 13, 7, 0, 0, 1, 2, 0x22, 0, 5]);
        body.extend(b"shop!");
        body.extend([0xea, 0, 0]);
        body.extend([2, 0, 9, b'x']);
        let (_, header) = decode(&v2(0x21, 0x11, &body)).unwrap();
        let header = header.unwrap();
        assert_eq!(header.tlv(1), Some(&b"h2"[..]));
        assert_eq!(header.tlv(0xea), Some(&b""[..]));
        assert_eq!(header.ssl_tlv(0x22), Some(&b"shop!"[..]));
        assert_eq!(header.ssl_verify(), Some(258));
        assert_eq!((header.tlv(2), header.tlv(3), header.ssl_tlv(1)), (None, None, None));
    }
}
