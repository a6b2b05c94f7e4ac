//! The modules: what nginx's directives mean.
//!
//! [`MODULES`] is the one list; its order is the order of the handlers inside a phase. A module is one file: its
//! directives with their settings and inheritance, and its handlers. It may read other modules' settings, and never
//! call their handlers.

use crate::config::Builder;
use crate::directive::Directive;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::output::wire::HeadRefused;
use crate::phase::verdict::{Content, PHASES, Phase, Verdict};
use std::sync::LazyLock;

pub mod access;
pub mod acme;
pub mod auth_basic;
pub mod auth_request;
pub mod charset;
pub mod control;
pub mod core;
pub mod default_only;
#[cfg(test)]
mod documentation;
pub mod error_page;
pub mod events;
mod forwarded;
pub mod grpc;
pub mod gzip;
pub mod headers;
pub mod health_check;
pub mod http2;
pub mod limit_conn;
pub mod limit_req;
pub mod limit_zone;
pub mod log;
pub mod lua;
pub mod map;
mod media_types;
pub mod mirror;
pub mod no_effect;
pub mod process;
pub mod proxy;
pub mod realip;
pub mod referer;
pub mod rewrite;
pub mod ssl;
pub mod static_files;
pub mod status;
pub mod switch;
pub mod try_files;
pub mod upstream;

/// A module's part in a phase.
pub type Handler = fn(&mut Exchange, &mut Env<'_>) -> Verdict;

/// Runs a whole phase from the cursor on: its handlers, how their verdicts are weighed, and what follows when none has
/// settled it (nginx's checkers). Phases without one run their handlers in order and go on.
pub type Checker = fn(&mut Exchange, &mut Env<'_>, &[Handler]) -> Verdict;

/// Chooses what is served instead of an error; `None` if the request was redirected to its page and walks on.
pub type Page = fn(&mut Exchange, &mut Env<'_>, status: u16) -> Option<Content>;

/// Adjusts a request that has just entered a location.
pub type Settle = fn(&mut Exchange, &Env<'_>);

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
    /// The phases that it runs in its own way. A phase has one checker at most.
    pub checkers: &'static [(Phase, Checker)],
    /// Its page for refusals. Exactly one module has one.
    pub page: Option<Page>,
    /// Its adjustment of a request that enters a location.
    pub settle: Option<Settle>,
    /// Its header filter.
    pub header_filter: Option<HeaderFilter>,
    /// Its header filter runs for requests inside others too.
    pub filters_subrequests: bool,
    /// Its work once the whole text is read: resolving names that are defined further down, checking settings against
    /// each other.
    pub finish: Option<fn(&mut Builder<'_>)>,
}

impl Module {
    /// Returns a module with directives alone; the others are written as `Module { …, ..Module::new(…) }`.
    pub const fn new(name: &'static str, directives: &'static [&'static [Directive]]) -> Module {
        Module {
            name,
            directives,
            handlers: &[],
            checkers: &[],
            page: None,
            settle: None,
            header_filter: None,
            filters_subrequests: false,
            finish: None,
        }
    }
}

/// All modules, in order.
pub static MODULES: &[&Module] = &[
    &process::MODULE,
    &events::MODULE,
    &control::MODULE,
    &core::MODULE,
    &ssl::MODULE,
    &http2::MODULE,
    &acme::MODULE,
    &upstream::MODULE,
    &map::MODULE,
    // As in nginx, limits already see the changed address, and so does a hold.
    &realip::MODULE,
    &switch::MODULE,
    &rewrite::MODULE,
    &error_page::MODULE,
    &referer::MODULE,
    &limit_req::MODULE,
    &limit_conn::MODULE,
    &access::MODULE,
    &auth_basic::MODULE,
    &auth_request::MODULE,
    &try_files::MODULE,
    &mirror::MODULE,
    &proxy::MODULE,
    &grpc::MODULE,
    // After those that say which location leads where.
    &health_check::MODULE,
    &status::MODULE,
    &static_files::MODULE,
    &default_only::MODULE,
    // The header filters run in nginx's order: conditions (of static_files), scripts, added fields, charset, compression,
    // ranges.
    &lua::MODULE,
    &headers::MODULE,
    &charset::MODULE,
    &gzip::MODULE,
    &static_files::ranges::MODULE,
    // In the log phase, scripts come before the access log.
    &log::MODULE,
];

/// The checker and the handlers of one phase.
#[derive(Default)]
pub struct PhaseRun {
    /// Its checker, if it does not simply run its handlers in order.
    pub checker: Option<Checker>,
    /// Its handlers, in order.
    pub handlers: Vec<Handler>,
}

/// The modules' parts, by where they are needed.
struct Parts {
    phases: [PhaseRun; PHASES.len()],
    page: Option<Page>,
    settle: Vec<Settle>,
    header_filters: Vec<HeaderFilter>,
    subrequest_filters: Vec<HeaderFilter>,
}

static PARTS: LazyLock<Parts> = LazyLock::new(|| {
    let mut phases: [PhaseRun; PHASES.len()] = Default::default();
    for (phase, handler) in MODULES.iter().flat_map(|module| module.handlers) {
        phases[*phase as usize].handlers.push(*handler);
    }
    for (phase, checker) in MODULES.iter().flat_map(|module| module.checkers) {
        phases[*phase as usize].checker = Some(*checker);
    }
    Parts {
        phases,
        page: MODULES.iter().find_map(|module| module.page),
        settle: MODULES.iter().filter_map(|module| module.settle).collect(),
        header_filters: MODULES.iter().filter_map(|module| module.header_filter).collect(),
        subrequest_filters: MODULES
            .iter()
            .filter(|module| module.filters_subrequests)
            .filter_map(|module| module.header_filter)
            .collect(),
    }
});

/// Returns the checker and the handlers of a phase.
pub fn phase(phase: Phase) -> &'static PhaseRun {
    &PARTS.phases[phase as usize]
}

/// Returns the content that is served instead of an error, or `None` if the request was redirected to its page.
pub fn page(exchange: &mut Exchange, env: &mut Env<'_>, status: u16) -> Option<Content> {
    match PARTS.page {
        Some(page) => page(exchange, env, status),
        None => Some(Content::Empty),
    }
}

/// Lets every module do what it does when a request has come into a location.
pub fn settle(exchange: &mut Exchange, env: &Env<'_>) {
    for settle in &PARTS.settle {
        settle(exchange, env);
    }
}

/// Returns all header filters, in order, or those that run for a request inside another one.
pub fn header_filters(is_inner: bool) -> &'static [HeaderFilter] {
    if is_inner { &PARTS.subrequest_filters } else { &PARTS.header_filters }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_at_most_one_checker_and_one_module_makes_pages() {
        for phase in PHASES {
            let checkers = MODULES.iter().flat_map(|module| module.checkers).filter(|(at, _)| *at == phase);
            assert!(checkers.count() <= 1, "{phase:?}");
        }
        assert_eq!(MODULES.iter().filter(|module| module.page.is_some()).count(), 1);
    }
}
