//! OpenSSL's names of cipher suites, groups and protocols.

use rustls::{CipherSuite, NamedGroup, ProtocolVersion};
use std::fmt::Write;

/// Cipher suites by their numbers.
const CIPHERS: &[(u16, &str)] = &[
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1302, "TLS_AES_256_GCM_SHA384"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
    (0x1304, "TLS_AES_128_CCM_SHA256"),
    (0x1305, "TLS_AES_128_CCM_8_SHA256"),
    (0xc02b, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (0xc02c, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (0xc02f, "ECDHE-RSA-AES128-GCM-SHA256"),
    (0xc030, "ECDHE-RSA-AES256-GCM-SHA384"),
    (0xcca8, "ECDHE-RSA-CHACHA20-POLY1305"),
    (0xcca9, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (0xccaa, "DHE-RSA-CHACHA20-POLY1305"),
    (0x009e, "DHE-RSA-AES128-GCM-SHA256"),
    (0x009f, "DHE-RSA-AES256-GCM-SHA384"),
    (0xc009, "ECDHE-ECDSA-AES128-SHA"),
    (0xc00a, "ECDHE-ECDSA-AES256-SHA"),
    (0xc013, "ECDHE-RSA-AES128-SHA"),
    (0xc014, "ECDHE-RSA-AES256-SHA"),
    (0xc023, "ECDHE-ECDSA-AES128-SHA256"),
    (0xc024, "ECDHE-ECDSA-AES256-SHA384"),
    (0xc027, "ECDHE-RSA-AES128-SHA256"),
    (0xc028, "ECDHE-RSA-AES256-SHA384"),
    (0x0033, "DHE-RSA-AES128-SHA"),
    (0x0039, "DHE-RSA-AES256-SHA"),
    (0x0067, "DHE-RSA-AES128-SHA256"),
    (0x006b, "DHE-RSA-AES256-SHA256"),
    (0x009c, "AES128-GCM-SHA256"),
    (0x009d, "AES256-GCM-SHA384"),
    (0x002f, "AES128-SHA"),
    (0x0035, "AES256-SHA"),
    (0x003c, "AES128-SHA256"),
    (0x003d, "AES256-SHA256"),
    (0x000a, "DES-CBC3-SHA"),
    (0x00ff, "TLS_EMPTY_RENEGOTIATION_INFO_SCSV"),
];

/// Groups by their numbers.
const GROUPS: &[(u16, &str)] = &[
    (0x0017, "prime256v1"),
    (0x0018, "secp384r1"),
    (0x0019, "secp521r1"),
    (0x001d, "X25519"),
    (0x001e, "X448"),
    (0x0100, "ffdhe2048"),
    (0x0101, "ffdhe3072"),
    (0x0102, "ffdhe4096"),
    (0x0103, "ffdhe6144"),
    (0x0104, "ffdhe8192"),
    (0x0201, "MLKEM768"),
    (0x11eb, "SecP256r1MLKEM768"),
    (0x11ec, "X25519MLKEM768"),
];

fn name(table: &'static [(u16, &'static str)], number: u16) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// Joins the names of numbers; those without a name are hexadecimal, as in nginx.
fn joined(table: &'static [(u16, &'static str)], numbers: impl Iterator<Item = u16>) -> String {
    let mut out = String::new();
    for number in numbers {
        if !out.is_empty() {
            out.push(':');
        }
        match name(table, number) {
            Some(name) => out.push_str(name),
            // Writing to a String cannot fail.
            None => drop(write!(out, "0x{number:04x}")),
        }
    }
    out
}

/// Returns a suite's name.
pub(crate) fn cipher(suite: CipherSuite) -> &'static str {
    name(CIPHERS, suite.into()).unwrap_or_default()
}

/// Returns a group's name.
pub(crate) fn group(group: NamedGroup) -> &'static str {
    name(GROUPS, group.into()).unwrap_or_default()
}

/// Returns the names of suites, joined by colons. The mark of renegotiation is no suite.
pub(crate) fn ciphers(suites: &[CipherSuite]) -> String {
    joined(CIPHERS, suites.iter().map(|suite| u16::from(*suite)).filter(|number| *number != 0x00ff))
}

/// Returns the names of groups, joined by colons.
pub(crate) fn groups(groups: &[NamedGroup]) -> String {
    joined(GROUPS, groups.iter().map(|group| u16::from(*group)))
}

/// Returns a protocol's name.
pub(crate) fn protocol(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        _ => "TLSv1.2",
    }
}
