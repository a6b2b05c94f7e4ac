//! Counts instructions of the pieces that every request goes through, one file in `benches/` for each crate.
//!
//! `cargo xtask counts` runs them under callgrind (through gungraun) and compares what they count with
//! `bench/counts.json`. They are a crate of their own, so that testing a crate does not build gungraun. Nothing
//! else may use it, and it owns nothing.
