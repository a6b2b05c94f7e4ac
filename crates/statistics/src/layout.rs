//! The groups, peers and switches of a configuration, and the index under which each is recorded.
//!
//! Owns: the names of one generation as it begins; a [`crate::Recorder`] is given those that come at run time. Must never: know
//! what was measured.

use std::sync::Arc;

/// The name of everything without one of its own: addresses made at run time, and keys beyond the bound.
pub const OTHER: &str = "other";

/// The names of one generation, in the order of its configuration. Recorders and the collector use its indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The upstream groups. Every index beyond is one more, called [`OTHER`], for addresses made at run time.
    pub groups: Vec<GroupLayout>,
    /// The switches, by the names of their variables (without `$`).
    pub switches: Vec<Arc<str>>,
    /// The number of switch keys that are counted each by itself, all switches together; the rest count as one more.
    pub max_keys: usize,
}

/// One upstream group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupLayout {
    /// As in the configuration.
    pub name: Arc<str>,
    /// The labels of its servers. Any index beyond the end is the peer called [`OTHER`].
    pub peers: Vec<Arc<str>>,
}

impl Layout {
    /// The index of the group for addresses that belong to no group, however many groups there are.
    pub const OTHER_GROUP: usize = usize::MAX;
}
