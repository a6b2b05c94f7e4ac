//! The bytes of one shared dict and the records laid out in them.
//!
//! An entry is `[header][key][value]`, a list element `[header][value]`; both headers are as long as nginx's own, so
//! that the same data takes the same space. Links are offsets into the arena, `NIL` for none. This file knows the
//! places of fields, never their meaning.

/// No record.
pub(super) const NIL: u64 = u64::MAX;

/// Bytes before the key of an entry: nginx's red-black node (32) and shdict node (36).
pub(super) const ENTRY_HEADER_BYTES: usize = 68;
/// Bytes before the value of a list element.
pub(super) const ELEMENT_HEADER_BYTES: usize = 21;
/// The list head that follows the key of a list entry, aligned to 8.
pub(super) const LIST_HEAD_BYTES: usize = 16;

/// The kind of value of an entry or element. The numbers are Lua's own type tags, which ngx_lua stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum ValueKind {
    Boolean = 1,
    Number = 3,
    String = 4,
    List = 5,
}

impl ValueKind {
    fn from_tag(tag: u8) -> ValueKind {
        match tag {
            1 => ValueKind::Boolean,
            3 => ValueKind::Number,
            5 => ValueKind::List,
            _ => ValueKind::String,
        }
    }
}

/// Offset of each field of an entry's header.
pub(super) mod entry {
    pub(in crate::shdict) const NEWER: usize = 0;
    pub(in crate::shdict) const OLDER: usize = 8;
    pub(in crate::shdict) const CHAIN: usize = 16;
    pub(in crate::shdict) const EXPIRES_MS: usize = 24;
    pub(in crate::shdict) const HASH: usize = 32;
    pub(in crate::shdict) const VALUE_LEN: usize = 40;
    pub(in crate::shdict) const FLAGS: usize = 44;
    pub(in crate::shdict) const KEY_LEN: usize = 48;
    pub(in crate::shdict) const KIND: usize = 50;
}

/// Offset of each field of a list element's header.
pub(super) mod element {
    pub(in crate::shdict) const NEXT: usize = 0;
    pub(in crate::shdict) const PREV: usize = 8;
    pub(in crate::shdict) const VALUE_LEN: usize = 16;
    pub(in crate::shdict) const KIND: usize = 20;
}

/// The zone's bytes.
pub(super) struct Arena {
    bytes: Box<[u8]>,
}

impl Arena {
    /// Makes a zeroed arena: the system gives memory only to pages that are used.
    pub(super) fn new(bytes: usize) -> Arena {
        Arena { bytes: vec![0; bytes].into_boxed_slice() }
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        let mut raw = [0; 8];
        raw.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_le_bytes(raw)
    }

    pub(super) fn set_u64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        let mut raw = [0; 4];
        raw.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(raw)
    }

    pub(super) fn set_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(super) fn key_len(&self, entry: usize) -> usize {
        let at = entry + entry::KEY_LEN;
        usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]))
    }

    pub(super) fn kind(&self, at: usize) -> ValueKind {
        ValueKind::from_tag(self.bytes[at])
    }

    pub(super) fn set_kind(&mut self, at: usize, kind: ValueKind) {
        self.bytes[at] = kind as u8;
    }

    pub(super) fn key(&self, entry: usize) -> &[u8] {
        let start = entry + ENTRY_HEADER_BYTES;
        &self.bytes[start..start + self.key_len(entry)]
    }

    pub(super) fn set_key(&mut self, entry: usize, key: &[u8]) {
        let len = (key.len() as u16).to_le_bytes();
        self.bytes[entry + entry::KEY_LEN..entry + entry::KEY_LEN + 2].copy_from_slice(&len);
        let start = entry + ENTRY_HEADER_BYTES;
        self.bytes[start..start + key.len()].copy_from_slice(key);
    }

    /// Returns the value of an entry that is no list.
    pub(super) fn value(&self, entry: usize) -> &[u8] {
        let start = entry + ENTRY_HEADER_BYTES + self.key_len(entry);
        &self.bytes[start..start + self.u32(entry + entry::VALUE_LEN) as usize]
    }

    pub(super) fn set_value(&mut self, entry: usize, value: &[u8]) {
        self.set_u32(entry + entry::VALUE_LEN, value.len() as u32);
        let start = entry + ENTRY_HEADER_BYTES + self.key_len(entry);
        self.bytes[start..start + value.len()].copy_from_slice(value);
    }

    pub(super) fn element_value(&self, element: usize) -> &[u8] {
        let start = element + ELEMENT_HEADER_BYTES;
        &self.bytes[start..start + self.u32(element + element::VALUE_LEN) as usize]
    }

    pub(super) fn set_element_value(&mut self, element: usize, value: &[u8]) {
        self.set_u32(element + element::VALUE_LEN, value.len() as u32);
        let start = element + ELEMENT_HEADER_BYTES;
        self.bytes[start..start + value.len()].copy_from_slice(value);
    }

    /// Returns the offset of a list entry's links to its first and last element.
    pub(super) fn list_head(&self, entry: usize) -> usize {
        (entry + ENTRY_HEADER_BYTES + self.key_len(entry)).next_multiple_of(8)
    }

    pub(super) fn as_number(bytes: &[u8]) -> f64 {
        let mut raw = [0; 8];
        let len = bytes.len().min(8);
        raw[..len].copy_from_slice(&bytes[..len]);
        f64::from_le_bytes(raw)
    }
}
