//! The module `ngx.upstream` (that of lua-upstream-nginx-module): groups, their servers, and orders on these.

use std::ffi::c_int;
use std::rc::Rc;

use engine::Effect;
use engine::host::ServerChange;
use engine::modules::control::TOO_EARLY;
use engine::modules::upstream::Origin;
use engine::network::Waiting;
use mlua_sys as ffi;
use mlua_sys::lua_State;
use upstream::Peer;

use crate::machine::bridge::Bridge;
use crate::machine::{Area, FunctionTable, field, stack};
use crate::phase::{Phase, Phases};
use crate::vm::frame::{self, Want};
use crate::vm::threads::waits::Reply;

const WAITING: Phases =
    Phases::of(&[Phase::ServerRewrite, Phase::Rewrite, Phase::Access, Phase::Content, Phase::Timer]);

pub(super) static AREA: Area = Area {
    name: "upstream",
    functions: &[],
    fields: &[
        field(
            "ngx.upstream.get_upstreams",
            Phases::ALL,
            "Returns the names of all groups; `require \"ngx.upstream\"`.",
        ),
        field(
            "ngx.upstream.get_servers",
            Phases::ALL,
            "Returns the servers of a group as they are now: `name`, `addr` (a list if there are several), `weight`, `max_fails`, `fail_timeout`, `backup`, `down`.",
        ),
        field(
            "ngx.upstream.get_primary_peers",
            Phases::ALL,
            "Returns the primary peers of a group with their state on this thread: `id`, `name`, `weight`, \
             `current_weight`, `effective_weight`, `conns`, `fails`, `max_fails`, `fail_timeout`, `accessed`, \
             `checked`, `down`.",
        ),
        field(
            "ngx.upstream.get_backup_peers",
            Phases::ALL,
            "Returns the backups of a group in the same way.",
        ),
        field(
            "ngx.upstream.set_peer_down",
            WAITING,
            "Takes a peer (group, whether it is a backup, its number) down or brings it up. This is an order: it \
             applies to all threads, survives reloads and restarts, and is in the history of `groups`.",
        ),
        field(
            "ngx.upstream.current_upstream_name",
            Phases::REQUEST,
            "Returns the name of the group that the request was proxied to, if any.",
        ),
    ],
    source: include_str!("../lua/upstream.lua"),
    table: FunctionTable::NONE,
    natives: &[
        (c"names", names),
        (c"peers", peers),
        (c"order", order),
        (c"outcome", outcome),
        (c"current", current),
    ],
};

unsafe fn bridge_of(state: *mut lua_State) -> *mut Bridge {
    // SAFETY: the upvalue of every native is the machine's bridge.
    unsafe { ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast() }
}

/// `names()`: returns the names of all groups.
unsafe extern "C-unwind" fn names(state: *mut lua_State) -> c_int {
    // SAFETY: called from our own source; a C function has the slots. What is dropped by an error of Lua's is a reference.
    unsafe {
        ffi::lua_createtable(state, 4, 0);
        let frame = frame::innermost(bridge_of(state));
        if frame.is_null() {
            return 1;
        }
        let (_, env) = frame::world(frame);
        let mut count = 0;
        let mut add = |name: &[u8], port: Option<u16>| {
            stack::push(state, name);
            if let Some(port) = port {
                ffi::lua_pushliteral(state, c":");
                ffi::lua_pushinteger(state, ffi::lua_Integer::from(port));
                ffi::lua_concat(state, 3);
            }
            count += 1;
            ffi::lua_rawseti_(state, 1, count);
        };
        for entry in &env.config.groups {
            let port = match entry.origin {
                Origin::Implied { port, has_port: true, .. } if port > 0 => Some(port),
                _ => None,
            };
            add(entry.spec.name.as_bytes(), port);
        }
        if let Some(routing) = env.host.routing() {
            let is_made = |name: &str| env.config.group(name.as_bytes()).is_none();
            let made: Vec<&str> =
                routing.groups.iter().map(|set| &*set.spec.name).filter(|name| is_made(name)).collect();
            for name in made {
                add(name.as_bytes(), None);
            }
        }
    }
    1
}

/// `peers(name)`: returns all peers of a group, the backups last; nothing if there is no such group.
unsafe extern "C-unwind" fn peers(state: *mut lua_State) -> c_int {
    // SAFETY: called from our own source with a string; a C function has the slots.
    unsafe {
        let name = stack::bytes(state, 1).unwrap_or_default();
        let frame = frame::innermost(bridge_of(state));
        if frame.is_null() {
            return 0;
        }
        let (_, env) = frame::world(frame);
        let now = env.host.now();
        let Some(peers) = env.host.peers(env.config, name) else { return 0 };
        ffi::lua_createtable(state, peers.len() as c_int, 0);
        for (at, peer) in peers.iter().enumerate() {
            push_peer(state, peer, now.epoch_ms(), now.monotonic_ms());
            ffi::lua_rawseti_(state, -2, at as c_int + 1);
        }
    }
    1
}

