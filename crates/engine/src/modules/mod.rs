//! The modules: what nginx's directives mean.
//!
//! [`MODULES`] is the one list; its order is the order of the handlers inside a phase. A module is one file: its
//! directives with their settings and inheritance, and its handlers. It may read other modules' settings, and never
//! call their handlers.

use crate::config::Builder;
use crate::directive::Directive;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::output::HeadRefused;
use crate::phase::{Handler, Phase};
use std::sync::LazyLock;

pub mod access;
pub mod auth_basic;
pub mod control;
pub mod core;
pub mod error_page;
pub mod events;
pub mod headers;
pub mod limit_conn;
pub mod limit_req;
pub mod limit_zone;
pub mod log;
pub mod lua;
pub mod map;
pub mod process;
pub mod proxy;
pub mod referer;
pub mod rewrite;
pub mod static_files;
pub mod status;
pub mod switch;
pub mod try_files;
pub mod upstream;

/// A header filter: changes the answer's head before it is written, or refuses it.
pub type HeaderFilter = fn(&mut Exchange, &mut Env<'_>) -> Result<(), HeadRefused>;

/// One module.
pub struct Module {
    /// Its name in the documentation.
    pub name: &'static str,
    /// Its directives, in one table or several.
    pub directives: &'static [&'static [Directive]],
    /// Its handlers.
    pub handlers: &'static [(Phase, Handler)],
    /// Its header filter.
    pub header_filter: Option<HeaderFilter>,
    /// What it has to do once the whole text is read: resolve names defined further down, check what belongs together.
    pub finish: Option<fn(&mut Builder<'_>)>,
}

impl Module {
    /// A module without handlers, filters or finish; the others are written as `Module { …, ..Module::new(…) }`.
    pub const fn new(name: &'static str, directives: &'static [&'static [Directive]]) -> Module {
        Module { name, directives, handlers: &[], header_filter: None, finish: None }
    }
}

/// All modules, in order.
pub static MODULES: &[&Module] = &[
    &process::MODULE,
    &events::MODULE,
    &control::MODULE,
    &core::MODULE,
    &upstream::MODULE,
    &map::MODULE,
    &switch::MODULE,
    &log::MODULE,
    &rewrite::MODULE,
    &error_page::MODULE,
    &referer::MODULE,
    &limit_req::MODULE,
    &limit_conn::MODULE,
    &access::MODULE,
    &auth_basic::MODULE,
    &try_files::MODULE,
    &proxy::MODULE,
    &status::MODULE,
    &static_files::MODULE,
    // The header filters run in nginx's order: conditions (of static_files), scripts, added fields, ranges.
    &lua::MODULE,
    &headers::MODULE,
    &static_files::ranges::MODULE,
];

static HANDLERS: LazyLock<[Vec<Handler>; 8]> = LazyLock::new(|| {
    let mut table: [Vec<Handler>; 8] = Default::default();
    for (phase, handler) in MODULES.iter().flat_map(|module| module.handlers) {
        table[*phase as usize].push(*handler);
    }
    table
});

static HEADER_FILTERS: LazyLock<Vec<HeaderFilter>> =
    LazyLock::new(|| MODULES.iter().filter_map(|module| module.header_filter).collect());

/// The handlers of a phase, in order.
pub fn handlers(phase: Phase) -> &'static [Handler] {
    &HANDLERS[phase as usize]
}

/// All header filters, in order.
pub fn header_filters() -> &'static [HeaderFilter] {
    &HEADER_FILTERS
}
