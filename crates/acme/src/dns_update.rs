//! The record that answers dns-01, set by an update of its zone (RFC 2136) that is signed with a key both sides know (TSIG,
//! RFC 8945).
//!
//! Owns the messages, and their way over TCP. It blocks: it is run beside the control thread.

use aws_lc_rs::hmac;
use engine::modules::acme::{DnsUpdate, TsigAlgorithm};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest time for a connection, a write and a read.
const LIMIT: Duration = Duration::from_secs(10);
/// For how long resolvers may keep the record, in seconds.
const TTL_S: u32 = 60;
/// By how many seconds clocks may differ.
const FUDGE_S: u16 = 300;

const HEADER: usize = 12;
const TYPE_SOA: u16 = 6;
const TYPE_TXT: u16 = 16;
const TYPE_TSIG: u16 = 250;
const CLASS_IN: u16 = 1;
const CLASS_NONE: u16 = 254;
const CLASS_ANY: u16 = 255;
const UPDATE: u16 = 5 << 11;
const ANSWERS: u16 = 1 << 15;
const CODE: u16 = 0x0f;

/// The change of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordChange {
    /// It is added to what the name has.
    Add,
    /// It is removed, and others of the name stay.
    Remove,
}

/// Adds a record to its zone, or removes it. Fails with the reason.
pub(crate) fn change(update: &DnsUpdate, what: RecordChange, name: &str, value: &str) -> Result<(), String> {
    let server = update.server;
    let failed = |why: String| format!("the name server {server} did not take the record of {name}: {why}");
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let exchange = || {
        let name = Name::new(name)?;
        let mut stream = TcpStream::connect_timeout(&server, LIMIT).map_err(|error| error.to_string())?;
        let limited = stream.set_read_timeout(Some(LIMIT)).and(stream.set_write_timeout(Some(LIMIT)));
        limited.map_err(|error| error.to_string())?;
        let zone = match &update.zone {
            Some(zone) => Name::new(zone)?,
            None => {
                let question = question(&name);
                let answer = ask(&mut stream, &question).map_err(|error| error.to_string())?;
                zone_of(&answer, &name)
                    .ok_or("it does not say which zone the name is in: give it by zone=")?
            }
        };
        let message = message(number(), &zone, what, &name, value);
        let (signed, mac) = sign(message, update, now_s)?;
        let answer = ask(&mut stream, &signed).map_err(|error| error.to_string())?;
        judge(&answer, &signed, &mac, update)
    };
    exchange().map_err(failed)
}

/// Returns a number for a message; on a connection of its own nothing depends on it.
fn number() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness there is no TLS either.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u16::from_be_bytes(bytes)
}

/// A name in its canonical form: labels in lower case, each behind its length.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name(Vec<u8>);

impl Name {
    fn new(text: &str) -> Result<Name, String> {
        let mut out = Vec::new();
        for label in text.trim_end_matches('.').split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(format!("\"{text}\" is no name"));
            }
            out.push(label.len() as u8);
            out.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        out.push(0);
        match out.len() {
            0..=255 => Ok(Name(out)),
            _ => Err(format!("\"{text}\" is too long a name")),
        }
    }

    /// Returns true if it is `zone`, or below it.
    fn is_in(&self, zone: &Name) -> bool {
        let mut rest = &self.0[..];
        loop {
            if rest == zone.0 {
                return true;
            }
            match rest.split_first() {
                Some((&len @ 1.., after)) => rest = after.get(usize::from(len)..).unwrap_or_default(),
                _ => return false,
            }
        }
    }
}

