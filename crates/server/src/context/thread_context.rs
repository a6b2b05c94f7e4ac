//! State shared by the connections of one worker thread.
//!
//! Everything here stays on its thread. New requests get the current
//! [`Generation`]; a request keeps the one it began with.

use crate::context::conn_state::ConnRegistry;
use crate::context::counters::ThreadCounters;
use crate::context::deadlines::Deadlines;
use crate::context::generation::Generation;
use crate::context::shared_state::SharedState;
use crate::downstream::parking::Parking;
use crate::switching::in_flight::InFlight;
use crate::switching::waiting::Waiting;
use crate::switching::worker_bus::{Mailbox, WorkerBus};
use control::ControlHandle;
use process::log::Level;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use transport::buffers::Buffers;
use transport::clock::Clock;
use transport::resolver::Resolvers;

/// See the module.
pub(crate) struct ThreadContext {
    /// Its clock.
    pub(crate) clock: Rc<Clock>,
    /// Its share of the connection counters.
    pub(crate) counters: ThreadCounters,
    /// Host names that come at run time.
    pub(crate) resolvers: Resolvers,
    /// Buffers that are not in use.
    pub(crate) buffers: Buffers,
    /// Open connections.
    pub(crate) registry: Rc<ConnRegistry>,
    /// Connections that have been idle for long.
    pub(crate) parking: Parking,
    /// Until when the others wait.
    pub(crate) deadlines: Deadlines,
    /// Whether the thread is to end, so that each response is the last on its connection.
    pub(crate) quitting: Cell<bool>,
    /// Requests that a switch has routed.
    pub(crate) in_flight: RefCell<InFlight>,
    /// Requests that wait for a hold.
    pub(crate) waiting: Waiting,
    /// Commands of the control plane.
    pub(crate) mailbox: Arc<Mailbox>,
    /// The control plane.
    pub(crate) control: ControlHandle,
    /// Reaches all threads, this one included.
    pub(crate) bus: Arc<WorkerBus>,
    /// Certificates that handshakes ask for.
    pub(crate) on_demand_orders: acme::OnDemandOrders,
    generations: Generations,
    random: Cell<u64>,
}

/// The generations of a thread.
struct Generations {
    current: RefCell<Rc<Generation>>,
    /// Those that new requests no longer get.
    older: RefCell<Vec<Weak<Generation>>>,
}

impl std::fmt::Debug for ThreadContext {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ThreadContext").field("number", &self.number()).finish_non_exhaustive()
    }
}

impl ThreadContext {
    /// Creates the context of a thread that serves this generation.
    pub(crate) fn new(
        number: usize,
        clock: Rc<Clock>,
        parking: Parking,
        shared: &SharedState,
        first: Rc<Generation>,
    ) -> ThreadContext {
        let counters = ThreadCounters::new(Arc::clone(&shared.counters), number);
        let seed = clock.fresh().epoch_us ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ThreadContext {
            clock,
            registry: Rc::new(ConnRegistry::new(counters.clone())),
            counters,
            resolvers: Resolvers::default(),
            buffers: Buffers::default(),
            parking,
            deadlines: Deadlines::default(),
            quitting: Cell::new(false),
            in_flight: RefCell::default(),
            waiting: Waiting::default(),
            mailbox: shared.bus.mailbox(number),
            control: shared.control.clone(),
            bus: Arc::clone(&shared.bus),
            on_demand_orders: shared.on_demand_orders.clone(),
            generations: Generations { current: RefCell::new(first), older: RefCell::default() },
            random: Cell::new(seed | 1),
        }
    }

    /// Returns its number among the threads of the process.
    pub(crate) fn number(&self) -> usize {
        self.counters.thread()
    }

    /// Returns the time of its clock, in ms.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now().monotonic_ms()
    }

    /// Returns the generation that new requests get.
    pub(crate) fn generation(&self) -> Rc<Generation> {
        Rc::clone(&self.generations.current.borrow())
    }

    /// Gives new requests this generation from now on; returns the one before.
    pub(crate) fn adopt(&self, generation: Rc<Generation>) -> Rc<Generation> {
        let old = self.generations.current.replace(generation);
        let mut older = self.generations.older.borrow_mut();
        older.retain(|generation| generation.strong_count() > 0);
        older.push(Rc::downgrade(&old));
        old
    }

    /// Returns the older generations that requests still use.
    pub(crate) fn older_generations(&self) -> Vec<Rc<Generation>> {
        self.generations.older.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Returns true if there is room for one more connection. When room gets scarce, idle ones are closed, as in nginx.
    pub(crate) fn has_room(&self) -> bool {
        let generation = self.generations.current.borrow();
        let limit = *generation.config.main.worker_connections;
        if self.make_room(limit) > 0 {
            let text = format_args!("{limit} worker_connections are not enough, reusing connections");
            self.log_no_room(&generation, Level::Warn, text);
        }
        self.registry.len() < limit
    }

    /// Logs that a connection was refused because there is no room.
    pub(crate) fn log_full(&self) {
        let generation = self.generations.current.borrow();
        let limit = *generation.config.main.worker_connections;
        let text = format_args!("{limit} worker_connections are not enough");
        self.log_no_room(&generation, Level::Alert, text);
    }

    fn log_no_room(&self, generation: &Generation, level: Level, text: std::fmt::Arguments<'_>) {
        if self.registry.may_log(level, self.clock.now().monotonic_ms() / 1000) {
            generation.error_log.write(level, 0, text.to_string().as_bytes());
        }
    }

    /// Makes room when hardly any is left of `limit`: closes idle connections, those first that have been idle longest.
    /// Returns how many.
    pub(crate) fn make_room(&self, limit: usize) -> usize {
        if !self.registry.is_nearly_full(limit) {
            return 0;
        }
        match self.parking.close_oldest(limit, self.clock.now().monotonic_ms()) {
            0 => self.registry.close_oldest(limit),
            closed => closed,
        }
    }

    /// Ends every idle connection, now that the thread is to end.
    pub(crate) fn end_idle(&self) {
        self.parking.finish();
        self.registry.wake_all();
    }

    /// Logs that a connection was closed because the event loop cannot watch it.
    pub(crate) fn log_unwatched(&self, error: &std::io::Error) {
        if self.registry.may_log(Level::Alert, self.clock.now().monotonic_ms() / 1000) {
            self.generation()
                .alert(format_args!("an idle connection cannot be watched and is closed: {error}"));
        }
    }

    /// Hands everything that this thread has measured to the collector, older generations included.
    pub(crate) fn collect_metrics(&self) {
        self.generation().metrics.empty();
        self.older_generations().iter().for_each(|older| older.metrics.empty());
    }

    /// Returns 64 random bits for choosing peers and names; not for secrets.
    pub(crate) fn random(&self) -> u64 {
        // xorshift64*
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
