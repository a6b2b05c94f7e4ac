//! Variables about the server itself: time, process, counters. The same for every request of a moment.

use super::{Variable, read, write};

/// The nginx whose behaviour is followed.
pub const NGINX_VERSION: &str = "1.22.1";

pub(super) const VARIABLES: &[Variable] = &[
    read("msec", "The time in seconds since the epoch, with milliseconds.", |_, env, out| {
        write::seconds(out, env.host.now().epoch_ms());
        true
    }),
    read("time_local", "The local time as the common log format has it.", |_, env, out| {
        let now = env.host.now();
        out.extend_from_slice(&http::date::present_log_time(now.epoch_s(), now.utc_offset_s));
        true
    }),
    read("time_iso8601", "The local time as ISO 8601 has it.", |_, env, out| {
        let now = env.host.now();
        out.extend_from_slice(&http::date::iso8601(now.epoch_s(), now.utc_offset_s));
        true
    }),
    read("pid", "The worker process's number.", |_, env, out| {
        write::number(out, u64::from(env.host.pid()));
        true
    }),
    read("hostname", "The machine's name.", |_, env, out| {
        out.extend_from_slice(env.host.hostname());
        true
    }),
    read("nginx_version", "The version of nginx whose behaviour is followed.", |_, _, out| {
        out.extend_from_slice(NGINX_VERSION.as_bytes());
        true
    }),
    read("connections_active", "Client connections open now, the idle ones included.", |_, env, out| {
        write::number(out, env.host.counters().active);
        true
    }),
    read("connections_reading", "Connections whose request head is being read.", |_, env, out| {
        write::number(out, env.host.counters().reading);
        true
    }),
    read("connections_writing", "Connections being answered.", |_, env, out| {
        write::number(out, env.host.counters().writing);
        true
    }),
    read("connections_waiting", "Connections that wait for a next request.", |_, env, out| {
        write::number(out, env.host.counters().waiting);
        true
    }),
];
