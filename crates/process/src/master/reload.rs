//! Reloading: a new configuration beside the active one, until a worker has switched to it.
//!
//! Owns the reload from HUP to its completion or abandonment. Must never touch what is active before a worker has
//! confirmed the new configuration.

use super::state::{Ending, Master, PendingReload, Worker, signal_worker};
use super::workers::Forked;
use crate::application::Application;
use crate::channel::send_message;
use crate::load::{Pictures, load};
use crate::log::{Level, NewLogs};
use crate::process_log::Reported;
use crate::resources::{self, Prepared};
use crate::worker_command::{ReloadOutcome, encode_body, kind};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long a reload waits for a worker that is starting.
const START_TIMEOUT: Duration = Duration::from_secs(5);

impl<A: Application> Master<A> {
    pub(super) fn reload(&mut self) {
        // A starting worker is waited for: only it can say what prevents another configuration, and one started beside it
        // would not know what it holds. One that takes too long may wait for something that the new configuration fixes.
        let starting = |worker: &Worker| {
            !worker.ready && !worker.leaving && !worker.closed && worker.started.elapsed() < START_TIMEOUT
        };
        if self.pending.is_some() || self.workers.iter().any(starting) {
            self.phase.reload_again = true;
            return;
        }
        self.phase.answering = std::mem::take(&mut self.phase.asking);
        self.log.start_capture();
        self.notify.reloading();
        if self.begin_reload().is_err() {
            let serving = self.workers.iter().find(|worker| !worker.leaving && worker.ready);
            // A worker that never sees the configuration hears of it all the same, for the journal.
            let told = serving.map(|worker| (worker.pid, ReloadOutcome::BY_SIGNAL));
            let told = told.filter(|_| self.phase.answering.is_empty());
            self.phase.answering.extend(told);
            self.report_outcome(false);
        }
    }

    /// Reloads at the request of a worker, which gets the outcome.
    pub(super) fn reload_for(&mut self, worker: Pid, ticket: u64) {
        self.phase.asking.push((worker, ticket));
        if !matches!(self.ending, Ending::No) || self.upgrade.in_progress() {
            self.phase.answering = std::mem::take(&mut self.phase.asking);
            self.log.start_capture();
            self.log.write(
                Level::Warn,
                format_args!("a reload is not possible while the processes end or are replaced"),
            );
            return self.answer(false);
        }
        self.reload();
    }

    /// Reports the outcome of a reload to systemd and to the workers that requested it.
    fn report_outcome(&mut self, done: bool) {
        self.notify.reloaded(done);
        self.answer(done);
    }

    fn answer(&mut self, done: bool) {
        let findings = self.log.take_captured();
        let body = ReloadOutcome::encode(done, &findings);
        for (pid, ticket) in std::mem::take(&mut self.phase.answering) {
            let Some(worker) = self.workers.iter().find(|worker| worker.pid == pid) else { continue };
            if let Err(error) = send_message(&worker.channel, kind::ANSWER, ticket, &body, &[]) {
                self.log.failed(Level::Alert, format_args!("sendmsg() to worker process {pid}"), &error);
                // After half a message it would understand no other.
                signal_worker(pid, Signal::SIGKILL, &self.log);
            }
        }
    }

    fn begin_reload(&mut self) -> Result<(), Reported> {
        self.log.write(Level::Notice, format_args!("reconfiguring"));
        let recorded = load(&self.app, &self.source, &self.log, Pictures::Omitted)?;
        let prepared =
            Prepared::new(recorded.requirements, &self.source, &self.resources.listening, &self.log);
        let prepared = prepared?;
        self.generation += 1;
        let generation = self.generation;
        let running = self.workers.iter().find(|worker| !worker.leaving && worker.ready);
        let same = self.resources.requirements.same_process(&prepared.resources.requirements);
        match running {
            Some(worker) if same => {
                let sent = send_reload(&worker.channel, generation, &prepared, &recorded.bundle);
                let (worker, pid) = (worker.pid, worker.pid);
                self.pending = Some(PendingReload {
                    generation,
                    config: recorded.config,
                    prepared,
                    worker,
                    new_process: false,
                });
                if let Err(error) = sent {
                    // Half a command cannot be taken back: the worker is useless, and its exit ends the reload.
                    self.log.failed(Level::Alert, format_args!("sendmsg() to worker process {pid}"), &error);
                    signal_worker(pid, Signal::SIGKILL, &self.log);
                }
            }
            _ if self.holds_keys("this configuration") => {
                prepared.abandon(Some(&self.resources), &self.log);
                return Err(Reported);
            }
            _ => self.reload_with_new_process(recorded.config, prepared)?,
        }
        Ok(())
    }

