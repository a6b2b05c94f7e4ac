//! One question to all threads: the control plane's way to the traffic.
//!
//! Owns the sending alone. Must never wait for an answer: each thread gives its own when its loop comes to it.

use crate::counters::Counters;
use crate::threads::Message;
use control::{Acknowledgement, GroupState, Reply, Traffic, Watch, WatchReport};
use statistics::Collector;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use switch::Tables;
use tokio::sync::mpsc::UnboundedSender;

/// What a thread is asked or told about its traffic.
pub(crate) enum Question {
    /// New requests get these tables from now on.
    Publish(Publication),
    /// How far is the drain of this watch?
    Watched(u64, Shared<WatchReport>),
    /// What would publishing this watch move?
    Affected(Arc<Watch>, Shared<WatchReport>),
    /// Cut the streams on this watch's old side, spread over so many milliseconds.
    CloseStreams(u64, u64),
    /// Nobody asks about this watch any more.
    Forget(u64),
    /// What is known of the peers?
    Peers(Shared<Vec<GroupState>>),
    /// Empty the recorders into the collector.
    Collect(Countdown),
}

/// A reply that all threads give.
pub(crate) type Shared<T> = Arc<Reply<T>>;

/// Tables for a thread to take over.
pub(crate) struct Publication {
    pub(crate) tables: Arc<Tables>,
    pub(crate) watch: Option<Arc<Watch>>,
    pub(crate) acknowledged: Shared<Acknowledgement>,
}

/// Calls back when the last of its clones is gone: a thread that has ended holds nobody up.
#[derive(Clone)]
pub(crate) struct Countdown {
    _last: Arc<Last>,
}

struct Last(Reply<()>);

impl Drop for Last {
    fn drop(&mut self) {
        (self.0)(());
    }
}

impl Countdown {
    /// Calls back once.
    pub(crate) fn new(reply: Reply<()>) -> Countdown {
        Countdown { _last: Arc::new(Last(reply)) }
    }
}

/// The way to all threads of the process.
pub(crate) struct Crossing {
    threads: Vec<UnboundedSender<Message>>,
    counters: Arc<Counters>,
    collector: Arc<Mutex<Collector>>,
    /// How many threads have ended: they answer nothing.
    ended: AtomicUsize,
}

impl Crossing {
    /// The way to these threads. They may start later: what they are asked waits for them.
    pub(crate) fn new(
        threads: Vec<UnboundedSender<Message>>,
        counters: Arc<Counters>,
        collector: Arc<Mutex<Collector>>,
    ) -> Crossing {
        Crossing { threads, counters, collector, ended: AtomicUsize::new(0) }
    }

    /// All that was counted, to be read on another thread.
    pub(crate) fn shared_collector(&self) -> Arc<Mutex<Collector>> {
        Arc::clone(&self.collector)
    }

    fn ask(&self, question: impl Fn() -> Question) {
        let mut ended = 0;
        for thread in &self.threads {
            ended += usize::from(thread.send(Message::Ask(question())).is_err());
        }
        self.ended.store(ended, Ordering::Relaxed);
    }
}

impl Traffic for Crossing {
    fn publish(&self, tables: Arc<Tables>, watch: Option<Arc<Watch>>, acknowledged: Reply<Acknowledgement>) {
        let acknowledged = Arc::new(acknowledged);
        self.ask(|| {
            Question::Publish(Publication {
                tables: Arc::clone(&tables),
                watch: watch.clone(),
                acknowledged: Arc::clone(&acknowledged),
            })
        });
    }

    fn watched(&self, watch: u64, reply: Reply<WatchReport>) {
        let reply = Arc::new(reply);
        self.ask(|| Question::Watched(watch, Arc::clone(&reply)));
    }

    fn affected(&self, watch: Arc<Watch>, reply: Reply<WatchReport>) {
        let reply = Arc::new(reply);
        self.ask(|| Question::Affected(Arc::clone(&watch), Arc::clone(&reply)));
    }

    fn close_streams(&self, watch: u64, spread_ms: u64) {
        self.ask(|| Question::CloseStreams(watch, spread_ms));
    }

    fn forget_watch(&self, watch: u64) {
        self.ask(|| Question::Forget(watch));
    }

    fn peers(&self, reply: Reply<Vec<GroupState>>) {
        let reply = Arc::new(reply);
        self.ask(|| Question::Peers(Arc::clone(&reply)));
    }

    fn collect(&self, reply: Reply<()>) {
        let countdown = Countdown::new(reply);
        self.ask(|| Question::Collect(countdown.clone()));
    }

    fn collector(&self) -> &Mutex<Collector> {
        &self.collector
    }

    fn threads(&self) -> usize {
        self.threads.len() - self.ended.load(Ordering::Relaxed)
    }

    fn counters(&self) -> engine::host::Counters {
        self.counters.read()
    }
}
