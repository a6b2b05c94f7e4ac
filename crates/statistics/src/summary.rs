//! The statistics as they are read.
//!
//! Owns: the shape that renderers and the control plane read. Must never: be changed after it was made.

use std::sync::Arc;

use crate::counters::Counters;
use crate::window::Window;

/// Everything known at one moment: totals since the process began, and one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The window that was asked for.
    pub window: Window,
    /// How much time the window covers: its length and up to a slot more, less while the process is younger.
    pub span_ms: u64,
    /// How long statistics have been collected.
    pub age_ms: u64,
    /// All requests to all groups since then, removed groups included.
    pub all: Counters,
    /// In the order of the configuration, then those removed from it (by name), then [`crate::OTHER`] if it was used.
    pub groups: Vec<GroupSummary>,
    /// In the order of the configuration, then those removed from it.
    pub switches: Vec<SwitchSummary>,
}

/// One upstream group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSummary {
    /// Its name.
    pub name: Arc<str>,
    /// Whether the present configuration has it.
    pub configured: bool,
    /// Requests that have begun and not ended.
    pub in_flight: u64,
    /// Requests since the beginning.
    pub totals: Counters,
    /// Requests in the window.
    pub window: Counters,
    /// Tries since the beginning, all servers together, removed ones included.
    pub tries_totals: Counters,
    /// Tries in the window, all servers together.
    pub tries_window: Counters,
    /// In the order of the configuration, then those removed from it, then [`crate::OTHER`] if it was used.
    pub peers: Vec<PeerSummary>,
}

/// One server of a group. Its counters count tries.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerSummary {
    /// Its label.
    pub name: Arc<str>,
    /// Whether the present configuration has it.
    pub configured: bool,
    /// Tries that have begun and not ended.
    pub in_flight: u64,
    /// Since the beginning.
    pub totals: Counters,
    /// In the window.
    pub window: Counters,
}

/// One switch. Its counters count requests.
#[derive(Debug, Clone, PartialEq)]
pub struct SwitchSummary {
    /// The name of its variable.
    pub name: Arc<str>,
    /// Whether the present configuration has it.
    pub configured: bool,
    /// All requests that the switch decided on, by target, keys that are forgotten included.
    pub targets: Vec<TargetSummary>,
    /// By key and target: the keys in use, and last those that are not counted by themselves.
    pub keys: Vec<KeySummary>,
}

/// The requests that a switch sent to one target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetSummary {
    /// The target's name.
    pub target: Arc<str>,
    /// Since the beginning.
    pub totals: Counters,
    /// In the window.
    pub window: Counters,
}

/// The requests that a switch sent to one target for one key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeySummary {
    /// The key as the table normalises it; `None` for all that are not counted by themselves.
    pub key: Option<Box<[u8]>>,
    /// The target's name.
    pub target: Arc<str>,
    /// Since the key came into use.
    pub totals: Counters,
    /// In the window.
    pub window: Counters,
}

impl Summary {
    /// Returns the group of that name.
    pub fn group(&self, name: &str) -> Option<&GroupSummary> {
        self.groups.iter().find(|group| &*group.name == name)
    }

    /// Returns the rate per second of something that was counted `count` times in the window.
    pub fn per_second(&self, count: u64) -> f64 {
        if self.span_ms == 0 { 0.0 } else { count as f64 * 1_000.0 / self.span_ms as f64 }
    }
}
