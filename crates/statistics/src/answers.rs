//! Answers by key, target and revision, of the switches of which somebody watches a commit.
//!
//! Owns: what a receipt says of the new side. Must never: keep anything of a switch that is not watched, nor grow without
//! bound: beyond [`MAX_NAMED`] keys, targets and revisions the others are counted without their keys, and beyond twice as
//! many not at all, which is said.

use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};

use crate::histogram::Histogram;
use crate::recorder::{KeySubject, Tally};

/// The number of keys, targets and revisions that are counted each by itself, all switches together: some 4 MB.
pub(crate) const MAX_NAMED: usize = 4096;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Counters of what one side has answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// Requests, without streams.
    pub requests: u64,
    /// Those of them that failed: no answer, a broken one, or 5xx.
    pub failed: u64,
    /// WebSockets and long answers that have ended.
    pub streams: u64,
    /// Those of them that failed.
    pub failed_streams: u64,
    /// How long upstreams took for the requests.
    pub times: Histogram,
}

/// Answers with what they have in common.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The key; `None` for all that are not counted by themselves.
    pub key: Option<&'a [u8]>,
    /// The target.
    pub target: &'a Arc<str>,
    /// The newest commit that may have changed the key's route when the requests asked.
    pub revision: u64,
    /// The answers.
    pub answers: &'a Answers,
}

/// The answers of a switch since it is watched.
#[derive(Debug, Default)]
pub struct WatchedAnswers {
    /// The first revision that is counted.
    from: u64,
    sides: Map<SideName, Answers>,
    version: u64,
    lost: bool,
}

/// All switches that are watched.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    switches: Map<Arc<str>, WatchedAnswers>,
    len: usize,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SideName {
    key: Option<Box<[u8]>>,
    target: Arc<str>,
    revision: u64,
}

/// A [`SideName`] to look for without making one; hashes as that does.
#[derive(Hash)]
struct SideProbe<'a> {
    key: Option<&'a [u8]>,
    target: &'a Arc<str>,
    revision: u64,
}

impl Equivalent<SideName> for SideProbe<'_> {
    fn equivalent(&self, name: &SideName) -> bool {
        self.revision == name.revision && self.key == name.key.as_deref() && *self.target == name.target
    }
}

impl Answers {
    /// Returns true if nothing was answered.
    pub fn is_empty(&self) -> bool {
        self.requests + self.streams == 0
    }

    /// Counts one more answer.
    pub fn count(&mut self, is_stream: bool, failed: bool, response_us: Option<u64>) {
        let failed = u64::from(failed);
        if is_stream {
            self.streams += 1;
            self.failed_streams += failed;
            return;
        }
        self.requests += 1;
        self.failed += failed;
        if let Some(us) = response_us {
            self.times.record(us);
        }
    }

    /// Adds everything in `other`.
    pub fn merge(&mut self, other: &Answers) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.streams += other.streams;
        self.failed_streams += other.failed_streams;
        self.times.merge(&other.times);
    }

    fn add(&mut self, tally: &Tally, is_stream: bool, failed: u64) {
        if is_stream {
            self.streams += tally.counters.ended;
            self.failed_streams += failed;
        } else {
            self.requests += tally.counters.ended;
            self.failed += failed;
            self.times.merge(&tally.counters.response);
        }
    }
}

impl WatchedAnswers {
    /// Returns the answers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Answered<'_>> {
        self.sides.iter().map(|(name, answers)| Answered {
            key: name.key.as_deref(),
            target: &name.target,
            revision: name.revision,
            answers,
        })
    }

    /// Returns a number that rises with each answer.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns true if there were too many keys, so that some answers are not in it.
    pub fn has_lost(&self) -> bool {
        self.lost
    }
}

impl Watched {
    /// Counts a switch's answers of this revision and later ones; without a revision, forgets the switch.
    pub(crate) fn from(&mut self, switch: &Arc<str>, revision: Option<u64>) {
        match revision {
            Some(revision) => {
                let watched = self.switches.entry(Arc::clone(switch)).or_default();
                watched.from = revision;
                watched.sides.retain(|name, _| name.revision >= revision);
            }
            None => drop(self.switches.remove(switch)),
        }
        self.len = self.switches.values().map(|watched| watched.sides.len()).sum();
    }

    pub(crate) fn of(&self, switch: &str) -> Option<&WatchedAnswers> {
        self.switches.get(switch)
    }

    /// Adds what a thread has counted, if its switch is watched.
    pub(crate) fn add(&mut self, subject: &KeySubject<'_>, tally: &Tally) {
        if self.switches.is_empty() {
            return;
        }
        let Some(watched) = self.switches.get_mut(subject.switch) else { return };
        if subject.revision < watched.from {
            return;
        }
        watched.version += 1;
        let KeySubject { key, target, revision, .. } = *subject;
        let mut probe = SideProbe { key, target, revision };
        if self.len >= MAX_NAMED && !watched.sides.contains_key(&probe) {
            probe.key = None;
        }
        if !watched.sides.contains_key(&probe) {
            if self.len >= 2 * MAX_NAMED {
                watched.lost = true;
                return;
            }
            let name = SideName { key: probe.key.map(Box::from), target: Arc::clone(target), revision };
            watched.sides.insert(name, Answers::default());
            self.len += 1;
        }
        if let Some(answers) = watched.sides.get_mut(&probe) {
            answers.add(tally, subject.is_stream, subject.failed);
        }
    }
}
