//! Requests inside this one: `ngx.location.capture`, `ngx.location.capture_multi`, `ngx.is_subrequest`.

use std::ffi::c_int;

use engine::Effect;
use engine::exchange::Subresponse;
use engine::host::Level;
use engine::log_line;
use engine::subrequest::{Subrequest, SubrequestBody, Variables};
use engine::variables::Definition;
use http::Known;
use mlua_sys as ffi;
use mlua_sys::lua_State;

use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable, field, stack};
use crate::phase::{Phase, Phases};
use crate::vm::charge;
use crate::vm::frame::{self, Want};

const WAITING: Phases = Phases::of(&[Phase::Rewrite, Phase::Access, Phase::Content]);

pub(super) static AREA: Area = Area {
    name: "subrequest",
    functions: &[
        Function {
            name: "ngx.location.capture",
            phases: WAITING,
            doc: "Makes a subrequest, and returns its response: `status`, `header`, `body`, `truncated`.",
        },
        Function {
            name: "ngx.location.capture_multi",
            phases: WAITING,
            doc: "Makes several subrequests at once, and returns their responses in order.",
        },
    ],
    fields: &[field("ngx.is_subrequest", Phases::REQUEST, "Whether this request is a subrequest.")],
    source: include_str!("../lua/subrequest.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[(c"headers", headers)],
};

/// A request as Lua asks for it.
#[repr(C)]
struct Capture {
    uri: *const u8,
    uri_len: usize,
    args: *const u8,
    args_len: usize,
    method: *const u8,
    method_len: usize,
    body: *const u8,
    body_len: usize,
    has_body: c_int,
    forwards_body: c_int,
    variables: c_int,
    has_args: c_int,
    ctx: f64,
}

#[repr(C)]
struct Functions {
    is_inner: unsafe extern "C" fn(*mut Bridge) -> c_int,
    begin: unsafe extern "C" fn(*mut Bridge),
    add: unsafe extern "C" fn(*mut Bridge, *const Capture) -> c_int,
    set: unsafe extern "C" fn(*mut Bridge, *const u8, usize, *const u8, usize) -> c_int,
    status: unsafe extern "C" fn(*mut Bridge, c_int) -> c_int,
    body: unsafe extern "C" fn(*mut Bridge, c_int) -> c_int,
    finish: unsafe extern "C" fn(*mut Bridge),
    ctx: unsafe extern "C" fn(*mut Bridge) -> f64,
}

static FUNCTIONS: Functions = Functions { is_inner, begin, add, set, status, body, finish, ctx };

unsafe extern "C" fn is_inner(bridge: *mut Bridge) -> c_int {
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; so for all functions here.
    unsafe { frame::request(bridge) }
        .map_or(0, |request| c_int::from(request.exchange.subrequests.is_inner()))
}

/// Begins a list of requests: what an earlier call has left behind, when it failed, is forgotten.
unsafe extern "C" fn begin(bridge: *mut Bridge) {
    // SAFETY: see `is_inner`.
    if let Some(request) = unsafe { frame::request(bridge) } {
        *request.want = Some(Want::Effect(Effect::Subrequests(Vec::new())));
    }
}

/// Adds a request. Returns -1 for a URI that leads out of the root.
unsafe extern "C" fn add(bridge: *mut Bridge, capture: *const Capture) -> c_int {
    // SAFETY: see `is_inner`; the structure and its strings live during the call.
    unsafe {
        let capture = &*capture;
        let Some(mut request) = frame::request(bridge) else { return 0 };
        let mut uri = Vec::new();
        let Ok(own) = http::uri::decode_internal(arg(capture.uri, capture.uri_len), &mut uri) else {
            *request.want = None;
            return -1;
        };
        if log_line::enabled(request.exchange, request.env.config, Level::Debug) {
            let text =
                [b"lua http subrequest \"", &uri[..], b"?", arg(capture.args, capture.args_len), b"\""]
                    .concat();
            log_line::error(request.exchange, &mut request.env, Level::Debug, &text);
        }
        let mut args = own.to_vec();
        let given = arg(capture.args, capture.args_len);
        if capture.has_args != 0 && !given.is_empty() {
            if !args.is_empty() {
                args.push(b'&');
            }
            args.extend_from_slice(given);
        }
        let body = match (capture.has_body != 0, capture.forwards_body != 0) {
            (true, _) => SubrequestBody::Bytes(arg(capture.body, capture.body_len).to_vec()),
            (false, true) => SubrequestBody::Outer,
            (false, false) => SubrequestBody::None,
        };
        let wanted = Subrequest {
            uri,
            args,
            method: Some(arg(capture.method, capture.method_len).to_vec()),
            body,
            kept: charge::room(request.exchange, request.state).max(1),
            variables: match capture.variables {
                0 => Variables::Own,
                1 => Variables::Copied,
                _ => Variables::Shared,
            },
            set: Vec::new(),
            bare: true,
            captured: true,
            again: false,
            stub: None,
            ctx: capture.ctx as u64,
        };
        if let Some(Want::Effect(Effect::Subrequests(list))) = request.want {
            list.push(wanted);
        }
        1
    }
}

/// Gives a variable of the request that was added last a value. Returns 0 if there is no such variable, -1 if it
/// cannot be set.
unsafe extern "C" fn set(
    bridge: *mut Bridge,
    name: *const u8,
    name_len: usize,
    value: *const u8,
    value_len: usize,
) -> c_int {
    // SAFETY: see `add`.
    unsafe {
        let (name, value) = (arg(name, name_len), arg(value, value_len));
        let Some(request) = frame::request(bridge) else { return 0 };
        let variables = &request.env.config.variables;
        let name = std::str::from_utf8(name).unwrap_or_default();
        let known = variables.definition(name);
        let is_known = known.is_some();
        let known = known.filter(|definition| match &**definition {
            Definition::Slot(_) | Definition::Computed { settable: true, .. } => true,
            Definition::BuiltIn(built_in) => built_in.set.is_some(),
            _ => false,
        });
        if known.is_none() {
            *request.want = None;
            return if is_known { -1 } else { 0 };
        }
        if let Some(Want::Effect(Effect::Subrequests(list))) = request.want
            && let Some(last) = list.last_mut()
        {
            last.set.push((name.to_owned(), value.to_vec()));
        }
        1
    }
}

fn ended(answers: &[Subresponse], number: c_int) -> Option<&Subresponse> {
    usize::try_from(number).ok().and_then(|number| answers.get(number))
}

/// Returns the status of an answer; 0 if there is none.
unsafe extern "C" fn status(bridge: *mut Bridge, number: c_int) -> c_int {
    // SAFETY: see `is_inner`.
    let Some(request) = (unsafe { frame::request(bridge) }) else { return 0 };
    let Some(answer) = ended(&request.exchange.subrequests.ended, number) else { return 0 };
    match answer.exchange.response.status {
        // It was ended by ngx.exit(ngx.ERROR), or has closed its connection.
        0 | 444 => 500,
        status => c_int::from(status),
    }
}

/// Puts the body of an answer into the bridge; returns 0 if it is not whole.
unsafe extern "C" fn body(bridge: *mut Bridge, number: c_int) -> c_int {
    // SAFETY: see `is_inner`. The text is read before the answer goes.
    unsafe {
        let Some(request) = frame::request(bridge) else { return 0 };
        let Some(answer) = ended(&request.exchange.subrequests.ended, number) else { return 0 };
        (*bridge).text = answer.body.as_ptr();
        (*bridge).text_len = answer.body.len();
        c_int::from(answer.is_whole)
    }
}

/// Lets the answers go.
unsafe extern "C" fn finish(bridge: *mut Bridge) {
    // SAFETY: see `is_inner`.
    if let Some(request) = unsafe { frame::request(bridge) } {
        request.exchange.subrequests.ended.clear();
    }
}

/// Returns the number of the table that this request gets as its `ngx.ctx`, if it gets one.
unsafe extern "C" fn ctx(bridge: *mut Bridge) -> f64 {
    // SAFETY: see `is_inner`.
    unsafe { frame::request(bridge) }.map_or(0.0, |request| request.exchange.subrequests.ctx() as f64)
}

/// `headers(number)`: returns the fields of an answer by their names; a repeated one is a list.
unsafe extern "C-unwind" fn headers(state: *mut lua_State) -> c_int {
    // SAFETY: called from our own source with a number. Errors for want of memory unwind past references only.
    unsafe {
        let number = ffi::lua_tointeger(state, 1) as c_int;
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        ffi::lua_settop(state, 0);
        ffi::lua_createtable(state, 0, 8);
        let Some(request) = frame::request(bridge) else { return 1 };
        let Some(answer) = ended(&request.exchange.subrequests.ended, number) else { return 1 };
        let response = &answer.exchange.response;
        for (_, name, value) in response.headers.iter() {
            stack::push(state, name);
            ffi::lua_rawget(state, 1);
            match ffi::lua_type(state, -1) {
                ffi::LUA_TNIL => {
                    ffi::lua_settop(state, 1);
                    stack::push(state, name);
                    stack::push(state, value);
                    ffi::lua_rawset(state, 1);
                }
                ffi::LUA_TTABLE => {
                    let behind = ffi::lua_objlen(state, 2) + 1;
                    stack::push(state, value);
                    ffi::lua_rawseti(state, 2, behind as _);
                }
                _ => {
                    ffi::lua_createtable(state, 2, 0);
                    ffi::lua_pushvalue(state, 2);
                    ffi::lua_rawseti(state, 3, 1);
                    stack::push(state, value);
                    ffi::lua_rawseti(state, 3, 2);
                    stack::push(state, name);
                    ffi::lua_pushvalue(state, 3);
                    ffi::lua_rawset(state, 1);
                }
            }
            ffi::lua_settop(state, 1);
        }
        let text = |name: &[u8], value: &[u8]| {
            stack::push(state, name);
            stack::push(state, value);
            ffi::lua_rawset(state, 1);
        };
        if let Some(kind) = &response.content_type {
            text(b"Content-Type", kind);
        }
        if let Some(location) = &response.location {
            text(b"Location", location);
        }
        if let Some(modified_s) = response.last_modified_s
            && !response.headers.has(Known::LastModified)
        {
            text(b"Last-Modified", &http::date::http_date(modified_s));
        }
        if let Some(len) = response.content_length
            && !response.headers.has(Known::ContentLength)
        {
            stack::push(state, b"Content-Length");
            ffi::lua_pushnumber(state, len as f64);
            ffi::lua_rawset(state, 1);
        }
        1
    }
}
