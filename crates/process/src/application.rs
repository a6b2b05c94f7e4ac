//! The rest of the program, as the processes see it.
//!
//! Owns the interface between them: loading a configuration and serving it. Must never know a directive's meaning.

use crate::log::Level;
use crate::master_link::WorkerInit;
use crate::requirements::Requirements;
use crate::source::Source;

/// A program that loads configurations and serves them.
///
/// A clone must be as good as the original. It must hold neither a thread nor a descriptor, because processes are
/// forked off with what is in memory.
pub trait Application: Clone + 'static {
    /// A configuration that can be served.
    type Config;

    /// Reads and checks a configuration.
    ///
    /// Runs in the master, which must not start a thread, and again in the worker process on recorded bytes when the
    /// configuration is reloaded.
    fn load(&self, source: &Source, loader: &dyn conf::Loader) -> Loaded<Self::Config>;

    /// Serves until it is stopped, and returns the exit code of the worker process: 0 after a stop, 2 when it must not be
    /// started again (as nginx's workers do).
    ///
    /// Calls [`crate::Reporter::ready`] once it can take connections, and then follows [`crate::MasterLink::next`].
    fn work(&self, config: Self::Config, init: WorkerInit) -> i32;
}

/// The result of loading a configuration.
#[derive(Debug)]
pub struct Loaded<C> {
    /// Errors and warnings, in the order of the text.
    pub findings: Vec<Finding>,
    /// The configuration, unless a finding forbids it.
    pub outcome: Option<(Requirements, C)>,
}

/// An error or a warning in a configuration, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// [`Level::Emerg`] for an error, [`Level::Warn`] for a warning.
    pub level: Level,
    /// nginx's line: `unknown directive "x" in /etc/nginx/nginx.conf:7`.
    pub line: String,
    /// The same for people, over several lines: file, line, column, the line itself and help. Empty if there is nothing
    /// to add.
    pub picture: String,
}
