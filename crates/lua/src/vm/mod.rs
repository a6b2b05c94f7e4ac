//! Lua for requests: the part of this crate that the server holds.
//!
//! A [`Vm`] belongs to one thread and one configuration. [`Vm::run`] runs a script for a request and returns its
//! outcome; the server carries out what the script waits for, and the next call continues the script. Scripts of one
//! request share [`state::RequestState`]; nothing else outlives a call.

pub(crate) mod charge;
mod dicts;
mod engine_call;
pub(crate) mod frame;
pub(crate) mod output;
mod run;
mod schedule;
pub(crate) mod scripts;
pub(crate) mod state;
pub(crate) mod threads;
pub(crate) mod timers;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use engine::exchange::Exchange;
use engine::host::{Host, Level, ScriptCall, ScriptOutcome};
use engine::modules::lua::{ScriptId, ScriptSource};
use engine::network::Waiting;
use engine::phase::SwitchOrder;
use engine::{Config, Effect, Env, log_line};

use mlua_sys as ffi;

pub use dicts::Dicts;
use engine_call::EngineCall;
use frame::Frame;
use run::{RunSettings, log_handler, note_touched, phase_of, run_in};
use schedule::Flow;
use scripts::Scripts;
use state::RequestState;
use threads::Running;
use timers::{Due, ParkedFunction, Waited};

use crate::machine::{Area, MachineOptions, Watchdog, Watched, WorkerIdentity};
use crate::phase::Phase;

/// For how long timers run at a time, in milliseconds.
const TIMERS_AT_ONCE_MS: u64 = 10;

/// Where a VM runs.
#[derive(Clone, Copy, Debug)]
pub struct VmOptions {
    /// The number of the thread, from 0: what scripts see as `ngx.worker.id`.
    pub worker: usize,
    /// The number of threads.
    pub workers: usize,
}

/// The Lua of one configuration on one thread.
pub struct Vm {
    config: Arc<Config>,
    dicts: Dicts,
    worker: WorkerIdentity,
    scripts: Rc<Scripts>,
    last_request: Cell<u32>,
    /// Timer functions that have begun and wait, by the number of their run.
    waiting: RefCell<HashMap<u32, WaitingFunction>>,
    areas: &'static [&'static Area],
    /// Its machines, for the watchdog: with `lua_code_cache off` each request has one.
    watched: Watched,
}

