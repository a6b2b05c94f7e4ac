//! One configuration as one thread serves it: the immutable [`Config`], and the thread's state beside it.

use crate::context::logs::Logs;
use crate::context::metrics::{Metrics, group_layout};
use crate::proxy::groups::{Groups, Rest};
use engine::config::ListenAddress;
use engine::{Config, LocationId, Routing, ServerId};
use process::log::{ErrorLog, Level};
use process::{Address, Reporter};
use statistics::Layout;
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tls::Contexts;
use transport::open_files::OpenFiles;
use upstream::GroupSets;

/// A generation on one thread. It is dropped with the last request that uses it.
pub(crate) struct Generation {
    /// Its number; a reload's is higher.
    pub(crate) number: u64,
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// Its log files.
    pub(crate) logs: Logs,
    /// Its upstream groups and their idle connections.
    pub(crate) groups: Groups,
    /// Its `open_file_cache`s.
    pub(crate) open_files: RefCell<OpenFiles>,
    /// Its TLS.
    pub(crate) contexts: Arc<Contexts>,
    /// Its scripts, if it has any.
    pub(crate) scripts: Option<lua::Vm>,
    /// The work to be done when the last request under it is over.
    pub(crate) at_end: Option<AtEnd>,
    /// The tables of its switches for requests that first ask now, and the servers of its groups.
    pub(crate) routing: RefCell<Rc<Routing>>,
    /// The numbers by which this thread knows its switches, in its order.
    pub(crate) switches: Box<[u32]>,
    /// The names under which its requests are measured.
    pub(crate) layout: Arc<Layout>,
    /// Measures its requests.
    pub(crate) metrics: Metrics,
    /// As long as it exists, a watchdog limits how long scripts run.
    pub(crate) _watched: Arc<()>,
    /// The main error log, for what concerns no request.
    pub(crate) error_log: ErrorLog,
    /// Shared by all threads: dropped with the last of them.
    pub(crate) _drop_guard: Arc<GenerationDropGuard>,
}

/// The end of a generation: its last script.
pub(crate) type AtEnd = Box<dyn FnOnce(&Generation)>;

impl Drop for Generation {
    fn drop(&mut self) {
        if let Some(at_end) = self.at_end.take() {
            at_end(self);
        }
    }
}

/// Reports to the master, when it is dropped, that nothing of a generation is left.
#[derive(Debug)]
pub(crate) struct GenerationDropGuard {
    pub(crate) number: u64,
    pub(crate) reporter: Reporter,
}

impl Drop for GenerationDropGuard {
    fn drop(&mut self) {
        self.reporter.generation_gone(self.number);
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Generation").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Generation {
    /// Writes an alert to the main error log.
    pub(crate) fn alert(&self, text: std::fmt::Arguments<'_>) {
        self.error_log.write(Level::Alert, 0, text.to_string().as_bytes());
    }

    /// Returns the publication that a request takes when it first asks a switch.
    pub(crate) fn routing(&self) -> Rc<Routing> {
        Rc::clone(&self.routing.borrow())
    }

    /// Returns true if a key is held.
    pub(crate) fn has_holds(&self) -> bool {
        !self.routing.borrow().tables.holds.is_empty()
    }

    /// Gives this publication to first questions from now on, and its servers to the picks of all requests. Returns what is left to
    /// be done for them before a request is served.
    pub(crate) fn publish(&self, routing: Routing) -> Vec<Rest> {
        let routing = Rc::new(routing);
        let before = self.routing.replace(Rc::clone(&routing));
        let adopt = |change| {
            let number = routing.tables.number;
            self.groups.adopt(&self.config, change, number, |name| self.metrics.made_group(name))
        };
        routing.groups.changes_since(&before.groups).into_iter().flat_map(adopt).collect()
    }

    /// Tells the collector which servers the groups have that are others than before.
    pub(crate) fn arrange_changes(&self, before: &GroupSets) {
        let routing = self.routing();
        for (name, set) in routing.groups.changes_since(before) {
            let configured = self.config.group(name).map(|number| &self.config.groups[number].spec);
            let spec = set.map(|set| &set.spec).or(configured);
            let shown = configured.or(spec).map(|spec| Arc::from(spec.name.as_str()));
            let gone = || before.get(name).map(|set| Arc::from(set.spec.name.as_str()));
            let Some(name) = shown.or_else(gone) else { continue };
            self.metrics.arrange_group(&name, spec.map(|spec| group_layout(Arc::clone(&name), spec)));
        }
    }

    /// Returns the scope of an address's default server, which applies before a request's host is known.
    pub(crate) fn default_scope(&self, listener: usize) -> LocationId {
        let server =
            self.config.listeners.get(listener).map_or(ServerId(0), |listener| listener.servers.default);
        self.config.server(server).scope
    }

    /// Returns the listener of an address in this configuration.
    pub(crate) fn listener(&self, address: &Address) -> Option<usize> {
        self.config.listeners.iter().position(|listener| same_address(&listener.address, address))
    }
}

impl Generation {
    /// Returns the folder of request bodies that do not fit in memory (`client_body_temp_path`).
    pub(crate) fn body_folder(&self) -> PathBuf {
        let set = self.config.http.client_body_temp_path.as_ref();
        set.cloned().unwrap_or_else(|| self.config.prefix.join("client_body_temp"))
    }
}

/// Returns true if both are the same address.
pub(crate) fn same_address(one: &ListenAddress, other: &Address) -> bool {
    match (one, other) {
        (ListenAddress::Inet(one), Address::Inet(other)) => one == other,
        (ListenAddress::Unix(one), Address::Unix(other)) => one == other,
        _ => false,
    }
}

/// A generation that a request uses.
pub(crate) type Pinned = Rc<Generation>;
