//! Directives that several families have, each a table that is written once: the macros take what the names begin with and the
//! [`crate::modules::proxy::PassKind`].

/// The directives of an answer's head, which all families have.
macro_rules! head_directives {
    ($prefix:literal, $kind:expr) => {{
        use crate::directive::{Args, Contexts, Directive};
        use crate::modules::proxy::directives::{hide_header, ignore_headers, read_buffer_size};
        const DIRECTIVES: &[Directive] = &[
            Directive::new(concat!($prefix, "_hide_header"), Contexts::HSL, Args::Exactly(1), "field", |b, d| {
                hide_header(d, &mut $kind.settings(b.settings()).response.hide)
            })
            .doc(
                "A field of the upstream's response that is not passed on, besides X-Accel-… and, except from \
                 application servers, Date, Server and X-Pad.",
            )
            .example(concat!($prefix, "_hide_header X-Powered-By;")),
            Directive::new(concat!($prefix, "_pass_header"), Contexts::HSL, Args::Exactly(1), "field", |b, d| {
                hide_header(d, &mut $kind.settings(b.settings()).response.pass)
            })
            .doc("A field of the upstream's response that is passed on although it is hidden by default.")
            .example(concat!($prefix, "_pass_header X-Accel-Redirect;")),
            Directive::new(concat!($prefix, "_ignore_headers"), Contexts::HSL, Args::AtLeast(1), "field ...", |b, d| {
                ignore_headers(b, d, $kind)
            })
            .doc(
                "Fields of the upstream's response that have no effect here: X-Accel-Redirect, X-Accel-Limit-Rate, \
                 X-Accel-Buffering, X-Accel-Charset; and, where responses are cached, X-Accel-Expires, Expires, \
                 Cache-Control, Set-Cookie and Vary.",
            )
            .example(concat!($prefix, "_ignore_headers X-Accel-Redirect;")),
            Directive::flag(concat!($prefix, "_intercept_errors"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).response.intercept_errors
            })
            .default("off")
            .doc("Whether error_page applies to statuses from the upstream.")
            .example(concat!($prefix, "_intercept_errors on;")),
            Directive::new(concat!($prefix, "_buffer_size"), Contexts::HSL, Args::Exactly(1), "size", |b, d| {
                read_buffer_size(b, d, $kind)
            })
            .default("4k")
            .doc("The size of the buffer for a response's head, which must fit into it; over HTTP/2, in its \
                 compressed form.")
            .example(concat!($prefix, "_buffer_size 8k;")),
        ];
        DIRECTIVES
    }};
}
pub(in crate::modules) use head_directives;

/// The directives of connections and further tries, which all families have. `$words` is a constant of
/// [`super::connection`]: the words of `…_next_upstream`.
macro_rules! connection_directives {
    ($prefix:literal, $kind:expr, $words:ident) => {{
        use crate::directive::{Args, Contexts, Directive};
        use crate::modules::proxy::directives::{$words, bind, next_upstream};
        const DIRECTIVES: &[Directive] = &[
            Directive::new(
                concat!($prefix, "_next_upstream"),
                Contexts::HSL,
                Args::AtLeast(1),
                $words,
                |b, d| next_upstream(b, d, $kind),
            )
            .default("error timeout")
            .doc(
                "Which failures lead to a try at another server: a failed or broken connection (error), a timeout, \
                 an invalid response (invalid_header), statuses; non_idempotent also retries POST, LOCK and PATCH \
                 that were sent; off retries nothing.",
            )
            .example(concat!($prefix, "_next_upstream error timeout http_503;")),
            Directive::number(concat!($prefix, "_next_upstream_tries"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).retry.tries
            })
            .default("0")
            .doc("The maximum number of tries, the first included; 0 is no limit.")
            .example(concat!($prefix, "_next_upstream_tries 2;")),
            Directive::time(concat!($prefix, "_next_upstream_timeout"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).retry.timeout_ms
            })
            .default("0")
            .doc("The time after which no further try is begun; 0 is no limit.")
            .example(concat!($prefix, "_next_upstream_timeout 10s;")),
            Directive::time(concat!($prefix, "_connect_timeout"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).connection.connect_timeout_ms
            })
            .default("60s")
            .doc("The longest time for connecting to the upstream.")
            .example(concat!($prefix, "_connect_timeout 5s;")),
            Directive::time(concat!($prefix, "_send_timeout"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).connection.send_timeout_ms
            })
            .default("60s")
            .doc("The longest time between two writes of a request to the upstream.")
            .example(concat!($prefix, "_send_timeout 30s;")),
            Directive::time(concat!($prefix, "_read_timeout"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).connection.read_timeout_ms
            })
            .default("60s")
            .doc("The longest time between two reads from the upstream.")
            .example(concat!($prefix, "_read_timeout 30s;")),
            Directive::flag(concat!($prefix, "_socket_keepalive"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).connection.socket_keepalive
            })
            .default("off")
            .doc("Whether the system probes idle connections to upstreams (SO_KEEPALIVE).")
            .example(concat!($prefix, "_socket_keepalive on;")),
            Directive::new(concat!($prefix, "_bind"), Contexts::HSL, Args::Between(1, 2), "address | off", |b, d| {
                bind(b, d, $kind)
            })
            .default("off")
            .doc(
                "The local address of connections to upstreams, with or without a port; may contain variables; off \
                 leaves it to the system. `transparent` is refused: it needs privileges that the process gives up.",
            )
            .example(concat!($prefix, "_bind 127.0.0.1;")),
        ];
        DIRECTIVES
    }};
}
pub(in crate::modules) use connection_directives;

