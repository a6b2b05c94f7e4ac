//! `map`, `geo` and `split_clients`: variables that are worked out from others.

use super::Module;
use crate::exchange::Exchange;
use crate::host::Env;

/// What one of these directives defines.
#[derive(Clone, Debug)]
pub struct Computed;

impl Computed {
    /// Is the value worked out anew each time (`map { volatile; }`)?
    pub fn is_volatile(&self) -> bool {
        false
    }
    /// Appends the value for this request; `false` if there is none.
    pub fn append(&self, _exchange: &mut Exchange, _env: &mut Env<'_>, _out: &mut Vec<u8>) -> bool {
        false
    }
}

/// The module.
pub static MODULE: Module = Module::new("computed", &[]);
