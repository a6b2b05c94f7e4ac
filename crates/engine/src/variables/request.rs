//! Variables about the request: its line, its fields, its body, and the file that it maps to.

use super::{Family, Variable, read, write};
use crate::exchange::{Body, Exchange};
use crate::host::{Env, Level};
use crate::modules::{slice, static_files};
use http::{BodyFraming, Known};

pub(super) const VARIABLES: &[Variable] = &[
    read("uri", "The path: decoded, normalised, and as rewrites left it.", uri),
    read("document_uri", "The same as $uri.", uri),
    read("request_uri", "The path and query as the client sent them.", |exchange, _, out| {
        present(exchange.request.head.target(), out)
    }),
    Variable { name: "args", doc: "The query; it may be set.", get: args, set: Some(set_args) },
    read("query_string", "The same as $args.", args),
    read("is_args", "A question mark if there is a query, else empty.", |exchange, _, out| {
        out.extend_from_slice(if exchange.request.args.is_empty() { b"" } else { b"?" });
        true
    }),
    read("request", "The whole request line as the client sent it.", |exchange, _, out| {
        present(exchange.request.head.request_line(), out)
    }),
    read("request_method", "The method.", |exchange, _, out| {
        present(exchange.subrequests.outermost_method().unwrap_or_else(|| exchange.method()), out)
    }),
    read("server_protocol", "The version: HTTP/1.0 or HTTP/1.1.", |exchange, _, out| {
        present(exchange.request.head.protocol(), out)
    }),
    read("request_length", "How long the request is: line, head and body.", |exchange, _, out| {
        write::number(out, exchange.request.length);
        true
    }),
    read(
        "request_time",
        "Seconds since the request's first byte, with milliseconds.",
        |exchange, env, out| {
            let now_ms = env.host.now().monotonic_ms();
            write::seconds(out, now_ms.saturating_sub(exchange.timing.start.monotonic_ms()));
            true
        },
    ),
    read("request_us", "pointsman's own: as $request_time, in microseconds.", |exchange, env, out| {
        let now_us = env.host.now().monotonic_us;
        write::number(out, now_us.saturating_sub(exchange.timing.start.monotonic_us));
        true
    }),
    read("request_completion", "OK once the whole answer is sent, else empty.", |exchange, _, out| {
        if exchange.output.ended() && exchange.output.wire.is_empty() {
            out.extend_from_slice(b"OK");
        }
        true
    }),
    read(
        "request_id",
        "32 random hexadecimal digits, the same for the whole request.",
        |exchange, env, out| {
            let id = *exchange.request.id.get_or_insert_with(|| [env.host.random(), env.host.random()]);
            hex(&id, out);
            true
        },
    ),
    read(
        "pipe",
        "p if the request came before the answer to the one before it was sent, else a dot.",
        |exchange, _, out| {
            out.push(if exchange.request.pipelined { b'p' } else { b'.' });
            true
        },
    ),
    read("request_body", "The body, if it was read into memory.", |exchange, _, out| {
        match &exchange.request.body {
            Body::Memory(body) => present(body, out),
            _ => false,
        }
    }),
    read(
        "request_body_file",
        "The path of the file with the body, if it was read into one.",
        |exchange, _, out| match &exchange.request.body {
            Body::File(file) => present(file.path.as_os_str().as_encoded_bytes(), out),
            _ => false,
        },
    ),
    read("request_filename", "The path of the file that the URI leads to.", |exchange, env, out| {
        is_whole(out, |out| static_files::append_path(exchange, env, out).is_ok())
    }),
    read("document_root", "The root or alias of the location.", |exchange, env, out| {
        is_whole(out, |out| static_files::append_root(exchange, env, out).is_ok())
    }),
    read("realpath_root", "The same without symlinks.", realpath_root),
    read("content_length", "The body's length, if it is known.", content_length),
    read("content_type", "The body's type.", |exchange, _, out| {
        field(exchange, Known::ContentType, b", ", out)
    }),
    read(
        "host",
        "The host asked for, in lower case and without port; else the server's name.",
        |exchange, env, out| {
            let host = &exchange.request.host;
            let host =
                if host.is_empty() { env.config.server(exchange.route.server).first_name() } else { host };
            out.extend_from_slice(host);
            true
        },
    ),
    read("request_port", "The port beside the host asked for, if there is one.", |exchange, _, out| {
        if exchange.request.head.port() != 0 {
            write::number(out, u64::from(exchange.request.head.port()));
        }
        true
    }),
    read("is_request_port", "A colon if there is a $request_port, else empty.", |exchange, _, out| {
        out.extend_from_slice(if exchange.request.head.port() == 0 { b"" } else { b":" });
        true
    }),
    read("server_name", "The first name of the server that answers.", |exchange, env, out| {
        out.extend_from_slice(env.config.server(exchange.route.server).first_name());
        true
    }),
    read("remote_user", "The name in an Authorization of scheme Basic.", |exchange, _, out| {
        let authorization = exchange.request.head.headers.get(Known::Authorization).unwrap_or_default();
        basic_user(authorization, out)
    }),
    read(
        "proxy_add_x_forwarded_for",
        "X-Forwarded-For with the client's address behind it.",
        |exchange, _, out| {
            if field(exchange, Known::XForwardedFor, b", ", out) {
                out.extend_from_slice(b", ");
            }
            write::client(&exchange.connection, out);
            true
        },
    ),
    read(
        "slice_range",
        "The piece of a response that is fetched, as a Range: bytes=0-1048575; none without slice.",
        |exchange, env, out| slice::range(exchange, env, out),
    ),
    read("http_host", "The field Host.", |exchange, _, out| field(exchange, Known::Host, b", ", out)),
    read("http_user_agent", "The field User-Agent.", |exchange, _, out| {
        field(exchange, Known::UserAgent, b", ", out)
    }),
    read("http_referer", "The field Referer.", |exchange, _, out| {
        field(exchange, Known::Referer, b", ", out)
    }),
    read("http_x_forwarded_for", "The fields X-Forwarded-For.", |exchange, _, out| {
        field(exchange, Known::XForwardedFor, b", ", out)
    }),
    read("http_cookie", "The fields Cookie, joined with semicolons.", |exchange, _, out| {
        field(exchange, Known::Cookie, b"; ", out)
    }),
];

