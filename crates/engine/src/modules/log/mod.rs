//! `access_log`, `log_format` and `error_log`: which lines are written about a request, and where they go.
//!
//! Owns the settings and the access line's making; the words of error lines are [`crate::log_line`]'s. It must never
//! write to a file: finished lines go to the host.

mod directives;
mod format;
mod json;

pub use format::{Escaping, LogFormat};

use super::{Module, static_files};
use crate::config::LogId;
use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::phase::{Phase, Verdict};
use crate::setting::settings;
use crate::template::Template;
use std::path::PathBuf;
use std::sync::Arc;

/// The destination of log lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogTarget {
    /// To this file, an absolute path.
    File(PathBuf),
    /// To standard error (`error_log stderr`).
    Stderr,
    /// To the error log of the command line (`-e`), which is `logs/error.log` under the prefix if it says nothing.
    CommandLine,
}

/// The memory in which lines wait for company before they are written (`access_log … buffer=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBuffer {
    /// Its size in bytes.
    pub size: u64,
    /// The longest time that a line may wait, in ms; with 0 it waits until the buffer is full.
    pub flush_ms: u64,
}

/// One log destination of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The destination.
    pub target: LogTarget,
    /// The buffer for its lines; `None` writes each at once.
    pub buffer: Option<LogBuffer>,
}

/// The file of one `access_log`.
#[derive(Clone, Debug)]
pub enum AccessTarget {
    /// The same for every request.
    Fixed(LogId),
    /// A path with variables in it; absolute, or relative to the prefix.
    PerRequest(Template),
}

/// One `access_log`.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// The destination of its lines.
    pub target: AccessTarget,
    /// The format of its lines.
    pub format: Arc<LogFormat>,
    /// `if=`: no line when this is empty or `0`.
    pub condition: Option<Template>,
}

/// The access logs of one level.
#[derive(Clone, Debug, Default)]
pub struct AccessLogs {
    /// `access_log off`: none, whatever else the level says.
    pub off: bool,
    /// All of them.
    pub logs: Vec<AccessLog>,
}

settings! {
    /// Settings of one level.
    pub struct LogSettings {
        /// Access logs.
        pub access: AccessLogs = AccessLogs::default(),
        /// Error logs, each with the least severe level it takes.
        pub errors: Vec<(LogId, Level)> = Vec::new(),
    }
}

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::Log, handle)],
    finish: Some(directives::finish),
    is_needed: Some(|_, settings| !settings.log.access.off && !settings.log.access.logs.is_empty()),
    ..Module::new("log", &[directives::DIRECTIVES])
};

/// A line longer than this was an exception: its memory is given back.
const KEPT_BYTES: usize = 16 << 10;

fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    access(exchange, env);
    Verdict::Next
}

/// Writes the request's lines to all access logs that want them.
pub fn access(exchange: &mut Exchange, env: &mut Env<'_>) {
    let config = env.config;
    let access = &*exchange.settings(config).log.access;
    if access.off {
        return;
    }
    let mut line = std::mem::take(&mut exchange.scratch);
    for log in &access.logs {
        line.clear();
        if let Some(condition) = &log.condition {
            condition.append(exchange, env, &mut line);
            if line.is_empty() || line == b"0" {
                continue;
            }
            line.clear();
        }
        log.format.append(exchange, env, &mut line);
        line.push(b'\n');
        match &log.target {
            AccessTarget::Fixed(id) => env.host.access_log(config, *id, &line),
            AccessTarget::PerRequest(path) => write_at(exchange, env, path, &line),
        }
    }
    line.clear();
    line.shrink_to(KEPT_BYTES);
    exchange.scratch = line;
}

/// ngx_http_log_script_write. Without the location's root there is no line: clients choose what the variables hold,
/// and must not be able to create files for hosts that no server serves.
fn write_at(exchange: &mut Exchange, env: &mut Env<'_>, path: &Template, line: &[u8]) {
    let mut full = Vec::new();
    if static_files::append_root(exchange, env, &mut full).is_err() {
        return;
    }
    let root = static_files::path::open(exchange, env, &full, true);
    let errno = match root {
        Ok(root) if root.is_dir => None,
        Ok(_) => Some(ENOTDIR),
        Err(fault) => Some(fault.errno),
    };
    if errno.is_some() {
        let words = ("testing \"", &full[..], "\" existence failed");
        return static_files::path::log_path(exchange, env, Level::Error, words, errno);
    }
    full.clear();
    if static_files::confine::append(path, exchange, env, &mut full).is_err() {
        return;
    }
    if full.first() != Some(&b'/') {
        let prefix = env.config.prefix.as_os_str().as_encoded_bytes();
        let slash = (!prefix.ends_with(b"/")).then_some(b'/');
        full.splice(..0, prefix.iter().copied().chain(slash));
    }
    if let Err(fault) = env.host.access_log_at(&full, line) {
        static_files::path::log_failure(exchange, env, Level::Crit, &full, fault);
    }
}

/// "Not a directory", the same number on every Unix.
const ENOTDIR: i32 = 20;

#[cfg(test)]
mod tests;
