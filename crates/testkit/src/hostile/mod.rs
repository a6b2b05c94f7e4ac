//! Hostile bytes: tables of malformed and ambiguous messages, put to a server between a client and an origin that both
//! write down every byte.
//!
//! Owns the table format (`cases/hostile/README.md`), the origin, the client, and the judgement whether all three saw
//! the same messages. It must never share code with the server it judges: messages are read by [`reader`], which is
//! strict and built on `httparse`.

mod client;
mod ground;
mod judge;
mod origin;
pub mod reader;
mod table;

pub use client::{Answer, End, Exchange, Haste};
pub use ground::{Ground, Mode, Program, play_all};
pub use judge::{Outcome, faults};
pub use origin::{Record, RecordingOrigin};
pub use table::{Expected, ExpectedAnswer, Family, Hostile, load};

/// The request that asks whether a connection still means what it says: sent where a connection is left open.
pub const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n";
