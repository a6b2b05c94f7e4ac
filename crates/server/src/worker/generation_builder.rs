//! Builds generations on a thread: their log files, groups and scripts.

use crate::context::generation::{AtEnd, Generation};
use crate::context::logs::{Gathering, Logs};
use crate::context::metrics::Metrics;
use crate::context::shared_state::SharedState;
use crate::proxy::groups::Groups;
use crate::request::host::BootHost;
use crate::switching::switch_ids::SwitchIds;
use crate::worker::message::NewGeneration;
use engine::{Config, Routing};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use transport::clock::Clock;

/// The parts that all generations of a thread are built from.
pub(super) struct GenerationBuilder {
    /// The thread's number.
    number: usize,
    shared: SharedState,
    clock: Rc<Clock>,
    gathering: Rc<Gathering>,
    switch_ids: SwitchIds,
}

impl GenerationBuilder {
    pub(super) fn new(
        number: usize,
        shared: SharedState,
        clock: Rc<Clock>,
        gathering: Rc<Gathering>,
    ) -> GenerationBuilder {
        GenerationBuilder { number, shared, clock, gathering, switch_ids: SwitchIds::default() }
    }

    /// Returns what runs the script of a generation that ends (`exit_worker_by_lua*`).
    fn at_end(&self, config: &Config) -> Option<AtEnd> {
        (*config.lua.exit_worker)?;
        let (clock, counters) = (Rc::clone(&self.clock), Arc::clone(&self.shared.counters));
        Some(Box::new(move |generation| {
            let Some(scripts) = &generation.scripts else { return };
            let routing = Rc::clone(&generation.routing.borrow());
            let logs = &generation.logs;
            let mut host = BootHost { clock: &clock, logs, counters: &counters, routing: &routing };
            scripts.exit_worker(&generation.config, &mut host);
        }))
    }

    /// Builds a generation beside the one in force, and carries over what is unchanged.
    ///
    /// # Errors
    /// Fails if a script fails to load or to initialise.
    pub(super) fn build(
        &self,
        new: NewGeneration,
        old: Option<&Generation>,
    ) -> Result<Rc<Generation>, String> {
        let GenerationBuilder { number, shared, clock, gathering, switch_ids } = self;
        let logs = Logs::new(&new.config, &new.files, &new.command_line_log, &new.error_log, gathering);
        let watched = Arc::new(());
        let routing = Rc::new(Routing::clone(&new.routing));
        let scripts = match new.config.lua.used {
            false => None,
            true => {
                let mut host = BootHost { clock, logs: &logs, counters: &shared.counters, routing: &routing };
                let options = lua::VmOptions { worker: *number, workers: shared.threads };
                let vm = lua::open(&new.config, &new.dicts, options, &mut host)?;
                let watchdog = (Arc::downgrade(&watched), vm.watchdog());
                shared.watchdogs.lock().unwrap_or_else(PoisonError::into_inner).push(watchdog);
                vm.init(&new.config, &mut host)?;
                vm.init_worker(&new.config, &mut host);
                Some(vm)
            }
        };
        let metrics = Metrics::new(shared.records.then_some(&new.layout), &shared.collector, clock);
        let number = |name: &Arc<str>| metrics.made_group(name);
        let before = old.map(|old| &old.groups);
        let groups = Groups::new(&new.config, &new.groups, &routing, before, &shared.health, number);
        Ok(Rc::new(Generation {
            number: new.number,
            logs,
            groups,
            open_files: RefCell::default(),
            contexts: new.contexts,
            at_end: self.at_end(&new.config),
            scripts,
            routing: RefCell::new(routing),
            switches: switch_ids.numbers(&new.config),
            metrics,
            layout: new.layout,
            config: new.config,
            _watched: watched,
            error_log: new.error_log,
            _drop_guard: new.drop_guard,
        }))
    }
}
