//! Dicts that are a switch's face (`dict NAME;` in `switch {}`): reading is a look into the table that the request has
//! pinned, storing a string is an order that the script waits for.
//!
//! Owns what of such a dict is the switch's and what is plain: a number, a boolean or a list under a key and an entry of
//! the switch under the same key never touch each other. Carrying an order out is the server's. What a script may not do
//! in its phase is told it and written to the error log, because few scripts look at what `set` gives back.

use std::ffi::c_int;
use std::rc::Rc;
use std::sync::Arc;

use engine::Config;
use engine::modules::switch::{Reach, look_up, look_up_apart};
use engine::phase::{Effect, SwitchOrder};

use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, FunctionTable, field};
use crate::phase::{PHASES, Phase, Phases};
use crate::shdict::{DictError, Value, Zone};
use crate::vm::frame::{self, Frame, Want};

/// Where a script can wait for the store.
const WAITS: Phases = Phases::of(&[Phase::Rewrite, Phase::Access, Phase::Content, Phase::Timer]);

pub(super) static AREA: Area = Area {
    name: "switch",
    functions: &[],
    fields: &[
        field(
            "FACE:get",
            Phases::ALL,
            "Of a dict that is a switch's face: the target of a key that has an entry, or one by a wildcard; else what the \
             dict has.",
        ),
        field(
            "FACE:set",
            WAITS,
            "With a string: an order to the switch, which the script waits for; true, or nil and why it was refused. With nil: \
             back to the default. Other values, everywhere: as `DICT:set`, unless the key has an entry.",
        ),
        field(
            "FACE:delete",
            WAITS,
            "Of a key that has an entry: back to the default. Of others: as `DICT:delete`.",
        ),
    ],
    source: include_str!("../lua/switch.lua"),
    table: FunctionTable::of(&FUNCTIONS),
    natives: &[],
};

/// An order as Lua passes it; `pm_order` in the Lua source.
#[repr(C)]
struct Order {
    key: *const u8,
    key_len: usize,
    target: *const u8,
    target_len: usize,
    /// Who gives it: `lua:FILE:LINE`.
    actor: *const u8,
    actor_len: usize,
    /// 0: back to the default.
    has_target: c_int,
    /// 0: the script cannot wait here.
    may_yield: c_int,
}

#[repr(C)]
struct Functions {
    get: unsafe extern "C" fn(*mut Bridge, u32, u32, *const u8, usize) -> c_int,
    holds: unsafe extern "C" fn(*mut Bridge, u32, u32, *const u8, usize) -> c_int,
    order: unsafe extern "C" fn(*mut Bridge, u32, *const Order) -> c_int,
    outcome: unsafe extern "C" fn(*mut Bridge, u32, *const u8, usize) -> c_int,
}

static FUNCTIONS: Functions = Functions { get, holds, order, outcome };

/// A plain value under a key, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    Nothing,
    /// From before the dict became a face: an entry takes its place.
    Text,
    /// A number, a boolean, a list: a script's own, which no entry may hide.
    Other,
}

fn plain(zone: &Zone, key: &[u8], now_ms: u64) -> Plain {
    match zone.get(key, false, now_ms, |value, _| matches!(value, Value::String(_))) {
        Ok(Some(true)) => Plain::Text,
        Ok(None) => Plain::Nothing,
        Ok(Some(false)) | Err(DictError::IsAList) => Plain::Other,
        Err(_) => Plain::Nothing,
    }
}

/// The zone with Lua's number for it, and the call from the engine that runs.
///
/// # Safety
/// `bridge` must be a machine's, during a call from its Lua.
unsafe fn at(bridge: *mut Bridge, zone: u32) -> Option<(Arc<Zone>, *mut Frame)> {
    // SAFETY: the caller vouches for the bridge.
    let zone = unsafe { &*bridge }.zones.get(zone as usize)?;
    // SAFETY: as above.
    let frame = unsafe { frame::innermost(bridge) };
    (!frame.is_null()).then(|| (Arc::clone(zone), frame))
}

/// 1 with the target in the bridge, or 0: then the dict itself is to be asked.
unsafe extern "C" fn get(
    bridge: *mut Bridge,
    zone: u32,
    number: u32,
    key: *const u8,
    key_len: usize,
) -> c_int {
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; the key lives during the call. So for
    // all functions here. Templates run no Lua.
    unsafe {
        let key = arg(key, key_len);
        let Some((zone, frame)) = at(bridge, zone) else { return 0 };
        let mut found = std::mem::take(&mut (*bridge).buffer);
        found.clear();
        let reach = match frame::world(frame) {
            (Some(exchange), mut env) => look_up(number as usize, key, exchange, &mut env, &mut found),
            // Without a request there is no key of its own that a wildcard could be for.
            (None, env) => {
                apart(number, key, &*env.host, env.config, &mut found).filter(|reach| *reach == Reach::Own)
            }
        };
        let bridge = &mut *bridge;
        bridge.buffer = found;
        bridge.answer_buffer();
        match reach {
            Some(Reach::Own) => 1,
            // A wildcard may cover what scripts count under.
            Some(Reach::Wildcard) if plain(&zone, key, bridge.world.now_ms()) != Plain::Other => 1,
            _ => 0,
        }
    }
}

