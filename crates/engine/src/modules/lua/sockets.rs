//! Settings of sockets that scripts open, and their directives.

use crate::directive::{Contexts, Directive};
use crate::setting::settings;

settings! {
    /// Settings of one level.
    pub struct SocketSettings {
        /// `lua_socket_connect_timeout`.
        pub connect_timeout_ms: u64 = 60_000,
        /// `lua_socket_send_timeout`.
        pub send_timeout_ms: u64 = 60_000,
        /// `lua_socket_read_timeout`.
        pub read_timeout_ms: u64 = 60_000,
        /// `lua_socket_keepalive_timeout`.
        pub keepalive_timeout_ms: u64 = 60_000,
        /// `lua_socket_pool_size`.
        pub pool_size: u64 = 30,
        /// `lua_socket_buffer_size`.
        pub buffer_size: u64 = 4096,
        /// `lua_socket_send_lowat`; it has no effect.
        pub send_lowat: u64 = 0,
        /// `lua_socket_log_errors`.
        pub log_errors: bool = true,
    }
}

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::time("lua_socket_connect_timeout", Contexts::HSLI, |b| {
        &mut b.settings().lua.sockets.connect_timeout_ms
    })
    .default("60s")
    .doc("How long a script's socket waits for its connection, unless the script sets another time.")
    .example("lua_socket_connect_timeout 3s;"),
    Directive::time("lua_socket_send_timeout", Contexts::HSLI, |b| {
        &mut b.settings().lua.sockets.send_timeout_ms
    })
    .default("60s")
    .doc("How long a script's socket may wait between two writes.")
    .example("lua_socket_send_timeout 3s;"),
    Directive::time("lua_socket_read_timeout", Contexts::HSLI, |b| {
        &mut b.settings().lua.sockets.read_timeout_ms
    })
    .default("60s")
    .doc("How long a script's socket may wait between two reads.")
    .example("lua_socket_read_timeout 3s;"),
    Directive::time("lua_socket_keepalive_timeout", Contexts::HSLI, |b| {
        &mut b.settings().lua.sockets.keepalive_timeout_ms
    })
    .default("60s")
    .doc("How long an idle connection stays in its pool (`setkeepalive`); 0 is no limit.")
    .example("lua_socket_keepalive_timeout 10s;"),
    Directive::number("lua_socket_pool_size", Contexts::HSLI, |b| &mut b.settings().lua.sockets.pool_size)
        .default("30")
        .doc("The maximum number of idle connections in a pool of scripts' sockets, in each worker thread.")
        .example("lua_socket_pool_size 100;"),
    Directive::size("lua_socket_buffer_size", Contexts::HSLI, |b| &mut b.settings().lua.sockets.buffer_size)
        .default("4k")
        .doc("How much a script's socket reads at a time.")
        .example("lua_socket_buffer_size 16k;"),
    Directive::size("lua_socket_send_lowat", Contexts::HSLI, |b| &mut b.settings().lua.sockets.send_lowat)
        .default("0")
        .doc("Has no effect: on Linux, it has none in nginx either.")
        .example("lua_socket_send_lowat 0;"),
    Directive::flag("lua_socket_log_errors", Contexts::HSLI, |b| &mut b.settings().lua.sockets.log_errors)
        .default("on")
        .doc("Whether socket errors of scripts are logged; the script gets them either way.")
        .example("lua_socket_log_errors off;"),
];
