//! A switch's store in a file: SQLite with a write-ahead log.
//!
//! Owns: one connection to one file, and that a commit is one transaction, synced when it returns. Must never: keep a
//! table in memory, or go on with a file that is not the one it opened.
//!
//! SQLite survives a crash, but has no checksums: what it reads back is held against the digest of the table and the
//! hashes of the history. [`SqliteStore::load`] checks the whole table and the newest commits; `ControlHandle::verify` goes
//! through the whole history, and through the index that finds a key's changes in it. Opening a small file checks that too.

use super::commit_rows;
use super::rows::{self, Head};
use super::schema::Format;
use super::wal_index::WalIndex;
use super::{StoreBackend, UnchangedOrder, fault, migration, opening, receipts, unchanged};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use switch::{
    Chain, Change, Commit, CommitKind, Filter, GroupFilter, Hash, Key, KeyKind, Loaded, Pending, Route,
    Store, StoreFault, StoreFaultKind, Subjects, Table,
};

/// The number of newest commits that are verified when a file is opened.
const CHECKED: u64 = 256;

/// All of a store but its entries.
pub(super) struct Contents {
    pub(super) head: Head,
    pub(super) pending: Vec<Pending>,
    pub(super) subjects: Subjects,
}

/// A switch's store in a file.
pub(super) struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    identity: (u64, u64),
    format: Format,
    kind: KeyKind,
    waiting: receipts::Waiting,
    /// `PRAGMA data_version` when it was last asked: it changes when another connection has written.
    seen_version: i64,
    /// True if the log holds something that could be moved into the file.
    unsettled: bool,
    index: WalIndex,
}

