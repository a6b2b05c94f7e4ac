//! `ngx.socket.tcp`, `ngx.socket.connect`, `ngx.socket.stream` and the methods of the sockets that they make.
//!
//! Owns the check that a socket belongs to who uses it, and the words of what goes wrong. What a socket does is in
//! [`crate::socket`].

mod connect;
mod transfer;
pub(super) mod udp;

use std::ffi::{c_int, c_void};
use std::rc::Rc;

use engine::LocationId;
use engine::host::Level;
use engine::modules::lua::SocketSettings;
use engine::network::SocketOption;
use engine::phase::Effect;

use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable};
use crate::phase::{Phase, Phases};
use crate::socket::{Kept, ScriptSocket, SocketFault, Tried, system_words};
use crate::vm::frame::{self, CurrentScript, Want};
use connect::{
    ConnectCall, HandshakeCall, certificate, connect, connected, request_socket, shake_hands, shaken,
};
use std::any::Any;
use transfer::{UntilCall, piece, receive, receive_until, received, send, sent};

/// The phases in which a script may wait for a socket.
const WAITING: Phases = Phases::EVENTS.without(Phase::ServerRewrite);

pub(super) const fn method(name: &'static str, doc: &'static str) -> Function {
    Function { name, phases: WAITING, doc }
}