/// The directives of bodies, of requests and of answers, which all families but that of gRPC have.
macro_rules! body_directives {
    ($prefix:literal, $kind:expr) => {{
        use crate::directive::{Args, Contexts, Directive};
        use crate::modules::proxy::directives::{buffers, dependent_size, limit_rate, temp_path};
        const DIRECTIVES: &[Directive] = &[
            Directive::flag(concat!($prefix, "_pass_request_headers"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).request.pass_headers
            })
            .default("on")
            .doc("Whether the client's header fields are passed on.")
            .example(concat!($prefix, "_pass_request_headers off;")),
            Directive::flag(concat!($prefix, "_pass_request_body"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).request.pass_body
            })
            .default("on")
            .doc("Whether the client's request body is passed on.")
            .example(concat!($prefix, "_pass_request_body off;")),
            Directive::flag(concat!($prefix, "_request_buffering"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).request.buffering
            })
            .default("on")
            .doc("Whether the request body is read completely before the request is sent to the upstream.")
            .example(concat!($prefix, "_request_buffering off;")),
            Directive::flag(concat!($prefix, "_force_ranges"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).response.force_ranges
            })
            .default("off")
            .doc("Whether a single byte range is served here, whatever the upstream says about ranges.")
            .example(concat!($prefix, "_force_ranges on;")),
            Directive::flag(concat!($prefix, "_ignore_client_abort"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).connection.ignore_client_abort
            })
            .default("off")
            .doc("Whether a request continues after its client has closed the connection.")
            .example(concat!($prefix, "_ignore_client_abort on;")),
            Directive::flag(concat!($prefix, "_buffering"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).buffers.buffering
            })
            .default("on")
            .doc(
                "Whether a response is read as fast as the upstream sends it, however slowly the client takes it. \
                 The upstream's X-Accel-Buffering field overrides this.",
            )
            .example(concat!($prefix, "_buffering off;")),
            Directive::new(
                concat!($prefix, "_buffers"),
                Contexts::HSL,
                Args::Exactly(2),
                "number size",
                |b, d| buffers(b, d, $kind),
            )
            .default("8 4k")
            .doc("The number and size of buffers for a response.")
            .example(concat!($prefix, "_buffers 8 16k;")),
            Directive::new(
                concat!($prefix, "_busy_buffers_size"),
                Contexts::HSL,
                Args::Exactly(1),
                "size",
                |b, d| dependent_size(b, d, $kind, |buffers| &mut buffers.busy_size),
            )
            .default("8k")
            .doc("How much of a response may be on its way to the client while more is read.")
            .example(concat!($prefix, "_busy_buffers_size 16k;")),
            Directive::new(
                concat!($prefix, "_max_temp_file_size"),
                Contexts::HSL,
                Args::Exactly(1),
                "size",
                |b, d| dependent_size(b, d, $kind, |buffers| &mut buffers.max_temp_file_size),
            )
            .default("1024m")
            .doc("How much of a response that the client has not taken yet may be written to a temporary file; 0 \
                 disables files.")
            .example(concat!($prefix, "_max_temp_file_size 0;")),
            Directive::new(
                concat!($prefix, "_temp_file_write_size"),
                Contexts::HSL,
                Args::Exactly(1),
                "size",
                |b, d| dependent_size(b, d, $kind, |buffers| &mut buffers.temp_file_write_size),
            )
            .default("8k")
            .doc("How much is written to the temporary file at a time.")
            .example(concat!($prefix, "_temp_file_write_size 16k;")),
            Directive::new(
                concat!($prefix, "_temp_path"),
                Contexts::HSL,
                Args::Between(1, 4),
                "path [level1 [level2 [level3]]]",
                |b, d| temp_path(b, d, $kind),
            )
            .default(concat!($prefix, "_temp"))
            .doc("The directory for temporary files. The files have no names, so the levels have no effect.")
            .example(concat!($prefix, "_temp_path ", $prefix, "_temp 1 2;")),
            Directive::new(
                concat!($prefix, "_limit_rate"),
                Contexts::HSL,
                Args::Exactly(1),
                "rate",
                |b, d| limit_rate(b, d, $kind),
            )
            .default("0")
            .doc("The rate in bytes per second at which a response is read from the upstream, with buffering; 0 is \
                 no limit.")
            .example(concat!($prefix, "_limit_rate 100k;")),
        ];
        DIRECTIVES
    }};
}
pub(in crate::modules) use body_directives;
