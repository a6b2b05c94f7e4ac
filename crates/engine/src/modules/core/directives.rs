//! Settings of http, server and location that apply whatever serves them.

use super::{InFileOnly, Keepalive, KeepaliveDisable, LingeringClose, Resolver, ServerTokens};
use crate::config::{Builder, invalid_choice, invalid_parameter, once};
use crate::directive::{Apply, Args, Contexts, Directive};
use conf::Diagnostic;
use std::net::{IpAddr, SocketAddr};

/// Sizes of nginx's own tables and pools. Ours grow as needed, so that these lines change nothing.
pub(super) const SIZES: &[Directive] = &[
    pool_size("connection_pool_size", Contexts::HS).default("512").example("connection_pool_size 512;"),
    pool_size("request_pool_size", Contexts::HS).default("4k").example("request_pool_size 4k;"),
    pool_size("server_names_hash_max_size", Contexts::HTTP)
        .default("512")
        .example("server_names_hash_max_size 1024;"),
    pool_size("server_names_hash_bucket_size", Contexts::HTTP)
        .default("64")
        .example("server_names_hash_bucket_size 128;"),
    pool_size("variables_hash_max_size", Contexts::HTTP)
        .default("1024")
        .example("variables_hash_max_size 2048;"),
    pool_size("variables_hash_bucket_size", Contexts::HTTP)
        .default("64")
        .example("variables_hash_bucket_size 128;"),
];

