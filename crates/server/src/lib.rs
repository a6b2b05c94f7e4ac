//! The server: a worker process and its threads, clients' connections, and the relay to upstreams.
//!
//! Owns the async code of the traffic; the engine decides what a request means, and the crates `process` and `transport`
//! hold the rest of the operating system.
//!
//! Reading order: `worker` (a worker process and its threads), `context` (what the requests of a thread share), `downstream`
//! (one client), `request` (one request), `proxy` (one upstream), `script_sockets` (what scripts connect to), `switching` (new tables while requests run), `trace`.

mod context;
mod downstream;
mod proxy;
mod request;
mod script_sockets;
#[cfg(test)]
mod simulation;
mod switching;
mod trace;
mod worker;

pub use engine::modules::core::Identity;
pub use process;
pub use worker::process::Pointsman;
