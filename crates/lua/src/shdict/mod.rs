//! `lua_shared_dict`: one zone of bounded size, shared by every thread of the process.
//!
//! A [`DictZone`] is the dictionary behind `ngx.shared.NAME`: strings, numbers, booleans and lists with expiry
//! times, least-recently-used eviction and the space accounting of ngx_lua 0.10.23 on nginx's slab allocator, so that
//! the same program evicts the same entries. The owner of the zones keys them by name and size, so that a reload
//! carries them over. This module reads no clock and no randomness (both come in), knows no Lua, and must never hold
//! its lock while calling out.

mod arena;
mod list;
mod slab;
mod store;
mod table;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use list::ListEnd;
pub(crate) use store::Op;
use table::HashIndex;

/// A value to store or a value found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Value<'a> {
    /// Any bytes.
    String(&'a [u8]),
    /// A Lua number.
    Number(f64),
    /// A Lua boolean.
    Boolean(bool),
}

/// A call failed; Lua gets [`DictError::text`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DictError {
    /// `add` of an existing key.
    Exists,
    /// `replace`, `incr`, `ttl` or `expire` of a missing key.
    NotFound,
    /// There is no room, even after evicting what may be evicted.
    NoMemory,
    /// `incr` of something else.
    NotANumber,
    /// `get` of a list.
    IsAList,
    /// A list call on something else.
    NotAList,
}

impl DictError {
    /// Returns ngx_lua's text for it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            DictError::Exists => "exists",
            DictError::NotFound => "not found",
            DictError::NoMemory => "no memory",
            DictError::NotANumber => "not a number",
            DictError::IsAList => "value is a list",
            DictError::NotAList => "value not a list",
        }
    }
}

/// The outcome of a store or an increment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Stored<T> {
    /// The result for Lua.
    pub(crate) result: Result<T, DictError>,
    /// Whether entries that had not expired were evicted to make room.
    pub(crate) forcible: bool,
}

/// The result of a lookup beside the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EntryInfo {
    /// The user's flags.
    pub(crate) flags: u32,
    /// Whether the entry has expired; only `get_stale` returns such entries.
    pub(crate) stale: bool,
}

/// One shared dict. All times are in milliseconds since the epoch, all lifetimes in milliseconds; a lifetime of 0
/// is without limit. Keys must not be empty nor longer than 65,535 bytes (ngx_lua keeps
/// the length in 16 bits), which the Lua side sees to.
pub(crate) struct DictZone {
    name: Box<[u8]>,
    size_bytes: usize,
    table: Mutex<HashIndex>,
}

impl DictZone {
    /// Makes a zone as declared by `lua_shared_dict NAME SIZE`; `seed` makes its hashes unpredictable. A size below 12k,
    /// with which nginx does not start for want of room for a dict's own records, becomes 12k.
    pub(crate) fn new(name: &[u8], size_bytes: usize, seed: u64) -> DictZone {
        let table = HashIndex::new(name.len(), size_bytes, seed);
        DictZone { name: name.into(), size_bytes, table: Mutex::new(table) }
    }

    /// Returns the declared name.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the declared size: `DICT:capacity()`.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Returns the bytes in wholly free pages: `DICT:free_space()`. At zero there may still be room.
    pub(crate) fn free_bytes(&self) -> usize {
        self.lock().free_bytes()
    }

    /// Passes the value of `DICT:get(key)`, or with `stale` of `DICT:get_stale(key)`, if there is one, to `see`, which runs
    /// under the zone's lock and may only copy.
    pub(crate) fn get<R>(
        &self,
        key: &[u8],
        stale: bool,
        now_ms: u64,
        see: impl FnOnce(Value<'_>, EntryInfo) -> R,
    ) -> Result<Option<R>, DictError> {
        self.lock().get(key, stale, now_ms, see)
    }

    /// Stores as `set`, `safe_set`, `add`, `safe_add` or `replace` do (see [`Op`]).
    pub(crate) fn store(
        &self,
        op: Op,
        key: &[u8],
        value: Value<'_>,
        ttl_ms: u64,
        flags: u32,
        now_ms: u64,
    ) -> Stored<()> {
        self.lock().store(op, key, value, ttl_ms, flags, now_ms)
    }

    /// Removes a key (`DICT:delete`); does nothing without such a key.
    pub(crate) fn delete(&self, key: &[u8], now_ms: u64) {
        self.lock().delete(key, now_ms);
    }

    /// Adds to a number (`DICT:incr`), and returns the sum.
    pub(crate) fn incr(
        &self,
        key: &[u8],
        by: f64,
        init: Option<f64>,
        init_ttl_ms: u64,
        now_ms: u64,
    ) -> Stored<f64> {
        self.lock().incr(key, by, init, init_ttl_ms, now_ms)
    }

    /// Adds to a list (`lpush`, `rpush`), and returns its new length. Elements are strings or numbers.
    pub(crate) fn push(
        &self,
        end: ListEnd,
        key: &[u8],
        value: Value<'_>,
        now_ms: u64,
    ) -> Result<u32, DictError> {
        self.lock().push(end, key, value, now_ms)
    }

    /// Removes an element of a list (`lpop`, `rpop`), and passes it to `see`, under the zone's lock.
    pub(crate) fn pop<R>(
        &self,
        end: ListEnd,
        key: &[u8],
        now_ms: u64,
        see: impl FnOnce(Value<'_>) -> R,
    ) -> Result<Option<R>, DictError> {
        self.lock().pop(end, key, now_ms, see)
    }

    /// Returns the length of a list (`DICT:llen`).
    pub(crate) fn llen(&self, key: &[u8], now_ms: u64) -> Result<u32, DictError> {
        self.lock().llen(key, now_ms)
    }

    /// Returns the time left (`DICT:ttl`), 0 if there is no limit, a negative time for an expired entry that is still
    /// there; `None` without such a key.
    pub(crate) fn ttl_ms(&self, key: &[u8], now_ms: u64) -> Option<i64> {
        self.lock().ttl_ms(key, now_ms)
    }

    /// Sets the lifetime of a key (`DICT:expire`); returns false without such a key.
    pub(crate) fn expire(&self, key: &[u8], ttl_ms: u64, now_ms: u64) -> bool {
        self.lock().set_ttl(key, ttl_ms, now_ms)
    }

    /// Marks every entry expired (`DICT:flush_all`).
    pub(crate) fn flush_all(&self, now_ms: u64) {
        self.lock().flush_all(now_ms);
    }

    /// Removes expired entries (`DICT:flush_expired`), oldest first, at most `max` (0: all); returns their
    /// number.
    pub(crate) fn flush_expired(&self, max: u32, now_ms: u64) -> u32 {
        self.lock().flush_expired(max, now_ms)
    }

    /// Passes each live key (`DICT:get_keys`) to `see`, least recently used first, at most `max` (0: all), under the
    /// zone's lock.
    pub(crate) fn keys(&self, max: u32, now_ms: u64, see: impl FnMut(&[u8])) {
        self.lock().keys(max, now_ms, see);
    }

    fn lock(&self) -> MutexGuard<'_, HashIndex> {
        // Only a broken link inside the arena could make a panic under the lock. Serving the data all the same is better
        // than refusing every later request.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
