//! What scripts make the server hold outside of their machine: output that the client has not taken, bodies, headers,
//! values of variables. It counts towards `lua_memory_limit` as the machine's own memory does.
//!
//! A request's share is measured when its scripts add to it and when they are resumed; what the client takes meanwhile
//! is subtracted then, or when the request ends.

use engine::Exchange;
use engine::exchange::Body;

use super::frame;
use super::state::RequestState;
use crate::machine::bridge::Bridge;

/// A value of a variable from this length on is counted, and with it all values of the request.
const LARGE_VALUE: usize = 16 << 10;

/// Returns whether the server may hold `more` bytes for the request that runs. Outside of requests nothing is held.
///
/// # Safety
/// As for [`frame::request`].
pub(crate) unsafe fn has_room(bridge: *mut Bridge, more: usize) -> bool {
    // SAFETY: the caller vouches for the bridge; the parts are used up here.
    unsafe { frame::request(bridge) }.is_none_or(|request| room(request.exchange, request.state) >= more)
}

/// Does the same for the value of a variable.
///
/// # Safety
/// As for [`frame::request`].
pub(crate) unsafe fn has_room_for_value(bridge: *mut Bridge, len: usize) -> bool {
    if len < LARGE_VALUE {
        return true;
    }
    // SAFETY: as above.
    if let Some(request) = unsafe { frame::request(bridge) } {
        request.state.held_outside.large_values.set(true);
    }
    // SAFETY: as above.
    unsafe { has_room(bridge, len) }
}

/// Returns how many bytes more the server may hold for the request that runs. If these are few, garbage is collected
/// first, which may run finalizers: only C functions of Lua's may call it.
///
/// # Safety
/// As for [`frame::request`].
pub(crate) unsafe fn room_after_collecting(bridge: *mut Bridge) -> usize {
    const FEW: usize = 256 << 10;
    // SAFETY: the caller vouches for the bridge; the parts are taken anew after Lua may have run.
    unsafe {
        let Some(request) = frame::request(bridge) else { return 0 };
        let left = room(request.exchange, request.state);
        if left >= FEW {
            return left;
        }
        let scripts = request.state.scripts.clone();
        scripts.machine.collect_garbage();
        frame::request(bridge).map_or(0, |request| room(request.exchange, request.state))
    }
}

/// Returns how many bytes more the server may hold for a request.
pub(crate) fn room(exchange: &Exchange, state: &RequestState) -> usize {
    measure(exchange, state);
    state.scripts.machine.room_outside()
}

/// Brings a request's share up to date.
pub(super) fn measure(exchange: &Exchange, state: &RequestState) {
    let len = |held: &Option<Vec<u8>>| held.as_ref().map_or(0, Vec::len);
    let (request, response) = (&exchange.request, &exchange.response);
    let mut bytes = exchange.output.wire.len()
        + len(&state.held.borrow())
        + len(&state.building.borrow())
        + exchange.script.chunk.len()
        + request.uri.len()
        + request.args.len()
        + request.head.headers.used_bytes()
        + response.headers.used_bytes()
        + exchange.subrequests.ended.iter().map(|ended| ended.body.len()).sum::<usize>();
    if let Body::Memory(body) = &request.body {
        bytes += body.len();
    }
    if state.held_outside.large_values.get() {
        bytes += exchange.slots.used_bytes();
    }
    state.scripts.machine.count_outside(state.held_outside.counted.replace(bytes), bytes);
}
