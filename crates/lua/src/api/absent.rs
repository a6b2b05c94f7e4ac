//! The functions of ngx_lua that pointsman does not have: each raises an error that names it. The list is in the Lua
//! source.

use crate::machine::{Area, FunctionTable};

pub(super) static AREA: Area = Area {
    name: "absent",
    functions: &[],
    fields: &[],
    source: include_str!("../lua/absent.lua"),
    table: FunctionTable::NONE,
    natives: &[],
};
