//! A worker process and its threads: starting them, leading them through reloads, ending them.

mod acme;
mod cache_keeper;
mod candidate;
mod generation_builder;
mod housekeeping;
mod lua_timers;
mod memory;
pub(crate) mod message;
pub(crate) mod panics;
mod participant;
pub(crate) mod process;
mod reload;
pub(crate) mod reload_requests;
mod requirements;
mod stapling;
mod system_names;
mod thread;
