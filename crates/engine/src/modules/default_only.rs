//! Directives of nginx's for what is not here: their default may be written out, and nothing else.
//!
//! Owns which they are. A configuration that turns such a feature off means the same here; one that turns it on is refused by
//! name, as if the directive were not known.

use super::Module;
use crate::directive::{Contexts, Directive};

/// What keeps responses of upstreams, of the family whose directives begin with `$prefix`.
macro_rules! stores {
    ($prefix:literal) => {{
        macro_rules! default {
            ($name:literal, $value:literal) => {
                Directive::default_only(
                    concat!($prefix, $name),
                    HSL,
                    $value,
                    concat!($prefix, $name, " ", $value, ";"),
                )
            };
        }
        const DIRECTIVES: &[Directive] = &[default!("_store", "off")];
        DIRECTIVES
    }};
}

/// The module.
pub static MODULE: Module = Module::new(
    "default_only",
    &[DIRECTIVES, stores!("proxy"), stores!("fastcgi"), stores!("uwsgi"), stores!("scgi")],
);

const HSL: Contexts = Contexts::HSL;

const DIRECTIVES: &[Directive] = &[Directive::default_only("msie_refresh", HSL, "off", "msie_refresh off;")];
