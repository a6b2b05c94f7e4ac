//! What ngx_lua has and pointsman has not: each says so by name.
//!
//! No functions of its own; the names stand in the Lua source.

use crate::machine::{Area, FunctionTable};

pub(super) static AREA: Area = Area {
    name: "absent",
    functions: &[],
    fields: &[],
    source: include_str!("../lua/absent.lua"),
    table: FunctionTable::NONE,
    natives: &[],
};