impl Vm {
    /// Opens a machine and loads all inline scripts; runs nothing. Scripts that do not compile answer 500 when a
    /// request needs them, as in ngx_lua; [`Vm::faults`] names them at once.
    ///
    /// # Errors
    /// Fails if no machine can be had; the text is for the log.
    pub(crate) fn new(
        config: &Arc<Config>,
        dicts: &Dicts,
        areas: &'static [&'static Area],
        options: VmOptions,
        host: &mut dyn Host,
    ) -> Result<Vm, String> {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let worker =
            WorkerIdentity { id: number(options.worker), count: number(options.workers), pid: host.pid() };
        let scripts = open(config, dicts, areas, worker)?;
        let watched = Watched::default();
        watched.add(&scripts.machine.interrupter());
        Ok(Vm {
            config: config.clone(),
            dicts: dicts.clone(),
            worker,
            scripts: Rc::new(scripts),
            last_request: Cell::new(0),
            waiting: RefCell::default(),
            areas,
            watched,
        })
    }

    /// Returns the inline scripts that do not compile, as the error log will name them when a request needs them.
    pub fn faults(&self) -> Vec<String> {
        let shown = |fault: scripts::NotLoaded| String::from_utf8_lossy(&fault.line).into_owned();
        self.scripts.faults().into_iter().map(shown).collect()
    }

    /// Returns what stops scripts that run for longer than `lua_run_limit`. Another thread is to ask it about once a
    /// second; it may outlive the VM.
    pub fn watchdog(&self) -> Watchdog {
        Watchdog::new(self.watched.clone(), *self.config.lua.run_limit_ms)
    }

    /// Returns the number of bytes that scripts hold.
    pub fn used_bytes(&self) -> usize {
        self.scripts.machine.used_bytes()
    }

    /// Runs `init_by_lua*`, if there is one.
    ///
    /// # Errors
    /// Fails if the script does: the configuration must not be used. The text is nginx's.
    pub fn init(&self, config: &Config, host: &mut dyn Host) -> Result<(), String> {
        self.run_without_request(&self.scripts, config, host, *config.lua.init, Phase::Init)
            .map_err(|line| String::from_utf8_lossy(&line).into_owned())
    }

    /// Runs `init_worker_by_lua*`, if there is one. A failure is logged, and the thread serves all the same.
    pub fn init_worker(&self, config: &Config, host: &mut dyn Host) {
        let script = *config.lua.init_worker;
        if let Err(line) = self.run_without_request(&self.scripts, config, host, script, Phase::InitWorker) {
            log_line::worker_error(&mut Env { config, host }, Level::Error, &line);
        }
    }

    /// Runs `exit_worker_by_lua*`, if there is one: the last that runs. A failure is logged.
    pub fn exit_worker(&self, config: &Config, host: &mut dyn Host) {
        let script = *config.lua.exit_worker;
        if let Err(line) = self.run_without_request(&self.scripts, config, host, script, Phase::ExitWorker) {
            log_line::worker_error(&mut Env { config, host }, Level::Error, &line);
        }
    }

    /// Runs a script for a request, or continues the one that waits ([`Host::script`]).
    pub fn run(
        &self,
        host: &mut dyn Host,
        config: &Config,
        exchange: &mut Exchange,
        call: ScriptCall,
    ) -> ScriptOutcome {
        let state = match RequestState::of(exchange) {
            Some(state) => state,
            None => match self.scripts_for(host, config, exchange) {
                Ok(scripts) => {
                    let state = RequestState::new(scripts, self.next_number());
                    state.keep_in(exchange);
                    state
                }
                Err(text) => {
                    log_line::script_error(
                        exchange,
                        &mut Env { config, host },
                        Level::Error,
                        text.as_bytes(),
                    );
                    return ScriptOutcome::Failed;
                }
            },
        };
        log_handler(host, config, exchange, &state, call);
        let place = RunSettings {
            phase: phase_of(exchange.script.phase),
            keep: *exchange.settings(config).lua.code_cache,
        };
        let wake = exchange.route.wake.take();
        state.scripts.timers.tick(host.now().monotonic_ms());
        charge::measure(exchange, &state);
        let lent = EngineCall::new(host, config, Some(exchange), None);
        let mut frame = Frame::new(lent, Some(state.clone()), &state.scripts.timers);
        let scripts = state.scripts.clone();
        frame.within(&scripts, |frame| {
            // SAFETY: `frame` is the innermost frame, and what it was lent is not used otherwise meanwhile.
            let outcome = unsafe { run_in(frame, &state, place, call, wake) };
            note_touched(&state);
            // SAFETY: as above; no script runs now.
            if let (Some(exchange), _) = unsafe { frame::world(frame) } {
                charge::measure(exchange, &state);
            }
            outcome
        })
    }

    /// Runs timers that are due, at least one and then for as long as one turn lasts. Returns in how many milliseconds the next
    /// one is, 0 if some are left. To be called then, and whenever the alarm rings.
    pub fn poll_timers(&self, host: &mut dyn Host, config: &Config) -> Option<u64> {
        let timers = &self.scripts.timers;
        timers.tick(host.now().monotonic_ms());
        let began_ms = host.now().monotonic_ms();
        while let Some(due) = timers.take_due() {
            match due {
                Due::Timer(pending, again) => self.run_timer(host, config, &pending, again),
                Due::Answered(function, outcome) => {
                    let Some(waiting) = self.take_waiting(function) else { continue };
                    waiting.state.switched.set(Some(outcome));
                    self.go_on(host, config, waiting);
                }
                Due::Goes(function) => {
                    let Some(waiting) = self.take_waiting(function) else { continue };
                    self.go_on(host, config, waiting);
                }
            }
            host.refresh_time();
            if host.now().monotonic_ms() - began_ms > TIMERS_AT_ONCE_MS {
                return Some(0);
            }
        }
        // One that is due within this millisecond was set after this turn began.
        timers.next_ms().map(|ms| ms.max(1))
    }

    /// Sets the alarm: it is called when [`Vm::poll_timers`] should be called sooner than it said.
    pub fn on_timer(&self, alarm: Box<dyn Fn()>) {
        self.scripts.timers.set_alarm(alarm);
    }

    /// Runs every timer that waits, with `premature` set: the thread, or this configuration on it, is about to end. New
    /// timers are refused, but those without a delay.
    pub fn exit(&self, host: &mut dyn Host, config: &Config) {
        self.scripts.timers.exit();
        self.scripts.pools.close();
        self.poll_timers(host, config);
        self.scripts.timers.ring();
    }

    /// Returns whether [`Vm::exit`] was called and functions of timers are still to run: the VM must be kept for them.
    pub fn has_work_after_exit(&self) -> bool {
        self.scripts.timers.is_exiting() && self.scripts.timers.has_work()
    }

    fn take_waiting(&self, function: u32) -> Option<WaitingFunction> {
        self.waiting.borrow_mut().remove(&function)
    }

    /// Continues a function that waited.
    fn go_on(&self, host: &mut dyn Host, config: &Config, waiting: WaitingFunction) {
        self.run_function(host, config, waiting, None);
    }

    fn run_timer(&self, host: &mut dyn Host, config: &Config, pending: &timers::PendingTimer, again: bool) {
        let (timers, machine) = (&self.scripts.timers, &self.scripts.machine);
        log_line::worker_error(&mut Env { config, host }, Level::Debug, b"lua ngx.timer expired");
        let (timer, premature) = (pending.timer, timers.is_premature(pending));
        if let Err(limit) = timers.begin() {
            let push = |state| {
                // SAFETY: `call_with` leaves room for arguments.
                unsafe {
                    ffi::lua_pushinteger(state, ffi::lua_Integer::from(timer));
                    ffi::lua_pushboolean(state, i32::from(again));
                }
                2
            };
            let line = machine.call_with(machine.anchors().drop_timer, Phase::Timer, 0, push, |place| {
                let place = String::from_utf8_lossy(place.text().unwrap_or(b"(unknown)")).into_owned();
                format!(
                    "lua failed to run timer with function defined at {place}: {limit} lua_max_running_timers are not \
                     enough"
                )
            });
            if let Ok(line) = line {
                log_line::worker_error(&mut Env { config, host }, Level::Alert, line.as_bytes());
            }
            return;
        }
        let state = RequestState::new(self.scripts.clone(), self.next_number());
        let coroutine = machine.start(machine.anchors().run_timer);
        // SAFETY: a coroutine that has not run has room for arguments.
        unsafe {
            ffi::lua_pushinteger(coroutine.state, ffi::lua_Integer::from(timer));
            ffi::lua_pushboolean(coroutine.state, i32::from(premature));
            ffi::lua_pushboolean(coroutine.state, i32::from(again));
        }
        let waiting = WaitingFunction { state, origin: pending.origin.clone() };
        self.run_function(host, config, waiting, Some(Running::entry(coroutine, 3)));
    }

    /// Runs a timer's function, from its beginning or from where it waits.
    fn run_function(
        &self,
        host: &mut dyn Host,
        config: &Config,
        function: WaitingFunction,
        begins: Option<Running>,
    ) {
        let timers = &self.scripts.timers;
        let WaitingFunction { state, origin } = &function;
        let call = EngineCall::new(host, config, None, Some(origin.clone()));
        let mut frame = Frame::new(call, Some(state.clone()), timers);
        let awaited = frame.within(&self.scripts, |frame| {
            // SAFETY: `frame` is the innermost frame.
            let flow = unsafe {
                match begins {
                    Some(entry) => Ok(schedule::run(frame, state, Phase::Timer, entry)),
                    None => schedule::resume(frame, state, Phase::Timer, None),
                }
            };
            note_touched(state);
            match flow {
                Ok(Flow::Wait(Effect::Sleep(ms))) => Some(Awaited::Time(ms)),
                Ok(Flow::Wait(Effect::Switch(order))) => Some(Awaited::Switch(order)),
                Ok(Flow::Wait(Effect::Await(waiting))) => Some(Awaited::Event(waiting)),
                _ => None,
            }
        });
        if let Some(awaited) = awaited {
            let number = state.number;
            self.waiting.borrow_mut().insert(number, function);
            match awaited {
                Awaited::Time(ms) => timers.sleep(ms, number),
                Awaited::Switch(order) => {
                    let answer = OrderReply::new(timers.park(number), &self.scripts);
                    host.order(order, Box::new(|outcome| answer.give(outcome)));
                }
                Awaited::Event(waiting) => {
                    let reply =
                        EventReply { parked: timers.park(number), scripts: Rc::downgrade(&self.scripts) };
                    host.spawn(Waiting::new(async move {
                        waiting.await;
                        drop(reply);
                    }));
                }
            }
            return;
        }
        state.progress.end(&self.scripts.machine);
        timers.end();
        log_line::worker_error(
            &mut Env { config, host },
            Level::Debug,
            b"http lua close fake http connection",
        );
    }

    /// Returns the machine for a request: the shared one, or with `lua_code_cache off` a new one of its own.
    fn scripts_for(
        &self,
        host: &mut dyn Host,
        config: &Config,
        exchange: &Exchange,
    ) -> Result<Rc<Scripts>, String> {
        if *exchange.settings(config).lua.code_cache {
            return Ok(self.scripts.clone());
        }
        let scripts = open(&self.config, &self.dicts, self.areas, self.worker)?;
        self.watched.add(&scripts.machine.interrupter());
        self.run_without_request(&scripts, config, host, *config.lua.init, Phase::Init)
            .map_err(|line| String::from_utf8_lossy(&line).into_owned())?;
        Ok(Rc::new(scripts))
    }

    /// Runs a script of the worker's.
    ///
    /// # Errors
    /// Returns nginx's line for the log.
    fn run_without_request(
        &self,
        scripts: &Scripts,
        config: &Config,
        host: &mut dyn Host,
        script: Option<ScriptId>,
        phase: Phase,
    ) -> Result<(), Vec<u8>> {
        let Some(script) = script else { return Ok(()) };
        scripts.timers.tick(host.now().monotonic_ms());
        let call = EngineCall::new(host, config, None, None);
        let mut frame = Frame::new(call, None, &scripts.timers);
        let result: Result<(), Vec<u8>> = frame.within(scripts, |frame| {
            // SAFETY: `frame` is the innermost frame.
            let chunk = unsafe { scripts.chunk(frame::engine_call(frame), script, true) }
                .map_err(|fault| fault.text)?;
            scripts.machine.call(chunk, phase, 0, |_| ()).map_err(|error| error.text)
        });
        result.map_err(|text| {
            let is_file = matches!(
                config.lua.scripts.get(script.0 as usize).map(|script| &script.source),
                Some(ScriptSource::File(_))
            );
            let kind = if is_file { "_file error: " } else { " error: " };
            [phase.directive().trim_end_matches('*').as_bytes(), kind.as_bytes(), &text].concat()
        })
    }

    /// Returns the next request's number; 0 stays for what belongs to no request.
    fn next_number(&self) -> u32 {
        let next = self.last_request.get().wrapping_add(1).max(1);
        self.last_request.set(next);
        next
    }
}

