//! The second file of a store: what vouches for the store, and takes its place if it is damaged.
//!
//! Owns: a snapshot of the table and the commits since, each with a checksum, in space that is there before it is needed,
//! so that a commit costs one write and one `fdatasync`. Must never: go to a lower revision, or change a sound record.
//!
//! The file is replaced as a whole when its commits have outgrown its snapshot: written under another name, synced, renamed.

mod content;
mod disk;
mod record;

pub(super) use content::Content;
#[cfg(test)]
pub(super) use disk::{fail_after, heal};

use super::files::{beside, sync_folder};
use super::rows::{Head, kind_name};
use crate::plain_file;
use record::{CommitRecord, PendingRecord, Record, SPACE, SnapshotRecord, VERSION};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use switch::{Chain, Commit, Pending, Subjects};

/// The number of entries in a record of a snapshot.
const AT_ONCE: usize = 256;

/// Returns the path of a store's second file.
pub(super) fn path_of(store: &Path) -> PathBuf {
    beside(store, "-anchor")
}

/// Reads the second file of a store. `None` if there is none.
pub(super) fn read(store: &Path, wants_table: bool) -> io::Result<Option<Content>> {
    match plain_file::open(&path_of(store)) {
        Ok(file) => Content::read(BufReader::with_capacity(1 << 16, file), wants_table).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A second file that is open to be written.
#[derive(Debug)]
pub(super) struct Anchor {
    store: PathBuf,
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// The last commit in it.
    chain: Chain,
    /// Where the snapshot ends.
    start: u64,
    /// Where the next record belongs.
    end: u64,
    /// How far the space reaches.
    size: u64,
    /// A write has failed: what the disk has is unknown, so that the file is not appended to any more.
    has_failed: bool,
}

impl Anchor {
    /// Opens a file to be appended to, whose content is whole and has no rest.
    pub(super) fn open(store: &Path, content: &Content) -> io::Result<Anchor> {
        let file = plain_file::open_with(&path_of(store), OpenOptions::new().read(true).write(true))?;
        let found = file.metadata()?;
        Ok(Anchor {
            store: store.to_owned(),
            file,
            identity: (found.dev(), found.ino()),
            chain: content.last.unwrap_or(Chain::start()),
            start: content.start,
            end: content.end,
            size: found.len(),
            has_failed: false,
        })
    }

    /// Returns the last commit in it.
    pub(super) fn chain(&self) -> Chain {
        self.chain
    }

    /// Returns true if it can be appended to: it is the file at its path, nothing was appended by another process, and no
    /// write has failed.
    pub(super) fn is_current(&self) -> bool {
        let is_there = fs::symlink_metadata(path_of(&self.store))
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity && found.len() >= self.size);
        let mut next = [0];
        is_there && self.file.read_at(&mut next, self.end).is_ok() && next == [0] && !self.has_failed
    }

    /// Appends a commit: returns once it is durable.
    pub(super) fn append(&mut self, commit: &Commit) -> io::Result<()> {
        let line = record::line(&Record::Commit(Box::new(CommitRecord::of(commit))))?;
        let written = self.make_space(line.len() as u64).and_then(|()| {
            disk::write_at(&self.file, &line, self.end)?;
            disk::sync(&self.file, false)
        });
        self.has_failed |= written.is_err();
        written?;
        self.end += line.len() as u64;
        self.chain = Chain { revision: commit.revision, hash: commit.hash };
        Ok(())
    }

    fn make_space(&mut self, needed: u64) -> io::Result<()> {
        if self.end + needed <= self.size {
            return Ok(());
        }
        let size = self.end + needed + SPACE;
        let zeros = [0; 1 << 16];
        while self.size < size {
            let more = (size - self.size).min(zeros.len() as u64);
            disk::write_at(&self.file, &zeros[..more as usize], self.size)?;
            self.size += more;
        }
        disk::sync(&self.file, true)
    }

    /// Returns true if its commits have outgrown its snapshot, by this factor.
    pub(super) fn has_outgrown(&self, factor: u64) -> bool {
        self.end - self.start > factor * (SPACE + self.start)
    }
}

/// A second file that is being written, to take the place of the one that is there.
pub(super) struct Draft {
    store: PathBuf,
    path: PathBuf,
    out: BufWriter<File>,
    chain: Chain,
    entries: Vec<(String, String, u64)>,
    fault: Option<io::Error>,
}

impl Draft {
    /// Begins a file with the table of this head.
    pub(super) fn begin(store: &Path, head: &Head, pending: &[Pending]) -> io::Result<Draft> {
        let path = beside(store, &format!("-anchor.new.{}", std::process::id()));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let mut draft = Draft {
            store: store.to_owned(),
            path,
            out: BufWriter::with_capacity(1 << 16, file),
            chain: Chain { revision: head.revision, hash: head.hash },
            entries: Vec::new(),
            fault: None,
        };
        draft.put(&Record::Snapshot(SnapshotRecord {
            version: VERSION,
            key_kind: kind_name(head.kind).to_owned(),
            epoch: head.epoch,
            revision: head.revision,
            hash: head.hash.to_string(),
            keys: head.keys,
            digest: format!("{:032x}", head.digest),
            pending: pending.iter().map(PendingRecord::of).collect(),
        }));
        Ok(draft)
    }

    fn put(&mut self, record: &Record) {
        if self.fault.is_none() {
            let written = record::line(record).map_err(io::Error::from);
            self.fault = written.and_then(|line| self.out.write_all(&line)).err();
        }
    }

    /// Adds an entry. A fault is reported at the end.
    pub(super) fn entry(&mut self, key: &str, route: String, revision: u64) {
        self.entries.push((key.to_owned(), route, revision));
        if self.entries.len() == AT_ONCE {
            self.put_entries();
        }
    }

    fn put_entries(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        if !entries.is_empty() {
            self.put(&Record::Entries(entries));
        }
    }

    /// Ends the file, and puts it in its place.
    pub(super) fn finish(mut self, subjects: &Subjects) -> io::Result<Anchor> {
        self.put_entries();
        let texts = |(subject, name, value): (&str, &str, &switch::SubjectValue)| {
            (subject.to_owned(), name.to_owned(), value.value.clone(), value.revision)
        };
        if !subjects.is_empty() {
            self.put(&Record::Subjects(subjects.iter().map(texts).collect()));
        }
        self.put(&Record::End(self.chain.revision));
        match self.fault.take() {
            Some(fault) => return Err(fault),
            None => disk::ready().and_then(|()| self.out.flush())?,
        }
        let file = self.out.get_ref().try_clone()?;
        let start = file.metadata()?.len();
        let mut anchor = Anchor {
            store: self.store.clone(),
            identity: (0, 0),
            file,
            chain: self.chain,
            start,
            end: start,
            size: start,
            has_failed: false,
        };
        anchor.make_space(1)?;
        let found = anchor.file.metadata()?;
        anchor.identity = (found.dev(), found.ino());
        fs::rename(&self.path, path_of(&self.store))?;
        sync_folder(&self.store)?;
        Ok(anchor)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Once it is in its place, there is nothing of this name.
        let _ = fs::remove_file(&self.path);
    }
}
