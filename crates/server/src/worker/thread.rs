//! A worker thread: its start, its messages, its end.

use crate::context::logs::Gathering;
use crate::context::shared_state::SharedState;
use crate::context::thread_context::ThreadContext;
use crate::downstream::accept::Listeners;
use crate::downstream::idle;
use crate::downstream::parking::Parking;
use crate::switching::publish;
use crate::worker::generation_builder::GenerationBuilder;
use crate::worker::housekeeping::housekeeping;
use crate::worker::lua_timers;
use crate::worker::message::{Message, NewGeneration};
use crate::worker::participant::Participant;
use process::log::utc_offset_s;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::spawn_local;
use transport::clock::{self, Clock};

/// The stack of a thread. Scripts recurse through C on it until little is left (`lua/src/machine/c_stack.rs`); only what is
/// used takes memory.
const STACK_BYTES: usize = 8 << 20;

/// A running thread.
pub(super) struct WorkerThread {
    messages: UnboundedSender<Message>,
    join: JoinHandle<()>,
}

/// Both ends of a thread's messages.
pub(super) type Channel = (UnboundedSender<Message>, UnboundedReceiver<Message>);

impl WorkerThread {
    /// Starts a thread with its first generation. It says on `ready` whether it can take connections, and calls `ended`
    /// at its end.
    pub(super) fn start(
        number: usize,
        shared: SharedState,
        first: NewGeneration,
        (messages, inbox): Channel,
        ready: mpsc::Sender<Result<(), String>>,
        ended: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<WorkerThread> {
        let builder = std::thread::Builder::new().name(format!("worker-{number}")).stack_size(STACK_BYTES);
        let join = builder.spawn(move || {
            let bus = shared.bus.clone();
            run_event_loop(number, shared, first, inbox, ready);
            bus.mailbox(number).close();
            ended();
        })?;
        Ok(WorkerThread { messages, join })
    }

    /// Sends it a message. A thread that has ended ignores it.
    pub(super) fn send(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    /// Returns true if it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.join.is_finished()
    }
}

fn run_event_loop(
    number: usize,
    shared: SharedState,
    first: NewGeneration,
    inbox: UnboundedReceiver<Message>,
    ready: mpsc::Sender<Result<(), String>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_unpark(clock::turn)
        .build_local(tokio::runtime::LocalOptions::default());
    // The receiver waits for every thread's answer, so that sending does not fail.
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            match start(number, &shared, first) {
                Ok(started) => {
                    let _ = ready.send(Ok(()));
                    // What the threads' start waits for is only the answer.
                    drop(ready);
                    run(started, inbox).await;
                }
                Err(fault) => drop(ready.send(Err(fault))),
            }
        }),
        Err(error) => drop(ready.send(Err(format!("a worker thread has no event loop: {error}")))),
    }
}

/// A thread that is ready to serve.
struct Started {
    thread: Rc<ThreadContext>,
    builder: GenerationBuilder,
    listeners: Listeners,
}

/// Builds the first generation, listens, and starts the thread's own tasks.
fn start(number: usize, shared: &SharedState, mut first: NewGeneration) -> Result<Started, String> {
    let clock = Rc::new(Clock::new(shared.began, utc_offset_s));
    let gathering = Rc::new(Gathering::default());
    let (addresses, sockets) = (std::mem::take(&mut first.addresses), std::mem::take(&mut first.sockets));
    let builder = GenerationBuilder::new(number, shared.clone(), Rc::clone(&clock), Rc::clone(&gathering));
    let generation = builder.build(first, None)?;
    let parking = Parking::new().map_err(|error| format!("idle connections cannot be watched: {error}"))?;
    let thread = Rc::new(ThreadContext::new(number, clock, parking, shared, generation));
    let listeners = Listeners::default();
    listeners
        .adopt(&thread, &thread.generation(), &addresses, sockets)
        .map_err(|error| format!("a listening socket cannot be watched: {error}"))?;
    spawn_local(housekeeping(Rc::clone(&thread)));
    spawn_local(async move { gathering.keep_writing().await });
    spawn_local({
        let thread = Rc::clone(&thread);
        async move { thread.deadlines.keep_waking(&thread.clock).await }
    });
    spawn_local(idle::resume_parked(Rc::clone(&thread)));
    lua_timers::start(&thread, &thread.generation());
    Ok(Started { thread, builder, listeners })
}

/// Follows the process's messages until the thread is to end.
async fn run(started: Started, mut inbox: UnboundedReceiver<Message>) {
    let Started { thread, builder, listeners } = started;
    let mut reload = Participant::default();
    while let Some(message) = inbox.recv().await {
        match message {
            Message::Prepare(new, answer) => {
                let _ = answer.send(reload.prepare(&thread, &builder, *new));
            }
            Message::Commit(done) => {
                reload.commit(&thread, &listeners);
                let _ = done.send(());
            }
            Message::Abort => reload.abort(&thread),
            Message::FlushLogs(done) => {
                thread.generation().logs.flush();
                let _ = done.send(());
            }
            Message::CheckMailbox => publish::run_commands(&thread),
            Message::Terminate => return,
            Message::Quit(limit, closed) => {
                listeners.close();
                let _ = closed.send(());
                thread.mailbox.hold_back(false);
                thread.quitting.set(true);
                thread.end_idle();
                lua_timers::end(&thread, &thread.generation());
                finish(&thread, &mut inbox, limit).await;
                return;
            }
        }
    }
}

/// Waits for the last connection, for the time limit, or for the message to end at once.
async fn finish(thread: &Rc<ThreadContext>, inbox: &mut UnboundedReceiver<Message>, limit: Option<Duration>) {
    let limit = limit.unwrap_or(Duration::from_secs(86_400 * 365));
    let terminated = async {
        while let Some(message) = inbox.recv().await {
            match message {
                Message::Terminate => return,
                Message::CheckMailbox => publish::run_commands(thread),
                _ => {}
            }
        }
    };
    tokio::select! {
        () = async {
            thread.registry.emptied().await;
            lua_timers::ended().await;
        } => {}
        () = tokio::time::sleep(limit) => {}
        () = terminated => {}
    }
}