/// A timer's function that has begun and waits.
struct WaitingFunction {
    state: Rc<RequestState>,
    /// The origin of its timer.
    origin: Rc<timers::TimerOrigin>,
}

/// The wait of a timer's function.
enum Awaited {
    /// This many milliseconds.
    Time(u64),
    /// The outcome of an order to a switch.
    Switch(SwitchOrder),
    /// An event, as of a socket.
    Event(Waiting),
}

/// Lets a parked function go on when it is dropped.
struct EventReply {
    parked: Rc<ParkedFunction>,
    scripts: Weak<Scripts>,
}

impl Drop for EventReply {
    fn drop(&mut self) {
        self.parked.outcome.set(Some(Waited::Event));
        if let Some(scripts) = self.scripts.upgrade() {
            scripts.timers.ring();
        }
    }
}

/// Gives a parked function the outcome of its order: when dropped without one, that the order was not carried out.
struct OrderReply {
    parked: Rc<ParkedFunction>,
    scripts: Weak<Scripts>,
}

impl OrderReply {
    fn new(parked: Rc<ParkedFunction>, scripts: &Rc<Scripts>) -> OrderReply {
        OrderReply { parked, scripts: Rc::downgrade(scripts) }
    }

    fn give(self, outcome: Result<u64, String>) {
        self.parked.outcome.set(Some(Waited::Order(outcome)));
    }
}

