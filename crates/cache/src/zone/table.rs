//! The entries of a zone: by name, by family, and in the order in which they were last asked for.
//!
//! Owns that an entry in use is never taken out, and that counts of bytes are those of what is known to be on the disk.

use super::purges::Purges;
use super::{Removal, ZoneLimits};
use crate::key::KeyHash;
use std::collections::HashMap;
use std::task::Waker;

/// No entry.
pub(super) const NO_SLOT: u32 = u32::MAX;

type ByName<T> = HashMap<KeyHash, T, foldhash::fast::RandomState>;

/// One entry.
#[derive(Debug, Default)]
pub(super) struct Entry {
    name: KeyHash,
    main: KeyHash,
    /// The neighbours in the order: the one that was asked for later, and the one before.
    newer: u32,
    older: u32,
    /// When it was last asked for.
    asked_s: u64,
    bytes: u64,
    pub(super) uses: u32,
    pub(super) in_use: u32,
    /// There is a file.
    pub(super) exists: bool,
    /// It was looked for on the disk since it is known.
    pub(super) is_settled: bool,
    /// The lock on it; 0 is none.
    pub(super) lock_number: u32,
    pub(super) locked_until_ms: u64,
    /// The status of a failure that stands in for the response; 0 is none.
    pub(super) error: u16,
    pub(super) error_until_s: u64,
    pub(super) error_moves: u64,
    /// It was forgotten while it was in use, and goes with the last use.
    is_gone: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) limits: ZoneLimits,
    entries: Vec<Entry>,
    free: Vec<u32>,
    by_name: ByName<u32>,
    /// How many entries with files each family has.
    families: ByName<u32>,
    waiting: HashMap<u32, Vec<Waker>>,
    newest: u32,
    oldest: u32,
    last_lock: u32,
    pub(super) bytes: u64,
    /// What was taken out to make room: its files are to go.
    displaced: Vec<KeyHash>,
    pub(super) purges: Purges,
}

impl Entry {
    /// Returns the family.
    pub(super) fn main(&self) -> KeyHash {
        self.main
    }
}

/// How many files that are to go may wait for the next look at the zone.
const MOST_DISPLACED: usize = 1000;

/// Files take whole blocks.
const BLOCK_BYTES: u64 = 4096;

