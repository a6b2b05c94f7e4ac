//! Ending, redirecting and waiting: `ngx.exit`, `ngx.redirect`, `ngx.exec`, `ngx.sleep`; `ngx.ctx`, `ngx.arg`,
//! `ngx.worker`.

use std::ffi::c_int;

use engine::Effect;
use engine::host::Level;
use engine::log_line;

use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable, field};
use crate::phase::{Phase, Phases};
use crate::vm::charge;
use crate::vm::frame::{self, Want};

const fn everywhere(name: &'static str, doc: &'static str) -> Function {
    Function { name, phases: Phases::ALL, doc }
}

pub(super) static AREA: Area = Area {
    name: "control",
    functions: &[
        Function {
            name: "ngx.exit",
            phases: Phases::of(&[
                Phase::ServerRewrite,
                Phase::Rewrite,
                Phase::Access,
                Phase::Content,
                Phase::HeaderFilter,
                Phase::Balancer,
                Phase::Timer,
                Phase::SslClientHello,
                Phase::SslCertificate,
            ]),
            doc: "Ends the request with a status of at least 200; a lower code ends the phase.",
        },
        Function {
            name: "ngx.redirect",
            phases: Phases::OUTPUT,
            doc: "Answers with a redirect, by default 302.",
        },
        Function {
            name: "ngx.exec",
            phases: Phases::OUTPUT,
            doc: "Continues in another location of this server, which may be a named one.",
        },
        Function {
            name: "ngx.sleep",
            phases: Phases::EVENTS,
            doc: "Waits for the given number of seconds, while other requests are served.",
        },
        everywhere(
            "ngx.worker.id",
            "Returns the worker's number, from 0; nil in `init_by_lua`. A worker is a thread here.",
        ),
        everywhere("ngx.worker.count", "Returns the number of workers."),
        everywhere("ngx.worker.pid", "Returns the ID of the worker's process, which all workers share."),
        everywhere("ngx.worker.pids", "Returns the process IDs of the workers, one entry for each worker."),
        everywhere("ngx.worker.exiting", "Returns whether the worker is about to end."),
    ],
    fields: &[
        field("ngx.ctx", Phases::REQUEST, "A table that belongs to the request."),
        field(
            "ngx.arg",
            Phases::of(&[Phase::Set, Phase::BodyFilter]),
            "The arguments of set_by_lua*; in body_filter_by_lua* the piece of body (1) and whether it is the last (2).",
        ),
    ],
    source: include_str!("../lua/control.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[],
};

#[repr(C)]
struct Functions {
    exit: unsafe extern "C" fn(*mut Bridge, c_int) -> c_int,
    redirect: unsafe extern "C" fn(*mut Bridge, *const u8, usize, c_int) -> c_int,
    exec: unsafe extern "C" fn(*mut Bridge, *const u8, usize, *const u8, usize) -> c_int,
    sleep: unsafe extern "C" fn(*mut Bridge, f64),
    set_arg: unsafe extern "C" fn(*mut Bridge, c_int) -> c_int,
    chunk: unsafe extern "C" fn(*mut Bridge),
    set_chunk: unsafe extern "C" fn(*mut Bridge, *const u8, usize) -> c_int,
    is_last: unsafe extern "C" fn(*mut Bridge) -> c_int,
    set_last: unsafe extern "C" fn(*mut Bridge, c_int),
    is_exiting: unsafe extern "C" fn(*mut Bridge) -> c_int,
}

static FUNCTIONS: Functions =
    Functions { exit, redirect, exec, sleep, set_arg, chunk, set_chunk, is_last, set_last, is_exiting };

/// Returned where a thread of the script waits for requests inside this one, which must come to their end.
const PENDING: c_int = -2;

/// Returns 0 if a thread waits for requests inside this one, unless the request is cut off with them.
unsafe extern "C" fn exit(bridge: *mut Bridge, code: c_int) -> c_int {
    const SPECIAL_RESPONSE: c_int = 300;
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; so for all functions here.
    let Some(mut request) = (unsafe { frame::request(bridge) }) else {
        // SAFETY: see `exit`'s beginning. Of a timer's function.
        if let Some(want) = unsafe { frame::want(bridge) } {
            *want = Some(Want::Exit(code));
        }
        return 1;
    };
    if request.state.progress.has_requests() && !matches!(code, -1 | 408 | 444 | 499) {
        return 0;
    }
    let mut code = code;
    let status = c_int::from(request.exchange.response.status);
    let cuts_short = matches!(code, 408 | 444 | 499);
    if request.exchange.output.head_written() && code >= SPECIAL_RESPONSE && !cuts_short {
        if code != status {
            let text = format!(
                "attempt to set status {code} via ngx.exit after sending out the response status {status}"
            );
            log_line::error(request.exchange, &mut request.env, Level::Error, text.as_bytes());
        }
        code = 200;
    }
    *request.want = Some(Want::Exit(code));
    1
}

/// Returns 0 if the head is written, [`PENDING`] if that is so.
unsafe extern "C" fn redirect(bridge: *mut Bridge, uri: *const u8, len: usize, status: c_int) -> c_int {
    // SAFETY: see `exit`; the string lives during the call.
    let (Some(request), uri) = (unsafe { (frame::request(bridge), arg(uri, len)) }) else { return 0 };
    if request.state.progress.has_requests() {
        return PENDING;
    }
    if request.exchange.output.head_written() {
        return 0;
    }
    let response = &mut request.exchange.response;
    // In the list of fields, so that the engine leaves a relative path as it is, as ngx_lua does.
    response.location = None;
    response.headers.set_known(http::Known::Location, uri);
    response.status = u16::try_from(status).unwrap_or(302);
    *request.want = Some(Want::Exit(status));
    1
}

/// Returns 0 if the head is written, -1 for a URI that leads out of the root, [`PENDING`] if that is so.
unsafe extern "C" fn exec(
    bridge: *mut Bridge,
    uri: *const u8,
    len: usize,
    args: *const u8,
    args_len: usize,
) -> c_int {
    // SAFETY: see `exit`; the strings live during the call.
    let (Some(request), uri, given) =
        (unsafe { (frame::request(bridge), arg(uri, len), arg(args, args_len)) })
    else {
        return 0;
    };
    let mut path = Vec::new();
    let Ok(own) = http::uri::decode_internal(uri, &mut path) else {
        let mut line = b"unsafe URI \"".to_vec();
        for &byte in uri {
            // No line of its own for what a client may have sent.
            match byte {
                0..=31 | 127 => line.extend_from_slice(format!("\\x{byte:02X}").as_bytes()),
                _ => line.push(byte),
            }
        }
        line.extend_from_slice(b"\" was detected");
        let mut env = request.env;
        log_line::error(request.exchange, &mut env, Level::Error, &line);
        return -1;
    };
    if request.state.progress.has_requests() {
        return PENDING;
    }
    if request.exchange.output.head_written() {
        return 0;
    }
    let mut args = own.to_vec();
    if !args.is_empty() && !given.is_empty() {
        args.push(b'&');
    }
    args.extend_from_slice(given);
    *request.want = Some(Want::Exec { uri: path, args });
    1
}

unsafe extern "C" fn sleep(bridge: *mut Bridge, ms: f64) {
    // SAFETY: see `exit`.
    unsafe {
        if let Some(mut request) = frame::request(bridge) {
            let text = format!("lua ready to sleep for {} ms", ms as u64);
            log_line::error(request.exchange, &mut request.env, Level::Debug, text.as_bytes());
        }
        if let Some(want) = frame::want(bridge) {
            *want = Some(Want::Effect(Effect::Sleep(ms as u64)));
        }
    }
}

/// Puts an argument of `set_by_lua`, counted from 1, into the bridge; returns 0 if there is none or it is empty.
unsafe extern "C" fn set_arg(bridge: *mut Bridge, number: c_int) -> c_int {
    // SAFETY: see `exit`.
    let Some(request) = (unsafe { frame::request(bridge) }) else { return 0 };
    let Some(value) = usize::try_from(number - 1).ok().and_then(|at| request.args.get(at)) else { return 0 };
    // SAFETY: the buffer is the bridge's own.
    let bridge = unsafe { &mut *bridge };
    bridge.buffer.clear();
    bridge.buffer.extend_from_slice(value);
    bridge.answer_buffer();
    c_int::from(!value.is_empty())
}

/// Puts the body filter's piece of the body into the bridge.
unsafe extern "C" fn chunk(bridge: *mut Bridge) {
    // SAFETY: see `exit`. The text is read before anything else happens to the chunk.
    unsafe {
        let Some(request) = frame::request(bridge) else { return };
        let chunk = &request.exchange.script.chunk;
        (*bridge).text = chunk.as_ptr();
        (*bridge).text_len = chunk.len();
    }
}

/// Returns 0 if there is no room for it.
unsafe extern "C" fn set_chunk(bridge: *mut Bridge, text: *const u8, len: usize) -> c_int {
    // SAFETY: see `exit`; the string lives during the call.
    let (Some(request), text) = (unsafe { (frame::request(bridge), arg(text, len)) }) else { return 1 };
    let chunk_len = request.exchange.script.chunk.len();
    if len > chunk_len && charge::room(request.exchange, request.state) < len - chunk_len {
        return 0;
    }
    request.exchange.script.chunk.clear();
    request.exchange.script.chunk.extend_from_slice(text);
    1
}

unsafe extern "C" fn is_last(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `exit`.
    unsafe { frame::request(bridge) }.map_or(0, |request| c_int::from(request.exchange.script.chunk_last))
}

unsafe extern "C" fn set_last(bridge: *mut Bridge, last: c_int) {
    // SAFETY: see `exit`.
    if let Some(request) = unsafe { frame::request(bridge) } {
        request.exchange.script.chunk_last = last != 0;
    }
}

unsafe extern "C" fn is_exiting(bridge: *mut Bridge) -> c_int {
    // SAFETY: see `exit`.
    unsafe { frame::timers(bridge) }.map_or(0, |timers| c_int::from(timers.is_exiting()))
}
