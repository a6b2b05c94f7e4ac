//! What the control plane needs to start.
//!
//! Owns: the arguments of [`crate::Office::start`]. Must never: open anything.

use crate::traffic::Traffic;
use engine::Config;
use engine::host::Level;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

/// Where lines for the error log go.
pub type Log = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// The arguments of [`crate::Office::start`].
pub struct Setup {
    /// The configuration; the folders of its stores exist.
    pub config: Arc<Config>,
    /// The control socket, bound and listening, unless it is off.
    pub listener: Option<UnixListener>,
    /// Whoever serves the requests.
    pub traffic: Arc<dyn Traffic>,
    /// The clock by which held requests wait and what was measured is kept, in milliseconds: the one whose time the
    /// server gives to [`switch::Hold::admit`], [`switch::Ticket::poll`] and [`statistics::Collector`].
    pub clock_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// The error log.
    pub log: Log,
}
