//! `ngx.socket.udp` and the methods of the sockets that it makes.

use std::ffi::{c_int, c_void};
use std::rc::Rc;

use engine::network::DialRequest;

use super::connect::{connected, destination};
use super::{
    DONE, FAILED, FOREIGN, WAIT, bind, called, close, closed, debug, failed, forget, log_transfer, method,
    set_times, tcp,
};
use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, FunctionTable};

pub(in crate::api) static AREA: Area = Area {
    name: "udp",
    functions: &[method(
        "ngx.socket.udp",
        "Returns a datagram socket without a peer, for UDP or a UNIX-domain socket.",
    )],
    fields: &[
        method(
            "UDPSOCKET:setpeername",
            "Sets the peer: a host and port, or `unix:PATH`. Names need `resolver`.",
        ),
        method("UDPSOCKET:bind", "Sets the IP address that datagrams come from, before setpeername."),
        method("UDPSOCKET:send", "Sends a string, a number, or a list of them as one datagram."),
        method(
            "UDPSOCKET:receive",
            "Returns one datagram, at most the given number of bytes of it; the limit is 8192.",
        ),
        method("UDPSOCKET:settimeout", "Sets the socket's timeout in milliseconds."),
        method("UDPSOCKET:close", "Closes the socket."),
    ],
    source: include_str!("../../lua/udp.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[],
};

#[repr(C)]
struct Functions {
    udp: unsafe extern "C" fn(*mut Bridge) -> *mut c_void,
    forget: unsafe extern "C" fn(*mut c_void),
    set_peer: unsafe extern "C" fn(*mut Bridge, *mut c_void, *const u8, usize, c_int) -> c_int,
    has_peer: unsafe extern "C" fn(*mut Bridge, *mut c_void) -> c_int,
    send: unsafe extern "C" fn(*mut Bridge, *mut c_void, *const u8, usize) -> c_int,
    receive: unsafe extern "C" fn(*mut Bridge, *mut c_void, f64) -> c_int,
    received: unsafe extern "C" fn(*mut Bridge, *mut c_void) -> c_int,
    close: unsafe extern "C" fn(*mut Bridge, *mut c_void) -> c_int,
    set_times: unsafe extern "C" fn(*mut Bridge, *mut c_void, c_int, c_int, c_int),
    bind: unsafe extern "C" fn(*mut Bridge, *mut c_void, *const u8, usize) -> c_int,
}

static FUNCTIONS: Functions = Functions {
    udp: tcp,
    forget,
    set_peer,
    has_peer: connected,
    send,
    receive,
    received,
    close,
    set_times,
    bind,
};

/// The largest datagram that is received (UDP_MAX_DATAGRAM_SIZE).
const LARGEST: usize = 8192;

/// What another thread of the request does with the socket, in ngx_lua's word.
const BUSY: &str = "socket busy";

/// Sets the peer. After `WAIT`, `has_peer` has the outcome.
unsafe extern "C" fn set_peer(
    bridge: *mut Bridge,
    handle: *mut c_void,
    host: *const u8,
    host_len: usize,
    port: c_int,
) -> c_int {
    // SAFETY: the machine's bridge and a handle of Lua's, during a call from Lua that runs no other Lua; strings live during
    // the call. So for all functions here.
    unsafe {
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        let socket = Rc::clone(&called.socket);
        match socket.owner.get() {
            0 => called.script.state.adopt_socket(&socket),
            _ if called.is_foreign() => return FOREIGN,
            _ => {}
        }
        if socket.obstacle(true, true).is_some() {
            return failed(bridge, BUSY);
        }
        if socket.is_connected() {
            debug(bridge, || "lua udp socket reconnect without shutting down".to_owned());
        }
        if socket.dialed_to().is_some() {
            debug(bridge, || "lua reuse socket upstream ctx".to_owned());
        }
        let (location, host) = (called.location(), arg(host, host_len));
        socket.location.set(location);
        socket.prepare(b"", LARGEST);
        socket.apply_times(called.settings(location));
        let destination = match destination(host, port as u16) {
            Ok(destination) => destination,
            Err(fault) => {
                let host = String::from_utf8_lossy(host);
                return failed(bridge, &format!("failed to parse host name \"{host}\": {fault}"));
            }
        };
        let timeout_ms = socket.times.get().connect_ms;
        let local = socket.local.get();
        let request = DialRequest { destination, timeout_ms, local, location, is_datagram: true };
        socket.note_dial(&request);
        let config = called.script.env.config;
        let Some(dialing) = called.script.env.host.dial(config, request) else {
            return failed(bridge, "no network");
        };
        match called.settle(socket.connect_alone(dialing)) {
            None => WAIT,
            Some(_) => connected(bridge, handle),
        }
    }
}

/// Sends a datagram.
unsafe extern "C" fn send(bridge: *mut Bridge, handle: *mut c_void, text: *const u8, len: usize) -> c_int {
    // SAFETY: see `set_peer`.
    unsafe {
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        if !called.socket.is_connected() {
            return closed(bridge, &called, "send");
        }
        if called.is_foreign() {
            return FOREIGN;
        }
        if called.socket.obstacle(true, true).is_some() {
            return failed(bridge, BUSY);
        }
        match called.socket.send_datagram(arg(text, len)) {
            Ok(()) => DONE,
            Err(fault) => {
                log_transfer(bridge, &called, &fault, "send", "udp socket write");
                failed(bridge, &fault.text())
            }
        }
    }
}

/// Reads a datagram. After `WAIT`, `received` has the outcome.
unsafe extern "C" fn receive(bridge: *mut Bridge, handle: *mut c_void, size: f64) -> c_int {
    // SAFETY: see `set_peer`.
    unsafe {
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        let socket = Rc::clone(&called.socket);
        if !socket.is_connected() {
            return closed(bridge, &called, "receive");
        }
        if called.is_foreign() {
            return FOREIGN;
        }
        if socket.obstacle(true, true).is_some() {
            return failed(bridge, BUSY);
        }
        let size = (size as usize).min(LARGEST);
        debug(bridge, || format!("lua udp socket read timeout: {}", socket.times.get().read_ms));
        debug(bridge, || format!("lua udp socket receive buffer size: {size}"));
        match called.settle(socket.receive_datagram(size)) {
            None => WAIT,
            Some(_) => received(bridge, handle),
        }
    }
}

/// Returns the outcome of a read: the datagram is in the bridge.
unsafe extern "C" fn received(bridge: *mut Bridge, handle: *mut c_void) -> c_int {
    // SAFETY: see `set_peer`.
    unsafe {
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        match called.socket.take_read_fault() {
            None => {
                called.socket.with_piece(|bytes, _| {
                    (*bridge).text = bytes.as_ptr();
                    (*bridge).text_len = bytes.len();
                });
                DONE
            }
            Some(fault) => {
                log_transfer(bridge, &called, &fault, "recv", "udp socket read");
                let code = failed(bridge, &fault.text());
                debug_assert_eq!(code, FAILED);
                code
            }
        }
    }
}
