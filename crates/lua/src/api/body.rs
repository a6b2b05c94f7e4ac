//! The request's body: `ngx.req.read_body` and what follows it.

use std::any::Any;
use std::ffi::c_int;
use std::path::Path;
use std::rc::Rc;

use engine::Effect;
use engine::exchange::{Body, BodyFile, Request};
use engine::host::{OpenRequest, Symlinks};
use http::{BodyFraming, Known};
use mlua_sys as ffi;
use mlua_sys::lua_State;

use super::multi_value::{log_args_limit, push_args};
use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable, stack};
use crate::phase::Phases;
use crate::vm::charge;
use crate::vm::frame::{self, Want};

const fn of_request(name: &'static str, doc: &'static str) -> Function {
    Function { name, phases: Phases::REQUEST, doc }
}

pub(super) static AREA: Area = Area {
    name: "body",
    functions: &[
        Function {
            name: "ngx.req.read_body",
            phases: Phases::OUTPUT,
            doc: "Waits until the request's body is read.",
        },
        of_request("ngx.req.discard_body", "Reads and discards the body before the answer is sent."),
        of_request("ngx.req.get_body_data", "Returns the body, if it was read and is in memory."),
        of_request(
            "ngx.req.get_body_file",
            "Returns the path of the file that holds the body, if it was too large for memory.",
        ),
        of_request(
            "ngx.req.get_post_args",
            "Returns the arguments of a form in the body, at most 100 or as many as the argument says.",
        ),
        of_request("ngx.req.set_body_data", "Replaces the body."),
        of_request(
            "ngx.req.set_body_file",
            "Replaces the body by a file; with `true` the file is removed afterwards.",
        ),
        of_request("ngx.req.init_body", "Begins a new body."),
        of_request("ngx.req.append_body", "Appends to the body that `ngx.req.init_body` began."),
        of_request("ngx.req.finish_body", "Ends the body that `ngx.req.init_body` began."),
    ],
    fields: &[],
    source: include_str!("../lua/body.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[(c"get_post_args", get_post_args)],
};

#[repr(C)]
struct Functions {
    read: unsafe extern "C" fn(*mut Bridge) -> c_int,
    discard: unsafe extern "C" fn(*mut Bridge),
    state: unsafe extern "C" fn(*mut Bridge) -> c_int,
    data: unsafe extern "C" fn(*mut Bridge) -> c_int,
    file: unsafe extern "C" fn(*mut Bridge) -> c_int,
    set_data: unsafe extern "C" fn(*mut Bridge, *const u8, usize) -> c_int,
    set_file: unsafe extern "C" fn(*mut Bridge, *const u8, usize, c_int) -> c_int,
    init: unsafe extern "C" fn(*mut Bridge),
    append: unsafe extern "C" fn(*mut Bridge, *const u8, usize) -> c_int,
    finish: unsafe extern "C" fn(*mut Bridge) -> c_int,
}

static FUNCTIONS: Functions =
    Functions { read, discard, state, data, file, set_data, set_file, init, append, finish };

/// Returns 1 if the script is to wait for the body.
unsafe extern "C" fn read(bridge: *mut Bridge) -> c_int {
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; so for all functions here.
    let Some(request) = (unsafe { frame::request(bridge) }) else { return 0 };
    if request.exchange.request.body_settled() {
        return 0;
    }
    *request.want = Some(Want::Effect(Effect::ReadBody));
    1
}

unsafe extern "C" fn discard(bridge: *mut Bridge) {
    // SAFETY: see `read`.
    if let Some(request) = unsafe { frame::request(bridge) }
        && !request.exchange.request.body_settled()
    {
        // One that was read stays, as in nginx.
        request.exchange.request.discard_wanted = true;
    }
}

/// Returns the state of the body: 0 not read yet, 1 read or none, 2 discarded.
unsafe extern "C" fn state(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `read`.
    let Some(request) = (unsafe { frame::request(bridge) }) else { return 0 };
    match &request.exchange.request.body {
        Body::Discarded => 2,
        _ => c_int::from(request.exchange.request.body_settled()),
    }
}

/// Puts the body into the bridge; returns 0 if there is none in memory.
unsafe extern "C" fn data(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `read`. The text is read before anything else happens to the body.
    unsafe {
        let Some(request) = frame::request(bridge) else { return 0 };
        let Body::Memory(bytes) = &request.exchange.request.body else { return 0 };
        (*bridge).text = bytes.as_ptr();
        (*bridge).text_len = bytes.len();
        c_int::from(!bytes.is_empty())
    }
}

/// Puts the path of the body's file into the bridge; returns 0 if it is not in a file.
unsafe extern "C" fn file(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `data`.
    unsafe {
        let Some(request) = frame::request(bridge) else { return 0 };
        let Body::File(file) = &request.exchange.request.body else { return 0 };
        let path = file.path.as_os_str().as_encoded_bytes();
        (*bridge).text = path.as_ptr();
        (*bridge).text_len = path.len();
        1
    }
}

/// Sets the length of the new body in the request's fields.
fn set_length(request: &mut Request, length: u64) {
    request.framing = if length == 0 { BodyFraming::None } else { BodyFraming::Length(length) };
    let headers = &mut request.head.headers;
    headers.remove_known(Known::TransferEncoding);
    headers.set_known(Known::ContentLength, length.to_string().as_bytes());
}

/// Returns 0 if there is no room for it.
unsafe extern "C" fn set_data(bridge: *mut Bridge, data: *const u8, len: usize) -> c_int {
    // SAFETY: see `read`.
    if !unsafe { charge::has_room(bridge, len) } {
        return 0;
    }
    // SAFETY: as above; the string lives during the call.
    let (Some(request), data) = (unsafe { (frame::request(bridge), arg(data, len)) }) else { return 1 };
    let request = &mut request.exchange.request;
    request.body = Body::Memory(data.to_vec());
    set_length(request, data.len() as u64);
    1
}

/// Returns 0 if the file cannot be opened.
unsafe extern "C" fn set_file(bridge: *mut Bridge, path: *const u8, len: usize, removes: c_int) -> c_int {
    // SAFETY: see `read`; the string lives during the call.
    let (Some(request), path) = (unsafe { (frame::request(bridge), arg(path, len)) }) else { return 0 };
    let open =
        OpenRequest { path, stat_only: false, symlinks: Symlinks::Follow, trusted_prefix: 0, kept: None };
    let Ok(opened) = request.env.host.open(open) else { return 0 };
    let (Some(file), Ok(name)) = (opened.file, std::str::from_utf8(path)) else { return 0 };
    let path = Path::new(name);
    let guard: Rc<dyn Any> = if removes != 0 { request.env.host.removal(path) } else { Rc::new(()) };
    let request = &mut request.exchange.request;
    request.body = Body::File(BodyFile { file, len: opened.len, path: path.into(), guard });
    set_length(request, opened.len);
    1
}

unsafe extern "C" fn init(bridge: *mut Bridge) {
    // SAFETY: see `read`.
    if let Some(request) = unsafe { frame::request(bridge) } {
        *request.state.building.borrow_mut() = Some(Vec::new());
    }
}

/// Returns 0 if no body was begun, -1 if there is no room for more.
unsafe extern "C" fn append(bridge: *mut Bridge, data: *const u8, len: usize) -> c_int {
    // SAFETY: see `read`.
    if !unsafe { charge::has_room_to_build(bridge, len) } {
        return -1;
    }
    // SAFETY: as above; the string lives during the call.
    let (Some(request), data) = (unsafe { (frame::request(bridge), arg(data, len)) }) else { return 0 };
    match &mut *request.state.building.borrow_mut() {
        Some(body) => {
            body.extend_from_slice(data);
            1
        }
        None => 0,
    }
}

/// Returns 0 if no body was begun.
unsafe extern "C" fn finish(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `read`.
    let Some(request) = (unsafe { frame::request(bridge) }) else { return 0 };
    let Some(body) = request.state.building.take() else { return 0 };
    let length = body.len() as u64;
    request.exchange.request.body = Body::Memory(body);
    set_length(&mut request.exchange.request, length);
    1
}

/// `get_post_args(max)`: returns the table, and "truncated" if there are more; nil and an error if the body is in a
/// file.
unsafe extern "C-unwind" fn get_post_args(state: *mut lua_State) -> c_int {
    // SAFETY: called from our own source with a number. Errors for want of memory unwind past references only.
    unsafe {
        let max = ffi::lua_tonumber(state, 1).clamp(0.0, 1e9) as u32;
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        ffi::lua_settop(state, 1);
        let Some(request) = frame::request(bridge) else { return 0 };
        let body: &[u8] = match &request.exchange.request.body {
            Body::Memory(body) => body,
            Body::File(_) => {
                ffi::lua_pushnil(state);
                stack::push(state, b"request body in temp file not supported");
                return 2;
            }
            _ => b"",
        };
        ffi::lua_createtable(state, 0, 4);
        match push_args(state, body, max, &mut (*bridge).buffer) {
            true => {
                log_args_limit(bridge, max);
                stack::push(state, b"truncated");
                2
            }
            false => 1,
        }
    }
}
