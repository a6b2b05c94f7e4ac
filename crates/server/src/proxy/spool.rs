//! Bytes for a client that is slower than its upstream: first in memory, then in a temporary file.
//!
//! With `proxy_buffering on` the upstream is released as soon as possible; what the client has not taken yet waits here,
//! framed already.

use crate::request::client::Client;
use engine::exchange::BodyFile;
use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use transport::files;

/// Bytes that wait.
#[derive(Debug)]
pub(crate) struct Spool {
    memory: VecDeque<u8>,
    memory_limit: usize,
    file: Option<Spilled>,
    file_limit: u64,
}

#[derive(Debug)]
struct Spilled {
    file: BodyFile,
    read: u64,
}

impl Spool {
    /// Creates an empty spool with these limits, in bytes.
    pub(crate) fn new(memory_limit: usize, file_limit: u64) -> Spool {
        Spool { memory: VecDeque::new(), memory_limit, file: None, file_limit }
    }

    /// Returns true if nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.in_file() == 0
    }

    /// Returns how many bytes wait.
    pub(crate) fn len(&self) -> u64 {
        self.memory.len() as u64 + self.in_file()
    }

    /// Returns true if there is room for more.
    pub(crate) fn has_room(&self) -> bool {
        match &self.file {
            // Nothing may overtake what waits in the file.
            Some(spilled) if spilled.read < spilled.file.len => spilled.file.len < self.file_limit,
            _ => self.memory.len() < self.memory_limit || self.file_limit > 0,
        }
    }

    fn in_file(&self) -> u64 {
        self.file.as_ref().map_or(0, |spilled| spilled.file.len - spilled.read)
    }

    /// Appends bytes. They go to the file once memory is full, and as long as bytes wait in the file, so that the order is
    /// kept. `new_file` creates it, or says that there may be none. Returns true if a file was begun.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        new_file: impl FnOnce() -> io::Result<Option<BodyFile>>,
    ) -> io::Result<bool> {
        if self.in_file() == 0 && (self.memory.len() < self.memory_limit || self.file_limit == 0) {
            // What waits for slow clients is most of a busy server's memory: no more is taken than is needed.
            self.memory.reserve_exact(bytes.len());
            self.memory.extend(bytes);
            return Ok(false);
        }
        let begun = self.file.is_none();
        if begun {
            self.file = new_file()?.map(|file| Spilled { file, read: 0 });
        }
        let Some(spilled) = &mut self.file else {
            // The upstream waits, as without a file at all.
            self.file_limit = 0;
            self.memory.extend(bytes);
            return Ok(false);
        };
        spilled.file.file.write_all_at(bytes, spilled.file.len)?;
        spilled.file.len += bytes.len() as u64;
        Ok(begun)
    }

    /// Returns the next bytes to send, in one or two slices; those of the file are read into memory first.
    pub(crate) fn front(&mut self) -> io::Result<(&[u8], &[u8])> {
        if self.memory.is_empty()
            && let Some(spilled) = &mut self.file
            && spilled.read < spilled.file.len
        {
            let want = (spilled.file.len - spilled.read).min(self.memory_limit.max(4096) as u64) as usize;
            let mut bytes = vec![0; want];
            spilled.file.file.read_exact_at(&mut bytes, spilled.read)?;
            spilled.read += want as u64;
            if spilled.read == spilled.file.len {
                // What was sent must not fill the disk.
                spilled.file.file.set_len(0)?;
                (spilled.read, spilled.file.len) = (0, 0);
            }
            self.memory = bytes.into();
        }
        Ok(self.memory.as_slices())
    }

    /// Removes bytes of the front that were sent.
    pub(crate) fn sent(&mut self, count: usize) {
        self.memory.drain(..count);
    }
}

/// Creates the file for what a client has not taken, unless the streams of its connection have enough of them.
///
/// # Errors
/// It cannot be created.
pub(super) fn file_for(client: &Client, folder: &Path) -> io::Result<Option<BodyFile>> {
    let Some(ticket) = client.stream.file_ticket() else { return Ok(None) };
    let mut file = files::temporary(folder, &mut || client.thread.random())?;
    file.guard = Rc::new((file.guard, ticket));
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_through_the_file() {
        let folder = std::env::temp_dir().join(format!("pointsman-spool-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut number = 0;
        let mut random = || {
            number += 1;
            number
        };
        let mut spool = Spool::new(10, 1000);
        let sent: Vec<u8> = (0..=255).collect();
        let mut got = Vec::new();
        for (turn, chunk) in sent.chunks(7).enumerate() {
            assert!(spool.has_room());
            spool.push(chunk, || files::temporary(&folder, &mut random).map(Some)).unwrap();
            if turn % 3 == 0 {
                let (front, _) = spool.front().unwrap();
                let take = front.len().min(5);
                got.extend_from_slice(&front[..take]);
                spool.sent(take);
            }
        }
        while !spool.is_empty() {
            let (front, back) = spool.front().unwrap();
            let all = [front, back].concat();
            spool.sent(all.len());
            got.extend(all);
        }
        assert_eq!(got, sent);
        drop(spool);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "the file is removed");
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_file_does_not_outgrow_its_limit() {
        let folder = std::env::temp_dir().join(format!("pointsman-spool-limit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut number = 0;
        let mut random = || {
            number += 1;
            number
        };
        let mut spool = Spool::new(4096, 20_000);
        for _ in 0..100 {
            while spool.has_room() {
                spool.push(&[7; 1000], || files::temporary(&folder, &mut random).map(Some)).unwrap();
            }
            let len = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().metadata().unwrap().len();
            assert!(len <= 21_000, "{len}");
            let (front, back) = spool.front().unwrap();
            let count = front.len() + back.len();
            spool.sent(count);
        }
        drop(spool);
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_full_spool_has_no_room() {
        let mut spool = Spool::new(4, 0);
        spool.push(b"12345", || unreachable!("without a file")).unwrap();
        assert!(!spool.has_room());
        // One that gets no file keeps what has come.
        let mut spool = Spool::new(4, 100);
        assert!(!spool.push(b"12345", || unreachable!("in memory")).unwrap() && spool.has_room());
        assert!(!spool.push(b"678", || Ok(None)).unwrap() && !spool.has_room());
        assert_eq!(spool.len(), 8);
    }
}
