//! The numbers by which a thread knows its switches: they outlive reloads.

use engine::Config;
use std::cell::RefCell;

/// The names of all switches this thread has ever had; a name's position is the number of the switch,
/// whatever its position in a configuration.
#[derive(Debug, Default)]
pub(crate) struct SwitchIds(RefCell<Vec<Box<str>>>);

impl SwitchIds {
    /// The numbers of a configuration's switches, in its order.
    pub(crate) fn numbers(&self, config: &Config) -> Box<[u32]> {
        config.switches.iter().map(|spec| self.number(&spec.rules.name)).collect()
    }

    fn number(&self, name: &str) -> u32 {
        let mut names = self.0.borrow_mut();
        let known = names.iter().position(|known| **known == *name);
        known.unwrap_or_else(|| {
            names.push(name.into());
            names.len() - 1
        }) as u32
    }
}
