//! The answer's head: `ngx.status`, `ngx.header`, `ngx.resp`.

use std::ffi::c_int;

use engine::Exchange;
use engine::exchange::Response;
use engine::host::Level;
use engine::log_line;
use engine::output::Framing;
use http::{Known, Version};
use mlua_sys as ffi;
use mlua_sys::lua_State;

use super::multi_value::{log_limit, push_headers};
use crate::codec::date;
use crate::codec::uri::{self, Escape};
use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable, field, stack};
use crate::phase::Phases;
use crate::vm::{charge, frame, output};

pub(super) static AREA: Area = Area {
    name: "response",
    functions: &[
        Function {
            name: "ngx.resp.get_headers",
            phases: Phases::REQUEST,
            doc: "Returns the response's headers, at most 100 or as many as the argument says; with a true second \
                 argument, names keep their case.",
        },
        Function { name: "ngx.send_headers", phases: Phases::OUTPUT, doc: "Sends the head now." },
    ],
    fields: &[
        field("ngx.status", Phases::REQUEST, "The response's status; 0 until one is set."),
        field(
            "ngx.header",
            Phases::REQUEST,
            "The response's headers; nil removes one, a list sets several values.",
        ),
        field("ngx.headers_sent", Phases::REQUEST, "Whether the response's head has been sent."),
    ],
    source: include_str!("../lua/response.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[(c"get_headers", get_headers), (c"send_headers", send_headers)],
};

#[repr(C)]
struct Functions {
    status: unsafe extern "C" fn(*mut Bridge) -> c_int,
    set_status: unsafe extern "C" fn(*mut Bridge, c_int) -> c_int,
    headers_sent: unsafe extern "C" fn(*mut Bridge) -> c_int,
    get: unsafe extern "C" fn(*mut Bridge, *const u8, usize) -> c_int,
    get_next: unsafe extern "C" fn(*mut Bridge, *const u8, usize, c_int),
    set: unsafe extern "C" fn(*mut Bridge, *const u8, usize, *const u8, usize, c_int) -> c_int,
}

static FUNCTIONS: Functions = Functions { status, set_status, headers_sent, get, get_next, set };

unsafe extern "C" fn status(bridge: *mut Bridge) -> c_int {
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; so for all functions here.
    let Some(request) = (unsafe { frame::request(bridge) }) else { return 0 };
    let response = &request.exchange.response;
    c_int::from(if response.error_status != 0 { response.error_status } else { response.status })
}

/// Returns 0 if an answer cannot have this status; 0 as a status is none.
unsafe extern "C" fn set_status(bridge: *mut Bridge, status: c_int) -> c_int {
    // SAFETY: see `status`.
    let phase = unsafe { (*bridge).phase };
    // SAFETY: see `status`.
    let Some(mut request) = (unsafe { frame::request(bridge) }) else { return 1 };
    if request.exchange.output.head_written() {
        let text = b"attempt to set ngx.status after sending out response headers";
        log_line::error(request.exchange, &mut request.env, Level::Error, text);
        return 1;
    }
    let response = &mut request.exchange.response;
    // A filter may assign an upgrade's own 101 again, and a script may answer one.
    let head = &request.exchange.request.head;
    let is_upgrade = status == 101
        && head.version == Version::Http11
        && head.headers.has(Known::Upgrade)
        && Phases::OUTPUT.0 & phase != 0;
    let is_final =
        is_upgrade || status == 0 || (200..1000).contains(&status) || status == c_int::from(response.status);
    let Some(status) = u16::try_from(status).ok().filter(|_| is_final) else { return 0 };
    response.status = status;
    response.error_status = 0;
    // nginx has no words for it.
    response.status_line = (status == 101).then(|| b"101 Switching Protocols".to_vec());
    1
}

unsafe extern "C" fn headers_sent(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `status`.
    unsafe { frame::request(bridge) }.map_or(0, |request| c_int::from(request.exchange.output.head_written()))
}

/// Writes the name to `out`, with dashes for underscores if `transform` says so.
fn spelt(name: &[u8], transform: bool, out: &mut Vec<u8>) {
    out.clear();
    out.extend(name.iter().map(|&byte| if transform && byte == b'_' { b'-' } else { byte }));
}

/// Appends the value of a field that the engine keeps outside of the list of headers; returns false if there is none.
fn kept_apart(exchange: &Exchange, known: Option<Known>, out: &mut Vec<u8>) -> bool {
    let response = &exchange.response;
    match known {
        Some(known) if response.headers.has(known) => false,
        Some(Known::ContentType) => append(response.content_type.as_deref(), out),
        Some(Known::Location) => append(response.location.as_deref(), out),
        Some(Known::ContentLength) => {
            let Some(length) = response.content_length else { return false };
            out.extend_from_slice(length.to_string().as_bytes());
            true
        }
        Some(Known::LastModified) => {
            let Some(modified_s) = response.last_modified_s else { return false };
            date::http(modified_s as i64, out);
            true
        }
        Some(Known::TransferEncoding) => {
            let is_chunked = exchange.output.head_written() && exchange.output.framing == Framing::Chunked;
            append(is_chunked.then_some(b"chunked"), out)
        }
        Some(Known::Connection) => append(Some(connection(exchange)), out),
        _ => false,
    }
}

/// Returns the value of `Connection` that the head has, or will have.
fn connection(exchange: &Exchange) -> &'static [u8] {
    let Exchange { output, request, response, .. } = exchange;
    let keeps = match output.head_written() {
        true => output.keep_alive,
        false => !response.close && http::framing::keep_alive(request.head.version, &request.head.headers),
    };
    match response.status {
        101 => b"upgrade",
        _ if keeps => b"keep-alive",
        _ => b"close",
    }
}

