//! Variables about the connection: its two ends, its number and its age.

use super::{Variable, read, write};
use crate::exchange::Connection;
use std::net::IpAddr;

pub(super) const VARIABLES: &[Variable] = &[
    read("remote_addr", "The client's address.", |exchange, _, out| {
        write::client(&exchange.connection, out);
        true
    }),
    read("remote_port", "The client's port; empty on a unix socket.", |exchange, _, out| {
        write::port(exchange.connection.remote.map_or(0, |remote| remote.port()), out);
        true
    }),
    read(
        "realip_remote_addr",
        "The address of the connection's other end, whatever set_real_ip_from has made of $remote_addr.",
        |exchange, _, out| {
            write::peer(exchange.realip.peer(&exchange.connection), out);
            true
        },
    ),
    read(
        "realip_remote_port",
        "The port of the connection's other end; empty on a unix socket.",
        |exchange, _, out| {
            write::port(exchange.realip.peer(&exchange.connection).map_or(0, |peer| peer.port()), out);
            true
        },
    ),
    read("binary_remote_addr", "The client's address in 4 or 16 bytes: a short key.", |exchange, _, out| {
        match exchange.connection.remote.map(|remote| remote.ip()) {
            Some(IpAddr::V4(v4)) => out.extend_from_slice(&v4.octets()),
            Some(IpAddr::V6(v6)) => out.extend_from_slice(&v6.octets()),
            None => out.extend_from_slice(b"unix:"),
        }
        true
    }),
    read(
        "server_addr",
        "The address the client connected to; a unix socket with its path.",
        |exchange, _, out| {
            local(&exchange.connection, out);
            true
        },
    ),
    read("server_port", "The port the client connected to; empty on a unix socket.", |exchange, _, out| {
        if let Some(local) = exchange.connection.local {
            write::number(out, u64::from(local.port()));
        }
        true
    }),
    read("connection", "The connection's number, as in the error log.", |exchange, _, out| {
        write::number(out, exchange.connection.serial);
        true
    }),
    read(
        "connection_requests",
        "How many requests came on this connection, this one included.",
        |exchange, _, out| {
            write::number(out, exchange.connection.requests);
            true
        },
    ),
    read("connection_time", "The connection's age in seconds, with milliseconds.", |exchange, env, out| {
        let now_ms = env.host.now().monotonic_ms();
        write::seconds(out, now_ms.saturating_sub(exchange.connection.opened.monotonic_ms()));
        true
    }),
    read("scheme", "How the client speaks: http or https.", |exchange, _, out| {
        out.extend_from_slice(exchange.connection.scheme());
        true
    }),
    read("https", "on if the connection is TLS, else empty.", |exchange, _, out| {
        if exchange.connection.tls.is_some() {
            out.extend_from_slice(b"on");
        }
        true
    }),
];

fn local(connection: &Connection, out: &mut Vec<u8>) {
    match (connection.local, &connection.local_path) {
        (Some(local), _) => write::ip(out, local.ip()),
        (None, path) => {
            out.extend_from_slice(b"unix:");
            out.extend_from_slice(path.as_ref().map_or(&b""[..], |path| path));
        }
    }
}
