//! What a process lets the others with the same state folder know of its requests.
//!
//! Owns the report as it is written, and what follows from it. Must never read a file.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use switch::Key;

/// The most keys of a change that a report names.
pub(super) const MAX_KEYS: usize = 100;

/// The requests that a process has left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::service) struct ServingReport {
    /// The process, by the name that it has for all times.
    pub(super) process: String,
    pub(super) switches: Vec<SwitchReport>,
    /// Requests at servers, by group.
    pub(super) busy: Vec<BusyServer>,
}

/// What a process has left of a switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SwitchReport {
    /// The switch, by its store: its name may be another one after a reload.
    pub(super) store: PathBuf,
    /// The revision that all of its threads follow.
    pub(super) revision: u64,
    /// The newest commit whose old side it has stopped to observe although something was left.
    #[serde(default)]
    pub(super) uncounted: u64,
    /// The commits whose old sides are not empty.
    pub(super) drains: Vec<OldSide>,
    pub(super) holds: Vec<HoldReport>,
}

/// An old side that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OldSide {
    /// That of these commits, the first and the last.
    pub(super) revisions: (u64, u64),
    /// Their keys; `None` if they are too many, or all without an entry.
    pub(super) keys: Option<Vec<String>>,
    pub(super) in_flight: u64,
    pub(super) streams: u64,
}

/// What a process has left of a held key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HoldReport {
    pub(super) id: String,
    /// Requests that wait.
    pub(super) waiting: u64,
    /// Requests that the hold's order would leave behind; without an order, all of the key.
    pub(super) in_flight: u64,
    pub(super) streams: u64,
}

/// Requests at a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BusyServer {
    pub(super) group: String,
    pub(super) server: String,
    pub(super) in_flight: u64,
}

/// The requests that other processes have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::service) struct Elsewhere {
    pub(in crate::service) in_flight: u64,
    pub(in crate::service) streams: u64,
    /// One of them does not say.
    pub(in crate::service) is_unknown: bool,
}

impl Elsewhere {
    /// Adds what another process says; `None` if it does not.
    pub(super) fn add(&mut self, left: Option<(u64, u64)>) {
        let (in_flight, streams) = left.unwrap_or_default();
        self.in_flight += in_flight;
        self.streams += streams;
        self.is_unknown |= left.is_none();
    }
}

impl ServingReport {
    /// Parses a report; `None` for what is none.
    pub(super) fn parse(text: &[u8]) -> Option<ServingReport> {
        serde_json::from_slice(text).ok()
    }

    fn switch(&self, store: &Path) -> Option<&SwitchReport> {
        self.switches.iter().find(|switch| switch.store == store)
    }

    /// Returns the requests and streams on the old side of a commit; `None` if that is not known.
    pub(super) fn old_side(&self, store: &Path, revision: u64) -> Option<(u64, u64)> {
        let switch = self.switch(store).filter(|switch| switch.revision >= revision)?;
        let of_it = |one: &&OldSide| (one.revisions.0..=one.revisions.1).contains(&revision);
        match switch.drains.iter().find(of_it) {
            Some(left) => Some((left.in_flight, left.streams)),
            None => (switch.uncounted < revision).then_some((0, 0)),
        }
    }

    /// Returns the requests and streams of these keys that are on an old side, of whichever commit; `None` if that is not
    /// known. `revision` is the newest that counts.
    pub(super) fn unsettled(&self, store: &Path, keys: &[Key], revision: u64) -> Option<(u64, u64)> {
        let switch = self.switch(store).filter(|switch| switch.revision >= revision)?;
        let concerns = |one: &&OldSide| {
            let names = one.keys.as_ref();
            names.is_none_or(|names| names.iter().any(|name| keys.iter().any(|key| meet(key, name))))
        };
        let left: Vec<&OldSide> = switch.drains.iter().filter(concerns).collect();
        if left.is_empty() && switch.uncounted > 0 {
            return None;
        }
        // A request that two commits have left behind is on both old sides: the largest is a lower bound of what is left,
        // and none is left if it is 0.
        let largest = |count: fn(&OldSide) -> u64| left.iter().map(|one| count(one)).max().unwrap_or(0);
        Some((largest(|one| one.in_flight), largest(|one| one.streams)))
    }

