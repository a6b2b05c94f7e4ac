//! The office: the counter at which everybody hands in orders and asks questions, from whichever thread.
//!
//! Owns the thread "control" and the way to it. Must never hold a request up: what is asked is done on that thread,
//! and whoever asks awaits the answer or gives a callback.
//!
//! Everything behind the counter ([`Room`]) belongs to the one thread and needs no lock.

mod admission;
mod confirm;
mod desk;
mod drain;
mod hold;
mod opening;
mod rehearsal;
mod room;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod undo;
mod walk;

pub use admission::Admission;

use crate::call::{ApiAnswer, ApiCall};
use crate::event::{EventKind, Events, Subscription};
use crate::order::{HoldOrder, Options};
use crate::receipt::Receipt;
use crate::setup::{Log, Setup};
use crate::state::{Entries, EntryQuery, HeldKey, SwitchState, Verification};
use crate::traffic::{GroupState, Traffic};
use engine::Config;
use engine::host::Level;
use room::Room;
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use switch::{Code, Commit, Filter, Key, Meta, Order, Refusal, Tables};
use tokio::sync::{Notify, mpsc, oneshot};

/// Something to do on the control thread, inside its runtime.
type Job = Box<dyn FnOnce(&Rc<Room>) + Send>;

/// What an undo takes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndoWhat {
    /// Each of these keys goes back to what it was before its last change that still stands.
    Keys(Vec<Key>),
    /// All that this commit changed.
    Commit(u64),
    /// All that the newest commit that changed something and still stands did.
    Last,
}

/// The way to the control thread. Cheap to clone; any thread may use it.
#[derive(Clone)]
pub struct Office {
    counter: Arc<Counter>,
}

/// What everybody on this side of the counter shares.
struct Counter {
    jobs: mpsc::UnboundedSender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
    config: Mutex<Arc<Config>>,
    traffic: Arc<dyn Traffic>,
    clock_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    log: Log,
    events: Events,
    /// How many calls of the API are being answered.
    calls: AtomicUsize,
}

/// A call that is being answered: who stops the control thread waits for it, for a while.
pub(crate) struct Answering(Arc<Counter>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long calls that are being answered are waited for when the control thread is stopped, and how long the bytes of
/// the last answer may take to leave.
const LAST_ANSWERS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(5));

enum Message {
    Job(Job),
    Retire,
    /// The last ones have been answered.
    Retired,
    Stop,
}

