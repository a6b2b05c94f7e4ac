//! A file with a list of servers.
//!
//! Owns the look at its time, length and number. It is looked at in intervals, not watched with inotify: that says nothing on a
//! network's file system, nor of a file behind links that are changed (a ConfigMap of Kubernetes), and a look costs a system
//! call. A file that has changed is read when it has stayed the same for one interval, or what is half written would be taken
//! for a shorter list.

use super::list;
use super::looked_up::{FoundServers, LookedUp};
use engine::modules::upstream::FilePlace;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Changes with each writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified_ns: (i64, i64),
    length: u64,
    number: u64,
}

/// Looks at one file again and again.
pub(crate) struct FileLookup {
    place: FilePlace,
    /// The stamp at the last look.
    seen: Option<Stamp>,
    /// The stamp of what was read last, and whether it was good.
    read: Option<(Stamp, bool)>,
    is_first: bool,
}

impl FileLookup {
    pub(super) fn new(place: &FilePlace) -> FileLookup {
        FileLookup { place: place.clone(), seen: None, read: None, is_first: true }
    }

    pub(super) async fn look(&mut self) -> LookedUp {
        let path = self.place.path.clone();
        let (seen, read, is_first) = (self.seen, self.read, std::mem::take(&mut self.is_first));
        let looked = tokio::task::spawn_blocking(move || look_at(&path, seen, read, is_first)).await;
        let Ok((looked_up, seen, read)) = looked else { return LookedUp::Nothing };
        (self.seen, self.read) = (seen, read);
        looked_up
    }
}

/// What a look leaves behind.
type Looked = (LookedUp, Option<Stamp>, Option<(Stamp, bool)>);

fn look_at(path: &Path, seen: Option<Stamp>, read: Option<(Stamp, bool)>, is_first: bool) -> Looked {
    let fault =
        |error: &std::io::Error| LookedUp::Failed(format!("{} cannot be read: {error}", path.display()));
    let now = match stamp(path) {
        Ok(stamp) => stamp,
        Err(error) => return (fault(&error), None, None),
    };
    match read {
        Some((of, true)) if of == now => return (LookedUp::Still, Some(now), read),
        Some((of, false)) if of == now => return (LookedUp::Nothing, Some(now), read),
        // It is being written.
        _ if !is_first && seen != Some(now) => return (LookedUp::Nothing, Some(now), read),
        _ => {}
    }
    let bytes = match content(path) {
        Ok(bytes) => bytes,
        Err(error) => return (fault(&error), Some(now), None),
    };
    if !stamp(path).is_ok_and(|after| after == now) {
        return (LookedUp::Nothing, None, read);
    }
    let parsed = match bytes.len() {
        0..=list::MAX_BYTES => list::parse(&bytes),
        _ => Err(format!("it has more than {} bytes", list::MAX_BYTES)),
    };
    match parsed {
        Ok(servers) => {
            let found = FoundServers { servers, ..FoundServers::default() };
            (LookedUp::Found(found), Some(now), Some((now, true)))
        }
        Err(text) => {
            let text = format!("{} is broken: {text}", path.display());
            (LookedUp::Failed(text), Some(now), Some((now, false)))
        }
    }
}

/// Reads a file, to one byte more than a list may have.
fn content(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(list::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    Ok(Stamp { modified_ns: (found.mtime(), found.mtime_nsec()), length: found.len(), number: found.ino() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::{Duration, SystemTime};

    /// Writes a file, as if so many seconds had passed.
    fn write(path: &Path, text: &str, after_s: u64) {
        fs::write(path, text).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + after_s)).unwrap();
    }

    fn servers(looked_up: &LookedUp) -> usize {
        match looked_up {
            LookedUp::Found(found) => found.servers.len(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_file_is_read_once_it_stays_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut lookup = FileLookup::new(&FilePlace { path: path.clone(), interval_ms: 1 });
        assert!(
            matches!(lookup.look().await, LookedUp::Failed(text) if text.contains("cannot be read: No such file"))
        );
        write(&path, "server 10.0.0.1;\n", 1);
        // Half a list, and then all of it.
        assert_eq!(lookup.look().await, LookedUp::Nothing);
        write(&path, "server 10.0.0.1;\nserver 10.0.0.2;\n", 2);
        assert_eq!(lookup.look().await, LookedUp::Nothing);
        assert_eq!(servers(&lookup.look().await), 2);
        assert_eq!(lookup.look().await, LookedUp::Still);
        // What is broken is said once, and what is good again is taken.
        write(&path, "server 10.0.0.1;\nserver 10.0", 3);
        assert_eq!(lookup.look().await, LookedUp::Nothing);
        assert!(
            matches!(lookup.look().await, LookedUp::Failed(text) if text.contains("is broken: its last line"))
        );
        assert_eq!(lookup.look().await, LookedUp::Nothing);
        fs::write(folder.path().join("b"), "server 10.0.0.1;\n").unwrap();
        fs::rename(folder.path().join("b"), &path).unwrap();
        assert_eq!(lookup.look().await, LookedUp::Nothing);
        assert_eq!(servers(&lookup.look().await), 1);
    }

    #[tokio::test]
    async fn a_new_look_reads_at_once_and_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other, link) = (folder.path().join("1"), folder.path().join("2"), folder.path().join("l"));
        write(&one, "server 10.0.0.1;\n", 1);
        write(&other, "server 10.0.0.1;\nserver 10.0.0.2;\n", 1);
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let mut lookup = FileLookup::new(&FilePlace { path: link.clone(), interval_ms: 1 });
        assert_eq!(servers(&lookup.look().await), 1);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        assert_eq!(lookup.look().await, LookedUp::Nothing);
        assert_eq!(servers(&lookup.look().await), 2);
    }
}
