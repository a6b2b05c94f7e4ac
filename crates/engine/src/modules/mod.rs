//! The modules: what nginx's directives mean.
//!
//! [`MODULES`] is the one list; its order is the order of the handlers inside a phase. A module is one file: its
//! directives with their settings and inheritance, and its handlers. It may read other modules' settings, and never
//! call their handlers.

use crate::config::{Builder, Config, Settings};
use crate::directive::Directive;
use crate::exchange::{Exchange, SubrequestRecord};
use crate::host::Env;
use crate::output::chain::{BodyFilter, Flow, Included};
use crate::output::wire::{FilterFailed, HeadRefused};
use crate::phase::verdict::{Content, PHASES, Phase, Verdict};
use std::sync::LazyLock;

pub mod access;
pub mod acme;
pub mod addition;
pub mod auth_basic;
pub mod auth_request;
pub mod brotli;
pub mod cgi;
pub mod charset;
pub mod compression;
pub mod control;
pub mod core;
pub mod default_only;
#[cfg(test)]
mod documentation;
pub mod error_page;
pub mod events;
mod forwarded;
pub mod grpc;
pub mod gunzip;
pub mod gzip;
pub mod headers;
pub mod headers_more;
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
pub mod secure_link;
pub mod slice;
pub mod ssi;
pub mod ssl;
pub mod static_files;
pub mod status;
pub mod sub_filter;
pub mod switch;
pub mod try_files;
pub mod upstream;
pub mod userid;
mod validators;
pub mod zstd;

