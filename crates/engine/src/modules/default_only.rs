//! Directives of nginx's for what is not here: their default may be written out, and nothing else.
//!
//! Owns which they are. A configuration that turns such a feature off means the same here; one that turns it on is refused by
//! name, as if the directive were not known.

use super::Module;
use crate::directive::{Contexts, Directive};

/// The module.
pub static MODULE: Module = Module::new("default_only", &[DIRECTIVES]);

const HSL: Contexts = Contexts::HSL;

const DIRECTIVES: &[Directive] = &[
    Directive::default_only("autoindex", HSL, "off", "autoindex off;"),
    Directive::default_only("autoindex_localtime", HSL, "off", "autoindex_localtime off;"),
    Directive::default_only("autoindex_exact_size", HSL, "on", "autoindex_exact_size on;"),
    Directive::default_only("open_file_cache", HSL, "off", "open_file_cache off;"),
    Directive::default_only("open_file_cache_errors", HSL, "off", "open_file_cache_errors off;"),
    Directive::default_only("msie_refresh", HSL, "off", "msie_refresh off;"),
    Directive::default_only("proxy_bind", HSL, "off", "proxy_bind off;"),
    Directive::default_only("grpc_bind", HSL, "off", "grpc_bind off;"),
    Directive::default_only("proxy_store", HSL, "off", "proxy_store off;"),
    Directive::default_only("proxy_cache", HSL, "off", "proxy_cache off;"),
    Directive::default_only("proxy_cache_lock", HSL, "off", "proxy_cache_lock off;"),
    Directive::default_only("proxy_cache_revalidate", HSL, "off", "proxy_cache_revalidate off;"),
    Directive::default_only("proxy_cache_use_stale", HSL, "off", "proxy_cache_use_stale off;"),
    Directive::default_only("proxy_cache_convert_head", HSL, "on", "proxy_cache_convert_head on;"),
    Directive::default_only(
        "proxy_cache_background_update",
        HSL,
        "off",
        "proxy_cache_background_update off;",
    ),
    Directive::default_only("random_index", Contexts::LOCATION, "off", "random_index off;"),
    Directive::default_only("slice", HSL, "0", "slice 0;"),
];
