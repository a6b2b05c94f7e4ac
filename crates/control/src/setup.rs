//! The parts that the control plane needs to start.
//!
//! Owns: the arguments of [`crate::ControlHandle::start`]. Must never: open anything.

use crate::data_plane::DataPlane;
use crate::service::{FileDefault, WindowTimes};
use engine::Config;
use engine::host::Level;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

/// Writes a line to the error log.
pub type Log = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// The arguments of [`crate::ControlHandle::start`].
pub struct Setup {
    /// The configuration; the folders of its stores exist.
    pub config: Arc<Config>,
    /// The control socket, bound and listening, unless it is off.
    pub listener: Option<UnixListener>,
    /// The process whose connections to the control socket are refused: the one that serves traffic, through which others would
    /// come in under its name.
    pub refused_peer: Option<u32>,
    /// The data plane.
    pub data_plane: Arc<dyn DataPlane>,
    /// The monotonic clock of holds and statistics, in milliseconds: the same that the server gives to [`switch::Hold::admit`], [`switch::Ticket::poll`] and [`statistics::Collector`].
    pub clock_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// The error log.
    pub log: Log,
    /// Whether the process takes over from another program, in a binary upgrade.
    pub upgrades: bool,
    /// An action on defaults that the configuration has changed.
    pub file_default: FileDefault,
    /// The times of what follows the end of a confirmation's window.
    pub window_times: WindowTimes,
}
