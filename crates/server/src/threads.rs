//! The worker threads: starting them, and telling them about new generations, log files and the end.

use crate::clock::{self, Clock};
use crate::counters::Counters;
use crate::generation::{Departure, Generation};
use crate::host::BootHost;
use crate::listeners::Listeners;
use crate::logs::{Gathering, Logs};
use crate::memory;
use crate::panics::Vital;
use crate::parking::{ClosedAtTheEnd, Parking};
use crate::process::Address;
use crate::process::log::{ErrorLog, LogFiles, LogTarget};
use crate::proxy::pool::{Groups, SharedGroups};
use crate::recording::{self, Recording};
use crate::switching::{Crossing, Names};
use crate::timers;
use crate::worker::Worker;
use control::Office;
use engine::Config;
use statistics::{Collector, Layout};
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use switch::Tables;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::spawn_local;

/// What a thread is told.
pub(crate) enum Message {
    /// Make this generation ready beside the one in force, and say whether it can be gone over to.
    Prepare(Box<NewGeneration>, mpsc::Sender<Result<(), String>>),
    /// Go over to the prepared generation, and say so.
    Commit(mpsc::Sender<()>),
    /// Forget the prepared generation.
    Abandon,
    /// Write out what is buffered for logs, and say so.
    FlushLogs(mpsc::Sender<()>),
    /// Somebody has put a question.
    Look,
    /// Accept no more, and say so; finish what has begun, at most so long, then end.
    Quit(Option<Duration>, mpsc::Sender<()>),
    /// End.
    Terminate,
}

/// A generation as a thread gets it.
pub(crate) struct NewGeneration {
    pub(crate) number: u64,
    pub(crate) config: Arc<Config>,
    pub(crate) files: Arc<LogFiles>,
    /// Where the error log of the command line goes.
    pub(crate) command_line_log: LogTarget,
    pub(crate) error_log: ErrorLog,
    pub(crate) groups: Arc<SharedGroups>,
    pub(crate) dicts: lua::Dicts,
    /// The tables of its switches.
    pub(crate) tables: Arc<Tables>,
    /// The names under which its requests are measured.
    pub(crate) layout: Arc<Layout>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) sockets: Vec<(Address, OwnedFd)>,
    pub(crate) departure: Arc<Departure>,
}

/// Who stops scripts that run for too long: one for each machine, as long as its generation is there.
pub(crate) type Watchdogs = Arc<Mutex<Vec<(Weak<()>, lua::machine::Watchdog)>>>;

/// What all threads have together.
#[derive(Clone)]
pub(crate) struct Crew {
    /// How many there are.
    pub(crate) threads: usize,
    pub(crate) counters: Arc<Counters>,
    pub(crate) watchdogs: Watchdogs,
    /// When the process began: where all threads' clocks count from.
    pub(crate) began: Instant,
    /// Whether anything is measured.
    pub(crate) records: bool,
    pub(crate) collector: Arc<Mutex<Collector>>,
    pub(crate) office: Office,
    pub(crate) crossing: Arc<Crossing>,
}

/// A running thread.
pub(crate) struct Thread {
    messages: UnboundedSender<Message>,
    join: JoinHandle<()>,
}

impl Thread {
    /// Starts a thread with its first generation. It says on `ready` whether it can take connections.
    pub(crate) fn start(
        number: usize,
        crew: Crew,
        first: NewGeneration,
        (messages, inbox): (UnboundedSender<Message>, UnboundedReceiver<Message>),
        ready: mpsc::Sender<Result<(), String>>,
        ended: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Thread> {
        let join = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            run(number, &crew, first, inbox, &ready);
            ended();
        })?;
        Ok(Thread { messages, join })
    }

    /// Tells it something. A thread that has ended hears nothing.
    pub(crate) fn tell(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    /// Has it ended?
    pub(crate) fn has_ended(&self) -> bool {
        self.join.is_finished()
    }
}

