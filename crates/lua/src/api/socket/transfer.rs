//! Sending and receiving.

use std::ffi::{c_int, c_void};
use std::rc::Rc;

use super::{
    BUSY_CONNECTING, DONE, FOREIGN, PARTIAL, WAIT, called, closed, debug, failed, log_transfer, socket,
};
use crate::machine::bridge::{Bridge, arg};
use crate::socket::{Until, Wanted};

/// A pattern as Lua asks for it; `pm_until` in the Lua source.
#[repr(C)]
pub(super) struct UntilCall {
    pattern: *const u8,
    pattern_len: usize,
    limit: usize,
    /// How much of the pattern was matched before; -1 when it was found.
    matched: c_int,
    inclusive: c_int,
}

/// Sends. After `WAIT`, `sent` has the outcome.
pub(super) unsafe extern "C" fn send(
    bridge: *mut Bridge,
    handle: *mut c_void,
    text: *const u8,
    len: usize,
) -> c_int {
    // SAFETY: see `failed`; the string lives during the call.
    unsafe {
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        let socket = Rc::clone(&called.socket);
        if socket.is_dialing() {
            return failed(bridge, BUSY_CONNECTING);
        }
        if !socket.usable().1 {
            return closed(bridge, &called, "send");
        }
        if called.is_foreign() {
            return FOREIGN;
        }
        if let Some(obstacle) = socket.obstacle(false, true) {
            return failed(bridge, obstacle);
        }
        debug(bridge, || format!("lua tcp socket send timeout: {}", socket.times.get().send_ms));
        match called.settle(socket.send(arg(text, len))) {
            None => WAIT,
            Some(Ok(())) => DONE,
            Some(Err(())) => sent(bridge, handle),
        }
    }
}

/// Returns the outcome of a write.
pub(super) unsafe extern "C" fn sent(bridge: *mut Bridge, handle: *mut c_void) -> c_int {
    // SAFETY: see `failed`.
    unsafe {
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        let Some(fault) = called.socket.take_write_fault() else { return DONE };
        log_transfer(bridge, &called, &fault, "send", "tcp socket write");
        failed(bridge, &fault.text())
    }
}

/// Reads: 0 a line, 1 everything, 2 so many bytes, 3 what there is. After `WAIT`, `received` has the outcome.
pub(super) unsafe extern "C" fn receive(
    bridge: *mut Bridge,
    handle: *mut c_void,
    how: c_int,
    count: f64,
) -> c_int {
    let wanted = match how {
        0 => Wanted::Line,
        1 => Wanted::All,
        2 => Wanted::Bytes(count as usize),
        _ => Wanted::Any(count as usize),
    };
    // SAFETY: see `failed`.
    unsafe { read(bridge, handle, wanted, std::ptr::null_mut()) }
}

/// Reads up to a pattern. As `receive`, and the call's state goes on.
pub(super) unsafe extern "C" fn receive_until(
    bridge: *mut Bridge,
    handle: *mut c_void,
    call: *mut UntilCall,
) -> c_int {
    // SAFETY: see `failed`; the structure and its string live during the call.
    unsafe {
        let pattern = arg((*call).pattern, (*call).pattern_len);
        let matched = usize::try_from((*call).matched).unwrap_or(0);
        let until = Until::new(pattern, matched, (*call).inclusive != 0, (*call).limit);
        read(bridge, handle, Wanted::Until(Box::new(until)), call)
    }
}

unsafe fn read(bridge: *mut Bridge, handle: *mut c_void, wanted: Wanted, call: *mut UntilCall) -> c_int {
    // SAFETY: see `failed`.
    unsafe {
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        let socket = Rc::clone(&called.socket);
        if socket.is_dialing() {
            return failed(bridge, BUSY_CONNECTING);
        }
        if !socket.usable().0 {
            // ngx_lua does not log what the function of a pattern finds.
            return match call.is_null() {
                true => closed(bridge, &called, "receive"),
                false => failed(bridge, "closed"),
            };
        }
        if called.is_foreign() {
            return FOREIGN;
        }
        if let Some(obstacle) = socket.obstacle(true, false) {
            return failed(bridge, obstacle);
        }
        debug(bridge, || format!("lua tcp socket read timeout: {}", socket.times.get().read_ms));
        if let Wanted::Any(most) = wanted {
            debug(bridge, || {
                format!("lua tcp socket calling receiveany() method to read at most {most} bytes")
            });
        }
        match called.settle(socket.receive(wanted)) {
            None => WAIT,
            Some(_) => received(bridge, handle, call),
        }
    }
}

/// Returns the outcome of a read: the piece is in the bridge.
pub(super) unsafe extern "C" fn received(
    bridge: *mut Bridge,
    handle: *mut c_void,
    call: *mut UntilCall,
) -> c_int {
    // SAFETY: see `failed`; the structure lives during the call.
    unsafe {
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        let socket = Rc::clone(&called.socket);
        if let Some(call) = call.as_mut() {
            call.matched = socket.with_piece(|_, wanted| match wanted {
                Wanted::Until(until) if until.is_found() && call.limit > 0 => -1,
                Wanted::Until(until) => until.matched() as c_int,
                _ => 0,
            });
        }
        match socket.take_read_fault() {
            None => {
                piece(bridge, handle);
                DONE
            }
            Some(fault) => {
                log_transfer(bridge, &called, &fault, "recv", "tcp socket read");
                failed(bridge, &fault.text());
                PARTIAL
            }
        }
    }
}

/// Puts the last piece into the bridge. It is good until the socket is used again.
pub(super) unsafe extern "C" fn piece(bridge: *mut Bridge, handle: *mut c_void) {
    // SAFETY: see `failed` and `socket`.
    unsafe {
        socket(handle).with_piece(|bytes, _| {
            (*bridge).text = bytes.as_ptr();
            (*bridge).text_len = bytes.len();
        });
    }
}