fn header(number: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    [number, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect()
}

fn question(name: &Name) -> Vec<u8> {
    [&header(number(), 0, [1, 0, 0, 0])[..], &name.0, &TYPE_SOA.to_be_bytes(), &CLASS_IN.to_be_bytes()]
        .concat()
}

/// Returns the update, without its signature.
fn message(number: u16, zone: &Name, what: RecordChange, name: &Name, value: &str) -> Vec<u8> {
    let mut out = header(number, UPDATE, [1, 0, 1, 0]);
    out.extend([&zone.0[..], &TYPE_SOA.to_be_bytes(), &CLASS_IN.to_be_bytes()].concat());
    // A digest is shorter than 255 bytes.
    let text = [&[value.len().min(255) as u8][..], &value.as_bytes()[..value.len().min(255)]].concat();
    let (class, ttl) = match what {
        RecordChange::Add => (CLASS_IN, TTL_S),
        RecordChange::Remove => (CLASS_NONE, 0),
    };
    out.extend(record(name, TYPE_TXT, class, ttl, &text));
    out
}

fn record(name: &Name, kind: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    [
        &name.0[..],
        &kind.to_be_bytes(),
        &class.to_be_bytes(),
        &ttl.to_be_bytes(),
        &(data.len() as u16).to_be_bytes(),
        data,
    ]
    .concat()
}

fn algorithm(of: TsigAlgorithm) -> (hmac::Algorithm, &'static str) {
    match of {
        TsigAlgorithm::Sha256 => (hmac::HMAC_SHA256, "hmac-sha256"),
        TsigAlgorithm::Sha384 => (hmac::HMAC_SHA384, "hmac-sha384"),
        TsigAlgorithm::Sha512 => (hmac::HMAC_SHA512, "hmac-sha512"),
    }
}

/// What a signature says beside its digest.
struct TsigFields<'a> {
    key: &'a Name,
    algorithm: &'a Name,
    at_s: u64,
    fudge_s: u16,
    error: u16,
    other: &'a [u8],
}

impl TsigFields<'_> {
    /// Returns what of it is signed (RFC 8945, section 4.3.3).
    fn signed(&self) -> Vec<u8> {
        [
            &self.key.0[..],
            &CLASS_ANY.to_be_bytes(),
            &[0; 4],
            &self.algorithm.0,
            &self.at_s.to_be_bytes()[2..],
            &self.fudge_s.to_be_bytes(),
            &self.error.to_be_bytes(),
            &(self.other.len() as u16).to_be_bytes(),
            self.other,
        ]
        .concat()
    }
}

/// Signs a message. Returns it, and the digest, to which that of the answer is bound.
fn sign(mut message: Vec<u8>, update: &DnsUpdate, now_s: u64) -> Result<(Vec<u8>, Vec<u8>), String> {
    let (kind, algorithm) = algorithm(update.algorithm);
    let (key, algorithm) = (Name::new(&update.key_name)?, Name::new(algorithm)?);
    let fields =
        TsigFields { key: &key, algorithm: &algorithm, at_s: now_s, fudge_s: FUDGE_S, error: 0, other: b"" };
    let secret = hmac::Key::new(kind, update.secret.bytes());
    let mac = hmac::sign(&secret, &[&message[..], &fields.signed()].concat()).as_ref().to_vec();
    let data = [
        &algorithm.0[..],
        &now_s.to_be_bytes()[2..],
        &FUDGE_S.to_be_bytes(),
        &(mac.len() as u16).to_be_bytes(),
        &mac,
        &message[..2],
        &[0; 4],
    ]
    .concat();
    message.extend(record(&key, TYPE_TSIG, CLASS_ANY, 0, &data));
    message[11] = 1;
    Ok((message, mac))
}

/// Sends a message, and returns the answer.
fn ask(stream: &mut TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(&[&(message.len() as u16).to_be_bytes()[..], message].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Reads an answer part by part.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.message.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Reads a name; what is written once may be referred to (RFC 1035, section 4.1.4).
    fn name(&mut self) -> Option<Name> {
        let mut out = Vec::new();
        let (mut at, mut end) = (self.at, None);
        loop {
            match *self.message.get(at)? {
                0 => break,
                len @ 1..0x40 => {
                    let label = self.message.get(at..at + 1 + usize::from(len))?;
                    out.extend(label.iter().map(u8::to_ascii_lowercase));
                    at += label.len();
                    if out.len() > 254 {
                        return None;
                    }
                }
                high @ 0xc0.. => {
                    let low = *self.message.get(at + 1)?;
                    end.get_or_insert(at + 2);
                    let to = usize::from(high & 0x3f) << 8 | usize::from(low);
                    // Only backwards: it comes to an end.
                    at = (to < at).then_some(to)?;
                }
                _ => return None,
            }
        }
        out.push(0);
        self.at = end.unwrap_or(at + 1);
        Some(Name(out))
    }

    fn record(&mut self) -> Option<Record<'a>> {
        let begin = self.at;
        let name = self.name()?;
        let kind = self.number()?;
        self.take(6)?;
        let len = usize::from(self.number()?);
        let at = self.at;
        self.take(len)?;
        Some(Record { begin, name, kind, data: Reader { message: &self.message[..at + len], at } })
    }
}

