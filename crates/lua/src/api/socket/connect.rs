//! Connecting a socket, and shaking hands on it.

use std::ffi::{OsStr, c_int, c_void};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use engine::exchange::Body;
use engine::host::Level;
use engine::network::{BodyTap, Destination, DialRequest, HandshakeRequest};
use http::{BodyFraming, Version};
use upstream::Address;

use super::{DONE, FOREIGN, WAIT, called, debug, failed, log_fault};
use crate::machine::bridge::{Bridge, arg};
use crate::socket::{Connect, ConnectPoolSpec};
use crate::vm::frame;

/// A connection as Lua asks for it; `pm_connect` in the Lua source.
#[repr(C)]
pub(super) struct ConnectCall {
    host: *const u8,
    host_len: usize,
    key: *const u8,
    key_len: usize,
    port: c_int,
    pool_size: c_int,
    /// -1: there is no queue.
    backlog: c_int,
}

/// Returns where a script wants to connect to.
pub(super) fn destination(host: &[u8], port: u16) -> Result<Destination, &'static str> {
    /// sizeof(sun_path) without its end.
    const MAX_PATH: usize = 107;
    let text = String::from_utf8_lossy(host);
    if host.len() >= 5 && host[..5].eq_ignore_ascii_case(b"unix:") {
        return match host[5..].len() {
            0 => Err("no path in the unix domain socket"),
            1..=MAX_PATH => {
                let path = PathBuf::from(OsStr::from_bytes(&host[5..]));
                Ok(Destination::Known(Address::Unix(path)))
            }
            _ => Err("too long path in the unix domain socket"),
        };
    }
    let known = |ip: IpAddr, port| Destination::Known(SocketAddr::new(ip, port).into());
    if let Some(inside) = text.strip_prefix('[') {
        let inside = inside.strip_suffix(']').ok_or("invalid host")?;
        let ip = inside.parse().map_err(|_| "invalid IPv6 address")?;
        return Ok(known(IpAddr::V6(ip), port));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port > 0).ok_or("invalid port")?),
        None => (&*text, port),
    };
    match name {
        "" => Err("no host"),
        name if name.contains(['/', '?']) => Err("invalid host"),
        name => Ok(match name.parse() {
            Ok(ip) => known(IpAddr::V4(ip), port),
            Err(_) => Destination::Name(name.to_owned(), port),
        }),
    }
}

/// Connects. After `WAIT`, `connected` has the outcome.
pub(super) unsafe extern "C" fn connect(
    bridge: *mut Bridge,
    handle: *mut c_void,
    call: *const ConnectCall,
) -> c_int {
    // SAFETY: see `failed`; the structure and its strings live during the call.
    unsafe {
        let call = &*call;
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        let socket = Rc::clone(&called.socket);
        match socket.owner.get() {
            0 => called.script.state.adopt_socket(&socket),
            _ if called.is_foreign() => return FOREIGN,
            _ => {}
        }
        if let Some(obstacle) = socket.obstacle(true, true) {
            return failed(bridge, obstacle);
        }
        if socket.is_connected() {
            debug(bridge, || "lua tcp socket reconnect without shutting down".to_owned());
        }
        if socket.dialed_to().is_some() {
            debug(bridge, || "lua reuse socket upstream ctx".to_owned());
        }
        let (location, key) = (called.location(), arg(call.key, call.key_len));
        let (settings, host) = (called.settings(location), arg(call.host, call.host_len));
        socket.location.set(location);
        socket.prepare(key, usize::try_from(*settings.buffer_size).unwrap_or(usize::MAX).max(1));
        let pool_size = match call.pool_size {
            0 if call.backlog >= 0 => usize::try_from(*settings.pool_size).unwrap_or(usize::MAX),
            size => usize::try_from(size).unwrap_or(0),
        };
        socket.apply_times(settings);
        let destination = match destination(host, call.port as u16) {
            Ok(destination) => destination,
            Err(fault) => {
                let host = String::from_utf8_lossy(host);
                return failed(bridge, &format!("failed to parse host name \"{host}\": {fault}"));
            }
        };
        let timeout_ms = socket.times.get().connect_ms;
        debug(bridge, || format!("lua tcp socket connect timeout: {timeout_ms}"));
        let request =
            DialRequest { destination, timeout_ms, local: socket.local.get(), location, is_datagram: false };
        socket.note_dial(&request);
        let config = called.script.env.config;
        let Some(dialing) = called.script.env.host.dial(config, request) else {
            return failed(bridge, "no network");
        };
        let shown = format!("{}:{}", String::from_utf8_lossy(host), call.port);
        let host = &mut *called.script.env.host;
        let backlog = usize::try_from(call.backlog).ok();
        let tried = socket.connect(Connect {
            pool: ConnectPoolSpec { key, size: pool_size, backlog },
            dialing,
            queue_time: Box::new(|| host.alarm(timeout_ms)),
            shown: &shown,
        });
        match called.settle(tried) {
            None => WAIT,
            Some(Ok(())) => {
                debug(bridge, || "lua tcp socket get keepalive peer: using connection".to_owned());
                DONE
            }
            Some(Err(())) => connected(bridge, handle),
        }
    }
}

