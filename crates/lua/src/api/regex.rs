//! `ngx.re.*`.

use std::ffi::c_int;
use std::ptr;

use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable};
use crate::phase::Phases;
use crate::re::{Flags, Regex, Template, substitute};

const fn everywhere(name: &'static str, doc: &'static str) -> Function {
    Function { name, phases: Phases::ALL, doc }
}

pub(super) static AREA: Area = Area {
    name: "regex",
    functions: &[
        everywhere(
            "ngx.re.match",
            "Returns the groups of the first match, by number and name; nil if there is none.",
        ),
        everywhere("ngx.re.find", "Returns where the first match, or its group `nth`, begins and ends."),
        everywhere("ngx.re.gmatch", "Returns an iterator over the groups of every match."),
        everywhere(
            "ngx.re.sub",
            "Replaces the first match by a template, or by a function's result for its groups.",
        ),
        everywhere(
            "ngx.re.gsub",
            "Replaces every match by a template, or by a function's result for its groups.",
        ),
    ],
    fields: &[],
    source: include_str!("../lua/regex.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[],
};

const DEBUG: u8 = 8;

#[repr(C)]
struct Functions {
    compile: unsafe extern "C" fn(*mut Bridge, *const u8, usize, u32) -> *mut Regex,
    exec: unsafe extern "C" fn(*mut Regex, *const u8, usize, usize) -> c_int,
    free: unsafe extern "C" fn(*mut Regex),
    compile_template: unsafe extern "C" fn(*mut Bridge, *const u8, usize) -> *mut Template,
    free_template: unsafe extern "C" fn(*mut Template),
    substitute:
        unsafe extern "C" fn(*mut Bridge, *mut Regex, *mut Template, *const u8, usize, c_int) -> c_int,
}

static FUNCTIONS: Functions =
    Functions { compile, exec, free, compile_template, free_template, substitute: replace };

/// Compiles a pattern, to be freed with `free`; returns null with the error in the bridge if it is invalid.
unsafe extern "C" fn compile(bridge: *mut Bridge, pattern: *const u8, len: usize, flags: u32) -> *mut Regex {
    // SAFETY: the bridge lives as long as the machine, nothing else refers to it during a call from Lua, and the
    // string lives during the call.
    let (bridge, pattern) = unsafe { (&mut *bridge, arg(pattern, len)) };
    match Regex::compile(pattern, Flags(flags), bridge.regex_match_limit) {
        Ok(regex) => {
            if Flags(flags).has(Flags::JIT) && bridge.world.logs(DEBUG) {
                let line = format!("pcre JIT compiling result: {}", u8::from(regex.is_jitted()));
                bridge.world.log_apart(DEBUG, line.as_bytes());
            }
            Box::into_raw(Box::new(regex))
        }
        Err(text) => {
            bridge.buffer = text;
            bridge.answer_buffer();
            ptr::null_mut()
        }
    }
}

/// Returns the number of groups of the match, 0 without a match, or PCRE's error number, below -1.
unsafe extern "C" fn exec(regex: *mut Regex, subject: *const u8, len: usize, at: usize) -> c_int {
    // SAFETY: `regex` came from `compile` and was not freed, which Lua's finalizer does last.
    let (regex, subject) = unsafe { (&mut *regex, arg(subject, len)) };
    match regex.exec(subject, at) {
        Ok(Some(groups)) => groups as c_int,
        Ok(None) => 0,
        Err(number) => number,
    }
}

unsafe extern "C" fn free(regex: *mut Regex) {
    // SAFETY: `regex` came from `compile`, and Lua's finalizer runs once.
    drop(unsafe { Box::from_raw(regex) });
}

/// Parses a template, to be freed with `free_template`; returns null if it is invalid, and logs the reason.
unsafe extern "C" fn compile_template(bridge: *mut Bridge, text: *const u8, len: usize) -> *mut Template {
    // SAFETY: see `compile`.
    let (bridge, text) = unsafe { (&mut *bridge, arg(text, len)) };
    match Template::parse(text) {
        Ok(template) => Box::into_raw(Box::new(template)),
        Err(error) => {
            const ERROR: u8 = 4;
            bridge.world.log_apart(ERROR, &error.text);
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn free_template(template: *mut Template) {
    // SAFETY: `template` came from `compile_template`, and Lua's finalizer runs once.
    drop(unsafe { Box::from_raw(template) });
}

/// Returns the number of replacements, with the result in the bridge, or PCRE's error number.
unsafe extern "C" fn replace(
    bridge: *mut Bridge,
    regex: *mut Regex,
    template: *mut Template,
    subject: *const u8,
    len: usize,
    global: c_int,
) -> c_int {
    // SAFETY: see `compile` and `exec`; the template likewise.
    let (bridge, regex, template, subject) =
        unsafe { (&mut *bridge, &mut *regex, &*template, arg(subject, len)) };
    bridge.buffer.clear();
    match substitute(regex, template, subject, global != 0, &mut bridge.buffer) {
        Ok(count) => {
            bridge.answer_buffer();
            count as c_int
        }
        Err(number) => number,
    }
}
