//! Asks servers whether they are well, for gates and for health checks, on a thread of its own.
//!
//! Owns: the asking of one server (plain or over TLS), the bounds on how many are asked at once and how often, and the turns
//! of the checks. Must never: decide what a result means for an order or for traffic; results of checks go into the entries
//! of [`upstream::health`], which judge them, and those of gates back to the asker.
//!
//! Start reading at [`Prober`]; `ask.rs` asks one server, over HTTP/2 with `http2.rs`, `checks.rs` has the turns.

mod ask;
mod checks;
mod fault;
mod http2;
mod judge;
mod prober;
mod schedule;
mod shared;

#[cfg(test)]
mod http2_tests;
#[cfg(test)]
mod tests;

pub use ask::{ProbeAnswer, ProbeRequest};
pub use prober::Prober;
pub use shared::{HealthReport, Observer};
