//! The switch as a value: the table of keys, orders and their plans, refusals, history, and what a store must promise.
//!
//! Owns: what a switch means and when it is refused.
//! Must never: open a file, read a clock, or know who serves the traffic.
