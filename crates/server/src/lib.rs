//! The server: processes, sockets, threads, and the relay between clients and upstreams.
//!
//! Owns everything that touches the operating system; what a request means is the engine's to say.

pub mod process;
