//! The engine's world on one thread: time, files, logs and scripts for one generation.

use crate::clock::Clock;
use crate::counters::Counters as SharedCounters;
use crate::files;
use crate::generation::Generation;
use crate::logs::Logs;
use crate::switching;
use crate::worker::Worker;
use engine::Exchange;
use engine::config::{Config, LogId};
use engine::host::{
    Counters, Env, FileError, Host, Level, Now, OpenRequest, Opened, ScriptCall, ScriptOutcome, SwitchAnswer,
};
use engine::phase::SwitchOrder;
use std::any::Any;
use std::path::Path;
use std::rc::Rc;
use switch::Tables;

/// A thread and a generation: made for one call into the engine, for nothing.
pub(crate) struct ThreadHost<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) generation: &'a Generation,
}

/// Calls into the engine with the world of this thread and generation.
pub(crate) fn with_env<T>(
    worker: &Worker,
    generation: &Generation,
    call: impl FnOnce(&mut Env<'_>) -> T,
) -> T {
    let mut host = ThreadHost { worker, generation };
    call(&mut Env { config: &generation.config, host: &mut host })
}

impl Host for ThreadHost<'_> {
    fn now(&self) -> Now {
        self.worker.clock.now()
    }

    fn refresh_time(&mut self) {
        self.worker.clock.fresh();
    }

    fn random(&mut self) -> u64 {
        self.worker.random()
    }

    fn open(&mut self, request: OpenRequest<'_>) -> Result<Opened, FileError> {
        files::open(request)
    }

    fn removal(&mut self, path: &Path) -> Rc<dyn Any> {
        files::removal(path)
    }

    fn script(&mut self, config: &Config, exchange: &mut Exchange, call: ScriptCall) -> ScriptOutcome {
        let generation = self.generation;
        match &generation.scripts {
            Some(scripts) => scripts.run(self, config, exchange, call),
            None => ScriptOutcome::Failed,
        }
    }

    fn read_file(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        files::read(path)
    }

    fn real_path(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        files::real_path(path)
    }

    fn hostname(&self) -> &[u8] {
        files::hostname()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn access_log_at(&mut self, path: &[u8], line: &[u8]) -> Result<(), FileError> {
        files::append(path, line)
    }

    fn access_log(&mut self, _config: &Config, log: LogId, line: &[u8]) {
        self.generation.logs.write(log, line, self.worker.clock.now().monotonic_ms());
    }

    fn error_log(&mut self, _config: &Config, log: LogId, level: Level, connection: u64, text: &[u8]) {
        #[cfg(test)]
        crate::simulation::heard(level, connection, text);
        self.generation.logs.error(log, level, connection, text);
    }

    fn counters(&self) -> Counters {
        self.worker.counters.read()
    }

    fn tables(&self) -> Option<Rc<Tables>> {
        self.generation.tables()
    }

    fn order(&mut self, order: SwitchOrder, answer: SwitchAnswer) {
        let outcome = switching::api::outcome(self.worker, self.generation, order);
        tokio::task::spawn_local(async move { answer(outcome.await) });
    }
}

/// The world while a generation is being made ready: no request, no thread yet.
pub(crate) struct BootHost<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) logs: &'a Logs,
    pub(crate) counters: &'a SharedCounters,
    /// The tables of the generation's switches.
    pub(crate) tables: &'a Rc<Tables>,
}

impl Host for BootHost<'_> {
    fn now(&self) -> Now {
        self.clock.fresh()
    }

    fn random(&mut self) -> u64 {
        self.clock.fresh().epoch_us.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn open(&mut self, request: OpenRequest<'_>) -> Result<Opened, FileError> {
        files::open(request)
    }

    fn removal(&mut self, path: &Path) -> Rc<dyn Any> {
        files::removal(path)
    }

    fn script(&mut self, _: &Config, _: &mut Exchange, _: ScriptCall) -> ScriptOutcome {
        ScriptOutcome::Failed
    }

    fn read_file(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        files::read(path)
    }

    fn real_path(&mut self, path: &[u8]) -> Result<Vec<u8>, FileError> {
        files::real_path(path)
    }

    fn hostname(&self) -> &[u8] {
        files::hostname()
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn access_log_at(&mut self, path: &[u8], line: &[u8]) -> Result<(), FileError> {
        files::append(path, line)
    }

    fn access_log(&mut self, _config: &Config, log: LogId, line: &[u8]) {
        self.logs.write(log, line, self.clock.now().monotonic_ms());
    }

    fn error_log(&mut self, _config: &Config, log: LogId, level: Level, connection: u64, text: &[u8]) {
        self.logs.error(log, level, connection, text);
    }

    fn counters(&self) -> Counters {
        self.counters.read()
    }

    fn tables(&self) -> Option<Rc<Tables>> {
        Some(Rc::clone(self.tables))
    }
}
