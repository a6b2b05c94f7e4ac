//! Hostile bytes: tables of malformed and ambiguous messages, put to a server between a client and an origin that both
//! write down every byte.
//!
//! Owns the table format (`cases/hostile/README.md`), the record of the origin, and the judgement whether all three saw
//! the same messages. It must never share code with the server it judges: messages are read by `message`, which is
//! strict and built on `httparse`.

mod exchange;
mod judge;
mod mutant;
pub mod page;
pub mod random;
mod recorder;
mod server;
mod table;

pub use crate::answers::Answer;
pub use crate::message::{Request, Response};
pub use exchange::{End, Exchange, Haste};
pub use judge::{HostileOutcome, faults};
pub use recorder::{OriginRecord, RecordingOrigin};
pub use server::{HostileServer, Mode, NamedProgram, Program, play_all};
pub use table::{Expected, ExpectedAnswer, Family, Hostile, load};

/// The request that asks whether a connection still means what it says: sent where a connection is left open.
pub const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n";
