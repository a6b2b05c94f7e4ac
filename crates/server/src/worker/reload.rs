//! A reload, as a commit in two phases: **Prepare**, then **Commit** or **Abort**.
//!
//! The worker process coordinates: it builds the new configuration from the master's bytes, opens its switches, and has
//! every thread *prepare* a generation of it beside the one in force. When all have, it *commits*: threads serve the new
//! generation from then on, and what belongs to the process follows. If anything fails before, it *aborts*, and the old
//! configuration stays in force as it was. A thread's side is
//! `participant.rs`.

use crate::context::metrics;
use crate::proxy::groups::SharedGroups;
use crate::worker::candidate::{Candidate, distribute, take_control_socket};
use crate::worker::message::{Message, collect};
use crate::worker::process::WorkerProcess;
use control::StoredReload;
use process::log::ErrorLog;
use process::{Application, Reload};
use std::sync::mpsc;
use std::sync::{Arc, PoisonError};

/// A reload that every thread has prepared.
struct Prepared {
    candidate: Candidate,
    stored: StoredReload,
    error_log: ErrorLog,
}

impl WorkerProcess {
    /// Carries a reload out, and reports the outcome to the master.
    pub(super) fn reload(&mut self, reload: Reload) {
        let (number, reporter) = (reload.generation, self.init.master.reporter());
        let outcome = self.prepare(reload).map(|prepared| self.commit(prepared));
        let actor = self.shared.bus.reload_requests().actor();
        let noted = outcome.as_ref().map(|()| number).map_err(String::as_str);
        self.shared.control.note_reload(actor.as_deref().unwrap_or("signal"), noted);
        match outcome {
            Ok(()) => reporter.reloaded(number),
            Err(fault) => reporter.failed(number, &fault),
        }
    }

    /// Prepare: builds the configuration, and has every thread build a generation of it.
    fn prepare(&mut self, mut reload: Reload) -> Result<Prepared, String> {
        self.flush_logs();
        self.init.logs.adopt(reload.logs).map_err(|error| format!("log files: {error}"))?;
        let bundle =
            conf::Bundle::from_bytes(&reload.bundle).ok_or("the configuration did not arrive whole")?;
        let loaded = self.app.load(&self.init.source, &bundle);
        let Some((boot, built)) = loaded.outcome else {
            let lines: Vec<_> = loaded.findings.iter().map(|finding| finding.line.as_str()).collect();
            return Err(lines.join("; "));
        };
        let mut config = built.config;
        config.limits.carry_over(&self.config.limits)?;
        config.http.caches.carry_over(&self.config.http.caches)?;
        let config = Arc::new(config);
        drop(take_control_socket(&config, &mut reload.listeners));
        let prober = control::DataPlane::prober(&*self.shared.bus);
        prober.know(&config, &built.contexts);
        // From here on no order is committed until the new configuration is in force or given up.
        let pending = self.shared.control.prepare_reload(&config)?;
        let error_log = boot.error_log(&self.init.source, &self.init.logs);
        let candidate = Candidate {
            number: reload.generation,
            routing: Arc::clone(pending.routing()),
            layout: Arc::new(metrics::layout(&config, &pending.routing().groups)),
            groups: Arc::new(SharedGroups::new(
                &config,
                pending.routing(),
                Some((&self.config, &self.groups)),
                &self.shared.health,
            )),
            contexts: built.contexts,
            dicts: lua::Dicts::new(&config.lua.dicts, Some(&self.dicts)),
            files: Arc::clone(&self.init.logs),
            command_line_log: self.init.source.error_log.clone(),
            error_log: error_log.clone(),
            drop_guard: self.drop_guard(reload.generation),
            addresses: reload.listeners.iter().map(|listener| listener.address.clone()).collect(),
            config,
        };
        let shares = distribute(reload.listeners, self.shared.threads).map_err(|error| error.to_string())?;
        let (answer, answers) = mpsc::channel();
        for (thread, sockets) in self.threads.iter().zip(shares) {
            thread.send(Message::Prepare(Box::new(candidate.for_thread(sockets)), answer.clone()));
        }
        drop(answer);
        match collect(&answers, self.threads.len()).and_then(|()| pending.store()) {
            Ok(stored) => Ok(Prepared { candidate, stored, error_log }),
            Err(fault) => {
                self.abort();
                Err(fault)
            }
        }
    }

    /// Commit: puts the prepared generation in force.
    fn commit(&mut self, prepared: Prepared) {
        let Prepared { candidate, stored, error_log } = prepared;
        control::DataPlane::prober(&*self.shared.bus).configure(&candidate.config, &candidate.routing.groups);
        self.send_all(Message::Commit);
        let mut collector = self.shared.collector.lock().unwrap_or_else(PoisonError::into_inner);
        collector.arrange(candidate.layout);
        drop(collector);
        stored.commit();
        self.config = candidate.config;
        self.stapling.follow(candidate.contexts);
        if let Some(acme) = &self.acme {
            acme.follow(Arc::clone(&self.config));
        }
        if let Some(keeper) = &self.cache_keeper {
            keeper.follow(Arc::clone(&self.config));
        } else {
            self.keep_caches();
        }
        self.groups = candidate.groups;
        self.dicts = candidate.dicts;
        *self.office_log.lock().unwrap_or_else(PoisonError::into_inner) = error_log.clone();
        self.init.master.switch_to(error_log.clone());
        self.init.error_log = error_log;
    }

    /// Abort: has every thread drop what it has prepared.
    fn abort(&self) {
        self.threads.iter().for_each(|thread| thread.send(Message::Abort));
    }
}