/// A record of an answer.
struct Record<'a> {
    /// Where it begins.
    begin: usize,
    name: Name,
    kind: u16,
    data: Reader<'a>,
}

/// Returns the flags of a message, and its records behind the questions.
fn records(message: &[u8]) -> Option<(u16, Vec<Record<'_>>)> {
    let mut reader = Reader { message, at: 2 };
    let flags = reader.number()?;
    let counts: Option<Vec<u16>> = (0..4).map(|_| reader.number()).collect();
    let counts = counts?;
    for _ in 0..counts[0] {
        reader.name()?;
        reader.take(4)?;
    }
    let count = counts[1..].iter().map(|count| u32::from(*count)).sum::<u32>();
    let records: Option<Vec<_>> = (0..count).map(|_| reader.record()).collect();
    Some((flags, records?))
}

/// Returns the zone that a name is in: whose SOA record an answer shows.
fn zone_of(answer: &[u8], name: &Name) -> Option<Name> {
    let (_, records) = records(answer)?;
    let zone = records.into_iter().find(|record| record.kind == TYPE_SOA)?.name;
    name.is_in(&zone).then_some(zone)
}

/// Judges the answer to an update: only one that is signed counts.
fn judge(answer: &[u8], request: &[u8], mac: &[u8], update: &DnsUpdate) -> Result<(), String> {
    let broken = || "its answer is broken".to_owned();
    let (flags, records) = records(answer).ok_or_else(broken)?;
    if answer.get(..2) != request.get(..2) || flags & ANSWERS == 0 {
        return Err(broken());
    }
    let code = flags & CODE;
    let Some(signature) = records.into_iter().next_back().filter(|record| record.kind == TYPE_TSIG) else {
        return Err(match code {
            0 => "its answer is not signed".to_owned(),
            code => refusal(code),
        });
    };
    let error = check(answer, signature, mac, update).ok_or_else(broken)?;
    match (code, error) {
        (_, Err(error)) => Err(format!("{} ({})", refusal(code), tsig_error(error))),
        (0, Ok(())) => Ok(()),
        (code, Ok(())) => Err(refusal(code)),
    }
}

/// Checks the signature of an answer. `None` is none; an error is the number of the server's complaint about ours.
fn check(answer: &[u8], signature: Record<'_>, mac: &[u8], update: &DnsUpdate) -> Option<Result<(), u16>> {
    let Record { begin, name: key, mut data, .. } = signature;
    let algorithm_name = data.name()?;
    let time = data.take(6)?;
    let at_s = time.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let fudge_s = data.number()?;
    let len = usize::from(data.number()?);
    let theirs = data.take(len)?;
    let number = data.take(2)?;
    let error = data.number()?;
    let len = usize::from(data.number()?);
    let other = data.take(len)?;
    if error != 0 {
        // With a key or a signature that it does not know it cannot sign.
        return Some(Err(error));
    }
    let (kind, name) = algorithm(update.algorithm);
    if key != Name::new(&update.key_name).ok()? || algorithm_name != Name::new(name).ok()? {
        return None;
    }
    let mut unsigned = answer.get(..begin)?.to_vec();
    unsigned[..2].copy_from_slice(number);
    let count = u16::from_be_bytes([unsigned[10], unsigned[11]]).checked_sub(1)?;
    unsigned[10..HEADER].copy_from_slice(&count.to_be_bytes());
    let fields = TsigFields { key: &key, algorithm: &algorithm_name, at_s, fudge_s, error, other };
    let signed = [&(mac.len() as u16).to_be_bytes()[..], mac, &unsigned, &fields.signed()].concat();
    let secret = hmac::Key::new(kind, update.secret.bytes());
    hmac::verify(&secret, &signed, theirs).ok().map(Ok)
}

