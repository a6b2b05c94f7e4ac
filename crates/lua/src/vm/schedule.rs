//! Running the threads of a script: which one is resumed next, and what the script waits for when none can run.
//!
//! Light threads run as in ngx_lua (`ngx_http_lua_run_thread`): a new one at once, the one that has made it after those
//! that can run already. `ngx.exit` and its like by any of them end them all.

use std::cell::RefCell;
use std::rc::Rc;

use engine::exchange::{AbortNotice, Exchange};
use engine::host::Level;
use engine::phase::Wake;
use engine::subrequest::Variables;
use engine::{Effect, log_line};

use super::frame::{self, Frame, Want};
use super::state::RequestState;
use super::threads::waits::{Reply, for_requests};
use super::threads::{Awaited, ENTRY, Running};
use crate::machine::{Resumed, ScriptError};
use crate::phase::Phase;

/// After so many runs of threads without a wait, other requests run.
const TURNS: u32 = 1000;
const GONE: u16 = 499;

/// What a script has come to.
pub(super) enum Flow {
    /// It has ended.
    Done,
    /// It has failed; that is logged.
    Failed,
    /// `ngx.exit`
    Exit(i32),
    /// `ngx.exec`
    Exec { uri: Vec<u8>, args: Vec<u8> },
    /// `ngx.req.set_uri` with a jump.
    Jump,
    /// It waits for this.
    Wait(Effect),
}

/// Resumes a thread, and then those that can run, until the script ends or waits.
///
/// # Safety
/// `frame` must be the innermost frame.
pub(super) unsafe fn run(frame: *mut Frame, state: &Rc<RequestState>, phase: Phase, first: Running) -> Flow {
    let mut next = Some(first);
    for turn in 0.. {
        let running = match next.take().or_else(|| state.progress.with_threads(|threads| threads.next())) {
            Some(running) => running,
            None => return wait(state),
        };
        if turn == TURNS {
            // There are threads then, and this one is the next when the server comes back.
            state.progress.with_threads(|threads| threads.put_back(running));
            state.progress.slept.set(false);
            return Flow::Wait(Effect::Sleep(0));
        }
        // SAFETY: the caller vouches for the frame, here and below.
        match unsafe { turn_of(frame, state, phase, running) } {
            Turn::Ends(flow) => {
                state.progress.end(&state.scripts.machine);
                return flow;
            }
            Turn::Waits(effect) => return Flow::Wait(effect),
            Turn::Goes(running) => next = running,
        }
    }
    Flow::Failed
}

/// Goes on with a script whose wait is over.
///
/// # Errors
/// Fails with the status that ends the script: the wait has failed.
///
/// # Safety
/// As for [`run`].
pub(super) unsafe fn resume(
    frame: *mut Frame,
    state: &Rc<RequestState>,
    phase: Phase,
    wake: Option<Wake>,
) -> Result<Flow, Option<u16>> {
    let progress = &state.progress;
    let machine = &state.scripts.machine;
    if let Some(coroutine) = progress.alone.take() {
        if let Some(Wake::Failed(status)) = wake {
            machine.finish(coroutine);
            return Err(Some(status));
        }
        // SAFETY: the caller vouches for the frame.
        return Ok(unsafe { run(frame, state, phase, Running::entry(coroutine, 0)) });
    }
    if progress.threads.borrow().is_none() {
        return Err(None);
    }
    let performed = progress.with_threads(|threads| threads.take_performing());
    let mut first = None;
    match wake {
        Some(Wake::Failed(status)) => {
            let callback = if status == GONE { progress.on_abort.take() } else { None };
            let Some(callback) = callback else {
                progress.end(machine);
                return Err(Some(status));
            };
            progress.has_aborted.set(true);
            // SAFETY: as above; the parts are used up here.
            if let (Some(exchange), _) = unsafe { frame::world(frame) } {
                exchange.script.abort = AbortNotice::Given;
                if performed.is_some() {
                    exchange.output.break_off();
                }
            }
            first = Some(progress.with_threads(|threads| threads.add(callback)));
        }
        _ => progress.with_threads(|threads| threads.wake_those_done()),
    }
    // SAFETY: as above; the parts are used up here.
    let reads_on = match unsafe { frame::world(frame) } {
        (Some(exchange), _) => progress.is_reading.take() && !exchange.request.body_settled(),
        _ => false,
    };
    let first = progress.with_threads(|threads| {
        match performed {
            Some(id) if reads_on => threads.read_on(id),
            Some(id) => threads.wake(id),
            None => {}
        }
        first.or_else(|| threads.next())
    });
    match first {
        // SAFETY: as above.
        Some(first) => Ok(unsafe { run(frame, state, phase, first) }),
        None => Ok(wait(state)),
    }
}