/// A module's part in a phase.
pub type Handler = fn(&mut Exchange, &mut Env<'_>) -> Verdict;

/// Runs a whole phase from the cursor on: its handlers, how their verdicts are weighed, and what follows when none has
/// settled it (nginx's checkers). Phases without one run their handlers in order and go on.
pub type Checker = fn(&mut Exchange, &mut Env<'_>, &PhaseRun) -> Verdict;

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
    /// It also does for those whose answer a script takes: ngx_lua takes that before nginx's own filters see it.
    pub filters_captures: bool,
    /// Whether a location with these settings needs its handlers and its header filter: they are never called where they
    /// would do nothing. Without it they are always called.
    pub is_needed: Option<fn(&Config, &Settings) -> bool>,
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
            filters_captures: false,
            is_needed: None,
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
    &lua::EARLY,
    &rewrite::MODULE,
    &error_page::MODULE,
    &referer::MODULE,
    &limit_req::MODULE,
    &limit_conn::MODULE,
    &access::MODULE,
    &auth_basic::MODULE,
    &auth_request::MODULE,
    &secure_link::MODULE,
    &try_files::MODULE,
    &mirror::MODULE,
    &proxy::MODULE,
    &grpc::MODULE,
    &cgi::FASTCGI_MODULE,
    &cgi::UWSGI_MODULE,
    &cgi::SCGI_MODULE,
    // After those that say which location leads where.
    &health_check::MODULE,
    &status::MODULE,
    // The first of the header filters.
    &slice::MODULE,
    &static_files::MODULE,
    &default_only::MODULE,
    // The header filters run in nginx's order: conditions (of static_files), scripts, fields set and added, what filters the
    // body, in its order, compression, ranges.
    &lua::MODULE,
    &headers_more::MODULE,
    &headers::MODULE,
    &userid::MODULE,
    &gunzip::MODULE,
    &addition::MODULE,
    &sub_filter::MODULE,
    &charset::MODULE,
    &ssi::MODULE,
    &gzip::MODULE,
    &brotli::MODULE,
    &zstd::MODULE,
    &compression::MODULE,
    &static_files::ranges::MODULE,
    // In the log phase, scripts come before the access log.
    &log::MODULE,
];

/// Some of the modules, each a bit by its place in [`MODULES`]: those that a location needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModuleSet(u64);

const _: () = assert!(MODULES.len() <= 64);

impl ModuleSet {
    /// Returns those that a location with these settings needs.
    pub fn needed(config: &Config, settings: &Settings) -> ModuleSet {
        let is_needed =
            |module: &Module| module.is_needed.is_none_or(|is_needed| is_needed(config, settings));
        let bits =
            MODULES.iter().enumerate().filter(|(_, module)| is_needed(module)).map(|(at, _)| 1_u64 << at);
        ModuleSet(bits.sum())
    }
}

/// The checker and the handlers of one phase.
#[derive(Default)]
pub struct PhaseRun {
    /// Its checker, if it does not simply run its handlers in order.
    pub checker: Option<Checker>,
    /// Its handlers, in order, each with its module's bit.
    handlers: Vec<(u64, Handler)>,
    /// The bits of all its handlers.
    modules: u64,
}

impl PhaseRun {
    /// Returns the first handler from a place on whose module is in the set, and its place.
    #[inline]
    pub fn next(&self, needed: ModuleSet, from: usize) -> Option<(usize, Handler)> {
        if self.modules & needed.0 == 0 {
            return None;
        }
        let left = self.handlers.get(from..)?.iter().enumerate();
        left.filter(|(_, (bit, _))| bit & needed.0 != 0)
            .map(|(at, (_, handler))| (from + at, *handler))
            .next()
    }

    /// Returns the place behind its last handler.
    pub fn end(&self) -> usize {
        self.handlers.len()
    }
}

/// The modules' parts, by where they are needed.
struct Parts {
    phases: [PhaseRun; PHASES.len()],
    page: Option<Page>,
    settle: Vec<Settle>,
    /// The header filters, in order, each with its module's bit.
    header_filters: Vec<(u64, HeaderFilter)>,
    /// The bits of those that run for a request inside another one.
    subrequest_filters: u64,
    /// The bits of those that run if a script takes its answer.
    capture_filters: u64,
}

static PARTS: LazyLock<Parts> = LazyLock::new(|| {
    let mut phases: [PhaseRun; PHASES.len()] = Default::default();
    let modules = || MODULES.iter().enumerate().map(|(at, module)| (1_u64 << at, *module));
    for (bit, module) in modules() {
        for (phase, handler) in module.handlers {
            let phase = &mut phases[*phase as usize];
            phase.handlers.push((bit, *handler));
            phase.modules |= bit;
        }
        for (phase, checker) in module.checkers {
            phases[*phase as usize].checker = Some(*checker);
        }
    }
    let bits = |runs: fn(&Module) -> bool| modules().filter(|(_, m)| runs(m)).map(|(bit, _)| bit).sum();
    Parts {
        phases,
        page: MODULES.iter().find_map(|module| module.page),
        settle: MODULES.iter().filter_map(|module| module.settle).collect(),
        header_filters: modules().filter_map(|(bit, module)| Some((bit, module.header_filter?))).collect(),
        subrequest_filters: bits(|module| module.filters_subrequests),
        capture_filters: bits(|module| module.filters_captures),
    }
});

/// Returns the checkers and the handlers of all phases.
pub fn phases() -> &'static [PhaseRun; PHASES.len()] {
    &PARTS.phases
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

/// Returns the header filters of a set of modules, in order, or those of them that run for a request inside another one.
pub(crate) fn header_filters(
    needed: ModuleSet,
    subrequests: &SubrequestRecord,
) -> impl Iterator<Item = HeaderFilter> + use<> {
    let parts = &*PARTS;
    let needed = match subrequests.is_inner() {
        false => needed.0,
        true if subrequests.captured => needed.0 & parts.capture_filters,
        true => needed.0 & parts.subrequest_filters,
    };
    parts.header_filters.iter().filter(move |(bit, _)| bit & needed != 0).map(|(_, filter)| *filter)
}

/// Runs a filter over what came of a body: takes from the front of `input`, and appends to `out`.
///
/// # Errors
/// The body cannot go on.
pub(crate) fn run_body_filter(
    filter: &mut BodyFilter,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    input: &mut &[u8],
    is_last: bool,
    out: &mut Vec<u8>,
) -> Result<Flow, FilterFailed> {
    match filter {
        BodyFilter::Slice(body) => slice::run(body, exchange, env, input, is_last, out),
        BodyFilter::Gunzip(decoder) => gunzip::run(decoder, exchange, env, input, is_last, out),
        BodyFilter::Recode(recoder) => Ok(charset::run(recoder, input, out)),
        BodyFilter::Substitute(search) => Ok(sub_filter::run(search, exchange, env, input, is_last, out)),
        BodyFilter::Ssi(machine) => Ok(ssi::run(machine, exchange, env, input, out)),
    }
}

/// Tells a filter how the request has ended that it has asked for.
pub(crate) fn tell_body_filter(
    filter: &mut BodyFilter,
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    ended: Included,
) {
    match filter {
        BodyFilter::Ssi(machine) => ssi::tell(machine, exchange, env, ended),
        BodyFilter::Slice(body) => slice::tell(body, &ended),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each directive does is tested with its module: a module that is left out by mistake would do nothing there.
    #[test]
    fn a_location_needs_the_modules_of_its_directives() {
        let config = crate::testing::server_of(
            "limit_rate 1k; location /plain { return 204; }
             location /limited { gzip on; expires 1h; auth_request /plain; proxy_pass http://127.0.0.1; }
             location /none { access_log off; }",
        );
        let needed = |name: &[u8]| {
            let location =
                config.locations.iter().find(|location| location.name == name).expect("it is there");
            let names = MODULES
                .iter()
                .enumerate()
                .filter(|(at, module)| module.is_needed.is_some() && location.modules.0 & (1 << at) != 0);
            names.map(|(_, module)| module.name).collect::<Vec<_>>()
        };
        assert_eq!(needed(b"/plain"), ["rewrite", "log"]);
        assert_eq!(needed(b"/limited"), ["auth_request", "headers", "compression", "log"]);
        assert_eq!(needed(b"/none"), [""; 0]);
    }

    #[test]
    fn each_phase_has_at_most_one_checker_and_one_module_makes_pages() {
        for phase in PHASES {
            let checkers = MODULES.iter().flat_map(|module| module.checkers).filter(|(at, _)| *at == phase);
            assert!(checkers.count() <= 1, "{phase:?}");
        }
        assert_eq!(MODULES.iter().filter(|module| module.page.is_some()).count(), 1);
    }
}
