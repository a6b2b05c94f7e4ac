//! One question to all threads: the control plane's way to the traffic.
//!
//! Owns the sending alone. Must never wait for an answer: each thread gives its own when its loop comes to it.

use crate::counters::Counters;
use crate::reloads::Reloads;
use crate::threads::Message;
use control::{Acknowledgement, GroupState, Reloaded, Reply, Traffic, Watch, WatchReport};
use statistics::Collector;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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

/// What a thread is asked, as long as it has not looked. A busy thread looks with each request that it begins, so that
/// no request gets older tables than there are; an idle one is woken.
#[derive(Default)]
pub(crate) struct Questions {
    /// There are some to be answered with the next request: all that a request looks at.
    waiting: AtomicBool,
    /// A new generation is ready and not gone over to: what is asked may be meant for it, and waits for its turn among
    /// the thread's messages.
    held_back: AtomicBool,
    /// `None` once the thread has ended.
    queue: Mutex<Option<Vec<Question>>>,
}

impl Questions {
    /// Those of a thread that is about to start.
    pub(crate) fn new() -> Questions {
        Questions { queue: Mutex::new(Some(Vec::new())), ..Questions::default() }
    }

    /// Is there any?
    #[inline]
    pub(crate) fn are_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes them all, in order; none while they are held back, whoever has woken the thread: what is meant for the new
    /// generation must not be answered by the one that it is about to leave.
    pub(crate) fn take(&self) -> Vec<Question> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if self.held_back.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.waiting.store(false, Ordering::Relaxed);
        queue.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The thread has a generation ready that it has not gone over to, or not any more.
    pub(crate) fn hold_back(&self, held_back: bool) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.held_back.store(held_back, Ordering::Relaxed);
        let some = queue.as_ref().is_some_and(|queue| !queue.is_empty());
        self.waiting.store(some && !held_back, Ordering::Relaxed);
    }

    /// The thread has ended: what it was asked is dropped, and nothing more is taken.
    pub(crate) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Puts a question; `false` if the thread has ended.
    fn put(&self, question: Question) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_mut() else { return false };
        queue.push(question);
        self.waiting.store(!self.held_back.load(Ordering::Relaxed), Ordering::Relaxed);
        true
    }
}

/// The way to all threads of the process.
pub(crate) struct Crossing {
    threads: Vec<(UnboundedSender<Message>, Arc<Questions>)>,
    counters: Arc<Counters>,
    collector: Arc<Mutex<Collector>>,
    /// How many threads have ended: they answer nothing.
    ended: AtomicUsize,
    reloads: Reloads,
}

impl Crossing {
    /// The way to these threads. They may start later: what they are asked waits for them.
    pub(crate) fn new(
        threads: Vec<UnboundedSender<Message>>,
        counters: Arc<Counters>,
        collector: Arc<Mutex<Collector>>,
        reloads: Reloads,
    ) -> Crossing {
        let threads = threads.into_iter().map(|thread| (thread, Arc::new(Questions::new()))).collect();
        Crossing { threads, counters, collector, ended: AtomicUsize::new(0), reloads }
    }

    /// Those who wait for a reload.
    pub(crate) fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// What the thread of this number is asked.
    pub(crate) fn questions(&self, number: usize) -> Arc<Questions> {
        Arc::clone(&self.threads[number].1)
    }

    /// All that was counted, to be read on another thread.
    pub(crate) fn shared_collector(&self) -> Arc<Mutex<Collector>> {
        Arc::clone(&self.collector)
    }

    fn ask(&self, question: impl Fn() -> Question) {
        let mut ended = 0;
        for (thread, questions) in &self.threads {
            let asked = questions.put(question()) && thread.send(Message::Look).is_ok();
            if !asked {
                // Nobody will answer any more: whoever waits for the reply is to know.
                questions.close();
                ended += 1;
            }
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

    fn held(&self, keys: usize) {
        self.reloads.held(keys);
    }

    fn reload(&self, reply: Reply<Reloaded>) {
        self.reloads.ask(reply);
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
        Crossing::new(threads, Arc::new(Counters::new(2)), collector, Reloads::new(None))
    }

    #[test]
    fn everyone_has_collected_once_the_last_one_has() {
        let (one, mut of_one) = unbounded_channel();
        let (other, mut of_other) = unbounded_channel();
        let crossing = crossing(vec![one, other]);
        let (told, heard) = mpsc::channel();
        crossing.collect(Box::new(move |()| told.send(()).unwrap()));
        assert!(matches!(of_one.try_recv(), Ok(Message::Look)) && crossing.questions(0).are_waiting());
        drop(crossing.questions(0).take());
        assert!(heard.try_recv().is_err());
        assert!(matches!(of_other.try_recv(), Ok(Message::Look)));
        drop(crossing.questions(1).take());
        assert!(heard.try_recv().is_ok() && heard.try_recv().is_err());
    }

    #[test]
    fn what_is_asked_while_a_generation_is_ready_waits_for_its_turn() {
        let (one, _of_one) = unbounded_channel();
        let crossing = crossing(vec![one]);
        let questions = crossing.questions(0);
        questions.hold_back(true);
        crossing.forget_watch(1);
        assert!(!questions.are_waiting());
        assert!(questions.take().is_empty(), "somebody else's question has woken the thread");
        questions.hold_back(false);
        assert!(questions.are_waiting());
        assert_eq!(questions.take().len(), 1);
        assert!(!questions.are_waiting());
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
        assert!(matches!(of_one.try_recv(), Ok(Message::Look)));
        let Some(Question::Publish(publication)) = crossing.questions(0).take().pop() else { panic!() };
        let at = std::time::Instant::now();
        (publication.acknowledged)(Acknowledgement { worker: 0, at, in_flight_old: 0 });
        drop(publication);
        // The reply is gone with the last one who could have given it.
        assert_eq!(heard.iter().collect::<Vec<_>>(), [0]);
    }
}
