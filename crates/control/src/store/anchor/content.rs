//! What a second file holds.
//!
//! Owns: telling what of it can be trusted, whatever was done to it. Must never: write.

use super::record::{self, Record, SPACE, SnapshotRecord, VERSION};
use crate::store::rows;
use std::io::{self, BufRead, Read};
use switch::{Chain, Commit, Hash, Key, KeyKind, Loaded, Pending, Route, SubjectValue, Subjects, Table};

/// The content of a second file.
#[derive(Debug, Default)]
pub(in crate::store) struct Content {
    /// The highest revision that a sound record vouches for.
    pub(in crate::store) last: Option<Chain>,
    /// The table at [`Content::last`]: snapshot and commits follow each other without a gap. Only if it was asked for.
    pub(in crate::store) loaded: Option<Loaded>,
    /// The commits after the snapshot.
    pub(in crate::store) commits: Vec<Commit>,
    /// The kind of keys.
    pub(in crate::store) kind: Option<KeyKind>,
    /// The epoch.
    pub(in crate::store) epoch: u64,
    /// Snapshot and commits follow each other without a gap up to [`Content::last`].
    pub(in crate::store) is_whole: bool,
    /// Something else than zeros follows the last sound record: one that was being written, or a damaged one. A record is
    /// written after its commit is durable in the store, so the store must then hold more than [`Content::last`].
    pub(in crate::store) has_rest: bool,
    /// The file is shorter than it was made.
    pub(in crate::store) is_short: bool,
    /// Where the next record belongs.
    pub(super) end: u64,
    /// Where the snapshot ends.
    pub(super) start: u64,
}

/// The maximum length of a record, in bytes: several times that of the largest order. What is longer is none, and takes no more
/// memory.
const MAX_RECORD: u64 = 64 << 20;

/// The state of reading.
struct Reader {
    content: Content,
    wants_table: bool,
    snapshot: Option<SnapshotRecord>,
    /// How far snapshot and commits follow each other without a gap; `None` until the snapshot is whole.
    chain: Option<Chain>,
    /// There was something that is no sound record.
    is_broken: bool,
    entries: Vec<(Key, Route, u64)>,
    subjects: Subjects,
    keys: u64,
    digest: u128,
}

impl Content {
    /// Reads a file to its end.
    ///
    /// # Errors
    /// It cannot be read. What is in it is never an error.
    pub(in crate::store) fn read(mut file: impl BufRead, wants_table: bool) -> io::Result<Content> {
        let mut reader = Reader {
            content: Content::default(),
            wants_table,
            snapshot: None,
            chain: None,
            is_broken: false,
            entries: Vec::new(),
            subjects: Subjects::default(),
            keys: 0,
            digest: 0,
        };
        let (mut line, mut at, mut is_gap) = (Vec::new(), 0, false);
        loop {
            let zeros = skip_zeros(&mut file)?;
            is_gap |= zeros > 0;
            at += zeros;
            line.clear();
            let length = file.by_ref().take(MAX_RECORD).read_until(b'\n', &mut line)? as u64;
            if length == 0 {
                break;
            }
            at += length;
            let is_line = line.pop_if(|byte| *byte == b'\n').is_some();
            let record = record::checked(&line).filter(|_| is_line);
            if is_gap || record.is_none() {
                reader.unsound();
            }
            if let Some(json) = record {
                reader.take(json, at);
            }
        }
        let mut content = reader.finish();
        content.is_short = at < content.start + SPACE;
        Ok(content)
    }
}

impl Reader {
    fn take(&mut self, json: &[u8], end: u64) {
        let is_table = json.starts_with(b"{\"entries\"") || json.starts_with(b"{\"subjects\"");
        if is_table && !self.wants_table {
            return;
        }
        let sound = match serde_json::from_slice::<Record>(json) {
            Ok(Record::Snapshot(snapshot)) => self.begin(snapshot),
            Ok(Record::Entries(entries)) => self.entries(entries),
            Ok(Record::Subjects(subjects)) => self.subjects(subjects),
            Ok(Record::End(revision)) => self.end(revision, end),
            Ok(Record::Commit(commit)) => {
                let commit = self.content.kind.and_then(|kind| commit.read(kind));
                commit.and_then(|commit| self.commit(commit, end))
            }
            Err(_) => None,
        };
        if sound.is_none() {
            self.unsound();
        }
    }

