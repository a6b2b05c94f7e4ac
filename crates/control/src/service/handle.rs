//! The handle of the control service: orders and queries from any thread.
//!
//! Owns the thread "control" and the channel to it. Must never block a request: work is done on that thread, and the caller
//! awaits the answer or passes a callback. [`ControlState`] belongs to that thread alone and needs no lock.

use super::clock::{now_ms, now_us};
use super::config_check::{self, Declarations, StoreCheck};
use super::order::TIMEOUT;
use super::shared::{Shared, stopping};
use super::startup;
use super::state::ControlState;
use super::switch_state::SwitchState;
use super::undo::UndoWhat;
use crate::call::{ApiAnswer, ApiCall};
use crate::data_plane::{DataPlane, GroupState};
use crate::event::Events;
use crate::info::{Entries, EntryQuery, HoldInfo, SwitchInfo, Verification};
use crate::journal::{self, Journal};
use crate::options::{CommitRef, HoldOrder, Options, Wait};
use crate::receipt::Receipt;
use crate::setup::Setup;
use crate::store::StoreBackend;
use engine::host::Level;
use engine::modules::switch::GROUPS_NAME;
use engine::{Config, Routing};
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use switch::{Action, Commit, Filter, Key, Meta, Order, Refusal, ServerOrder};
use tokio::sync::{Notify, mpsc, oneshot};

/// Work for the control thread, inside its runtime.
pub(super) type Job = Box<dyn FnOnce(&Rc<ControlState>) + Send>;

/// The handle of the control thread. Cheap to clone; any thread may use it.
#[derive(Clone)]
pub struct ControlHandle {
    pub(super) jobs: mpsc::UnboundedSender<Message>,
    pub(super) thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// The number of API calls in progress.
    pub(super) calls: Arc<AtomicUsize>,
    pub(super) shared: Arc<Shared>,
}

/// An API call in progress; stopping the control thread waits for it, up to a limit.
pub(crate) struct Answering(Arc<AtomicUsize>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long stopping the control thread waits for API calls in progress, and for the bytes of the last answer to leave.
const LAST_ANSWERS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(5));

/// A message to the control thread.
pub(super) enum Message {
    Job(Job),
    Retire,
    /// The last calls have been answered.
    Retired,
    Stop,
}

