//! Reloading: a new configuration beside the one in force, until a worker has gone over to it.
//!
//! Owns the reload from HUP to commit or give-up. Must never touch what is in force before a worker has confirmed the
//! new configuration.

use super::workers::Forked;
use super::{Ending, Master, Pending, Worker, signal_worker};
use crate::process::boot::Application;
use crate::process::channel::send_message;
use crate::process::control::{Answer, encode_body, kind};
use crate::process::estate::{self, Prepared};
use crate::process::journal::Said;
use crate::process::load::{Pictures, load};
use crate::process::log::{Level, NewLogs};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long a worker may take to be ready before a reload starts another.
const BEGINNING: Duration = Duration::from_secs(5);

impl<A: Application> Master<A> {
    pub(super) fn reload(&mut self) {
        // A worker that is about to be ready is asked then: only it can say what stands in the way of another
        // configuration, and one started beside it would know nothing of what it holds. One that takes too long may
        // wait for something that the new configuration mends.
        let beginning = |worker: &Worker| {
            !worker.ready && !worker.leaving && !worker.silent && worker.born.elapsed() < BEGINNING
        };
        if self.pending.is_some() || self.workers.iter().any(beginning) {
            self.state.reload_again = true;
            return;
        }
        self.state.answering = std::mem::take(&mut self.state.asking);
        if !self.state.answering.is_empty() {
            self.journal.listen();
        }
        self.notify.reloading();
        if self.begin_reload().is_err() {
            self.tell_outcome(false);
        }
    }

    /// A worker asks for a reload, as HUP does, and wants to know what comes of it.
    pub(super) fn reload_for(&mut self, worker: Pid, ticket: u64) {
        self.state.asking.push((worker, ticket));
        if !matches!(self.ending, Ending::No) || self.kin.are_two() {
            self.state.answering = std::mem::take(&mut self.state.asking);
            self.journal.listen();
            self.journal
                .say(Level::Warn, format_args!("there is no reload while the processes end or are replaced"));
            return self.answer(false);
        }
        self.reload();
    }

    /// Tells everybody who wants to know how a reload has ended.
    fn tell_outcome(&mut self, done: bool) {
        self.notify.reloaded(done);
        self.answer(done);
    }

    fn answer(&mut self, done: bool) {
        let findings = self.journal.heard();
        let body = Answer::encode(done, &findings);
        for (pid, ticket) in std::mem::take(&mut self.state.answering) {
            let Some(worker) = self.workers.iter().find(|worker| worker.pid == pid) else { continue };
            if let Err(error) = send_message(&worker.channel, kind::ANSWER, ticket, &body, &[]) {
                self.journal.failed(Level::Alert, format_args!("sendmsg() to worker process {pid}"), &error);
                // Half a message: it would understand no other.
                signal_worker(pid, Signal::SIGKILL, &self.journal);
            }
        }
    }

    fn begin_reload(&mut self) -> Result<(), Said> {
        self.journal.say(Level::Notice, format_args!("reconfiguring"));
        let recorded = load(&self.app, &self.source, &self.journal, Pictures::Left)?;
        let prepared = Prepared::new(recorded.boot, &self.source, &self.estate.listening, &self.journal);
        let prepared = prepared?;
        self.generation += 1;
        let generation = self.generation;
        let running = self.workers.iter().find(|worker| !worker.leaving && worker.ready);
        let same = self.estate.boot.same_process(&prepared.estate.boot);
        match running {
            Some(worker) if same => {
                let sent = send_reload(&worker.channel, generation, &prepared, &recorded.bundle);
                let (worker, pid) = (worker.pid, worker.pid);
                self.pending = Some(Pending {
                    generation,
                    config: recorded.config,
                    prepared,
                    worker,
                    new_process: false,
                });
                if let Err(error) = sent {
                    // Half an order cannot be taken back: the worker is of no more use. Its death ends the reload.
                    self.journal.failed(
                        Level::Alert,
                        format_args!("sendmsg() to worker process {pid}"),
                        &error,
                    );
                    signal_worker(pid, Signal::SIGKILL, &self.journal);
                }
            }
            _ if self.holds("this configuration") => {
                prepared.abandon(Some(&self.estate), &self.journal);
                return Err(Said);
            }
            _ => self.reload_with_new_process(recorded.config, prepared)?,
        }
        Ok(())
    }

