//! The threads of one script: the coroutine that it began in, and its light threads (`ngx.thread`).
//!
//! Owns which of them can run and what the others wait for. A script with one coroutine needs nothing of this: it waits
//! by [`ThreadProgress::alone`]. Who is whose parent, and the results of threads, are Lua's (`lua/thread.lua`). Nothing here
//! runs Lua.

pub(crate) mod waits;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_int;
use std::rc::Rc;

use engine::Effect;
use engine::host::RunningRequests;
use mlua_sys::lua_State;

use crate::machine::{Around, Coroutine, MOST_COROUTINES, Machine};
use waits::Waits;

/// The number of the coroutine that a script begins in.
pub(crate) const ENTRY: u32 = 0;
/// The most light threads of one request that may be there at a time.
const MOST: usize = 10_000;

/// How far the scripts of a request, or a timer's function, have come.
#[derive(Default)]
pub(crate) struct ThreadProgress {
    /// The coroutine that waits, and is the only one.
    pub(super) alone: RefCell<Option<Coroutine>>,
    /// It waits in `ngx.sleep`.
    pub(super) slept: Cell<bool>,
    /// The body is read for one of several threads, unless another one goes on before.
    pub(super) is_reading: Cell<bool>,
    /// The coroutine that was resumed last by the scheduler.
    pub(super) top: Cell<Option<*mut lua_State>>,
    /// All of them, once there are more.
    pub(super) threads: RefCell<Option<Box<Threads>>>,
    /// The function that is called when the client leaves (`ngx.on_abort`).
    pub(super) on_abort: RefCell<Option<Spawned>>,
    /// It was called, or is not wanted.
    pub(super) has_aborted: Cell<bool>,
}

/// A light thread that has not run yet.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) id: Option<u32>,
    pub(crate) coroutine: Coroutine,
    /// How many arguments are on its stack.
    pub(crate) given: c_int,
    /// The coroutine that has made it.
    pub(crate) parent: *mut lua_State,
}

/// A thread that runs or waits.
pub(super) struct Thread {
    id: u32,
    /// Not here while it runs.
    coroutine: Option<Coroutine>,
    /// The arguments of its function, until it runs.
    given: c_int,
    /// The coroutine that has made it, and the thread which that belongs to.
    parent: Option<(*mut lua_State, u32)>,
    awaited: Awaited,
    /// It can run, and is in the queue of those.
    is_ready: bool,
}

/// What is to be done when a wait is over, before its thread goes on.
pub(super) enum Awaited {
    Nothing,
    /// It has slept.
    Time,
    /// The requests inside this one, whose answers it takes.
    Requests(Rc<RefCell<Option<Box<dyn RunningRequests>>>>),
    /// The outcome of its order to a switch.
    Order(Rc<waits::Reply>),
}

/// A thread that the scheduler runs now.
pub(super) struct Running {
    pub(super) id: u32,
    pub(super) coroutine: Coroutine,
    pub(super) given: c_int,
    pub(super) awaited: Awaited,
}

impl Running {
    /// Makes the one of a script that begins or goes on alone.
    pub(super) fn entry(coroutine: Coroutine, given: c_int) -> Running {
        Running { id: ENTRY, coroutine, given, awaited: Awaited::Nothing }
    }
}

/// All threads of a script; see the module.
pub(crate) struct Threads {
    alive: Vec<Thread>,
    /// Those that can run, in their order.
    ready: VecDeque<u32>,
    /// Effects that the server performs one at a time, and for nothing else meanwhile: of the client's connection.
    exclusive: VecDeque<(u32, Effect)>,
    /// The thread whose effect is performed.
    performing: Option<u32>,
    /// The number of the one that runs, and the last that was given.
    pub(super) running: u32,
    last: u32,
    pub(super) waits: Rc<Waits>,
}

impl ThreadProgress {
    /// Returns the threads, made if there are none: then the entry is the only one, and runs.
    pub(super) fn with_threads<R>(&self, act: impl FnOnce(&mut Threads) -> R) -> R {
        act(self.threads.borrow_mut().get_or_insert_with(Threads::new))
    }

    /// Returns true if there is one coroutine, whose waits are its request's.
    pub(super) fn is_alone(&self) -> bool {
        self.threads.borrow().is_none() && self.on_abort.borrow().is_none()
    }

