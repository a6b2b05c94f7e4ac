//! The fault matrix: what a client gets, and what becomes of its server, when an upstream breaks in each way at each
//! stage of a request.
//!
//! Owns the table of faults, stages and clients, the broken servers, and the principles from which the expectation of
//! every cell follows (`expect`). It must never know how the proxy under test does it.

mod bytes;
mod conf;
mod document;
mod expect;
mod got;
mod http2;
mod names;
mod requests;
mod run;
mod scene;
mod script;
mod servers;
mod table;

pub use bytes::{EachByte, run_each_byte};
pub use document::{difference, document, matrix};
pub use expect::{Answer, CellOutcome};
pub use run::{Seen, run};
pub use table::{Cell, Client, Fault, Framing, Row, Stage, cells, rows};
