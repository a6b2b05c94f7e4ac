//! The switch as a thread lives with it: taking tables over, who is where, who waits, who is cut.
//!
//! Owns the thread's answers to the control plane ([`Question`]) and the way of one question to all threads
//! ([`Crossing`]). What a switch means is the engine's, what an order means the control plane's; here nothing is decided
//! about either, and nothing waits for the control plane but the request that has called it.

pub(crate) mod api;
mod crossing;
mod holds;
mod places;
mod publication;
pub(crate) mod roster;

pub(crate) use crossing::{Crossing, Questions};
pub(crate) use holds::{Waiting, await_release};
pub(crate) use places::Places;
pub(crate) use publication::answer;

use engine::Config;
use std::cell::RefCell;

/// The names of all switches this thread has ever had; a name's place is the number by which the roster knows the
/// switch, whatever its place in a configuration.
#[derive(Debug, Default)]
pub(crate) struct Names(RefCell<Vec<Box<str>>>);

impl Names {
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
