//! `ngx.balancer`: what the script of a group says about the next peer of the request.
//!
//! Everything goes into the exchange's [`Balancing`]; the server carries it out once the script has ended.

use std::ffi::c_int;
use std::net::{IpAddr, SocketAddr};

use engine::modules::lua::balancer::{Balancing, ChosenPeer, ScriptKeepalive, Times};
use engine::modules::upstream::Url;

use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable, field};
use crate::phase::{Phase, Phases};
use crate::vm::frame;

const fn balancer(name: &'static str, doc: &'static str) -> Function {
    field(name, Phases::of(&[Phase::Balancer]), doc)
}

pub(super) static AREA: Area = Area {
    name: "balancer",
    functions: &[],
    // They are in a module: `require "ngx.balancer"`.
    fields: &[
        balancer(
            "ngx.balancer.set_current_peer",
            "Sets the peer of the next try: an address, a port, and the name to verify over TLS unless \
             `proxy_ssl_name` sets another one. Names are not resolved.",
        ),
        balancer(
            "ngx.balancer.set_more_tries",
            "Allows the given number of further tries if this one fails; at most `proxy_next_upstream_tries`, and \
             128.",
        ),
        balancer(
            "ngx.balancer.get_last_failure",
            "Returns how the last try failed, `next` (a response with 403 or 404) or `failed`, and its status; nil \
             before the first try.",
        ),
        balancer(
            "ngx.balancer.set_timeouts",
            "Sets the timeouts for connecting, sending and reading in seconds, for this try and later ones; nil is \
             the location's.",
        ),
        balancer("ngx.balancer.recreate_request", "Makes the request again before it is sent."),
        balancer(
            "ngx.balancer.enable_keepalive",
            "Keeps the connection after this request, by address, name and TLS settings, for up to the given number \
             of seconds (by default 60) and requests (by default 100); 0 is no limit.",
        ),
        balancer(
            "ngx.balancer.set_upstream_tls",
            "Connects to the peer over TLS, or without it if the argument is false or 0.",
        ),
        balancer(
            "ngx.balancer.bind_to_local_addr",
            "Connects from this local address, which may include a port.",
        ),
    ],
    source: include_str!("../lua/balancer.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[],
};

#[repr(C)]
struct Functions {
    is_proxied: unsafe extern "C" fn(*mut Bridge) -> c_int,
    set_peer: unsafe extern "C" fn(*mut Bridge, *const u8, usize, c_int, *const u8, usize) -> c_int,
    more_tries: unsafe extern "C" fn(*mut Bridge, c_int) -> c_int,
    last_failure: unsafe extern "C" fn(*mut Bridge) -> c_int,
    set_times: unsafe extern "C" fn(*mut Bridge, f64, f64, f64),
    keepalive: unsafe extern "C" fn(*mut Bridge, f64, f64) -> c_int,
    recreate: unsafe extern "C" fn(*mut Bridge),
    set_tls: unsafe extern "C" fn(*mut Bridge, c_int) -> c_int,
    bind: unsafe extern "C" fn(*mut Bridge, *const u8, usize) -> c_int,
}

static FUNCTIONS: Functions = Functions {
    is_proxied,
    set_peer,
    more_tries,
    last_failure,
    set_times,
    keepalive,
    recreate,
    set_tls,
    bind,
};

/// Returns what the script of the request that runs says.
///
/// # Safety
/// As for [`frame::request`].
unsafe fn balancing<'a>(bridge: *mut Bridge) -> Option<&'a mut Balancing> {
    // SAFETY: the caller vouches for it.
    unsafe { frame::request(bridge)?.exchange.script.balancing.as_deref_mut() }
}

/// Returns 1 if the request is with an upstream, or was.
unsafe extern "C" fn is_proxied(bridge: *mut Bridge) -> c_int {
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; so for all functions here.
    unsafe { frame::request(bridge) }
        .map_or(0, |request| c_int::from(!request.exchange.upstream.tries.is_empty()))
}

/// Returns 1, or 0 with the error in the bridge.
unsafe extern "C" fn set_peer(
    bridge: *mut Bridge,
    text: *const u8,
    len: usize,
    port: c_int,
    host: *const u8,
    host_len: usize,
) -> c_int {
    // SAFETY: see `is_proxied`; the strings live during the call.
    let (Some(balancing), text, host) = (unsafe { (balancing(bridge), arg(text, len), arg(host, host_len)) })
    else {
        return 0;
    };
    // nginx takes the port as the C type has it.
    let chosen = match Url::parse(text, port as u16, false) {
        Ok(url) => url.address().ok_or("no host allowed"),
        Err(fault) => Err(fault),
    };
    match chosen {
        Ok(address) => {
            balancing.choice.peer = Some(ChosenPeer { address, host: host.to_vec() });
            1
        }
        Err(fault) => {
            // SAFETY: see `is_proxied`.
            unsafe { (*bridge).answer(fault.as_bytes()) };
            0
        }
    }
}

/// Returns 1 if so many tries are more than are allowed.
unsafe extern "C" fn more_tries(bridge: *mut Bridge, count: c_int) -> c_int {
    // SAFETY: see `is_proxied`.
    unsafe { balancing(bridge) }.map_or(0, |balancing| c_int::from(!balancing.ask_for_tries(count)))
}

/// Returns ngx_lua's number for the way in which the last try failed, and puts its status into the bridge; 0 if none has.
unsafe extern "C" fn last_failure(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `is_proxied`.
    let Some(request) = (unsafe { frame::request(bridge) }) else { return 0 };
    let status = request.exchange.upstream.tries.last().map_or(0, |last| last.status);
    // SAFETY: as above.
    unsafe { (*bridge).number = f64::from(status) };
    let failure = request.exchange.script.balancing.as_deref().and_then(|balancing| balancing.last_failure);
    failure.map_or(0, |failure| failure as c_int)
}

/// Times in ms; what is not positive stays as it was.
unsafe extern "C" fn set_times(bridge: *mut Bridge, connect: f64, send: f64, read: f64) {
    // SAFETY: see `is_proxied`.
    let Some(balancing) = (unsafe { balancing(bridge) }) else { return };
    let set = |ms: f64, before: Option<u64>| if ms >= 1.0 { Some(ms as u64) } else { before };
    let Times { connect_ms, send_ms, read_ms } = balancing.times;
    balancing.times = Times {
        connect_ms: set(connect, connect_ms),
        send_ms: set(send, send_ms),
        read_ms: set(read, read_ms),
    };
}

/// Returns 0 if no peer is chosen yet.
unsafe extern "C" fn keepalive(bridge: *mut Bridge, idle_ms: f64, max_requests: f64) -> c_int {
    // SAFETY: see `is_proxied`.
    let Some(balancing) = (unsafe { balancing(bridge) }) else { return 0 };
    if balancing.choice.peer.is_none() {
        return 0;
    }
    let how = ScriptKeepalive { idle_ms: idle_ms as u64, max_requests: max_requests as u32 };
    balancing.choice.keepalive = Some(how);
    1
}

unsafe extern "C" fn recreate(bridge: *mut Bridge) {
    // SAFETY: see `is_proxied`.
    if let Some(balancing) = unsafe { balancing(bridge) } {
        balancing.recreate = true;
    }
}

/// Returns 0 if the location has no settings for TLS.
unsafe extern "C" fn set_tls(bridge: *mut Bridge, on: c_int) -> c_int {
    // SAFETY: see `is_proxied`.
    let Some(balancing) = (unsafe { balancing(bridge) }) else { return 0 };
    if on != 0 && !balancing.has_tls {
        return 0;
    }
    balancing.over_tls = Some(on != 0);
    1
}

/// Returns 0 for what is no address.
unsafe extern "C" fn bind(bridge: *mut Bridge, text: *const u8, len: usize) -> c_int {
    // SAFETY: see `is_proxied`; the string lives during the call.
    let (Some(balancing), text) = (unsafe { (balancing(bridge), arg(text, len)) }) else { return 0 };
    let Ok(text) = std::str::from_utf8(text) else { return 0 };
    let alone = || text.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    let address = text.parse::<SocketAddr>().or_else(|_| alone());
    if let Ok(address) = address {
        balancing.local = Some(address);
    }
    c_int::from(address.is_ok())
}