impl Drop for OrderReply {
    fn drop(&mut self) {
        let outcome = self.parked.outcome.take();
        let lost = || Waited::Order(Err("the control plane did not answer".to_owned()));
        self.parked.outcome.set(Some(outcome.unwrap_or_else(lost)));
        if let Some(scripts) = self.scripts.upgrade() {
            scripts.timers.ring();
        }
    }
}

fn open(
    config: &Config,
    dicts: &Dicts,
    areas: &'static [&'static Area],
    worker: WorkerIdentity,
) -> Result<Scripts, String> {
    let program = &config.lua;
    let given = |path: &str| (!path.is_empty()).then(|| path.as_bytes().to_vec());
    let mut prefix = config.prefix.as_os_str().as_encoded_bytes().to_vec();
    if !prefix.ends_with(b"/") {
        prefix.push(b'/');
    }
    let zones = dicts.zones_of(&program.dicts);
    let limit = *program.memory_limit;
    Scripts::open(program, |world| MachineOptions {
        package_path: given(&program.package_path),
        package_cpath: given(&program.package_cpath),
        prefix,
        memory_limit_bytes: (limit > 0).then(|| usize::try_from(limit).unwrap_or(usize::MAX)),
        zones,
        faces: dicts::faces(config),
        regex_cache_entries: u32::try_from(*program.regex_cache_max_entries).unwrap_or(u32::MAX),
        regex_match_limit: u32::try_from(*program.regex_match_limit).unwrap_or(u32::MAX),
        private_globals: *program.isolate_globals,
        worker,
        areas,
        world,
    })
    .map_err(|text| String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests;
