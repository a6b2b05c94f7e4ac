//! `ngx.shared.DICT`.

use std::ffi::c_int;
use std::sync::Arc;

use mlua_sys as ffi;
use mlua_sys::lua_State;

use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, Function, FunctionTable, field, stack};
use crate::phase::Phases;
use crate::shdict::{DictError, DictZone, ListEnd, Op, Stored, Value};

const fn everywhere(name: &'static str, doc: &'static str) -> Function {
    Function { name, phases: Phases::ALL, doc }
}

pub(super) static AREA: Area = Area {
    name: "shared",
    functions: &[
        everywhere("DICT:get", "Returns the value and flags of a key; nil if it is missing or has expired."),
        everywhere(
            "DICT:get_stale",
            "As `get`, but returns expired values too, with true as the third result.",
        ),
        everywhere(
            "DICT:set",
            "Stores a value, for a number of seconds if given; evicts the least recently used entries if there is no room.",
        ),
        everywhere("DICT:safe_set", "As `set`, but returns \"no memory\" instead of evicting."),
        everywhere("DICT:add", "As `set`, if the key is missing; returns \"exists\" otherwise."),
        everywhere("DICT:safe_add", "As `add`, but never evicts."),
        everywhere("DICT:replace", "As `set`, if the key exists; returns \"not found\" otherwise."),
        everywhere("DICT:delete", "Removes a key."),
        everywhere(
            "DICT:incr",
            "Adds to a number and returns the sum; a missing key starts from `init`, for `init_ttl` seconds.",
        ),
        everywhere("DICT:lpush", "Adds an element at the front of a list, and returns the new length."),
        everywhere("DICT:rpush", "Adds an element at the end of a list, and returns the new length."),
        everywhere("DICT:lpop", "Removes and returns the first element of a list."),
        everywhere("DICT:rpop", "Removes and returns the last element of a list."),
        everywhere("DICT:llen", "Returns the length of a list, 0 if there is none."),
        everywhere("DICT:ttl", "Returns the seconds until a key expires; 0 if it never does."),
        everywhere("DICT:expire", "Makes a key expire after the given number of seconds; 0 is never."),
        everywhere("DICT:flush_all", "Expires every key."),
        everywhere(
            "DICT:flush_expired",
            "Removes expired keys, at most as many as the argument says, and returns their number.",
        ),
        everywhere(
            "DICT:get_keys",
            "Returns the keys, at most 1024 or as many as the argument says; 0 for all.",
        ),
        everywhere("DICT:capacity", "Returns the declared size in bytes."),
        everywhere("DICT:free_space", "Returns the number of bytes in wholly free pages."),
    ],
    fields: &[field("ngx.shared", Phases::ALL, "The dicts of `lua_shared_dict`, by name.")],
    source: include_str!("../lua/shared.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[(c"get_keys", get_keys)],
};

/// A key and the value to write under it; `pm_write` in the Lua source. Not every call reads every field.
#[repr(C)]
struct Write {
    key: *const u8,
    key_len: usize,
    /// A string's bytes.
    text: *const u8,
    text_len: usize,
    /// A number, a boolean as 0 or 1, or the increment.
    number: f64,
    /// The value that a missing number starts from.
    init: f64,
    ttl_ms: i64,
    /// The kind of the value.
    kind: u32,
    flags: u32,
}

impl Write {
    /// Returns the key.
    ///
    /// # Safety
    /// The string must live during the call.
    unsafe fn key(&self) -> &[u8] {
        // SAFETY: the caller vouches for it.
        unsafe { arg(self.key, self.key_len) }
    }

    /// Returns the value.
    ///
    /// # Safety
    /// A string must live during the call.
    unsafe fn value(&self) -> Value<'_> {
        match self.kind {
            // SAFETY: the caller vouches for it.
            STRING => Value::String(unsafe { arg(self.text, self.text_len) }),
            BOOLEAN => Value::Boolean(self.number != 0.0),
            _ => Value::Number(self.number),
        }
    }

    /// Returns how long the entry lives; 0 is without limit.
    fn ttl_ms(&self) -> u64 {
        u64::try_from(self.ttl_ms).unwrap_or(0)
    }
}

