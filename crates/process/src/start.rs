//! What a start hands to the process that continues: the master, or the single process.
//!
//! Owns the list alone. Must never act.

use crate::application::Application;
use crate::daemon::Handshake;
use crate::handover::Orphan;
use crate::log::LogFiles;
use crate::process_log::ProcessLog;
use crate::resources::Resources;
use crate::source::Source;
use crate::upgrade::StartCommand;
use nix::unistd::Pid;
use std::sync::Arc;

/// Everything that a server starts with.
pub(crate) struct Start<A: Application> {
    pub(crate) app: A,
    pub(crate) source: Source,
    pub(crate) config: A::Config,
    pub(crate) resources: Resources,
    pub(crate) logs: Arc<LogFiles>,
    pub(crate) log: ProcessLog,
    pub(crate) handshake: Option<Handshake>,
    /// The command that started this process.
    pub(crate) program: StartCommand,
    /// The master that started it for a binary upgrade.
    pub(crate) predecessor: Option<Pid>,
    /// The worker process of a dead master, which serves until this one does.
    pub(crate) orphan: Option<Orphan>,
}
