//! The parts of a certificate that variables and warnings show (X.509, RFC 5280).
//!
//! Must never decide whether a certificate is valid: webpki does.

use std::fmt::Write;

/// Reads one element after another.
#[derive(Clone, Copy)]
pub(crate) struct Der<'a>(pub(crate) &'a [u8]);

impl<'a> Der<'a> {
    /// Returns the next element: its tag and its contents.
    pub(crate) fn next(&mut self) -> Option<(u8, Der<'a>)> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut len = usize::from(first);
        if first >= 0x80 {
            let count = usize::from(first & 0x7f);
            let (digits, after) = rest.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
            len = digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
            rest = after;
        }
        let (contents, after) = rest.split_at_checked(len)?;
        self.0 = after;
        Some((tag, Der(contents)))
    }

    /// Returns the contents of the next element if it has this tag.
    pub(crate) fn tagged(&mut self, tag: u8) -> Option<Der<'a>> {
        let before = *self;
        match self.next() {
            Some((found, contents)) if found == tag => Some(contents),
            _ => {
                *self = before;
                None
            }
        }
    }
}

impl<'a> Der<'a> {
    /// Returns the next element with its tag and length if it has this tag.
    pub(crate) fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        let before = self.0;
        self.tagged(tag)?;
        before.get(..before.len() - self.0.len())
    }
}

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const BITS: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const LONG_TIME: u8 = 0x18;

/// The fields of a certificate.
pub(crate) struct Fields<'a> {
    pub(crate) serial: &'a [u8],
    pub(crate) issuer: Der<'a>,
    pub(crate) subject: Der<'a>,
    pub(crate) from: Time,
    pub(crate) until: Time,
    /// The public key, as SubjectPublicKeyInfo.
    pub(crate) key: &'a [u8],
    /// It is of version 1: it has no extensions.
    pub(crate) is_v1: bool,
    /// What follows the key: the extensions.
    rest: Der<'a>,
    /// The signed bytes.
    pub(crate) signed: &'a [u8],
    /// The contents of the signature's AlgorithmIdentifier.
    pub(crate) algorithm: &'a [u8],
    pub(crate) signature: &'a [u8],
}

/// Reads a certificate; `None` if it is none.
pub(crate) fn fields(der: &[u8]) -> Option<Fields<'_>> {
    let mut certificate = Der(der).tagged(SEQUENCE)?;
    let whole = certificate.whole(SEQUENCE)?;
    let algorithm = certificate.tagged(SEQUENCE)?.0;
    let [0, signature @ ..] = certificate.tagged(BITS)?.0 else { return None };
    let mut signed = Der(whole).tagged(SEQUENCE)?;
    let is_v1 =
        signed.tagged(VERSION).is_none_or(|mut version| version.next().is_none_or(|(_, it)| it.0 == [0]));
    let serial = signed.tagged(INTEGER)?.0;
    let _ = signed.tagged(SEQUENCE)?;
    let issuer = signed.tagged(SEQUENCE)?;
    let mut validity = signed.tagged(SEQUENCE)?;
    let (from, until) = (Time::read(validity.next()?)?, Time::read(validity.next()?)?);
    let subject = signed.tagged(SEQUENCE)?;
    let key = signed.whole(SEQUENCE)?;
    let rest = signed;
    Some(Fields {
        serial,
        issuer,
        subject,
        from,
        until,
        key,
        is_v1,
        rest,
        signed: whole,
        algorithm,
        signature,
    })
}

/// Returns the value of an extension of a certificate.
pub(crate) fn extension<'a>(fields: &Fields<'a>, name: &[u8]) -> Option<Der<'a>> {
    const EXTENSIONS: u8 = 0xa3;
    let mut rest = fields.rest;
    let mut extensions = loop {
        if let (EXTENSIONS, mut contents) = rest.next()? {
            break contents.tagged(SEQUENCE)?;
        }
    };
    while let Some(mut extension) = extensions.tagged(SEQUENCE) {
        if extension.tagged(OID)?.0 != name {
            continue;
        }
        // Whether it is critical may come in between.
        loop {
            if let (OCTETS, value) = extension.next()? {
                return Some(value);
            }
        }
    }
    None
}