const fn pool_size(name: &'static str, contexts: Contexts) -> Directive {
    Directive::ignored(name, contexts, Apply::IgnoredSize)
        .doc("Has no effect: tables and pools grow as they need to.")
}

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::new("internal", Contexts::LOCATION, Args::Exactly(0), "", |b, d| {
        b.write(d, |s| &mut s.core.internal, true)
    })
    .doc("The location is found by internal redirects alone; to clients it is 404.")
    .example("internal;"),
    Directive::new(
        "keepalive_timeout",
        Contexts::HSL,
        Args::Between(1, 2),
        "timeout [header_timeout]",
        |b, d| {
            let timeout_ms = b.time_ms(&d.args[0])?;
            let header_s =
                d.args.get(1).map(|word| b.time_ms(word)).transpose()?.map(|ms| ms / 1000).filter(|s| *s > 0);
            b.write(d, |s| &mut s.core.keepalive.idle, Keepalive { timeout_ms, header_s })
        },
    )
    .default("75s")
    .doc(
        "How long an idle client connection stays open; the second value is sent to the client in the Keep-Alive \
         field.",
    )
    .example("keepalive_timeout 65s 60s;"),
    Directive::number("keepalive_requests", Contexts::HSL, |b| &mut b.settings().core.keepalive.requests)
        .default("1000")
        .doc("The maximum number of requests on one client connection.")
        .example("keepalive_requests 1000;"),
    Directive::new(
        "keepalive_disable",
        Contexts::HSL,
        Args::AtLeast(1),
        "none | browser ...",
        keepalive_disable,
    )
    .default("msie6")
    .doc(
        "Browsers whose connections are not kept alive after a POST (msie6) or at all (safari); `none` disables \
         this.",
    )
    .example("keepalive_disable none;"),
    Directive::time("keepalive_min_timeout", Contexts::HSL, |b| &mut b.settings().core.keepalive.min_ms)
        .default("0")
        .doc(
            "How long an idle client connection stays open even if the worker process ends or needs its slot.",
        )
        .example("keepalive_min_timeout 3s;"),
    Directive::time("keepalive_time", Contexts::HSL, |b| &mut b.settings().core.keepalive.time_ms)
        .default("1h")
        .doc("The maximum time for which one client connection is used.")
        .example("keepalive_time 1h;"),
    Directive::new("server_tokens", Contexts::HSL, Args::Exactly(1), "on | off | build", |b, d| {
        let tokens = match &**d.args[0].text() {
            b"on" | b"build" => ServerTokens::On,
            b"off" => ServerTokens::Off,
            _ => return Err(invalid_choice(&d.args[0]).help("on or off")),
        };
        b.write(d, |s| &mut s.core.server_tokens, tokens)
    })
    .default("on")
    .doc("Whether the Server field and the error pages show the version.")
    .example("server_tokens off;"),
    Directive::flag("chunked_transfer_encoding", Contexts::HSL, |b| {
        &mut b.settings().core.chunked_transfer_encoding
    })
    .default("on")
    .doc("Whether responses of unknown length use chunked transfer encoding for HTTP/1.1 clients.")
    .example("chunked_transfer_encoding off;"),
    Directive::flag("log_subrequest", Contexts::HSL, |b| &mut b.settings().core.log_subrequest)
        .default("off")
        .doc("Whether subrequests (`auth_request`, `mirror`, `ngx.location.capture`) are logged.")
        .example("log_subrequest on;"),
    Directive::flag("absolute_redirect", Contexts::HSL, |b| &mut b.settings().core.absolute_redirect)
        .default("on")
        .doc("Whether redirects that the server generates include scheme and host.")
        .example("absolute_redirect off;"),
    Directive::flag("server_name_in_redirect", Contexts::HSL, |b| {
        &mut b.settings().core.server_name_in_redirect
    })
    .default("off")
    .doc(
        "Whether the host in redirects is the server's first name instead of the client's \
         Host.",
    )
    .example("server_name_in_redirect on;"),
    Directive::flag("port_in_redirect", Contexts::HSL, |b| &mut b.settings().core.port_in_redirect)
        .default("on")
        .doc("Whether redirects include the port.")
        .example("port_in_redirect off;"),
    Directive::size("client_max_body_size", Contexts::HSL, |b| &mut b.settings().core.body.max_size)
        .default("1m")
        .doc("The largest request body; 0 is without limit.")
        .example("client_max_body_size 10m;"),
    Directive::size("client_body_buffer_size", Contexts::HSL, |b| &mut b.settings().core.body.buffer_size)
        .default("16k")
        .doc("How much of a request body is kept in memory.")
        .example("client_body_buffer_size 64k;"),
    Directive::time("client_body_timeout", Contexts::HSL, |b| &mut b.settings().core.body.timeout_ms)
        .default("60s")
        .doc("The longest time between two reads of a request body.")
        .example("client_body_timeout 30s;"),
    Directive::new(
        "client_body_temp_path",
        Contexts::HSL,
        Args::Between(1, 4),
        "path [level1 [level2 [level3]]]",
        |b, d| {
            let path = b.path(&d.args[0])?;
            once(b.draft.http.client_body_temp_path.write(Some(path)), d)
        },
    )
    .default("client_body_temp")
    .doc(
        "The directory for request bodies that do not fit in memory. One for the whole \
         configuration.",
    )
    .example("client_body_temp_path client_body_temp;"),
    Directive::new(
        "client_body_in_file_only",
        Contexts::HSL,
        Args::Exactly(1),
        "on | clean | off",
        |b, d| {
            let how = match &**d.args[0].text() {
                b"off" => InFileOnly::Off,
                b"on" => InFileOnly::On,
                b"clean" => InFileOnly::Clean,
                _ => return Err(invalid_choice(&d.args[0]).help("off, on or clean")),
            };
            b.write(d, |s| &mut s.core.body.in_file_only, how)
        },
    )
    .default("off")
    .doc(
        "Whether every request body is written to a file: off; on keeps the file; clean removes it with the request.",
    )
    .example("client_body_in_file_only clean;"),
    Directive::flag("client_body_in_single_buffer", Contexts::HSL, |b| {
        &mut b.settings().core.body.in_single_buffer
    })
    .default("off")
    .doc(
        "Whether a request body is kept in a single buffer; here it always is, if it fits.",
    )
    .example("client_body_in_single_buffer on;"),
    Directive::time("send_timeout", Contexts::HSL, |b| &mut b.settings().core.send.timeout_ms)
        .default("60s")
        .doc("The longest time between two writes of a response.")
        .example("send_timeout 30s;"),
    Directive::flag("tcp_nodelay", Contexts::HSL, |b| &mut b.settings().core.send.tcp_nodelay)
        .default("on")
        .doc("Whether small segments are sent at once.")
        .example("tcp_nodelay off;"),
    Directive::flag("tcp_nopush", Contexts::HSL, |b| &mut b.settings().core.send.tcp_nopush)
        .default("off")
        .doc("Whether the response head is sent in one segment with the beginning of a file.")
        .example("tcp_nopush on;"),
    Directive::size("postpone_output", Contexts::HSL, |b| &mut b.settings().core.send.postpone_output)
        .default("1460")
        .doc("A response is sent once this many bytes have been collected, or when it ends or is flushed.")
        .example("postpone_output 0;"),
    Directive::size("sendfile_max_chunk", Contexts::HSL, |b| &mut b.settings().core.send.sendfile_max_chunk)
        .default("2m")
        .doc(
            "The most that one call sends of a file, so that one fast connection does not hold up the others.",
        )
        .example("sendfile_max_chunk 512k;"),
    Directive::new("output_buffers", Contexts::HSL, Args::Exactly(2), "number size", |b, d| {
        b.number(&d.args[0])?;
        b.size(&d.args[1])?;
        Ok(())
    })
    .default("2 32k")
    .doc(
        "In nginx, the buffers for reading files where sendfile is off; here at most one is needed.",
    )
    .example("output_buffers 2 32k;"),
    Directive::flag("reset_timedout_connection", Contexts::HSL, |b| {
        &mut b.settings().core.send.reset_timedout
    })
    .default("off")
    .doc("Whether a connection that timed out is reset.")
    .example("reset_timedout_connection on;"),
    Directive::new("early_hints", Contexts::HSL, Args::AtLeast(1), "string ...", |b, d| {
        for word in &d.args {
            let template = b.template(word)?;
            b.settings().core.send.early_hints.push(template);
        }
        Ok(())
    })
    .doc(
        "If any of the strings is neither empty nor 0, an upstream's interim answer 103 (Early Hints) goes to clients of HTTP/1.1 \
         and HTTP/2.",
    )
    .example("early_hints $http_sec_fetch_mode;"),
    Directive::new("lingering_close", Contexts::HSL, Args::Exactly(1), "off | on | always", |b, d| {
        let how = match &**d.args[0].text() {
            b"off" => LingeringClose::Off,
            b"on" => LingeringClose::On,
            b"always" => LingeringClose::Always,
            _ => return Err(invalid_choice(&d.args[0]).help("off, on or always")),
        };
        b.write(d, |s| &mut s.core.send.lingering_close, how)
    })
    .default("on")
    .doc(
        "Whether a client's remaining data is read before its connection is closed: off, on (if there may be any), \
         always.",
    )
    .example("lingering_close on;"),
    Directive::time("lingering_time", Contexts::HSL, |b| &mut b.settings().core.send.lingering_time_ms)
        .default("30s")
        .doc("The longest time for which a client's remaining data is read before its connection is closed.")
        .example("lingering_time 30s;"),
    Directive::time("lingering_timeout", Contexts::HSL, |b| &mut b.settings().core.send.lingering_timeout_ms)
        .default("5s")
        .doc("How long to wait for more of a client's remaining data before its connection is closed.")
        .example("lingering_timeout 5s;"),
    Directive::new(
        "resolver",
        Contexts::HSL,
        Args::AtLeast(1),
        "address ... [valid=time] [ipv4=on|off] [ipv6=on|off]",
        resolver,
    )
    .doc("The name servers that resolve host names at run time.")
    .example("resolver 127.0.0.53 valid=30s ipv6=off;"),
    Directive::time("resolver_timeout", Contexts::HSL, |b| &mut b.settings().core.resolver_timeout_ms)
        .default("30s")
        .doc("How long resolving a name may take.")
        .example("resolver_timeout 5s;"),
];

fn keepalive_disable(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let mut disabled = KeepaliveDisable { msie6: false, safari: false };
    for word in &d.args {
        match &**word.text() {
            b"none" if d.args.len() == 1 => {}
            b"msie6" => disabled.msie6 = true,
            b"safari" => disabled.safari = true,
            _ => return Err(invalid_choice(word).help("none alone, or msie6 and safari")),
        }
    }
    b.write(d, |s| &mut s.core.keepalive.disable, disabled)
}

fn resolver(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    let resolver = read_resolver(d)?;
    b.write(d, |s| &mut s.core.resolver, Some(resolver))
}

/// Reads the arguments of `resolver`, which an `upstream {}` may have too.
pub(crate) fn read_resolver(d: &conf::Directive) -> Result<Resolver, Diagnostic> {
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
                    .help("name servers are written as addresses: 127.0.0.53 or [::1]:5353"));
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
    Ok(resolver)
}
