//! The disk on which the store of the simulated switch lies: what was committed is there for every process that comes.
//!
//! It fails as disks do: before a write, when it is full, after a write whose success is never heard of, and while it is
//! out of order altogether.

use super::clocks;
use crate::store::{KeptHold, KeptHolds, MemoryBackend, StoreBackend, UnchangedOrder};
use sim::{Seeded, tell};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use switch::{Commit, Filter, KeyKind, Loaded, Store, StoreFault, StoreFaultKind, Table};

/// The contents of the disk.
pub(super) struct Disk {
    pub(super) store: MemoryBackend,
    seeded: Seeded,
    /// Each kept commit's table, revision 0 first.
    pub(super) tables: Vec<Table>,
    pub(super) commits: Vec<Commit>,
    /// When each was made, in ms since the world began.
    pub(super) made_ms: Vec<u64>,
    /// The holds that are kept.
    pub(super) holds: Vec<KeptHold>,
    /// Which process wrote each.
    pub(super) writers: Vec<u64>,
    /// When each process began, in ms since the world did.
    pub(super) began_ms: HashMap<u64, u64>,
    /// So many of a hundred calls fail.
    pub(super) faulty: u64,
    /// Nothing works at all.
    pub(super) out_of_order: bool,
}

pub(super) type SharedDisk = Arc<Mutex<Disk>>;

impl Disk {
    pub(super) fn new(seeded: Seeded, faulty: u64) -> SharedDisk {
        Arc::new(Mutex::new(Disk {
            store: MemoryBackend::new(KeyKind::Host),
            seeded,
            tables: vec![Table::default()],
            commits: Vec::new(),
            made_ms: Vec::new(),
            holds: Vec::new(),
            writers: Vec::new(),
            began_ms: HashMap::new(),
            faulty,
            out_of_order: false,
        }))
    }

    /// Returns when a commit's window has ended at the latest, as seen from a time after it; in ms since the world began.
    /// After a reboot the clock on the wall counts, and no more than the window from then.
    pub(super) fn last_end_ms(&self, revision: u64, at_ms: u64) -> u64 {
        let place = revision as usize - 1;
        let commit = &self.commits[place];
        let window_ms = commit.confirm_by_ms.unwrap_or_default().saturating_sub(commit.time_ms);
        self.made_ms[place].max(clocks::boot_of_ms(at_ms)) + window_ms
    }

    fn fault(&mut self) -> Option<StoreFault> {
        let kinds = [
            StoreFaultKind::Failed,
            StoreFaultKind::Full,
            StoreFaultKind::Unreadable,
            StoreFaultKind::Locked,
            StoreFaultKind::ReadOnly,
        ];
        (self.out_of_order || self.seeded.chance(self.faulty)).then(|| StoreFault {
            kind: *self.seeded.one_of(&kinds),
            text: "the disk is not well".to_owned(),
            remedy: "wait".to_owned(),
        })
    }
}

/// A process's hand on the disk.
pub(super) struct Hand {
    pub(super) disk: SharedDisk,
    pub(super) process: u64,
    /// How many commits there were when it last asked whether others write.
    pub(super) seen: usize,
}

impl Hand {
    fn at<T>(&self, work: impl FnOnce(&mut Disk) -> Result<T, StoreFault>) -> Result<T, StoreFault> {
        let mut disk = self.disk.lock().unwrap();
        match disk.fault() {
            Some(fault) => Err(fault),
            None => work(&mut disk),
        }
    }
}

impl Hand {
    /// Makes a change of the kept holds, of whose success the caller may not hear.
    fn changed(&self, change: impl FnOnce(&mut Disk) -> bool) -> Result<bool, StoreFault> {
        self.at(|disk| {
            let was_made = change(disk);
            disk.fault().map_or(Ok(was_made), Err)
        })
    }
}