    /// Returns a number for a new light thread of the coroutine that runs; `None` if there are too many.
    pub(crate) fn new_thread(&self) -> Option<u32> {
        self.with_threads(|threads| (threads.alive.len() <= MOST).then(|| threads.unused_id()))
    }

    /// Returns true if this is the coroutine that the scheduler has resumed, and not one inside of it.
    pub(crate) fn is_top(&self, state: *mut lua_State) -> bool {
        self.top.get() == Some(state)
    }

    /// Returns the number of the thread that runs.
    pub(crate) fn running(&self) -> u32 {
        self.threads.borrow().as_ref().map_or(ENTRY, |threads| threads.running)
    }

    /// Returns true if a thread waits for the request's body.
    pub(crate) fn reads_body(&self) -> bool {
        self.threads.borrow().as_ref().is_some_and(|threads| {
            threads
                .exclusive
                .iter()
                .any(|(_, effect)| matches!(effect, Effect::ReadBody | Effect::DiscardBody))
        })
    }

    /// Returns true if a thread waits for requests inside this one: these must come to their end.
    pub(crate) fn has_requests(&self) -> bool {
        self.threads
            .borrow()
            .as_ref()
            .is_some_and(|threads| threads.alive.iter().any(|thread| threads.has_requests(thread)))
    }

    /// Returns true if a thread sleeps.
    pub(crate) fn sleeps(&self, id: u32) -> bool {
        self.threads.borrow().as_ref().is_some_and(|threads| {
            let thread = threads.position(id).map(|at| &threads.alive[at].awaited);
            matches!(thread, Some(Awaited::Time))
        })
    }

    /// Ends a light thread, which does not run. Returns false if it waits for requests, and is not ended.
    pub(crate) fn kill(&self, id: u32, machine: &Machine) -> bool {
        let killed = {
            let mut threads = self.threads.borrow_mut();
            let Some(threads) = &mut *threads else { return true };
            let Some(at) = threads.position(id) else { return true };
            if threads.has_requests(&threads.alive[at]) {
                return false;
            }
            threads.ready.retain(|ready| *ready != id);
            threads.exclusive.retain(|(waiting, _)| *waiting != id);
            (threads.waits.remove(id), threads.alive.remove(at).coroutine)
        };
        let (wait, coroutine) = killed;
        drop(wait);
        if let Some(coroutine) = coroutine {
            machine.finish(coroutine);
        }
        true
    }

    /// Takes the function that is called when the client leaves.
    pub(crate) fn set_on_abort(&self, callback: Spawned) {
        *self.on_abort.borrow_mut() = Some(callback);
    }

    /// Returns true if `ngx.on_abort` was called.
    pub(crate) fn knows_abort(&self) -> bool {
        self.has_aborted.get() || self.on_abort.borrow().is_some()
    }

    /// Ends everything that waits.
    pub(super) fn end(&self, machine: &Machine) {
        if let Some(coroutine) = self.alone.take() {
            machine.finish(coroutine);
        }
        let Some(threads) = self.threads.take() else { return };
        // What they wait for first: nothing of it may be told to a coroutine that is gone.
        threads.waits.clear();
        for coroutine in threads.alive.into_iter().filter_map(|thread| thread.coroutine) {
            machine.finish(coroutine);
        }
    }

    /// Ends all of a request that is over.
    pub(super) fn end_all(&self, machine: &Machine) {
        self.end(machine);
        if let Some(callback) = self.on_abort.take() {
            machine.finish(callback.coroutine);
        }
    }
}

impl Threads {
    fn new() -> Box<Threads> {
        let awaited = Awaited::Nothing;
        let entry = Thread { id: ENTRY, coroutine: None, given: 0, parent: None, awaited, is_ready: false };
        Box::new(Threads {
            alive: vec![entry],
            ready: VecDeque::new(),
            exclusive: VecDeque::new(),
            performing: None,
            running: ENTRY,
            last: ENTRY,
            waits: Rc::default(),
        })
    }

    /// They are in the order of their numbers.
    fn position(&self, id: u32) -> Option<usize> {
        self.alive.binary_search_by_key(&id, |thread| thread.id).ok()
    }