    fn unsound(&mut self) {
        self.is_broken = true;
        self.content.has_rest = true;
    }

    fn begin(&mut self, snapshot: SnapshotRecord) -> Option<()> {
        if self.snapshot.is_some() || snapshot.version != VERSION {
            return None;
        }
        self.content.kind = Some(rows::kind_of_name(&snapshot.key_kind)?);
        self.content.epoch = snapshot.epoch;
        let hash = snapshot.hash.parse::<Hash>().ok()?;
        self.content.last = Some(Chain { revision: snapshot.revision, hash });
        self.snapshot = Some(snapshot);
        Some(())
    }

    fn entries(&mut self, entries: Vec<(String, String, u64)>) -> Option<()> {
        let kind = self.content.kind?;
        for (key, route, revision) in entries {
            self.keys += 1;
            self.digest = self.digest.wrapping_add(rows::entry_digest(&key, &route, revision));
            let key = Key::parse(kind, key.as_bytes(), usize::MAX).ok()?;
            self.entries.push((key, Route::parse(&route).ok()?, revision));
        }
        Some(())
    }

    fn subjects(&mut self, subjects: Vec<(String, String, String, u64)>) -> Option<()> {
        for (subject, name, value, revision) in subjects {
            self.digest = self.digest.wrapping_add(rows::subject_digest(&subject, &name, &value, revision));
            self.subjects.put(&subject, &name, Some(SubjectValue { value, revision }));
        }
        Some(())
    }

    fn end(&mut self, revision: u64, end: u64) -> Option<()> {
        let snapshot = self.snapshot.as_ref().filter(|snapshot| snapshot.revision == revision)?;
        let adds_up =
            (self.keys, format!("{:032x}", self.digest)) == (snapshot.keys, snapshot.digest.clone());
        if self.is_broken || (self.wants_table && !adds_up) {
            return None;
        }
        self.chain = self.content.last;
        (self.content.end, self.content.start) = (end, end);
        Some(())
    }

    fn commit(&mut self, commit: Commit, end: u64) -> Option<()> {
        if self.content.last.is_some_and(|last| commit.revision <= last.revision) {
            return None;
        }
        let last = Chain { revision: commit.revision, hash: commit.hash };
        if let Some(chain) = self.chain.as_mut().filter(|_| !self.is_broken) {
            chain.follow(&commit).ok()?;
            self.content.commits.push(commit);
            self.content.end = end;
        } else {
            // After damage in the middle, a sound record still vouches for its revision.
            self.is_broken = true;
            self.content.has_rest = false;
        }
        self.content.last = Some(last);
        Some(())
    }

    fn finish(self) -> Content {
        let Reader { mut content, wants_table, snapshot, chain, entries, subjects, .. } = self;
        content.is_whole = chain.is_some() && chain == content.last;
        let Some(snapshot) = snapshot.filter(|_| content.is_whole && wants_table) else { return content };
        let Some(mut pending) =
            snapshot.pending.iter().map(|one| one.read()).collect::<Option<Vec<Pending>>>()
        else {
            content.is_whole = false;
            return content;
        };
        let mut table = Table::from_entries(snapshot.revision, entries).with_subjects(subjects);
        for commit in &content.commits {
            table = table.apply(commit);
            Pending::follow(&mut pending, commit);
        }
        let last_hash = content.last.map_or(Hash::ZERO, |last| last.hash);
        content.loaded = Some(Loaded { table, last_hash, pending });
        content
    }
}

/// Skips zeros, the space for records to come, and returns how many there were.
fn skip_zeros(file: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = file.fill_buf()?;
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let is_over = zeros < buffer.len() || buffer.is_empty();
        file.consume(zeros);
        skipped += zeros as u64;
        if is_over {
            return Ok(skipped);
        }
    }
}
