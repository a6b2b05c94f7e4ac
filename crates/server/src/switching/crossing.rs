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

#[cfg(test)]
mod tests {
    use super::*;
    use statistics::Layout;
    use std::sync::mpsc;
    use tokio::sync::mpsc::unbounded_channel;

    fn crossing(threads: Vec<UnboundedSender<Message>>) -> Crossing {
        let layout = Layout { groups: Vec::new(), switches: Vec::new(), max_keys: 1 };
        let collector = Arc::new(Mutex::new(Collector::new(Arc::new(layout), 0)));
        Crossing::new(threads, Arc::new(Counters::new(2)), collector)
    }

    #[test]
    fn everyone_has_collected_once_the_last_one_has() {
        let (one, mut of_one) = unbounded_channel();
        let (other, mut of_other) = unbounded_channel();
        let crossing = crossing(vec![one, other]);
        let (told, heard) = mpsc::channel();
        crossing.collect(Box::new(move |()| told.send(()).unwrap()));
        drop(of_one.try_recv());
        assert!(heard.try_recv().is_err());
        drop(of_other.try_recv());
        assert!(heard.try_recv().is_ok() && heard.try_recv().is_err());
    }

    #[test]
    fn a_thread_that_has_ended_holds_nobody_up() {
        let (one, mut of_one) = unbounded_channel();
        let (other, of_other) = unbounded_channel();
        drop(of_other);
        let crossing = crossing(vec![one, other]);
        assert_eq!(crossing.threads(), 2, "nobody has asked it yet");
        let (told, heard) = mpsc::channel();
        crossing.publish(
            Arc::default(),
            None,
            Box::new(move |acknowledged: Acknowledgement| told.send(acknowledged.worker).unwrap()),
        );
        assert_eq!(crossing.threads(), 1);
        let Ok(Message::Ask(Question::Publish(publication))) = of_one.try_recv() else { panic!() };
        let at = std::time::Instant::now();
        (publication.acknowledged)(Acknowledgement { worker: 0, at, in_flight_old: 0 });
        drop(publication);
        // The reply is gone with the last one who could have given it.
        assert_eq!(heard.iter().collect::<Vec<_>>(), [0]);
    }
}
