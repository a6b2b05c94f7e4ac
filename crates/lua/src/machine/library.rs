//! The libraries of a new machine: Lua's own, our own sources, and the areas of the API.

use std::ffi::CStr;

use mlua_sys as ffi;
use mlua_sys::lua_State;

use super::area::Area;
use super::bridge::Bridge;
use super::budget::{Budget, NO_ROOM};
use super::chunk::Chunk;
use super::options::MachineOptions;
use super::{stack, traceback};
use crate::phase::PHASES;

/// Functions of our own Lua sources that Rust calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchors {
    /// Forgets what a request kept in Lua: `(request)`.
    pub(crate) forget: Chunk,
    /// Runs the function of a timer: `(timer, premature, again)`.
    pub(crate) run_timer: Chunk,
    /// Forgets a timer that cannot run, and returns where its function is defined: `(timer)`.
    pub(crate) drop_timer: Chunk,
    /// Notes that a light thread has ended: `(coroutine, succeeded, …)`; returns the number of the thread that waits for it.
    pub(crate) thread_ended: Chunk,
    /// No function but a table: the coroutines that an error has left; see `lua/coroutine.lua`.
    pub(crate) trail: Chunk,
    /// A table too: the coroutines that scripts begin in.
    pub(crate) entries: Chunk,
}

impl Anchors {
    /// Before the machine is open.
    pub(crate) const NONE: Anchors = Anchors {
        forget: Chunk::NONE,
        run_timer: Chunk::NONE,
        drop_timer: Chunk::NONE,
        thread_ended: Chunk::NONE,
        trail: Chunk::NONE,
        entries: Chunk::NONE,
    };
}

/// Loads Lua's libraries and the API into a new machine.
///
/// # Safety
/// `state` must be a new machine's main stack, and `bridge` must outlive it.
pub(crate) unsafe fn open(
    state: *mut lua_State,
    bridge: *mut Bridge,
    options: &MachineOptions,
) -> Result<Anchors, Vec<u8>> {
    let mut opening = Opening { bridge, options, anchors: Anchors::NONE };
    let argument: *mut Opening<'_> = &mut opening;
    // SAFETY: the C function gets `argument` back and runs before this returns.
    let status = unsafe { ffi::lua_cpcall(state, open_protected, argument.cast()) };
    match status {
        ffi::LUA_OK => Ok(opening.anchors),
        // SAFETY: a failed call leaves its error value.
        _ => Err(unsafe { stack::pop_error(state) }),
    }
}

struct Opening<'a> {
    bridge: *mut Bridge,
    options: &'a MachineOptions,
    anchors: Anchors,
}

/// Runs under `lua_cpcall`: errors leave here by unwinding, so nothing that needs dropping is made.
unsafe extern "C-unwind" fn open_protected(state: *mut lua_State) -> i32 {
    // SAFETY: the one argument is the `Opening` that `open` keeps alive; the calls below keep the stack balanced.
    unsafe {
        let opening = &mut *ffi::lua_touserdata(state, 1).cast::<Opening<'_>>();
        ffi::lua_settop(state, 0);
        ffi::luaL_openlibs(state);
        set_path(
            state,
            c"path",
            DEFAULT_PATH,
            opening.options.package_path.as_deref(),
            &opening.options.prefix,
        );
        set_path(
            state,
            c"cpath",
            DEFAULT_CPATH,
            opening.options.package_cpath.as_deref(),
            &opening.options.prefix,
        );

        load(state, include_str!("../lua/support.lua"), "support");
        ffi::lua_pushlightuserdata(state, opening.bridge.cast());
        push_phases(state, opening.options.areas);
        push_settings(state, opening.options);
        ffi::lua_call(state, 3, 1);

        load(state, include_str!("../lua/coroutine.lua"), "coroutine");
        ffi::lua_pushvalue(state, 1);
        ffi::lua_pushlightuserdata(state, opening.bridge.cast());
        ffi::lua_pushcclosure(state, traceback::tidied, 1);
        ffi::lua_pushcclosure(state, has_room, 0);
        ffi::lua_call(state, 3, 0);
        load(state, include_str!("../lua/modules.lua"), "modules");
        ffi::lua_pushvalue(state, 1);
        ffi::lua_call(state, 1, 0);
        for area in opening.options.areas {
            load(state, area.source, area.name);
            ffi::lua_pushvalue(state, 1);
            ffi::lua_pushlightuserdata(state, area.table.address());
            ffi::lua_createtable(state, 0, area.natives.len() as i32);
            for (name, function) in area.natives {
                ffi::lua_pushlightuserdata(state, opening.bridge.cast());
                ffi::lua_pushcclosure(state, *function, 1);
                ffi::lua_setfield(state, -2, name.as_ptr());
            }
            ffi::lua_call(state, 3, 0);
        }
        // The messages of the guard begin with its name.
        load_as(state, include_str!("../lua/globals.lua"), c"=_G write guard");
        ffi::lua_pushvalue(state, 1);
        ffi::lua_call(state, 1, 0);
        let keep = |name: &CStr| {
            ffi::lua_getfield_(state, 1, name.as_ptr());
            Chunk { function: ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX) }
        };
        opening.anchors = Anchors {
            forget: keep(c"forget"),
            run_timer: keep(c"run_timer"),
            drop_timer: keep(c"drop_timer"),
            thread_ended: keep(c"thread_ended"),
            trail: keep(c"trail"),
            entries: keep(c"entries"),
        };
        0
    }
}

