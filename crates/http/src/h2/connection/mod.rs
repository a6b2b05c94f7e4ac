//! A connection of either side: which frames may come now, what they mean, and what answers them.
//!
//! [`H2Connection`] takes bytes and says what has happened, a frame at a time; what it has to say itself (SETTINGS, PING,
//! RST_STREAM, WINDOW_UPDATE, GOAWAY) gathers in [`H2Connection::control`]. The caller sends that, and what
//! [`H2Connection::write_head`] and [`H2Connection::write_data`] frame.

mod faults;
mod header_block;
mod receive;
mod received;
mod response_block;
mod send;
mod state;
mod streams;

pub use received::{HeadSlot, ReadContext, ReceiveStep, Received};
pub use state::H2Connection;

#[cfg(test)]
mod tests;