impl ControlHandle {
    /// Opens the stores, starts the control thread and serves the control socket. Returns the tables and groups to serve with:
    /// those of the stores, whatever confirmation came due while nothing ran.
    ///
    /// # Errors
    /// A store cannot be used, or a table does not fit the configuration: the text says which, why, and what to do.
    pub fn start(setup: Setup) -> Result<(ControlHandle, Arc<Routing>), String> {
        let Setup {
            config,
            listener,
            refused_peer,
            data_plane,
            clock_ms,
            log,
            upgrades,
            file_default,
            window_times,
        } = setup;
        let declared = Declarations::of(&config);
        let former = config_check::check_start(&declared).map_err(|faults| faults.join("; "))?;
        let opened = startup::open(&config, file_default, data_plane.prober(), &log)?;
        let journal = Journal::start(journal::place(&config), now_ms, log.clone())
            .map_err(|error| format!("the thread of the journal cannot be started: {error}"))?;
        journal.append(journal::start(upgrades, now_ms()));
        let (jobs, mut inbox) = mpsc::unbounded_channel();
        let mut shared = Shared::new(config, data_plane, clock_ms, log, Events::new(now_us()), journal);
        shared.window_times = window_times;
        let control =
            ControlHandle { jobs, thread: Arc::default(), calls: Arc::default(), shared: Arc::new(shared) };
        let (routing, inside) = (opened.routing.clone(), control.clone());
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                let _ = ready.send(Ok(()));
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async move {
                    let state = startup::control_state(opened, Arc::clone(&inside.shared));
                    config_check::settle(&state, former);
                    let handle = inside.clone();
                    let closing = Rc::new(Notify::new());
                    let serving = listener.map(|listener| {
                        tokio::task::spawn_local(crate::api::serve(
                            inside,
                            listener,
                            refused_peer,
                            closing.clone(),
                        ))
                    });
                    let mut close = Some(handle.close(closing, serving));
                    let (mut retired, mut stopping) = (false, false);
                    while !(retired && stopping) {
                        match inbox.recv().await {
                            Some(Message::Job(job)) if !retired => job(&state),
                            // Dropping it drops the answers that it owes, and their receivers notice.
                            Some(Message::Job(_)) => {}
                            Some(Message::Retired) => retired = true,
                            Some(message) => {
                                stopping |= matches!(message, Message::Stop);
                                state.leave_fleet();
                                close.take().map(tokio::task::spawn_local);
                            }
                            None => return,
                        }
                    }
                    state.save_unfinished();
                });
            })
            .map_err(|error| format!("the control thread cannot be started: {error}"))?;
        match started.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("the control thread cannot be started: {error}")),
            Err(_) => return Err("the control thread ended at start".into()),
        }
        *control.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok((control, routing))
    }

    /// Carries an order out: plan, gate, commit, publish, and as much of the drain as the options wait for. It is carried
    /// out even if the future is dropped.
    ///
    /// # Errors
    /// The order is refused; then nothing was changed.
    pub async fn order(&self, switch: &str, order: Order, options: Options) -> Result<Receipt, Refusal> {
        self.at(switch, move |state, switch| async move { state.order(&switch, order, options).await }).await
    }

    /// Undoes a commit, or the last change of some keys.
    ///
    /// # Errors
    /// As for [`ControlHandle::order`].
    pub async fn undo(
        &self,
        switch: &str,
        what: UndoWhat,
        meta: Meta,
        options: Options,
    ) -> Result<Receipt, Refusal> {
        self.at(switch, move |state, switch| async move { state.undo(&switch, what, meta, options).await })
            .await
    }

    /// Confirms a pending commit; without a revision, the only pending one.
    ///
    /// # Errors
    /// As for [`ControlHandle::order`].
    pub async fn confirm(&self, switch: &str, revision: Option<u64>, meta: Meta) -> Result<Receipt, Refusal> {
        self.at(switch, move |state, switch| async move { state.confirm(&switch, revision, meta).await })
            .await
    }

    /// Holds new requests of a key until it is released.
    ///
    /// # Errors
    /// As for [`ControlHandle::order`].
    pub async fn hold(&self, switch: &str, order: HoldOrder) -> Result<HoldInfo, Refusal> {
        self.at(switch, move |state, switch| async move { state.hold(&switch, order).await }).await
    }

    /// Releases a key's requests: `per_second` of them per second, or all at once. Returns the hold as it was.
    ///
    /// # Errors
    /// As for [`ControlHandle::order`].
    pub async fn release(
        &self,
        switch: &str,
        key: Key,
        per_second: Option<u32>,
        actor: String,
        reason: Option<String>,
    ) -> Result<HoldInfo, Refusal> {
        self.at(switch, move |state, switch| async move {
            state.release(&switch, &key, per_second, actor, reason).await
        })
        .await
    }

    /// Returns all switches, in the order of the configuration.
    ///
    /// # Errors
    /// The control thread has stopped.
    pub async fn list(&self) -> Result<Vec<SwitchInfo>, Refusal> {
        self.ask(|state| async move { Ok(state.switch_infos()) }).await
    }

    /// Returns a switch.
    ///
    /// # Errors
    /// There is no switch of this name.
    pub async fn show(&self, switch: &str) -> Result<SwitchInfo, Refusal> {
        self.at(switch, |state, switch| async move { Ok(state.switch_info(&switch)) }).await
    }

    /// Returns a switch's published table.
    ///
    /// # Errors
    /// There is no switch of this name.
    pub async fn table(&self, switch: &str) -> Result<Arc<switch::Table>, Refusal> {
        self.at(switch, |_, switch| async move { Ok(switch.table()) }).await
    }

    /// Returns entries of a switch's table.
    ///
    /// # Errors
    /// There is no switch of this name.
    pub async fn entries(&self, switch: &str, query: EntryQuery) -> Result<Entries, Refusal> {
        self.at(switch, |_, switch| async move { switch.entries(query).await }).await
    }

    /// Returns commits, newest first.
    ///
    /// # Errors
    /// There is no switch of this name, or its store cannot be read.
    pub async fn history(&self, switch: &str, filter: Filter) -> Result<Vec<Commit>, Refusal> {
        self.at(switch, |_, switch| async move { switch.history(filter).await }).await
    }

    /// Returns the receipt of a commit, as complete as it is by now. The receipts of the last thousand commits are kept.
    ///
    /// # Errors
    /// There is no switch of this name, no such receipt, or the store cannot be read.
    pub async fn receipt(&self, switch: &str, revision: u64) -> Result<Receipt, Refusal> {
        self.at(switch, move |state, switch| async move { state.receipt(&switch, revision).await }).await
    }

    /// Waits for a commit as its order could have, and returns its receipt as it is then.
    ///
    /// # Errors
    /// There is no switch of this name, no such commit, or the store cannot be read.
    pub async fn wait(
        &self,
        switch: &str,
        which: CommitRef,
        wait: Wait,
        timeout: Option<Duration>,
    ) -> Result<Receipt, Refusal> {
        self.at(switch, move |state, switch| async move {
            state.wait_for(&switch, which, wait, timeout.unwrap_or(TIMEOUT)).await
        })
        .await
    }

    /// Verifies the chain of a switch's whole history.
    ///
    /// # Errors
    /// There is no switch of this name, or its store cannot be read. A broken chain is not an error but a result.
    pub async fn verify(&self, switch: &str) -> Result<Verification, Refusal> {
        self.at(switch, |_, switch| async move { switch.verify().await }).await
    }

    /// Returns a backup of a switch's store, as the bytes of a file.
    ///
    /// # Errors
    /// There is no switch of this name, its store is in memory, or it is damaged.
    pub async fn backup(&self, switch: &str) -> Result<Vec<u8>, Refusal> {
        let backup = |store: &mut dyn StoreBackend| store.backup();
        self.at(switch, move |_, switch| async move { Ok(switch.store.with(backup).await?) }).await
    }

    /// Returns the active configuration.
    pub fn config(&self) -> Arc<Config> {
        self.shared.config()
    }

    /// Returns what is published: the tables, and the groups whose servers are others than the configuration's.
    pub fn routing(&self) -> Arc<Routing> {
        self.shared.routing()
    }

    /// Returns the data plane.
    pub fn data_plane(&self) -> &Arc<dyn DataPlane> {
        &self.shared.data_plane
    }

    /// Writes to the error log.
    pub fn log(&self, level: Level, text: &str) {
        self.shared.log(level, text);
    }

    /// Returns every worker thread's view of the groups' peers; without those that do not answer in time.
    ///
    /// # Errors
    /// The control thread has stopped.
    pub async fn peers(&self) -> Result<Vec<GroupState>, Refusal> {
        self.ask(|state| async move { Ok(state.peers().await) }).await
    }

    /// Empties all recorders into the collector, so that it is current.
    ///
    /// # Errors
    /// The control thread has stopped.
    pub async fn collect(&self) -> Result<(), Refusal> {
        self.ask(|state| async move {
            state.collect().await;
            Ok(())
        })
        .await
    }

    /// Answers a call of the API that came through a location.
    pub fn call(&self, call: ApiCall, answer: Box<dyn ApiAnswer>) {
        let control = self.clone();
        self.send(Box::new(move |_| {
            let answering = control.answering();
            tokio::task::spawn_local(async move {
                crate::api::answer(control, call, answer).await;
                drop(answering);
            });
        }));
    }

    /// Counts a call as in progress until the value is dropped.
    pub(crate) fn answering(&self) -> Answering {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(&self.calls))
    }

    /// Carries out a script's order: routes a key to a target, or to the default. The reply is called on the control
    /// thread, with the revision, once every worker has acknowledged it.
    pub fn set_from_lua(
        &self,
        switch: &str,
        key: &[u8],
        target: Option<&[u8]>,
        actor: String,
        reply: Box<dyn FnOnce(Result<u64, Refusal>) + Send>,
    ) {
        let name = switch.to_owned();
        let (key, target) = (key.to_vec(), target.map(<[u8]>::to_vec));
        self.send(Box::new(move |state| {
            let state = state.clone();
            tokio::task::spawn_local(async move {
                let result = match state.switch(&name) {
                    Ok(switch) => state.set_from_script(&switch, &key, target.as_deref(), actor).await,
                    Err(refusal) => Err(refusal),
                };
                reply(result);
            });
        }));
    }

    /// Changes a server of a group for a script, and replies with the new revision once all threads follow it.
    pub fn set_server_from_lua(
        &self,
        order: ServerOrder,
        actor: String,
        reply: Box<dyn FnOnce(Result<u64, Refusal>) + Send>,
    ) {
        self.send(Box::new(move |state| {
            let state = state.clone();
            tokio::task::spawn_local(async move {
                let result = match state.switch(GROUPS_NAME) {
                    Ok(switch) => {
                        let meta = Meta { actor, ..Meta::default() };
                        let options = Options { wait: Wait::Published, ..Options::default() };
                        let order = Order { action: Action::Servers(vec![order]), meta };
                        state.order(&switch, order, options).await.map(|receipt| receipt.revision)
                    }
                    Err(refusal) => Err(refusal),
                };
                reply(result);
            });
        }));
    }

    /// Checks what a configuration declares of switches, as a reload would.
    ///
    /// # Errors
    /// The control thread has stopped.
    pub async fn check(&self, declared: Declarations) -> Result<StoreCheck, Refusal> {
        self.ask(|state| async move { Ok(config_check::check_reload(&state, declared).await) }).await
    }

    /// Lets reloads leave entries of switches behind that the new configuration does not have, or not.
    pub(crate) fn force_reloads(&self, force: bool) {
        self.shared.force_reloads(force);
    }

    /// Takes no more orders, except from connections that are open already: another process takes over. Its commits are
    /// published here too until [`ControlHandle::stop`], for the requests that are still served here.
    pub fn retire(&self) {
        let _ = self.jobs.send(Message::Retire);
    }

    /// Refuses orders from now on, because the master is gone. Queries are answered, and holds can be released. The process
    /// ends after this time, unless another master takes over.
    pub fn refuse_orders(&self, left: Duration) {
        let ends_ms = now_ms().saturating_add(left.as_millis() as u64);
        self.shared.ends_without_master_ms.store(ends_ms, Ordering::Relaxed);
    }

    /// Stops the control thread: a commit in progress is finished, waiting orders are not begun. Blocks until it has ended;
    /// must not be called on the control thread.
    pub fn stop(&self) {
        let _ = self.jobs.send(Message::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
        self.shared.journal.stop();
    }

    /// Returns the monotonic time of holds and statistics, in milliseconds.
    pub(crate) fn clock_ms(&self) -> u64 {
        (self.shared.clock_ms)()
    }

    pub(super) fn send(&self, job: Job) {
        // If the thread has stopped, the job is dropped with the answers that it owes, and their receivers notice.
        let _ = self.jobs.send(Message::Job(job));
    }

    /// Runs a function with a switch on the control thread.
    pub(super) async fn at<T, F, Fut>(&self, switch: &str, question: F) -> Result<T, Refusal>
    where
        F: FnOnce(Rc<ControlState>, Rc<SwitchState>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Refusal>> + 'static,
        T: Send + 'static,
    {
        let switch = switch.to_owned();
        self.ask(move |state| async move {
            let switch = state.switch(&switch)?;
            question(state, switch).await
        })
        .await
    }

    /// Runs a function on the control thread.
    pub(super) async fn ask<T, F, Fut>(&self, question: F) -> Result<T, Refusal>
    where
        F: FnOnce(Rc<ControlState>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Refusal>> + 'static,
        T: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.send(Box::new(move |state| {
            let state = state.clone();
            tokio::task::spawn_local(async move {
                let _ = answer.send(question(state).await);
            });
        }));
        answered.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Closes the control socket once the calls in progress are answered.
    async fn close(self, closing: Rc<Notify>, serving: Option<tokio::task::JoinHandle<()>>) {
        if let Some(serving) = serving {
            // New clients are for the process that takes over.
            closing.notify_one();
            self.answer_last().await;
            serving.abort();
        }
        let _ = self.jobs.send(Message::Retired);
    }

    /// Waits for the answers of calls in progress, such as the reload that ends this process.
    async fn answer_last(&self) {
        let began = Instant::now();
        let any = self.calls.load(Ordering::Relaxed) > 0;
        while self.calls.load(Ordering::Relaxed) > 0 && began.elapsed() < LAST_ANSWERS.0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if any {
            tokio::time::sleep(LAST_ANSWERS.1).await;
        }
    }
}
