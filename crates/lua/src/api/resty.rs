//! Modules of lua-resty-core and of LuaJIT that scripts require by name: what they need beyond Lua.

use std::ffi::c_int;

use mlua_sys as ffi;
use mlua_sys::lua_State;

use crate::machine::bridge::Bridge;
use crate::machine::{Area, FunctionTable, stack};

pub(super) static AREA: Area = Area {
    name: "resty",
    functions: &[],
    fields: &[],
    source: include_str!("../lua/resty.lua"),
    table: FunctionTable::NONE,
    natives: &[
        (c"raw_log", raw_log),
        (c"filter_level", filter_level),
        (c"parent_pid", parent_pid),
        (c"jit_source", jit_source),
    ],
};

/// `raw_log(level, text)`: logs without the caller's position.
unsafe extern "C-unwind" fn raw_log(state: *mut lua_State) -> c_int {
    // SAFETY: called from our own source with a level and a string; the bridge is the upvalue.
    unsafe {
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        let level = ffi::lua_tointeger_(state, 1) as u8;
        if (*bridge).world.logs(level) {
            (*bridge).world.log(level, stack::bytes(state, 2).unwrap_or_default());
        }
    }
    0
}

/// Returns the highest level that is logged.
unsafe extern "C-unwind" fn filter_level(state: *mut lua_State) -> c_int {
    // SAFETY: as in `raw_log`; a C function has a slot.
    unsafe {
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        let level = (0..=8).rev().find(|level| (*bridge).world.logs(*level)).unwrap_or(0);
        ffi::lua_pushinteger(state, ffi::lua_Integer::from(level));
    }
    1
}

/// Returns the number of the master.
unsafe extern "C-unwind" fn parent_pid(state: *mut lua_State) -> c_int {
    // SAFETY: a C function has a slot.
    unsafe { ffi::lua_pushinteger(state, std::os::unix::process::parent_id() as ffi::lua_Integer) };
    1
}

macro_rules! jit_modules {
    ($($name:literal),*) => {
        /// LuaJIT's own modules, from the sources that it was built from: they must fit it to the version.
        static JIT_MODULES: [(&[u8], &[u8]); [$($name),*].len()] = [
            $(($name.as_bytes(), include_bytes!(concat!(env!("OUT_DIR"), "/luajit-build/src/jit/", $name, ".lua")))),*
        ];
    };
}
jit_modules!["v", "p", "zone", "dump", "bc", "vmdef", "dis_x86", "dis_x64", "dis_arm64"];

/// `jit_source(name)`: returns the source of a module of LuaJIT's.
unsafe extern "C-unwind" fn jit_source(state: *mut lua_State) -> c_int {
    // SAFETY: as in `raw_log`.
    unsafe {
        let name = stack::bytes(state, 1).unwrap_or_default();
        let Some((_, source)) = JIT_MODULES.iter().find(|(known, _)| *known == name) else { return 0 };
        stack::push(state, source);
    }
    1
}