pub(in crate::api) static AREA: Area = Area {
    name: "socket",
    functions: &[
        method("ngx.socket.tcp", "Returns an unconnected stream socket, for TCP or a UNIX-domain socket."),
        method("ngx.socket.stream", "The same as `ngx.socket.tcp`."),
        method("ngx.socket.connect", "Returns a connected stream socket, or nil and the reason."),
        Function {
            name: "ngx.req.socket",
            phases: Phases::OUTPUT,
            doc: "Returns a socket that reads the request's body as it arrives; the body must have a Content-Length. \
                 With `true`, it is the client's raw connection, for reading and sending anything after what was \
                 read and flushed. HTTP/1 only.",
        },
    ],
    fields: &[
        method(
            "SOCKET:connect",
            "Connects to a host and port, or `unix:PATH`; the options are `pool`, `pool_size` and `backlog`. Names need `resolver`.",
        ),
        method("SOCKET:bind", "Sets the IP address that the next connection comes from."),
        method(
            "SOCKET:send",
            "Sends a string, a number, or a list of them, also in lists; returns the number of bytes.",
        ),
        method(
            "SOCKET:receive",
            "Returns the given number of bytes, a line (`*l`, the default) or everything up to the end (`*a`); on \
             failure nil, the reason and the bytes so far.",
        ),
        method("SOCKET:receiveany", "Returns the bytes that have arrived, at most the given number."),
        method(
            "SOCKET:receiveuntil",
            "Returns a function that reads up to a pattern, as a whole or in pieces of the given size; the option is \
             `inclusive`.",
        ),
        method("SOCKET:settimeout", "Sets the socket's timeout in milliseconds, for all operations."),
        method("SOCKET:settimeouts", "Sets the timeouts for connecting, sending and reading."),
        method("SOCKET:setoption", "Sets `keepalive`, `reuseaddr`, `tcp-nodelay`, `sndbuf` or `rcvbuf`."),
        method("SOCKET:getoption", "Returns one of these options."),
        method(
            "SOCKET:setkeepalive",
            "Puts the connection into its pool; the arguments are the idle time in milliseconds and the size of a \
             new pool.",
        ),
        method("SOCKET:getreusedtimes", "Returns how often the connection was reused; 0 for a new one."),
        method(
            "SOCKET:sslhandshake",
            "Performs a TLS handshake; the arguments are the session to resume (false: none), the server name, and \
             whether to verify. Returns a session, true, or nil and the reason.",
        ),
        method(
            "SOCKET:setclientcert",
            "Sets the client certificate of the next handshake: a chain and its key from `ngx.ssl.parse_pem_cert` \
             and `parse_pem_priv_key`; without arguments, that of `lua_ssl_certificate`.",
        ),
        method("SOCKET:close", "Closes the connection."),
    ],
    source: include_str!("../../lua/socket.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[],
};

#[repr(C)]
struct Functions {
    tcp: unsafe extern "C" fn(*mut Bridge) -> *mut c_void,
    forget: unsafe extern "C" fn(*mut c_void),
    connect: unsafe extern "C" fn(*mut Bridge, *mut c_void, *const ConnectCall) -> c_int,
    connected: unsafe extern "C" fn(*mut Bridge, *mut c_void) -> c_int,
    send: unsafe extern "C" fn(*mut Bridge, *mut c_void, *const u8, usize) -> c_int,
    sent: unsafe extern "C" fn(*mut Bridge, *mut c_void) -> c_int,
    receive: unsafe extern "C" fn(*mut Bridge, *mut c_void, c_int, f64) -> c_int,
    receive_until: unsafe extern "C" fn(*mut Bridge, *mut c_void, *mut UntilCall) -> c_int,
    received: unsafe extern "C" fn(*mut Bridge, *mut c_void, *mut UntilCall) -> c_int,
    piece: unsafe extern "C" fn(*mut Bridge, *mut c_void),
    close: unsafe extern "C" fn(*mut Bridge, *mut c_void) -> c_int,
    set_times: unsafe extern "C" fn(*mut Bridge, *mut c_void, c_int, c_int, c_int),
    bind: unsafe extern "C" fn(*mut Bridge, *mut c_void, *const u8, usize) -> c_int,
    keep: unsafe extern "C" fn(*mut Bridge, *mut c_void, f64, f64) -> c_int,
    reused: unsafe extern "C" fn(*mut Bridge, *mut c_void) -> c_int,
    option: unsafe extern "C" fn(*mut Bridge, *mut c_void, c_int, c_int, c_int) -> c_int,
    shake_hands: unsafe extern "C" fn(*mut Bridge, *mut c_void, *const HandshakeCall) -> c_int,
    shaken: unsafe extern "C" fn(*mut Bridge, *mut c_void) -> c_int,
    session: unsafe extern "C" fn(*mut Bridge) -> *mut c_void,
    forget_session: unsafe extern "C" fn(*mut c_void),
    request_socket: unsafe extern "C" fn(*mut Bridge, c_int) -> *mut c_void,
    certificate: unsafe extern "C" fn(*mut Bridge, *const u8, usize, *const u8, usize) -> *mut c_void,
}

static FUNCTIONS: Functions = Functions {
    tcp,
    forget,
    connect,
    connected,
    send,
    sent,
    receive,
    receive_until,
    received,
    piece,
    close,
    set_times,
    bind,
    keep,
    reused,
    option,
    shake_hands,
    shaken,
    session,
    forget_session,
    request_socket,
    certificate,
};

/// What the functions return: the script is to wait, and ask again.
pub(super) const WAIT: c_int = 0;
/// It is done; what there is to return is in the bridge.
pub(super) const DONE: c_int = 1;
/// It has failed; the reason is in the bridge.
pub(super) const FAILED: c_int = 2;
/// It has failed; the reason is in the bridge, and `piece` gives what there is.
const PARTIAL: c_int = 3;
/// Said of a socket that another thread of the request connects.
pub(super) const BUSY_CONNECTING: &str = "socket busy connecting";
/// The socket is another request's.
pub(super) const FOREIGN: c_int = 4;

const ERR: u8 = Level::Error as u8;
const DEBUG: u8 = Level::Debug as u8;

/// Puts the reason of a failure into the bridge.
pub(super) unsafe fn failed(bridge: *mut Bridge, reason: &str) -> c_int {
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; so for all functions here.
    let bridge = unsafe { &mut *bridge };
    bridge.buffer.clear();
    bridge.buffer.extend_from_slice(reason.as_bytes());
    bridge.answer_buffer();
    FAILED
}

/// Writes to the debug log.
pub(super) unsafe fn debug(bridge: *mut Bridge, line: impl FnOnce() -> String) {
    // SAFETY: see `failed`.
    let world = unsafe { &(*bridge).world };
    if world.logs(DEBUG) {
        world.log(DEBUG, line().as_bytes());
    }
}

/// The socket of a call, and the script that runs.
pub(super) struct Called<'a> {
    pub(super) socket: Rc<ScriptSocket>,
    pub(super) script: CurrentScript<'a>,
}

/// Returns the socket behind a handle.
///
/// # Safety
/// The handle must be one of Lua's, which keeps it during the call.
unsafe fn socket(handle: *mut c_void) -> Rc<ScriptSocket> {
    let handle = handle.cast::<ScriptSocket>().cast_const();
    // SAFETY: handles are made by `tcp` alone, of an Rc that `forget` gets back.
    unsafe {
        Rc::increment_strong_count(handle);
        Rc::from_raw(handle)
    }
}

/// Returns the parts of a call; `None` outside of scripts.
///
/// # Safety
/// As for `socket`; the bridge must be the machine's, during a call from its Lua.
pub(super) unsafe fn called<'a>(bridge: *mut Bridge, handle: *mut c_void) -> Option<Called<'a>> {
    // SAFETY: the caller vouches for both.
    unsafe { Some(Called { socket: socket(handle), script: frame::script(bridge)? }) }
}