fn run(
    number: usize,
    crew: &Crew,
    first: NewGeneration,
    inbox: UnboundedReceiver<Message>,
    ready: &mpsc::Sender<Result<(), String>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_unpark(clock::turn)
        .build_local(tokio::runtime::LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(live(number, crew, first, inbox, ready)),
        // The receiver waits for every thread's word; it is there.
        Err(error) => drop(ready.send(Err(format!("a worker thread has no event loop: {error}")))),
    }
    crew.crossing.questions(number).close();
}

/// A generation that is ready, with the addresses it listens on and the sockets that are new.
type Prepared = (Rc<Generation>, Vec<Address>, Vec<(Address, OwnedFd)>);

/// A thread's life, from its first generation to its last connection.
async fn live(
    number: usize,
    crew: &Crew,
    mut first: NewGeneration,
    mut inbox: UnboundedReceiver<Message>,
    ready: &mpsc::Sender<Result<(), String>>,
) {
    let clock = Rc::new(Clock::new(crew.began));
    let names = Names::default();
    let gathering = Rc::new(Gathering::default());
    let sockets = (std::mem::take(&mut first.addresses), std::mem::take(&mut first.sockets));
    let generation = match prepare(number, crew, (&clock, &gathering, &names), first, None) {
        Ok(generation) => generation,
        Err(fault) => return drop(ready.send(Err(fault))),
    };
    let parking = match Parking::new() {
        Ok(parking) => parking,
        Err(error) => return drop(ready.send(Err(format!("idle connections cannot be watched: {error}")))),
    };
    let worker = Rc::new(Worker::new(number, (Rc::clone(&clock), parking), crew, generation));
    let _parked = ClosedAtTheEnd(Rc::clone(&worker));
    let listeners = Listeners::default();
    if let Err(error) = listeners.adopt(&worker, &worker.generation(), &sockets.0, sockets.1) {
        return drop(ready.send(Err(format!("a listening socket cannot be watched: {error}"))));
    }
    spawn_local(keep_house(Rc::clone(&worker)));
    spawn_local({
        let gathering = Rc::clone(&gathering);
        async move { gathering.keep_writing().await }
    });
    spawn_local({
        let worker = Rc::clone(&worker);
        async move { worker.deadlines.keep_waking(&worker.clock).await }
    });
    spawn_local({
        let worker = Rc::clone(&worker);
        async move { worker.parking.keep_watching().await }
    });
    timers::start(&worker, &worker.generation());
    let _ = ready.send(Ok(()));
    let mut prepared: Option<Prepared> = None;
    while let Some(message) = inbox.recv().await {
        match message {
            Message::Prepare(mut new, answer) => {
                let sockets = (std::mem::take(&mut new.addresses), std::mem::take(&mut new.sockets));
                let old = worker.generation();
                let result = prepare(number, crew, (&clock, &gathering, &names), *new, Some(&old));
                let word = result.map(|generation| prepared = Some((generation, sockets.0, sockets.1)));
                worker.questions.hold_back(word.is_ok());
                let _ = answer.send(word);
            }
            Message::Abandon => {
                prepared = None;
                worker.questions.hold_back(false);
                worker.look_for_questions();
            }
            Message::Commit(done) => {
                if let Some((generation, addresses, sockets)) = prepared.take() {
                    let old = worker.adopt(generation);
                    bound(&worker, &old);
                    worker.questions.hold_back(false);
                    worker.look_for_questions();
                    timers::end(&worker, &old);
                    timers::start(&worker, &worker.generation());
                    if let Err(error) = listeners.adopt(&worker, &old, &addresses, sockets) {
                        let generation = worker.generation();
                        generation.alert(format_args!("a listening socket cannot be watched: {error}"));
                    }
                }
                let _ = done.send(());
            }
            Message::FlushLogs(done) => {
                worker.generation().logs.flush();
                let _ = done.send(());
            }
            Message::Look => worker.answer_questions(),
            Message::Terminate => return,
            Message::Quit(limit, closed) => {
                listeners.close();
                let _ = closed.send(());
                worker.questions.hold_back(false);
                worker.quitting.set(true);
                worker.end_idle();
                timers::end(&worker, &worker.generation());
                finish(&worker, &mut inbox, limit).await;
                return;
            }
        }
    }
}

