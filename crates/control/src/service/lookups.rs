//! The state of what is looked up: the places, and what is believed.
//!
//! Owns the first looks of a start and of a reload. Must never publish.

use super::clock::now_ms;
use crate::discovery::{Beliefs, FoundServers, Kept, Summaries, first_looks};
use crate::setup::Log;
use engine::Config;
use engine::host::Level;
use engine::modules::upstream::Place;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use switch::Table;
use tokio::task::JoinHandle;

/// How long a start, or a reload, waits for the first answers of places that nothing is known of.
const FIRST_LOOKS: Duration = Duration::from_secs(1);

/// What is looked up for the groups.
#[derive(Default)]
pub(super) struct Discovery {
    pub(super) beliefs: Beliefs,
    pub(super) places: HashMap<Place, PlaceState>,
    pub(super) summaries: Summaries,
    /// The file of the last good sets is older than they are.
    pub(super) is_unkept: bool,
    /// The task that writes them.
    pub(super) keeper: Option<Task>,
}

/// What is known of a place.
#[derive(Default)]
pub(super) struct PlaceState {
    /// The task that looks at it.
    pub(super) task: Option<Task>,
    /// When it was last seen, in milliseconds since 1970; 0 is never.
    pub(super) seen_ms: u64,
    pub(super) failure: Option<Failure>,
}

/// A place that cannot be looked at.
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) since_ms: u64,
}

/// A task that ends with its owner.
pub(super) struct Task(pub(super) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns the places of a configuration, each once.
pub(super) fn places(config: &Config) -> HashSet<Place> {
    let entries = config.groups.iter().filter(|entry| entry.is_discovered());
    entries.flat_map(|entry| &entry.discovery.sources).map(|source| source.place.clone()).collect()
}

/// What is known of the places of a configuration that is not in force yet: what was kept of them, and first answers.
#[derive(Default)]
pub(super) struct FirstLooks {
    kept: Kept,
    found: Vec<(Place, FoundServers)>,
}

impl FirstLooks {
    /// Looks at the places of a configuration that nothing is known of.
    pub(super) async fn at(config: &Config, before: &Beliefs, log: &dyn Fn(Level, &str)) -> FirstLooks {
        let all = places(config);
        if all.is_empty() {
            return FirstLooks::default();
        }
        let kept = Kept::read(&Kept::path(config)).unwrap_or_else(|fault| {
            log(Level::Warn, &fault);
            Kept::default()
        });
        let known = Beliefs::under(config, before, &kept);
        let unknown: Vec<Place> = all.into_iter().filter(|place| known.servers(place).is_none()).collect();
        FirstLooks { kept, found: first_looks(unknown, FIRST_LOOKS).await }
    }

    /// Returns the same at a start, which has no runtime yet.
    pub(super) fn at_start(config: &Arc<Config>, log: &Log) -> FirstLooks {
        if places(config).is_empty() {
            return FirstLooks::default();
        }
        let (config, log) = (Arc::clone(config), Arc::clone(log));
        let look = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let local = tokio::task::LocalSet::new();
            Some(local.block_on(&runtime, FirstLooks::at(&config, &Beliefs::default(), &*log)))
        };
        std::thread::spawn(look).join().ok().flatten().unwrap_or_default()
    }

    /// Returns what is believed under the configuration, of what was believed until now.
    pub(super) fn beliefs(self, config: &Config, before: &Beliefs) -> Beliefs {
        let mut beliefs = Beliefs::under(config, before, &self.kept);
        for (place, found) in self.found {
            if beliefs.servers(&place).is_none() {
                beliefs.take(config, &Table::default(), &place, found.servers);
                beliefs.note_seen(&place, now_ms());
            }
        }
        beliefs
    }
}