impl Called<'_> {
    /// Returns true if the socket is another request's.
    pub(super) fn is_foreign(&self) -> bool {
        self.socket.owner.get() != self.script.number()
    }

    pub(super) fn location(&self) -> LocationId {
        self.script.location
    }

    pub(super) fn settings(&self, location: LocationId) -> &SocketSettings {
        &self.script.env.config.location(location).settings.lua.sockets
    }

    /// Makes the script wait, or says what an operation that is done returns.
    pub(super) fn settle(self, tried: Tried) -> Option<Result<(), ()>> {
        match tried {
            Tried::Done(done) => Some(done),
            Tried::Wait(waiting) => {
                *self.script.want = Some(Want::Effect(Effect::Await(waiting)));
                None
            }
        }
    }
}

/// Makes a socket of the script that runs. Returns its handle, or null outside of scripts.
pub(super) unsafe extern "C" fn tcp(bridge: *mut Bridge) -> *mut c_void {
    // SAFETY: see `failed`.
    let Some(script) = (unsafe { frame::script(bridge) }) else { return std::ptr::null_mut() };
    let socket = script.state.new_socket();
    Rc::into_raw(socket).cast_mut().cast()
}

/// Drops a handle: Lua has no more use for its socket.
pub(super) unsafe extern "C" fn forget(handle: *mut c_void) {
    if !handle.is_null() {
        // SAFETY: the handle is an Rc that `tcp` has leaked, and Lua gives it back once.
        drop(unsafe { Rc::from_raw(handle.cast::<ScriptSocket>()) });
    }
}

/// Says that a socket is closed.
pub(super) unsafe fn closed(bridge: *mut Bridge, called: &Called<'_>, doing: &str) -> c_int {
    // SAFETY: see `failed`.
    unsafe {
        if *called.settings(called.location()).log_errors {
            let line = format!("attempt to {doing} data on a closed socket: {}", called.socket.shown());
            (*bridge).world.log(ERR, line.as_bytes());
        }
        failed(bridge, "closed")
    }
}

/// Logs a failure, if the configuration wants that.
pub(super) unsafe fn log_fault(bridge: *mut Bridge, called: &Called<'_>, line: &str) {
    if *called.settings(called.socket.location.get()).log_errors {
        // SAFETY: see `failed`.
        unsafe { (*bridge).world.log(ERR, line.as_bytes()) };
    }
}

/// Logs why a read or write has failed, if that is logged: `call` is recv or send, `what` the socket and what it did.
pub(super) unsafe fn log_transfer(
    bridge: *mut Bridge,
    called: &Called<'_>,
    fault: &SocketFault,
    call: &str,
    what: &str,
) {
    let line = match fault {
        SocketFault::Timeout => format!("lua {what} timed out"),
        SocketFault::System(errno) => format!("{call}() failed ({errno}: {})", system_words(*errno)),
        _ => return,
    };
    // SAFETY: see `failed`.
    unsafe { log_fault(bridge, called, &line) };
}

pub(super) unsafe extern "C" fn close(bridge: *mut Bridge, handle: *mut c_void) -> c_int {
    // SAFETY: see `failed`.
    unsafe {
        if socket(handle).is_dialing() {
            return failed(bridge, BUSY_CONNECTING);
        }
        let usable = socket(handle).usable();
        if usable == (false, false) {
            socket(handle).close();
            return failed(bridge, "closed");
        }
        let Some(called) = called(bridge, handle).filter(|called| !called.is_foreign()) else {
            return FOREIGN;
        };
        if let Some(obstacle) = called.socket.obstacle(true, true) {
            return failed(bridge, obstacle);
        }
        called.socket.close();
        DONE
    }
}

/// Sets how long it waits, in ms; 0 is as the configuration says.
pub(super) unsafe extern "C" fn set_times(
    bridge: *mut Bridge,
    handle: *mut c_void,
    connect: c_int,
    send: c_int,
    read: c_int,
) {
    // SAFETY: see `failed` and `socket`.
    unsafe {
        let socket = socket(handle);
        let ms = |time: c_int| u64::try_from(time).unwrap_or(0);
        socket.set_given_times(ms(connect), ms(send), ms(read));
        if let Some(script) = frame::script(bridge) {
            let location = script.env.config.location(socket.location.get());
            socket.apply_times(&location.settings.lua.sockets);
        }
    }
}

