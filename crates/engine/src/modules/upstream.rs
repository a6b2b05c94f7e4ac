//! `upstream {}`: groups of servers.

use super::Module;
use std::sync::Arc;
use upstream::GroupSpec;

/// A group of the configuration.
#[derive(Clone, Debug)]
pub struct GroupEntry {
    /// The group.
    pub spec: Arc<GroupSpec>,
}

/// The module.
pub static MODULE: Module = Module::new("upstream", &[]);
