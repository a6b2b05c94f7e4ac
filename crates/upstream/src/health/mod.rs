//! Active health: what checks have found out about servers, as the picks see it.
//!
//! Owns: the state machine of a check, and the entries that all threads share. Must never: ask a server or read a clock;
//! the caller brings each result and its time.

mod check;
mod table;

pub use check::{CheckProgress, CheckRules, Health, Mandatory};
pub use table::{CheckView, GroupHealth, HealthChange, HealthTable, LastCheck, ServerHealth, ServerView};