pub(super) const FAMILIES: &[Family] = &[
    Family {
        prefix: "http_",
        doc: "A field of the request: $http_accept_language is Accept-Language. Several are joined with commas.",
        get: |exchange, _, name, out| {
            write::joined(out, exchange.request.head.headers.find_all_underscored(name.as_bytes()), b", ")
        },
    },
    Family {
        prefix: "arg_",
        doc: "An argument of the query, as it is written there.",
        get: |exchange, _, name, out| found(http::args::find(&exchange.request.args, name.as_bytes()), out),
    },
    Family {
        prefix: "cookie_",
        doc: "A cookie of the request.",
        get: |exchange, _, name, out| {
            found(
                http::cookie::find(exchange.request.head.headers.get_all(Known::Cookie), name.as_bytes()),
                out,
            )
        },
    },
];

/// Appends a value. Returns whether it is not empty.
fn present(value: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(value);
    !value.is_empty()
}

fn found(value: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(value.unwrap_or_default());
    value.is_some()
}

fn field(exchange: &Exchange, known: Known, separator: &[u8], out: &mut Vec<u8>) -> bool {
    write::joined(out, exchange.request.head.headers.get_all(known), separator)
}

fn uri(exchange: &mut Exchange, _: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    // Of a request line that cannot be read there is none.
    present(&exchange.request.uri, out)
}

fn args(exchange: &mut Exchange, _: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    present(&exchange.request.args, out)
}