impl Table {
    pub(super) fn new(limits: ZoneLimits) -> Table {
        Table {
            limits,
            entries: Vec::new(),
            free: Vec::new(),
            by_name: ByName::default(),
            families: ByName::default(),
            waiting: HashMap::new(),
            newest: NO_SLOT,
            oldest: NO_SLOT,
            last_lock: 0,
            bytes: 0,
            displaced: Vec::new(),
            purges: Purges::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn entry(&self, slot: u32) -> &Entry {
        &self.entries[slot as usize]
    }

    pub(super) fn entry_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.entries[slot as usize]
    }

    /// Returns the entry of this name, which is made if there is none; `None` if there is no room. The file of what is taken
    /// out to make room is among the next removals.
    pub(super) fn find_or_add(&mut self, name: KeyHash, main: KeyHash) -> Option<u32> {
        if let Some(slot) = self.by_name.get(&name) {
            return Some(*slot);
        }
        if self.by_name.len() >= self.limits.entries {
            let slot = self.oldest_unused()?;
            let has_file = self.entry(slot).exists || !self.entry(slot).is_settled;
            let Removal(displaced) = self.take_out(slot);
            if has_file {
                self.displaced.push(displaced);
            }
        }
        let entry = Entry { name, main, newer: NO_SLOT, older: NO_SLOT, ..Entry::default() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.by_name.insert(name, slot);
        self.link(slot);
        Some(slot)
    }

    fn link(&mut self, slot: u32) {
        let before = self.newest;
        let entry = self.entry_mut(slot);
        (entry.newer, entry.older) = (NO_SLOT, before);
        match before {
            NO_SLOT => self.oldest = slot,
            before => self.entry_mut(before).newer = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let (newer, older) = (self.entry(slot).newer, self.entry(slot).older);
        match newer {
            NO_SLOT => self.newest = older,
            newer => self.entry_mut(newer).older = older,
        }
        match older {
            NO_SLOT => self.oldest = newer,
            older => self.entry_mut(older).newer = newer,
        }
    }

    /// Makes an entry the one that was asked for last.
    pub(super) fn touch(&mut self, slot: u32, now_s: u64) {
        self.entry_mut(slot).asked_s = now_s;
        if self.newest != slot {
            self.unlink(slot);
            self.link(slot);
        }
    }

    /// Takes note of a file of so many bytes.
    pub(super) fn set_stored(&mut self, slot: u32, bytes: u64) {
        self.set_absent(slot);
        let bytes = bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
        let entry = self.entry_mut(slot);
        (entry.exists, entry.bytes, entry.error, entry.is_settled) = (true, bytes, 0, true);
        let (main, is_gone) = (entry.main, entry.is_gone);
        if is_gone {
            // It was forgotten meanwhile, and is there again.
            self.entry_mut(slot).bytes = 0;
            self.entry_mut(slot).exists = false;
            return;
        }
        self.bytes += bytes;
        *self.families.entry(main).or_default() += 1;
    }

    /// Takes note that there is no file.
    pub(super) fn set_absent(&mut self, slot: u32) {
        let entry = self.entry_mut(slot);
        if !std::mem::take(&mut entry.exists) {
            return;
        }
        let (bytes, main) = (std::mem::take(&mut entry.bytes), entry.main);
        self.bytes -= bytes;
        if let Some(count) = self.families.get_mut(&main) {
            *count -= 1;
            if *count == 0 {
                self.families.remove(&main);
            }
        }
    }

    pub(super) fn has_family(&self, main: KeyHash) -> bool {
        self.families.contains_key(&main)
    }

    pub(super) fn family(&self, main: KeyHash) -> Vec<KeyHash> {
        let members = self.by_name.values().map(|slot| self.entry(*slot));
        members.filter(|entry| entry.main == main).map(|entry| entry.name).collect()
    }

    /// Returns whether there is a file of this name.
    pub(super) fn exists(&self, name: KeyHash) -> bool {
        self.by_name.get(&name).is_some_and(|slot| self.entry(*slot).exists)
    }

    /// Returns all names.
    pub(super) fn names(&self) -> Vec<KeyHash> {
        self.by_name.keys().copied().collect()
    }

    /// Returns the names whose files are to go and are not there again.
    pub(super) fn take_displaced(&mut self) -> Vec<KeyHash> {
        let mut displaced = std::mem::take(&mut self.displaced);
        displaced.retain(|name| !self.by_name.contains_key(name));
        displaced
    }

    /// Takes an entry out whose time is over, or the oldest one while there are too many bytes.
    pub(super) fn take_removal(&mut self, now_s: u64) -> Option<Removal> {
        if let Some(removal) = self.next_displaced() {
            return Some(removal);
        }
        let slot = self.oldest_unused()?;
        let is_over = self.entry(slot).asked_s.saturating_add(self.limits.inactive_s) < now_s;
        (is_over || self.bytes > self.limits.max_bytes).then(|| self.take_out(slot))
    }

    fn next_displaced(&mut self) -> Option<Removal> {
        // It may be there again.
        let names = &mut self.displaced;
        std::iter::from_fn(|| names.pop()).find(|name| !self.by_name.contains_key(name)).map(Removal)
    }

    /// Takes out what has made room, while there is more of it than waits for the next look.
    pub(super) fn take_excess(&mut self) -> Option<Removal> {
        if self.displaced.len() > MOST_DISPLACED { self.next_displaced() } else { None }
    }

    pub(super) fn take_oldest(&mut self) -> Option<Removal> {
        let slot = self.oldest_unused()?;
        Some(self.take_out(slot))
    }

    fn oldest_unused(&self) -> Option<u32> {
        let mut slot = self.oldest;
        while slot != NO_SLOT && self.entry(slot).in_use > 0 {
            slot = self.entry(slot).newer;
        }
        (slot != NO_SLOT).then_some(slot)
    }

    fn take_out(&mut self, slot: u32) -> Removal {
        let name = self.entry(slot).name;
        self.set_absent(slot);
        self.unlink(slot);
        self.by_name.remove(&name);
        self.free.push(slot);
        Removal(name)
    }

    pub(super) fn forget(&mut self, name: KeyHash) -> bool {
        let Some(slot) = self.by_name.get(&name).copied() else { return false };
        if self.entry(slot).in_use == 0 {
            self.take_out(slot);
            return true;
        }
        self.set_absent(slot);
        self.unlink(slot);
        self.by_name.remove(&name);
        self.entry_mut(slot).is_gone = true;
        true
    }

    pub(super) fn next_lock(&mut self) -> u32 {
        self.last_lock = self.last_lock.wrapping_add(1).max(1);
        self.last_lock
    }

    pub(super) fn wait(&mut self, slot: u32, waker: &Waker) {
        let waiting = self.waiting.entry(slot).or_default();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    /// Ends a lock, and returns who waits for it.
    pub(super) fn unlock(&mut self, slot: u32, number: u32) -> Vec<Waker> {
        let entry = self.entry_mut(slot);
        if entry.lock_number != number {
            return Vec::new();
        }
        entry.lock_number = 0;
        self.waiting.remove(&slot).unwrap_or_default()
    }

    /// Ends a use.
    pub(super) fn release(&mut self, slot: u32) {
        let entry = self.entry_mut(slot);
        entry.in_use -= 1;
        if entry.in_use == 0 && entry.is_gone {
            self.waiting.remove(&slot);
            self.free.push(slot);
        }
    }
}
