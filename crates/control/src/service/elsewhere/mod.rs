//! Requests in other processes with the same state folder: after an upgrade, or a reload that needs another worker, the old
//! process finishes what it has.
//!
//! Owns what each process lets the others know of its requests ([`report`]), the commits of others that have an old side here
//! too ([`followed`]), and the exchange of both ([`exchange`]). A report names the revision that the process follows and what
//! it has left then, so that one that shows an empty old side stays true: no request goes back there. Must never take what is
//! not known for nothing.

mod exchange;
pub(super) mod followed;
pub(super) mod report;

pub(super) use exchange::exchange_reports;