impl Office {
    /// Opens the stores, takes back what nobody confirmed in time while nothing ran, starts the control thread and
    /// serves the control socket. Gives the tables to serve with.
    ///
    /// # Errors
    /// A store cannot be used, or a table does not fit the configuration: the text says which, why, and what to do.
    pub fn start(setup: Setup) -> Result<(Office, Arc<Tables>), String> {
        let Setup { config, listener, traffic, clock_ms, log } = setup;
        let opened = opening::open(&config, now_ms())?;
        let (jobs, mut inbox) = mpsc::unbounded_channel();
        let counter = Arc::new(Counter {
            jobs,
            thread: Mutex::new(None),
            config: Mutex::new(config),
            traffic,
            clock_ms,
            log,
            events: Events::new(now_us()),
            calls: AtomicUsize::new(0),
        });
        let office = Office { counter };
        let tables = opened.tables.clone();
        let inside = office.clone();
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
                    let room = Room::furnish(opened, inside.clone());
                    let counter = Arc::clone(&inside.counter);
                    let closing = Rc::new(Notify::new());
                    let serving = listener.map(|listener| {
                        tokio::task::spawn_local(crate::api::serve(inside, listener, closing.clone()))
                    });
                    let mut close = Some(counter.close(closing, serving));
                    let (mut retired, mut stopping) = (false, false);
                    while !(retired && stopping) {
                        match inbox.recv().await {
                            Some(Message::Job(job)) if !retired => job(&room),
                            // It is dropped with the answers it owes, and whoever awaits them learns it.
                            Some(Message::Job(_)) => {}
                            Some(Message::Retired) => retired = true,
                            Some(message) => {
                                stopping |= matches!(message, Message::Stop);
                                close.take().map(tokio::task::spawn_local);
                            }
                            None => return,
                        }
                    }
                });
            })
            .map_err(|error| format!("the control thread cannot be started: {error}"))?;
        match started.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("the control thread cannot be started: {error}")),
            Err(_) => return Err("the control thread ended as it began".into()),
        }
        *office.counter.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok((office, tables))
    }

    /// Carries an order out: plan, gate, commit, publish, and as much of what follows as the options ask to wait for.
    /// Once handed in it is carried out, also if nobody awaits the answer any more.
    ///
    /// # Errors
    /// The refusal, by its code. Nothing was changed then.
    pub async fn order(&self, switch: &str, order: Order, options: Options) -> Result<Receipt, Refusal> {
        self.at(switch, move |room, desk| async move { room.order(&desk, order, options).await }).await
    }

    /// Takes back a commit, or the last change of some keys.
    ///
    /// # Errors
    /// As for [`Office::order`].
    pub async fn undo(
        &self,
        switch: &str,
        what: UndoWhat,
        meta: Meta,
        options: Options,
    ) -> Result<Receipt, Refusal> {
        self.at(switch, move |room, desk| async move { room.undo(&desk, what, meta, options).await }).await
    }

    /// Confirms a pending commit: it stays. Without a revision, the only one that is pending.
    ///
    /// # Errors
    /// As for [`Office::order`].
    pub async fn confirm(&self, switch: &str, revision: Option<u64>, meta: Meta) -> Result<Receipt, Refusal> {
        self.at(switch, move |room, desk| async move { room.confirm(&desk, revision, meta).await }).await
    }

    /// Lets new requests of a key wait until it is released.
    ///
    /// # Errors
    /// As for [`Office::order`].
    pub async fn hold(&self, switch: &str, order: HoldOrder) -> Result<HeldKey, Refusal> {
        self.at(switch, move |room, desk| async move { room.hold(&desk, order).await }).await
    }

    /// Lets a key's requests go on: `per_second` of them in a second, or all at once. Gives the hold as it was.
    ///
    /// # Errors
    /// As for [`Office::order`].
    pub async fn release(
        &self,
        switch: &str,
        key: Key,
        per_second: Option<u32>,
        actor: String,
    ) -> Result<HeldKey, Refusal> {
        self.at(switch, move |room, desk| async move { room.release(&desk, &key, per_second, &actor).await })
            .await
    }

    /// All switches, in the order of the configuration.
    ///
    /// # Errors
    /// The control thread has stopped.
    pub async fn list(&self) -> Result<Vec<SwitchState>, Refusal> {
        self.ask(|room| async move { Ok(room.states()) }).await
    }

    /// One switch.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn show(&self, switch: &str) -> Result<SwitchState, Refusal> {
        self.at(switch, |room, desk| async move { Ok(room.state(&desk)) }).await
    }

    /// A switch's table as it is published.
    ///
    /// # Errors
    /// There is no switch of this name.
    pub async fn table(&self, switch: &str) -> Result<Arc<switch::Table>, Refusal> {
        self.at(switch, |_, desk| async move { Ok(desk.table()) }).await
    }

    /// Entries of a switch's table.
    ///
    /// # Errors
    /// There is no switch of this name.
    pub async fn entries(&self, switch: &str, query: EntryQuery) -> Result<Entries, Refusal> {
        self.at(switch, |_, desk| async move { desk.entries(query).await }).await
    }

    /// Commits, newest first.
    ///
    /// # Errors
    /// There is no switch of this name, or its store cannot be read.
    pub async fn history(&self, switch: &str, filter: Filter) -> Result<Vec<Commit>, Refusal> {
        self.at(switch, |_, desk| async move { desk.history(filter).await }).await
    }

    /// The receipt of a commit, as complete as it is by now. Only those of the last thousand commits are kept.
    ///
    /// # Errors
    /// There is no switch of this name, no such receipt, or the store cannot be read.
    pub async fn receipt(&self, switch: &str, revision: u64) -> Result<Receipt, Refusal> {
        self.at(switch, move |room, desk| async move { room.receipt(&desk, revision).await }).await
    }

    /// Checks the chain of a switch's whole history.
    ///
    /// # Errors
    /// There is no switch of this name, or its store cannot be read. A broken chain is no error: it is what was found.
    pub async fn verify(&self, switch: &str) -> Result<Verification, Refusal> {
        self.at(switch, |_, desk| async move { desk.verify().await }).await
    }

    /// Events from now on, and those after the event of this number as far as they are kept.
    pub fn events(&self, after: Option<u64>) -> Subscription {
        self.counter.events.subscribe(after)
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.counter.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whoever serves the requests.
    pub fn traffic(&self) -> &Arc<dyn Traffic> {
        &self.counter.traffic
    }

    /// Writes to the error log.
    pub fn log(&self, level: Level, text: &str) {
        (self.counter.log)(level, text);
    }

    /// What every worker thread knows about the peers of the groups; fewer threads if some do not answer in time.
    ///
    /// # Errors
    /// The control thread has stopped.
    pub async fn peers(&self) -> Result<Vec<GroupState>, Refusal> {
        self.ask(|room| async move { Ok(room.peers().await) }).await
    }

    /// Empties all recorders into the collector, so that what is read from it then is of now.
    ///
    /// # Errors
    /// The control thread has stopped.
    pub async fn collect(&self) -> Result<(), Refusal> {
        self.ask(|room| async move {
            room.collect().await;
            Ok(())
        })
        .await
    }

    /// Answers a call of the API that came through a location.
    pub fn call(&self, call: ApiCall, answer: Box<dyn ApiAnswer>) {
        let office = self.clone();
        self.send(Box::new(move |_| {
            let answering = office.answering();
            tokio::task::spawn_local(async move {
                crate::api::answer(office, call, answer).await;
                drop(answering);
            });
        }));
    }

    /// A call is being answered as long as this is there.
    pub(crate) fn answering(&self) -> Answering {
        self.counter.calls.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(&self.counter))
    }

    /// An order from a script: this key gets this target, or the default. The reply is called on the control thread,
    /// with the revision, once every worker has taken it over.
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
        self.send(Box::new(move |room| {
            let room = room.clone();
            tokio::task::spawn_local(async move {
                let result = match room.desk(&name) {
                    Ok(desk) => room.set_from_script(&desk, &key, target.as_deref(), actor).await,
                    Err(refusal) => Err(refusal),
                };
                reply(result);
            });
        }));
    }

    /// Checks a new configuration against the tables and opens the stores that are new in it. While the admission
    /// lives nothing is committed; [`Admission::finish`] takes the new configuration over, dropping it leaves all as it
    /// was. Blocks the calling thread, which must not be a worker's or the control thread.
    ///
    /// # Errors
    /// The configuration does not fit: the text names the keys it would orphan, or the store that cannot be used.
    pub fn admit(&self, config: &Arc<Config>) -> Result<Admission, String> {
        admission::admit(self, config)
    }

    /// Takes no orders any more but those of connections that it has let in already, which have a moment for that: another
    /// process takes them from here on. What that one commits is published here too, until [`Office::stop`]: requests go
    /// on here for a while.
    pub fn retire(&self) {
        let _ = self.counter.jobs.send(Message::Retire);
    }

    /// Stops the control thread: what is being committed is finished, what waits is not begun. Blocks until
    /// it is done; not to be called on the control thread.
    pub fn stop(&self) {
        let _ = self.counter.jobs.send(Message::Stop);
        let thread = self.counter.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
    }

    /// The time by which held requests wait and what was measured is kept, in milliseconds.
    pub(crate) fn clock_ms(&self) -> u64 {
        (self.counter.clock_ms)()
    }

    pub(crate) fn announce(&self, switch: &Arc<str>, kind: EventKind) {
        self.counter.events.announce(now_ms(), switch, kind);
    }

    fn adopt(&self, config: Arc<Config>) {
        *self.counter.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn send(&self, job: Job) {
        // If the thread has stopped, the job is dropped with the answers it owes, and whoever awaits them learns it.
        let _ = self.counter.jobs.send(Message::Job(job));
    }

    /// Asks at one switch's desk.
    async fn at<T, F, Fut>(&self, switch: &str, question: F) -> Result<T, Refusal>
    where
        F: FnOnce(Rc<Room>, Rc<desk::Desk>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Refusal>> + 'static,
        T: Send + 'static,
    {
        let switch = switch.to_owned();
        self.ask(move |room| async move {
            let desk = room.desk(&switch)?;
            question(room, desk).await
        })
        .await
    }

    /// Asks on the control thread.
    async fn ask<T, F, Fut>(&self, question: F) -> Result<T, Refusal>
    where
        F: FnOnce(Rc<Room>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Refusal>> + 'static,
        T: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.send(Box::new(move |room| {
            let room = room.clone();
            tokio::task::spawn_local(async move {
                let _ = answer.send(question(room).await);
            });
        }));
        answered.await.unwrap_or_else(|_| Err(stopping()))
    }
}

impl Counter {
    /// Lets nobody in any more, and sends those away who are there, after their last answers.
    async fn close(self: Arc<Counter>, closing: Rc<Notify>, serving: Option<tokio::task::JoinHandle<()>>) {
        if let Some(serving) = serving {
            // Whoever comes now is for the process that goes on.
            closing.notify_one();
            self.answer_last().await;
            serving.abort();
        }
        let _ = self.jobs.send(Message::Retired);
    }

    /// Lets those have their answer who are about to get one, such as whoever asked for the reload that ends this
    /// process.
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

fn stopping() -> Refusal {
    Refusal::new(
        Code::Stopping,
        "the control plane is stopping",
        "ask again when the process has been started anew",
    )
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    now_us() / 1000
}

/// Microseconds since the Unix epoch.
pub(crate) fn now_us() -> u64 {
    #[cfg(test)]
    if let Some(now_us) = simulation::now_us() {
        return now_us;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
