//! The server: processes, sockets, threads, and the relay between clients and upstreams.
//!
//! Owns everything that touches the operating system; what a request means is the engine's to say.
//!
//! Reading order: [`process`] (the master and what it asks of the rest), `application` (a worker process), `threads`
//! and `worker` (a thread), `connection` (one client), `proxy` (one upstream), `switching` (tables taken over while requests run),
//! `recording` (what is measured).

mod application;
mod body;
mod buffers;
mod client;
mod clock;
mod connection;
mod counters;
mod deadlines;
mod demands;
mod effects;
mod files;
mod generation;
mod host;
mod idle;
mod input;
mod listeners;
mod logs;
mod memory;
mod names;
mod panics;
mod parking;
mod patience;
pub mod process;
mod proxy;
mod recording;
mod registry;
mod reloads;
mod request_body;
mod resolver;
mod respond;
#[cfg(test)]
mod simulation;
mod stream;
mod switching;
mod threads;
mod timers;
mod worker;

pub use application::Pointsman;
pub use engine::modules::core::Identity;
