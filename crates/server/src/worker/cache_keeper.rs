//! The thread that fills zones of kept responses from the disk when a process starts, and clears them while it runs.
//!
//! Owns the pace: so many files at a time, then a pause, so that requests have the disk. Must never remove a file whose name
//! is not one of a kept response.

use crate::proxy::cache::files::{self, ReadFault};
use cache::{BodyHash, KeyHash, MetaFault, Removal, Zone};
use engine::Config;
use engine::modules::proxy::cache::{CacheZone, Pace, StoredResponse};
use nix::sys::statvfs::statvfs;
use process::log::{ErrorLog, Level};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often zones are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How much of a body is read at a time to be verified.
const VERIFIED_AT_ONCE: usize = 64 << 10;

/// What it follows. Dropping it ends the thread.
pub(super) struct CacheKeeper(Sender<Arc<Config>>);

impl CacheKeeper {
    /// Starts the thread, with these zones.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(config: Arc<Config>, log: Arc<Mutex<ErrorLog>>) -> Result<CacheKeeper, String> {
        let (sender, configs) = mpsc::channel();
        let keeper = Keeper { log, filled: Vec::new() };
        let named = std::thread::Builder::new().name("cache".into());
        let started = named.spawn(move || keeper.run(config, &configs));
        started.map_err(|error| format!("the thread of kept responses cannot be started: {error}"))?;
        Ok(CacheKeeper(sender))
    }

    /// Keeps the zones of this configuration from now on.
    pub(super) fn follow(&self, config: Arc<Config>) {
        // It fails if the thread has ended, which it does not before this is dropped.
        let _ = self.0.send(config);
    }
}

struct Keeper {
    log: Arc<Mutex<ErrorLog>>,
    /// Zones that were filled.
    filled: Vec<Weak<Zone>>,
}

impl Keeper {
    fn run(mut self, mut config: Arc<Config>, configs: &mpsc::Receiver<Arc<Config>>) {
        loop {
            self.filled.retain(|zone| zone.strong_count() > 0);
            let mut is_behind = false;
            for zone in config.http.caches.iter() {
                zone.zone.set_limits(zone.limits);
                if !self.filled.iter().any(|known| known.as_ptr() == Arc::as_ptr(&zone.zone)) {
                    self.filled.push(Arc::downgrade(&zone.zone));
                    self.fill(zone);
                }
                is_behind |= self.clear(zone);
            }
            match configs.recv_timeout(if is_behind { Duration::ZERO } else { INTERVAL }) {
                Ok(newer) => config = newer,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn say(&self, level: Level, text: &str) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).write(level, 0, text.as_bytes());
    }

    /// Takes note of the responses on the disk.
    fn fill(&self, zone: &CacheZone) {
        let mut turns = Turns::new(zone.filling);
        let mut found = 0_u64;
        self.walk(zone, &zone.path, zone.levels.depth(), &mut turns, &mut found);
        if found > 0 {
            let text =
                format!("cache \"{}\": {found} responses found in \"{}\"", zone.name, zone.path.display());
            self.say(Level::Notice, &text);
        }
    }

    fn walk(&self, zone: &CacheZone, folder: &Path, depth: usize, turns: &mut Turns, found: &mut u64) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                self.say(
                    Level::Crit,
                    &format!("cache folder \"{}\" cannot be read: {error}", folder.display()),
                );
                return;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if depth > 0 {
                if is_folder && is_level(&name) {
                    self.walk(zone, &entry.path(), depth - 1, turns, found);
                }
                continue;
            }
            let Some(hash) = KeyHash::from_name(name.as_bytes()) else { continue };
            // Where nginx's format is met, it is left alone: another server may use the folder.
            match note(zone, hash, &entry.path()) {
                Ok(is_known) => *found += u64::from(is_known),
                Err(why) => {
                    let text = format!("cache file \"{}\" is removed: {why}", entry.path().display());
                    self.say(Level::Notice, &text);
                    files::remove(zone, hash);
                }
            }
            turns.done();
        }
    }

    /// Removes what is too old and what is too much, as much of it as one turn takes. Returns true if there may be more.
    fn clear(&self, zone: &CacheZone) -> bool {
        let mut turns = Turns::new(zone.clearing);
        loop {
            let next = zone.zone.take_removal(now_s()).or_else(|| {
                let is_full =
                    zone.min_free > 0 && free_bytes(&zone.path).is_some_and(|free| free < zone.min_free);
                is_full.then(|| zone.zone.take_oldest()).flatten()
            });
            let Some(Removal(name)) = next else { return false };
            files::remove(zone, name);
            if turns.done() {
                return true;
            }
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn is_level(name: &OsStr) -> bool {
    matches!(name.len(), 1 | 2) && name.as_bytes().iter().all(u8::is_ascii_hexdigit)
}

fn free_bytes(path: &Path) -> Option<u64> {
    let found = statvfs(path).ok()?;
    Some(found.blocks_available() as u64 * found.fragment_size() as u64)
}

/// Takes note of a file. Returns false if it is none of ours; the error is that it is, and cannot be used.
fn note(zone: &CacheZone, name: KeyHash, path: &Path) -> Result<bool, String> {
    let (mut stored, bytes) = match files::read(path) {
        Ok(Some(read)) => read,
        Ok(None) | Err(ReadFault::Meta(MetaFault::Foreign)) => return Ok(false),
        Err(ReadFault::System(error)) => return Err(error.to_string()),
        Err(ReadFault::Meta(fault)) => return Err(fault.to_string()),
    };
    if !stored.meta.is_named(name) {
        return Err("it is that of another key".to_owned());
    }
    if stored.meta.boot != files::boot() {
        if !is_verified(&stored).map_err(|error| error.to_string())? {
            return Err("its checksum is wrong".to_owned());
        }
        stored.meta.boot = files::boot();
        files::rewrite(zone, name, &stored).map_err(|error| error.to_string())?;
    }
    let main = KeyHash::of(&stored.meta.key);
    if let Some(Removal(name)) = zone.zone.loaded(name, main, bytes, (now_s(), 0)) {
        files::remove(zone, name);
        return Ok(false);
    }
    Ok(true)
}

/// Compares a body with its checksum.
fn is_verified(stored: &StoredResponse) -> io::Result<bool> {
    let mut hash = BodyHash::default();
    let mut buffer = vec![0; VERIFIED_AT_ONCE];
    let mut at = stored.meta.body_start();
    loop {
        match stored.file.read_at(&mut buffer, at)? {
            0 => return Ok(hash.finish() == stored.meta.body_hash),
            count => {
                hash.update(&buffer[..count]);
                at += count as u64;
            }
        }
    }
}

/// Work in turns: after so many files or so much time, a pause.
struct Turns {
    pace: Pace,
    files: u64,
    began: Instant,
}

impl Turns {
    fn new(pace: Pace) -> Turns {
        Turns { pace, files: 0, began: Instant::now() }
    }

    /// Takes note of one more file. Returns true if the turn has ended with it, and the pause is over.
    fn done(&mut self) -> bool {
        self.files += 1;
        let is_over = self.files >= self.pace.files
            || self.began.elapsed() >= Duration::from_millis(self.pace.threshold_ms);
        if is_over {
            std::thread::sleep(Duration::from_millis(self.pace.sleep_ms));
            *self = Turns::new(self.pace);
        }
        is_over
    }
}
