//! `ngx.get_phase`, `ngx.config` and other constants of a run.

use crate::machine::{Area, Function, FunctionTable, field};
use crate::phase::Phases;

pub(super) static AREA: Area = Area {
    name: "base",
    functions: &[
        Function {
            name: "ngx.get_phase",
            phases: Phases::ALL,
            doc: "Returns the name of the phase that runs: `set`, `rewrite`, `access`, `content`, `header_filter`, `body_filter`, `log`, `init`, `init_worker`, …",
        },
        Function {
            name: "ngx.config.prefix",
            phases: Phases::ALL,
            doc: "Returns the server's prefix, as given with `-p`.",
        },
        Function {
            name: "ngx.config.nginx_configure",
            phases: Phases::ALL,
            doc: "Returns an empty string: there are no configure options as nginx has them.",
        },
    ],
    fields: &[field("ngx.config", Phases::ALL, "`subsystem`, `debug`, `nginx_version`, `ngx_lua_version`.")],
    source: include_str!("../lua/base.lua"),
    table: FunctionTable::NONE,
    natives: &[],
};
