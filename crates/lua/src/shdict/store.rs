//! Getting, storing, deleting and counting, as ngx_lua's `get`, `set`, `delete` and `incr` do.
//!
//! Each call first drops up to two expired entries from the old end, as ngx_lua does; `get_stale`, `ttl` and `expire`
//! do not.

use super::arena::{Arena, ValueKind, entry};
use super::table::{HashIndex, Lookup, entry_bytes};
use super::{DictError, EntryInfo, Stored, Value};

/// The largest number of evictions for one store.
const EVICTIONS: usize = 30;

/// The calls that store a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// `set`: always stores; evicts if there is no room.
    Set,
    /// `safe_set`: always stores; never evicts.
    SafeSet,
    /// `add`: stores if the key is missing; evicts if there is no room.
    Add,
    /// `safe_add`: stores if the key is missing; never evicts.
    SafeAdd,
    /// `replace`: stores if the key exists; evicts if there is no room.
    Replace,
}

impl Op {
    fn is_safe(self) -> bool {
        matches!(self, Op::SafeSet | Op::SafeAdd)
    }
}

impl HashIndex {
    pub(super) fn get<R>(
        &mut self,
        key: &[u8],
        stale: bool,
        now_ms: u64,
        see: impl FnOnce(Value<'_>, EntryInfo) -> R,
    ) -> Result<Option<R>, DictError> {
        if !stale {
            self.expire_some(now_ms);
        }
        let (at, expired) = match self.lookup(self.hash(key), key, now_ms) {
            Lookup::Live(at) => (at, false),
            Lookup::Expired(at) if stale => (at, true),
            Lookup::Expired(_) | Lookup::Missing => return Ok(None),
        };
        let kind = self.arena.kind(at + entry::KIND);
        if kind == ValueKind::List {
            return Err(DictError::IsAList);
        }
        let bytes = self.arena.value(at);
        let value = match kind {
            ValueKind::Number => Value::Number(Arena::as_number(bytes)),
            ValueKind::Boolean => Value::Boolean(bytes.first().is_some_and(|&byte| byte != 0)),
            ValueKind::String | ValueKind::List => Value::String(bytes),
        };
        let found = EntryInfo { flags: self.arena.u32(at + entry::FLAGS), stale: expired };
        Ok(Some(see(value, found)))
    }

    pub(super) fn store(
        &mut self,
        op: Op,
        key: &[u8],
        value: Value<'_>,
        ttl_ms: u64,
        flags: u32,
        now_ms: u64,
    ) -> Stored<()> {
        let refused = |refused| Stored { result: Err(refused), forcible: false };
        let (kind, bytes) = encode(&value);
        self.expire_some(now_ms);
        let hash = self.hash(key);
        let there = match (op, self.lookup(hash, key, now_ms)) {
            (Op::Replace, Lookup::Expired(_) | Lookup::Missing) => return refused(DictError::NotFound),
            (Op::Add | Op::SafeAdd, Lookup::Live(_)) => return refused(DictError::Exists),
            (_, Lookup::Live(at) | Lookup::Expired(at)) => Some(at),
            (_, Lookup::Missing) => None,
        };
        if let Some(at) = there {
            let same_length = self.arena.kind(at + entry::KIND) != ValueKind::List
                && self.arena.u32(at + entry::VALUE_LEN) as usize == bytes.as_ref().len();
            if same_length {
                self.write(at, kind, bytes.as_ref(), ttl_ms, flags, now_ms);
                return Stored { result: Ok(()), forcible: false };
            }
            self.remove(at);
        }
        let room = entry_bytes(key, bytes.as_ref().len());
        let (at, forcible) = match self.alloc(room) {
            Some(at) => (Some(at), false),
            None if op.is_safe() => (None, false),
            None => self.alloc_evicting(room, now_ms),
        };
        let Some(at) = at else { return Stored { result: Err(DictError::NoMemory), forcible } };
        self.arena.set_key(at, key);
        self.write(at, kind, bytes.as_ref(), ttl_ms, flags, now_ms);
        self.insert(at, hash);
        Stored { result: Ok(()), forcible }
    }

    pub(super) fn delete(&mut self, key: &[u8], now_ms: u64) {
        self.expire_some(now_ms);
        if let Lookup::Live(at) | Lookup::Expired(at) = self.lookup(self.hash(key), key, now_ms) {
            self.remove(at);
        }
    }

    pub(super) fn incr(
        &mut self,
        key: &[u8],
        by: f64,
        init: Option<f64>,
        init_ttl_ms: u64,
        now_ms: u64,
    ) -> Stored<f64> {
        self.expire_some(now_ms);
        let hash = self.hash(key);
        let done = |result| Stored { result, forcible: false };
        let there = match self.lookup(hash, key, now_ms) {
            Lookup::Live(at) => {
                if self.arena.kind(at + entry::KIND) != ValueKind::Number {
                    return done(Err(DictError::NotANumber));
                }
                let number = Arena::as_number(self.arena.value(at)) + by;
                self.arena.set_value(at, &number.to_le_bytes());
                return done(Ok(number));
            }
            Lookup::Expired(at) => Some(at),
            Lookup::Missing => None,
        };
        let Some(init) = init else { return done(Err(DictError::NotFound)) };
        let number = by + init;
        if let Some(at) = there {
            let same_length = self.arena.kind(at + entry::KIND) != ValueKind::List
                && self.arena.u32(at + entry::VALUE_LEN) as usize == size_of::<f64>();
            if same_length {
                self.write(at, ValueKind::Number, &number.to_le_bytes(), init_ttl_ms, 0, now_ms);
                return done(Ok(number));
            }
            self.remove(at);
        }
        let room = entry_bytes(key, size_of::<f64>());
        let (at, forcible) = match self.alloc(room) {
            Some(at) => (Some(at), false),
            None => self.alloc_evicting(room, now_ms),
        };
        let Some(at) = at else { return Stored { result: Err(DictError::NoMemory), forcible } };
        self.arena.set_key(at, key);
        self.write(at, ValueKind::Number, &number.to_le_bytes(), init_ttl_ms, 0, now_ms);
        self.insert(at, hash);
        Stored { result: Ok(number), forcible }
    }

    pub(super) fn ttl_ms(&self, key: &[u8], now_ms: u64) -> Option<i64> {
        let at = self.peek(self.hash(key), key)?;
        match self.arena.u64(at + entry::EXPIRES_MS) {
            0 => Some(0),
            expires_ms => Some(expires_ms.wrapping_sub(now_ms) as i64),
        }
    }

    pub(super) fn set_ttl(&mut self, key: &[u8], ttl_ms: u64, now_ms: u64) -> bool {
        let Some(at) = self.peek(self.hash(key), key) else { return false };
        self.arena.set_u64(at + entry::EXPIRES_MS, deadline_ms(ttl_ms, now_ms));
        true
    }

    /// Evicts one entry at a time until `room` fits. Returns the room, and whether anything was evicted.
    fn alloc_evicting(&mut self, room: usize, now_ms: u64) -> (Option<usize>, bool) {
        let mut forcible = false;
        for _ in 0..EVICTIONS {
            if !self.evict(now_ms) {
                break;
            }
            forcible = true;
            if let Some(at) = self.alloc(room) {
                return (Some(at), forcible);
            }
        }
        (None, forcible)
    }

    fn write(&mut self, at: usize, kind: ValueKind, bytes: &[u8], ttl_ms: u64, flags: u32, now_ms: u64) {
        self.arena.set_kind(at + entry::KIND, kind);
        self.arena.set_u32(at + entry::FLAGS, flags);
        self.arena.set_u64(at + entry::EXPIRES_MS, deadline_ms(ttl_ms, now_ms));
        self.arena.set_value(at, bytes);
    }
}

fn deadline_ms(ttl_ms: u64, now_ms: u64) -> u64 {
    if ttl_ms == 0 { 0 } else { now_ms.saturating_add(ttl_ms) }
}

/// A value's bytes as the arena has them, without copying strings.
pub(super) enum Encoded<'a> {
    String(&'a [u8]),
    Number([u8; 8]),
    Boolean([u8; 1]),
}

impl AsRef<[u8]> for Encoded<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Encoded::String(bytes) => bytes,
            Encoded::Number(bytes) => bytes,
            Encoded::Boolean(bytes) => bytes,
        }
    }
}

pub(super) fn encode<'a>(value: &Value<'a>) -> (ValueKind, Encoded<'a>) {
    match *value {
        Value::String(bytes) => (ValueKind::String, Encoded::String(bytes)),
        Value::Number(number) => (ValueKind::Number, Encoded::Number(number.to_le_bytes())),
        Value::Boolean(truth) => (ValueKind::Boolean, Encoded::Boolean([u8::from(truth)])),
    }
}