/// Returns the words for a code (RFC 2136, section 2.2).
fn refusal(code: u16) -> String {
    let words = match code {
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        other => return format!("it answers with the code {other}"),
    };
    format!("it answers {words}")
}

/// Returns the words for an error of a signature (RFC 8945, section 3).
fn tsig_error(error: u16) -> String {
    match error {
        16 => "BADSIG: the secret is another one".to_owned(),
        17 => "BADKEY: it does not know the key".to_owned(),
        18 => "BADTIME: the clocks differ".to_owned(),
        22 => "BADTRUNC".to_owned(),
        other => format!("error {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::modules::acme::TsigSecret;

    fn update() -> DnsUpdate {
        DnsUpdate {
            server: "127.0.0.1:53".parse().unwrap(),
            zone: None,
            key_name: "Acme".into(),
            algorithm: TsigAlgorithm::Sha256,
            secret: TsigSecret::new(b"secret".to_vec()),
            wait_ms: 0,
        }
    }

    #[test]
    fn names_are_below_their_zones() {
        let name = Name::new("_acme-challenge.A.Example.").unwrap();
        for (zone, is_in) in [
            ("example", true),
            ("a.example", true),
            ("_acme-challenge.a.example", true),
            ("b.example", false),
        ] {
            assert_eq!(name.is_in(&Name::new(zone).unwrap()), is_in, "{zone}");
        }
        assert!(Name::new("a..b").is_err() && Name::new(&"a.".repeat(128)).is_err());
    }

    #[test]
    fn zone_is_that_of_the_soa_record() {
        let name = Name::new("_acme-challenge.a.example").unwrap();
        let mut answer = header(7, ANSWERS, [1, 0, 1, 0]);
        answer.extend([&name.0[..], &TYPE_SOA.to_be_bytes(), &CLASS_IN.to_be_bytes()].concat());
        let without = answer.clone();
        // "example" as it stands in the question.
        let at = (HEADER + 18) as u8;
        answer.extend([0xc0, at, 0, 6, 0, 1, 0, 0, 0, 9, 0, 0]);
        assert_eq!(zone_of(&answer, &name), Some(Name::new("example").unwrap()));
        assert_eq!(zone_of(&answer, &Name::new("a.other").unwrap()), None, "of another zone");
        for cut in 0..answer.len() {
            assert_eq!(zone_of(&answer[..cut], &name), None);
        }
        // A name that refers to itself has no end.
        let own = without.len() as u8;
        assert_eq!(zone_of(&[&without[..], &[0xc0, own, 0, 6]].concat(), &name), None);
    }

    #[test]
    fn only_signed_answers_count() {
        let update = update();
        let (zone, name) = (Name::new("example").unwrap(), Name::new("_acme-challenge.example").unwrap());
        let (request, mac) = sign(message(9, &zone, RecordChange::Add, &name, "v"), &update, 1000).unwrap();
        let unsigned = header(9, ANSWERS | UPDATE, [0, 0, 0, 0]);
        assert!(judge(&unsigned, &request, &mac, &update).unwrap_err().contains("not signed"));
        let refused = header(9, ANSWERS | UPDATE | 5, [0, 0, 0, 0]);
        assert!(judge(&refused, &request, &mac, &update).unwrap_err().contains("REFUSED"));
        assert!(judge(&request, &request, &mac, &update).is_err(), "it is no answer");
        // Signed as if it were a request, and not bound to ours.
        let (other, _) = sign(unsigned, &update, 1000).unwrap();
        assert!(judge(&other, &request, &mac, &update).unwrap_err().contains("broken"));
    }
}
