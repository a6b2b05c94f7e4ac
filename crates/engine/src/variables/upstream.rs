//! Variables about the upstream: what the tries of its peers came to.
//!
//! Lists over several tries are nginx's: `, ` between two tries, ` : ` where an internal redirect lies between them.

use super::{Family, Variable, read, write};
use crate::exchange::{Exchange, Try};
use crate::host::Env;
use crate::modules::proxy::cache::CacheRecord;
use http::Known;

pub(super) const VARIABLES: &[Variable] = &[
    read("upstream_addr", "The addresses of the peers that were tried.", |exchange, _, out| {
        list(exchange, out, |one, out| out.extend_from_slice(one.address.as_bytes()))
    }),
    read(
        "upstream_health",
        "pointsman's own: what `health_check` says of the peers now: `up`, `checking` or `unhealthy`; `-` if they are not checked.",
        |exchange, _, out| {
            list(exchange, out, |one, out| {
                let state = one.health.as_ref().map_or("-", |health| health.health().name());
                out.extend_from_slice(state.as_bytes());
            })
        },
    ),
    read("upstream_status", "The statuses of the peers' answers.", |exchange, _, out| {
        list(exchange, out, |one, out| match one.status {
            0 => out.push(b'-'),
            status => write::number(out, u64::from(status)),
        })
    }),
    read("upstream_connect_time", "How long connecting took, in seconds.", |exchange, _, out| {
        list(exchange, out, |one, out| time(one.connect_us, out))
    }),
    read(
        "upstream_header_time",
        "How long it took until the head was there, in seconds.",
        |exchange, _, out| list(exchange, out, |one, out| time(one.header_us, out)),
    ),
    read(
        "upstream_response_time",
        "How long it took until the answer was there, in seconds.",
        |exchange, _, out| list(exchange, out, |one, out| time(one.response_us, out)),
    ),
    read(
        "upstream_connect_us",
        "pointsman's own: as $upstream_connect_time, in microseconds.",
        |exchange, _, out| list(exchange, out, |one, out| microseconds(one.connect_us, out)),
    ),
    read(
        "upstream_header_us",
        "pointsman's own: as $upstream_header_time, in microseconds.",
        |exchange, _, out| list(exchange, out, |one, out| microseconds(one.header_us, out)),
    ),
    read(
        "upstream_response_us",
        "pointsman's own: as $upstream_response_time, in microseconds.",
        |exchange, _, out| list(exchange, out, |one, out| microseconds(one.response_us, out)),
    ),
    read("upstream_response_length", "How long the answers' bodies were.", |exchange, _, out| {
        list(exchange, out, |one, out| write::number(out, one.body_received))
    }),
    read("upstream_bytes_received", "How many bytes the peers sent.", |exchange, _, out| {
        list(exchange, out, |one, out| write::number(out, one.received))
    }),
    read("upstream_bytes_sent", "How many bytes were sent to the peers.", |exchange, _, out| {
        list(exchange, out, |one, out| write::number(out, one.sent))
    }),
    read("upstream_cache_status", "What the request has got of its proxy_cache.", |exchange, _, out| {
        let record = exchange.upstream.cache.as_ref();
        out.extend_from_slice(record.map_or(b"", |record| record.status.word().as_bytes()));
        record.is_some()
    }),
    read(
        "upstream_cache_last_modified",
        "The Last-Modified of the kept response that is to be fetched anew.",
        |exchange, env, out| {
            let modified_s = revalidated(exchange, env).and_then(|record| record.last_modified_s());
            out.extend_from_slice(modified_s.map(http::date::http_date).as_ref().map_or(b"", |date| date));
            modified_s.is_some()
        },
    ),
    read(
        "upstream_cache_etag",
        "The ETag of the kept response that is to be fetched anew.",
        |exchange, env, out| {
            let tag = revalidated(exchange, env).and_then(|record| record.etag());
            out.extend_from_slice(tag.unwrap_or_default());
            tag.is_some()
        },
    ),
    Variable {
        name: "proxy_host",
        doc: "Host and port as proxy_pass names them, unless it is set.",
        get: |exchange, _, out| {
            out.extend_from_slice(&exchange.upstream.proxy_host.text);
            exchange.upstream.proxy_host.is_known()
        },
        set: Some(|exchange, value| exchange.upstream.proxy_host.set(value)),
    },
    Variable {
        name: "proxy_port",
        doc: "The port that proxy_pass names, or its scheme's, unless it is set.",
        get: |exchange, _, out| {
            out.extend_from_slice(&exchange.upstream.proxy_port.text);
            exchange.upstream.proxy_port.is_known()
        },
        set: Some(|exchange, value| exchange.upstream.proxy_port.set(value)),
    },
];