/// `has_room()`: returns whether the C stack has room for another coroutine.
unsafe extern "C-unwind" fn has_room(state: *mut lua_State) -> i32 {
    let mut budget = std::ptr::null_mut();
    // SAFETY: the allocator's argument is the machine's Budget; a C function has a slot.
    unsafe {
        ffi::lua_getallocf(state, &mut budget);
        ffi::lua_pushboolean(state, i32::from((*budget.cast::<Budget>()).stack.have_room()));
    }
    1
}

/// Loads one of our own sources under the name that tracebacks show.
unsafe fn load(state: *mut lua_State, source: &'static str, name: &str) {
    // SAFETY: a C function has the slot for the name, which stays below the function until it is removed.
    unsafe {
        stack::push(state, b"=(ngx.");
        stack::push(state, name.as_bytes());
        stack::push(state, b")");
        ffi::lua_concat(state, 3);
        load_as(state, source, CStr::from_ptr(ffi::lua_tostring(state, -1)));
        ffi::lua_remove(state, -2);
    }
}

unsafe fn load_as(state: *mut lua_State, source: &'static str, name: &CStr) {
    // SAFETY: the source is `len` readable bytes; a syntax error would be ours, and is raised like any other.
    unsafe {
        if ffi::luaL_loadbuffer(state, source.as_ptr().cast(), source.len(), name.as_ptr()) != ffi::LUA_OK {
            ffi::lua_error(state);
        }
    }
}

/// Pushes `{ allowed = { [function] = bits }, names = { [bit] = get_phase's }, directives = { [bit] = … } }`.
unsafe fn push_phases(state: *mut lua_State, areas: &[&Area]) {
    // SAFETY: a C function has the few slots that this takes; the names are copied.
    unsafe {
        ffi::lua_createtable(state, 0, 3);
        ffi::lua_createtable(state, 0, 128);
        for function in areas.iter().flat_map(|area| area.functions) {
            stack::push(state, function.name.as_bytes());
            ffi::lua_pushnumber(state, f64::from(function.phases.0));
            ffi::lua_rawset(state, -3);
        }
        ffi::lua_setfield(state, -2, c"allowed".as_ptr());
        ffi::lua_createtable(state, 0, PHASES.len() as i32);
        ffi::lua_createtable(state, 0, PHASES.len() as i32);
        for (phase, name, directive) in PHASES {
            ffi::lua_pushnumber(state, f64::from(phase as u32));
            stack::push(state, name.as_bytes());
            ffi::lua_rawset(state, -4);
            ffi::lua_pushnumber(state, f64::from(phase as u32));
            stack::push(state, directive.as_bytes());
            ffi::lua_rawset(state, -3);
        }
        ffi::lua_setfield(state, -3, c"directives".as_ptr());
        ffi::lua_setfield(state, -2, c"names".as_ptr());
    }
}