/// Returns the key identifier of the authority that has signed a certificate (RFC 5280, section 4.2.1.1).
pub(crate) fn authority_key<'a>(fields: &Fields<'a>) -> Option<&'a [u8]> {
    const AUTHORITY_KEY: &[u8] = &[0x55, 29, 35];
    const KEY_IDENTIFIER: u8 = 0x80;
    let key = extension(fields, AUTHORITY_KEY)?.tagged(SEQUENCE)?.tagged(KEY_IDENTIFIER)?;
    Some(key.0)
}

/// A time in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time {
    year: i64,
    month: i64,
    day: i64,
    clock: [i64; 3],
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Time {
    pub(crate) fn read((tag, text): (u8, Der<'_>)) -> Option<Time> {
        let digits = text.0.strip_suffix(b"Z")?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = |text: &[u8]| text.iter().fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        let (year, rest) = match tag {
            UTC_TIME if digits.len() == 12 => {
                let year = number(&digits[..2]);
                (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
            }
            LONG_TIME if digits.len() == 14 => (number(&digits[..4]), &digits[4..]),
            _ => return None,
        };
        let pair = |at: usize| number(&rest[at..at + 2]);
        Some(Time { year, month: pair(0), day: pair(2), clock: [pair(4), pair(6), pair(8)] })
    }

    /// Returns the seconds since the epoch, 0 for times before it.
    pub(crate) fn epoch_s(self) -> u64 {
        // Days from civil, with March as the first month of the year.
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let month = (self.month + 9) % 12;
        let of_year = (153 * month + 2) / 5 + self.day - 1;
        let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year;
        let [hour, minute, second] = self.clock;
        u64::try_from((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second).unwrap_or(0)
    }

    /// Returns the time as OpenSSL prints it: `Nov  9 19:32:24 2026 GMT`.
    pub(crate) fn shown(self) -> String {
        let month = usize::try_from(self.month - 1).ok().and_then(|at| MONTHS.get(at)).unwrap_or(&"Bad");
        let [hour, minute, second] = self.clock;
        format!("{month} {:2} {hour:02}:{minute:02}:{second:02} {} GMT", self.day, self.year)
    }
}

/// Writes bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = if upper { write!(out, "{byte:02X}") } else { write!(out, "{byte:02x}") };
        out
    })
}

/// Writes a serial number as OpenSSL does.
pub(crate) fn serial(bytes: &[u8]) -> String {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len().saturating_sub(1));
    match bytes.first() {
        Some(0x80..) => {
            // The two's complement.
            let mut value: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
            for byte in value.iter_mut().rev() {
                let (sum, carries) = byte.overflowing_add(1);
                *byte = sum;
                if !carries {
                    break;
                }
            }
            format!("-{}", serial(&[&[0], &value[..]].concat()))
        }
        _ => hex(&bytes[start..], true),
    }
}

/// The attributes of names, by OpenSSL's short names.
const ATTRIBUTES: [(&[u8], &str); 20] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 13], "description"),
    (&[0x55, 4, 15], "businessCategory"),
    (&[0x55, 4, 17], "postalCode"),
    (&[0x55, 4, 41], "name"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 43], "initials"),
    (&[0x55, 4, 97], "organizationIdentifier"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

/// One attribute of a name.
struct Attribute<'a> {
    oid: &'a [u8],
    name: Option<&'static str>,
    tag: u8,
    value: &'a [u8],
}

