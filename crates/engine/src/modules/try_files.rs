//! `try_files`.

use super::Module;

/// What is set at one level; not inherited but by `if` blocks.
#[derive(Clone, Debug, Default)]
pub struct Settings {}

impl Settings {
    /// For `if` blocks: what holds for the location holds for the block in it.
    pub fn inherit(&mut self, _outer: &Settings) {}
}

/// The module.
pub static MODULE: Module = Module::new("try_files", &[]);
