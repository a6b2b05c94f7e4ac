//! The list calls: `lpush`, `rpush`, `lpop`, `rpop`, `llen`.
//!
//! A list entry keeps its length where other entries keep the length of their value, and its ends behind its key.
//! Pushing never evicts: a full zone answers "no memory".

use super::arena::{Arena, ELEMENT_HEADER_BYTES, LIST_HEAD_BYTES, NIL, ValueKind, element, entry};
use super::store::encode;
use super::table::{HashIndex, Lookup, entry_bytes};
use super::{DictError, Value};

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListEnd {
    /// The first element: `lpush`, `lpop`.
    Left,
    /// The last element: `rpush`, `rpop`.
    Right,
}

impl HashIndex {
    pub(super) fn push(
        &mut self,
        end: ListEnd,
        key: &[u8],
        value: Value<'_>,
        now_ms: u64,
    ) -> Result<u32, DictError> {
        self.expire_some(now_ms);
        let hash = self.hash(key);
        let there = match self.lookup(hash, key, now_ms) {
            Lookup::Live(at) if self.is_list(at) => Some(at),
            Lookup::Live(_) => return Err(DictError::NotAList),
            Lookup::Expired(at) if self.is_list(at) => {
                self.free_elements(at);
                self.make_empty(at);
                Some(at)
            }
            Lookup::Expired(at) => {
                self.remove(at);
                None
            }
            Lookup::Missing => None,
        };
        let at = match there {
            Some(at) => at,
            None => {
                let room = entry_bytes(key, LIST_HEAD_BYTES).next_multiple_of(8);
                let at = self.alloc(room).ok_or(DictError::NoMemory)?;
                self.arena.set_key(at, key);
                self.arena.set_u32(at + entry::FLAGS, 0);
                self.make_empty(at);
                self.insert(at, hash);
                at
            }
        };
        let (kind, bytes) = encode(&value);
        let length = self.arena.u32(at + entry::VALUE_LEN);
        let Some(new) = self.alloc(ELEMENT_HEADER_BYTES + bytes.as_ref().len()) else {
            if length == 0 {
                self.remove(at);
            }
            return Err(DictError::NoMemory);
        };
        self.arena.set_kind(new + element::KIND, kind);
        self.arena.set_element_value(new, bytes.as_ref());
        self.link_element(at, end, new);
        self.arena.set_u32(at + entry::VALUE_LEN, length + 1);
        Ok(length + 1)
    }

    pub(super) fn pop<R>(
        &mut self,
        end: ListEnd,
        key: &[u8],
        now_ms: u64,
        see: impl FnOnce(Value<'_>) -> R,
    ) -> Result<Option<R>, DictError> {
        self.expire_some(now_ms);
        let Lookup::Live(at) = self.lookup(self.hash(key), key, now_ms) else { return Ok(None) };
        if !self.is_list(at) {
            return Err(DictError::NotAList);
        }
        let (first, last) = self.ends(at);
        let popped = match end {
            ListEnd::Left => self.arena.u64(first),
            ListEnd::Right => self.arena.u64(last),
        } as usize;
        let bytes = self.arena.element_value(popped);
        let seen = match self.arena.kind(popped + element::KIND) {
            ValueKind::Number => see(Value::Number(Arena::as_number(bytes))),
            ValueKind::String | ValueKind::Boolean | ValueKind::List => see(Value::String(bytes)),
        };
        self.unlink_element(at, popped);
        self.free(popped);
        let length = self.arena.u32(at + entry::VALUE_LEN) - 1;
        self.arena.set_u32(at + entry::VALUE_LEN, length);
        if length == 0 {
            self.remove(at);
        }
        Ok(Some(seen))
    }

    pub(super) fn llen(&mut self, key: &[u8], now_ms: u64) -> Result<u32, DictError> {
        self.expire_some(now_ms);
        match self.lookup(self.hash(key), key, now_ms) {
            Lookup::Live(at) if self.is_list(at) => Ok(self.arena.u32(at + entry::VALUE_LEN)),
            Lookup::Live(_) => Err(DictError::NotAList),
            Lookup::Expired(_) | Lookup::Missing => Ok(0),
        }
    }

    fn is_list(&self, at: usize) -> bool {
        self.arena.kind(at + entry::KIND) == ValueKind::List
    }

    /// Makes the record an empty list that never expires.
    fn make_empty(&mut self, at: usize) {
        self.arena.set_kind(at + entry::KIND, ValueKind::List);
        self.arena.set_u64(at + entry::EXPIRES_MS, 0);
        self.arena.set_u32(at + entry::VALUE_LEN, 0);
        let (first, last) = self.ends(at);
        self.arena.set_u64(first, NIL);
        self.arena.set_u64(last, NIL);
    }

    /// Returns the offset of the links to the first and the last element.
    fn ends(&self, at: usize) -> (usize, usize) {
        let head = self.arena.list_head(at);
        (head, head + 8)
    }

    fn link_element(&mut self, at: usize, end: ListEnd, new: usize) {
        let (first, last) = self.ends(at);
        let (own, other, towards, back) = match end {
            ListEnd::Left => (first, last, element::NEXT, element::PREV),
            ListEnd::Right => (last, first, element::PREV, element::NEXT),
        };
        let neighbour = self.arena.u64(own);
        self.arena.set_u64(new + towards, neighbour);
        self.arena.set_u64(new + back, NIL);
        match neighbour {
            NIL => self.arena.set_u64(other, new as u64),
            neighbour => self.arena.set_u64(neighbour as usize + back, new as u64),
        }
        self.arena.set_u64(own, new as u64);
    }

    fn unlink_element(&mut self, at: usize, gone: usize) {
        let (first, last) = self.ends(at);
        let next = self.arena.u64(gone + element::NEXT);
        let prev = self.arena.u64(gone + element::PREV);
        match prev {
            NIL => self.arena.set_u64(first, next),
            prev => self.arena.set_u64(prev as usize + element::NEXT, next),
        }
        match next {
            NIL => self.arena.set_u64(last, prev),
            next => self.arena.set_u64(next as usize + element::PREV, prev),
        }
    }
}
