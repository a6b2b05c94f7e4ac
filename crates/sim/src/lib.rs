//! Simulation by seed: the product's own code in a world where time, chance and faults come out of one number.
//!
//! Owns: the numbers of a seed ([`Seeded`]), what is checked ([`holds!`]), what is told ([`tell!`]), and the walk
//! through many seeds ([`explore`]). The worlds themselves stand where the code is that they hold: the lower floors'
//! in this crate's `tests/`, the others in a module `simulation` of their crate.
//! Must never: be part of the product, read a clock that a world could see, or draw a number that the seed does not give.
//!
//! A seed that breaks an invariant is one command: `cargo xtask simulate --scenario NAME --seed N --trace`.

mod explore;
mod record;
mod seeded;

pub use explore::{Scenario, explore};
pub use record::{begin_checks, is_telling, note, tell, violated};
pub use seeded::Seeded;

/// Checks an invariant by its name. What follows the condition is the text for whoever must mend it.
#[macro_export]
macro_rules! holds {
    ($name:expr, $condition:expr, $($text:tt)+) => {{
        $crate::note($name);
        let holds: bool = $condition;
        if !holds {
            $crate::violated($name, format!($($text)+));
        }
    }};
}

/// Tells what happens, if somebody listens (`--trace`). Costs a look at a flag otherwise.
#[macro_export]
macro_rules! tell {
    ($($text:tt)+) => {
        if $crate::is_telling() {
            $crate::tell(format!($($text)+));
        }
    };
}
