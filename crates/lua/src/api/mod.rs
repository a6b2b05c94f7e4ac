//! The `ngx.*` API: one area per file, one table entry per function.
//!
//! An area is a Lua source (`lua/<area>.lua`) over functions written in Rust, and a table that says of each function
//! in which phases it is allowed. The Lua side asks for that set by the function's name, so the table is the only
//! place that has it; the reference in `docs/` is made from it too.
//!
//! Hot functions are called through LuaJIT's FFI from a struct of function pointers, so that compiled traces call
//! them directly; those that need the Lua stack are C functions. Neither keeps a reference to a Lua value.

mod absent;
mod balancer;
mod base;
mod body;
mod codec;
mod console;
mod constants;
mod control;
mod multi_value;
mod output;
mod regex;
mod request;
mod response;
mod resty;
mod semaphore;
mod shared;
mod socket;
mod ssl;
mod subrequest;
mod switch;
mod thread;
mod time;
mod timer;
mod upstream;
mod variable;

use crate::machine::Area;

/// Every area, in the order in which they are loaded.
pub static AREAS: [&Area; 25] = [
    &constants::AREA,
    &base::AREA,
    &codec::AREA,
    &time::AREA,
    &shared::AREA,
    &switch::AREA,
    &regex::AREA,
    &console::AREA,
    &variable::AREA,
    &response::AREA,
    &request::AREA,
    &body::AREA,
    &output::AREA,
    &control::AREA,
    &thread::AREA,
    &subrequest::AREA,
    &socket::AREA,
    &socket::udp::AREA,
    &timer::AREA,
    &semaphore::AREA,
    &balancer::AREA,
    &upstream::AREA,
    &ssl::AREA,
    &absent::AREA,
    &resty::AREA,
];

#[cfg(test)]
mod tests;
