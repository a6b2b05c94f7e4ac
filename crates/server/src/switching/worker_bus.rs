//! One command to all threads: how the control plane reaches the traffic.
//!
//! Must never wait for an answer: each thread gives its own when its loop gets to it.

use crate::context::counters::ProcessCounters;
use crate::proxy::cache::files;
use crate::worker::message::Message;
use crate::worker::reload_requests::ReloadRequests;
use acme::{IssuedCertificate, OnDemandOrders, RevokeReason, RevokeReply};
use control::{Acknowledgement, AskedServer, DataPlane, GroupState, Reloaded, Reply, Watch, WatchReport};
use engine::Routing;
use engine::modules::proxy::cache::CacheZone;
use prober::Prober;
use statistics::Collector;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// A command to a thread about its traffic.
pub(crate) enum Command {
    /// Give new requests these tables and groups from now on.
    Publish(Publication),
    /// Report how far the drain of this watch is.
    Watched(u64, Shared<WatchReport>),
    /// Report what publishing this watch would move.
    Affected(Arc<Watch>, Shared<WatchReport>),
    /// Cut the streams on this watch's old side, spread over this many milliseconds.
    CloseStreams(u64, u64),
    /// Cut the streams that publishing this watch would move, spread over this many milliseconds.
    CloseAffected(Arc<Watch>, u64),
    /// Forget this watch.
    Forget(u64),
    /// Forget the failures of these servers, by their groups and names.
    Forgive(Arc<[AskedServer]>),
    /// Report the state of the peers, of all groups or of these.
    Peers(Option<Arc<[Arc<str>]>>, Shared<Vec<GroupState>>),
    /// Hand the recorders' contents to the collector.
    Collect(Countdown),
}

/// A reply that all threads give.
pub(crate) type Shared<T> = Arc<Reply<T>>;

/// Tables and groups for a thread to adopt.
pub(crate) struct Publication {
    pub(crate) routing: Arc<Routing>,
    pub(crate) watch: Option<Arc<Watch>>,
    pub(crate) acknowledged: Shared<Acknowledgement>,
}

/// Calls back when the last of its clones is dropped, so that a thread that has ended delays no answer.
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
    /// Creates one that calls `reply` once.
    pub(crate) fn new(reply: Reply<()>) -> Countdown {
        Countdown { _last: Arc::new(Last(reply)) }
    }
}

/// The commands that a thread has not run yet. A busy thread checks it with each request that begins, so that no request
/// gets outdated tables; an idle thread is woken.
#[derive(Default)]
pub(crate) struct Mailbox {
    /// Whether there are commands to run with the next request: all that a request looks at.
    waiting: AtomicBool,
    /// Whether a new generation is prepared but not in force: commands may be meant for it, and wait.
    held_back: AtomicBool,
    /// `None` once the thread has ended.
    queue: Mutex<Option<Vec<Command>>>,
}

impl Mailbox {
    /// Creates the mailbox of a thread that is about to start.
    pub(crate) fn new() -> Mailbox {
        Mailbox { queue: Mutex::new(Some(Vec::new())), ..Mailbox::default() }
    }

    /// Returns true if there are commands to run.
    #[inline]
    pub(crate) fn has_commands(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes all commands, in order; none while they are held back: what is meant for the new generation must not be
    /// answered by the old one.
    pub(crate) fn take(&self) -> Vec<Command> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if self.held_back.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.waiting.store(false, Ordering::Relaxed);
        queue.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Holds commands back while a prepared generation is not in force, or stops doing so.
    pub(crate) fn hold_back(&self, held_back: bool) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.held_back.store(held_back, Ordering::Relaxed);
        let some = queue.as_ref().is_some_and(|queue| !queue.is_empty());
        self.waiting.store(some && !held_back, Ordering::Relaxed);
    }

    /// Closes the mailbox of a thread that has ended: its commands are dropped, and no more are accepted.
    pub(crate) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Adds a command; returns false if the thread has ended.
    fn put(&self, command: Command) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_mut() else { return false };
        queue.push(command);
        self.waiting.store(!self.held_back.load(Ordering::Relaxed), Ordering::Relaxed);
        true
    }
}

