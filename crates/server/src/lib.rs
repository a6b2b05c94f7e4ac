//! The server: processes, sockets, threads, and the relay between clients and upstreams.
//!
//! Owns everything that touches the operating system; what a request means is the engine's to say.
//!
//! Reading order: [`process`] (the master and what it asks of the rest), `worker` (a worker process and its threads), `context`
//! (what the requests of a thread share), `downstream` (one client), `request` (one request), `proxy` (one upstream),
//! `switching` (new tables while requests run).

mod context;
mod downstream;
mod proxy;
mod request;
#[cfg(test)]
mod simulation;
mod switching;
mod trace;
mod worker;

pub use engine::modules::core::Identity;
pub use process;
pub use worker::process::Pointsman;
