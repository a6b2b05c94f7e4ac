//! LuaJIT inside pointsman: the machine, its scripts and the `ngx.*` API.
//!
//! The only crate that sees LuaJIT. It opens no socket, starts no thread and reads no clock; files are read only by
//! `require`, and by what scripts themselves open. A script that fails, runs for too long or wants too much memory
//! ends its own request and nothing else; a C function of Lua's that panics ends the process.
#![allow(unsafe_code)] // LuaJIT and PCRE2 are C; each block states why it is sound

pub mod api;
pub mod codec;
pub mod machine;
pub mod phase;
pub mod re;
pub mod shdict;
pub mod vm;

pub use vm::{Dicts, Vm, VmOptions};
