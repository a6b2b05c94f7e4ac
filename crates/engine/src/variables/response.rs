//! Variables about the response, as far as it is decided.

use super::{Family, Variable, read, write};
use crate::exchange::Exchange;
use crate::host::Env;
use crate::output::{Coding, Framing, Ratio};
use http::{Known, Version};

pub(super) const VARIABLES: &[Variable] = &[
    read("status", "The status; 000 while there is none.", |exchange, _, out| {
        let status = status(exchange);
        let digit = |value: u16| b'0' + (value % 10) as u8;
        out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status)]);
        true
    }),
    read("gzip_ratio", "The ratio of the body to what gzip has made of it.", |exchange, _, out| {
        ratio(exchange, Coding::Gzip, out)
    }),
    read("brotli_ratio", "The ratio of the body to what brotli has made of it.", |exchange, _, out| {
        ratio(exchange, Coding::Brotli, out)
    }),
    read("zstd_ratio", "The ratio of the body to what zstd has made of it.", |exchange, _, out| {
        ratio(exchange, Coding::Zstd, out)
    }),
    read("bytes_sent", "How many bytes were sent to the client.", |exchange, _, out| {
        write::number(out, exchange.output.sent);
        true
    }),
    read("body_bytes_sent", "How many bytes were sent to the client, the head apart.", |exchange, _, out| {
        write::number(out, exchange.output.sent.saturating_sub(exchange.output.head_len));
        true
    }),
    Variable {
        name: "limit_rate",
        doc: "Bytes a second to the client, 0 without limit; it may be set.",
        get: limit_rate,
        set: Some(set_limit_rate),
    },
    read("sent_http_content_type", "The answer's Content-Type.", |exchange, _, out| {
        let content_type = exchange.response.content_type.as_deref().unwrap_or_default();
        out.extend_from_slice(content_type);
        !content_type.is_empty()
    }),
    read("sent_http_content_length", "The answer's Content-Length.", |exchange, _, out| {
        if let Some(len) = exchange.response.content_length {
            write::number(out, len);
        }
        exchange.response.content_length.is_some()
    }),
    read("sent_http_last_modified", "The answer's Last-Modified.", |exchange, _, out| {
        let response = &exchange.response;
        match response.last_modified_s {
            Some(at) => out.extend_from_slice(&http::date::http_date(at)),
            None => return write::joined(out, response.headers.get_all(Known::LastModified), b", "),
        }
        true
    }),
    read("sent_http_location", "The answer's Location.", |exchange, _, out| {
        let response = &exchange.response;
        match &response.location {
            Some(location) => out.extend_from_slice(location),
            None => return write::joined(out, response.headers.get_all(Known::Location), b", "),
        }
        true
    }),
    read(
        "sent_http_connection",
        "The answer's Connection: keep-alive, close or upgrade.",
        |exchange, env, out| {
            out.extend_from_slice(match () {
                () if exchange.response.status == 101 => &b"upgrade"[..],
                () if keeps_alive(exchange, env) => b"keep-alive",
                () => b"close",
            });
            true
        },
    ),
    read("sent_http_keep_alive", "The answer's Keep-Alive.", |exchange, env, out| {
        let header_s = exchange.settings(env.config).core.keepalive.idle.header_s;
        match header_s {
            Some(seconds) if keeps_alive(exchange, env) => {
                out.extend_from_slice(b"timeout=");
                write::number(out, seconds);
                true
            }
            _ => false,
        }
    }),
    read("sent_http_transfer_encoding", "The answer's Transfer-Encoding.", |exchange, _, out| {
        let chunked = exchange.output.head_written() && exchange.output.framing == Framing::Chunked;
        out.extend_from_slice(if chunked { b"chunked" } else { b"" });
        chunked
    }),
];

/// Appends how much smaller a body has become, with nginx's rounding. Returns false if it has not this coding.
fn ratio(exchange: &Exchange, of: Coding, out: &mut Vec<u8>) -> bool {
    let Some(Ratio { coding, plain, encoded: encoded @ 1.. }) = exchange.output.ratio else { return false };
    if coding != of {
        return false;
    }
    let hundredths = (plain * 100 / encoded) + u64::from(plain * 1000 / encoded % 10 > 4);
    out.extend_from_slice(format!("{}.{:02}", hundredths / 100, hundredths % 100).as_bytes());
    true
}

pub(super) const FAMILIES: &[Family] = &[
    Family {
        prefix: "sent_http_",
        doc: "A field of the answer: $sent_http_cache_control is Cache-Control. Several are joined with commas.",
        get: |exchange, _, name, out| {
            write::joined(out, exchange.response.headers.find_all_underscored(name.as_bytes()), b", ")
        },
    },
    Family {
        prefix: "sent_trailer_",
        doc: "A field behind the answer's body.",
        get: |exchange, _, name, out| {
            write::joined(out, exchange.response.trailers.find_all_underscored(name.as_bytes()), b", ")
        },
    },
];

/// Writes `$status`: the error whose page is made comes before the status of what makes it (ngx_http_variable_status).
pub(crate) fn status(exchange: &Exchange) -> u16 {
    let response = &exchange.response;
    if exchange.output.head_written() && response.status != 0 {
        return response.status;
    }
    if let Some(forced) = response.forced_status {
        return forced;
    }
    match (response.error_status, response.status) {
        (0, 0) if exchange.request.head.version == Version::Http09 => 9,
        (0, status) | (status, _) => status,
    }
}

/// Before the head is written, what can be known of it.
fn keeps_alive(exchange: &Exchange, env: &Env<'_>) -> bool {
    if exchange.output.head_written() {
        return exchange.output.keep_alive;
    }
    let core = &exchange.settings(env.config).core;
    let head = &exchange.request.head;
    !exchange.response.close
        && core.keepalive.idle.timeout_ms > 0
        && http::framing::keep_alive(head.version, &head.headers)
}

fn limit_rate(exchange: &mut Exchange, env: &mut Env<'_>, out: &mut Vec<u8>) -> bool {
    write::number(out, crate::modules::core::limit_rate(exchange, env.config));
    true
}

/// A value that is no size changes nothing, as in nginx.
fn set_limit_rate(exchange: &mut Exchange, value: &[u8]) {
    if let Some(rate) = conf::value::parse_buffer_size(value) {
        exchange.route.limit_rate = Some(rate);
    }
}