/// Returns the attributes of a name: sets in order, each with its attributes.
fn attributes(mut name: Der<'_>) -> Vec<Vec<Attribute<'_>>> {
    let mut sets = Vec::new();
    while let Some(mut set) = name.tagged(SET) {
        let mut attributes = Vec::new();
        while let Some(mut pair) = set.tagged(SEQUENCE) {
            let (Some(oid), Some((tag, value))) = (pair.tagged(OID), pair.next()) else { break };
            let name = ATTRIBUTES.iter().find(|(known, _)| *known == oid.0).map(|(_, name)| *name);
            attributes.push(Attribute { oid: oid.0, name, tag, value: value.0 });
        }
        sets.push(attributes);
    }
    sets
}

/// Writes an object identifier with dots.
fn dotted(oid: &[u8]) -> String {
    let mut out = String::new();
    let mut value: u64 = 0;
    for byte in oid {
        value = value << 7 | u64::from(byte & 0x7f);
        if *byte < 0x80 {
            if out.is_empty() {
                let first = (value / 40).min(2);
                out = format!("{first}.{}", value - first * 40);
            } else {
                let _ = write!(out, ".{value}");
            }
            value = 0;
        }
    }
    out
}

/// Returns a value in UTF-8, whatever string it is.
fn utf8(attribute: &Attribute<'_>) -> Vec<u8> {
    match attribute.tag {
        // BMPString, UniversalString, T61String.
        0x1e => {
            let units = attribute.value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect::<String>().into_bytes()
        }
        0x1c => {
            let codes = attribute.value.chunks_exact(4).map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]));
            codes.map(|code| char::from_u32(code).unwrap_or('\u{fffd}')).collect::<String>().into_bytes()
        }
        0x14 => attribute.value.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes(),
        _ => attribute.value.to_vec(),
    }
}

/// Returns the common names in a name.
pub(crate) fn common_names(name: Der<'_>) -> Vec<Vec<u8>> {
    let all = attributes(name).into_iter().flatten();
    all.filter(|attribute| attribute.name == Some("CN")).map(|attribute| utf8(&attribute)).collect()
}

/// Writes a name as RFC 2253 does: the last attribute first.
pub(crate) fn rfc2253(name: Der<'_>) -> String {
    let sets = attributes(name).into_iter().rev().map(|set| {
        let shown = set.iter().rev().map(|attribute| match attribute.name {
            Some(name) => format!("{name}={}", escaped(&utf8(attribute))),
            None => {
                let len = attribute.value.len();
                let mut element = vec![attribute.tag];
                if len < 0x80 {
                    element.push(len as u8);
                } else {
                    let digits: Vec<u8> =
                        len.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
                    element.push(0x80 | digits.len() as u8);
                    element.extend(digits);
                }
                element.extend_from_slice(attribute.value);
                format!("{}=#{}", dotted(attribute.oid), hex(&element, true))
            }
        });
        shown.collect::<Vec<_>>().join("+")
    });
    sets.collect::<Vec<_>>().join(",")
}

fn escaped(value: &[u8]) -> String {
    let mut out = String::new();
    for (at, byte) in value.iter().enumerate() {
        let at_end = at == 0 || at + 1 == value.len();
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(*byte)]),
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at_end => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
    out
}

/// Writes a name as OpenSSL did before RFC 2253, with what it escapes since 3.0: `/C=US/CN=x`.
pub(crate) fn legacy(name: Der<'_>) -> String {
    let mut out = String::new();
    for set in attributes(name) {
        for (at, attribute) in set.iter().enumerate() {
            let name = attribute.name.map_or_else(|| dotted(attribute.oid), str::to_owned);
            let mark = if at == 0 { '/' } else { '+' };
            let _ = write!(out, "{mark}{name}=");
            for byte in attribute.value {
                match byte {
                    b'/' | b'+' => out.extend(['\\', char::from(*byte)]),
                    b' '..=b'~' => out.push(char::from(*byte)),
                    _ => {
                        let _ = write!(out, "\\x{byte:02X}");
                    }
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_shown_as_openssl_shows_them() {
        for (bytes, shown) in
            [(&[0][..], "00"), (&[0, 0x80], "80"), (&[1, 2], "0102"), (&[0xff], "-01"), (&[0x80], "-80")]
        {
            assert_eq!(serial(bytes), shown);
        }
    }

    #[test]
    fn times_become_seconds_and_text() {
        let time = Time::read((UTC_TIME, Der(b"261109193224Z"))).unwrap();
        assert_eq!((time.epoch_s(), &*time.shown()), (1_794_252_744, "Nov  9 19:32:24 2026 GMT"));
        let time = Time::read((LONG_TIME, Der(b"20500228000000Z"))).unwrap();
        assert_eq!(time.epoch_s(), 2_529_619_200);
        assert_eq!(Time::read((UTC_TIME, Der(b"2611091932Z"))), None);
    }

    #[test]
    fn broken_input_is_no_certificate() {
        for bytes in
            [&b""[..], &[0x30], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x80, 1], &[0x30, 2, 0x30, 9]]
        {
            assert!(fields(bytes).is_none());
        }
    }
}