/// Reaches all threads of the process.
pub(crate) struct WorkerBus {
    threads: Vec<(UnboundedSender<Message>, Arc<Mailbox>)>,
    counters: Arc<ProcessCounters>,
    collector: Arc<Mutex<Collector>>,
    /// How many threads have ended.
    ended: AtomicUsize,
    reloads: ReloadRequests,
    prober: Prober,
    /// What the issuers' tasks are asked for.
    on_demand_orders: OnDemandOrders,
}

impl WorkerBus {
    /// Creates the bus of these threads. They may start later: commands wait for them.
    pub(crate) fn new(
        threads: Vec<UnboundedSender<Message>>,
        counters: Arc<ProcessCounters>,
        collector: Arc<Mutex<Collector>>,
        reloads: ReloadRequests,
        prober: Prober,
        on_demand_orders: OnDemandOrders,
    ) -> WorkerBus {
        let threads = threads.into_iter().map(|thread| (thread, Arc::new(Mailbox::new()))).collect();
        WorkerBus {
            threads,
            counters,
            collector,
            ended: AtomicUsize::new(0),
            reloads,
            prober,
            on_demand_orders,
        }
    }

    /// Returns the requests that wait for a reload.
    pub(crate) fn reload_requests(&self) -> &ReloadRequests {
        &self.reloads
    }

    /// Returns the mailbox of a thread.
    pub(crate) fn mailbox(&self, number: usize) -> Arc<Mailbox> {
        Arc::clone(&self.threads[number].1)
    }

    /// Returns the collector, to be read on another thread.
    pub(crate) fn shared_collector(&self) -> Arc<Mutex<Collector>> {
        Arc::clone(&self.collector)
    }

    fn send(&self, command: impl Fn() -> Command) {
        let mut ended = 0;
        for (thread, mailbox) in &self.threads {
            let sent = mailbox.put(command()) && thread.send(Message::CheckMailbox).is_ok();
            if !sent {
                // It will not answer any more, and those who wait for the reply must learn that.
                mailbox.close();
                ended += 1;
            }
        }
        self.ended.store(ended, Ordering::Relaxed);
    }
}

impl DataPlane for WorkerBus {
    fn publish(
        &self,
        routing: Arc<Routing>,
        watch: Option<Arc<Watch>>,
        acknowledged: Reply<Acknowledgement>,
    ) {
        let acknowledged = Arc::new(acknowledged);
        self.send(|| {
            Command::Publish(Publication {
                routing: Arc::clone(&routing),
                watch: watch.clone(),
                acknowledged: Arc::clone(&acknowledged),
            })
        });
    }

    fn watched(&self, watch: u64, reply: Reply<WatchReport>) {
        let reply = Arc::new(reply);
        self.send(|| Command::Watched(watch, Arc::clone(&reply)));
    }

    fn affected(&self, watch: Arc<Watch>, reply: Reply<WatchReport>) {
        let reply = Arc::new(reply);
        self.send(|| Command::Affected(Arc::clone(&watch), Arc::clone(&reply)));
    }

    fn close_streams(&self, watch: u64, spread_ms: u64) {
        self.send(|| Command::CloseStreams(watch, spread_ms));
    }

    fn close_affected(&self, watch: Arc<Watch>, spread_ms: u64) {
        self.send(|| Command::CloseAffected(Arc::clone(&watch), spread_ms));
    }

    fn forget_watch(&self, watch: u64) {
        self.send(|| Command::Forget(watch));
    }

    fn forgive(&self, servers: Vec<AskedServer>) {
        let servers: Arc<[AskedServer]> = servers.into();
        self.send(|| Command::Forgive(Arc::clone(&servers)));
    }

    fn peers(&self, reply: Reply<Vec<GroupState>>) {
        let reply = Arc::new(reply);
        self.send(|| Command::Peers(None, Arc::clone(&reply)));
    }

    fn peers_of(&self, groups: Arc<[Arc<str>]>, reply: Reply<Vec<GroupState>>) {
        let reply = Arc::new(reply);
        self.send(|| Command::Peers(Some(Arc::clone(&groups)), Arc::clone(&reply)));
    }