    /// Starts a new worker process with the new configuration; the old one goes when it is ready, as with nginx.
    fn reload_with_new_process(&mut self, config: A::Config, prepared: Prepared) -> Result<(), Said> {
        let generation = self.generation;
        self.respawn.due = None;
        // The new process writes to the new log files from its first line on.
        let copies = prepared.logs.iter().map(|(path, fd)| Ok((path.clone(), fd.try_clone()?)));
        let adopted = copies.collect::<io::Result<_>>().and_then(|files| self.logs.adopt(NewLogs { files }));
        if let Err(error) = adopted {
            prepared.abandon(Some(&self.estate), &self.journal);
            return Err(self.journal.failed(Level::Alert, "dup() of a log file", &error));
        }
        self.journal.say(Level::Notice, format_args!("start worker processes"));
        match self.fork() {
            Ok(Forked::Parent(worker)) => {
                self.pending = Some(Pending { generation, config, prepared, worker, new_process: true });
            }
            Ok(Forked::Child(channel)) => {
                let estate = prepared.estate.clone();
                drop(prepared);
                self.live(Some(config), estate, channel);
            }
            Err(said) => {
                prepared.abandon(Some(&self.estate), &self.journal);
                return Err(said);
            }
        }
        Ok(())
    }

    pub(super) fn is_pending(&self, worker: Pid, generation: u64) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|pending| pending.worker == worker && pending.generation == generation)
    }

    /// The worker has gone over to the new configuration: it is the one in force.
    pub(super) fn finish_reload(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let before = self.estate.clone();
        let old_pid_path = before.boot.pid_path.clone();
        self.estate = pending.prepared.commit(Some(before), &self.source, &self.logs, &mut self.journal);
        self.config = Some(pending.config);
        self.state.resting = false;
        // Before the answer: whoever gets it is to find nobody any more who accepts for the configuration before.
        if pending.new_process {
            self.send_away(|worker| worker.pid != pending.worker);
        }
        self.tell_outcome(true);
        estate::move_pid_file(&old_pid_path, &self.estate.boot.pid_path, &self.journal);
        self.reload_if_asked();
    }

    pub(super) fn give_up_reload(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.journal.say(
                Level::Error,
                format_args!("the configuration was not reloaded, the one before stays in force"),
            );
            pending.prepared.abandon(Some(&self.estate), &self.journal);
            self.tell_outcome(false);
        }
        self.reload_if_asked();
    }

    pub(super) fn reload_if_asked(&mut self) {
        if std::mem::take(&mut self.state.reload_again) && matches!(self.ending, Ending::No) {
            self.reload();
        }
    }
}

/// Sends a worker everything it needs to go over to another configuration.
fn send_reload(channel: &UnixStream, generation: u64, prepared: &Prepared, bundle: &[u8]) -> io::Result<()> {
    let listening = &prepared.estate.listening;
    let addresses: Vec<_> = listening.iter().map(|one| (&one.spec.address, one.sockets.len())).collect();
    let paths: Vec<&PathBuf> = prepared.logs.iter().map(|(path, _)| path).collect();
    let sockets = listening.iter().flat_map(|one| &one.sockets).map(|socket| (**socket).as_fd());
    let logs = prepared.logs.iter().map(|(_, fd): &(PathBuf, OwnedFd)| fd.as_fd());
    let fds: Vec<BorrowedFd<'_>> = sockets.chain(logs).collect();
    send_message(channel, kind::RELOAD, generation, &encode_body(&addresses, &paths, bundle), &fds)
}
