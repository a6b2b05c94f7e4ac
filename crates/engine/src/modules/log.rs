//! `log_format`, `access_log`, `error_log`.

use super::Module;
use crate::exchange::Exchange;
use crate::host::Env;

/// A `log_format`.
#[derive(Clone, Debug, Default)]
pub struct LogFormat {
    /// Its name.
    pub name: String,
}

/// What is set at one level.
#[derive(Clone, Debug, Default)]
pub struct Settings {}

impl Settings {
    /// Takes what this level does not say from the one around it.
    pub fn inherit(&mut self, _outer: &Settings) {}
}

/// The module.
pub static MODULE: Module = Module::new("log", &[]);

/// Writes the request's lines to all access logs that want them. The server calls it when the answer is sent.
pub fn access(_exchange: &mut Exchange, _env: &mut Env<'_>) {}