fn append(value: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
    value.inspect(|value| out.extend_from_slice(value)).is_some()
}

/// Returns the number of a header's values, and puts the first into the bridge.
unsafe extern "C" fn get(bridge: *mut Bridge, name: *const u8, len: usize) -> c_int {
    // SAFETY: see `status`; the name lives during the call.
    let (Some(request), name) = (unsafe { (frame::request(bridge), arg(name, len)) }) else { return 0 };
    let settings = &request.exchange.settings(request.env.config).lua;
    // SAFETY: the buffer is the bridge's own.
    let bridge = unsafe { &mut *bridge };
    let mut name_buffer = std::mem::take(&mut request.exchange.scratch);
    spelt(name, *settings.transform_underscores, &mut name_buffer);
    let response = &request.exchange.response;
    bridge.buffer.clear();
    let mut count = 0;
    if kept_apart(request.exchange, Known::from_bytes(&name_buffer), &mut bridge.buffer) {
        count = 1;
    } else {
        for value in response.headers.find_all(&name_buffer) {
            if count == 0 {
                bridge.buffer.extend_from_slice(value);
            }
            count += 1;
        }
    }
    request.exchange.scratch = name_buffer;
    bridge.answer_buffer();
    count
}

/// Puts one of several values of a header, counted from 0, into the bridge.
unsafe extern "C" fn get_next(bridge: *mut Bridge, name: *const u8, len: usize, number: c_int) {
    // SAFETY: see `get`.
    let (Some(request), name) = (unsafe { (frame::request(bridge), arg(name, len)) }) else { return };
    let settings = &request.exchange.settings(request.env.config).lua;
    // SAFETY: as above.
    let bridge = unsafe { &mut *bridge };
    let mut name_buffer = std::mem::take(&mut request.exchange.scratch);
    spelt(name, *settings.transform_underscores, &mut name_buffer);
    bridge.buffer.clear();
    let mut values = request.exchange.response.headers.find_all(&name_buffer);
    append(values.nth(number as usize), &mut bridge.buffer);
    request.exchange.scratch = name_buffer;
    bridge.answer_buffer();
}

/// What `set` returns when the server holds as much as it may.
const NO_ROOM: c_int = -1;

/// How `set` treats existing values.
const REMOVE: c_int = 0;
const REPLACE: c_int = 1;

