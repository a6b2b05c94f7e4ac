//! Which requests a hold makes wait, and when in their walk.
//!
//! A request waits where it is about to go to an upstream, never elsewhere: a location that serves the control API or a
//! page must answer while its host is held, or no request could release it. It waits before the location's rewrites, so
//! that no `if` or script reads a table that the switch under way is about to replace; where the key is not known by then,
//! after them. What has waited for something else since (its body, a script's sleep) is looked at again right before it
//! goes to its upstream. What waiting is, and for how long, is the server's.

use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::{Effect, Verdict, Wake};
use switch::Tables;

/// The value of `Retry-After`, in seconds.
const RETRY_AFTER_S: &[u8] = b"1";

pub(super) fn before_rewrite(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    wait(exchange, env, true)
}

pub(super) fn before_access(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    wait(exchange, env, false)
}

/// Returns the last look, when nothing is left to wait for.
pub(crate) fn before_proxy(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    wait(exchange, env, false)
}

fn wait(exchange: &mut Exchange, env: &mut Env<'_>, early: bool) -> Verdict {
    if exchange.switches.woken()
        && let Some(Wake::Failed(status)) = exchange.route.wake.take()
    {
        if status == 503 {
            exchange.response.headers.push(b"Retry-After", RETRY_AFTER_S);
        }
        return Verdict::Refuse(status);
    }
    if env.config.switches.is_empty() || !env.host.has_holds() {
        return Verdict::Next;
    }
    match env.host.routing() {
        Some(routing) => held(exchange, env, early, &routing.tables),
        None => Verdict::Next,
    }
}

#[cold]
fn held(exchange: &mut Exchange, env: &mut Env<'_>, early: bool, tables: &Tables) -> Verdict {
    let config = env.config;
    if exchange.settings(config).proxy.pass.is_none() {
        return Verdict::Next;
    }
    let before = exchange.switches.progress();
    let made = exchange.switches.choices().len();
    let mut text = Vec::new();
    let mut found = None;
    for (number, spec) in config.switches.iter().enumerate() {
        let switches = &exchange.switches;
        let is_settled = switches.choices()[..made].iter().any(|choice| usize::from(choice.switch) == number);
        if is_settled
            || switches.has_passed(number)
            || (early && !spec.key_is_early)
            || tables.holds.iter().all(|hold| hold.switch() != number)
        {
            continue;
        }
        text.clear();
        spec.key.append(exchange, env, &mut text);
        let mut room = Vec::new();
        let key = switch::normalise(spec.rules.kind, &text, &mut room);
        if let Some(hold) = tables.held(number, key) {
            found = tables.holds.get(hold).map(|hold| (number, hold));
            break;
        }
    }
    let Some((number, hold)) = found else { return Verdict::Next };
    // A key that is made of another switch's value: that is asked again after the wait.
    let Exchange { switches, slots, .. } = exchange;
    for forgotten in switches.forget_since(before) {
        slots.forget(config.switches[forgotten].slot);
    }
    switches.wait_for(number, hold.clone());
    Verdict::Wait(Effect::AwaitRelease)
}