/// By the newest tables.
fn apart(
    number: u32,
    key: &[u8],
    host: &dyn engine::Host,
    config: &Config,
    out: &mut Vec<u8>,
) -> Option<Reach> {
    let spec = config.switches.get(number as usize)?;
    look_up_apart(number as usize, key, &*host.tables()?, &spec.rules, out)
}

/// What there is under a key now: bit 1 an entry of its own in the newest table, bit 2 a plain value that no entry may hide.
unsafe extern "C" fn holds(
    bridge: *mut Bridge,
    zone: u32,
    number: u32,
    key: *const u8,
    key_len: usize,
) -> c_int {
    // SAFETY: see `get`.
    unsafe {
        let key = arg(key, key_len);
        let Some((zone, frame)) = at(bridge, zone) else { return 0 };
        let (exchange, env) = frame::world(frame);
        let Some(spec) = env.config.switches.get(number as usize) else { return 0 };
        let pinned = || exchange.and_then(|exchange| exchange.switches.tables().map(Rc::clone));
        let tables = env.host.tables().or_else(pinned);
        let reach = tables
            .and_then(|tables| look_up_apart(number as usize, key, &tables, &spec.rules, &mut Vec::new()));
        let now_ms = (*bridge).world.now_ms();
        let mut room = Vec::new();
        let one_form = switch::normalise(spec.rules.kind, key, &mut room);
        let other = |key: &[u8]| plain(&zone, key, now_ms) == Plain::Other;
        c_int::from(reach == Some(Reach::Own)) | c_int::from(other(key) || other(one_form)) << 1
    }
}

/// Asks for an order: 1 when the script is to wait for its outcome, or 0 with the reason in the bridge when it cannot.
unsafe extern "C" fn order(bridge: *mut Bridge, number: u32, asked: *const Order) -> c_int {
    // SAFETY: see `get`; the strings live during the call.
    unsafe {
        let asked = &*asked;
        let order = SwitchOrder {
            switch: number as usize,
            key: arg(asked.key, asked.key_len).to_vec(),
            target: (asked.has_target != 0).then(|| arg(asked.target, asked.target_len).to_vec()),
            actor: String::from_utf8_lossy(arg(asked.actor, asked.actor_len)).into_owned(),
        };
        let phase = (*bridge).phase;
        let can_wait = WAITS.0 & phase != 0 && asked.may_yield != 0;
        if let (true, Some(want)) = (can_wait, frame::want(bridge)) {
            *want = Some(Want::Effect(Effect::Switch(order)));
            return 1;
        }
        let place = if WAITS.0 & phase == 0 {
            let known = PHASES.iter().find(|(known, _, _)| *known as u32 == phase);
            known.map_or("(unknown)", |(_, _, directive)| directive)
        } else {
            "a call from C"
        };
        let reason = format!("a switch cannot wait for the store in {place}");
        let bridge = &mut *bridge;
        let key = String::from_utf8_lossy(&order.key);
        let line = format!("[lua] {}: \"{key}\" is not switched: {reason}", order.actor);
        const ERR: u8 = 4;
        bridge.world.log(ERR, line.as_bytes());
        bridge.buffer.clear();
        bridge.buffer.extend_from_slice(reason.as_bytes());
        bridge.answer_buffer();
        0
    }
}

/// What became of the order that the script waited for: 1, or 0 with the reason in the bridge. A plain text under the key,
/// from before the dict became a face, is gone once there is an entry.
unsafe extern "C" fn outcome(bridge: *mut Bridge, zone: u32, key: *const u8, key_len: usize) -> c_int {
    // SAFETY: see `get`.
    let (outcome, key) = unsafe { (frame::switched(bridge), arg(key, key_len)) };
    // SAFETY: as above.
    let bridge = unsafe { &mut *bridge };
    let refused = match outcome {
        Some(Ok(revision)) => {
            bridge.number = revision as f64;
            let now_ms = bridge.world.now_ms();
            if let Some(zone) = bridge.zones.get(zone as usize)
                && plain(zone, key, now_ms) == Plain::Text
            {
                zone.delete(key, now_ms);
            }
            return 1;
        }
        Some(Err(text)) => text,
        None => "the control plane did not answer".to_owned(),
    };
    bridge.buffer.clear();
    bridge.buffer.extend_from_slice(refused.as_bytes());
    bridge.answer_buffer();
    0
}
