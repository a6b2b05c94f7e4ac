//! HTTP/2 to clients (ngx_http_v2_module): its directives. The settings are with those of connections, in `core`.
//!
//! Must never know a frame: `http::h2` does, and the server's connections.

use super::Module;
use crate::config::{Builder, invalid_value};
use crate::directive::{Apply, ApplyCode, Args, Contexts, Directive};
use conf::Diagnostic;

/// The module.
pub static MODULE: Module = Module::new("http2", &[DIRECTIVES, OBSOLETE]);

/// The largest window there is (RFC 9113, section 6.9.1).
const MAX_WINDOW: u64 = (1 << 31) - 1;

const DIRECTIVES: &[Directive] = &[
    Directive::flag("http2", Contexts::HS, |b| &mut b.settings().core.http2.enabled)
        .default("off")
        .doc(
            "Whether clients may speak HTTP/2: over TLS if they ask for it by ALPN, in clear if they begin with its \
             preface. The default server of an address decides for connections in clear, that of the name in the \
             handshake for those over TLS.",
        )
        .example("http2 on;"),
    Directive::number("http2_max_concurrent_streams", Contexts::HS, |b| &mut b.settings().core.http2.max_streams)
        .default("128")
        .doc("The maximum number of concurrent streams of a connection.")
        .example("http2_max_concurrent_streams 64;"),
    Directive::new("http2_body_preread_size", Contexts::HS, Args::Exactly(1), "size", |b, d| {
        let size = b.size(&d.args[0])?;
        if size > MAX_WINDOW {
            return Err(invalid_value(&d.args[0]).help("at most 2147483647"));
        }
        b.write(d, |s| &mut s.core.http2.preread_size, size)
    })
    .default("64k")
    .doc("How many bytes of a request body a client may send before anything reads it.")
    .example("http2_body_preread_size 128k;"),
    Directive::new("http2_chunk_size", Contexts::HSL, Args::Exactly(1), "size", |b, d| {
        let size = b.size(&d.args[0])?;
        if size == 0 {
            return Err(invalid_value(&d.args[0]).help("the size of a frame is at least one byte"));
        }
        b.write(d, |s| &mut s.core.http2.chunk_size, size)
    })
    .default("8k")
    .doc("The largest DATA frame; values above 16k count as 16k, which all clients accept.")
    .example("http2_chunk_size 16k;"),
    Directive::ignored("http2_recv_buffer_size", Contexts::HTTP, Apply::IgnoredSize)
        .default("256k")
        .doc("Has no effect: buffers are leased when needed.")
        .example("http2_recv_buffer_size 128k;"),
    Directive::ignored("http2_pool_size", Contexts::HS, Apply::IgnoredSize)
        .default("4k")
        .doc("Has no effect: there are no pools of memory for requests.")
        .example("http2_pool_size 4k;"),
    Directive::ignored("http2_streams_index_size", Contexts::HS, Apply::IgnoredNumber)
        .default("32")
        .doc("Has no effect: the table of streams grows as needed.")
        .example("http2_streams_index_size 64;"),
];

/// Returns a directive that nginx accepts and warns of.
const fn obsolete(
    name: &'static str,
    contexts: Contexts,
    syntax: &'static str,
    code: ApplyCode,
) -> Directive {
    Directive::new(name, contexts, Args::Exactly(1), syntax, code)
        .doc("Has no effect: obsolete since nginx 1.19.7 or 1.25.1; there is a warning, as in nginx.")
}

fn warn(b: &mut Builder<'_>, d: &conf::Directive, instead: &str) -> Result<(), Diagnostic> {
    let text = format!("the \"{}\" directive is obsolete, {instead}", d.name.text());
    b.diagnostics.push(Diagnostic::warn(d.name.span, text));
    Ok(())
}

fn use_buffers(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    warn(b, d, "use the \"large_client_header_buffers\" directive instead")
}

fn ignored(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    warn(b, d, "ignored")
}

const OBSOLETE: &[Directive] = &[
    obsolete("http2_idle_timeout", Contexts::HS, "time", |b, d| {
        warn(b, d, "use the \"keepalive_timeout\" directive instead")
    })
    .example("http2_idle_timeout 3m;"),
    obsolete("http2_recv_timeout", Contexts::HS, "time", |b, d| {
        warn(b, d, "use the \"client_header_timeout\" directive instead")
    })
    .example("http2_recv_timeout 30s;"),
    obsolete("http2_max_requests", Contexts::HS, "number", |b, d| {
        warn(b, d, "use the \"keepalive_requests\" directive instead")
    })
    .example("http2_max_requests 1000;"),
    obsolete("http2_max_field_size", Contexts::HS, "size", use_buffers).example("http2_max_field_size 4k;"),
    obsolete("http2_max_header_size", Contexts::HS, "size", use_buffers)
        .example("http2_max_header_size 16k;"),
    obsolete("http2_max_concurrent_pushes", Contexts::HS, "number", ignored)
        .example("http2_max_concurrent_pushes 10;"),
    obsolete("http2_push", Contexts::HSL, "uri | off", ignored).example("http2_push off;"),
    obsolete("http2_push_preload", Contexts::HSL, "on | off", ignored).example("http2_push_preload off;"),
];