pub(super) const FAMILIES: &[Family] = &[
    Family {
        prefix: "upstream_http_",
        doc: "A field of the last peer's answer. Several are joined with commas.",
        get: |exchange, _, name, out| {
            write::joined(out, exchange.upstream.headers.find_all_underscored(name.as_bytes()), b", ")
        },
    },
    Family {
        prefix: "upstream_trailer_",
        doc: "A field behind the body of the last peer's answer.",
        get: |exchange, _, name, out| {
            write::joined(out, exchange.upstream.trailers.find_all_underscored(name.as_bytes()), b", ")
        },
    },
    Family {
        prefix: "upstream_cookie_",
        doc: "A cookie that the last peer's answer sets.",
        get: |exchange, _, name, out| {
            let mut fields = exchange.upstream.headers.get_all(Known::SetCookie);
            match fields.find_map(|field| set_cookie(field, name.as_bytes())) {
                Some(value) => {
                    out.extend_from_slice(value);
                    true
                }
                None => false,
            }
        },
    },
];

/// Returns the record of a request whose upstream is to say whether what is kept is still good.
fn revalidated<'e>(exchange: &'e Exchange, env: &Env<'_>) -> Option<&'e CacheRecord> {
    let settings = &exchange.settings(env.config).proxy.cache;
    exchange.upstream.cache.as_deref().filter(|_| *settings.revalidate)
}

fn list(exchange: &Exchange, out: &mut Vec<u8>, write: fn(&Try, &mut Vec<u8>)) -> bool {
    for (place, one) in exchange.upstream.tries.iter().enumerate() {
        if place > 0 {
            out.extend_from_slice(if one.after_redirect { b" : " } else { b", " });
        }
        write(one, out);
    }
    !exchange.upstream.tries.is_empty()
}

fn time(time_us: Option<u64>, out: &mut Vec<u8>) {
    match time_us {
        Some(us) => write::seconds(out, us / 1000),
        None => out.push(b'-'),
    }
}

fn microseconds(time_us: Option<u64>, out: &mut Vec<u8>) {
    match time_us {
        Some(us) => write::number(out, us),
        None => out.push(b'-'),
    }
}

/// Returns the value of `name=value; …` (ngx_http_parse_set_cookie_lines).
fn set_cookie<'f>(field: &'f [u8], name: &[u8]) -> Option<&'f [u8]> {
    let (spelt, rest) = field.split_at_checked(name.len())?;
    if !spelt.eq_ignore_ascii_case(name) {
        return None;
    }
    let value = trim_start(trim_start(rest).strip_prefix(b"=")?);
    Some(&value[..memchr::memchr(b';', value).unwrap_or(value.len())])
}

fn trim_start(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|byte| **byte == b' ').count()..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_cookie_reads_set_cookie() {
        for (field, value) in [
            ("id=7; Path=/", Some("7")),
            ("ID = a b ;x", Some("a b ")),
            ("id=", Some("")),
            ("id", None),
            ("idx=7", None),
            ("x=1; id=7", None),
        ] {
            assert_eq!(set_cookie(field.as_bytes(), b"id"), value.map(str::as_bytes), "{field}");
        }
    }
}
