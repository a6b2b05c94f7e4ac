//! `ngx.var`: reading and writing the variables of nginx.conf.

use std::ffi::c_int;

use engine::exchange::SlotState;
use engine::variables::{self, Definition};

use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, FunctionTable, field};
use crate::phase::Phases;
use crate::vm::{charge, frame};

pub(super) static AREA: Area = Area {
    name: "variable",
    functions: &[],
    fields: &[field(
        "ngx.var",
        Phases::REQUEST,
        "The variables of nginx.conf, and by number the groups of the last match.",
    )],
    source: include_str!("../lua/variable.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[],
};

/// The most names that are kept; any other is looked up every time. Clients can make names up (`ngx.var["arg_" .. x]`),
/// so there must be a bound.
const MOST_NAMES: usize = 1024;
/// The number that the other names share.
const PASSING: i32 = 0;

#[repr(C)]
struct Functions {
    resolve: unsafe extern "C" fn(*mut Bridge, *const u8, usize) -> c_int,
    get: unsafe extern "C" fn(*mut Bridge, c_int) -> c_int,
    capture: unsafe extern "C" fn(*mut Bridge, c_int) -> c_int,
    set: unsafe extern "C" fn(*mut Bridge, c_int, *const u8, usize, c_int) -> c_int,
}

static FUNCTIONS: Functions = Functions { resolve, get, capture, set };

const FOUND: c_int = 1;
const NOT_FOUND: c_int = 0;
const NOT_CHANGEABLE: c_int = -1;
const NOT_WRITABLE: c_int = -2;
const NO_ROOM: c_int = -3;

/// Returns the number of a name: at least 0 if there is such a variable, and above 0 if the number may be kept.
unsafe extern "C" fn resolve(bridge: *mut Bridge, name: *const u8, len: usize) -> c_int {
    // SAFETY: the machine's bridge, and a string that lives during the call; no Lua runs meanwhile.
    let (Some(request), name) = (unsafe { (frame::request(bridge), arg(name, len)) }) else { return -1 };
    let Ok(name) = std::str::from_utf8(name) else { return -1 };
    let lower = name.to_ascii_lowercase();
    let config = request.env.config;
    let definition = match config.variables.find(&lower) {
        Some(id) => config.variables.entry(id).definition.clone(),
        None => variables::lookup_built_in(&lower).unwrap_or(Definition::Undefined),
    };
    if matches!(definition, Definition::Undefined) {
        return -1;
    }
    let mut known = request.state.scripts().variables.borrow_mut();
    if known.len() > MOST_NAMES {
        known[PASSING as usize] = definition;
        return PASSING;
    }
    known.push(definition);
    known.len() as c_int - 1
}

/// Puts the value of a variable into the bridge.
unsafe extern "C" fn get(bridge: *mut Bridge, number: c_int) -> c_int {
    // SAFETY: as above. Variables are worked out without Lua.
    let Some(mut request) = (unsafe { frame::request(bridge) }) else { return NOT_FOUND };
    let known = request.state.scripts().variables.borrow();
    let Some(definition) = known.get(number as usize) else { return NOT_FOUND };
    // SAFETY: the buffer is the bridge's own, and nothing else uses it during the call.
    let bridge = unsafe { &mut *bridge };
    bridge.buffer.clear();
    if !variables::append_defined(request.exchange, &mut request.env, definition, &mut bridge.buffer) {
        return NOT_FOUND;
    }
    bridge.answer_buffer();
    FOUND
}

/// Puts a group of the last regular expression that matched into the bridge.
unsafe extern "C" fn capture(bridge: *mut Bridge, group: c_int) -> c_int {
    // SAFETY: as above.
    let Some(request) = (unsafe { frame::request(bridge) }) else { return NOT_FOUND };
    let Some(text) = usize::try_from(group).ok().and_then(|group| request.exchange.captures.group(group))
    else {
        return NOT_FOUND;
    };
    // SAFETY: as above.
    let bridge = unsafe { &mut *bridge };
    bridge.buffer.clear();
    bridge.buffer.extend_from_slice(text);
    bridge.answer_buffer();
    FOUND
}

unsafe extern "C" fn set(
    bridge: *mut Bridge,
    number: c_int,
    value: *const u8,
    len: usize,
    is_nil: c_int,
) -> c_int {
    // SAFETY: as above.
    if !unsafe { charge::has_room_for_value(bridge, len) } {
        return NO_ROOM;
    }
    // SAFETY: as above; the value lives during the call.
    let (Some(request), value) = (unsafe { (frame::request(bridge), arg(value, len)) }) else {
        return NOT_WRITABLE;
    };
    let known = request.state.scripts().variables.borrow();
    let Some(definition) = known.get(number as usize) else { return NOT_WRITABLE };
    match definition {
        Definition::Slot(slot) | Definition::Computed { slot, settable: true, .. } if is_nil != 0 => {
            let emptied = request.exchange.slots.take(*slot);
            request.exchange.slots.put(*slot, emptied, SlotState::NotFound);
            FOUND
        }
        Definition::OfFamily(..) | Definition::Undefined => NOT_WRITABLE,
        _ if variables::assign(request.exchange, definition, value) => FOUND,
        _ => NOT_CHANGEABLE,
    }
}
