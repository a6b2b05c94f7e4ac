//! Areas: the parts of the `ngx.*` API, as a machine loads them.
//!
//! An area is a Lua source over functions written in Rust, and a table that says of each function in which phases it
//! is allowed.

use std::ffi::{CStr, c_void};

use mlua_sys::lua_CFunction;

use crate::phase::Phases;

/// One function or field of the API.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// As Lua code writes it: `ngx.escape_uri`, `DICT:get`.
    pub name: &'static str,
    /// The phases in which it may be called.
    pub phases: Phases,
    /// One line for the reference.
    pub doc: &'static str,
}

/// Makes the entry of a field.
pub(crate) const fn field(name: &'static str, phases: Phases, doc: &'static str) -> Function {
    Function { name, phases, doc }
}

/// A part of the API.
pub struct Area {
    /// The name of its file and of its chapter in the reference.
    pub name: &'static str,
    /// Its functions.
    pub functions: &'static [Function],
    /// Its fields, which are read or written rather than called.
    pub fields: &'static [Function],
    /// Its Lua source.
    pub(crate) source: &'static str,
    /// The struct of function pointers that its source declares.
    pub(crate) table: FunctionTable,
    /// C functions, under the names by which its source finds them.
    pub(crate) natives: &'static [(&'static CStr, lua_CFunction)],
}

/// The address of a `'static` struct of function pointers, or null.
#[derive(Clone, Copy)]
pub(crate) struct FunctionTable(*const c_void);

// SAFETY: it points to a constant that is only ever read.
unsafe impl Sync for FunctionTable {}

impl FunctionTable {
    pub(crate) const NONE: FunctionTable = FunctionTable(std::ptr::null());

    pub(crate) const fn of<T>(table: &'static T) -> FunctionTable {
        FunctionTable(std::ptr::from_ref(table).cast())
    }

    /// Returns the address as Lua takes it.
    pub(super) fn address(self) -> *mut c_void {
        self.0.cast_mut()
    }
}