    fn unused_id(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    fn has_requests(&self, thread: &Thread) -> bool {
        matches!(thread.awaited, Awaited::Requests(_))
            || self.exclusive.iter().any(|(id, effect)| {
                *id == thread.id && matches!(effect, Effect::Subrequests(_) | Effect::Background(_))
            })
    }

    /// Takes in a new thread, which is to run at once. The one that runs is its parent.
    pub(super) fn add(&mut self, spawned: Spawned) -> Running {
        let Spawned { id, coroutine, given, parent } = spawned;
        // The function of ngx.on_abort gets its number now.
        let id = id.unwrap_or_else(|| self.unused_id());
        let parent = Some((parent, self.running));
        let awaited = Awaited::Nothing;
        self.alive.push(Thread { id, coroutine: None, given: 0, parent, awaited, is_ready: false });
        Running { id, coroutine, given, awaited: Awaited::Nothing }
    }

    /// Puts the thread that has run aside: with this it goes on.
    pub(super) fn park(&mut self, running: Running, awaited: Awaited) {
        let Some(at) = self.position(running.id) else { return };
        let thread = &mut self.alive[at];
        thread.coroutine = Some(running.coroutine);
        thread.given = 0;
        thread.awaited = awaited;
    }

    /// Lets a thread run when its turn comes.
    pub(super) fn wake(&mut self, id: u32) {
        if let Some(at) = self.position(id)
            && !std::mem::replace(&mut self.alive[at].is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Returns true if another one can run.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the next one that can run, with the coroutines whose frames its tracebacks show.
    pub(super) fn next(&mut self) -> Option<Running> {
        while let Some(id) = self.ready.pop_front() {
            let Some(at) = self.position(id) else { continue };
            let thread = &mut self.alive[at];
            thread.is_ready = false;
            let Some(coroutine) = thread.coroutine.take() else { continue };
            let awaited = std::mem::replace(&mut thread.awaited, Awaited::Nothing);
            return Some(Running { id, coroutine, given: std::mem::take(&mut thread.given), awaited });
        }
        None
    }

    /// Puts one that was to run back: it is the next to run.
    pub(super) fn put_back(&mut self, running: Running) {
        let Some(at) = self.position(running.id) else { return };
        let thread = &mut self.alive[at];
        (thread.given, thread.awaited, thread.is_ready) = (running.given, running.awaited, true);
        thread.coroutine = Some(running.coroutine);
        self.ready.push_front(running.id);
    }

    /// Returns the coroutines around the thread that runs, as many as a traceback shows.
    pub(super) fn around(&self) -> Around {
        let mut around = Around::default();
        let mut at = self.position(self.running);
        while let Some((parent, spawner)) = at.and_then(|at| self.alive[at].parent) {
            if around.coroutines.len() > MOST_COROUTINES {
                return around;
            }
            if Coroutine::has_frames(parent) {
                around.coroutines.push(parent);
            }
            at = self.position(spawner);
            let state = at.and_then(|at| self.alive[at].coroutine.as_ref()).map(|coroutine| coroutine.state);
            match state {
                Some(state) if state != parent => around.coroutines.push(state),
                Some(_) => {}
                None => break,
            }
        }
        around.entry = around.coroutines.last().copied();
        around
    }

    /// Forgets a thread that has ended.
    pub(super) fn remove(&mut self, id: u32) {
        if let Some(at) = self.position(id) {
            self.alive.remove(at);
        }
    }

    /// Returns true if none is left.
    pub(super) fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }

    /// Asks the server to perform this for a thread, when it is its turn.
    pub(super) fn perform(&mut self, id: u32, effect: Effect) {
        self.exclusive.push_back((id, effect));
    }

    /// Returns what the script waits for, now that none can run; `None` if none waits for anything.
    pub(super) fn awaited(&mut self) -> Option<Effect> {
        if let Some((id, effect)) = self.exclusive.pop_front() {
            self.performing = Some(id);
            return Some(match (effect, self.waits.first()) {
                (Effect::ReadBody, Some(waiting)) => Effect::ReadBodyOr(waiting),
                (effect, _) => effect,
            });
        }
        self.waits.first().map(Effect::Await)
    }

    /// Continues the reading of the body for a thread, when it is its turn: it was broken off for another thread.
    pub(super) fn read_on(&mut self, id: u32) {
        self.exclusive.push_front((id, Effect::ReadBody));
    }

    /// Takes the thread whose effect was performed.
    pub(super) fn take_performing(&mut self) -> Option<u32> {
        self.performing.take()
    }

    /// Lets those go on whose waits are over.
    pub(super) fn wake_those_done(&mut self) {
        for id in self.waits.take_done() {
            self.wake(id);
        }
    }
}
