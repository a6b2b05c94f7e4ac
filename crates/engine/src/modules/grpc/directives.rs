//! The directives of the module, those of TLS apart.

use crate::directive::{Args, Contexts, Directive};
use crate::modules::proxy::{
    PassKind, hide_header, ignore_headers, next_upstream, read_buffer_size, read_pass, set_header,
};

/// See the module.
pub(super) const GRPC: &[Directive] = &[
    Directive::new(
        "grpc_pass",
        Contexts::LOCATION.or(Contexts::LOCATION_IF),
        Args::Exactly(1),
        "address",
        |b, d| read_pass(b, d, PassKind::Grpc),
    )
    .doc(
        "Where gRPC requests go: a group, host:port or unix:/path, perhaps behind grpc:// or, for TLS, grpcs://; or all of it in \
         variables. Bodies and trailers are passed on both ways as they come.",
    )
    .example("grpc_pass grpc://blue;"),
    Directive::new("grpc_set_header", Contexts::HSL, Args::Exactly(2), "field value", |b, d| {
        set_header(b, d, PassKind::Grpc)
    })
    .doc(
        "A field sent to the gRPC server, in the place of the client's; an empty value sends none, and `Host` sets \
         :authority. Fields written at one level replace all of the outer one's.",
    )
    .example("grpc_set_header X-Real-IP $remote_addr;"),
    Directive::new("grpc_hide_header", Contexts::HSL, Args::Exactly(1), "field", |b, d| {
        hide_header(d, &mut b.settings().grpc.0.response.hide)
    })
    .doc("A field of the gRPC server, in its head or its trailers, that is not passed on.")
    .example("grpc_hide_header X-Powered-By;"),
    Directive::new("grpc_pass_header", Contexts::HSL, Args::Exactly(1), "field", |b, d| {
        hide_header(d, &mut b.settings().grpc.0.response.pass)
    })
    .doc("A field of the gRPC server that is passed on although it is hidden by default.")
    .example("grpc_pass_header Server;"),
    Directive::new("grpc_ignore_headers", Contexts::HSL, Args::AtLeast(1), "field ...", |b, d| {
        ignore_headers(b, d, PassKind::Grpc)
    })
    .doc("Fields of the gRPC server that are passed on and not heeded; see proxy_ignore_headers.")
    .example("grpc_ignore_headers X-Accel-Redirect;"),
    Directive::flag("grpc_intercept_errors", Contexts::HSL, |b| {
        &mut b.settings().grpc.0.response.intercept_errors
    })
    .default("off")
    .doc("Whether error_page is applied to the gRPC server's HTTP statuses.")
    .example("grpc_intercept_errors on;"),
    Directive::new("grpc_buffer_size", Contexts::HSL, Args::Exactly(1), "size", |b, d| {
        read_buffer_size(b, d, PassKind::Grpc)
    })
    .default("4k")
    .doc("The largest head of an answer, compressed as it comes.")
    .example("grpc_buffer_size 8k;"),
    Directive::time("grpc_connect_timeout", Contexts::HSL, |b| {
        &mut b.settings().grpc.0.connection.connect_timeout_ms
    })
    .default("60s")
    .doc("How long connecting may take.")
    .example("grpc_connect_timeout 5s;"),
    Directive::time("grpc_send_timeout", Contexts::HSL, |b| {
        &mut b.settings().grpc.0.connection.send_timeout_ms
    })
    .default("60s")
    .doc("The longest time in which the gRPC server takes nothing of a request that is there to be sent.")
    .example("grpc_send_timeout 30s;"),
    Directive::time("grpc_read_timeout", Contexts::HSL, |b| {
        &mut b.settings().grpc.0.connection.read_timeout_ms
    })
    .default("60s")
    .doc("The longest silence between two reads from the gRPC server. A stream that may rest for longer needs more.")
    .example("grpc_read_timeout 1h;"),
    Directive::flag("grpc_socket_keepalive", Contexts::HSL, |b| {
        &mut b.settings().grpc.0.connection.socket_keepalive
    })
    .default("off")
    .doc("Whether the system probes idle connections to gRPC servers (SO_KEEPALIVE).")
    .example("grpc_socket_keepalive on;"),
    Directive::new(
        "grpc_next_upstream",
        Contexts::HSL,
        Args::AtLeast(1),
        "error | timeout | invalid_header | http_500 | http_502 | http_503 | http_504 | \
         http_403 | http_404 | http_429 | non_idempotent | off ...",
        |b, d| next_upstream(b, d, PassKind::Grpc),
    )
    .default("error timeout")
    .doc(
        "Which failures lead to another try; see proxy_next_upstream. gRPC calls are POST requests, so that one that was \
         sent goes to another server only with non_idempotent.",
    )
    .example("grpc_next_upstream error timeout non_idempotent;"),
    Directive::number("grpc_next_upstream_tries", Contexts::HSL, |b| &mut b.settings().grpc.0.retry.tries)
        .default("0")
        .doc("How many tries there may be, the first included; 0 is as many as servers.")
        .example("grpc_next_upstream_tries 2;"),
    Directive::time("grpc_next_upstream_timeout", Contexts::HSL, |b| {
        &mut b.settings().grpc.0.retry.timeout_ms
    })
    .default("0")
    .doc("The time after which no other try is begun; 0 is without limit.")
    .example("grpc_next_upstream_timeout 10s;"),
];
