//! Variables about the header of the PROXY protocol (`listen … proxy_protocol`). Without addresses in it they have no value.

use super::{Family, Variable, read, write};
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use http::{ProxyEnd, ProxyHeader};

pub(super) const VARIABLES: &[Variable] = &[
    read(
        "proxy_protocol_addr",
        "The client's address in the header of the PROXY protocol.",
        |exchange, _, out| address(exchange, out, |header| &header.source),
    ),
    read(
        "proxy_protocol_port",
        "The client's port in the header of the PROXY protocol.",
        |exchange, _, out| port(exchange, out, |header| &header.source),
    ),
    read(
        "proxy_protocol_server_addr",
        "The address that the client connected to, in the header of the PROXY protocol.",
        |exchange, _, out| address(exchange, out, |header| &header.destination),
    ),
    read(
        "proxy_protocol_server_port",
        "The port that the client connected to, in the header of the PROXY protocol.",
        |exchange, _, out| port(exchange, out, |header| &header.destination),
    ),
];

pub(super) const FAMILIES: &[Family] = &[Family {
    prefix: "proxy_protocol_tlv_",
    doc: "An addition to the header of the PROXY protocol: alpn, authority, unique_id, ssl, netns, ssl_version, \
          ssl_cn, ssl_cipher, ssl_sig_alg, ssl_key_alg, ssl_verify, or its number (0xea, ssl_0x21).",
    get: tlv,
}];

fn address(exchange: &Exchange, out: &mut Vec<u8>, end: fn(&ProxyHeader) -> &ProxyEnd) -> bool {
    let Some(header) = exchange.connection.proxy_header() else { return false };
    write::proxy_address(&end(header).address, out);
    true
}

fn port(exchange: &Exchange, out: &mut Vec<u8>, end: fn(&ProxyHeader) -> &ProxyEnd) -> bool {
    let Some(header) = exchange.connection.proxy_header() else { return false };
    write::port(end(header).port, out);
    true
}

fn tlv(exchange: &mut Exchange, env: &mut Env<'_>, name: &str, out: &mut Vec<u8>) -> bool {
    let Some(header) = exchange.connection.proxy_header() else { return false };
    let value = match name.strip_prefix("ssl_") {
        Some("verify") => {
            let Some(result) = header.ssl_verify() else { return false };
            write::number(out, u64::from(result));
            return true;
        }
        Some(within) => kind(within, &SSL_KINDS).map(|kind| header.ssl_tlv(kind)),
        None => kind(name, &KINDS).map(|kind| header.tlv(kind)),
    };
    match value {
        Some(value) => {
            out.extend_from_slice(value.unwrap_or_default());
            value.is_some()
        }
        None => {
            let text = format!("unknown PROXY protocol TLV \"{name}\"");
            log_line::error(exchange, env, Level::Error, text.as_bytes());
            false
        }
    }
}

const KINDS: [(&str, u8); 5] =
    [("alpn", 0x01), ("authority", 0x02), ("unique_id", 0x05), ("ssl", 0x20), ("netns", 0x30)];

const SSL_KINDS: [(&str, u8); 5] =
    [("version", 0x21), ("cn", 0x22), ("cipher", 0x23), ("sig_alg", 0x24), ("key_alg", 0x25)];

/// Returns the type that a name or a number means.
fn kind(name: &str, kinds: &[(&str, u8)]) -> Option<u8> {
    match name.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => kinds.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind),
    }
}
