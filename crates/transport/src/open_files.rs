//! Files that stay open, and what is known of others (`open_file_cache`).
//!
//! Owns nginx's rules (ngx_open_cached_file): what is asked for often enough stays open, and is taken for what it was until it
//! is no longer valid. One for each thread and configuration.

use crate::files;
use engine::host::{FileError, KeptOpen, OpenRequest, Opened, Symlinks};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// All caches of a configuration, by their numbers.
#[derive(Debug, Default)]
pub struct OpenFiles(HashMap<usize, Cache>);

#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<Rc<[u8]>, Entry>,
    /// The paths by when they were last asked for.
    order: BTreeMap<u64, Rc<[u8]>>,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    found: Result<Opened, FileError>,
    /// How symlinks were treated when it was opened, and from where on.
    symlinks: (Symlinks, usize),
    uses: u64,
    created_ms: u64,
    asked_ms: u64,
    place: u64,
}

impl Entry {
    /// Returns whether it says enough for a request at this time.
    fn answers(&self, request: &OpenRequest<'_>, kept: KeptOpen, now_ms: u64) -> bool {
        let is_enough = match &self.found {
            // A file that was only looked at, or not asked for often enough, is looked at again.
            Ok(opened) => opened.is_dir || opened.file.is_some(),
            Err(_) => true,
        };
        is_enough
            && now_ms.saturating_sub(self.created_ms) < kept.valid_ms
            && self.symlinks == (request.symlinks, request.trusted_prefix)
    }
}

impl OpenFiles {
    /// Opens a file or looks at it, or says what is known of it.
    ///
    /// # Errors
    /// Fails with the system's error and the call that failed.
    pub fn open(
        &mut self,
        request: OpenRequest<'_>,
        kept: KeptOpen,
        now_ms: u64,
    ) -> Result<Opened, FileError> {
        self.0.entry(kept.number).or_default().open(request, kept, now_ms)
    }
}

impl Cache {
    fn open(&mut self, request: OpenRequest<'_>, kept: KeptOpen, now_ms: u64) -> Result<Opened, FileError> {
        let found = self.look(request, kept, now_ms);
        // nginx's pace: one or two that were not asked for for too long with each one that is.
        for _ in 0..2 {
            let Some((_, path)) = self.order.first_key_value() else { break };
            let is_over = self
                .entries
                .get(path)
                .is_none_or(|entry| now_ms.saturating_sub(entry.asked_ms) > kept.inactive_ms);
            if !is_over {
                break;
            }
            self.remove_oldest();
        }
        found
    }

    fn look(&mut self, request: OpenRequest<'_>, kept: KeptOpen, now_ms: u64) -> Result<Opened, FileError> {
        let (mut uses, mut path) = (1, None);
        if let Some((known, entry)) = self.entries.get_key_value(request.path) {
            uses = entry.uses + 1;
            path = Some(Rc::clone(known));
            if entry.answers(&request, kept, now_ms) {
                let found = entry.found.clone();
                let (created_ms, symlinks) = (entry.created_ms, entry.symlinks);
                let entry =
                    Entry { found: found.clone(), symlinks, uses, created_ms, asked_ms: now_ms, place: 0 };
                self.keep(path, request.path, entry);
                return found;
            }
        }
        let found = files::open(request);
        if found.is_err() && !kept.errors {
            if let Some(path) = path {
                self.remove(&path);
            }
            return found;
        }
        if path.is_none() && self.entries.len() >= kept.max {
            self.remove_oldest();
        }
        let mut known = found.clone();
        if let Ok(opened) = &mut known
            && uses < kept.min_uses
        {
            opened.file = None;
        }
        let symlinks = (request.symlinks, request.trusted_prefix);
        let entry = Entry { found: known, symlinks, uses, created_ms: now_ms, asked_ms: now_ms, place: 0 };
        self.keep(path, request.path, entry);
        found
    }

    /// Keeps an entry, as the one that was asked for last.
    fn keep(&mut self, known: Option<Rc<[u8]>>, path: &[u8], mut entry: Entry) {
        self.last += 1;
        entry.place = self.last;
        let path = known.unwrap_or_else(|| path.into());
        self.order.insert(entry.place, Rc::clone(&path));
        if let Some(before) = self.entries.insert(path, entry) {
            self.order.remove(&before.place);
        }
    }

    fn remove(&mut self, path: &[u8]) {
        if let Some(entry) = self.entries.remove(path) {
            self.order.remove(&entry.place);
        }
    }

    fn remove_oldest(&mut self) {
        if let Some((_, path)) = self.order.pop_first() {
            self.entries.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn kept() -> KeptOpen {
        KeptOpen { number: 0, max: 2, inactive_ms: 100, valid_ms: 50, min_uses: 1, errors: false }
    }

    fn len(files: &mut OpenFiles, path: &std::path::Path, kept: KeptOpen, now_ms: u64) -> Option<u64> {
        let path = path.as_os_str().as_bytes();
        let request = OpenRequest {
            path,
            stat_only: false,
            symlinks: Symlinks::Follow,
            trusted_prefix: 0,
            kept: Some(kept),
        };
        files.open(request, kept, now_ms).ok().map(|opened| opened.len)
    }

    #[test]
    fn cached_file_entries_are_used_until_they_expire() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut files = OpenFiles::default();
        assert_eq!(len(&mut files, &path, kept(), 0), None);
        std::fs::write(&path, "1").unwrap();
        assert_eq!(len(&mut files, &path, kept(), 1), Some(1), "errors are not kept");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "22").unwrap();
        assert_eq!(len(&mut files, &path, kept(), 50), Some(1));
        assert_eq!(len(&mut files, &path, kept(), 51), Some(2));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(len(&mut files, &path, kept(), 101), None);
        let with_errors = KeptOpen { errors: true, number: 1, ..kept() };
        assert_eq!(len(&mut files, &path, with_errors, 0), None);
        std::fs::write(&path, "1").unwrap();
        assert_eq!(len(&mut files, &path, with_errors, 49), None);
        assert_eq!(len(&mut files, &path, with_errors, 50), Some(1));
    }

    #[test]
    fn files_are_kept_once_they_are_asked_for_often_enough() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut files = OpenFiles::default();
        let kept = KeptOpen { min_uses: 2, ..kept() };
        for (text, expected) in [("1", 1), ("22", 2), ("333", 2)] {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, text).unwrap();
            assert_eq!(len(&mut files, &path, kept, 0), Some(expected), "{text}");
        }
    }

    #[test]
    fn they_are_bounded_and_go_when_nothing_asks_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| folder.path().join(name));
        let mut files = OpenFiles::default();
        for path in &paths {
            std::fs::write(path, "1").unwrap();
            len(&mut files, path, kept(), 0);
        }
        assert_eq!(files.0[&0].entries.len(), 2);
        std::fs::write(&paths[0], "22").unwrap();
        assert_eq!(len(&mut files, &paths[0], kept(), 1), Some(2), "it made room");
        assert_eq!(files.0[&0].order.len(), 2);
        len(&mut files, &paths[1], kept(), 200);
        assert_eq!(files.0[&0].entries.len(), 1, "the others were not asked for");
    }
}
