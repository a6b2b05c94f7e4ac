//! `proxy_pass` and its kin.

use super::Module;

/// What is set at one level.
#[derive(Clone, Debug, Default)]
pub struct Settings {}

impl Settings {
    /// Takes what this level does not say from the one around it.
    pub fn inherit(&mut self, _outer: &Settings) {}
    /// For `if` blocks: what serves the location serves the block in it.
    pub fn inherit_target(&mut self, _outer: &Settings) {}
}

/// The module.
pub static MODULE: Module = Module::new("proxy", &[]);