/// Returns the outcome of a connection.
pub(super) unsafe extern "C" fn connected(bridge: *mut Bridge, handle: *mut c_void) -> c_int {
    // SAFETY: see `failed`.
    unsafe {
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        match called.socket.take_dial_fault() {
            None if called.socket.is_connected() => DONE,
            None => failed(bridge, "closed"),
            Some(fault) => {
                let logs = *called.settings(called.socket.location.get()).log_errors;
                if let Some(line) = fault.log
                    && logs
                {
                    let level = if fault.is_critical { Level::Crit } else { Level::Error };
                    (*bridge).world.log(level as u8, line.as_bytes());
                }
                failed(bridge, &fault.text)
            }
        }
    }
}

/// A handshake as Lua asks for it; `pm_handshake` in the Lua source.
#[repr(C)]
pub(super) struct HandshakeCall {
    name: *const u8,
    name_len: usize,
    /// What `session` has made; null is none.
    session: *const Rc<dyn std::any::Any>,
    /// What `certificate` has made; null is none.
    certificate: *const Rc<dyn std::any::Any>,
    verifies: c_int,
}

/// Makes a client's certificate of its chain and key for Lua to keep; null with the reason in the bridge if it cannot.
pub(super) unsafe extern "C" fn certificate(
    bridge: *mut Bridge,
    chain: *const u8,
    chain_len: usize,
    key: *const u8,
    key_len: usize,
) -> *mut c_void {
    // SAFETY: see `failed`; the strings live during the call.
    unsafe {
        let Some(script) = frame::script(bridge) else { return std::ptr::null_mut() };
        match script.env.host.tls_certificate(arg(chain, chain_len), arg(key, key_len)) {
            Ok(made) => Box::into_raw(Box::new(made)).cast(),
            Err(reason) => {
                failed(bridge, &reason);
                std::ptr::null_mut()
            }
        }
    }
}

/// Begins TLS. After `WAIT`, `shaken` has the outcome.
pub(super) unsafe extern "C" fn shake_hands(
    bridge: *mut Bridge,
    handle: *mut c_void,
    call: *const HandshakeCall,
) -> c_int {
    // SAFETY: see `failed`; the structure, its string and the session live during the call.
    unsafe {
        let call = &*call;
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        let socket = Rc::clone(&called.socket);
        if socket.usable() != (true, true) {
            return failed(bridge, "closed");
        }
        if called.is_foreign() {
            return FOREIGN;
        }
        if let Some(obstacle) = socket.obstacle(true, true) {
            return failed(bridge, obstacle);
        }
        let wanted = HandshakeRequest {
            name: arg(call.name, call.name_len).to_vec(),
            verifies: call.verifies != 0,
            session: call.session.as_ref().cloned(),
            certificate: call.certificate.as_ref().cloned(),
            location: called.location(),
        };
        let Some(request) = socket.dialed_to() else { return failed(bridge, "closed") };
        let config = called.script.env.config;
        let Some(dialing) = called.script.env.host.dial(config, request) else {
            return failed(bridge, "no network");
        };
        match called.settle(socket.shake_hands(wanted, dialing)) {
            None => WAIT,
            Some(_) => shaken(bridge, handle),
        }
    }
}