    /// Starts a new worker process with the new configuration; the old one ends when it is ready, as with nginx.
    fn reload_with_new_process(&mut self, config: A::Config, prepared: Prepared) -> Result<(), Reported> {
        let generation = self.generation;
        self.respawn.due = None;
        // The new process writes to the new log files from its first line on.
        let copies = prepared.logs.iter().map(|(path, fd)| Ok((path.clone(), fd.try_clone()?)));
        let adopted = copies.collect::<io::Result<_>>().and_then(|files| self.logs.adopt(NewLogs { files }));
        if let Err(error) = adopted {
            prepared.abandon(Some(&self.resources), &self.log);
            return Err(self.log.failed(Level::Alert, "dup() of a log file", &error));
        }
        self.log.write(Level::Notice, format_args!("start worker processes"));
        match self.fork() {
            Ok(Forked::Parent(worker)) => {
                self.pending =
                    Some(PendingReload { generation, config, prepared, worker, new_process: true });
            }
            Ok(Forked::Child(channel)) => {
                let resources = prepared.resources.clone();
                drop(prepared);
                self.run_worker(Some(config), resources, channel, false);
            }
            Err(reported) => {
                prepared.abandon(Some(&self.resources), &self.log);
                return Err(reported);
            }
        }
        Ok(())
    }

    pub(super) fn is_pending(&self, worker: Pid, generation: u64) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|pending| pending.worker == worker && pending.generation == generation)
    }

    /// Makes the new configuration the active one, to which the worker has switched.
    pub(super) fn finish_reload(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let before = self.resources.clone();
        let old_pid_path = before.requirements.pid_path.clone();
        self.resources = pending.prepared.commit(Some(before), &self.source, &self.logs, &mut self.log);
        self.config = Some(pending.config);
        self.phase.without_workers = false;
        // Before the outcome is reported: from then on nothing accepts for the previous configuration.
        if pending.new_process {
            self.retire_workers(|worker| worker.pid != pending.worker);
        }
        self.report_outcome(true);
        resources::move_pid_file(&old_pid_path, &self.resources.requirements.pid_path, &self.log);
        self.reload_if_requested();
    }

    pub(super) fn abandon_reload(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.log.write(
                Level::Error,
                format_args!("the configuration was not reloaded; the previous one stays active"),
            );
            pending.prepared.abandon(Some(&self.resources), &self.log);
            self.report_outcome(false);
        }
        self.reload_if_requested();
    }

    pub(super) fn reload_if_requested(&mut self) {
        if std::mem::take(&mut self.phase.reload_again) && matches!(self.ending, Ending::No) {
            self.reload();
        }
    }
}

/// Sends a worker everything that it needs to switch to another configuration.
fn send_reload(channel: &UnixStream, generation: u64, prepared: &Prepared, bundle: &[u8]) -> io::Result<()> {
    let listening = &prepared.resources.listening;
    let addresses: Vec<_> = listening.iter().map(|one| (&one.spec.address, one.sockets.len())).collect();
    let paths: Vec<&PathBuf> = prepared.logs.iter().map(|(path, _)| path).collect();
    let sockets = listening.iter().flat_map(|one| &one.sockets).map(|socket| (**socket).as_fd());
    let logs = prepared.logs.iter().map(|(_, fd): &(PathBuf, OwnedFd)| fd.as_fd());
    let fds: Vec<BorrowedFd<'_>> = sockets.chain(logs).collect();
    let body = encode_body(&addresses, &paths, &prepared.resources.without_master(), bundle);
    send_message(channel, kind::RELOAD, generation, &body, &fds)
}
