//! What scripts make the server hold outside of their machine: output that the client has not taken, bodies, headers,
//! values of variables. It counts towards `lua_memory_limit` as the machine's own memory does, with the room of its buffers that is
//! not used yet.
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

/// Returns whether the server may append `more` bytes to the body that the running request's script builds.
///
/// # Safety
/// As for [`frame::request`].
pub(crate) unsafe fn has_room_to_build(bridge: *mut Bridge, more: usize) -> bool {
    // SAFETY: the caller vouches for the bridge; the parts are used up here.
    unsafe { frame::request(bridge) }.is_none_or(|request| {
        let left = room(request.exchange, request.state);
        request.state.building.borrow().as_ref().is_none_or(|body| room_to_append(left, body) >= more)
    })
}

/// Returns how many bytes of output more the server may hold for the request that runs. If these are few, garbage is collected
/// first, which may run finalizers: only C functions of Lua's may call it.
///
/// # Safety
/// As for [`frame::request`].
pub(crate) unsafe fn output_room_after_collecting(bridge: *mut Bridge) -> usize {
    const FEW: usize = 256 << 10;
    // SAFETY: the caller vouches for the bridge; the parts are taken anew after Lua may have run.
    unsafe {
        let Some(request) = frame::request(bridge) else { return 0 };
        let left = output_room(request.exchange, request.state);
        if left >= FEW {
            return left;
        }
        let scripts = request.state.scripts.clone();
        scripts.machine.collect_garbage();
        frame::request(bridge).map_or(0, |request| output_room(request.exchange, request.state))
    }
}

/// Returns how many bytes more the server may hold for a request.
pub(crate) fn room(exchange: &Exchange, state: &RequestState) -> usize {
    measure(exchange, state);
    state.scripts.machine.room_outside()
}

/// Returns how many bytes of output more the server may hold for a request.
fn output_room(exchange: &Exchange, state: &RequestState) -> usize {
    let left = room(exchange, state);
    match &*state.held.borrow() {
        Some(held) => room_to_append(left, held),
        None => room_to_append(left, &exchange.output.wire),
    }
}

/// Returns how many bytes may be appended to what is held while `left` more may be held: a vector that is full takes twice its room
/// anew, and copies what it has before it gives the old back.
fn room_to_append(left: usize, held: &Vec<u8>) -> usize {
    let (len, capacity) = (held.len(), held.capacity());
    let anew = if left >= 2 * capacity { left.saturating_sub(len) } else { 0 };
    anew.max((capacity - len).min(left))
}

/// Brings a request's share up to date.
pub(super) fn measure(exchange: &Exchange, state: &RequestState) {
    let room = |held: &Option<Vec<u8>>| held.as_ref().map_or(0, Vec::capacity);
    let (request, response) = (&exchange.request, &exchange.response);
    let mut bytes = exchange.output.wire.capacity()
        + room(&state.held.borrow())
        + room(&state.building.borrow())
        + exchange.script.chunk.capacity()
        + request.uri.len()
        + request.args.len()
        + request.head.headers.used_bytes()
        + response.headers.used_bytes()
        + exchange.subrequests.ended.iter().map(|ended| ended.body.len()).sum::<usize>();
    if let Body::Memory(body) = &request.body {
        bytes += body.capacity();
    }
    if state.held_outside.large_values.get() {
        bytes += exchange.slots.used_bytes();
    }
    state.scripts.machine.count_outside(state.held_outside.counted.replace(bytes), bytes);
}
