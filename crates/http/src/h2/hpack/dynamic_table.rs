//! The dynamic table of a decoder (RFC 7541 §2.3.2, §4).

use std::collections::VecDeque;

/// What an entry takes beside its name and value (RFC 7541 §4.1).
const ENTRY_OVERHEAD: usize = 32;

/// Where an entry's bytes are: its name, and its value behind that.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u32,
    name_len: u32,
    value_len: u32,
}

impl Entry {
    fn end(self) -> usize {
        (self.at + self.name_len + self.value_len) as usize
    }

    fn size(self) -> usize {
        (self.name_len + self.value_len) as usize + ENTRY_OVERHEAD
    }
}

/// The table; its memory grows with its contents.
#[derive(Debug)]
pub(super) struct DynamicTable {
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// The bytes of entries, in their order; those before the oldest entry are of evicted ones.
    bytes: Vec<u8>,
    size: usize,
    max_size: usize,
}

impl DynamicTable {
    pub(super) fn new(max_size: usize) -> DynamicTable {
        DynamicTable { entries: VecDeque::new(), bytes: Vec::new(), size: 0, max_size }
    }

    /// Returns the name and value at this index, which counts from the newest entry.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let at = self.entries.len().checked_sub(index + 1)?;
        let entry = *self.entries.get(at)?;
        let value_at = (entry.at + entry.name_len) as usize;
        Some((&self.bytes[entry.at as usize..value_at], &self.bytes[value_at..entry.end()]))
    }

    /// Adds an entry, for which older ones make room. One that is larger than the table empties it (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict(self.max_size.saturating_sub(size));
        if size > self.max_size {
            return;
        }
        self.reclaim();
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_back(Entry { at, name_len: name.len() as u32, value_len: value.len() as u32 });
        self.size += size;
    }

    /// Changes the most that the entries may take.
    pub(super) fn resize(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.evict(max_size);
        if self.entries.is_empty() {
            *self = DynamicTable::new(max_size);
        }
    }

    fn evict(&mut self, max_size: usize) {
        while self.size > max_size
            && let Some(oldest) = self.entries.pop_front()
        {
            self.size -= oldest.size();
        }
    }

    /// Removes the bytes of evicted entries once they are as many as the others may be.
    fn reclaim(&mut self) {
        let unused = self.entries.front().map_or(self.bytes.len(), |oldest| oldest.at as usize);
        if unused > 0 && (self.entries.is_empty() || unused >= self.max_size) {
            self.bytes.drain(..unused);
            self.entries.iter_mut().for_each(|entry| entry.at -= unused as u32);
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn newest_entry_comes_first_and_oldest_goes_first() {
        let mut table = DynamicTable::new(2 * (32 + 10));
        for (name, value) in [(b"name1", b"value"), (b"name2", b"value"), (b"name3", b"value")] {
            table.insert(name, value);
        }
        assert_eq!(table.get(0), Some((&b"name3"[..], &b"value"[..])));
        assert_eq!(table.get(1), Some((&b"name2"[..], &b"value"[..])));
        assert_eq!(table.get(2), None);
        table.insert(&[b'x'; 100], b"");
        assert_eq!((table.get(0), table.size()), (None, 0), "too large an entry empties the table");
    }

    proptest! {
        /// The same as a list of owned entries, whatever is inserted; and memory stays within twice the table's size.
        #[test]
        fn table_is_a_bounded_list(
            steps in prop::collection::vec((0usize..40, 0usize..90, prop::option::weighted(0.1, 0usize..300)), 0..200),
        ) {
            let mut table = DynamicTable::new(256);
            let mut model: VecDeque<(Vec<u8>, Vec<u8>)> = VecDeque::new();
            let mut max_size = 256;
            for (number, (name_len, value_len, resized)) in steps.into_iter().enumerate() {
                if let Some(size) = resized {
                    max_size = size;
                    table.resize(size);
                } else {
                    let (name, value) = (vec![number as u8; name_len], vec![!number as u8; value_len]);
                    table.insert(&name, &value);
                    model.push_front((name, value));
                }
                let size = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 32;
                while model.iter().map(size).sum::<usize>() > max_size {
                    model.pop_back();
                }
                for (index, (name, value)) in model.iter().enumerate() {
                    prop_assert_eq!(table.get(index), Some((&name[..], &value[..])));
                }
                prop_assert_eq!(table.get(model.len()), None);
                prop_assert!(table.bytes.len() <= 2 * max_size.max(256));
            }
        }
    }
}
