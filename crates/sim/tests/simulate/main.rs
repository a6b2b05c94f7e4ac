//! Simulations of the lower floors: peers and their connections, orders and their history, holds, bodies on the wire.
//!
//! Each is one test with a few seeds; `cargo xtask simulate` runs any number of them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod confirmations;
mod holds;
mod orders;
mod peers;
mod servers;
mod wire;
