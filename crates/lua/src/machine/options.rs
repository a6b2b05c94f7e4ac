//! The settings of a machine.

use std::rc::Rc;
use std::sync::Arc;

use super::area::Area;
use super::bridge::World;
use crate::shdict::DictZone;

/// The settings a machine is opened with.
pub(crate) struct MachineOptions {
    /// `lua_package_path`; `;;` is the default, `$prefix` for `prefix`.
    pub(crate) package_path: Option<Vec<u8>>,
    /// `lua_package_cpath`, likewise.
    pub(crate) package_cpath: Option<Vec<u8>>,
    /// The server's prefix, with its slash.
    pub(crate) prefix: Vec<u8>,
    /// The most memory scripts may hold, in bytes.
    pub(crate) memory_limit_bytes: Option<usize>,
    /// The shared dicts, in any order.
    pub(crate) zones: Vec<Arc<DictZone>>,
    /// For each of them the switch that it is the face of, by its number in the configuration.
    pub(crate) faces: Vec<Option<u32>>,
    /// `lua_regex_cache_max_entries`; nginx's default is 1024.
    pub(crate) regex_cache_entries: u32,
    /// `lua_regex_match_limit`; 0 for PCRE2's own.
    pub(crate) regex_match_limit: u32,
    /// Whether a global that a request makes is visible to that request alone; otherwise all requests share it, as in
    /// OpenResty. The warning is logged either way.
    pub(crate) private_globals: bool,
    /// The thread that the machine belongs to.
    pub(crate) worker: WorkerIdentity,
    /// The API.
    pub(crate) areas: &'static [&'static Area],
    /// Time and the log.
    pub(crate) world: Rc<dyn World>,
}

/// The values of `ngx.worker`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct WorkerIdentity {
    /// The number of the thread, from 0.
    pub(crate) id: u32,
    /// The number of threads.
    pub(crate) count: u32,
    /// The process's number.
    pub(crate) pid: u32,
}