    fn collect(&self, reply: Reply<()>) {
        let countdown = Countdown::new(reply);
        self.send(|| Command::Collect(countdown.clone()));
    }

    fn collector(&self) -> &Mutex<Collector> {
        &self.collector
    }

    fn prober(&self) -> &Prober {
        &self.prober
    }

    fn held(&self, keys: usize) {
        self.reloads.held(keys);
    }

    fn purge(&self, zones: Vec<CacheZone>, keys: Option<Vec<Vec<u8>>>, reply: Reply<u64>) {
        let thread = std::thread::Builder::new().name("purge".into());
        // If it cannot be started, the reply is dropped, and who asks learns that.
        drop(thread.spawn(move || reply(files::purge(&zones, keys.as_deref()))));
    }

    fn issued_certificates(&self) -> Vec<IssuedCertificate> {
        self.on_demand_orders.issued_certificates()
    }

    fn revoke(&self, name: &str, reason: RevokeReason, reply: RevokeReply) {
        self.on_demand_orders.revoke(name, reason, reply);
    }

    fn reload(&self, actor: String, reply: Reply<Reloaded>) {
        self.reloads.ask(actor, reply);
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

    fn bus(threads: Vec<UnboundedSender<Message>>) -> WorkerBus {
        let layout = Layout { groups: Vec::new(), switches: Vec::new(), max_keys: 1 };
        let collector = Arc::new(Mutex::new(Collector::new(Arc::new(layout), 0)));
        let prober = Prober::new(std::time::Instant::now());
        let reloads = ReloadRequests::new(None);
        WorkerBus::new(
            threads,
            Arc::new(ProcessCounters::new(2)),
            collector,
            reloads,
            prober,
            OnDemandOrders::default(),
        )
    }

    #[test]
    fn collection_is_done_once_the_last_thread_has_collected() {
        let (one, mut of_one) = unbounded_channel();
        let (other, mut of_other) = unbounded_channel();
        let bus = bus(vec![one, other]);
        let (sender, received) = mpsc::channel();
        bus.collect(Box::new(move |()| sender.send(()).unwrap()));
        assert!(matches!(of_one.try_recv(), Ok(Message::CheckMailbox)) && bus.mailbox(0).has_commands());
        drop(bus.mailbox(0).take());
        assert!(received.try_recv().is_err());
        assert!(matches!(of_other.try_recv(), Ok(Message::CheckMailbox)));
        drop(bus.mailbox(1).take());
        assert!(received.try_recv().is_ok() && received.try_recv().is_err());
    }

    #[test]
    fn commands_wait_while_a_prepared_generation_is_not_in_force() {
        let (one, _of_one) = unbounded_channel();
        let bus = bus(vec![one]);
        let mailbox = bus.mailbox(0);
        mailbox.hold_back(true);
        bus.forget_watch(1);
        assert!(!mailbox.has_commands());
        assert!(mailbox.take().is_empty(), "the thread was woken for another reason");
        mailbox.hold_back(false);
        assert!(mailbox.has_commands());
        assert_eq!(mailbox.take().len(), 1);
        assert!(!mailbox.has_commands());
    }

    #[test]
    fn a_thread_that_has_ended_delays_no_answer() {
        let (one, mut of_one) = unbounded_channel();
        let (other, of_other) = unbounded_channel();
        drop(of_other);
        let bus = bus(vec![one, other]);
        assert_eq!(bus.threads(), 2, "no command was sent yet");
        let (sender, received) = mpsc::channel();
        bus.publish(
            Arc::default(),
            None,
            Box::new(move |acknowledged: Acknowledgement| sender.send(acknowledged.worker).unwrap()),
        );
        assert_eq!(bus.threads(), 1);
        assert!(matches!(of_one.try_recv(), Ok(Message::CheckMailbox)));
        let Some(Command::Publish(publication)) = bus.mailbox(0).take().pop() else { panic!() };
        let at = std::time::Instant::now();
        (publication.acknowledged)(Acknowledgement { worker: 0, at, in_flight_old: 0 });
        drop(publication);
        // The reply is dropped with the last thread that could have given it.
        assert_eq!(received.iter().collect::<Vec<_>>(), [0]);
    }
}