/// Pushes the settings that the Lua sources need.
unsafe fn push_settings(state: *mut lua_State, options: &MachineOptions) {
    // SAFETY: as in push_phases.
    unsafe {
        ffi::lua_createtable(state, 0, 8);
        stack::push(state, NO_ROOM.as_bytes());
        ffi::lua_setfield(state, -2, c"no_room".as_ptr());
        ffi::lua_pushboolean(state, i32::from(options.private_globals));
        ffi::lua_setfield(state, -2, c"private_globals".as_ptr());
        ffi::lua_pushinteger(state, ffi::lua_Integer::from(options.regex_cache_entries));
        ffi::lua_setfield(state, -2, c"regex_cache_entries".as_ptr());
        stack::push(state, &options.prefix);
        ffi::lua_setfield(state, -2, c"prefix".as_ptr());
        for (name, number) in [
            (c"worker_id", options.worker.id),
            (c"worker_count", options.worker.count),
            (c"worker_pid", options.worker.pid),
        ] {
            ffi::lua_pushinteger(state, ffi::lua_Integer::from(number));
            ffi::lua_setfield(state, -2, name.as_ptr());
        }
        ffi::lua_createtable(state, options.zones.len() as i32, 0);
        for (at, zone) in options.zones.iter().enumerate() {
            stack::push(state, zone.name());
            ffi::lua_rawseti_(state, -2, at as i32 + 1);
        }
        ffi::lua_setfield(state, -2, c"zones".as_ptr());
        ffi::lua_createtable(state, 0, 0);
        for (at, face) in options.faces.iter().enumerate() {
            if let Some(switch) = face {
                ffi::lua_pushnumber(state, f64::from(*switch));
                ffi::lua_rawseti_(state, -2, at as i32 + 1);
            }
        }
        ffi::lua_setfield(state, -2, c"faces".as_ptr());
    }
}

/// Searched after LuaJIT's own default: the folders of Debian's Lua modules.
const DEFAULT_PATH: &[u8] = b"/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua";
#[cfg(target_arch = "aarch64")]
const DEFAULT_CPATH: &[u8] = b"/usr/lib/aarch64-linux-gnu/lua/5.1/?.so;/usr/lib/lua/5.1/?.so";
#[cfg(not(target_arch = "aarch64"))]
const DEFAULT_CPATH: &[u8] = b"/usr/lib/x86_64-linux-gnu/lua/5.1/?.so;/usr/lib/lua/5.1/?.so";

/// Sets `package.path` or `package.cpath`: LuaJIT's default and `also`, or the configured path with `;;` standing for
/// those and `$prefix` for the server's.
unsafe fn set_path(
    state: *mut lua_State,
    field: &CStr,
    also: &[u8],
    configured: Option<&[u8]>,
    prefix: &[u8],
) {
    // SAFETY: as in push_phases; luaL_gsub copies. The prefix is pushed first to have it NUL-terminated.
    unsafe {
        ffi::lua_getglobal_(state, c"package".as_ptr());
        ffi::lua_getfield_(state, -1, field.as_ptr());
        ffi::lua_pushliteral(state, c";");
        stack::push(state, also);
        ffi::lua_concat(state, 3);
        if let Some(configured) = configured {
            stack::push(state, prefix);
            stack::push(state, configured);
            let path = ffi::lua_tostring(state, -1);
            // The mark keeps a `;` on each side when the default is inserted.
            let path = ffi::luaL_gsub(state, path, c";;".as_ptr(), c";\x01;".as_ptr());
            let path = ffi::luaL_gsub(state, path, c"$prefix".as_ptr(), ffi::lua_tostring(state, 3));
            let path = ffi::luaL_gsub(state, path, c"${prefix}".as_ptr(), ffi::lua_tostring(state, 3));
            ffi::luaL_gsub(state, path, c"\x01".as_ptr(), ffi::lua_tostring(state, 2));
        }
        ffi::lua_setfield(state, 1, field.as_ptr());
        ffi::lua_settop(state, 0);
    }
}