impl SqliteStore {
    /// Opens the file and checks it; creates it if it does not exist. An existing file decides the kind of keys, else `kind`.
    ///
    /// # Errors
    /// The file cannot be used; the fault names the remedy.
    pub(super) fn open(path: &Path, kind: KeyKind) -> Result<SqliteStore, StoreFault> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let opening::Opened { connection, identity, format } = opening::open(path, kind, now_ms)?;
        let kind = Head::read(&connection, format)?.kind;
        let mut store = SqliteStore {
            connection,
            path: path.to_owned(),
            identity,
            format,
            kind,
            waiting: receipts::Waiting::default(),
            seen_version: 0,
            unsettled: true,
            index: WalIndex::of(path),
        };
        store.written_by_others()?;
        Ok(store)
    }

    /// Prepares for a use. To be called before each.
    pub(super) fn before_use(&mut self) {
        self.index.extend();
    }

    fn wrong(&self, error: &rusqlite::Error) -> StoreFault {
        fault::of(&self.connection, error)
    }

    fn read(&self, rest: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<Commit>, StoreFault> {
        self.read_some(commit_rows::Extent::WHOLE, rest, values)
    }

    fn read_some(
        &self,
        extent: commit_rows::Extent,
        rest: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<Commit>, StoreFault> {
        commit_rows::read_commits(&self.connection, self.format, self.kind, extent, rest, values)
    }

    /// Returns the commits that changed a group, or a server of it.
    fn history_of(
        &self,
        group: &GroupFilter,
        extent: commit_rows::Extent,
        [before, after, limit]: [i64; 3],
    ) -> Result<Vec<Commit>, StoreFault> {
        if self.format == Format::One {
            return Ok(Vec::new());
        }
        let (own, servers) = group.names();
        // A blank follows the group's name in that of a server; the next byte ends the range.
        let range = own.map(|own| (format!("{own} "), format!("{own}!")));
        let (from, to) = range.unwrap_or_default();
        let [first, second] = [0, 1].map(|at| servers.and_then(|servers| servers.get(at)));
        let of_group = "SELECT revision FROM changes WHERE key = ?1 AND subject = 'group'";
        let of_all = "SELECT revision FROM changes WHERE key >= ?2 AND key < ?3 AND subject = 'server'";
        let of_one = "SELECT revision FROM changes WHERE key IN (?4, ?5) AND subject = 'server'";
        let rest = format!(
            "WHERE revision IN ({of_group} UNION {of_all} UNION {of_one}) AND revision < ?6 AND revision > ?7
             ORDER BY revision DESC LIMIT ?8"
        );
        self.read_some(extent, &rest, &[&own, &from, &to, &first, &second, &before, &after, &limit])
    }

    /// Returns the newest commits, newest first. Fails unless they end where `head` says and each is what was committed.
    fn check_history(&self, head: &Head) -> Result<Vec<Commit>, StoreFault> {
        let newest = self.read("ORDER BY revision DESC LIMIT ?1", &[&rows::number(CHECKED)])?;
        let end = newest.first().map_or((0, Hash::ZERO), |last| (last.revision, last.hash));
        if end != (head.revision, head.hash) {
            return Err(fault::damaged(&self.connection, "the history does not end at the recorded head"));
        }
        for (at, commit) in newest.iter().enumerate() {
            let mut chain = match newest.get(at + 1) {
                Some(before) => Chain { revision: before.revision, hash: before.hash },
                // There are more commits, which are not read.
                None if at as u64 + 1 == CHECKED => {
                    Chain { revision: commit.revision.saturating_sub(1), hash: commit.previous }
                }
                None => Chain::start(),
            };
            chain.follow(commit).map_err(|found| fault::damaged(&self.connection, &found.to_string()))?;
        }
        Ok(newest)
    }

    /// Reads the whole store in one snapshot of it, and checks it.
    pub(super) fn read_all(&self, each: impl FnMut(Key, Route, u64)) -> Result<Contents, StoreFault> {
        // One snapshot, also if another process writes meanwhile.
        let transaction = self.connection.unchecked_transaction().map_err(|error| self.wrong(&error))?;
        let head = Head::read(&transaction, self.format)?;
        let newest = self.check_history(&head)?;
        let subjects = rows::read_entries(&transaction, self.format, &head, each)?;
        let pending = commit_rows::read_pending(&transaction, self.format, self.kind)?;
        if !is_awaited(&newest, &pending) {
            let what = "the pending confirmations do not match the commits";
            return Err(fault::damaged(&transaction, what));
        }
        Ok(Contents { head, pending, subjects })
    }

    /// Returns the format of the file.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Returns true if its path still names the file that was opened.
    pub(super) fn is_there(&self) -> bool {
        opening::still_there(&self.path, self.identity)
    }

    /// Returns the head, as the file has it.
    pub(super) fn head(&self) -> Result<Head, StoreFault> {
        Head::read(&self.connection, self.format)
    }

    /// Returns true if the history has this revision with this hash.
    pub(super) fn holds(&self, chain: Chain) -> Result<bool, StoreFault> {
        if chain == Chain::start() {
            return Ok(true);
        }
        let found = self
            .connection
            .prepare_cached("SELECT hash FROM commits WHERE revision = ?1")
            .and_then(|mut statement| {
                let revision = rows::number(chain.revision);
                statement.query_row([revision], |row| row.get::<_, Vec<u8>>(0)).optional()
            })
            .map_err(|error| self.wrong(&error))?;
        Ok(found.is_some_and(|hash| hash == chain.hash.0))
    }

    /// Records that there is a second file, so that a missing one is noticed.
    pub(super) fn set_anchored(&self) -> Result<(), StoreFault> {
        let sql = "UPDATE head SET anchored = 1 WHERE one = 1";
        self.connection.execute(sql, []).map(drop).map_err(|error| self.wrong(&error))
    }

    /// Begins an epoch. There is a second file that knows it.
    pub(super) fn set_epoch(&self, epoch: u64) -> Result<(), StoreFault> {
        let sql = "UPDATE head SET epoch = ?1, anchored = 1 WHERE one = 1";
        self.connection.execute(sql, [rows::number(epoch)]).map(drop).map_err(|error| self.wrong(&error))
    }

    /// Writes a copy of the whole store into a new file, whole also while others write.
    pub(super) fn copy_into(&self, file: &Path) -> Result<(), StoreFault> {
        migration::copy(&self.connection, file).map_err(|error| fault::system(file, "written", &error))
    }

    /// Returns the fault of a store that contradicts itself.
    pub(super) fn damaged(&self, what: &str) -> StoreFault {
        fault::damaged(&self.connection, what)
    }

    /// Lets what is read next come from the file, not from memory, so that damage there is seen.
    pub(super) fn forget_pages(&self) -> Result<(), StoreFault> {
        self.connection.execute_batch("PRAGMA shrink_memory").map_err(|error| self.wrong(&error))
    }

    /// Checks that a commit that was stored is read back as it is.
    pub(super) fn check_commit(&self, commit: &Commit) -> Result<(), StoreFault> {
        self.forget_pages()?;
        let found = self.read("WHERE revision = ?1", &[&rows::number(commit.revision)])?;
        if found != [commit.clone()] {
            let what = format!("revision {} is not read back as it was written", commit.revision);
            return Err(fault::damaged(&self.connection, &what));
        }
        Ok(())
    }

    /// Checks the whole file, if it is small enough for that.
    pub(super) fn check_small(&mut self) -> Result<(), StoreFault> {
        if !opening::is_small(&self.path) {
            return Ok(());
        }
        self.forget_pages()?;
        opening::check_pages(&self.connection, &self.path)?;
        self.read_all(|_, _, _| {}).map(drop)
    }

    fn write(&self, transaction: &Transaction<'_>, commit: &Commit, head: &mut Head) -> rusqlite::Result<()> {
        rows::insert_commit(transaction, self.format, commit)?;
        rows::change_entries(transaction, commit, head)?;
        rows::change_subjects(transaction, commit, head)?;
        (head.revision, head.hash) = (commit.revision, commit.hash);
        head.write(transaction)?;
        self.waiting.write(transaction)
    }
}

/// Returns true if the pending confirmations are those that these commits (newest first) left. With a missing row an
/// unconfirmed commit would stay. Older ones may be pending, unless one of the commits settled them.
fn is_awaited(newest: &[Commit], pending: &[Pending]) -> bool {
    let mut expected = Vec::new();
    newest.iter().rev().for_each(|commit| Pending::follow(&mut expected, commit));
    let oldest = newest.last().map_or(0, |commit| commit.revision);
    let (older, recent) = pending.split_at(pending.partition_point(|waiting| waiting.revision < oldest));
    let settled =
        |waiting: &Pending| newest.iter().any(|commit| commit.kind.settles() == Some(waiting.revision));
    recent == expected && !older.iter().any(settled)
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Loaded, StoreFault> {
        let mut entries = Vec::new();
        let Contents { head, pending, subjects } = self.read_all(|key, route, revision| {
            entries.push((key, route, revision));
        })?;
        let table = Table::from_entries(head.revision, entries).with_subjects(subjects);
        Ok(Loaded { table, last_hash: head.hash, pending })
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreFault> {
        if !opening::still_there(&self.path, self.identity) {
            return Err(fault::gone(&self.path.display().to_string()));
        }
        self.unsettled = true;
        self.forget_pages()?;
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(|error| self.wrong(&error))?;
        let mut head = Head::read(&transaction, self.format)?;
        if commit.form() == 2 && self.format == Format::One {
            return Err(fault::older(&self.connection, commit.kind.name()));
        }
        let next = head.revision + 1;
        if commit.revision != next && (commit.kind != CommitKind::Restore || commit.revision < next) {
            return Err(StoreFault::conflict(next, commit.revision));
        }
        if let Err(found) = commit.verify(head.hash) {
            return Err(StoreFault {
                kind: StoreFaultKind::Conflict,
                text: found.to_string(),
                remedy: "read the switch again and repeat the order".to_owned(),
            });
        }
        // Dropping the transaction takes everything back.
        self.write(&transaction, commit, &mut head).map_err(|error| self.wrong(&error))?;
        transaction.commit().map_err(|error| self.wrong(&error))?;
        self.waiting.clear();
        Ok(())
    }

    fn since(&mut self, revision: u64) -> Result<Vec<Commit>, StoreFault> {
        self.read("WHERE revision > ?1 ORDER BY revision", &[&rows::number(revision)])
    }

    fn history(&mut self, filter: &Filter) -> Result<Vec<Commit>, StoreFault> {
        let before = rows::number(filter.before_revision.unwrap_or(u64::MAX));
        let (after, limit) = (rows::number(filter.after_revision), rows::number(filter.limit as u64));
        let extent = commit_rows::Extent { max_changes: filter.max_changes, with_keys: filter.with_keys };
        match (&filter.key, &filter.group) {
            (None, Some(group)) => self.history_of(group, extent, [before, after, limit]),
            (None, None) => {
                let rest = "WHERE revision < ?1 AND revision > ?2 ORDER BY revision DESC LIMIT ?3";
                self.read_some(extent, rest, &[&before, &after, &limit])
            }
            (Some(key), _) => self.read_some(
                extent,
                &format!(
                    "WHERE revision IN (SELECT revision FROM changes WHERE key = ?1 {} AND revision < ?2
                     AND revision > ?3 ORDER BY revision DESC LIMIT ?4) ORDER BY revision DESC",
                    self.format.of_keys()
                ),
                &[&key.as_str(), &before, &after, &limit],
            ),
        }
    }

    fn changes_of(
        &mut self,
        key: &Key,
        before_revision: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Change)>, StoreFault> {
        let before = rows::number(before_revision.unwrap_or(u64::MAX));
        let rest = format!(
            "WHERE key = ?1 {} AND revision < ?2 ORDER BY revision DESC LIMIT ?3",
            self.format.of_keys()
        );
        let values: [&dyn rusqlite::ToSql; 3] = [&key.as_str(), &before, &rows::number(limit as u64)];
        let found = commit_rows::read_changes(&self.connection, self.format, &rest, &values)?;
        let mut routes = rows::Routes::new();
        let unreadable = || fault::damaged(&self.connection, "a commit is unreadable");
        let change = |row: commit_rows::ChangeRow| Some((row.revision, row.of_key(self.kind, &mut routes)?));
        found.into_iter().map(change).collect::<Option<Vec<_>>>().ok_or_else(unreadable)
    }

    fn commit_by_idempotency(&mut self, idempotency: &str) -> Result<Option<Commit>, StoreFault> {
        let rest = "WHERE revision = (SELECT revision FROM idempotency WHERE name = ?1)";
        match self.read(rest, &[&idempotency])?.pop() {
            Some(commit) if commit.idempotency.as_deref() != Some(idempotency) => {
                Err(fault::damaged(&self.connection, "an idempotency key points to another commit"))
            }
            found => Ok(found),
        }
    }
}

impl StoreBackend for SqliteStore {
    fn key_kind(&self) -> KeyKind {
        self.kind
    }

    fn takes_form_2(&mut self) -> bool {
        self.format != Format::One
    }

    fn rekey(&mut self, kind: KeyKind) -> Result<bool, StoreFault> {
        let sql = "UPDATE head SET key_kind = ?1 WHERE one = 1 AND revision = 0";
        let changed =
            self.connection.execute(sql, [rows::kind_name(kind)]).map_err(|error| self.wrong(&error))?;
        if changed > 0 {
            self.kind = kind;
        }
        Ok(changed > 0)
    }

    fn page(&mut self, after: u64, limit: usize) -> Result<Vec<Commit>, StoreFault> {
        let rest = "WHERE revision > ?1 ORDER BY revision LIMIT ?2";
        let page = self.read(rest, &[&rows::number(after), &rows::number(limit as u64)])?;
        for commit in &page {
            for change in &commit.changes {
                let found = commit_rows::finds_change(&self.connection, commit.revision, &change.key);
                if !found.map_err(|error| self.wrong(&error))? {
                    let what = format!("the index of key {} omits revision {}", change.key, commit.revision);
                    return Err(fault::damaged(&self.connection, &what));
                }
            }
        }
        Ok(page)
    }

    fn save_receipt(&mut self, revision: u64, receipt: String) {
        self.waiting.put(revision, receipt);
    }

    fn receipt(&mut self, revision: u64) -> Result<Option<String>, StoreFault> {
        if let Some(receipt) = self.waiting.get(revision) {
            return Ok(Some(receipt.clone()));
        }
        receipts::read(&self.connection, revision).map_err(|error| self.wrong(&error))
    }

    fn unchanged(&mut self, idempotency: &str) -> Result<Option<UnchangedOrder>, StoreFault> {
        if self.format == Format::One {
            return Ok(None);
        }
        unchanged::read(&self.connection, idempotency).map_err(|error| self.wrong(&error))
    }

    fn save_unchanged(&mut self, idempotency: &str, order: &UnchangedOrder) -> Result<(), StoreFault> {
        if self.format == Format::One {
            return Err(fault::older(&self.connection, "unchanged"));
        }
        if !opening::still_there(&self.path, self.identity) {
            return Err(fault::gone(&self.path.display().to_string()));
        }
        self.unsettled = true;
        unchanged::write(&self.connection, idempotency, order).map_err(|error| self.wrong(&error))
    }

    fn written_by_others(&mut self) -> Result<bool, StoreFault> {
        let version = self
            .connection
            .pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0))
            .optional()
            .map_err(|error| self.wrong(&error))?
            .unwrap_or(0);
        Ok(std::mem::replace(&mut self.seen_version, version) != version)
    }

    fn idle(&mut self) {
        self.before_use();
        if self.format == Format::One
            && let Ok(format) = migration::try_migrate(&self.connection, &self.path)
        {
            self.format = format;
        }
        if !self.waiting.is_empty() && opening::still_there(&self.path, self.identity) {
            let write = || -> rusqlite::Result<()> {
                let transaction = self.connection.unchecked_transaction()?;
                self.waiting.write(&transaction)?;
                transaction.commit()
            };
            if write().is_ok() {
                self.waiting.clear();
                self.unsettled = true;
            }
        }
        // Damage of the last commit in the log looks like a commit that was never finished. So nothing stays there
        // longer than it must.
        if self.unsettled {
            let settled =
                self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
            self.unsettled = !matches!(settled, Ok(0));
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.idle();
    }
}