/// Removes a header (0), sets it (1), or adds a value (2); returns 0 if the value is not valid for the header.
unsafe extern "C" fn set(
    bridge: *mut Bridge,
    name: *const u8,
    len: usize,
    value: *const u8,
    value_len: usize,
    how: c_int,
) -> c_int {
    // SAFETY: see `status`; name and value live during the call.
    let (Some(mut request), name, value) =
        (unsafe { (frame::request(bridge), arg(name, len), arg(value, value_len)) })
    else {
        return 1;
    };
    if request.exchange.output.head_written() {
        let text = b"attempt to set ngx.header.HEADER after sending out response headers";
        log_line::error(request.exchange, &mut request.env, Level::Error, text);
        return 1;
    }
    if !value.is_empty() && charge::room(request.exchange, request.state) < name.len() + value.len() {
        return NO_ROOM;
    }
    let settings = &request.exchange.settings(request.env.config).lua;
    request.state.headers_set.set(true);
    let mut plain = std::mem::take(&mut request.exchange.scratch);
    spelt(name, *settings.transform_underscores, &mut plain);
    let mut name = Vec::new();
    let name: &[u8] = match uri::escape_if_needed(Escape::HeaderName, &plain, &mut name) {
        true => &name,
        false => &plain,
    };
    // SAFETY: the buffer is the bridge's own.
    let buffer = unsafe { &mut (*bridge).buffer };
    buffer.clear();
    let value: &[u8] = match uri::escape_if_needed(Escape::HeaderValue, value, buffer) {
        true => buffer,
        false => value,
    };
    if name.eq_ignore_ascii_case(b"content-type") {
        request.state.type_set.set(true);
    }
    // An empty value removes, as in ngx_lua.
    let how = if value.is_empty() { REMOVE } else { how };
    let done = write_header(&mut request.exchange.response, name, value, how);
    request.exchange.scratch = plain;
    c_int::from(done)
}

/// Changes a header. Headers keep the spelling and order that scripts give them, so they go into the list, and the
/// engine's own value of the same header is dropped.
fn write_header(response: &mut Response, name: &[u8], value: &[u8], how: c_int) -> bool {
    let removes = how == REMOVE;
    let known = Known::from_bytes(name);
    match known {
        Some(Known::ContentType) => {
            response.content_type = (!removes).then(|| value.to_vec());
            return true;
        }
        Some(Known::Location) => response.location = None,
        Some(Known::LastModified) => response.last_modified_s = None,
        Some(Known::ContentLength) => {
            response.content_length = None;
            if !removes {
                let Some(length) = http::framing::parse_length(value) else { return false };
                response.content_length = Some(length);
            }
        }
        _ => {}
    }
    if removes {
        response.headers.remove(name);
    } else if how == REPLACE || known.is_some_and(has_one_value) {
        response.headers.set(name, value);
    } else {
        response.headers.push(name, value);
    }
    true
}

/// Returns whether nginx keeps one value of this header: the last one set.
fn has_one_value(known: Known) -> bool {
    matches!(
        known,
        Known::Server
            | Known::Date
            | Known::Location
            | Known::LastModified
            | Known::ContentLength
            | Known::ContentEncoding
            | Known::ContentRange
            | Known::AcceptRanges
            | Known::WwwAuthenticate
            | Known::Expires
            | Known::ETag
    )
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
        ffi::lua_createtable(state, 0, 8);
        let Some(request) = frame::request(bridge) else { return 1 };
        let buffer = &mut (*bridge).buffer;
        let mut count = 0;
        let apart = [
            (Known::ContentType, &b"content-type"[..]),
            (Known::ContentLength, b"content-length"),
            (Known::LastModified, b"last-modified"),
            (Known::Location, b"location"),
            (Known::Connection, b"connection"),
            (Known::TransferEncoding, b"transfer-encoding"),
        ];
        for (known, name) in apart {
            buffer.clear();
            if kept_apart(request.exchange, Some(known), buffer) {
                stack::push(state, name);
                stack::push(state, buffer);
                ffi::lua_rawset(state, -3);
                count += 1;
            }
        }
        let found = count + request.exchange.response.headers.len();
        if max > 0 && found > max {
            log_limit(bridge, "response header", found, max);
        }
        // Taken anew: the log has looked at the request too.
        let Some(request) = frame::request(bridge) else { return 1 };
        push_headers(state, &request.exchange.response.headers, raw, max, count, &mut (*bridge).buffer)
    }
}

/// `send_headers()`: returns 1, or nil and an error.
unsafe extern "C-unwind" fn send_headers(state: *mut lua_State) -> c_int {
    // SAFETY: called from our own source in a phase with a request; filters run inside, protected.
    unsafe {
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        super::output::answer(state, output::send_head(bridge))
    }
}
