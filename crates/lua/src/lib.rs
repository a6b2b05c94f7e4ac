//! LuaJIT inside pointsman: the machine, its scripts and the `ngx.*` API.
//!
//! The only crate that sees LuaJIT. It opens no socket, starts no thread and reads no clock; files are read only by
//! `require`, `*_by_lua_file` and what scripts themselves open.
#![allow(unsafe_code)] // LuaJIT is C; each block states why it is sound

pub mod codec;
pub mod shdict;
