//! The zones of a configuration (`proxy_cache_path`): where their files are, how much of them there may be, and what is known
//! of them, which one configuration hands to the next.

use crate::config::Builder;
use crate::modules::proxy::PassKind;
use cache::{Levels, Zone, ZoneLimits};
use conf::{Diagnostic, Span};
use std::path::PathBuf;
use std::sync::Arc;

/// How much is done at a time, by what fills a zone at the start or clears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The most files.
    pub files: u64,
    /// How long it may take, in ms.
    pub threshold_ms: u64,
    /// How long the pause is that follows, in ms.
    pub sleep_ms: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { files: 100, threshold_ms: 200, sleep_ms: 50 }
    }
}

/// One zone.
#[derive(Clone, Debug)]
pub struct CacheZone {
    /// Its name.
    pub name: Box<str>,
    /// The family of directives that it is for.
    pub kind: PassKind,
    /// Its folder.
    pub path: PathBuf,
    /// The folders in that.
    pub levels: Levels,
    /// How much it may hold.
    pub limits: ZoneLimits,
    /// Room that is kept on its disk, in bytes.
    pub min_free: u64,
    /// Responses are written below the temporary folder first, and moved.
    pub uses_temp_path: bool,
    /// How it is filled at the start.
    pub filling: Pace,
    /// How it is cleared.
    pub clearing: Pace,
    /// Its index.
    pub zone: Arc<Zone>,
    /// Whether a directive declares it.
    pub(super) is_declared: bool,
    /// Where it is first named.
    pub(super) named_at: Span,
}

impl CacheZone {
    /// Returns the family of directives that it is for: `proxy`, `fastcgi` and the like.
    pub fn family(&self) -> &'static str {
        self.kind.row().prefix
    }

    /// Returns a zone that is named and not declared yet.
    pub(super) fn named(name: &str, kind: PassKind, named_at: Span) -> CacheZone {
        let limits = ZoneLimits { entries: 1, inactive_s: 600, max_bytes: u64::MAX };
        CacheZone {
            name: name.into(),
            kind,
            path: PathBuf::new(),
            levels: Levels::default(),
            limits,
            min_free: 0,
            uses_temp_path: true,
            filling: Pace::default(),
            clearing: Pace::default(),
            zone: Arc::new(Zone::new(limits)),
            is_declared: false,
            named_at,
        }
    }
}

/// All zones.
#[derive(Clone, Debug, Default)]
pub struct CacheZones(Vec<CacheZone>);

impl CacheZones {
    /// Returns a zone by its number.
    pub fn get(&self, number: usize) -> Option<&CacheZone> {
        self.0.get(number)
    }

    /// Returns all zones.
    pub fn iter(&self) -> impl Iterator<Item = &CacheZone> {
        self.0.iter()
    }

    /// Returns the number of a family's zone by its name.
    pub fn find(&self, kind: PassKind, name: &[u8]) -> Option<usize> {
        self.0.iter().position(|zone| zone.kind == kind && zone.name.as_bytes() == name)
    }

    /// Returns the number of a zone, which may be named before it is declared.
    pub(super) fn number(&mut self, kind: PassKind, name: &str, named_at: Span) -> usize {
        if let Some(number) = self.find(kind, name.as_bytes()) {
            return number;
        }
        self.0.push(CacheZone::named(name, kind, named_at));
        self.0.len() - 1
    }

    /// Takes a declaration in the place of what was only named.
    pub(super) fn declare(&mut self, declared: CacheZone) -> Result<(), Diagnostic> {
        let number = self.number(declared.kind, &declared.name, declared.named_at);
        let known = &self.0[number];
        if known.is_declared {
            let text = format!("duplicate zone \"{}\"", declared.name);
            return Err(Diagnostic::error(declared.named_at, text).also(known.named_at, "here"));
        }
        self.0[number] = declared;
        Ok(())
    }

    /// Goes on with what is known of the zones of the configuration before this one.
    ///
    /// # Errors
    /// nginx's words, if a zone has another folder now: the old configuration has to stay.
    pub fn carry_over(&mut self, old: &CacheZones) -> Result<(), String> {
        for zone in &mut self.0 {
            let same = |known: &&CacheZone| known.name == zone.name && known.kind == zone.kind;
            let Some(known) = old.0.iter().find(same) else { continue };
            if known.path != zone.path {
                return Err(format!(
                    "cache \"{}\" uses the \"{}\" cache path while previously it used the \"{}\" cache path",
                    zone.name,
                    zone.path.display(),
                    known.path.display()
                ));
            }
            if known.levels != zone.levels {
                return Err(format!("cache \"{}\" had previously different levels", zone.name));
            }
            zone.zone = Arc::clone(&known.zone);
        }
        Ok(())
    }
}

/// Names the zones that are used and declared nowhere, and folders that two zones have.
pub(in super::super) fn check(b: &mut Builder<'_>) {
    let zones = &b.draft.http.caches.0;
    let mut faults = Vec::new();
    for (place, zone) in zones.iter().enumerate() {
        let prefix = zone.kind.row().prefix;
        if !zone.is_declared {
            let text = format!("\"{prefix}_cache\" zone \"{}\" is unknown", zone.name);
            let help = format!("declare it in http: {prefix}_cache_path PATH keys_zone={}:10m;", zone.name);
            faults.push(Diagnostic::error(zone.named_at, text).help(help));
        }
        if let Some(other) = zones[..place]
            .iter()
            .find(|other| other.is_declared && zone.is_declared && other.path == zone.path)
        {
            let text = format!("the folder \"{}\" is that of another zone", zone.path.display());
            let help = "give each zone a folder of its own";
            faults.push(Diagnostic::error(zone.named_at, text).also(other.named_at, "here").help(help));
        }
    }
    b.diagnostics.extend(faults);
}
