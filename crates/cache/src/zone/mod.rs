//! A zone of kept responses: which there are, which are in use, and who is fetching one.
//!
//! Owns nginx's rules of `min_uses`, of locks and of what goes first when there is too much. Threads of a process share one;
//! its lock is never held across anything but a look-up. What the files say counts: a response that the zone does not know
//! may be on the disk, put there by another process.

mod purges;
mod table;

use crate::key::KeyHash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use table::{NO_SLOT, Table};

/// The limits of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneLimits {
    /// The most entries.
    pub entries: usize,
    /// How long an entry that is not asked for stays, in seconds.
    pub inactive_s: u64,
    /// The most bytes of files.
    pub max_bytes: u64,
}

/// nginx counts 128 bytes for an entry.
const ENTRY_BYTES: u64 = 128;

impl ZoneLimits {
    /// Returns the number of entries in so much memory.
    pub fn entries_in(bytes: u64) -> usize {
        usize::try_from(bytes / ENTRY_BYTES).unwrap_or(usize::MAX).max(1)
    }
}

/// A zone.
#[derive(Debug)]
pub struct Zone(Mutex<Table>);

/// A response that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct ZoneQuery {
    /// Its name.
    pub name: KeyHash,
    /// The family that it belongs to.
    pub main: KeyHash,
    /// The moves of switches that it depends on ([`crate::Provenance::moves`]): a failure from before another one stands in for nothing.
    pub moves: u64,
    /// How often it must be asked for to be stored.
    pub min_uses: u64,
}

/// The zone's answer about a response.
#[derive(Debug)]
pub enum ZoneLookup {
    /// Fetching it has failed with this status, which stands in for it for a while.
    Failed(u16),
    /// It may be on the disk, and may be stored.
    Known(ZoneUse),
    /// It was not asked for often enough to be stored; it may be on the disk all the same if the zone does not know it.
    Scarce,
    /// The zone is full of entries that are in use.
    Full,
}

/// The responses that a purge has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many responses there were.
    pub responses: u64,
    /// The names of the files to remove, some of which may not be there.
    pub files: Vec<KeyHash>,
}

/// A file to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal(pub KeyHash);

impl Zone {
    /// Returns an empty zone.
    pub fn new(limits: ZoneLimits) -> Zone {
        Zone(Mutex::new(Table::new(limits)))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // What is done under the lock leaves the table whole wherever it ends.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets other limits.
    pub fn set_limits(&self, limits: ZoneLimits) {
        self.lock().limits = limits;
    }

    /// Asks for a response; the entry is in use as long as what is returned.
    pub fn open(self: &Arc<Self>, asked: ZoneQuery, now_s: u64) -> ZoneLookup {
        let ZoneQuery { name, main, moves, min_uses } = asked;
        let mut table = self.lock();
        let Some(slot) = table.find_or_add(name, main) else { return ZoneLookup::Full };
        table.touch(slot, now_s);
        let entry = table.entry_mut(slot);
        entry.uses = entry.uses.saturating_add(1);
        if entry.error != 0 {
            if entry.error_until_s >= now_s && entry.error_moves == moves {
                return ZoneLookup::Failed(entry.error);
            }
            (entry.error, entry.exists, entry.uses) = (0, false, 1);
        }
        if !entry.exists && u64::from(entry.uses) < min_uses && entry.is_settled {
            return ZoneLookup::Scarce;
        }
        let is_scarce = !entry.exists && u64::from(entry.uses) < min_uses;
        entry.in_use += 1;
        ZoneLookup::Known(ZoneUse {
            zone: Arc::clone(self),
            name,
            slot,
            is_locked: false,
            lock_number: 0,
            is_scarce,
        })
    }

    /// Returns the number of purges so far: a response that was asked for before one of its key is not to be stored after it
    /// ([`ZoneUse::stored`]).
    pub fn purges(&self) -> u64 {
        self.lock().purges.count()
    }

    /// Forgets all responses of a key, whatever their variants and the ways by which they came, and what stands in for them.
    /// Returns the names of the files to remove; one that is being fetched now will not be stored.
    pub fn purge(&self, main: KeyHash) -> Purged {
        let mut table = self.lock();
        table.purges.note(main);
        let names = table.family(main);
        let mut purged = Purged::default();
        for name in names {
            purged.responses += u64::from(table.exists(name));
            table.forget(name);
            purged.files.push(name);
        }
        // A response that no entry is of may be on the disk: another process has put it there, or its file is still to go.
        if !purged.files.contains(&main) {
            purged.files.push(main);
        }
        purged.files.extend(table.take_displaced());
        purged
    }

    /// Does the same for all keys.
    pub fn purge_all(&self) -> Purged {
        let mut table = self.lock();
        table.purges.note_all();
        let mut purged = Purged::default();
        for name in table.names() {
            purged.responses += u64::from(table.exists(name));
            table.forget(name);
            purged.files.push(name);
        }
        purged.files.extend(table.take_displaced());
        purged
    }

    /// Asks for the entry of a response that is to be stored, whatever stands in for it: it was fetched without asking.
    pub fn open_to_store(self: &Arc<Self>, name: KeyHash, main: KeyHash, now_s: u64) -> Option<ZoneUse> {
        let mut table = self.lock();
        let slot = table.find_or_add(name, main)?;
        table.touch(slot, now_s);
        let entry = table.entry_mut(slot);
        entry.uses = entry.uses.saturating_add(1);
        entry.in_use += 1;
        let zone = Arc::clone(self);
        Some(ZoneUse { zone, name, slot, is_locked: false, lock_number: 0, is_scarce: false })
    }

    /// Returns whether responses of a family are known.
    pub fn has_family(&self, main: KeyHash) -> bool {
        self.lock().has_family(main)
    }

    /// Takes note of a file that was found on the disk, by one who looks since so many [`Zone::purges`]. Returns what must go
    /// for it.
    pub fn loaded(
        &self,
        name: KeyHash,
        main: KeyHash,
        bytes: u64,
        (now_s, purges): (u64, u64),
    ) -> Option<Removal> {
        let mut table = self.lock();
        if table.purges.has_been(main, purges) && !table.exists(name) {
            return Some(Removal(name));
        }
        let Some(slot) = table.find_or_add(name, main) else { return Some(Removal(name)) };
        if !table.entry(slot).exists {
            table.touch(slot, now_s);
            table.entry_mut(slot).uses += 1;
            table.set_stored(slot, bytes);
        }
        None
    }

    /// Takes out an entry that was not asked for for too long, or that is too much.
    pub fn take_removal(&self, now_s: u64) -> Option<Removal> {
        self.lock().take_removal(now_s)
    }

    /// Takes out what has made room, if there is more of that than the next look takes.
    pub fn take_excess(&self) -> Option<Removal> {
        self.lock().take_excess()
    }

    /// Takes out the entry that was not asked for for the longest time, because the disk is nearly full.
    pub fn take_oldest(&self) -> Option<Removal> {
        self.lock().take_oldest()
    }

    /// Forgets an entry, of which the file is gone or to go. Returns true if it was known.
    pub fn forget(&self, name: KeyHash) -> bool {
        self.lock().forget(name)
    }

    /// Returns the names of a family's entries.
    pub fn family(&self, main: KeyHash) -> Vec<KeyHash> {
        self.lock().family(main)
    }

    /// Returns how many bytes the files have, and how many entries there are.
    pub fn totals(&self) -> (u64, usize) {
        let table = self.lock();
        (table.bytes, table.len())
    }
}

/// An entry in use. Dropping it ends that, and lets others fetch what this one was to fetch.
#[derive(Debug)]
pub struct ZoneUse {
    zone: Arc<Zone>,
    name: KeyHash,
    slot: u32,
    is_locked: bool,
    /// Which lock: after its time another one may have been given.
    lock_number: u32,
    is_scarce: bool,
}

impl ZoneUse {
    /// Returns the name.
    pub fn name(&self) -> KeyHash {
        self.name
    }

