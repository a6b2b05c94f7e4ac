//! The files of kept responses.
//!
//! Owns that what is not whole is never opened as a response: a file gets its record when its body is complete, and its name
//! after that. Neither is synced: a killed process leaves whole files and temporary ones; after a fall of the system, what was
//! not verified since is not served (`cache::record`).

use cache::{KeyHash, MAX_META_BYTES, MetaFault, Purged, RECORD_BYTES, Removal, StoredMeta};
use engine::modules::proxy::cache::{CacheZone, StoredResponse};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::LazyLock;

/// Why there is no response in a file.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// There is none.
    Absent,
    /// It was written before the system's last start, and is not verified yet.
    Unverified,
    /// It cannot be used; the text says why.
    Damaged(String),
}

/// How much is read of a file at first: the record, the texts, and mostly no more.
const FIRST_READ_BYTES: usize = 4096;

/// Returns the mark of the system's present start.
pub(crate) fn boot() -> u64 {
    static BOOT: LazyLock<u64> = LazyLock::new(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        // Without a mark every file is taken for one of another start.
        u64::from_str_radix(&digits, 16).unwrap_or_else(|_| u64::from(std::process::id()) << 32 | 1)
    });
    *BOOT
}

/// Returns the path of a response.
pub(crate) fn path(zone: &CacheZone, name: KeyHash) -> PathBuf {
    zone.path.join(zone.levels.path(name))
}

/// Removes files of a zone's entries that have made room for others, where the zone's keeper does not keep up.
pub(crate) fn remove_excess(zone: &CacheZone) {
    while let Some(Removal(name)) = zone.zone.take_excess() {
        remove(zone, name);
    }
}

/// Removes a file.
pub(crate) fn remove(zone: &CacheZone, name: KeyHash) {
    // It fails if another process has removed it, which is fine.
    let _ = std::fs::remove_file(path(zone, name));
}

/// Opens the response of this name, which must be that of this key. Returns it with the length of its file.
///
/// # Errors
/// See [`Unusable`].
pub(crate) fn open(zone: &CacheZone, name: KeyHash, key: &[u8]) -> Result<(StoredResponse, u64), Unusable> {
    let path = path(zone, name);
    let damaged = |why: &dyn std::fmt::Display| {
        Unusable::Damaged(format!("cache file \"{}\" is not used: {why}", path.display()))
    };
    let (stored, bytes) = match read(&path) {
        Ok(Some(read)) => read,
        Ok(None) => return Err(Unusable::Absent),
        Err(ReadFault::System(error)) => return Err(damaged(&error)),
        Err(ReadFault::Meta(fault)) => return Err(damaged(&fault)),
    };
    if stored.meta.key != key || !stored.meta.is_named(name) {
        return Err(damaged(&"it is that of another key"));
    }
    match stored.meta.boot == boot() {
        true => Ok((stored, bytes)),
        false => Err(Unusable::Unverified),
    }
}

/// Why a file cannot be read as a response.
#[derive(Debug)]
pub(crate) enum ReadFault {
    System(io::Error),
    Meta(MetaFault),
}

/// Reads what comes before the body; `None` if there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<(StoredResponse, u64)>, ReadFault> {
    let options = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match options {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(ReadFault::System(error)),
    };
    let found = file.metadata().map_err(ReadFault::System)?;
    if !found.is_file() {
        return Err(ReadFault::Meta(MetaFault::Foreign));
    }
    let mut bytes = Vec::new();
    let mut want = FIRST_READ_BYTES;
    let meta = loop {
        bytes.resize(want, 0);
        let count = read_up_to(&file, &mut bytes).map_err(ReadFault::System)?;
        match StoredMeta::read(&bytes[..count]) {
            Ok(meta) => break meta,
            Err(MetaFault::Short(needed)) if count == want && needed > want && needed <= MAX_META_BYTES => {
                want = needed;
            }
            Err(fault) => return Err(ReadFault::Meta(fault)),
        }
    };
    if !meta.fits(found.len()) {
        return Err(ReadFault::Meta(MetaFault::Damaged));
    }
    Ok(Some((StoredResponse { meta, file: Rc::new(file) }, found.len())))
}

/// Reads the beginning of a file, as much of it as there is.
fn read_up_to(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match file.read_at(&mut bytes[count..], count as u64)? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

/// Writes the record of a response anew, whose times or mark are others now.
///
/// # Errors
/// The system's. The file that is there may be a newer one by now; then it is not touched.
pub(crate) fn rewrite(zone: &CacheZone, name: KeyHash, stored: &StoredResponse) -> io::Result<()> {
    let path = path(zone, name);
    let file = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(&path)?;
    let (there, ours) = (file.metadata()?, stored.file.metadata()?);
    if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) {
        return Ok(());
    }
    file.write_all_at(&stored.meta.record(&stored.meta.texts()), 0)
}

/// Forgets the responses of these keys, or all of them, and removes their files. Returns how many there were.
pub(crate) fn purge(zones: &[CacheZone], keys: Option<&[Vec<u8>]>) -> u64 {
    let mut responses = 0;
    for zone in zones {
        let mut gone = |purged: Purged| {
            responses += purged.responses;
            purged.files.into_iter().for_each(|name| remove(zone, name));
        };
        match keys {
            Some(keys) => keys.iter().for_each(|key| gone(zone.zone.purge(KeyHash::of(key)))),
            None => gone(zone.zone.purge_all()),
        }
    }
    responses
}

/// A file that is not finished. It is removed unless it is.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: File,
    path: PathBuf,
    is_done: bool,
}

impl Unfinished {
    /// Begins one: in the temporary folder if that is on the same disk, else in the zone's own.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn begin(
        zone: &CacheZone,
        temp: &Path,
        texts: &[u8],
        random: &mut dyn FnMut() -> u64,
    ) -> io::Result<Unfinished> {
        let folder = match zone.uses_temp_path && is_same_disk(temp, &zone.path) {
            true => temp,
            false => &zone.path,
        };
        for _ in 0..16 {
            // The name of a temporary file: what a killed process leaves is swept at the next start.
            let path = folder.join(format!("{}-{:016x}", std::process::id(), random()));
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            match made {
                Ok(file) => {
                    let begun = Unfinished { file, path, is_done: false };
                    begun.file.write_all_at(texts, RECORD_BYTES as u64)?;
                    return Ok(begun);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }

    /// Writes bytes of the body.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// Writes the record, and gives the file its name.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn finish(mut self, zone: &CacheZone, name: KeyHash, record: &[u8]) -> io::Result<()> {
        self.file.write_all_at(record, 0)?;
        let target = path(zone, name);
        let renamed = match std::fs::rename(&self.path, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = target.parent() {
                    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                }
                std::fs::rename(&self.path, &target)
            }
            renamed => renamed,
        };
        renamed?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_done {
            // It fails if the file is already gone, which is fine.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn is_same_disk(one: &Path, other: &Path) -> bool {
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.dev() == other.dev(),
        _ => false,
    }
}
