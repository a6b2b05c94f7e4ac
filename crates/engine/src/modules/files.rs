//! Files: `root`, `alias`, `index`, types, conditional requests, ranges.

use super::Module;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::Verdict;

/// What is set at one level.
#[derive(Clone, Debug, Default)]
pub struct Settings {}

impl Settings {
    /// Takes what this level does not say from the one around it.
    pub fn inherit(&mut self, _outer: &Settings) {}
}

/// The module.
pub static MODULE: Module = Module::new("files", &[]);

/// No handler served the request.
pub fn nothing_served(_exchange: &mut Exchange, _env: &mut Env<'_>) -> Verdict {
    Verdict::Refuse(404)
}

/// Gives the answer the type that `types` and `default_type` have for the URI.
pub fn set_content_type(_exchange: &mut Exchange, _env: &mut Env<'_>) {}
