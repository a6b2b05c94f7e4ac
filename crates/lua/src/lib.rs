//! LuaJIT inside pointsman: the machine, its scripts and the `ngx.*` API.
//!
//! The only crate that sees LuaJIT. It opens no socket, starts no thread and reads no clock; files are read only by
//! `require`, and by scripts that open them themselves. A script that fails, runs for too long or wants too much memory
//! ends its own request and nothing else; a C function of Lua's that panics ends the process.
#![allow(unsafe_code)] // LuaJIT and PCRE2 are C; each block states why it is sound

mod api;
mod codec;
mod machine;
mod phase;
mod re;
mod semaphore;
mod shdict;
mod socket;
mod vm;

use std::sync::Arc;

use engine::{Config, Host};

pub use api::AREAS;
pub use machine::{Area, Function, Watchdog};
pub use phase::{PHASES, Phase, Phases};
pub use vm::{Dicts, Vm, VmOptions};

/// Opens the Lua of a configuration on one thread, with the whole `ngx.*` API; runs nothing. Scripts that do not
/// compile answer 500 when a request needs them, as in ngx_lua; [`Vm::faults`] names them at once.
///
/// # Errors
/// Fails if no machine can be had; the text is for the log.
pub fn open(
    config: &Arc<Config>,
    dicts: &Dicts,
    options: VmOptions,
    host: &mut dyn Host,
) -> Result<Vm, String> {
    Vm::new(config, dicts, &api::AREAS, options, host)
}