/// Requests that have begun under a generation that is left may go on for `worker_shutdown_timeout`, as long as a worker
/// process of nginx may that is told to finish
/// (<https://nginx.org/en/docs/ngx_core_module.html#worker_shutdown_timeout>).
fn bound(worker: &Rc<Worker>, old: &Generation) {
    let limit_ms = *old.config.main.worker_shutdown_timeout_ms;
    if limit_ms > 0 {
        let (worker, number) = (Rc::clone(worker), old.number);
        spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(limit_ms)).await;
            worker.registry.cut_up_to(number);
        });
    }
}

/// Waits for the last connection, for the time limit, or for the order to end at once.
async fn finish(worker: &Rc<Worker>, inbox: &mut UnboundedReceiver<Message>, limit: Option<Duration>) {
    let limit = limit.unwrap_or(Duration::from_secs(86_400 * 365));
    let told = async {
        while let Some(message) = inbox.recv().await {
            match message {
                Message::Terminate => return,
                Message::Look => worker.answer_questions(),
                _ => {}
            }
        }
    };
    tokio::select! {
        () = worker.registry.emptied() => {}
        () = tokio::time::sleep(limit) => {}
        () = told => {}
    }
}

/// Makes a generation ready on this thread: its log files, its groups, its scripts.
fn prepare(
    number: usize,
    crew: &Crew,
    (clock, gathering, names): (&Rc<Clock>, &Rc<Gathering>, &Names),
    new: NewGeneration,
    old: Option<&Generation>,
) -> Result<Rc<Generation>, String> {
    let logs = Logs::new(&new.config, &new.files, &new.command_line_log, &new.error_log, gathering);
    let watched = Arc::new(());
    let tables = Rc::new(Tables::clone(&new.tables));
    let scripts = match new.config.lua.used {
        false => None,
        true => {
            let mut host = BootHost { clock, logs: &logs, counters: &crew.counters, tables: &tables };
            let options = lua::VmOptions { worker: number, workers: crew.threads };
            let vm = lua::Vm::new(&new.config, &new.dicts, options, &mut host)?;
            let watchdog = (Arc::downgrade(&watched), vm.watchdog());
            crew.watchdogs.lock().unwrap_or_else(PoisonError::into_inner).push(watchdog);
            vm.init(&new.config, &mut host)?;
            vm.init_worker(&new.config, &mut host);
            Some(vm)
        }
    };
    let groups = Groups::new(&new.config, &new.groups, old.map(|old| &old.groups));
    let has_switches = !new.config.switches.is_empty();
    Ok(Rc::new(Generation {
        number: new.number,
        logs,
        groups,
        scripts,
        tables: RefCell::new(has_switches.then_some(tables)),
        switches: names.numbers(&new.config),
        recording: Recording::new(crew.records.then_some(&new.layout), &crew.collector, clock),
        layout: new.layout,
        config: new.config,
        _watched: watched,
        error_log: new.error_log,
        _departure: new.departure,
    }))
}

/// Once a second: log buffers that are due, idle upstream connections that are too old or closed by the peer, clients
/// that have been silent for too long, buffers that nobody needs, what was measured.
async fn keep_house(worker: Rc<Worker>) {
    let _vital = Vital;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut has_freed = false;
    loop {
        ticks.tick().await;
        let generation = worker.generation();
        let now_ms = worker.clock.now().monotonic_ms();
        generation.logs.flush_due(now_ms);
        generation.groups.sweep(now_ms);
        worker.parking.close_overdue(now_ms).await;
        let frees = worker.buffers.settle() | worker.parking.has_grown();
        // Once more a second later: the allocator waits a little with what has only just become free.
        if frees || has_freed {
            memory::give_back();
        }
        has_freed = frees;
        recording::collect(&worker);
    }
}
