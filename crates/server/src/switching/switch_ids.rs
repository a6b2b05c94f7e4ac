//! The numbers by which a thread knows its switches: they outlive reloads.

use engine::Config;
use std::cell::RefCell;

/// The names of all switches this thread has ever had; a name's position is the number of the switch,
/// whatever its position in a configuration.
#[derive(Debug, Default)]
pub(crate) struct SwitchIds(RefCell<Vec<Box<str>>>);

impl SwitchIds {
    /// Returns the numbers of a configuration's switches, in its order. One that has another name than before (`from=`) keeps
    /// its number: requests from before are its own.
    pub(crate) fn numbers(&self, config: &Config) -> Box<[u32]> {
        for spec in &config.switches {
            if let Some(from) = &spec.from {
                self.rename(from, &spec.rules.name);
            }
        }
        config.switches.iter().map(|spec| self.number(&spec.rules.name)).collect()
    }

    fn rename(&self, from: &str, to: &str) {
        let mut names = self.0.borrow_mut();
        if names.iter().all(|known| **known != *to)
            && let Some(known) = names.iter_mut().find(|known| ***known == *from)
        {
            *known = to.into();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_switch_keeps_its_number_and_gives_its_name_free() {
        let ids = SwitchIds::default();
        assert_eq!([ids.number("live"), ids.number("edge")], [0, 1]);
        ids.rename("live", "next");
        assert_eq!([ids.number("next"), ids.number("edge"), ids.number("live")], [0, 1, 2]);
        // The line is read again with each reload.
        ids.rename("live", "next");
        assert_eq!([ids.number("next"), ids.number("live")], [0, 2]);
    }
}
