//! What may be set in http, server and location, whatever serves them.

use super::limits::flag;
use super::{InFileOnly, Keepalive, KeepaliveDisable, LingeringClose, Resolver, ServerTokens};
use crate::config::{Builder, invalid_choice, invalid_parameter, once};
use crate::directive::{Args, Contexts, Directive};
use conf::Diagnostic;
use std::net::{IpAddr, SocketAddr};

/// Sizes of nginx's own tables and pools. Ours size themselves, so that these lines change nothing.
pub(super) const SIZES: &[Directive] = &[
    sized("connection_pool_size", Contexts::HS, "connection_pool_size 512;"),
    sized("request_pool_size", Contexts::HS, "request_pool_size 4k;"),
    sized("server_names_hash_max_size", Contexts::HTTP, "server_names_hash_max_size 1024;"),
    sized("server_names_hash_bucket_size", Contexts::HTTP, "server_names_hash_bucket_size 128;"),
    sized("variables_hash_max_size", Contexts::HTTP, "variables_hash_max_size 2048;"),
    sized("variables_hash_bucket_size", Contexts::HTTP, "variables_hash_bucket_size 128;"),
];

const fn sized(name: &'static str, contexts: Contexts, example: &'static str) -> Directive {
    Directive {
        name,
        contexts,
        args: Args::Exactly(1),
        doc: "The size of a table or pool of nginx's; without effect here, where they size themselves.",
        example,
        apply: |b, d| b.size(&d.args[0]).map(|_| ()),
    }
}

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "internal",
        contexts: Contexts::LOCATION,
        args: Args::Exactly(0),
        doc: "The location is found by internal redirects alone; to clients it is 404.",
        example: "internal;",
        apply: |b, d| b.write(d, |s| &mut s.core.internal, true),
    },
    Directive {
        name: "keepalive_timeout",
        contexts: Contexts::HSL,
        args: Args::Between(1, 2),
        doc: "How long an idle client connection stays open; the second time is told to the client.",
        example: "keepalive_timeout 65s 60s;",
        apply: |b, d| {
            let timeout_ms = b.time_ms(&d.args[0])?;
            let header_s =
                d.args.get(1).map(|word| b.time_ms(word)).transpose()?.map(|ms| ms / 1000).filter(|s| *s > 0);
            b.write(d, |s| &mut s.core.keepalive.idle, Keepalive { timeout_ms, header_s })
        },
    },
    Directive {
        name: "keepalive_requests",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "How many requests one client connection may carry.",
        example: "keepalive_requests 1000;",
        apply: |b, d| {
            let count = b.number(&d.args[0])?;
            b.write(d, |s| &mut s.core.keepalive.requests, count)
        },
    },
    Directive {
        name: "keepalive_disable",
        contexts: Contexts::HSL,
        args: Args::AtLeast(1),
        doc: "Browsers whose connections are not kept after a POST (msie6) or at all (safari); none by name.",
        example: "keepalive_disable none;",
        apply: keepalive_disable,
    },
    Directive {
        name: "keepalive_min_timeout",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "How long an idle client connection is left open also when the worker process ends or makes room.",
        example: "keepalive_min_timeout 3s;",
        apply: |b, d| {
            let ms = b.time_ms(&d.args[0])?;
            b.write(d, |s| &mut s.core.keepalive.min_ms, ms)
        },
    },
    Directive {
        name: "keepalive_time",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "How long one client connection may be used.",
        example: "keepalive_time 1h;",
        apply: |b, d| {
            let ms = b.time_ms(&d.args[0])?;
            b.write(d, |s| &mut s.core.keepalive.time_ms, ms)
        },
    },
    Directive {
        name: "server_tokens",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "Whether the Server field and the error pages tell the version.",
        example: "server_tokens off;",
        apply: |b, d| {
            let tokens = match &**d.args[0].text() {
                b"on" | b"build" => ServerTokens::On,
                b"off" => ServerTokens::Off,
                _ => return Err(invalid_choice(&d.args[0]).mend("on or off")),
            };
            b.write(d, |s| &mut s.core.server_tokens, tokens)
        },
    },
    Directive {
        name: "chunked_transfer_encoding",
        contexts: Contexts::HSL,
        args: Args::Flag,
        doc: "Whether an answer of unknown length is chunked for HTTP/1.1 clients.",
        example: "chunked_transfer_encoding off;",
        apply: |b, d| flag(b, d, |s| &mut s.core.chunked_transfer_encoding),
    },
    Directive {
        name: "absolute_redirect",
        contexts: Contexts::HSL,
        args: Args::Flag,
        doc: "Whether redirects made here carry scheme and host.",
        example: "absolute_redirect off;",
        apply: |b, d| flag(b, d, |s| &mut s.core.absolute_redirect),
    },
    Directive {
        name: "server_name_in_redirect",
        contexts: Contexts::HSL,
        args: Args::Flag,
        doc: "Whether the host in redirects is the server's first name instead of the client's Host.",
        example: "server_name_in_redirect on;",
        apply: |b, d| flag(b, d, |s| &mut s.core.server_name_in_redirect),
    },
    Directive {
        name: "port_in_redirect",
        contexts: Contexts::HSL,
        args: Args::Flag,
        doc: "Whether redirects carry the port.",
        example: "port_in_redirect off;",
        apply: |b, d| flag(b, d, |s| &mut s.core.port_in_redirect),
    },
    Directive {
        name: "client_max_body_size",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "The largest request body; 0 is without limit.",
        example: "client_max_body_size 10m;",
        apply: |b, d| {
            let size = b.size(&d.args[0])?;
            b.write(d, |s| &mut s.core.body.max_size, size)
        },
    },
    Directive {
        name: "client_body_buffer_size",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "How much of a request body is kept in memory.",
        example: "client_body_buffer_size 64k;",
        apply: |b, d| {
            let size = b.size(&d.args[0])?;
            b.write(d, |s| &mut s.core.body.buffer_size, size)
        },
    },
    Directive {
        name: "client_body_timeout",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "The longest silence while a request body is read.",
        example: "client_body_timeout 30s;",
        apply: |b, d| {
            let ms = b.time_ms(&d.args[0])?;
            b.write(d, |s| &mut s.core.body.timeout_ms, ms)
        },
    },
    Directive {
        name: "client_body_temp_path",
        contexts: Contexts::HSL,
        args: Args::Between(1, 4),
        doc: "The directory for request bodies that do not fit in memory. One for the whole configuration.",
        example: "client_body_temp_path client_body_temp;",
        apply: |b, d| {
            let path = b.path(&d.args[0])?;
            once(b.draft.http.client_body_temp_path.write(Some(path)), d)
        },
    },
    Directive {
        name: "client_body_in_file_only",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "Whether every request body goes to a file: off; on, and the file stays; clean, and it goes with the request.",
        example: "client_body_in_file_only clean;",
        apply: |b, d| {
            let how = match &**d.args[0].text() {
                b"off" => InFileOnly::Off,
                b"on" => InFileOnly::On,
                b"clean" => InFileOnly::Clean,
                _ => return Err(invalid_choice(&d.args[0]).mend("off, on or clean")),
            };
            b.write(d, |s| &mut s.core.body.in_file_only, how)
        },
    },
    Directive {
        name: "client_body_in_single_buffer",
        contexts: Contexts::HSL,
        args: Args::Flag,
        doc: "Whether a request body is kept in one piece of memory; here it always is, while it fits.",
        example: "client_body_in_single_buffer on;",
        apply: |b, d| flag(b, d, |s| &mut s.core.body.in_single_buffer),
    },
    Directive {
        name: "send_timeout",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "The longest silence while an answer is sent.",
        example: "send_timeout 30s;",
        apply: |b, d| {
            let ms = b.time_ms(&d.args[0])?;
            b.write(d, |s| &mut s.core.send.timeout_ms, ms)
        },
    },
    Directive {
        name: "tcp_nodelay",
        contexts: Contexts::HSL,
        args: Args::Flag,
        doc: "Whether small segments are sent at once.",
        example: "tcp_nodelay off;",
        apply: |b, d| flag(b, d, |s| &mut s.core.send.tcp_nodelay),
    },
    Directive {
        name: "tcp_nopush",
        contexts: Contexts::HSL,
        args: Args::Flag,
        doc: "Whether the head goes out in one segment with the beginning of a file.",
        example: "tcp_nopush on;",
        apply: |b, d| flag(b, d, |s| &mut s.core.send.tcp_nopush),
    },
    Directive {
        name: "postpone_output",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "An answer is sent when so many bytes are there, or when it ends or is flushed.",
        example: "postpone_output 0;",
        apply: |b, d| {
            let size = b.size(&d.args[0])?;
            b.write(d, |s| &mut s.core.send.postpone_output, size)
        },
    },
    Directive {
        name: "sendfile_max_chunk",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "The most that one call sends of a file, so that one fast connection leaves room for the others.",
        example: "sendfile_max_chunk 512k;",
        apply: |b, d| {
            let size = b.size(&d.args[0])?;
            b.write(d, |s| &mut s.core.send.sendfile_max_chunk, size)
        },
    },
    Directive {
        name: "output_buffers",
        contexts: Contexts::HSL,
        args: Args::Exactly(2),
        doc: "In nginx, the buffers that files are read into where sendfile is off; here files need none or one.",
        example: "output_buffers 2 32k;",
        apply: |b, d| {
            b.number(&d.args[0])?;
            b.size(&d.args[1])?;
            Ok(())
        },
    },
    Directive {
        name: "reset_timedout_connection",
        contexts: Contexts::HSL,
        args: Args::Flag,
        doc: "Whether a connection that timed out is reset.",
        example: "reset_timedout_connection on;",
        apply: |b, d| flag(b, d, |s| &mut s.core.send.reset_timedout),
    },
    Directive {
        name: "lingering_close",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "Whether the rest of what a client sends is read before its connection is closed: off, on, always.",
        example: "lingering_close on;",
        apply: |b, d| {
            let how = match &**d.args[0].text() {
                b"off" => LingeringClose::Off,
                b"on" => LingeringClose::On,
                b"always" => LingeringClose::Always,
                _ => return Err(invalid_choice(&d.args[0]).mend("off, on or always")),
            };
            b.write(d, |s| &mut s.core.send.lingering_close, how)
        },
    },
    Directive {
        name: "lingering_time",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "For how long at most that is done.",
        example: "lingering_time 30s;",
        apply: |b, d| {
            let ms = b.time_ms(&d.args[0])?;
            b.write(d, |s| &mut s.core.send.lingering_time_ms, ms)
        },
    },
    Directive {
        name: "lingering_timeout",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "How long to wait for more of it.",
        example: "lingering_timeout 5s;",
        apply: |b, d| {
            let ms = b.time_ms(&d.args[0])?;
            b.write(d, |s| &mut s.core.send.lingering_timeout_ms, ms)
        },
    },
    Directive {
        name: "resolver",
        contexts: Contexts::HSL,
        args: Args::AtLeast(1),
        doc: "The name servers for host names that are known only at run time.",
        example: "resolver 127.0.0.53 valid=30s ipv6=off;",
        apply: resolver,
    },
    Directive {
        name: "resolver_timeout",
        contexts: Contexts::HSL,
        args: Args::Exactly(1),
        doc: "How long resolving a name may take.",
        example: "resolver_timeout 5s;",
        apply: |b, d| {
            let ms = b.time_ms(&d.args[0])?;
            b.write(d, |s| &mut s.core.resolver_timeout_ms, ms)
        },
    },
];