fn set_args(exchange: &mut Exchange, value: &[u8]) {
    exchange.request.args.clear();
    exchange.request.args.extend_from_slice(value);
    // The line the client sent no longer says what is asked (nginx: valid_unparsed_uri = 0).
    exchange.request.uri_changed = true;
}

/// Takes back what was appended of a value that is not to be had.
fn is_whole(out: &mut Vec<u8>, append: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    let before = out.len();
    let whole = append(out);
    if !whole {
        out.truncate(before);
    }
    whole
}

fn realpath_root(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    let mut root = Vec::new();
    if static_files::append_root(exchange, env, &mut root).is_err() {
        return false;
    }
    match env.host.real_path(&root) {
        Ok(real) => {
            out.extend_from_slice(&real);
            true
        }
        Err(fault) => {
            static_files::path::log_failure(exchange, env, Level::Crit, &root, fault);
            false
        }
    }
}

/// ngx_http_variable_content_length: the field, else what a chunked body came to once it was read.
fn content_length(exchange: &mut Exchange, _: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    let request = &exchange.request;
    if let Some(field) = request.head.headers.get(Known::ContentLength) {
        out.extend_from_slice(field);
        return true;
    }
    let read = match (&request.body, request.framing) {
        (Body::Memory(body), BodyFraming::Chunked) => Some(body.len() as u64),
        (Body::File(file), BodyFraming::Chunked) => Some(file.len),
        _ => None,
    };
    if let Some(len) = read {
        write::number(out, len);
    }
    read.is_some()
}

/// The bytes of both numbers as they lie in memory, as ngx_hex_dump writes them.
fn hex(id: &[u64; 2], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in id.iter().flat_map(|half| half.to_ne_bytes()) {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// Appends the user of `Basic base64(user:password)`.
fn basic_user(authorization: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let colon = basic_credentials(authorization, out);
    out.truncate(colon.unwrap_or(start));
    colon.is_some()
}

/// Appends `user:password` of `Basic base64(user:password)` (RFC 7617, ngx_http_auth_basic_user) and says where in
/// `out` the colon is. Without a valid pair nothing is appended.
pub(crate) fn basic_credentials(authorization: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let (scheme, rest) = authorization.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let start = out.len();
    let valid = decode_base64(&rest[spaces..], out);
    let colon = memchr::memchr(b':', &out[start..]).filter(|len| valid && *len > 0);
    if colon.is_none() {
        out.truncate(start);
    }
    colon.map(|len| start + len)
}

/// Base64 up to the first `=`, padded or not, as ngx_decode_base64 takes it; `false` if it is none.
fn decode_base64(text: &[u8], out: &mut Vec<u8>) -> bool {
    let end = memchr::memchr(b'=', text).unwrap_or(text.len());
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in &text[..end] {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return false,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    // One letter alone is no byte.
    end % 4 != 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(authorization: &str) -> Option<String> {
        let mut out = b"kept".to_vec();
        let found = basic_user(authorization.as_bytes(), &mut out);
        let value = out.strip_prefix(b"kept").unwrap().to_vec();
        assert!(found || value.is_empty());
        found.then(|| String::from_utf8(value).unwrap())
    }

    #[test]
    fn the_user_of_an_authorization() {
        assert_eq!(user("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").as_deref(), Some("Aladdin"));
        assert_eq!(user("basic    QWxhZGRpbjpvcGVuIHNlc2FtZQ").as_deref(), Some("Aladdin"));
        assert_eq!(user("BASIC YTo=").as_deref(), Some("a"));
        for none in [
            "",
            "Basic",
            "Basic ",
            "Bearer QWxhZGRpbg",
            "Basic OnB3",
            "Basic QWxhZGRpbg==",
            "Basic YTo!",
            "Basic YTo6Y",
        ] {
            assert_eq!(user(none), None, "{none}");
        }
    }
}