/// What follows the run of one thread.
enum Turn {
    /// The script ends.
    Ends(Flow),
    /// It waits for this, and there is one coroutine alone.
    Waits(Effect),
    /// This thread is next, or one of those that can run.
    Goes(Option<Running>),
}

/// Runs a thread until it waits, ends or fails.
///
/// # Safety
/// As for [`run`].
unsafe fn turn_of(frame: *mut Frame, state: &Rc<RequestState>, phase: Phase, mut running: Running) -> Turn {
    let (machine, progress) = (&state.scripts.machine, &state.progress);
    progress.top.set(Some(running.coroutine.state));
    // SAFETY: the caller vouches for the frame; no script runs now.
    unsafe { settle(frame, state, std::mem::replace(&mut running.awaited, Awaited::Nothing)) };
    if let Some(threads) = &mut *progress.threads.borrow_mut() {
        threads.running = running.id;
    }
    let around = || progress.threads.borrow().as_ref().map(|threads| threads.around()).unwrap_or_default();
    let given = std::mem::take(&mut running.given);
    let step = machine.resume_with(&mut running.coroutine, phase, state.number, given, around);
    // SAFETY: as above.
    let want = unsafe { (*frame).want.take() };
    match (step, want) {
        (Resumed::Waiting, Some(Want::Effect(effect))) if progress.is_alone() => {
            progress.slept.set(matches!(effect, Effect::Sleep(_)));
            *progress.alone.borrow_mut() = Some(running.coroutine);
            Turn::Waits(effect)
        }
        // The script itself called coroutine.yield(): let others run.
        (Resumed::Waiting, None) if progress.is_alone() => {
            progress.slept.set(false);
            *progress.alone.borrow_mut() = Some(running.coroutine);
            Turn::Waits(Effect::Sleep(0))
        }
        // SAFETY: as above.
        (Resumed::Waiting, Some(Want::Effect(effect))) => unsafe { begin(frame, state, running, effect) },
        (Resumed::Waiting, None) => {
            let id = running.id;
            if progress.with_threads(|threads| threads.has_ready()) {
                progress.with_threads(|threads| {
                    threads.park(running, Awaited::Nothing);
                    threads.wake(id);
                });
                return Turn::Goes(None);
            }
            // SAFETY: as above.
            unsafe { begin(frame, state, running, Effect::Sleep(0)) }
        }
        (Resumed::Waiting, Some(Want::Spawn(spawned))) => {
            let id = running.id;
            let child = progress.with_threads(|threads| {
                let child = threads.add(spawned);
                threads.park(running, Awaited::Nothing);
                threads.wake(id);
                child
            });
            Turn::Goes(Some(child))
        }
        (Resumed::Waiting, Some(Want::Join)) => {
            progress.with_threads(|threads| threads.park(running, Awaited::Nothing));
            Turn::Goes(None)
        }
        (Resumed::Waiting, Some(want)) => {
            machine.finish(running.coroutine);
            Turn::Ends(match want {
                Want::Exit(code) => Flow::Exit(code),
                Want::Exec { uri, args } => Flow::Exec { uri, args },
                _ => Flow::Jump,
            })
        }
        (Resumed::Done, _) => ended(state, phase, running, true),
        (Resumed::Failed(ScriptError { text }), _) => {
            // SAFETY: as above.
            unsafe { frame::log(frame, &text) };
            ended(state, phase, running, false)
        }
    }
}