/// # Safety
/// `state` must be a live stack with three free slots.
unsafe fn push_peer(state: *mut lua_State, peer: &Peer, epoch_ms: u64, monotonic_ms: u64) {
    // SAFETY: the caller vouches for the stack.
    unsafe {
        ffi::lua_createtable(state, 0, 14);
        let spec = peer.spec();
        for (name, text) in [(c"server", spec.name.as_str()), (c"name", peer.label())] {
            stack::push(state, text.as_bytes());
            ffi::lua_setfield(state, -2, name.as_ptr());
        }
        let (current, effective) = peer.weights();
        let seconds = |ms: u64| match ms {
            0 => None,
            ms => Some(epoch_ms.saturating_sub(monotonic_ms.saturating_sub(ms)) as f64 / 1000.0),
        };
        let (accessed_ms, checked_ms) = peer.failed_at_ms();
        for (name, number) in [
            (c"weight", Some(f64::from(spec.weight))),
            (c"current_weight", Some(current as f64)),
            (c"effective_weight", Some(effective as f64)),
            (c"conns", Some(f64::from(peer.conns()))),
            (c"fails", Some(f64::from(peer.fails()))),
            (c"max_fails", Some(f64::from(spec.max_fails))),
            (c"fail_timeout", Some((spec.fail_timeout_ms / 1000) as f64)),
            (c"accessed", seconds(accessed_ms).map(f64::floor)),
            (c"checked", seconds(checked_ms).map(f64::floor)),
        ] {
            if let Some(number) = number {
                ffi::lua_pushnumber(state, number);
                ffi::lua_setfield(state, -2, name.as_ptr());
            }
        }
        for (name, is_so) in [(c"backup", spec.backup), (c"down", spec.down)] {
            if is_so {
                ffi::lua_pushboolean(state, 1);
                ffi::lua_setfield(state, -2, name.as_ptr());
            }
        }
    }
}

/// `order(group, server, is_down, actor)`: asks for an order on a server. Returns a number for `outcome`.
unsafe extern "C-unwind" fn order(state: *mut lua_State) -> c_int {
    // SAFETY: called from our own source with strings and a boolean; nothing that needs dropping is alive when an error is
    // raised.
    unsafe {
        let text = |at| String::from_utf8_lossy(stack::bytes(state, at).unwrap_or_default()).into_owned();
        let is_early = match frame::request(bridge_of(state)) {
            Some(request) if request.exchange.request.is_early => {
                if request.can_end() {
                    *request.want = Some(Want::Exit(c_int::from(TOO_EARLY)));
                    return 0;
                }
                true
            }
            _ => false,
        };
        let Some(script) = frame::script(bridge_of(state)) else { return 0 };
        let is_down = ffi::lua_toboolean(state, 3) != 0;
        let change = ServerChange { group: text(1), server: text(2), is_down, actor: text(4) };
        let (reply, end) = Reply::new(usize::MAX);
        match is_early {
            true => end.give(Err(frame::EARLY.to_owned())),
            false => script.env.host.order_server(change, Box::new(move |outcome| end.give(outcome))),
        }
        let waiting: Waiting = reply.wait();
        *script.want = Some(Want::Effect(Effect::Await(waiting)));
        let number = script.state.scripts().keep_reply(Rc::clone(&reply));
        ffi::lua_pushnumber(state, f64::from(number));
    }
    1
}

/// `outcome(number)`: returns true, or the reason of the refusal.
unsafe extern "C-unwind" fn outcome(state: *mut lua_State) -> c_int {
    // SAFETY: as in `order`.
    unsafe {
        let number = ffi::lua_tonumber(state, 1) as u32;
        let reply =
            frame::script(bridge_of(state)).and_then(|script| script.state.scripts().take_reply(number));
        let refused = match reply.and_then(|reply| reply.outcome.take()) {
            Some(Ok(_)) => None,
            Some(Err(text)) => Some(text),
            None => Some("the control plane did not answer".to_owned()),
        };
        let bridge = bridge_of(state);
        (*bridge).buffer.clear();
        (*bridge).buffer.extend_from_slice(refused.as_deref().unwrap_or_default().as_bytes());
        let is_done = refused.is_none();
        drop(refused);
        match is_done {
            true => ffi::lua_pushboolean(state, 1),
            false => stack::push(state, &(*bridge).buffer),
        }
    }
    1
}

/// `current()`: returns the name of the group that the request was proxied to.
unsafe extern "C-unwind" fn current(state: *mut lua_State) -> c_int {
    // SAFETY: as in `names`.
    unsafe {
        let Some(request) = frame::request(bridge_of(state)) else { return 0 };
        let upstream = &request.exchange.upstream;
        if upstream.tries.is_empty() {
            return 0;
        }
        stack::push(state, &upstream.proxy_host.text);
    }
    1
}