/// Sets the address that it connects from.
pub(super) unsafe extern "C" fn bind(
    bridge: *mut Bridge,
    handle: *mut c_void,
    text: *const u8,
    len: usize,
) -> c_int {
    // SAFETY: see `failed` and `socket`; the string lives during the call.
    unsafe {
        let text = arg(text, len);
        let bare = text.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).unwrap_or(text);
        match std::str::from_utf8(bare).ok().and_then(|text| text.parse().ok()) {
            Some(ip) => {
                debug(bridge, || format!("lua tcp socket bind ip: {ip}"));
                socket(handle).local.set(Some(ip));
                DONE
            }
            None => failed(bridge, "bad address"),
        }
    }
}

/// Puts its connection into its pool; -1 is as the configuration says.
unsafe extern "C" fn keep(bridge: *mut Bridge, handle: *mut c_void, timeout_ms: f64, size: f64) -> c_int {
    // SAFETY: see `failed`.
    unsafe {
        if socket(handle).is_dialing() {
            return failed(bridge, BUSY_CONNECTING);
        }
        if !socket(handle).is_connected() {
            return failed(bridge, "closed");
        }
        let Some(called) = called(bridge, handle).filter(|called| !called.is_foreign()) else {
            return FOREIGN;
        };
        let socket = Rc::clone(&called.socket);
        if let Some(obstacle) = socket.obstacle(true, true) {
            return failed(bridge, obstacle);
        }
        let settings = called.settings(called.location());
        let size = if size < 0.0 { *settings.pool_size as usize } else { size as usize };
        let timeout_ms = if timeout_ms < 0.0 { *settings.keepalive_timeout_ms } else { timeout_ms as u64 };
        let scripts = called.script.state.scripts();
        if frame::timers(bridge).is_some_and(|timers| timers.is_exiting()) {
            socket.close();
            return DONE;
        }
        let pools = Rc::clone(&scripts.pools);
        if let Some(watching) = pools.watch() {
            called.script.env.host.spawn(watching);
        }
        debug(bridge, || "lua tcp socket set keepalive: saving connection".to_owned());
        match socket.keep_alive(&pools, size.max(1), timeout_ms) {
            Kept::Pooled => DONE,
            Kept::Closed => failed(bridge, "closed"),
            Kept::Unread => failed(bridge, "unread data in buffer"),
            Kept::Dubious => failed(bridge, "connection in dubious state"),
        }
    }
}

/// Puts into the bridge how often its connection came out of a pool.
unsafe extern "C" fn reused(bridge: *mut Bridge, handle: *mut c_void) -> c_int {
    // SAFETY: see `failed` and `socket`.
    unsafe {
        let socket = socket(handle);
        if socket.usable() == (false, false) && !socket.is_dialing() {
            return failed(bridge, "closed");
        }
        (*bridge).number = f64::from(socket.reused());
        DONE
    }
}

/// Gets (`sets` is 0) or sets an option, by its number in the Lua source; its value is in the bridge.
unsafe extern "C" fn option(
    bridge: *mut Bridge,
    handle: *mut c_void,
    number: c_int,
    sets: c_int,
    value: c_int,
) -> c_int {
    let option = match number {
        0 => SocketOption::KeepAlive,
        1 => SocketOption::ReuseAddress,
        2 => SocketOption::NoDelay,
        3 => SocketOption::SendBuffer,
        _ => SocketOption::ReceiveBuffer,
    };
    // SAFETY: see `failed` and `socket`.
    unsafe {
        let socket = socket(handle);
        let done = match sets {
            0 => socket.option(option),
            _ => socket.set_option(option, value).map(|set| set.map(|()| value)),
        };
        match done {
            None => failed(bridge, "closed"),
            Some(Ok(value)) => {
                (*bridge).number = f64::from(value);
                DONE
            }
            Some(Err(error)) => {
                let errno = error.raw_os_error().unwrap_or(0);
                failed(bridge, &system_words(errno))
            }
        }
    }
}

/// Makes a session of TLS for Lua to keep; null if there is no TLS.
unsafe extern "C" fn session(bridge: *mut Bridge) -> *mut c_void {
    // SAFETY: see `failed`.
    let made = unsafe { frame::script(bridge) }.and_then(|script| script.env.host.tls_session());
    made.map_or(std::ptr::null_mut(), |made| Box::into_raw(Box::new(made)).cast())
}

/// Drops a session: Lua has no more use for it.
unsafe extern "C" fn forget_session(session: *mut c_void) {
    if !session.is_null() {
        // SAFETY: it is a box that `session` has leaked, and Lua gives it back once.
        drop(unsafe { Box::from_raw(session.cast::<Rc<dyn Any>>()) });
    }
}