/// Ends a thread. The script goes on while others are there.
fn ended(state: &Rc<RequestState>, phase: Phase, mut running: Running, succeeded: bool) -> Turn {
    let (machine, progress) = (&state.scripts.machine, &state.progress);
    let is_entry = running.id == ENTRY;
    let has_threads = progress.threads.borrow().is_some();
    let waiting = if has_threads {
        running.coroutine.retire();
        machine.thread_ended(&running.coroutine, succeeded, phase, state.number)
    } else {
        None
    };
    machine.finish(running.coroutine);
    if is_entry && !succeeded {
        return Turn::Ends(Flow::Failed);
    }
    if !has_threads {
        return Turn::Ends(Flow::Done);
    }
    let is_last = progress.with_threads(|threads| {
        threads.remove(running.id);
        if let Some(parent) = waiting {
            threads.wake(parent);
        }
        threads.is_empty()
    });
    if is_last { Turn::Ends(Flow::Done) } else { Turn::Goes(None) }
}

/// Begins a wait of one of several threads.
///
/// # Safety
/// As for [`run`].
unsafe fn begin(frame: *mut Frame, state: &Rc<RequestState>, running: Running, effect: Effect) -> Turn {
    let progress = &state.progress;
    let id = running.id;
    // SAFETY: the caller vouches for the frame; what is begun here runs no Lua.
    let (exchange, env) = unsafe { frame::world(frame) };
    let begun = match (effect, exchange) {
        (Effect::Sleep(ms), _) => Ok((env.host.alarm(ms), Awaited::Time)),
        (Effect::Await(waiting), _) => Ok((waiting, Awaited::Nothing)),
        (Effect::Switch(order), _) => {
            let (reply, end) = Reply::new(order.switch);
            env.host.order(order, Box::new(move |outcome| end.give(outcome)));
            Ok((reply.wait(), Awaited::Order(reply)))
        }
        // Those that share variables have them for themselves.
        (Effect::Subrequests(wanted), Some(exchange))
            if wanted.iter().all(|wanted| wanted.variables != Variables::Shared) =>
        {
            match env.host.begin_subrequests(exchange, wanted) {
                Some(requests) => {
                    let requests = Rc::new(RefCell::new(Some(requests)));
                    Ok((for_requests(&requests), Awaited::Requests(requests)))
                }
                None => {
                    state.scripts.machine.finish(running.coroutine);
                    return Turn::Ends(Flow::Exit(500));
                }
            }
        }
        (effect, _) => Err(effect),
    };
    progress.with_threads(|threads| match begun {
        Ok((waiting, awaited)) => {
            threads.park(running, awaited);
            threads.waits.add(id, waiting);
        }
        Err(effect) => {
            threads.park(running, Awaited::Nothing);
            threads.perform(id, effect);
        }
    });
    Turn::Goes(None)
}

/// Gives a thread what it has waited for.
///
/// # Safety
/// As for [`run`].
unsafe fn settle(frame: *mut Frame, state: &RequestState, awaited: Awaited) {
    // SAFETY: the caller vouches for the frame; the parts are used up here.
    let (exchange, mut env) = unsafe { frame::world(frame) };
    match (awaited, exchange) {
        (Awaited::Time, Some(exchange)) if log_line::enabled(exchange, env.config, Level::Debug) => {
            let line = slept_line(exchange);
            log_line::error(exchange, &mut env, Level::Debug, line.as_bytes());
        }
        (Awaited::Requests(requests), Some(exchange)) => {
            if let Some(requests) = requests.take() {
                requests.finish(exchange);
            }
        }
        (Awaited::Order(reply), Some(exchange)) => {
            exchange.script.switched = reply.outcome.take();
            exchange.switches.read_anew(reply.switch);
        }
        (Awaited::Order(reply), None) => state.switched.set(reply.outcome.take()),
        _ => {}
    }
}

/// Returns ngx_lua's line about a sleep that is over.
pub(super) fn slept_line(exchange: &Exchange) -> String {
    let uri = String::from_utf8_lossy(&exchange.request.uri);
    format!("lua sleep timer expired: \"{uri}?{}\"", String::from_utf8_lossy(&exchange.request.args))
}

/// Returns what a script waits for of which no thread can run.
fn wait(state: &Rc<RequestState>) -> Flow {
    match state.progress.with_threads(|threads| threads.awaited()) {
        Some(effect) => {
            state.progress.slept.set(false);
            state.progress.is_reading.set(matches!(effect, Effect::ReadBodyOr(_)));
            Flow::Wait(effect)
        }
        // Each waits for another one.
        None => {
            state.progress.end(&state.scripts.machine);
            Flow::Failed
        }
    }
}