fn keepalive_disable(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let mut disabled = KeepaliveDisable { msie6: false, safari: false };
    for word in &d.args {
        match &**word.text() {
            b"none" if d.args.len() == 1 => {}
            b"msie6" => disabled.msie6 = true,
            b"safari" => disabled.safari = true,
            _ => return Err(invalid_choice(word).mend("none alone, or msie6 and safari")),
        }
    }
    b.write(d, |s| &mut s.core.keepalive.disable, disabled)
}

fn resolver(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let mut resolver = Resolver { ipv4: true, ipv6: true, ..Resolver::default() };
    for word in &d.args {
        let text = word.str()?;
        match text.split_once('=') {
            Some(("valid", value)) => {
                resolver.valid_ms = Some(
                    conf::value::parse_time_ms(value.as_bytes()).ok_or_else(|| invalid_parameter(word))?,
                );
            }
            Some(("ipv4", value @ ("on" | "off"))) => resolver.ipv4 = value == "on",
            Some(("ipv6", value @ ("on" | "off"))) => resolver.ipv6 = value == "on",
            Some(_) => return Err(invalid_parameter(word)),
            None => {
                let address = text.parse::<SocketAddr>().or_else(|_| {
                    text.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53))
                });
                let Ok(address) = address else {
                    return Err(Diagnostic::error(
                        word.span,
                        format!("host not found in resolver \"{text}\""),
                    )
                    .mend("name servers are written as addresses: 127.0.0.53 or [::1]:5353"));
                };
                resolver.servers.push(address);
            }
        }
    }
    if resolver.servers.is_empty() {
        return Err(Diagnostic::error(d.name.span, "no name servers defined"));
    }
    if !resolver.ipv4 && !resolver.ipv6 {
        return Err(Diagnostic::error(d.name.span, "\"ipv4\" and \"ipv6\" cannot both be \"off\""));
    }
    b.write(d, |s| &mut s.core.resolver, Some(resolver))
}
