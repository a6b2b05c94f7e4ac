//! Variables about TLS: what the handshake agreed on, and the client's certificate.

use super::{Variable, read, write};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::tls_session::{ClientCertificate, TlsSession, Verified};

/// Returns a variable with a value from the handshake.
fn of(exchange: &Exchange, out: &mut Vec<u8>, append: impl FnOnce(&TlsSession, &mut Vec<u8>)) -> bool {
    match &exchange.connection.tls {
        Some(tls) => {
            append(tls, out);
            true
        }
        None => false,
    }
}

/// Returns a variable with a text of the client's certificate.
fn text(exchange: &Exchange, out: &mut Vec<u8>, field: impl FnOnce(&ClientCertificate) -> &str) -> bool {
    of(exchange, out, |tls, out| {
        if let Some(certificate) = &tls.certificate {
            out.extend_from_slice(field(certificate).as_bytes());
        }
    })
}

pub(super) const VARIABLES: &[Variable] = &[
    read("ssl_protocol", "The protocol of the TLS connection: TLSv1.2 or TLSv1.3.", |exchange, _, out| {
        of(exchange, out, |tls, out| out.extend_from_slice(tls.protocol.as_bytes()))
    }),
    read("ssl_cipher", "The cipher suite of the TLS connection, by OpenSSL's name.", |exchange, _, out| {
        of(exchange, out, |tls, out| out.extend_from_slice(tls.cipher.as_bytes()))
    }),
    read(
        "ssl_ciphers",
        "The cipher suites that the client offered, joined by colons.",
        |exchange, _, out| {
            of(exchange, out, |tls, out| out.extend_from_slice(tls.offered_ciphers.as_bytes()))
        },
    ),
    read("http2", "h2 over TLS, h2c in clear; empty over HTTP/1.", |exchange, _, out| {
        if exchange.request.head.version == http::Version::Http2 {
            out.extend_from_slice(if exchange.connection.tls.is_some() { b"h2" } else { b"h2c" });
        }
        true
    }),
    read("ssl_curve", "The group of the key exchange.", |exchange, _, out| {
        of(exchange, out, |tls, out| out.extend_from_slice(tls.curve.as_bytes()))
    }),
    read("ssl_curves", "The groups that the client offered, joined by colons.", |exchange, _, out| {
        of(exchange, out, |tls, out| out.extend_from_slice(tls.offered_curves.as_bytes()))
    }),
    read("ssl_server_name", "The server name that the client asked for (SNI).", |exchange, _, out| {
        of(exchange, out, |tls, out| out.extend_from_slice(tls.server_name.as_deref().unwrap_or_default()))
    }),
    read("ssl_alpn_protocol", "The protocol chosen by ALPN.", |exchange, _, out| {
        of(exchange, out, |tls, out| out.extend_from_slice(tls.alpn.as_deref().unwrap_or_default()))
    }),
    read("ssl_session_id", "The number of the TLS session; a resumed one keeps it.", |exchange, _, out| {
        of(exchange, out, |tls, out| out.extend_from_slice(tls.id.as_bytes()))
    }),
    read("ssl_session_reused", "r if the TLS session was resumed, else a dot.", |exchange, _, out| {
        of(exchange, out, |tls, out| out.push(if tls.resumed { b'r' } else { b'.' }))
    }),
    read(
        "ssl_early_data",
        "1 if the request came before the end of the handshake, so that anyone may have sent it again; else empty.",
        |exchange, _, out| {
            let is_early = exchange.request.is_early;
            of(exchange, out, |_, out| out.extend(is_early.then_some(b'1')))
        },
    ),
    read(
        "ssl_client_verify",
        "NONE without a client certificate, SUCCESS, or FAILED: with the reason.",
        |exchange, _, out| {
            of(exchange, out, |tls, out| match tls.verified {
                Verified::None => out.extend_from_slice(b"NONE"),
                Verified::Success => out.extend_from_slice(b"SUCCESS"),
                Verified::Failed { text, .. } => {
                    out.extend_from_slice(b"FAILED:");
                    out.extend_from_slice(text.as_bytes());
                }
            })
        },
    ),
    read("ssl_client_raw_cert", "The client's certificate in PEM.", |exchange, _, out| {
        text(exchange, out, |certificate| &certificate.pem)
    }),
    read(
        "ssl_client_cert",
        "The client's certificate in PEM, each line after the first behind a tab.",
        |exchange, _, out| {
            let at = out.len();
            let found = text(exchange, out, |certificate| certificate.pem.trim_end());
            let lines = out.split_off(at);
            for byte in lines {
                out.push(byte);
                if byte == b'\n' {
                    out.push(b'\t');
                }
            }
            found
        },
    ),
    read("ssl_client_escaped_cert", "The client's certificate in PEM, escaped for a URI.", escaped),
    read("ssl_client_s_dn", "The subject of the client's certificate (RFC 2253).", |exchange, _, out| {
        text(exchange, out, |certificate| &certificate.subject)
    }),
    read("ssl_client_i_dn", "The issuer of the client's certificate (RFC 2253).", |exchange, _, out| {
        text(exchange, out, |certificate| &certificate.issuer)
    }),
    read("ssl_client_s_dn_legacy", "The same as /C=…/CN=….", |exchange, _, out| {
        text(exchange, out, |certificate| &certificate.legacy_subject)
    }),
    read("ssl_client_i_dn_legacy", "The same as /C=…/CN=….", |exchange, _, out| {
        text(exchange, out, |certificate| &certificate.legacy_issuer)
    }),
    read("ssl_client_serial", "The serial number of the client's certificate.", |exchange, _, out| {
        text(exchange, out, |certificate| &certificate.serial)
    }),
    read("ssl_client_fingerprint", "The SHA-1 of the client's certificate.", |exchange, _, out| {
        text(exchange, out, |certificate| &certificate.fingerprint)
    }),
    read("ssl_client_v_start", "From when on the client's certificate is valid.", |exchange, _, out| {
        text(exchange, out, |certificate| &certificate.valid_from)
    }),
    read("ssl_client_v_end", "Until when the client's certificate is valid.", |exchange, _, out| {
        text(exchange, out, |certificate| &certificate.valid_until)
    }),
    read(
        "ssl_client_v_remain",
        "For how many days the client's certificate is valid.",
        |exchange, env, out| {
            let now_s = env.host.now().epoch_s();
            of(exchange, out, |tls, out| {
                if let Some(certificate) = &tls.certificate {
                    write::number(out, certificate.valid_until_s.saturating_sub(now_s) / 86_400);
                }
            })
        },
    ),
];

fn escaped(exchange: &mut Exchange, _: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    of(exchange, out, |tls, out| {
        for byte in tls.certificate.iter().flat_map(|certificate| certificate.pem.bytes()) {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
                _ => {
                    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                    out.extend_from_slice(&[
                        b'%',
                        DIGITS[usize::from(byte >> 4)],
                        DIGITS[usize::from(byte & 15)],
                    ]);
                }
            }
        }
    })
}
