//! Dicts that are a switch's face (`dict NAME;` in `switch {}`): reading looks into the table of
//! the request's first question, and storing a string is an order that the script waits for.
//!
//! Owns the division of such a dict: a number, a boolean or a list that a script keeps and an entry of the switch never
//! touch each other, also under the same key. The server carries orders out. An order in a phase that cannot wait
//! returns an error and logs it too, because few scripts check what `set` returns.

use std::ffi::c_int;
use std::sync::Arc;

use engine::Config;
use engine::modules::control::TOO_EARLY;
use engine::modules::switch::{Reach, look_up, look_up_apart};
use engine::phase::{Effect, SwitchOrder};

use crate::machine::bridge::{Bridge, arg};
use crate::machine::{Area, FunctionTable, field};
use crate::phase::{PHASES, Phase, Phases};
use crate::shdict::{DictError, DictZone, Value};
use crate::vm::frame::{self, Frame, Want};

/// The phases in which a script can wait for the store.
const WAITS: Phases =
    Phases::of(&[Phase::ServerRewrite, Phase::Rewrite, Phase::Access, Phase::Content, Phase::Timer]);

pub(super) static AREA: Area = Area {
    name: "switch",
    functions: &[],
    fields: &[
        field(
            "FACE:get",
            Phases::ALL,
            "For a dict that belongs to a switch: returns the target of a key that has an entry or matches a \
             wildcard; other keys as `DICT:get`.",
        ),
        field(
            "FACE:set",
            WAITS,
            "With a string: gives an order to the switch, waits for its outcome, and returns true, or nil and the reason of \
             the refusal. With nil: resets the key to the default. Other values, in all phases: as `DICT:set`, unless the \
             key has an entry.",
        ),
        field(
            "FACE:delete",
            WAITS,
            "Resets a key that has an entry to the default; any other key as `DICT:delete`.",
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
    /// The actor: `lua:FILE:LINE`.
    actor: *const u8,
    actor_len: usize,
    /// 0: the key returns to the default.
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

/// The plain value under a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    Nothing,
    /// Text from before the dict became a face: an entry replaces it.
    Text,
    /// A number, a boolean or a list: a script's own, which no entry may hide.
    Other,
}

fn plain(zone: &DictZone, key: &[u8], now_ms: u64) -> Plain {
    match zone.get(key, false, now_ms, |value, _| matches!(value, Value::String(_))) {
        Ok(Some(true)) => Plain::Text,
        Ok(None) => Plain::Nothing,
        Ok(Some(false)) | Err(DictError::IsAList) => Plain::Other,
        Err(_) => Plain::Nothing,
    }
}

/// Returns the zone by its number in Lua, and the innermost frame.
///
/// # Safety
/// `bridge` must be a machine's, during a call from its Lua.
unsafe fn at(bridge: *mut Bridge, zone: u32) -> Option<(Arc<DictZone>, *mut Frame)> {
    // SAFETY: the caller vouches for the bridge.
    let zone = unsafe { &*bridge }.zones.get(zone as usize)?;
    // SAFETY: as above.
    let frame = unsafe { frame::innermost(bridge) };
    (!frame.is_null()).then(|| (Arc::clone(zone), frame))
}

/// Returns 1 with the target in the bridge, or 0 if the dict itself is to be read.
unsafe extern "C" fn get(
    bridge: *mut Bridge,
    zone: u32,
    number: u32,
    key: *const u8,
    key_len: usize,
) -> c_int {
    // SAFETY: the machine's bridge, during a call from its Lua that runs no other Lua; the key lives during the call.
    // So for all functions here. Templates run no Lua.
    unsafe {
        let key = arg(key, key_len);
        let Some((zone, frame)) = at(bridge, zone) else { return 0 };
        let mut found = std::mem::take(&mut (*bridge).buffer);
        found.clear();
        let reach = match frame::world(frame) {
            (Some(exchange), mut env) => look_up(number as usize, key, exchange, &mut env, &mut found),
            // Without a request there is no key of its own that a wildcard could match.
            (None, env) => {
                apart(number, key, &*env.host, env.config, &mut found).filter(|reach| *reach == Reach::Own)
            }
        };
        let bridge = &mut *bridge;
        bridge.buffer = found;
        bridge.answer_buffer();
        match reach {
            Some(Reach::Own) => 1,
            // A wildcard must not hide a script's own value.
            Some(Reach::Wildcard) if plain(&zone, key, bridge.world.now_ms()) != Plain::Other => 1,
            _ => 0,
        }
    }
}

/// Looks a key up in the newest tables.
fn apart(
    number: u32,
    key: &[u8],
    host: &dyn engine::Host,
    config: &Config,
    out: &mut Vec<u8>,
) -> Option<Reach> {
    let spec = config.switches.get(number as usize)?;
    look_up_apart(number as usize, key, &host.routing()?.tables, &spec.rules, out)
}

/// Returns what a key holds now: bit 1 an entry of its own in the newest table, bit 2 a plain value that no entry may
/// hide.
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
        let (_, env) = frame::world(frame);
        let Some(spec) = env.config.switches.get(number as usize) else { return 0 };
        let reach = env.host.routing().and_then(|routing| {
            look_up_apart(number as usize, key, &routing.tables, &spec.rules, &mut Vec::new())
        });
        let now_ms = (*bridge).world.now_ms();
        let mut room = Vec::new();
        let one_form = switch::normalise(spec.rules.kind, key, &mut room);
        let other = |key: &[u8]| plain(&zone, key, now_ms) == Plain::Other;
        c_int::from(reach == Some(Reach::Own)) | c_int::from(other(key) || other(one_form)) << 1
    }
}

/// Asks for an order. Returns 1 if the script is to wait for its outcome, or 0 with the reason in the bridge.
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
        if let Some(request) = frame::request(bridge)
            && request.exchange.request.is_early
        {
            if request.can_end() && asked.may_yield != 0 {
                *request.want = Some(Want::Exit(c_int::from(TOO_EARLY)));
                return 1;
            }
            return refuse(&mut *bridge, &order, frame::EARLY);
        }
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
        refuse(&mut *bridge, &order, &reason)
    }
}

/// Logs why there is no order, and tells the script.
fn refuse(bridge: &mut Bridge, order: &SwitchOrder, reason: &str) -> c_int {
    const ERR: u8 = 4;
    let key = String::from_utf8_lossy(&order.key);
    let line = format!("[lua] {}: \"{key}\" is not switched: {reason}", order.actor);
    bridge.world.log(ERR, line.as_bytes());
    bridge.buffer.clear();
    bridge.buffer.extend_from_slice(reason.as_bytes());
    bridge.answer_buffer();
    0
}

/// Returns the outcome of the order that the script waited for: 1, or 0 with the reason in the bridge. Plain text under
/// the key, from before the dict became a face, is removed once there is an entry.
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
