//! The switch as a thread sees it: new tables, requests in flight on either side, requests that wait, streams that are cut.
//!
//! Owns the thread's answers to the control plane ([`worker_bus::Command`]) and the way of one command to all threads
//! ([`worker_bus::WorkerBus`]). The engine knows what a switch means and the control plane what an order means; nothing
//! here decides about either, and only a request that calls the control plane waits for it.

pub(crate) mod api;
mod cut_evenly;
mod drained_servers;
pub(crate) mod holds;
pub(crate) mod in_flight;
pub(crate) mod in_flight_guard;
pub(crate) mod publish;
pub(crate) mod script_order;
pub(crate) mod switch_ids;
pub(crate) mod waiting;
pub(crate) mod worker_bus;