    /// Returns what is left of a hold: requests that wait, and the requests and streams that its order would leave behind.
    pub(super) fn hold(&self, store: &Path, id: &str) -> Option<(u64, (u64, u64))> {
        let held = self.switch(store)?.holds.iter().find(|hold| hold.id == id)?;
        Some((held.waiting, (held.in_flight, held.streams)))
    }

    /// Returns the requests at servers of groups; `None` if it does not follow this commit of the groups yet.
    pub(super) fn busy(
        &self,
        store: &Path,
        revision: u64,
        is_meant: impl Fn(&str, &str) -> bool,
    ) -> Option<(u64, u64)> {
        self.switch(store).filter(|switch| switch.revision >= revision)?;
        let of_them = self.busy.iter().filter(|one| is_meant(&one.group, &one.server));
        Some((of_them.map(|one| one.in_flight).sum(), 0))
    }
}

/// Returns true if a request may have both keys.
fn meet(key: &Key, name: &str) -> bool {
    key.as_str() == name || key.covers(name.as_bytes()) || name.contains('*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use switch::KeyKind;

    fn key(text: &str) -> Key {
        Key::parse(KeyKind::Host, text.as_bytes(), 255).unwrap()
    }

    fn report() -> ServingReport {
        let old = |revisions, keys: Option<&[&str]>, in_flight, streams| OldSide {
            revisions,
            keys: keys.map(|keys| keys.iter().map(ToString::to_string).collect()),
            in_flight,
            streams,
        };
        let holds = vec![HoldReport { id: "h".into(), waiting: 7, in_flight: 2, streams: 1 }];
        let drains = vec![
            old((4, 6), Some(&["a.example", "b.example"]), 3, 1),
            old((8, 8), Some(&["c.example"]), 5, 0),
        ];
        ServingReport {
            process: "p".into(),
            switches: vec![SwitchReport {
                store: "live.db".into(),
                revision: 8,
                uncounted: 3,
                drains,
                holds,
            }],
            busy: vec![BusyServer { group: "blue".into(), server: "10.0.0.1:80".into(), in_flight: 4 }],
        }
    }

    #[test]
    fn an_old_side_is_empty_only_if_the_process_has_said_so() {
        let (report, store) = (report(), Path::new("live.db"));
        assert_eq!(ServingReport::parse(&serde_json::to_vec(&report).unwrap()), Some(report.clone()));
        for (revision, left) in [
            (5, Some((3, 1))),
            (8, Some((5, 0))),
            (7, Some((0, 0))),
            // It has stopped to count, and it does not follow that yet.
            (3, None),
            (9, None),
        ] {
            assert_eq!(report.old_side(store, revision), left, "{revision}");
        }
        assert_eq!(report.old_side(Path::new("other.db"), 7), None);
    }

    #[test]
    fn what_is_left_of_a_key_is_on_the_old_side_of_one_of_its_commits() {
        let (report, store) = (report(), Path::new("live.db"));
        for (asked, revision, left) in [
            ("a.example", 8, Some((3, 1))),
            ("c.example", 8, Some((5, 0))),
            ("*.example", 8, Some((5, 1))),
            ("other.test", 8, None),
            ("a.example", 9, None),
        ] {
            assert_eq!(report.unsettled(store, &[key(asked)], revision), left, "{asked}");
        }
        assert_eq!(report.hold(store, "h"), Some((7, (2, 1))));
        assert_eq!(report.hold(store, "i"), None);
        assert_eq!(
            report.busy(store, 8, |group, server| (group, server) == ("blue", "10.0.0.1:80")),
            Some((4, 0))
        );
        assert_eq!(report.busy(store, 9, |_, _| true), None);
    }

    #[test]
    fn a_process_without_a_report_leaves_the_count_unknown() {
        let mut left = Elsewhere::default();
        left.add(Some((0, 0)));
        assert_eq!(left, Elsewhere::default());
        left.add(None);
        assert!(left.is_unknown);
        left.add(Some((2, 1)));
        assert_eq!(left, Elsewhere { in_flight: 2, streams: 1, is_unknown: true });
    }
}
