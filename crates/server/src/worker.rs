//! One worker thread: what it owns, and what its connections share.
//!
//! Everything here stays on its thread. The thread's [`crate::generation::Generation`] is the configuration that new
//! requests get; a request holds on to the one it began with.

use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::counters::ThreadCounters;
use crate::deadlines::Deadlines;
use crate::generation::Generation;
use crate::parking::Parking;
use crate::process::log::Level;
use crate::registry::Registry;
use crate::resolver::Resolvers;
use crate::switching::{self, Crossing, Questions, Waiting, roster::Roster};
use crate::threads::Crew;
use control::Office;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// What a thread's connections share.
pub(crate) struct Worker {
    /// Its clock.
    pub(crate) clock: Rc<Clock>,
    /// Its share of the connection counters.
    pub(crate) counters: ThreadCounters,
    /// Host names that come at run time.
    pub(crate) resolvers: Resolvers,
    /// Buffers and the like that are not in use.
    pub(crate) buffers: Buffers,
    /// Open connections, and how to wake the idle ones.
    pub(crate) registry: Registry,
    /// The connections that have been idle for long.
    pub(crate) parking: Parking,
    /// How long the others wait.
    pub(crate) deadlines: Deadlines,
    /// Answers are the last on their connections: the thread is to end.
    pub(crate) quitting: Cell<bool>,
    /// The requests that a switch has led somewhere.
    pub(crate) roster: RefCell<Roster>,
    /// The requests that wait for a hold.
    pub(crate) waiting: Waiting,
    /// What the control plane asks.
    pub(crate) questions: Arc<Questions>,
    /// The control plane.
    pub(crate) office: Office,
    /// The way to all threads, this one included.
    pub(crate) crossing: Arc<Crossing>,
    current: RefCell<Rc<Generation>>,
    /// Generations that new requests do not get any more.
    older: RefCell<Vec<Weak<Generation>>>,
    random: Cell<u64>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Worker").field("number", &self.number()).finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker that serves this generation.
    pub(crate) fn new(
        number: usize,
        (clock, parking): (Rc<Clock>, Parking),
        crew: &Crew,
        first: Rc<Generation>,
    ) -> Worker {
        let seed = clock.fresh().epoch_us ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Worker {
            clock,
            counters: ThreadCounters::new(Arc::clone(&crew.counters), number),
            resolvers: Resolvers::default(),
            buffers: Buffers::default(),
            registry: Registry::default(),
            parking,
            deadlines: Deadlines::default(),
            quitting: Cell::new(false),
            roster: RefCell::default(),
            waiting: Waiting::default(),
            questions: crew.crossing.questions(number),
            office: crew.office.clone(),
            crossing: Arc::clone(&crew.crossing),
            current: RefCell::new(first),
            older: RefCell::default(),
            random: Cell::new(seed | 1),
        }
    }

    /// Its number among the threads of the process.
    pub(crate) fn number(&self) -> usize {
        self.counters.thread()
    }

    /// Answers what has been asked since the last time. Asked with each request that begins: it costs a look at a flag.
    #[inline]
    pub(crate) fn look_for_questions(self: &Rc<Self>) {
        if self.questions.are_waiting() {
            self.answer_questions();
        }
    }

    /// Answers what has been asked since the last time.
    pub(crate) fn answer_questions(self: &Rc<Self>) {
        for question in self.questions.take() {
            switching::answer(self, question);
        }
    }

    /// The generation that new requests get.
    pub(crate) fn generation(&self) -> Rc<Generation> {
        Rc::clone(&self.current.borrow())
    }

    /// From now on new requests get this one; answers the one before.
    pub(crate) fn adopt(&self, generation: Rc<Generation>) -> Rc<Generation> {
        let old = self.current.replace(generation);
        let mut older = self.older.borrow_mut();
        older.retain(|generation| generation.strong_count() > 0);
        older.push(Rc::downgrade(&old));
        old
    }

    /// The generations before it that requests still hold on to.
    pub(crate) fn older_generations(&self) -> Vec<Rc<Generation>> {
        self.older.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Is there room for one more connection? When it gets scarce, idle ones are closed, as nginx does.
    pub(crate) fn has_room(&self) -> bool {
        let generation = self.current.borrow();
        let limit = *generation.config.main.worker_connections;
        if self.make_room(limit) > 0 {
            let text = format_args!("{limit} worker_connections are not enough, reusing connections");
            self.say_no_room(&generation, Level::Warn, text);
        }
        self.registry.len() < limit
    }

    /// Says that a connection is not had, for want of room.
    pub(crate) fn say_full(&self) {
        let generation = self.current.borrow();
        let limit = *generation.config.main.worker_connections;
        let text = format_args!("{limit} worker_connections are not enough");
        self.say_no_room(&generation, Level::Alert, text);
    }

    fn say_no_room(&self, generation: &Generation, level: Level, text: std::fmt::Arguments<'_>) {
        if self.registry.may_say(level, self.clock.now().monotonic_ms() / 1000) {
            generation.error_log.write(level, 0, text.to_string().as_bytes());
        }
    }

    /// Sixty-four bits for choosing peers and names; not for secrets.
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
