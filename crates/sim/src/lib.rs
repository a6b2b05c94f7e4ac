//! Deterministic simulation: the product's own code with time, randomness and faults from one seed.
//!
//! Owns the random numbers of a seed ([`Seeded`]), invariants ([`holds!`]), the trace ([`tell!`]), and runs with many
//! seeds ([`explore`]). The simulations themselves are beside the code that they run: those of the lower floors in this
//! crate's `tests/`, the others in a module `simulation` of their crate. It is no part of the product, reads no clock that
//! a simulation could see, and draws no number that the seed does not give.
//!
//! A seed that violates an invariant is run again by `cargo xtask simulate --scenario NAME --seed N --trace`.

mod explore;
mod record;
mod seeded;

pub use explore::{Scenario, explore};
pub use record::{begin_checks, is_telling, note, tell, violated};
pub use seeded::Seeded;

/// Checks an invariant by its name. The condition is followed by the text of the violation.
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

/// Adds an event to the trace if there is one (`--trace`). Otherwise it only checks a flag.
#[macro_export]
macro_rules! tell {
    ($($text:tt)+) => {
        if $crate::is_telling() {
            $crate::tell(format!($($text)+));
        }
    };
}
