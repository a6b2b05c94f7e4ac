//! The clock of the event loop, and dates.

use std::ffi::c_int;

use crate::codec::date;
use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable};
use crate::phase::Phases;

const fn everywhere(name: &'static str, doc: &'static str) -> Function {
    Function { name, phases: Phases::ALL, doc }
}

pub(super) static AREA: Area = Area {
    name: "time",
    functions: &[
        everywhere(
            "ngx.now",
            "Returns the seconds since the epoch with milliseconds, as of this turn of the event loop.",
        ),
        everywhere(
            "ngx.time",
            "Returns the whole seconds since the epoch, as of this turn of the event loop.",
        ),
        everywhere("ngx.update_time", "Updates the time of the event loop."),
        everywhere("ngx.today", "Returns the local date: `2010-11-19`."),
        everywhere("ngx.localtime", "Returns the local date and time: `2010-11-19 20:56:31`."),
        everywhere("ngx.utctime", "Returns the date and time in UTC: `2010-11-19 20:56:31`."),
        everywhere(
            "ngx.cookie_time",
            "Returns a time in the format of cookies: `Thu, 18-Nov-10 11:27:35 GMT`.",
        ),
        everywhere(
            "ngx.http_time",
            "Returns a time in the format of HTTP headers: `Thu, 18 Nov 2010 11:27:35 GMT`.",
        ),
        everywhere(
            "ngx.parse_http_time",
            "Returns the seconds since the epoch of a date in a header; nil if it is invalid.",
        ),
    ],
    fields: &[],
    source: include_str!("../lua/time.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[],
};

#[repr(C)]
struct Functions {
    now_ms: unsafe extern "C" fn(*mut Bridge) -> f64,
    refresh: unsafe extern "C" fn(*mut Bridge),
    write: unsafe extern "C" fn(*mut Bridge, u32, i64),
    parse: unsafe extern "C" fn(*mut Bridge, *const u8, usize) -> c_int,
}

static FUNCTIONS: Functions = Functions { now_ms, refresh, write, parse };

unsafe extern "C" fn now_ms(bridge: *mut Bridge) -> f64 {
    // SAFETY: the bridge lives as long as the machine, and nothing else refers to it during a call from Lua.
    unsafe { (*bridge).world.now_ms() as f64 }
}

unsafe extern "C" fn refresh(bridge: *mut Bridge) {
    // SAFETY: as above.
    unsafe { (*bridge).world.refresh_time() }
}

/// Writes a date in one of the formats: 0 today, 1 localtime, 2 utctime, 3 http, 4 cookie; the last two of `unix_s`.
unsafe extern "C" fn write(bridge: *mut Bridge, form: u32, unix_s: i64) {
    // SAFETY: as above.
    let bridge = unsafe { &mut *bridge };
    let now_s = (bridge.world.now_ms() / 1000) as i64;
    let offset_s = i64::from(bridge.world.utc_offset_s());
    let out = &mut bridge.buffer;
    out.clear();
    match form {
        0 => date::day(now_s, offset_s, out),
        1 => date::day_and_time(now_s, offset_s, out),
        2 => date::day_and_time(now_s, 0, out),
        3 => date::http(unix_s, out),
        _ => date::cookie(unix_s, out),
    }
    bridge.answer_buffer();
}

unsafe extern "C" fn parse(bridge: *mut Bridge, text: *const u8, len: usize) -> c_int {
    // SAFETY: as above; the string lives during the call.
    let (bridge, text) = unsafe { (&mut *bridge, arg(text, len)) };
    match date::parse_http(text) {
        Some(unix_s) => {
            bridge.number = unix_s as f64;
            1
        }
        None => 0,
    }
}