    /// Returns true if it was not asked for often enough to be stored.
    pub fn is_scarce(&self) -> bool {
        self.is_scarce
    }

    /// Returns true if it is locked by this use.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Takes note that there is no file, or none that counts.
    pub fn note_absent(&self) {
        let mut table = self.zone.lock();
        table.set_absent(self.slot);
        table.entry_mut(self.slot).is_settled = true;
    }

    /// Takes note of a file that is there, of so many bytes.
    pub fn note_present(&self, bytes: u64) {
        let mut table = self.zone.lock();
        table.set_stored(self.slot, bytes);
    }

    /// Locks the entry, so that others wait or serve what is there meanwhile: for `age_ms`, after which another one may lock
    /// it. Returns false if it is locked.
    pub fn try_lock(&mut self, now_ms: u64, age_ms: u64) -> bool {
        if self.is_locked {
            return true;
        }
        let mut table = self.zone.lock();
        let entry = table.entry_mut(self.slot);
        if entry.lock_number != 0 && entry.locked_until_ms > now_ms {
            return false;
        }
        entry.locked_until_ms = now_ms.saturating_add(age_ms);
        let number = table.next_lock();
        table.entry_mut(self.slot).lock_number = number;
        drop(table);
        self.lock_number = number;
        self.is_locked = true;
        true
    }

    /// Waits until the lock is free, without taking it.
    pub fn poll_free(&self, now_ms: u64, waker: &Waker) -> bool {
        let mut table = self.zone.lock();
        let entry = table.entry(self.slot);
        let is_free = entry.lock_number == 0 || entry.locked_until_ms <= now_ms;
        if !is_free {
            table.wait(self.slot, waker);
        }
        is_free
    }

    /// Does the same as [`ZoneUse::try_lock`] for a stale response, without a limit of time. Returns false if another request
    /// fetches it.
    pub fn try_update(&mut self) -> bool {
        self.try_lock(0, u64::MAX)
    }

    /// Takes note that the response is stored, with so many bytes of file, and unlocks. Returns false if its key was purged
    /// after so many [`Zone::purges`]: the file is to be removed.
    pub fn stored(&mut self, bytes: u64, purges: u64) -> bool {
        let mut table = self.zone.lock();
        let main = table.entry(self.slot).main();
        let is_purged = table.purges.has_been(main, purges);
        match is_purged {
            true => table.set_absent(self.slot),
            false => table.set_stored(self.slot, bytes),
        }
        drop(table);
        self.unlock();
        !is_purged
    }

    /// Keeps a failure in place of the response until then, or until the next move of a switch that it depends on.
    pub fn note_failure(&mut self, status: u16, until_s: u64, moves: u64) {
        let mut table = self.zone.lock();
        let entry = table.entry_mut(self.slot);
        (entry.error, entry.error_until_s, entry.error_moves) = (status, until_s, moves);
        drop(table);
        self.unlock();
    }

    /// Unlocks, and wakes those that wait.
    pub fn unlock(&mut self) {
        if std::mem::take(&mut self.is_locked) {
            let wakers = self.zone.lock().unlock(self.slot, self.lock_number);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for ZoneUse {
    fn drop(&mut self) {
        self.unlock();
        debug_assert_ne!(self.slot, NO_SLOT);
        self.zone.lock().release(self.slot);
    }
}

#[cfg(test)]
mod tests;