impl Store for Hand {
    fn load(&mut self) -> Result<Loaded, StoreFault> {
        self.at(|disk| disk.store.load())
    }
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreFault> {
        let process = self.process;
        self.at(|disk| {
            disk.store.commit(commit)?;
            let table = disk.tables[disk.tables.len() - 1].apply(commit);
            tell!(
                "process {process} keeps revision {}: {:?} {:?}",
                commit.revision,
                commit.kind,
                commit.reason
            );
            disk.tables.push(table);
            disk.commits.push(commit.clone());
            disk.made_ms.push(clocks::made_at_ms(commit, clocks::elapsed_ms()));
            disk.writers.push(process);
            // It is kept, and its caller does not hear of it.
            match disk.fault() {
                Some(fault) => Err(StoreFault { kind: StoreFaultKind::Failed, ..fault }),
                None => Ok(()),
            }
        })
    }
    fn since(&mut self, revision: u64) -> Result<Vec<Commit>, StoreFault> {
        self.at(|disk| disk.store.since(revision))
    }
    fn history(&mut self, filter: &Filter) -> Result<Vec<Commit>, StoreFault> {
        self.at(|disk| disk.store.history(filter))
    }
    fn commit_by_idempotency(&mut self, idempotency: &str) -> Result<Option<Commit>, StoreFault> {
        self.at(|disk| disk.store.commit_by_idempotency(idempotency))
    }
}

impl StoreBackend for Hand {
    fn key_kind(&self) -> KeyKind {
        KeyKind::Host
    }
    fn takes_form_2(&mut self) -> bool {
        true
    }
    fn rekey(&mut self, _: KeyKind) -> Result<bool, StoreFault> {
        Ok(false)
    }
    fn page(&mut self, after: u64, limit: usize) -> Result<Vec<Commit>, StoreFault> {
        self.at(|disk| disk.store.page(after, limit))
    }
    fn save_receipt(&mut self, revision: u64, receipt: String) {
        self.disk.lock().unwrap().store.save_receipt(revision, receipt);
    }
    fn receipt(&mut self, revision: u64) -> Result<Option<String>, StoreFault> {
        self.at(|disk| disk.store.receipt(revision))
    }
    fn unchanged(&mut self, idempotency: &str) -> Result<Option<UnchangedOrder>, StoreFault> {
        self.at(|disk| disk.store.unchanged(idempotency))
    }
    fn save_unchanged(&mut self, idempotency: &str, order: &UnchangedOrder) -> Result<(), StoreFault> {
        self.at(|disk| disk.store.save_unchanged(idempotency, order))
    }
    fn place_hold(&mut self, hold: &KeptHold, over: &[String]) -> Result<bool, StoreFault> {
        self.changed(|disk| {
            let is_free = |there: &KeptHold| there.key != hold.key || over.contains(&there.id);
            let may = disk.holds.iter().all(is_free);
            if may {
                disk.holds.retain(|there| there.key != hold.key);
                disk.holds.push(hold.clone());
            }
            may
        })
    }
    fn note_refusing(&mut self, hold: &KeptHold) -> Result<bool, StoreFault> {
        self.changed(|disk| {
            let own = disk.holds.iter_mut().find(|there| there.id == hold.id && !there.refusing);
            own.map(|there| there.refusing = true).is_some()
        })
    }
    fn remove_hold(&mut self, hold: &KeptHold) -> Result<bool, StoreFault> {
        self.changed(|disk| {
            let before = disk.holds.len();
            disk.holds.retain(|there| there.id != hold.id);
            disk.holds.len() < before
        })
    }
    fn kept_holds(&mut self) -> Result<KeptHolds, StoreFault> {
        self.at(|disk| Ok(KeptHolds { holds: disk.holds.clone(), ..KeptHolds::default() }))
    }
    fn written_by_others(&mut self) -> Result<bool, StoreFault> {
        let (seen, process) = (self.seen, self.process);
        let (now, others) = self.at(|disk| {
            let others = disk.writers[seen..].iter().any(|writer| *writer != process);
            Ok((disk.writers.len(), others))
        })?;
        self.seen = now;
        Ok(others)
    }
    fn idle(&mut self) {}
}
