//! What was measured: counters and histograms of every upstream group, server and switch key, windows over them, and
//! how they are shown.
//!
//! Owns: the numbers and what they are called. Must never: read a clock, or cost a request more than some nanoseconds.
//!
//! 1. Each thread has a [`Recorder`] for each generation of the configuration, numbered by the generation's [`Layout`].
//! 2. About once a second, and when somebody reads, a thread hands it to the process' [`Collector`], which keeps
//!    totals and windows by name.
//! 3. A [`Summary`] of the collector is shown by [`render`], or compared with [`compare::compare`].

mod collector;
pub mod compare;
mod counters;
mod histogram;
mod layout;
mod recorder;
pub mod render;
mod series;
mod slot;
mod snapshot;
mod summary;
#[cfg(test)]
mod testing;
mod window;

pub use collector::Collector;
pub use counters::{CLASSES, Counters, Failure, RequestEnd, TryEnd};
pub use histogram::Histogram;
pub use layout::{GroupLayout, Layout, OTHER};
pub use recorder::Recorder;
pub use snapshot::{Connections, PeerNow, PeerState, Snapshot, SwitchNow};
pub use summary::{GroupSummary, KeySummary, PeerSummary, Summary, SwitchSummary, TargetSummary};
pub use window::Window;
