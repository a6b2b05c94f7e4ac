//! `ngx.get_phase`, `ngx.config` and what else needs neither a request nor a calculation.

use crate::machine::{Area, Function, FunctionTable, field};
use crate::phase::Phases;

pub(super) static AREA: Area = Area {
    name: "base",
    functions: &[
        Function {
            name: "ngx.get_phase",
            phases: Phases::ALL,
            doc: "The phase that runs: `set`, `rewrite`, `access`, `content`, `header_filter`, `body_filter`, `log`, `init`, `init_worker`, …",
        },
        Function {
            name: "ngx.config.prefix",
            phases: Phases::ALL,
            doc: "The server's prefix, as given with `-p`.",
        },
        Function {
            name: "ngx.config.nginx_configure",
            phases: Phases::ALL,
            doc: "The configure line of nginx; empty, as there is none.",
        },
    ],
    fields: &[field("ngx.config", Phases::ALL, "`subsystem`, `debug`, `nginx_version`, `ngx_lua_version`.")],
    source: include_str!("../lua/base.lua"),
    table: FunctionTable::NONE,
    natives: &[],
};