#[repr(C)]
struct Functions {
    get: unsafe extern "C" fn(*mut Bridge, u32, *const u8, usize, c_int) -> c_int,
    store: unsafe extern "C" fn(*mut Bridge, u32, u32, *const Write) -> c_int,
    delete: unsafe extern "C" fn(*mut Bridge, u32, *const u8, usize),
    incr: unsafe extern "C" fn(*mut Bridge, u32, c_int, *const Write) -> c_int,
    push: unsafe extern "C" fn(*mut Bridge, u32, c_int, *const Write) -> c_int,
    pop: unsafe extern "C" fn(*mut Bridge, u32, c_int, *const u8, usize) -> c_int,
    llen: unsafe extern "C" fn(*mut Bridge, u32, *const u8, usize) -> c_int,
    ttl: unsafe extern "C" fn(*mut Bridge, u32, *const u8, usize) -> c_int,
    expire: unsafe extern "C" fn(*mut Bridge, u32, *const u8, usize, i64) -> c_int,
    flush_all: unsafe extern "C" fn(*mut Bridge, u32),
    flush_expired: unsafe extern "C" fn(*mut Bridge, u32, u32) -> u32,
    capacity: unsafe extern "C" fn(*mut Bridge, u32) -> f64,
    free_space: unsafe extern "C" fn(*mut Bridge, u32) -> f64,
}

static FUNCTIONS: Functions = Functions {
    get,
    store,
    delete,
    incr,
    push,
    pop,
    llen,
    ttl,
    expire,
    flush_all,
    flush_expired,
    capacity,
    free_space,
};

/// The results of calls; Lua reads the rest from the bridge's text, number, flags and extra.
const REFUSED: c_int = -1;
const NOTHING: c_int = 0;
const DONE: c_int = 1;
/// Kinds of values, as Lua numbers its types.
const BOOLEAN: u32 = 1;
const NUMBER: u32 = 3;
const STRING: u32 = 4;

/// Returns the bridge, the zone by its number in Lua, and the time.
///
/// # Safety
/// Holds for every function of this table: `bridge` is the machine's, nothing else refers to it during the call, and
/// strings live during the call.
unsafe fn at<'a>(bridge: *mut Bridge, zone: u32) -> Option<(&'a mut Bridge, Arc<DictZone>, u64)> {
    // SAFETY: the caller vouches for the bridge.
    let bridge = unsafe { &mut *bridge };
    let zone = bridge.zones.get(zone as usize)?.clone();
    let now_ms = bridge.world.now_ms();
    Some((bridge, zone, now_ms))
}

fn refuse(bridge: &mut Bridge, refused: DictError) -> c_int {
    bridge.answer(refused.text().as_bytes());
    REFUSED
}

/// Puts a value into the bridge, and returns its kind.
fn show(buffer: &mut Vec<u8>, number: &mut f64, value: Value<'_>) -> u32 {
    match value {
        Value::String(bytes) => {
            buffer.clear();
            buffer.extend_from_slice(bytes);
            STRING
        }
        Value::Number(found) => {
            *number = found;
            NUMBER
        }
        Value::Boolean(truth) => {
            *number = f64::from(u8::from(truth));
            BOOLEAN
        }
    }
}

/// Returns the kind of the value found, `NOTHING` or `REFUSED`.
unsafe extern "C" fn get(
    bridge: *mut Bridge,
    zone: u32,
    key: *const u8,
    key_len: usize,
    stale: c_int,
) -> c_int {
    // SAFETY: see `at`.
    let Some((bridge, zone, now_ms)) = (unsafe { at(bridge, zone) }) else { return NOTHING };
    // SAFETY: see `at`.
    let key = unsafe { arg(key, key_len) };
    let (buffer, number) = (&mut bridge.buffer, &mut bridge.number);
    match zone.get(key, stale != 0, now_ms, |value, found| (show(buffer, number, value), found)) {
        Ok(Some((kind, found))) => {
            bridge.flags = found.flags;
            bridge.extra = u32::from(found.stale);
            bridge.answer_buffer();
            kind as c_int
        }
        Ok(None) => NOTHING,
        Err(refused) => refuse(bridge, refused),
    }
}