/// Returns the outcome of a handshake.
pub(super) unsafe extern "C" fn shaken(bridge: *mut Bridge, handle: *mut c_void) -> c_int {
    // SAFETY: see `failed`.
    unsafe {
        let Some(called) = called(bridge, handle) else { return FOREIGN };
        let Some(fault) = called.socket.take_handshake_fault() else { return DONE };
        if let Some(line) = &fault.log {
            log_fault(bridge, &called, line);
        }
        failed(bridge, &fault.text)
    }
}

/// Makes the socket that a script reads the body of its request from, or, if it is to be raw, that is the connection of its
/// client. Returns its handle, or null with the reason in the bridge.
pub(super) unsafe extern "C" fn request_socket(bridge: *mut Bridge, raw: c_int) -> *mut c_void {
    // SAFETY: see `failed`.
    unsafe {
        let refuse = |reason| {
            failed(bridge, reason);
            std::ptr::null_mut()
        };
        let Some(request) = frame::request(bridge) else { return refuse("no request found") };
        let exchange = request.exchange;
        let is_raw = raw != 0;
        let has_raw = exchange.script.tap.as_ref().is_some_and(|tap| tap.is_raw());
        let is_read = exchange.script.tap.is_some() || request.state.progress.reads_body();
        let has_length = matches!(exchange.request.framing, BodyFraming::Length(length) if length > 0);
        match &exchange.request.body {
            _ if exchange.subrequests.is_inner() => {
                return refuse("attempt to read the request body in a subrequest");
            }
            _ if exchange.request.head.version == Version::Http2 => {
                return refuse("http v2 not supported yet");
            }
            _ if is_raw && has_raw => return refuse("duplicate call"),
            _ if is_raw && is_read => {
                return refuse("pending request body reading in some other thread");
            }
            _ if is_raw && request.state.held.borrow().is_some() => return refuse("http 1.0 buffering"),
            _ if is_raw => {}
            _ if exchange.request.framing == BodyFraming::Chunked => {
                return refuse("chunked request bodies not supported yet");
            }
            Body::Discarded => return refuse("request body discarded"),
            _ if exchange.request.discard_wanted => return refuse("request body discarded"),
            Body::Unread if !has_length => return refuse("no body"),
            Body::Unread => {}
            _ => return refuse("request body already exists"),
        }
        let tap = Rc::new(match is_raw {
            true => BodyTap::raw(exchange.output.take_over()),
            false => BodyTap::default(),
        });
        if is_raw {
            // Nothing of the answer is written any more.
            request.state.eof.set(true);
        }
        let Some(connection) = request.env.host.tap(Rc::clone(&tap)) else { return refuse("no network") };
        exchange.script.tap = Some(tap);
        if matches!(exchange.request.body, Body::Unread) {
            exchange.request.body = Body::Streaming;
        }
        let location = exchange.route.location;
        let settings = &request.env.config.location(location).settings.lua.sockets;
        let socket = request.state.new_socket();
        socket.location.set(location);
        socket.prepare(b"", usize::try_from(*settings.buffer_size).unwrap_or(usize::MAX).max(1));
        socket.apply_times(settings);
        socket.attach(connection);
        Rc::into_raw(socket).cast_mut().cast()
    }
}
