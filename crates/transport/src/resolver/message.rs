//! Queries for addresses and the replies to them, in the wire format of RFC 1035 and RFC 3596.
//!
//! Must never send anything. A reply is not trusted: nothing in it may lead out of its bounds, keep the reader busy, or be
//! taken for the reply to another query.

use super::fault::ResolveFault;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of a header (RFC 1035, section 4.1.1).
const HEADER: usize = 12;
/// The most octets of a name, lengths and the root's included (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 255;
/// The most octets of a label.
const MAX_LABEL: usize = 63;
/// The class of everything here: the internet.
const IN: u16 = 1;
/// The record that makes a name an alias of another.
const CNAME: u16 = 5;

/// The type of the wanted records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordType {
    /// IPv4.
    A = 1,
    /// IPv6.
    Aaaa = 28,
    /// Servers of a service (RFC 2782).
    Srv = 33,
}

/// A query, ready to be sent.
#[derive(Debug)]
pub(super) struct Query {
    kind: RecordType,
    /// The message after its length in two octets, as it goes over TCP (RFC 1035, section 4.2.2).
    framed: Vec<u8>,
}

/// The content of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// There is more than fits into a datagram.
    Truncated,
    /// The server refuses.
    Fault(ResolveFault),
    /// The server could not read the query, or its reply cannot be read. nginx waits on; another server may do
    /// better.
    Useless,
    /// The name's addresses or alias.
    Answer(Answer),
}

/// A name's addresses or alias.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its addresses, in the order of the reply.
    pub(super) addresses: Vec<IpAddr>,
    /// The servers of a service, likewise.
    pub(super) services: Vec<ServiceRecord>,
    /// The last name that it is an alias of, in lower case.
    pub(super) alias: Option<Vec<u8>>,
    /// For how long that holds, in seconds: the least of all records.
    pub(super) ttl_s: u32,
}

/// A server of a service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Those of the lowest are asked first.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
    /// Its port.
    pub port: u16,
    /// Its name, in lower case; empty if there is no such service.
    pub target: String,
}

impl Default for Answer {
    fn default() -> Answer {
        Answer { addresses: Vec::new(), services: Vec::new(), alias: None, ttl_s: u32::MAX }
    }
}

impl Query {
    /// Returns a query with this number, for a name without the root's dot. There is none for what cannot be a name.
    pub(super) fn new(id: u16, name: &[u8], kind: RecordType) -> Option<Query> {
        // Each dot becomes the length of what follows it; the first length and the root's are new.
        let name_length = name.len() + 2;
        if name_length > MAX_NAME {
            return None;
        }
        let mut framed = Vec::with_capacity(2 + HEADER + name_length + 4);
        framed.extend(((HEADER + name_length + 4) as u16).to_be_bytes());
        framed.extend(id.to_be_bytes());
        // A standard query, recursion desired, with one question.
        framed.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split(|b| *b == b'.') {
            if label.is_empty() || label.len() > MAX_LABEL {
                return None;
            }
            framed.push(label.len() as u8);
            framed.extend_from_slice(label);
        }
        framed.push(0);
        framed.extend((kind as u16).to_be_bytes());
        framed.extend(IN.to_be_bytes());
        Some(Query { kind, framed })
    }

    /// Returns the message, as it goes into a datagram.
    pub(super) fn datagram(&self) -> &[u8] {
        self.framed.get(2..).unwrap_or_default()
    }

    /// Returns the message after its length, as it goes into a stream.
    pub(super) fn framed(&self) -> &[u8] {
        &self.framed
    }

    /// Reads a message as the reply to this query; `None` if it is not.
    pub(super) fn read(&self, message: &[u8]) -> Option<Reply> {
        let asked = self.datagram();
        let (id, rest) = message.split_at_checked(2)?;
        let &[high, low, ref counts @ ..] = rest.first_chunk::<10>()?;
        // The same number; a response; to a standard query.
        if id != &asked[..2] || high & 0xf8 != 0x80 {
            return None;
        }
        let code = low & 0x0f;
        let same_question = || {
            let question = message.get(HEADER..asked.len());
            counts[..2] == [0, 1] && question.is_some_and(|q| q.eq_ignore_ascii_case(&asked[HEADER..]))
        };
        Some(match code {
            // To what it cannot read, a server need not repeat the question.
            1 | 6.. => Reply::Useless,
            _ if !same_question() => return None,
            _ if high & 0x02 != 0 => Reply::Truncated,
            2 => Reply::Fault(ResolveFault::ServerFailure),
            3 => Reply::Fault(ResolveFault::HostNotFound),
            4 => Reply::Fault(ResolveFault::Unimplemented),
            5 => Reply::Fault(ResolveFault::OperationRefused),
            0 => {
                let records = u16::from_be_bytes([counts[2], counts[3]]);
                read_records(message, asked.len(), records, self.kind).map_or(Reply::Useless, Reply::Answer)
            }
        })
    }
}

/// Reads the answer section. As in nginx, addresses count whatever their name: the server has followed the
/// chain of names from the one in the question.
fn read_records(message: &[u8], at: usize, records: u16, kind: RecordType) -> Option<Answer> {
    let mut reader = Reader { message, at };
    let mut answer = Answer::default();
    for _ in 0..records {
        reader.skip_name()?;
        let record = reader.u16()?;
        let class = reader.u16()?;
        let ttl_s = u32::from_be_bytes(reader.array()?);
        let length = usize::from(reader.u16()?);
        let start = reader.at;
        reader.at = start + length;
        let data = message.get(start..reader.at)?;
        if class != IN {
            continue;
        }
        // With the highest bit set it is none at all (RFC 2181, section 8).
        answer.ttl_s = answer.ttl_s.min(if ttl_s > i32::MAX as u32 { 0 } else { ttl_s });
        if record == CNAME {
            answer.alias = Some(Reader { message, at: start }.name()?);
        } else if record == kind as u16 {
            match kind {
                RecordType::A => {
                    answer.addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into())
                }
                RecordType::Aaaa => {
                    answer.addresses.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into())
                }
                RecordType::Srv => {
                    let mut fields = Reader { message, at: start };
                    let (priority, weight, port) = (fields.u16()?, fields.u16()?, fields.u16()?);
                    // A name that is no text is no host name.
                    let target = String::from_utf8(fields.name()?).unwrap_or_default();
                    answer.services.push(ServiceRecord { priority, weight, port, target });
                }
            }
        }
    }
    Some(answer)
}

/// A place in a message.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.message.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Steps over a name; what a pointer points to does not matter.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.array::<1>()?[0] {
                0 => return Some(()),
                length @ 1..=63 => self.at += usize::from(length),
                192.. => {
                    self.at += 1;
                    return Some(());
                }
                64..=191 => return None,
            }
        }
    }

    /// Reads a name, following its pointers (RFC 1035, section 4.1.4).
    fn name(mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        // Pointers can make a circle; a name of the greatest length needs no more than half as many steps.
        for _ in 0..MAX_NAME {
            match self.array::<1>()?[0] {
                0 => return Some(name),
                length @ 1..=63 => {
                    let end = self.at + usize::from(length);
                    let label = self.message.get(self.at..end)?;
                    if !name.is_empty() {
                        name.push(b'.');
                    }
                    name.extend(label.iter().map(u8::to_ascii_lowercase));
                    if name.len() + 2 > MAX_NAME {
                        return None;
                    }
                    self.at = end;
                }
                high @ 192.. => {
                    self.at = usize::from(u16::from_be_bytes([high & 0x3f, self.array::<1>()?[0]]))
                }
                64..=191 => return None,
            }
        }
        None
    }
}