/// Puts `forcible` into the bridge's extra, and turns an error into `REFUSED`.
fn stored<T>(bridge: &mut Bridge, outcome: Stored<T>) -> Result<T, c_int> {
    bridge.extra = u32::from(outcome.forcible);
    outcome.result.map_err(|refused| refuse(bridge, refused))
}

unsafe extern "C" fn store(bridge: *mut Bridge, zone: u32, op: u32, write: *const Write) -> c_int {
    // SAFETY: see `at`.
    let Some((bridge, zone, now_ms)) = (unsafe { at(bridge, zone) }) else { return NOTHING };
    // SAFETY: see `at`; Lua keeps one of these for all calls.
    let (write, key, value) = unsafe { (&*write, (*write).key(), (*write).value()) };
    let op = match op {
        1 => Op::SafeSet,
        2 => Op::Add,
        3 => Op::SafeAdd,
        4 => Op::Replace,
        _ => Op::Set,
    };
    let outcome = zone.store(op, key, value, write.ttl_ms(), write.flags, now_ms);
    match stored(bridge, outcome) {
        Ok(()) => DONE,
        Err(refused) => refused,
    }
}

unsafe extern "C" fn delete(bridge: *mut Bridge, zone: u32, key: *const u8, key_len: usize) {
    // SAFETY: see `at`.
    if let Some((_, zone, now_ms)) = unsafe { at(bridge, zone) } {
        // SAFETY: see `at`.
        zone.delete(unsafe { arg(key, key_len) }, now_ms);
    }
}

unsafe extern "C" fn incr(bridge: *mut Bridge, zone: u32, has_init: c_int, write: *const Write) -> c_int {
    // SAFETY: see `at`.
    let Some((bridge, zone, now_ms)) = (unsafe { at(bridge, zone) }) else { return NOTHING };
    // SAFETY: see `store`.
    let (write, key) = unsafe { (&*write, (*write).key()) };
    let init = (has_init != 0).then_some(write.init);
    let outcome = zone.incr(key, write.number, init, write.ttl_ms(), now_ms);
    match stored(bridge, outcome) {
        Ok(number) => {
            bridge.number = number;
            DONE
        }
        Err(refused) => refused,
    }
}

fn end(right: c_int) -> ListEnd {
    if right != 0 { ListEnd::Right } else { ListEnd::Left }
}

/// Puts a count into the bridge.
fn counted(bridge: &mut Bridge, result: Result<u32, DictError>) -> c_int {
    match result {
        Ok(count) => {
            bridge.number = f64::from(count);
            DONE
        }
        Err(refused) => refuse(bridge, refused),
    }
}

unsafe extern "C" fn push(bridge: *mut Bridge, zone: u32, right: c_int, write: *const Write) -> c_int {
    // SAFETY: see `at`.
    let Some((bridge, zone, now_ms)) = (unsafe { at(bridge, zone) }) else { return NOTHING };
    // SAFETY: see `store`.
    let (key, value) = unsafe { ((*write).key(), (*write).value()) };
    counted(bridge, zone.push(end(right), key, value, now_ms))
}

unsafe extern "C" fn pop(
    bridge: *mut Bridge,
    zone: u32,
    right: c_int,
    key: *const u8,
    key_len: usize,
) -> c_int {
    // SAFETY: see `at`.
    let Some((bridge, zone, now_ms)) = (unsafe { at(bridge, zone) }) else { return NOTHING };
    // SAFETY: see `at`.
    let key = unsafe { arg(key, key_len) };
    let (buffer, number) = (&mut bridge.buffer, &mut bridge.number);
    match zone.pop(end(right), key, now_ms, |value| show(buffer, number, value)) {
        Ok(Some(kind)) => {
            bridge.answer_buffer();
            kind as c_int
        }
        Ok(None) => NOTHING,
        Err(refused) => refuse(bridge, refused),
    }
}

