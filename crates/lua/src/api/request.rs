//! `ngx.req`: the request, and changing it.

use std::ffi::c_int;

use engine::host::Level;
use engine::log_line;
use http::{Known, Version};
use mlua_sys as ffi;
use mlua_sys::lua_State;

use super::multi_value::{log_args_limit, log_limit, push_args, push_headers};
use crate::codec::uri::{self, Escape};
use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable, stack};
use crate::phase::Phases;
use crate::vm::charge;
use crate::vm::frame::{self, Want};

const fn of_request(name: &'static str, doc: &'static str) -> Function {
    Function { name, phases: Phases::REQUEST, doc }
}

pub(super) static AREA: Area = Area {
    name: "request",
    functions: &[
        of_request("ngx.req.get_method", "Returns the method's name."),
        of_request("ngx.req.set_method", "Sets the method, to one of `ngx.HTTP_GET`, …"),
        of_request(
            "ngx.req.get_headers",
            "Returns the request's headers, at most 100 or as many as the argument says; with a true second \
             argument, names keep their case.",
        ),
        of_request("ngx.req.set_header", "Sets a header to one value, or to a list of them."),
        of_request("ngx.req.clear_header", "Removes a header."),
        of_request(
            "ngx.req.raw_header",
            "Returns the request's head as text, without its first line if the argument is true.",
        ),
        of_request(
            "ngx.req.get_uri_args",
            "Returns the arguments of the query, at most 100 or as many as the argument says.",
        ),
        of_request("ngx.req.set_uri_args", "Sets the query, from text or a table."),
        of_request(
            "ngx.req.set_uri",
            "Sets the URI; with `true`, in rewrite_by_lua*, searches for its location.",
        ),
        of_request("ngx.req.http_version", "Returns the protocol's version: 0.9, 1.0, 1.1."),
        of_request("ngx.req.start_time", "Returns when the request began, in seconds with milliseconds."),
        of_request("ngx.req.is_internal", "Returns whether the request was redirected internally."),
    ],
    fields: &[],
    source: include_str!("../lua/request.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[(c"get_headers", get_headers), (c"get_uri_args", get_uri_args)],
};

#[repr(C)]
struct Functions {
    method: unsafe extern "C" fn(*mut Bridge),
    set_method: unsafe extern "C" fn(*mut Bridge, *const u8, usize),
    set_header: unsafe extern "C" fn(*mut Bridge, *const u8, usize, *const u8, usize, c_int) -> c_int,
    raw_header: unsafe extern "C" fn(*mut Bridge, c_int),
    set_args: unsafe extern "C" fn(*mut Bridge, *const u8, usize),
    set_uri: unsafe extern "C" fn(*mut Bridge, *const u8, usize, c_int) -> c_int,
    version: unsafe extern "C" fn(*mut Bridge) -> f64,
    start_time: unsafe extern "C" fn(*mut Bridge) -> f64,
    is_internal: unsafe extern "C" fn(*mut Bridge) -> c_int,
}

static FUNCTIONS: Functions = Functions {
    method,
    set_method,
    set_header,
    raw_header,
    set_args,
    set_uri,
    version,
    start_time,
    is_internal,
};

unsafe extern "C" fn method(bridge: *mut Bridge) {
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; so for all functions here. The
    // text is read before anything else happens to the request.
    unsafe {
        let Some(request) = frame::request(bridge) else { return };
        let name = request.exchange.method();
        (*bridge).text = name.as_ptr();
        (*bridge).text_len = name.len();
    }
}

unsafe extern "C" fn set_method(bridge: *mut Bridge, name: *const u8, len: usize) {
    // SAFETY: see `method`; the name lives during the call.
    if let (Some(request), name) = unsafe { (frame::request(bridge), arg(name, len)) } {
        request.exchange.request.method_override = Some(name.to_vec());
    }
}

/// How `set_header` treats existing values.
const REMOVE: c_int = 0;
const REPLACE: c_int = 1;

/// The server holds as much as it may.
const NO_ROOM: c_int = -1;

/// Removes a header (0), sets it (1), or adds a value (2).
unsafe extern "C" fn set_header(
    bridge: *mut Bridge,
    name: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
    how: c_int,
) -> c_int {
    // SAFETY: see `method`; name and value live during the call.
    let (Some(request), name, value) =
        (unsafe { (frame::request(bridge), arg(name, len), arg(value, value_len)) })
    else {
        return 0;
    };
    if !value.is_empty() && charge::room(request.exchange, request.state) < name.len() + value.len() {
        return NO_ROOM;
    }
    let mut name_buffer = Vec::new();
    let name: &[u8] = match uri::escape_if_needed(Escape::HeaderName, name, &mut name_buffer) {
        true => &name_buffer,
        false => name,
    };
    let mut value_buffer = Vec::new();
    let value: &[u8] = match uri::escape_if_needed(Escape::HeaderValue, value, &mut value_buffer) {
        true => &value_buffer,
        false => value,
    };
    let how = if value.is_empty() { REMOVE } else { how };
    let known = Known::from_bytes(name);
    let exchange = request.exchange;
    let head = &exchange.request.head;
    if head.version == Version::Http09 {
        return 1;
    }
    if known == Some(Known::Connection) && !http::framing::keep_alive(head.version, &head.headers) {
        // As in nginx, the connection was decided about before any script ran.
        exchange.response.close = true;
    }
    let request = &mut exchange.request;
    if known == Some(Known::Host) && how != REMOVE {
        // An invalid host leaves $host as it was.
        let mut host = Vec::new();
        if http::authority::parse(value, &mut host).is_ok() {
            request.host = host;
        }
    }
    let headers = &mut request.head.headers;
    match how {
        REMOVE => {
            headers.remove(name);
        }
        REPLACE => headers.set(name, value),
        _ => headers.push(name, value),
    }
    1
}

unsafe extern "C" fn raw_header(bridge: *mut Bridge, without_line: c_int) {
    // SAFETY: see `method`.
    unsafe {
        let Some(request) = frame::request(bridge) else { return };
        let head = &request.exchange.request.head;
        let out = &mut (*bridge).buffer;
        out.clear();
        if without_line == 0 {
            out.extend_from_slice(head.request_line());
            out.extend_from_slice(b"\r\n");
        }
        for (_, name, value) in head.headers.iter() {
            http::encode::encode_field(out, name, value);
        }
        out.extend_from_slice(b"\r\n");
        (*bridge).answer_buffer();
    }
}

unsafe extern "C" fn set_args(bridge: *mut Bridge, args: *const u8, len: usize) {
    // SAFETY: see `method`; the string lives during the call.
    if let (Some(request), args) = unsafe { (frame::request(bridge), arg(args, len)) } {
        let mut escaped = Vec::new();
        let args = match uri::escape_if_needed(Escape::Query, args, &mut escaped) {
            true => &escaped,
            false => args,
        };
        let request = &mut request.exchange.request;
        request.args.clear();
        request.args.extend_from_slice(args);
        request.uri_changed = true;
    }
}

/// Returns 0 for a jump while a thread waits for requests inside this one.
unsafe extern "C" fn set_uri(bridge: *mut Bridge, uri: *const u8, len: usize, jump: c_int) -> c_int {
    // SAFETY: see `method`; the string lives during the call.
    let (Some(request), uri) = (unsafe { (frame::request(bridge), arg(uri, len)) }) else { return 1 };
    if jump != 0 && request.state.progress.has_requests() {
        return 0;
    }
    let exchange = request.exchange;
    exchange.request.uri.clear();
    exchange.request.uri.extend_from_slice(uri);
    exchange.request.uri_changed = true;
    exchange.route.internal = true;
    exchange.route.search_again = jump != 0;
    if jump != 0 {
        let text = [b"lua set uri jump to \"", uri, b"\""].concat();
        let mut env = request.env;
        log_line::error(exchange, &mut env, Level::Debug, &text);
        *request.want = Some(Want::Jump);
    } else {
        exchange.route.rewritten = true;
    }
    1
}

unsafe extern "C" fn version(bridge: *mut Bridge) -> f64 {
    // SAFETY: see `method`.
    let Some(request) = (unsafe { frame::request(bridge) }) else { return 0.0 };
    match request.exchange.request.head.version {
        Version::Http09 => 0.9,
        Version::Http10 => 1.0,
        Version::Http11 => 1.1,
        Version::Http2 => 2.0,
    }
}

unsafe extern "C" fn start_time(bridge: *mut Bridge) -> f64 {
    // SAFETY: see `method`.
    unsafe { frame::request(bridge) }
        .map_or(0.0, |request| request.exchange.timing.start.epoch_ms() as f64 / 1000.0)
}

unsafe extern "C" fn is_internal(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `method`.
    unsafe { frame::request(bridge) }.map_or(0, |request| c_int::from(request.exchange.route.internal))
}

/// `get_headers(max, raw)`: returns a table, and "truncated" if there are more.
unsafe extern "C-unwind" fn get_headers(state: *mut lua_State) -> c_int {
    // SAFETY: called from our own source with a number and a boolean. Errors for want of memory unwind past references
    // only; the buffer is the bridge's.
    unsafe {
        let max = ffi::lua_tonumber(state, 1).clamp(0.0, 1e9) as usize;
        let raw = ffi::lua_toboolean(state, 2) != 0;
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        ffi::lua_settop(state, 0);
        let Some(request) = frame::request(bridge) else {
            ffi::lua_createtable(state, 0, 0);
            return 1;
        };
        let found = request.exchange.request.head.headers.len();
        if max > 0 && found > max {
            log_limit(bridge, "request header", found, max);
        }
        // Taken anew: the log has looked at the request too.
        let Some(request) = frame::request(bridge) else { return 0 };
        let headers = &request.exchange.request.head.headers;
        ffi::lua_createtable(state, 0, headers.len() as c_int);
        push_headers(state, headers, raw, max, 0, &mut (*bridge).buffer)
    }
}

/// `get_uri_args(max, table)`: returns the table, or a new one, and "truncated" if there are more.
unsafe extern "C-unwind" fn get_uri_args(state: *mut lua_State) -> c_int {
    // SAFETY: as in `get_headers`; the second argument is a table or nil.
    unsafe {
        let max = ffi::lua_tonumber(state, 1).clamp(0.0, 1e9) as u32;
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        ffi::lua_settop(state, 2);
        if ffi::lua_istable(state, 2) == 0 {
            ffi::lua_settop(state, 1);
            ffi::lua_createtable(state, 0, 4);
        }
        let Some(request) = frame::request(bridge) else { return 1 };
        match push_args(state, &request.exchange.request.args, max, &mut (*bridge).buffer) {
            true => {
                log_args_limit(bridge, max);
                stack::push(state, b"truncated");
                2
            }
            false => 1,
        }
    }
}
