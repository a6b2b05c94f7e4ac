//! What a look at a place finds.

use engine::modules::upstream::FoundServer;
use std::time::Duration;

/// The outcome of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LookedUp {
    /// Servers, all of them.
    Found(FoundServers),
    /// The same as at the last good look.
    Still,
    /// Nothing that was not known: what was broken is broken.
    Nothing,
    /// Nothing can be said, and why.
    Failed(String),
}

/// The servers of a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FoundServers {
    /// They.
    pub(crate) servers: Vec<FoundServer>,
    /// For how long that holds, if the place says so.
    pub(crate) holds: Option<Duration>,
    /// A part that could not be looked up, of which the last good answer is in it; or that there is no such place.
    pub(crate) lacks: Option<String>,
}