unsafe extern "C" fn llen(bridge: *mut Bridge, zone: u32, key: *const u8, key_len: usize) -> c_int {
    // SAFETY: see `at`.
    let Some((bridge, zone, now_ms)) = (unsafe { at(bridge, zone) }) else { return NOTHING };
    // SAFETY: see `at`.
    counted(bridge, zone.llen(unsafe { arg(key, key_len) }, now_ms))
}

unsafe extern "C" fn ttl(bridge: *mut Bridge, zone: u32, key: *const u8, key_len: usize) -> c_int {
    // SAFETY: see `at`.
    let Some((bridge, zone, now_ms)) = (unsafe { at(bridge, zone) }) else { return NOTHING };
    // SAFETY: see `at`.
    match zone.ttl_ms(unsafe { arg(key, key_len) }, now_ms) {
        Some(left_ms) => {
            bridge.number = left_ms as f64;
            DONE
        }
        None => refuse(bridge, DictError::NotFound),
    }
}

unsafe extern "C" fn expire(
    bridge: *mut Bridge,
    zone: u32,
    key: *const u8,
    key_len: usize,
    ttl_ms: i64,
) -> c_int {
    // SAFETY: see `at`.
    let Some((bridge, zone, now_ms)) = (unsafe { at(bridge, zone) }) else { return NOTHING };
    // SAFETY: see `at`.
    match zone.expire(unsafe { arg(key, key_len) }, u64::try_from(ttl_ms).unwrap_or(0), now_ms) {
        true => DONE,
        false => refuse(bridge, DictError::NotFound),
    }
}

unsafe extern "C" fn flush_all(bridge: *mut Bridge, zone: u32) {
    // SAFETY: see `at`.
    if let Some((_, zone, now_ms)) = unsafe { at(bridge, zone) } {
        zone.flush_all(now_ms);
    }
}

unsafe extern "C" fn flush_expired(bridge: *mut Bridge, zone: u32, max: u32) -> u32 {
    // SAFETY: see `at`.
    match unsafe { at(bridge, zone) } {
        Some((_, zone, now_ms)) => zone.flush_expired(max, now_ms),
        None => 0,
    }
}

unsafe extern "C" fn capacity(bridge: *mut Bridge, zone: u32) -> f64 {
    // SAFETY: see `at`.
    unsafe { at(bridge, zone) }.map_or(0.0, |(_, zone, _)| zone.capacity_bytes() as f64)
}

unsafe extern "C" fn free_space(bridge: *mut Bridge, zone: u32) -> f64 {
    // SAFETY: see `at`.
    unsafe { at(bridge, zone) }.map_or(0.0, |(_, zone, _)| zone.free_bytes() as f64)
}

/// `get_keys(zone, max)`: returns a list. The keys are first copied into the bridge's buffer, so that no Lua error can
/// be raised while the zone is locked.
unsafe extern "C-unwind" fn get_keys(state: *mut lua_State) -> c_int {
    // SAFETY: called from our own source with two numbers; the bridge is the upvalue. When Lua raises an error for
    // want of memory, the buffer belongs to the bridge and the zone's handle was dropped already.
    unsafe {
        let bridge = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Bridge>();
        let zone = ffi::lua_tonumber(state, 1) as u32;
        let max = ffi::lua_tonumber(state, 2).clamp(0.0, f64::from(u32::MAX)) as u32;
        let mut count = 0;
        if let Some((bridge, zone, now_ms)) = at(bridge, zone) {
            let buffer = &mut bridge.buffer;
            buffer.clear();
            zone.keys(max, now_ms, |key| {
                count += 1;
                buffer.extend_from_slice(&(key.len() as u32).to_le_bytes());
                buffer.extend_from_slice(key);
            });
        }
        ffi::lua_createtable(state, count, 0);
        let mut rest = &(&(*bridge).buffer)[..];
        for number in 1..=count {
            let Some((len, after)) = rest.split_first_chunk() else { break };
            let len = u32::from_le_bytes(*len) as usize;
            stack::push(state, &after[..len]);
            ffi::lua_rawseti_(state, -2, number);
            rest = &after[len..];
        }
    }
    1
}
